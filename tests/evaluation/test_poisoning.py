"""A promotion attack by a twentieth of the shoppers of a small shop, and what the watch leaves of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from evaluation_world import Alternating, dataset, without_content

from evaluation.attack import Promotion
from evaluation.bench.poisoning import attack_rows, price_rows
from evaluation.poisoning import MALICIOUS, Battlefield, Price, Reached, battlefield
from evaluation.split import SplitKind, split
from model.schema import Schema
from privacy.plan import Stage, Trust
from proto.federation import DEVICES, EVERYONE, Task
from server.coordination.config import Participants
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, Dataset
from simulation.federated import FederationSettings

SHOPPERS, ITEMS, EVENTS, TASTES = 600, 200, 15_000, 10


def long_tailed() -> Dataset:
    """Shoppers who half of the time buy what everybody buys, and else what is to their taste."""
    random = np.random.default_rng(3)
    popularity = 1 / (1.0 + np.arange(ITEMS))
    who = random.integers(0, SHOPPERS, EVENTS)
    drawn = random.choice(ITEMS, EVENTS, p=popularity / popularity.sum())
    own = np.minimum(drawn // TASTES * TASTES + who % TASTES, ITEMS - 1)
    what = np.where(random.random(EVENTS) < 0.5, own, drawn)
    when = random.integers(1_000, 1_000_000, EVENTS)
    rows = zip(who.tolist(), what.tolist(), when.tolist(), strict=True)
    named = [f"i{item:04d}" for item in range(ITEMS)]
    return dataset(((f"s{s:04d}", named[i], "purchase", t) for s, i, t in rows), items=named)


def whole(data: Dataset) -> Dataset:
    """Give events and items all the columns that a data set has."""
    frames = []
    for frame, schema in ((data.events, EVENT_SCHEMA), (data.items, ITEM_SCHEMA)):
        absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in schema.items() if name not in frame]
        frames.append(frame.with_columns(absent).with_columns(merchant_id=pl.lit("m")).select(list(schema)))
    return replace(data, events=frames[0], items=frames[1])


@pytest.fixture(scope="module")
def field() -> Iterator[Battlefield]:
    """600 shoppers, of whom 30 attack; every stage of a run, under noise."""
    with pytest.MonkeyPatch.context() as patch:
        without_content(patch)
        patch.setattr("evaluation.poisoning.encoder_named", lambda _name: Alternating())
        data = whole(long_tailed())
        federation = FederationSettings(
            participants=Participants.SHOPPERS,
            trust=Trust.CENTRAL,
            epsilon=8.0,
            delta=1e-3,
            rounds=2,
            clock=str(data.clock),
            seed=1,
            noise_seed=1,
            dim=16,
        )
        with battlefield(split(data, SplitKind.LAST), data.items, federation) as found:
            yield found


@pytest.fixture(scope="module")
def reached(field: Battlefield) -> Reached:
    """An attack for an item that hardly anybody is shown."""
    return field.attack(Promotion(target=field.target_at(0.9), items=ITEMS), noise_seed=3)


def test_without_the_watch_the_attack_works(field: Battlefield, reached: Reached) -> None:
    """Else a defence would be held against nothing: a twentieth of the shoppers makes the target an item for most."""
    assert field.malicious == round(MALICIOUS * SHOPPERS) == SHOPPERS - field.population.participants
    assert reached.before < reached.average
    assert reached.growth(reached.pushed) > 3.0
    assert reached.named


def test_with_the_watch_the_exposure_of_the_target_at_most_doubles(reached: Reached) -> None:
    """Among honest shoppers, of whom the watch has seen nothing."""
    assert reached.growth(reached.held) <= 2.0


def test_the_watch_costs_at_most_a_hundredth_where_nobody_attacks(field: Battlefield) -> None:
    """Two honest versions that differ by their noise alone."""
    price = field.price()
    assert price.released >= 0.99 * price.learned > 0.0


def test_a_malicious_device_never_passes_the_clipping_norm() -> None:
    """What it pushes in each stage has that length and no more, and goes to the parts of the stage."""
    random = np.random.default_rng(1)
    head = np.arange(20)
    heads = {"head": head, "popularity": 1.0 + random.random(20)}
    weights = Schema(items=ITEMS, content_features=1, dim=4).zeros()
    model: dict[str, Any] = {
        name: value for name, value in weights.items() if name not in ("item_id", "content")
    }
    model |= {"gain": np.ones(4, np.float32), "q": np.full(ITEMS, 1 / ITEMS)}
    model |= {"item_vectors": random.normal(0, 1, (ITEMS, 4)).astype(np.float32)}
    asked: dict[Stage, dict[str, Any]] = {
        Stage.COUNTS: {},
        Stage.GRAM: heads,
        Stage.SUBSPACE: {**heads, f"basis/{DEVICES}": np.linalg.qr(random.normal(0, 1, (20, 6)))[0]},
        Stage.GRADIENT: model,
        Stage.BASKETS: {},
    }
    for stage, public in asked.items():
        parts = Promotion(target=3, items=ITEMS)(task_of(stage), public)
        lengths = [float(np.square(value).sum()) for value in parts.values()]
        assert sum(lengths) ** 0.5 == pytest.approx(0.0 if stage is Stage.BASKETS else 2.5, rel=1e-5)
        assert all(name == DEVICES or name.startswith(EVERYONE) for name in parts)
    assert Promotion(target=3, items=ITEMS, counted=0.1)(task_of(Stage.COUNTS), {})[DEVICES].sum() == 0.25


def task_of(stage: Stage) -> Task:
    """A task of that stage with clipping norm 2.5."""
    return Task(
        release_id="r",
        stage=str(stage),
        round=1,
        model_hash="h",
        trust="central",
        clipping_norm=2.5,
        noise_multiplier=1.0,
        mu2=1.0,
        cap_mu2=1.0,
        steps=1,
        expected_shoppers=1,
        clock=True,
        seed=1,
        noise_seed=1,
    )


def test_the_bench_holds_growth_and_price_against_their_targets() -> None:
    """Growth is of what the target had, or of what an average item has where it had less."""
    rows = {row.measure: row for row in price_rows("toy", Price(learned=0.10, released=0.098, damped=7))}
    assert rows["toy: NDCG@10 without an attack, watched / not watched"].met is False
    found = Reached(
        before=0.0, average=0.01, pushed=0.3, held=0.019, ndcg_pushed=0.1, ndcg_held=0.1, named=True
    )
    rows = {row.measure: row for row in attack_rows("toy", found)}
    assert rows["toy: exposure, not watched / before"].value == pytest.approx(30.0)
    assert rows["toy: exposure, not watched / before"].met is None
    assert rows["toy: exposure, watched / before"].met is True
    popular = Reached(
        before=0.1, average=0.01, pushed=0.3, held=0.21, ndcg_pushed=0.1, ndcg_held=0.1, named=True
    )
    assert attack_rows("toy", popular)[2].met is False
