"""Read a file as text columns with line numbers, so that every later complaint can name its line.

CSV and TSV (plain or gzip), RecBole (tab-separated, typed header), Parquet and `user item item ...` lines.
All columns are strings here; what they mean is decided in `simulation.data.events` and
`simulation.data.items`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from simulation.data.errors import UnreadableFile
from simulation.data.files import RECBOLE_SUFFIXES, suffix_of
from simulation.data.mapping import FileFormat
from simulation.data.opening import first_line, undecodable
from simulation.data.parquet import parquet_columns, read_parquet_text
from simulation.data.ragged import csv_reader, read_ragged
from simulation.data.rejections import merge, rejections

LINE = "__line__"
"""Column with the line in the file (the header is line 1); for Parquet the row number, from 1."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One file as strings: `frame` holds the file's columns and `LINE`; `rejections` the rows without a shape."""

    file: str
    frame: pl.DataFrame
    rejections: pl.DataFrame

    @property
    def columns(self) -> list[str]:
        """The file's own columns, in its order."""
        return [name for name in self.frame.columns if name != LINE]


def read_table(path: Path, file_format: FileFormat = FileFormat.TABLE) -> TextTable:
    """Read `path` as text; `UnreadableFile` if it is empty, cut short, not UTF-8, or not what its suffix says."""
    empty = rejections(path.name)
    if file_format is FileFormat.SEQUENCES:
        return TextTable(file=path.name, frame=_read_sequences(path), rejections=empty)
    if suffix_of(path) == ".parquet":
        frame = (
            read_parquet_text(path).with_row_index(LINE, offset=1).with_columns(pl.col(LINE).cast(pl.Int64))
        )
        return TextTable(file=path.name, frame=frame, rejections=empty)
    return _without_empty_lines(_read_delimited(path))


def header_of(path: Path) -> list[str]:
    """Return the column names of a delimited file (RecBole's types cut off) or of a Parquet file."""
    if suffix_of(path) == ".parquet":
        return parquet_columns(path)
    return _dialect(path)[0]


def _dialect(path: Path) -> tuple[list[str], str, bool]:
    """Column names, separator, and whether quotes mean anything (not in RecBole: titles hold bare quotes)."""
    line = first_line(path)
    recbole = suffix_of(path) in RECBOLE_SUFFIXES
    separator = "\t" if recbole else max(",\t;|", key=line.count)
    try:
        names = [name.strip() for name in next(csv_reader([line], separator=separator, quoted=not recbole))]
    except csv.Error as error:
        raise UnreadableFile(f"{path.name}: the header is not CSV (is a quote left open?)") from error
    if recbole:
        names = [name.partition(":")[0] for name in names]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UnreadableFile(f"{path.name} has the column '{doubled[0]}' twice; rename one of them")
    return names, separator, not recbole


def _read_delimited(path: Path) -> TextTable:
    """Through polars; a file with misshapen rows is read again record by record, to name their lines."""
    names, separator, quoted = _dialect(path)
    try:
        frame = pl.read_csv(path, infer_schema=False, separator=separator, quote_char='"' if quoted else None)
    except pl.exceptions.ComputeError:
        rows, rejects = read_ragged(path, width=len(names), separator=separator, quoted=quoted)
        frame = pl.DataFrame([row for _, row in rows], schema=dict.fromkeys(names, pl.String), orient="row")
        lines = pl.Series(LINE, [line for line, _ in rows], dtype=pl.Int64)
        return TextTable(
            file=path.name, frame=frame.with_columns(lines), rejections=rejections(path.name, rejects)
        )
    except OSError as error:
        raise undecodable(path) from error
    frame.columns = names
    return TextTable(
        file=path.name, frame=frame.with_columns(_lines(names)), rejections=rejections(path.name)
    )


def _lines(names: list[str]) -> pl.Expr:
    """Line where each row starts: quoted cells may hold line breaks, which move the rows after them."""
    breaks = pl.sum_horizontal(pl.col(names).str.count_matches("\n", literal=True).fill_null(0))
    earlier = breaks.cum_sum().shift(1, fill_value=0)
    return (2 + pl.int_range(pl.len(), dtype=pl.Int64) + earlier.cast(pl.Int64)).alias(LINE)


def _without_empty_lines(table: TextTable) -> TextTable:
    """Reject lines that hold nothing at all, by name like any other row."""
    empty = table.frame.select(pl.all_horizontal(pl.col(table.columns).is_null())).to_series()
    lines = table.frame.filter(empty)[LINE].to_list()
    named = rejections(table.file, [(line, "", "holds nothing") for line in lines])
    return TextTable(
        file=table.file, frame=table.frame.filter(~empty), rejections=merge([table.rejections, named])
    )


def _read_sequences(path: Path) -> pl.DataFrame:
    """Lines `user item item ...` as columns user_id, item_id; a line without items has no events."""
    first_line(path)
    try:
        text = pl.read_csv(
            path,
            has_header=False,
            separator="\x01",
            quote_char=None,
            new_columns=["text"],
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise undecodable(path) from error
    words = text.with_row_index(LINE, offset=1).with_columns(pl.col("text").str.extract_all(r"\S+"))
    pairs = words.select(
        pl.col(LINE).cast(pl.Int64),
        user_id=pl.col("text").list.first(),
        item_id=pl.col("text").list.slice(1),
    )
    return pairs.filter(pl.col("item_id").list.len() > 0).explode("item_id")
