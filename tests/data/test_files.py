"""Opening data files whatever wraps them, and finding them in a folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from harness.data.files import (
    find_files,
    first_bytes,
    hashes_of,
    is_parquet,
    open_bytes,
    sha256_of,
)
from harness.errors import UserError

TEXT = b"one line\nand another\n"


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def content(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read()


def write(folder: Path, data: bytes, name: str = "f") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize(
    "data",
    [TEXT, gzip.compress(TEXT), *(zipped(("x", TEXT), method=method) for method in METHODS)],
    ids=["plain", "gzip", "stored", "deflated", "bzip2", "lzma"],
)
@pytest.mark.parametrize("name", ["f", "f.gz", "f.zip", "f.json"])
def test_the_first_bytes_say_what_a_file_is(tmp_path: Path, data: bytes, name: str) -> None:
    assert content(write(tmp_path, data, name)) == TEXT


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_member_is_one_error(tmp_path: Path, method: int) -> None:
    data = bytearray(zipped(("member", TEXT * 99), method=method))
    data[48:56] = b"\xff" * 8
    with pytest.raises(UserError) as caught:
        content(write(tmp_path, bytes(data)))
    assert caught.value.place == str(tmp_path / "f")


ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("header", "offset", "byte", "says"),
    [
        (ENTRY, 10, 99, "is an archive of an unknown kind: That compression method"),
        (ENTRY, 6, 99, "is an archive of an unknown kind: zip file version 9.9"),
        (ENTRY, 8, 1, "is an encrypted archive; unpack it first"),
        (ENTRY, 8, 64, "is an archive of an unknown kind: strong encryption"),
        (ENTRY, 28, 0, "is a damaged archive"),
        (END, 16, 250, "is a damaged archive"),
        (END, 12, 250, "is a damaged archive"),
    ],
)
def test_a_damaged_directory_is_one_error(
    tmp_path: Path, header: bytes, offset: int, byte: int, says: str
) -> None:
    data = bytearray(zipped(("member", TEXT)))
    data[data.index(header) + offset] = byte
    with pytest.raises(UserError, match=f"f: {says}"):
        content(write(tmp_path, bytes(data)))


def test_several_members_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, zipped(*((f"m{n}\n", TEXT) for n in range(7))))
    with pytest.raises(UserError, match=r"holds 7 files \('m0\\n', .*'m4\\n'\); give an archive"):
        content(path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        for read in (first_bytes, content, sha256_of):
            with pytest.raises(UserError, match="cannot be read") as caught:
                read(path)
            assert caught.value.place == str(path)


def test_an_error_of_the_reader_itself_goes_through(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_bytes(write(tmp_path, gzip.compress(TEXT))):
        raise KeyError


def test_hash_and_kind_are_those_of_the_file_as_it_lies_there(tmp_path: Path) -> None:
    data = gzip.compress(TEXT)
    assert sha256_of(write(tmp_path, data)) == hashlib.sha256(data).hexdigest()
    assert not is_parquet(tmp_path / "f")
    assert is_parquet(write(tmp_path, b"PAR1..."))


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.json", "a.json.gz", "c.json.zip", "d.txt", "e.jsonl"):
        write(tmp_path, TEXT, name)
    (tmp_path / "f.json").mkdir()
    names = [path.name for path in find_files(tmp_path, ("*.json", "b.*"))]
    assert names == ["a.json.gz", "b.json", "c.json.zip"]
    assert find_files(tmp_path / "d.txt", ("*.json",)) == [tmp_path / "d.txt"]
    with pytest.raises(UserError, match=r"holds no \*\.csv or \*\.tsv; name the file"):
        find_files(tmp_path, ("*.csv", "*.tsv"))
    with pytest.raises(UserError, match="no such file or folder"):
        find_files(tmp_path / "none", ("*.json",))


def test_two_files_of_one_name_have_two_hashes(tmp_path: Path) -> None:
    """As in the published folders of one file per problem."""
    paths = [tmp_path / "a" / "1.json", tmp_path / "b" / "1.json"]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)
    assert hashes_of(paths) == {f"{p.parent.name}/1.json": sha256_of(p) for p in paths}
    assert hashes_of(paths[:1]) == {"1.json": sha256_of(paths[0])}
    assert hashes_of([]) == {}
