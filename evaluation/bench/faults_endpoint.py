"""kill -9 of the ranking endpoint: while it starts, ranks, takes events, changes its version, or ends its calls.

`fedrank serve` over a simulated shop, as anybody starts it. After each kill it is started again, must answer with the
promoted version, and every event that it had acknowledged must be in its store once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Final

from client.ranking import RankingClient, RankingError, Retries
from client.ranking_words import Interaction, Question, Surface
from client.store import EventStore
from evaluation.bench.faults_federation import PointKills
from evaluation.bench.faults_scenarios import Damage
from evaluation.bench.federation_world import FEDRANK, LOOPBACK, environment, free_port
from evaluation.bench.ranking_world import NOW, World, item_id, make_world
from evaluation.errors import LoadError
from evaluation.load.processes import family
from privacy.keyring import Keyring
from proto.federation import DEVICES
from server.registry import Registry

ENDPOINT: Final = "ranking endpoint"
POINTS: Final = {
    "starting": 1.5,
    "ranking": 0.3,
    "taking events": 0.5,
    "changing its version": 0.3,
    "ending its calls": 0.02,
}
"""What it is doing when it is killed, and the seconds of it within which the kill comes."""
ITEMS, BATCH = 500, 40
ANSWER_SECONDS = 30.0
_EVENTS: Final = ("taking events", "ending its calls")
_ONCE: Final = Retries(attempts=1)

Stored = Counter[tuple[int, str]]
"""How often each event is in a store, by its time and item."""


@dataclass(kw_only=True)
class Shop:
    """A simulated shop, its endpoint where one runs, and what callers were told.

    Attributes:
        sent, acknowledged: batches of events, by number.
    """

    world: World
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)

    @property
    def registry(self) -> Registry:
        """The model versions that it serves."""
        return Registry(self.world.folder / "registry")

    @property
    def promoted(self) -> str:
        """The version that it must answer with."""
        return self.registry.promoted() or ""

    def ask_to_end(self) -> None:
        """Send it SIGTERM."""
        assert self.process is not None
        self.process.terminate()

    @property
    def client(self) -> RankingClient:
        """A caller that tries once."""
        return RankingClient(f"{LOOPBACK}:{self.port}", timeout=ANSWER_SECONDS, retries=_ONCE)

    def begin(self) -> None:
        """Start the endpoint and do not wait for it."""
        words = ["serve", "--run", str(self.world.folder), "--port", str(self.port), "--stored-profiles"]
        self.process = subprocess.Popen(
            [*FEDRANK, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )

    def ready(self) -> bool:
        """Wait until it says that it is ready; False where it ends instead."""
        assert self.process is not None and self.process.stdout is not None
        return self.process.stdout.readline().startswith("ready ")

    def kill(self) -> bool:
        """End it and its workers by kill -9; False where it had ended already."""
        assert self.process is not None
        for pid in reversed(family(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL

    def rank(self, client: RankingClient) -> str:
        """Ask once; the version that answered."""
        return client.rank(Question(surface=Surface.HOME, shopper="shopper-1", k=5)).model_version

    def tell(self, client: RankingClient) -> None:
        """Send the next batch of events, and note whether it was acknowledged."""
        number, self.sent = self.sent, self.sent + 1
        client.record(batch(number))
        self.acknowledged.add(number)

    def stored(self) -> Stored:
        """How often each event is in the store, by its time and item."""
        folder = self.world.folder
        with (
            closing(Keyring.open(folder / "keys")) as keyring,
            EventStore.open(str(folder / "store" / "events.db"), keyring, DEVICES) as store,
        ):
            found = store.read_columns()
        return Counter(zip(found.timestamp, found.item_id, strict=True))


def batch(number: int) -> list[Interaction]:
    """The events of one call; no two of all calls are alike."""
    return [
        Interaction(
            event_id=f"event-{number}-{place}",
            shopper=f"shopper-{number % 7}",
            item_id=item_id((number * BATCH + place) % ITEMS),
            timestamp=NOW + number,
            kind="view",
        )
        for place in range(BATCH)
    ]


def names(number: int) -> list[tuple[int, str]]:
    """How the events of a batch are told apart in the store."""
    return [(int(event.timestamp), event.item_id) for event in batch(number)]


def kill_endpoint(times: int, points: Sequence[str] = tuple(POINTS), seed: int = 6) -> Iterator[PointKills]:
    """Kill so often at each point, in turn, each time at another moment of it; yield what came of each kill."""
    draw = random.Random(seed)
    with _shop() as shop:
        for _ in range(times):
            for point in points:
                before = shop.sent
                killed = _killed(shop, point, draw.uniform(0.0, POINTS[point]))
                yield judged_endpoint(shop, point, killed, before)


@contextmanager
def _shop() -> Iterator[Shop]:
    """A shop whose endpoint runs, and which is gone with the block."""
    with tempfile.TemporaryDirectory(prefix="fedrank-endpoint-") as folder:
        shop = Shop(world=make_world(Path(folder) / "shop", ITEMS, versions=2))
        shop.begin()
        try:
            if not shop.ready():
                raise LoadError(f"the endpoint of {shop.world.folder} did not start; see `fedrank serve`")
            yield shop
        finally:
            shop.kill()


def _killed(shop: Shop, point: str, seconds: float) -> bool:
    """Let the endpoint do what the point says, and kill it after so many seconds."""
    if point == "starting":
        shop.kill()
        shop.begin()
    elif point == "changing its version":
        shop.registry.promote(next(one for one in shop.world.versions if one != shop.promoted))
    caller = Thread(target=_calling, args=(shop, shop.tell if point in _EVENTS else shop.rank))
    if point != "starting":
        caller.start()
    if point == "ending its calls":
        time.sleep(POINTS["ranking"])
        shop.ask_to_end()
    time.sleep(seconds)
    killed = shop.kill()
    if point != "starting":
        caller.join()
    return killed


def _calling(shop: Shop, call: Callable[[RankingClient], object]) -> None:
    """Call again and again until the endpoint is gone."""
    with shop.client as client, suppress(RankingError):
        while True:
            call(client)


def judged_endpoint(shop: Shop, point: str, killed: bool, first: int) -> PointKills:
    """Look what is left of the batches from number `first` on, start again, and send them again as callers would."""
    left = shop.stored()
    shop.begin()
    recovered = shop.ready()
    if recovered:
        with shop.client as client:
            recovered = shop.rank(client) == shop.promoted
            for number in range(first, shop.sent):
                client.record(batch(number))
    return PointKills(
        victim=ENDPOINT,
        point=point,
        wanted=1,
        killed=int(killed),
        recovered=int(killed and recovered),
        damage=event_damage(left, shop.stored(), shop.acknowledged, shop.sent)
        + Damage(unresumed=int(not recovered)),
    )


def event_damage(left: Stored, found: Stored, acknowledged: Collection[int], sent: int) -> Damage:
    """Return what is wrong with stored events.

    Args:
        left: what the kill left: every acknowledged batch must be in it.
        found: after all was sent again: all of the `sent` batches, each event once.
    """
    lost = sum(not left[one] for number in acknowledged for one in names(number))
    missing = sum(not found[one] for number in range(sent) for one in names(number))
    return Damage(lost=lost + missing, doubled=found.total() - len(found))
