"""A small marketplace with a random model: what the tests of the ranking endpoint serve."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from client.store import EventStore
from fedrank.endpoint_options import OPEN
from model.content import CONTENT_FEATURES
from model.schema import Schema, Weights
from privacy.keyring import Keyring
from privacy.release_keys import release_signer
from privacy.signing import ReleaseSigner
from server.registry import Registry
from server.serving.endpoint import EndpointConfig, Inside, open_endpoint
from server.serving.engine import Engine
from server.serving.guard import Guard, LocalGuard
from server.serving.logs import AccessLog
from server.serving.metrics import Metrics
from server.serving.query import PastEvent
from server.serving.service import Doors, RankingService, ServiceRules
from server.serving.stores import FeedbackEvent

ITEMS = 60
DIM = 8
THINGS = (
    "dark coffee",
    "green tea",
    "绿茶 茶叶",
    "红茶",
    "Earl Grey tea",
    "paper cups",
    "carpet café",
    "Tea POT",
)


@pytest.fixture(scope="session")
def catalogue() -> pl.DataFrame:
    """60 items of 3 merchants; titles in English and Chinese; every tenth without a title."""
    rows = range(ITEMS)
    return pl.DataFrame(
        {
            "item_id": [f"item-{row:02d}" for row in rows],
            "title": [None if row % 10 == 9 else f"{THINGS[row % 8]} {row}" for row in rows],
            "category": [f"Grocery > shelf {row % 4}" for row in rows],
            "brand": [f"brand{row % 5}" for row in rows],
            "price": [None if row % 7 == 0 else 1.5 * row for row in rows],
            "description": pl.Series([None] * ITEMS, dtype=pl.String),
            "merchant_id": [f"merchant-{row % 3}" for row in rows],
        }
    )


@pytest.fixture(scope="session")
def weights() -> Weights:
    """Random parameters of the declared shapes; rarity and context as weak beside events as training leaves them."""
    schema = Schema(items=ITEMS, content_features=CONTENT_FEATURES, dim=DIM)
    generator = np.random.default_rng(7)
    drawn = {
        name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in schema.shapes().items()
    }
    return {
        **drawn,
        "gain": np.ones(DIM, dtype=np.float32),
        "context": 0.3 * drawn["context"],
        "rarity": np.full(1, 0.2, dtype=np.float32),
        "prior_scale": np.full(1, 0.1, dtype=np.float32),
    }


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ReleaseSigner:
    """Who signs the versions of run folders."""
    return release_signer(tmp_path_factory.mktemp("signer"), "toy", datetime.now(UTC))


@pytest.fixture
def run_folder(tmp_path: Path, catalogue: pl.DataFrame, weights: Weights, signer: ReleaseSigner) -> Path:
    """A run folder with a catalogue and one promoted version, signed."""
    catalogue.write_parquet(tmp_path / "catalogue.parquet")
    registry = Registry(tmp_path / "registry")
    registry.trust(signer.certificate)
    registry.promote(registry.add(weights, {"schema": {"items": ITEMS, "dim": DIM}}, signer).version)
    return tmp_path


@pytest.fixture
def stocked(run_folder: Path) -> Path:
    """The run folder with an empty store of the devices and a keyring."""
    (run_folder / "store").mkdir()
    EventStore.open(run_folder / "store" / "events.db", Keyring.open(run_folder / "keys"), "devices").close()
    return run_folder


@pytest.fixture
def registry(run_folder: Path) -> Registry:
    """The registry of the run folder; it takes further versions that nobody has signed."""
    return Registry(run_folder / "registry", unsigned=True)


@pytest.fixture
def engine(run_folder: Path, registry: Registry) -> Engine:
    """The promoted version over the whole catalogue."""
    return Engine.load(registry, run_folder / "catalogue.parquet")


class MemoryStore:
    """A profile source and feedback sink in memory, which obeys `server.serving.stores`."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: dict[str, FeedbackEvent] = {}
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.gate.set()

    def history(self, shopper: str) -> list[PastEvent] | None:
        """The interactions recorded for the shopper; None where there is no event."""
        self._pass()
        own = [event for event in self.events.values() if event.shopper == shopper]
        return [
            PastEvent(item_id=event.item_id, kind=event.kind, time=event.timestamp)
            for event in own
            if event.kind is not None
        ] or None

    def record(self, batch: Sequence[FeedbackEvent]) -> int:
        """Keep what is new."""
        self._pass()
        new = {event.event_id: event for event in batch if event.event_id not in self.events}
        self.events |= new
        return len(new)

    def _pass(self) -> None:
        """Wait at the gate, and fail if a fault was planted."""
        self.entered.set()
        self.gate.wait(20)
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore()


Open = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def metrics() -> Metrics:
    """The numbers of the endpoint under test."""
    return Metrics()


@pytest.fixture
def open_endpoint_in_thread(engine: Engine, store: MemoryStore, metrics: Metrics) -> Open:
    """Serve the engine over a real port from a thread of its own; the block gets the address."""

    @contextmanager
    def running(
        *,
        clock: float = 1_700_000_000,
        guard: Guard | None = None,
        rules: ServiceRules | None = None,
        reflection: bool = False,
        access_log: float = 0.0,
        **settings: Any,
    ) -> Iterator[str]:
        with (
            ThreadPoolExecutor(1) as reads,
            ThreadPoolExecutor(1) as writes,
            ThreadPoolExecutor(1) as serving,
        ):
            numbers = itertools.count()
            doors = Doors(
                profiles=store,
                feedback=store,
                profile_thread=reads,
                feedback_thread=writes,
                clock=lambda: clock,
                new_ranking_id=lambda: f"ranking-{next(numbers)}",
            )
            rules = rules or ServiceRules(stored_profiles=True)
            inside = Inside(
                engine=engine,
                service=RankingService(engine, doors, rules, metrics),
                guard=guard or LocalGuard(OPEN, time.monotonic),
                metrics=metrics,
                access_log=AccessLog(access_log, lambda: 0.5),
                reflection=reflection,
            )
            config = EndpointConfig(port=0, **settings)
            ready: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
            done = serving.submit(lambda: asyncio.run(_serve(config, inside, ready)))
            done.add_done_callback(lambda ended: _pass_on(ended, ready))
            address, loop, stop = ready.result(20)
            try:
                yield address
            finally:
                loop.call_soon_threadsafe(stop.set)
                done.result(30)

    return running


async def _serve(config: EndpointConfig, inside: Inside, ready: Future[Any]) -> None:
    stop = asyncio.Event()
    async with open_endpoint(config, inside) as address:
        ready.set_result((address, asyncio.get_running_loop(), stop))
        await stop.wait()


def _pass_on(ended: Future[None], ready: Future[Any]) -> None:
    """Give an error before readiness to whoever waits for readiness."""
    error = ended.exception()
    if error is not None and not ready.done():
        ready.set_exception(error)


@pytest.fixture
def address(open_endpoint_in_thread: Open) -> Iterator[str]:
    """The address of an endpoint with the default settings."""
    with open_endpoint_in_thread() as address:
        yield address
