"""`fedrank bench storage`: bulk paths beside plain SQLAlchemy Core, charges, erasure, and re-encryption under load.

Ratios are medians over pairs that are measured in turn, in one run. On PostgreSQL a real server in a temporary
folder answers, which waits for the disk; where its programs are not installed, its rows are left out and the
progress says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import numpy as np

from evaluation.bench import postgres
from evaluation.bench import storage_world as world
from evaluation.bench.rows import Row
from evaluation.bench.storage_bulk import NewDatabase, append_pairs, new_sqlite, read_pairs
from evaluation.bench.storage_charges import charge_seconds
from evaluation.bench.storage_online import KINDS, Online, online
from evaluation.bench.storage_single import erasure_seconds, single_appends
from evaluation.settings import Watch

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
APPEND_TARGETS = {SQLITE: 0.8, POSTGRESQL: 3.0}
READ_TARGETS = {SQLITE: 0.6, POSTGRESQL: None}
CHARGE_TARGET, ERASURE_TARGET_S, ONLINE_TARGET = 100_000.0, 1.0, 1.5
THREADS = (1, 8, 32)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much work each measure does.

    Attributes:
        events, shoppers: of the bulk paths; in the hard case every event has a shopper of its own.
        pairs: how often both sides of a ratio are measured, and of the hard case.
        charged, charges: shoppers of a cohort, and its releases.
        erased: shoppers; each of `erased_events` events.
        online_shoppers: by kind of database; each with a hundred rows of one event.
        rotating_s: of a spell of re-encryption; the calm ones between are half as long.
        single_s: of appending single events, per number of threads.
    """

    events: int = 100_000
    shoppers: int = 1_000
    pairs: int = 7
    hard_pairs: int = 3
    charged: int = 100_000
    charges: int = 9
    erased: int = 200
    erased_events: int = 10_000
    online_shoppers: Mapping[str, int] = field(default_factory=lambda: {SQLITE: 10_000, POSTGRESQL: 1_000})
    rotating_s: float = 20.0
    single_s: float = 4.0


QUICK = Sizes(
    events=20_000,
    shoppers=200,
    pairs=3,
    hard_pairs=1,
    charged=20_000,
    charges=4,
    erased=10,
    online_shoppers={SQLITE: 100, POSTGRESQL: 100},
    rotating_s=2.0,
    single_s=0.5,
)


