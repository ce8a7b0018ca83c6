"""Put the tables of one data set together: given test, filters, catalogue, merchants."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from simulation.data.catalogue import build_items, with_merchants
from simulation.data.dataset import Dataset
from simulation.data.errors import NothingUsable
from simulation.data.events import EventTable, read_events
from simulation.data.files import DataFiles, locate
from simulation.data.items import ItemTable, no_items, read_items, read_users
from simulation.data.kcore import core
from simulation.data.mapping import FileFormat, Mapping
from simulation.data.rejections import merge, rejected_rows
from simulation.data.tables import header_of


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A data set and what was noticed while it was read; `rows` counts records of the events file.

    `missing` counts empty cells per "table.field"; `filtered_rows` counts events dropped by the minimum
    filters.
    """

    dataset: Dataset
    rejections: pl.DataFrame
    rows: int
    layout: str
    kinds_from: str
    duplicates: int
    filtered_rows: int = 0
    files: dict[str, str] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    unused_columns: list[str] = field(default_factory=list)


def read_all(path: Path, mapping: Mapping) -> Loaded:
    """Read the data set at `path` (folder or file) as `mapping` says.

    Raises:
        DataError: see `locate`, `read_events` and `read_items`; `NothingUsable` where no event is left.
    """
    files = locate(path, mapping)
    events = read_events(files.events, mapping)
    _refuse_nothing(events, files.events.name)
    test = _read_test(files, mapping)
    items = read_items(files.items, mapping) if files.items else no_items()
    users, bad_users = read_users(files.users, mapping) if files.users else (None, merge([]))
    rejected = merge([events.rejections, items.rejections, bad_users, *([test.rejections] if test else [])])
    kept = _filtered(events.frame, mapping)
    dataset = _dataset(_name(path, mapping), mapping, replace(events, frame=kept), test, items, users)
    return Loaded(
        dataset=replace(dataset, rejected_rows=rejected_rows(rejected)),
        rejections=rejected,
        rows=events.rows,
        layout=events.layout,
        kinds_from=events.kinds_from,
        duplicates=events.duplicates,
        filtered_rows=events.frame.height - kept.height,
        files={role: file.name for role, file in vars(files).items() if file is not None},
        missing={
            **{f"events.{name}": count for name, count in events.missing.items()},
            **{f"items.{name}": count for name, count in items.missing.items()},
        },
        unused_columns=events.unused_columns,
    )


def _dataset(
    name: str,
    mapping: Mapping,
    events: EventTable,
    test: EventTable | None,
    items: ItemTable,
    users: pl.DataFrame | None,
) -> Dataset:
    held_out = (
        None if test is None else _timed(test.frame, events.frame, has_time="timestamp" in test.missing)
    )
    catalogue = build_items(events.frame, held_out, items.frame, whole=not _filters(mapping))
    owned, merchants_from = with_merchants(catalogue, events, items.owner_column, mapping.merchants)
    return Dataset(
        name=name,
        label=mapping.label,
        events=finish(events.frame, owned),
        items=owned,
        users=users,
        given_test=None if held_out is None else finish(held_out, owned),
        clock=events.clock,
        merchants_from=merchants_from,
        rejected_rows=0,
        source=mapping.source,
        basket_kinds=events.basket_kinds if mapping.basket_kinds is None else mapping.basket_kinds,
    )


def finish(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Give every event its item's merchant where it names none, and sort by shopper and time (stable)."""
    owner = items.select("item_id", __merchant__="merchant_id")
    joined = events.join(owner, on="item_id", how="left", maintain_order="left")
    filled = joined.with_columns(pl.coalesce("merchant_id", "__merchant__").alias("merchant_id"))
    return filled.drop("__merchant__").sort("user_id", "timestamp", maintain_order=True)


def _name(path: Path, mapping: Mapping) -> str:
    return mapping.name or path.resolve().name.split(".")[0]


def _filters(mapping: Mapping) -> bool:
    return mapping.min_items_per_user > 1 or mapping.min_users_per_item > 1


def _filtered(events: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    if not _filters(mapping):
        return events
    kept = core(events, items_per_user=mapping.min_items_per_user, users_per_item=mapping.min_users_per_item)
    if not kept.height:
        raise NothingUsable(
            f"no event is left after min_items_per_user={mapping.min_items_per_user} and "
            f"min_users_per_item={mapping.min_users_per_item}; lower them in [filters]"
        )
    return kept


def _read_test(files: DataFiles, mapping: Mapping) -> EventTable | None:
    """The given test: it may lack columns that the events have; its kind may differ."""
    if files.test is None:
        return None
    header = [] if mapping.file_format is FileFormat.SEQUENCES else header_of(files.test)
    columns = {
        name: column
        for name, column in mapping.columns.items()
        if column in header or name in ("user_id", "item_id")
    }
    kind = mapping.test_kind or mapping.default_kind
    test = read_events(files.test, replace(mapping, columns=columns, default_kind=kind))
    _refuse_nothing(test, files.test.name)
    return test


def _timed(test: pl.DataFrame, events: pl.DataFrame, *, has_time: bool) -> pl.DataFrame:
    """A held-out event without a time takes that of the shopper's newest event: it is asked after all of them."""
    if has_time:
        return test
    newest = events.group_by("user_id").agg(newest=pl.col("timestamp").max())
    joined = test.join(newest, on="user_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("newest").fill_null(0).alias("timestamp")).drop("newest")


def _refuse_nothing(events: EventTable, file: str) -> None:
    """Say which column and reason emptied the file, and what to do."""
    if events.frame.height:
        return
    if not events.rows:
        raise NothingUsable(f"{file} has a header and no rows; give a file with events")
    column, reason, count = (
        events.rejections.group_by("column", "reason").len().sort("len", "column", descending=True).row(0)
    )
    raise NothingUsable(
        f"every row of {file} was rejected; most often ({count} of {events.rows} rows) the column '{column}' "
        f"{reason}. Check which column is meant (--column {column or 'user_id'}=NAME), or see fedrank-data.toml"
    )
