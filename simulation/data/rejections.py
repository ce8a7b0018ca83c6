"""Rejected rows: where they stand and why, never what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from simulation.data.errors import UnwritableFile

SCHEMA: dict[str, type[pl.DataType]] = {
    "file": pl.String,
    "line": pl.Int64,
    "column": pl.String,
    "reason": pl.String,
}


def rejections(file: str, rows: Iterable[tuple[int, str, str]] = ()) -> pl.DataFrame:
    """Return a frame of `SCHEMA` from (line, column, reason) of one file."""
    return pl.DataFrame([(file, *row) for row in rows], schema=SCHEMA, orient="row")


def merge(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return all rejections once, in the order of file, line, column and reason."""
    return pl.concat([pl.DataFrame(schema=SCHEMA), *parts]).unique().sort(*SCHEMA)


def rejected_rows(frame: pl.DataFrame) -> int:
    """Return how many rows are rejected; one row may be named for several reasons."""
    return frame.select("file", "line").n_unique() if frame.height else 0


def write_rejections(frame: pl.DataFrame, path: Path) -> None:
    """Write the rejections as CSV: `file,line,column,reason`, one line per reason.

    Raises:
        UnwritableFile: the file cannot be written.
    """
    try:
        frame.write_csv(path)
    except OSError as error:
        raise UnwritableFile(
            f"rejected rows cannot be written to '{path}': {error.strerror}; name another file with --rejected"
        ) from error
