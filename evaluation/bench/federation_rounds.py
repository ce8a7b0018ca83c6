"""What a round of real processes costs beyond training, and a federation from its start to a version."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl

from deploy.kit_files import Kits
from evaluation.bench.federation_relay import Wire, relay
from evaluation.bench.federation_world import (
    LOOPBACK,
    Processes,
    Shop,
    command,
    compute_seconds,
    described,
    events_file,
    free_port,
    processes,
    start,
)
from evaluation.bench.judging import SETS
from evaluation.bench.rows import Row
from evaluation.load.processes import cpu_seconds
from evaluation.settings import Watch

TARGET_SECONDS: Final = 3.0
WIRE: Final = "127.0.0.2"
"""Where nodes reach the wire that counts; the coordinator listens beside it on the same port."""
START, DAY = 1_700_000_000, 86_400
AMAZON: Final = "amazon18-industrial"
AMAZON_MERCHANTS: Final = 5
_DONE: Final = re.compile(r"^(\S+ \S+) INFO fedrank\.coordination: round (\d+) of \d+ done", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of a federation.

    Attributes:
        start_seconds: until all processes were ready.
        run_seconds: from the order to run until every node had the version.
        cpu_seconds: processor time of all processes during the run.
        rounds: seconds of each round but the first, from one release to the next.
        training: seconds of the slowest node's contribution in each of these rounds, masks included.
        wire: bytes of all nodes during the run.
        releases: of the run.
    """

    start_seconds: float
    run_seconds: float
    cpu_seconds: float
    rounds: tuple[float, ...]
    training: tuple[float, ...]
    wire: Wire
    releases: int

    @property
    def overhead(self) -> float:
        """Median seconds of a round that nobody trains in."""
        return statistics.median(whole - own for whole, own in zip(self.rounds, self.training, strict=True))


def round_rows(*, quick: bool, watch: Watch) -> list[Row]:
    """Measure small shops, and in the long form merchants of a real data set where it is there."""
    merchants = 3 if quick else 10
    watch.begin(f"a federation of {merchants} merchants' nodes and their coordinator", 1)
    shops = [small_shop(f"shop{number:02d}") for number in range(merchants)]
    rows = _rows(f"{merchants} nodes on loopback", measured(shops), merchants)
    if not quick and (SETS / AMAZON).is_dir():
        watch.begin(f"a federation of {AMAZON_MERCHANTS} merchants of {AMAZON}", 1)
        rows += _rows(f"{AMAZON_MERCHANTS} nodes, {AMAZON}", measured(amazon_shops()), AMAZON_MERCHANTS)
    return rows


def _rows(what: str, found: Measured, merchants: int) -> list[Row]:
    each = merchants * found.releases
    return [
        Row(
            measure=f"round overhead beyond training, {what} (median)",
            value=found.overhead,
            unit="s",
            target=TARGET_SECONDS if merchants == 10 else None,
            at_least=False,
        ),
        Row(measure=f"whole round, {what} (median)", value=statistics.median(found.rounds), unit="s"),
        Row(
            measure=f"processor time of a round, {what}, all processes",
            value=found.cpu_seconds / found.releases,
            unit="s",
        ),
        Row(measure=f"end to end, {what}: processes ready", value=found.start_seconds, unit="s"),
        Row(
            measure=f"end to end, {what}: order to run until all have the version",
            value=found.run_seconds,
            unit="s",
        ),
        Row(
            measure=f"traffic of a node and round, {what}, up", value=found.wire.up / each / 1024, unit="KiB"
        ),
        Row(
            measure=f"traffic of a node and round, {what}, down",
            value=found.wire.down / each / 1024,
            unit="KiB",
        ),
    ]


