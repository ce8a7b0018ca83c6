"""Answers of the engine held against what no answer may hold; the judge knows the shop's files, not the engine.

Random questions of every surface: histories, sessions and baskets, hidden items, filters, past moments; of a shop
where items are out of stock, hidden, new, or on promotion for some days. Half of the answers come from an engine with
every knob on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from evaluation.bench.ranking_world import DAY, NOW, item_id, make_world
from evaluation.bench.rows import Row
from model.features import KINDS
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.policy import Policy, SurfacePolicy
from server.serving.promotions import PROMOTIONS_FILE, SCHEMA
from server.serving.query import Events, PastEvent, RankQuery, Surface
from server.serving.ranking import Ranking

ITEMS = 2_000
BATCH = 64
FAULTS: Mapping[str, str] = {
    "long": "more than k items",
    "repeated": "an item twice",
    "unknown": "an item that the shop lacks",
    "withdrawn": "an item out of stock or hidden by the shop",
    "hidden": "an item that the question hides",
    "seen": "an item that the shopper has done with",
    "filtered": "an item of another category or merchant than asked for",
    "expired": "an item without a promotion that is valid, or with one shown that is not",
    "old": "an item among new arrivals that is none",
    "mixed": "another model version than the one served",
}
"""What an answer may be at fault for, in words."""
KNOBS = SurfacePolicy(
    diversity=0.3,
    category_quota=5,
    merchant_quota=4,
    long_tail_share=0.2,
    fresh_share=0.2,
    fairness=0.5,
    exploration_share=0.1,
)
_DONE_WITH = {"purchase", "dismiss"}
_SEEN = {
    Surface.HOME: _DONE_WITH,
    Surface.NEW_ARRIVALS: _DONE_WITH,
    Surface.PROMOTION: _DONE_WITH,
    Surface.CART: {"dismiss"},
    Surface.DETAIL: {"dismiss"},
    Surface.SEARCH: {"dismiss"},
}
_WORDS = ("green tea", "steel", "pot cup", "cotton shirt", "nothing like it")


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What the judge knows of a run folder.

    Attributes:
        withdrawn, new: item ids.
        promoted: item id -> spans of Unix seconds, half open, in which it has a promotion.
        facts: item id -> its category and merchant.
    """

    folder: Path
    withdrawn: frozenset[str]
    new: frozenset[str]
    promoted: Mapping[str, list[tuple[int, int]]]
    facts: Mapping[str, tuple[str, str]]

    def has_promotion(self, item: str, now: int) -> bool:
        """Whether an item has a promotion at a moment."""
        return any(starts <= now < ends for starts, ends in self.promoted.get(item, ()))


