"""The slow, forgiving reader for delimited files with misshapen rows: it can name the line of each.

Polars reads well-formed files; it stops at the first row that is longer than the header and does not say
where.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from simulation.data.errors import UnreadableFile
from simulation.data.opening import open_text

if TYPE_CHECKING:
    from _csv import Reader

Row = tuple[int, list[str | None]]
Reject = tuple[int, str, str]


def read_ragged(path: Path, *, width: int, separator: str, quoted: bool) -> tuple[list[Row], list[Reject]]:
    """Return rows (first line, `width` cells) and rejects (line, column, reason) of a file with a header.

    A short row is filled with missing values, which validation judges; a long row is rejected here.
    """
    rows: list[Row] = []
    rejects: list[Reject] = []
    for line, cells in _records(path, separator=separator, quoted=quoted):
        if len(cells) > width:
            rejects.append((line, "", f"has {len(cells)} fields where the header has {width}"))
        else:
            rows.append((line, [cell or None for cell in cells] + [None] * (width - len(cells))))
    return rows, rejects


def csv_reader(lines: Iterable[str], *, separator: str, quoted: bool) -> Reader:
    """Return a strict csv reader; `quoted` says whether quotes mean anything."""
    if quoted:
        return csv.reader(lines, delimiter=separator, strict=True)
    return csv.reader(lines, delimiter=separator, strict=True, quoting=csv.QUOTE_NONE)


def _records(path: Path, *, separator: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Records after the header, each with the line where it starts."""
    with open_text(path) as lines:
        reader = csv_reader(lines, separator=separator, quoted=quoted)
        next(reader)
        start = reader.line_num + 1
        try:
            for cells in reader:
                yield start, cells
                start = reader.line_num + 1
        except csv.Error as error:
            raise UnreadableFile(
                f"{path.name}, the record that starts at line {start}, is not CSV (is a quote left open?)"
            ) from error
