"""What the ranking bench serves: a run folder of any size, and questions of shoppers; all of it simulated.

Item vectors have the shape of a trained model's: groups of unequal size, a few strong directions and many weak ones,
and items that are liked more are longer. They are drawn and not trained, so that a million items take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from client.store import EventStore
from evaluation.releasing import signing_registry
from model.content import CONTENT_FEATURES
from model.features import CONTEXT_ROWS, KINDS
from model.schema import Schema, Weights
from privacy.keyring import Keyring
from proto.federation import DEVICES
from proto.fedrank.ranking.v1 import ranking_pb2 as pb

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LABEL = "simulated (published as simulated)"
DIM = 64
COMPLEMENT_DIM = 16
NOW = 1_700_000_000
DAY = 86_400
MERCHANTS, CATEGORIES = 40, 240
_WORDS = ("green", "dark", "small", "fine", "paper", "steel", "cotton", "spring")
THINGS = (
    "tea",
    "pot",
    "cup",
    "lamp",
    "shirt",
    "chair",
    "bag",
    "bottle",
    "knife",
    "towel",
    "jacket",
    "table",
)


@dataclass(frozen=True, kw_only=True)
class World:
    """A run folder with one promoted version, and what its items are like.

    Attributes:
        groups: (items,) the group of each item: shoppers stay within a few.
        liked: (items,) how likely an item is in a history; sums to 1.
        versions: model versions in the registry; the first is promoted.
    """

    folder: Path
    groups: Ints
    liked: npt.NDArray[np.float64]
    versions: tuple[str, ...]

    def question(self, number: int, *, history: int = 50, k: int = 20, reasons: bool = True) -> bytes:
        """A `RankRequest` of surface home: what one shopper with so many events asks. Repeatable by its number."""
        draws = np.random.default_rng([number, len(self.groups)])
        items = self._history(draws, history)
        days = np.sort(draws.integers(0, 120, size=history))[::-1]
        kinds = draws.choice(
            [pb.EVENT_KIND_VIEW, pb.EVENT_KIND_ADD_TO_CART, pb.EVENT_KIND_PURCHASE], size=history
        )
        request = pb.RankRequest(surface=pb.SURFACE_HOME, k=k, without_reasons=not reasons)
        request.context.timestamp.seconds = NOW
        for item, day, kind in zip(items.tolist(), days.tolist(), kinds.tolist(), strict=True):
            event = request.history.events.add(item_id=item_id(item), kind=kind)
            event.time.seconds = NOW - DAY * day - 60
        return request.SerializeToString()

    def _history(self, draws: np.random.Generator, events: int) -> Ints:
        """Items of three groups, the liked ones more often."""
        likely = draws.choice(len(self.liked), size=8 * events, p=self.liked)
        groups = self.groups[likely[:3]]
        mine = likely[np.isin(self.groups[likely], groups)]
        return np.resize(np.concatenate([mine, likely])[:events], events)


def item_id(item: int) -> str:
    """The id of an item."""
    return f"item-{item:07d}"


def make_world(folder: Path, items: int, *, versions: int = 1, seed: int = 7) -> World:
    """Make a run folder of so many items, without training; each version has vectors of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng([seed, items])
    groups = _group_sizes(draws, items)
    rank = draws.permutation(items)
    liked = 1 / (rank + 20.0)
    _catalogue(items, groups).write_parquet(folder / "catalogue.parquet")
    registry, signer = signing_registry(folder, "ranking")
    card = {"label": LABEL, "schema": {"items": items, "dim": DIM}}
    names = []
    for _ in range(versions):
        weights = make_weights(draws, groups, np.log(liked * items).astype(np.float32))
        names.append(registry.add(weights, card, signer).version)
    registry.promote(names[0])
    _empty_store(folder)
    return World(folder=folder, groups=groups, liked=liked / liked.sum(), versions=tuple(names))


def make_weights(draws: np.random.Generator, groups: Ints, prior: Floats) -> Weights:
    """Draw the parameters of a pooling tower over items of these groups; `prior` (items,) log counts."""
    schema = Schema(items=len(groups), content_features=CONTENT_FEATURES, dim=DIM)
    longer = 1 + 0.1 * (prior - prior.mean())
    return {
        **schema.zeros(),
        "item_id": (trained_shape(draws, groups, DIM) * longer[:, None]).astype(np.float32),
        "item_bias": prior,
        "prior_scale": np.full(1, 0.05, dtype=np.float32),
        "gain": np.ones(DIM, dtype=np.float32),
        "kind_weight": np.linspace(0, 0.5, len(KINDS), dtype=np.float32),
        "rarity": np.full(1, 0.2, dtype=np.float32),
        "context": draws.normal(0, 0.02, (CONTEXT_ROWS, DIM)).astype(np.float32),
        "complement": 0.5 * trained_shape(draws, groups, COMPLEMENT_DIM),
    }


def trained_shape(draws: np.random.Generator, groups: Ints, dim: int) -> Floats:
    """Draw (items, dim) vectors around the centres of their groups; direction j has the strength j ** -0.5."""
    strength = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    centres = draws.standard_normal((int(groups.max()) + 1, dim), dtype=np.float32) * strength
    own = draws.standard_normal((len(groups), dim), dtype=np.float32) * strength
    return np.asarray(0.4 * (centres[groups] + 0.6 * own), dtype=np.float32)


def _group_sizes(draws: np.random.Generator, items: int) -> Ints:
    """Draw the group of each item, (items,); some groups are much larger than others."""
    count = max(8, round(items**0.5))
    shares = draws.pareto(1.5, size=count) + 0.1
    return draws.choice(count, size=items, p=shares / shares.sum()).astype(np.int64)


def _catalogue(items: int, groups: Ints) -> pl.DataFrame:
    rows = np.arange(items)
    titles = [f"{_WORDS[row % 8]} {THINGS[group % 12]} {row}" for row, group in enumerate(groups.tolist())]
    return pl.DataFrame(
        {
            "item_id": [item_id(row) for row in range(items)],
            "title": titles,
            "category": [f"Shop > {THINGS[group % 12]} > {group % CATEGORIES}" for group in groups.tolist()],
            "brand": [f"brand {row % 97}" for row in range(items)],
            "price": 1.0 + rows % 200,
            "description": pl.Series([None] * items, dtype=pl.String),
            "merchant_id": [f"merchant-{row % MERCHANTS}" for row in range(items)],
            "new_arrival": rows % 50 == 0,
            "promotion": rows % 40 == 0,
            "listed_at": NOW - DAY * (rows % 900),
        }
    )


def _empty_store(folder: Path) -> None:
    """Make the keyring and the event store that an endpoint wants to find; nothing is in them."""
    (folder / "store").mkdir(exist_ok=True)
    with closing(Keyring.open(folder / "keys")) as keyring:
        EventStore.open(str(folder / "store" / "events.db"), keyring, DEVICES).close()


def questions(world: World, count: int, *, reasons: bool = True) -> Sequence[bytes]:
    """So many different questions."""
    return [world.question(number, reasons=reasons) for number in range(count)]