def make_shop(folder: Path, *, items: int = ITEMS, seed: int = 7) -> Shop:
    """Make a run folder; one item in ten is out of stock, one in ten hidden, three in ten have promotions."""
    make_world(folder, items, seed=seed)
    draws = np.random.default_rng(seed)
    stock, hidden = draws.random(items) < 0.9, draws.random(items) < 0.1
    path = folder / "catalogue.parquet"
    table = pl.read_parquet(path).drop("promotion")
    table = table.with_columns(in_stock=pl.Series(stock), hidden=pl.Series(hidden))
    table.write_parquet(path)
    promoted: dict[str, list[tuple[int, int]]] = {}
    for row in draws.integers(0, items, 3 * items // 10).tolist():
        starts = NOW + DAY * int(draws.integers(-60, 10))
        promoted.setdefault(item_id(row), []).append((starts, starts + DAY * int(draws.integers(1, 30))))
    _promotions(promoted).write_parquet(folder / PROMOTIONS_FILE)
    columns = table.select("item_id", "category", "merchant_id").iter_rows()
    return Shop(
        folder=folder,
        withdrawn=frozenset(item_id(row) for row in np.flatnonzero(~stock | hidden).tolist()),
        new=frozenset(table.filter("new_arrival")["item_id"].to_list()),
        promoted=promoted,
        facts={item: (category, merchant) for item, category, merchant in columns},
    )


def _promotions(promoted: Mapping[str, list[tuple[int, int]]]) -> pl.DataFrame:
    rows = [
        {
            **dict.fromkeys(SCHEMA),
            "promotion_id": f"{item}-{place}",
            "item_id": item,
            "kind": "discount",
            "starts": starts,
            "ends": ends,
        }
        for item, spans in promoted.items()
        for place, (starts, ends) in enumerate(spans)
    ]
    return pl.DataFrame(rows, schema=dict(SCHEMA))


def questions(shop: Shop, seed: int) -> Iterator[RankQuery]:
    """Ever more questions, the same for the same seed."""
    chance = random.Random(seed)
    ids = list(shop.facts)
    while True:
        surface = chance.choice(list(Surface))
        item = chance.choice(ids)
        category, merchant = shop.facts[item]
        yield RankQuery(
            surface=surface,
            k=chance.choice((1, 5, 10, 20)),
            timestamp=NOW - chance.randrange(40 * DAY),
            history=_events(chance, ids, chance.choice((0, 3, 12))),
            session=_events(chance, ids, chance.choice((0, 0, 2))),
            words=chance.choice(_WORDS) if surface is Surface.SEARCH else "",
            item_id=item if surface in (Surface.DETAIL, Surface.CART) else "",
            exclude_seen=chance.random() < 0.8,
            hidden=chance.sample(ids, 5),
            categories=(category,) if chance.random() < 0.1 else (),
            merchants=(merchant,) if chance.random() < 0.1 else (),
            reasons=chance.random() < 0.1,
            seed=str(chance.random()),
        )


def _events(chance: random.Random, ids: list[str], count: int) -> list[PastEvent]:
    """Events with few items, so that they are often the best candidates too."""
    near = chance.randrange(len(ids) - 40)
    return [
        PastEvent(item_id=ids[near + chance.randrange(40)], kind=chance.choice(KINDS), time=NOW - 90 * DAY)
        for _ in range(count)
    ]


def faults_of(shop: Shop, query: RankQuery, ranking: Ranking, version: str) -> list[str]:
    """The keys of `FAULTS` that an answer is at fault for."""
    listed = [ranking.snapshot.items.item_id(item) for item in ranking.items.tolist()]
    items = set(listed)
    known = [shop.facts[item] for item in listed if item in shop.facts]
    now = query.timestamp
    found = {
        "long": len(listed) > query.k,
        "repeated": len(items) < len(listed),
        "unknown": len(known) < len(listed),
        "withdrawn": not items.isdisjoint(shop.withdrawn),
        "hidden": not items.isdisjoint(query.hidden),
        "seen": not items.isdisjoint(_done_with(query)),
        "filtered": bool(query.categories and any(category not in query.categories for category, _ in known))
        or bool(query.merchants and any(merchant not in query.merchants for _, merchant in known)),
        "expired": query.surface is Surface.PROMOTION
        and not (
            all(shop.has_promotion(item, now) for item in items)
            and all(place.ends is not None and now < place.ends for place in ranking.promotions.values())
        ),
        "old": query.surface is Surface.NEW_ARRIVALS and not items <= shop.new,
        "mixed": ranking.model_version != version,
    }
    return [fault for fault, holds in found.items() if holds]


def _done_with(query: RankQuery) -> set[str]:
    """The items that an answer must leave out, by the words of `RankRequest.exclude_seen`."""
    barred = {query.item_id} if query.surface is Surface.DETAIL else set[str]()
    if not query.exclude_seen:
        return barred
    done = [*_told(query.history), *_told(query.session)]
    barred |= {item for item, kind in done if kind in _SEEN[query.surface]}
    if query.surface is Surface.CART:
        put_in = {item for item, kind in done if kind == "add_to_cart"}
        bought = {item for item, kind in done if kind == "purchase"}
        basket = {item for item, kind in _told(query.session) if kind == "add_to_cart"}
        barred |= {query.item_id} | (put_in - bought) | basket
    return barred


def _told(events: Events | Sequence[PastEvent] | None) -> list[tuple[str, str]]:
    """Items and kinds of some events."""
    told = events if isinstance(events, Events) else Events.of(events or ())
    return [(item, KINDS[kind]) for item, kind in zip(told.item_ids, told.kinds, strict=True)]


def check_answers(
    shop: Shop, engine: Engine, count: int, *, seed: int = 1, step: Callable[[], None] = lambda: None
) -> Counter[str]:
    """Ask and judge so many questions; counts faults, answers (`answers`) and listed items (`items`)."""
    found: Counter[str] = Counter()
    asked = questions(shop, seed)
    version = engine.snapshot.version
    while found["answers"] < count:
        queries = [next(asked) for _ in range(min(BATCH, count - found["answers"]))]
        for query, ranking in zip(queries, engine.rank(queries), strict=True):
            found.update(faults_of(shop, query, ranking, version))
            found["items"] += len(ranking.items)
        found["answers"] += len(queries)
        step()
    return found


def answer_rows(folder: Path, count: int, *, step: Callable[[], None] = lambda: None) -> list[Row]:
    """Judge `count` answers, half of them with every knob on: a row for each fault, which must be 0."""
    shop = make_shop(folder)
    registry, catalogue = Registry(folder / "registry"), folder / "catalogue.parquet"
    found: Counter[str] = Counter()
    for seed, policy in enumerate((Policy(), Policy(surfaces=dict.fromkeys(Surface, KNOBS)))):
        engine = Engine.load(registry, catalogue, policy=policy)
        found += check_answers(shop, engine, count // 2, seed=seed, step=step)
    rows = [
        Row(
            measure=f"answers with {words}, of {found['answers']:,}",
            value=found[fault],
            unit="answers",
            target=0,
            at_least=False,
        )
        for fault, words in FAULTS.items()
    ]
    return [*rows, Row(measure="items in the answers judged", value=found["items"], unit="items")]