def measured(shops: Sequence[Shop], rounds: int = 3) -> Measured:
    """Provision, load, start and run a federation of these shops with all defaults of protection."""
    with TemporaryDirectory() as name, processes(Path(name) / "logs") as started:
        folder, port = Path(name), free_port()
        words = {"epsilon": 8.0, "delta": 1e-4, "rounds": rounds, "minimum_cohort": len(shops) // 2 + 1}
        settings = {"dim": 16, "timeout": 300.0}
        file = described(folder, shops, coordinator=f"{WIRE}:{port}", words=words, settings=settings)
        kits = Kits(root=folder / "kits")
        command("provision", str(file), "--out", str(kits.root))
        for shop in shops:
            events = str(events_file(folder, shop.id))
            command("merchant", "load", str(kits.merchant(shop.id)), "--data", events, "--consent", "bench")
        with relay((WIRE, port), (LOOPBACK, port)) as wire:
            return _run(started, kits, [shop.id for shop in shops], wire)


def _run(started: Processes, kits: Kits, merchants: Sequence[str], wire: Wire) -> Measured:
    begun = time.monotonic()
    start(started, kits, merchants, "--listen", LOOPBACK)
    ready = time.monotonic()
    before = Wire(up=wire.up, down=wire.down)
    used = cpu_seconds(started.all())
    command("federation", "run", str(kits.coordinator), "--json")
    done = time.monotonic()
    used = cpu_seconds(started.all()) - used
    status = json.loads(command("federation", "status", str(kits.coordinator), "--json"))
    times = release_times(started.running["coordinator"].log())
    own = compute_seconds([started.running[merchant].log() for merchant in merchants])
    return Measured(
        start_seconds=ready - begun,
        run_seconds=done - ready,
        cpu_seconds=used,
        rounds=tuple(float(seconds) for seconds in np.diff(times)),
        training=tuple(own[number] for number in range(2, len(times) + 1)),
        wire=Wire(up=wire.up - before.up, down=wire.down - before.down),
        releases=len(status["rounds"]),
    )


def release_times(log: str) -> list[float]:
    """Return when each round was done, in Unix seconds, from the coordinator's log."""
    return [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp() for at, _ in _DONE.findall(log)]


def small_shop(name: str, items: int = 50, shoppers: int = 50) -> Shop:
    """A shop whose training takes next to no time."""
    draw = np.random.default_rng(sum(name.encode()))
    listed = [f"{name}-{item:03d}" for item in range(items)]
    bought = draw.integers(0, items, (shoppers, 8))
    events = [
        {
            "user_id": f"{name}-{who}",
            "item_id": listed[item],
            "kind": "purchase",
            "timestamp": START + DAY * step,
        }
        for who, row in enumerate(bought)
        for step, item in enumerate(row)
    ]
    return Shop(
        id=name,
        items=_items(listed, [f"thing {item % 7}" for item in range(items)]),
        events=pl.DataFrame(events),
    )


def _items(listed: Sequence[str], titles: Sequence[str]) -> pl.DataFrame:
    empty = [""] * len(listed)
    words = {"title": list(titles), "category": list(titles), "brand": empty}
    return pl.DataFrame(
        {"item_id": list(listed), **words, "price": [1.0] * len(listed), "description": empty}
    )


def amazon_shops() -> list[Shop]:
    """Five merchants, each with every fifth item of the data set and the events at them."""
    items = pl.read_csv(SETS / AMAZON / "items.csv.gz", infer_schema=False)
    events = pl.read_csv(SETS / AMAZON / "events.csv.gz", infer_schema=False)
    shops = []
    for number in range(AMAZON_MERCHANTS):
        name = f"amazon{number}"
        prefixed = pl.lit(f"{name}-") + pl.col("item")
        mine = pl.col("item").cast(pl.Int64) % AMAZON_MERCHANTS == number
        own = items.filter(mine).select(prefixed.alias("item_id"), pl.col("title").fill_null(""))
        sold = events.filter(mine).select(
            pl.col("user").alias("user_id"),
            prefixed.alias("item_id"),
            pl.lit("purchase").alias("kind"),
            (START + DAY * pl.col("pos").cast(pl.Int64)).alias("timestamp"),
        )
        shops.append(
            Shop(id=name, items=_items(own["item_id"].to_list(), own["title"].to_list()), events=sold)
        )
    return shops
