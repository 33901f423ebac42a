"""Records with their places: JSON, parquet, CSV."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.records import read_csv, read_records
from harness.errors import UserError


def csv(folder: Path, text: str) -> Path:
    path = folder / "f.csv"
    path.write_bytes(text.encode())
    return path


def test_parquet_rows_are_numbered_and_of_plain_types(tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "said": [{"who": "a", "text": "é"}], "n": None} for n in range(600)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f", row_group_size=100)
    found = list(read_records(tmp_path / "f"))
    assert [record.value for record in found] == rows
    assert [record.line for record in found] == list(range(1, 601))
    assert found[6].place == f"{tmp_path / 'f'}:7"


def test_json_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(gzip.compress(b'[\n{"a": 1},\n{"a": 2}]'))
    found = list(read_records(tmp_path / "f.parquet"))
    assert [(r.line, r.value) for r in found] == [(2, {"a": 1}), (3, {"a": 2})]


def test_parquet_with_text_that_is_not_utf8(tmp_path: Path) -> None:
    good, bad = pa.array(["x"] * 2), pa.array([b"x", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"good": good, "bad": bad}), tmp_path / "f")
    with pytest.raises(UserError, match="f: holds text that is not UTF-8"):
        list(read_records(tmp_path / "f"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data[: len(data) // 2],
        lambda data: data[:8] + b"\xff" * 30 + data[38:],
        lambda data: b"PAR1",
    ],
)
def test_a_damaged_parquet_file(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "f"
    pq.write_table(pa.table({"a": [f"text {n}" for n in range(99)]}), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="f: is a damaged parquet file: ") as caught:
        list(read_records(path))
    assert "\n" not in str(caught.value)


def test_csv_cells_with_breaks_keep_the_line_of_their_row(tmp_path: Path) -> None:
    path = csv(tmp_path, 'id,text\r\n1,"a\r\nb, ""c"""\r\n\r\n2,é\r\n')
    found = [(row.line, row.value) for row in read_csv(path, ("text",))]
    assert found == [(2, {"id": "1", "text": 'a\nb, "c"'}), (5, {"id": "2", "text": "é"})]


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("id,txt\n1,a\n", ":1", "has no column 'text'; its columns: id, txt"),
        ("text,text\na,b\n", ":1", "has column 'text' twice"),
        ("id,text\n1,a\n2\n", ":3", "has 1 cells for 2 columns"),
        ("id,text\n1,a,b\n", ":2", "has 3 cells for 2 columns"),
        ('id,text\n1,"a\n2,b\n', ":3", "not valid CSV"),
        ('id,text\n1,"a"b\n', ":2", "not valid CSV"),
        ("", "", "the file is empty"),
    ],
)
def test_malformed_csv(tmp_path: Path, text: str, place: str, says: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(UserError) as caught:
        list(read_csv(path, ("text",)))
    assert caught.value.place == f"{path}{place}" and says in caught.value.problem