def run(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure everything on SQLite and on PostgreSQL.

    Args:
        quick: far less work; the rows' words say how much.
    """
    sizes = QUICK if quick else Sizes()
    with databases(durable=True) as kinds:
        watch.begin(stage_words(kinds), len(MEASURES) * len(kinds))
        return [row for name, new in kinds.items() for row in rows_on(name, new, sizes, watch)]


def stage_words(kinds: Mapping[str, NewDatabase]) -> str:
    """Return on which databases a bench runs, and why one is left out."""
    reason = postgres.reason_absent()
    return f"on {' and '.join(kinds)}{f' alone: {reason}' if reason else ''}"


@contextmanager
def databases(*, durable: bool) -> Iterator[Mapping[str, NewDatabase]]:
    """Give every kind of database that this machine has, by its name."""
    if postgres.reason_absent() is not None:
        yield MappingProxyType({SQLITE: new_sqlite})
        return
    with postgres.server(durable=durable) as url:
        yield MappingProxyType({SQLITE: new_sqlite, POSTGRESQL: partial(postgres.database, url)})


def rows_on(name: str, new: NewDatabase, sizes: Sizes, watch: Watch) -> list[Row]:
    """Take every measure on one kind of database."""
    rows = []
    for measure in MEASURES:
        rows += measure(name, new, sizes)
        watch.step()
    return rows


def _append(name: str, new: NewDatabase, sizes: Sizes) -> list[Row]:
    columns = world.events_of(world.pseudonyms(sizes.shoppers), sizes.events // sizes.shoppers)
    words = f"{name}: bulk append, {sizes.events:,} events of {world.RECORD_BYTES} bytes"
    rows = append_pairs(new, columns, sizes.pairs).rows(
        f"{words}, {sizes.shoppers:,} shoppers", "events", APPEND_TARGETS[name]
    )
    ids = append_pairs(new, world.with_ids(columns), sizes.hard_pairs).ratio
    hard = append_pairs(new, world.events_of(world.pseudonyms(sizes.events), 1), sizes.hard_pairs).ratio
    return [
        *rows,
        Row(measure=f"{words}, each with an id that is claimed once: ours / plain", value=ids, unit="ratio"),
        Row(measure=f"{words}, each of another shopper: ours / plain", value=hard, unit="ratio"),
    ]


def _read(name: str, new: NewDatabase, sizes: Sizes) -> list[Row]:
    columns = world.events_of(world.pseudonyms(sizes.shoppers), sizes.events // sizes.shoppers)
    words = f"{name}: read and decrypt {sizes.events:,} events, {sizes.shoppers:,} shoppers"
    return read_pairs(new, columns, sizes.pairs).rows(words, "events", READ_TARGETS[name])


def _single(name: str, new: NewDatabase, sizes: Sizes) -> list[Row]:
    return [
        Row(
            measure=f"{name}: single durable appends, {threads} thread{'s' * (threads > 1)}",
            value=single_appends(new, threads, sizes.single_s),
            unit="events per second",
        )
        for threads in THREADS
    ]


def _charge(name: str, new: NewDatabase, sizes: Sizes) -> list[Row]:
    first, *others = charge_seconds(new, sizes.charged, sizes.charges)
    words, unit = f"{name}: durable charge of {sizes.charged:,} shoppers", "shoppers per second"
    speed = sizes.charged / statistics.median(others)
    target = CHARGE_TARGET if name == SQLITE else None
    return [
        Row(measure=f"{words} in one transaction", value=speed, unit=unit, target=target),
        Row(measure=f"{words} that opens their accounts", value=sizes.charged / first, unit=unit),
    ]


def _erase(name: str, new: NewDatabase, sizes: Sizes) -> list[Row]:
    seconds, readable = erasure_seconds(new, sizes.erased, sizes.erased_events)
    words = f"{name}: erasure of a shopper with {sizes.erased_events:,} events"
    p99 = float(np.quantile(seconds, 0.99))
    return [
        Row(
            measure=f"{words}, p99 of {sizes.erased}",
            value=p99,
            unit="s",
            target=ERASURE_TARGET_S,
            at_least=False,
        ),
        Row(measure=f"{words}, median", value=statistics.median(seconds), unit="s"),
        Row(
            measure=f"{words}, events readable afterwards",
            value=readable,
            unit="events",
            target=0,
            at_least=False,
        ),
    ]


def _online(name: str, new: NewDatabase, sizes: Sizes) -> list[Row]:
    found = online(new, sizes.online_shoppers[name], sizes.rotating_s)
    words = f"{name}: online re-encryption of {found.rows:,} rows"
    failed = len(found.seen.faults())
    rows = [
        Row(measure=f"{words}, failed operations", value=failed, unit="operations", target=0, at_least=False),
        Row(measure=f"{words}, operations during it", value=found.operations(), unit="operations"),
        Row(measure=f"{words}, speed", value=found.rows / found.seconds, unit="rows per second"),
    ]
    for kind in KINDS:
        rows += _felt(words, found, kind)
    return rows


def _felt(words: str, found: Online, kind: str) -> list[Row]:
    """Return what one kind of operation felt of a re-encryption."""
    during, calm = found.p99(kind, rotating=True), found.p99(kind, rotating=False)
    return [
        Row(
            measure=f"{words}, p99 of {kind} with / without",
            value=during / calm,
            unit="ratio",
            target=ONLINE_TARGET,
            at_least=False,
        ),
        Row(
            measure=f"{words}, p99 of {kind} with / without, median of spells",
            value=found.p99_by_spell(kind),
            unit="ratio",
        ),
        Row(measure=f"{words}, p99 of {kind} without", value=1000 * calm, unit="ms"),
    ]


MEASURES = (_append, _read, _single, _charge, _erase, _online)
