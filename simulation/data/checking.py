"""The report of `fedrank data check`: what a data set holds, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from simulation.data.assemble import Loaded
from simulation.data.loading import load_with_findings
from simulation.data.mapping import Mapping
from simulation.data.quality import (
    OUTLIER_RULE,
    Outliers,
    Staleness,
    items_without_details,
    outliers,
    staleness,
    time_span,
)


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """How many rows of `file` were rejected for `reason` in `column`."""

    file: str
    column: str
    reason: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check` found; `rejections` (file, line, column, reason) is for a file, not for `to_json`.

    `rows` are the records of the events file, `events` those that are usable; `items` have an event,
    `catalogue_items` count all. `oldest` and `newest` are ISO 8601 UTC, None for a clock without a calendar.
    """

    name: str
    label: str
    source: str
    layout: str
    files: dict[str, str]
    rows: int
    events: int
    rejected_rows: int
    filtered_rows: int
    test_events: int
    shoppers: int
    items: int
    catalogue_items: int
    items_without_details: int
    merchants: int
    merchants_from: str
    kinds: dict[str, int]
    kinds_from: str
    clock: str
    oldest: str | None
    newest: str | None
    staleness: Staleness | None
    duplicates: int
    missing: dict[str, int]
    unused_columns: list[str]
    outliers: list[Outliers]
    outlier_rule: str
    rejected: list[Rejected]
    rejections: pl.DataFrame = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the report as values that JSON knows."""
        known = {key: value for key, value in vars(self).items() if key != "rejections"}
        return known | {
            "staleness": None if self.staleness is None else asdict(self.staleness),
            "outliers": [asdict(one) for one in self.outliers],
            "rejected": [asdict(one) for one in self.rejected],
        }


def check(path: Path | None, mapping: Mapping | None = None, *, now: datetime) -> CheckReport:
    """Read the data set at `path` as `load` does, and report on it; `now` (aware) is what ages are counted from.

    Raises:
        DataError: as `load`.
    """
    return report_on(load_with_findings(path, mapping=mapping), now=now)


def report_on(loaded: Loaded, *, now: datetime) -> CheckReport:
    """Return the report on a data set that is already read."""
    data = loaded.dataset
    span = time_span(data) or (None, None)
    return CheckReport(
        name=data.name,
        label=data.label,
        source=data.source,
        layout=loaded.layout,
        files=loaded.files,
        rows=loaded.rows,
        events=data.events.height,
        rejected_rows=data.rejected_rows,
        filtered_rows=loaded.filtered_rows,
        test_events=0 if data.given_test is None else data.given_test.height,
        shoppers=data.events["user_id"].n_unique(),
        items=data.events["item_id"].n_unique(),
        catalogue_items=data.items.height,
        items_without_details=items_without_details(data),
        merchants=data.items["merchant_id"].n_unique(),
        merchants_from=data.merchants_from,
        kinds=dict(data.events["kind"].value_counts(sort=True).iter_rows()),
        kinds_from=loaded.kinds_from,
        clock=data.clock.value,
        oldest=_iso(span[0]),
        newest=_iso(span[1]),
        staleness=staleness(data, now),
        duplicates=loaded.duplicates,
        missing=loaded.missing,
        unused_columns=loaded.unused_columns,
        outliers=[one for name in ("quantity", "price") if (one := outliers(data.events, name)) is not None],
        outlier_rule=OUTLIER_RULE,
        rejected=_counted(loaded.rejections),
        rejections=loaded.rejections,
    )


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _counted(rejections: pl.DataFrame) -> list[Rejected]:
    counts = rejections.group_by("file", "column", "reason", maintain_order=True).len("rows")
    return [Rejected(**row) for row in counts.iter_rows(named=True)]
