"""Records of a file in any of the layouts that datasets come in: JSON, JSON Lines, parquet, CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from harness.data.files import is_parquet
from harness.data.json_values import Located, read_values
from harness.data.text import read_lines
from harness.errors import UserError


def read_records(path: Path) -> Iterator[Located]:
    """The records of `path`: rows of parquet, else JSON values (`read_values`).

    Raises UserError naming the place of what cannot be read.
    """
    return _read_parquet(path) if is_parquet(path) else read_values(path)


def read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[Located]:
    """The rows of a CSV file with a header, as dicts; quoted cells may hold line breaks.

    Raises UserError where one of `columns` is missing or twice, or a row has too many or too few
    cells.
    """
    csv.field_size_limit(1 << 30)
    rows = csv.reader((f"{line}\n" for _, line in read_lines(path)), strict=True)
    try:
        header = next(rows, [])
        if len(set(header)) < len(header):
            doubled = next(c for c in header if header.count(c) > 1)
            raise UserError(f"{path}:1", f"has column {doubled!r} twice; keep one")
        missing = [c for c in columns if c not in header]
        if missing:
            raise UserError(
                f"{path}:1", f"has no column {missing[0]!r}; its columns: {', '.join(header)}"
            )
        line = rows.line_num + 1
        for row in rows:
            if row:
                if len(row) != len(header):
                    raise UserError(
                        f"{path}:{line}", f"has {len(row)} cells for {len(header)} columns"
                    )
                yield Located(path, line, dict(zip(header, row, strict=True)))
            line = rows.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{rows.line_num}", f"not valid CSV: {error}") from None


def _read_parquet(path: Path) -> Iterator[Located]:
    """Rows as dicts; the "line" of a row is its number from 1."""
    import pyarrow.lib
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield Located(path, number, row)
    except FileNotFoundError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(path, f"holds text that is not UTF-8 behind row {number}") from None
    except (pyarrow.lib.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(path, f"is a damaged parquet file: {reason}") from None
