"""Items of a file that somebody gives, parquet or CSV, as rows that a change of the catalogue may hold."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from proto.ranking_bounds import MAX_ID_CHARACTERS
from server.errors import CatalogueError
from server.serving.catalogue_changes import COLUMNS

_FORMS: dict[type[pl.DataType], str] = {
    pl.Float64: "a number such as 2.50",
    pl.Int64: "a whole number; a time in Unix seconds",
    pl.Boolean: "true or false",
    pl.String: "text",
}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def read_items(path: Path) -> pl.DataFrame:
    """Items of a file, with those of its columns that a change may hold.

    Raises `CatalogueError` where it cannot be read, lacks an id or a merchant, has an item twice, or has a value of
    another form than its column's.
    """
    found = _table(path)
    _check_names(path, found)
    ids = found["item_id"].cast(pl.String).to_list()
    columns = [
        _column(path, ids, found[name], kind) for name, kind in COLUMNS.items() if name in found.columns
    ]
    table = pl.DataFrame(columns)
    if table.height == 0 or table["item_id"].n_unique() < table.height:
        raise CatalogueError(f"{path} holds no item, or one twice; give one row per item")
    _check_bounds(path, table)
    return table


def _check_bounds(path: Path, table: pl.DataFrame) -> None:
    """Refuse what no request could name, and a price that is none."""
    rules = {
        f"has an item_id above {MAX_ID_CHARACTERS} characters": pl.col("item_id").str.len_chars()
        > MAX_ID_CHARACTERS
    }
    if "price" in table.columns:
        rules["has a price that is negative or no number; leave it empty where it is unknown"] = ~(
            pl.col("price").is_finite() & (pl.col("price") >= 0)
        )
    for problem, broken in rules.items():
        rows = table.select(broken.fill_null(False).arg_true()).to_series()
        if len(rows):
            raise CatalogueError(f"{path}: row {rows[0]} {problem} ({len(rows)} such rows)")


def _table(path: Path) -> pl.DataFrame:
    """The file as it is; of a CSV file every column is text, so that 007 stays an id of three characters."""
    try:
        return (
            pl.read_csv(path, infer_schema=False) if path.suffix.lower() == ".csv" else pl.read_parquet(path)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(
            f"{path} cannot be read as items ({type(error).__name__}); give a parquet or CSV file with columns as in "
            "the catalogue of the run"
        ) from error


def _check_names(path: Path, table: pl.DataFrame) -> None:
    for name in ("item_id", "merchant_id"):
        if name not in table.columns or _blank(table[name]).any():
            raise CatalogueError(f"{path} has items without {name}; give each one")


def _blank(column: pl.Series) -> pl.Series:
    return column.cast(pl.String, strict=False).fill_null("").str.strip_chars() == ""


def _column(path: Path, ids: list[str], column: pl.Series, kind: type[pl.DataType]) -> pl.Series:
    """A column in its type, null where it is empty."""
    if column.dtype == pl.String and kind is not pl.String:
        column = column.str.strip_chars().replace("", None)
    typed = _typed(column, kind)
    wrong = column.is_not_null() & typed.is_null()
    if wrong.any():
        row = wrong.arg_max() or 0
        raise CatalogueError(
            f"{path}: {column.name} of item {ids[row]!r} is {column[row]!r}, one of {wrong.sum()} that cannot be "
            f"read; give {_FORMS[kind]}, or leave it empty"
        )
    return typed


def _typed(column: pl.Series, kind: type[pl.DataType]) -> pl.Series:
    """The values in this type, null where they have no meaning in it."""
    if column.dtype.is_temporal() and kind is pl.Int64:
        return column.dt.epoch("s").cast(pl.Int64)
    if column.dtype == pl.String and kind is pl.Boolean:
        return column.str.to_lowercase().replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean)
    typed = column.cast(kind, strict=False)
    return typed.set(~typed.is_finite(), None) if kind is pl.Float64 else typed
