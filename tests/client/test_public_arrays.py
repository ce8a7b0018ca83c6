"""Arrays that a coordinator sends: none makes an answer, or its failure, tell what one history holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shopper_world import DAY, ITEMS, TRAINED, Event, Model, norm_of, one_of, random_shoppers, shoppers_of
from test_fusion import DRAW, START, UNITS, busy_shoppers
from test_work import HEAD, devices, merchant, task

from client import work
from client.cohort import Unit
from client.fusion import FusionModel, fusion_rows
from client.public import LARGEST, LEAST_POSITIVE, check_public
from client.shoppers import Shoppers
from model.fusion_learning import SIDE
from model.gradient import cohort_gradient
from model.losses import Loss
from privacy.plan import Trust
from proto.federation import AXES, BASIS, DEVICES, FUSION_START, FUSION_UNITS, MERCHANT_PART, WireError

Public = dict[str, NDArray[np.generic]]

TOLD = 2
"""The item whose presence in a history a coordinator wants to know."""

STAGES: dict[str, Callable[..., Any]] = {
    "counts": work.counts,
    "gram": work.gram,
    "subspace": work.subspace,
    "baskets": work.baskets,
    "gradient": work.gradient,
    "fusion": work.fusion,
}
QUIET: list[Event] = [(0, "purchase", 0), (1, "purchase", 0), (5, "view", DAY), (7, "purchase", DAY)]
WITH: list[Event] = [(TOLD, "purchase", 0), *QUIET[:3], (TOLD, "view", DAY), *QUIET[3:]]


def honest(seed: int = 1) -> dict[str, Public]:
    """What a coordinator sends at each stage."""
    random = np.random.default_rng(seed)
    model = {**Model(seed).public(), "attention": random.normal(size=3).astype(np.float32)}
    complement = random.normal(size=(ITEMS, 2)).astype(np.float32)
    return {
        "counts": {},
        "gram": dict(HEAD),
        "subspace": {**HEAD, BASIS + DEVICES: random.normal(size=(4, 3)).astype(np.float32)},
        "baskets": {AXES: random.normal(size=(ITEMS, 3)).astype(np.float32)},
        "gradient": model,
        "fusion": {**model, "complement": complement, FUSION_START: START, FUSION_UNITS: UNITS},
    }


def _scaled(value: NDArray[np.generic], factor: float) -> NDArray[np.float32]:
    return np.asarray(np.asarray(value, np.float32) * np.float32(factor))


def _overflowing(public: Public) -> Public:
    """The attack: what is read of the item is beyond all others, and products with it overflow."""
    sent = dict(public)
    for name in {"item_vectors", "complement", AXES, "gain", BASIS + DEVICES} & public.keys():
        sent[name] = _scaled(public[name], 1e15)
    for name, row in (("item_vectors", TOLD), ("complement", TOLD), (AXES, TOLD), (BASIS + DEVICES, 1)):
        if name in sent:
            sent[name][row] = 1e25
    return sent


def _with_one(value: float) -> Callable[[Public], Public]:
    """One row of each table holds a value that is no number."""

    def spoiled(public: Public) -> Public:
        sent = {name: array.copy() for name, array in public.items()}
        for name, row in (("item_vectors", TOLD), ("complement", TOLD), (AXES, TOLD), (BASIS + DEVICES, 1)):
            if name in sent:
                sent[name][row] = value
        return sent

    return spoiled


def _tiny_units(public: Public) -> Public:
    """Features in units so small, and a head so unequal, that their quotients overflow."""
    sent = dict(public)
    if FUSION_UNITS in sent:
        sent[FUSION_UNITS] = np.full(4, 1e-300)
    if "popularity" in sent:
        sent["popularity"] = np.array([1e-300, 1e300, 1e-300, 1.0])
    return sent


ATTACKS: dict[str, Callable[[Public], Public]] = {
    "overflow": _overflowing,
    "nan": _with_one(np.nan),
    "infinity": _with_one(np.inf),
    "units": _tiny_units,
}


def answer(stage: str, unit: Unit, public: Public, trust: Trust = Trust.CENTRAL) -> dict[str, Any]:
    """A unit's answer by part."""
    found = STAGES[stage](task(stage, trust, basket_kinds="purchase,view", steps=2), unit, public, ITEMS)
    return dict(found) if isinstance(found, Mapping) else {"": found}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("stage", "loss"),
    [
        *((stage, Loss.SAMPLED_SOFTMAX) for stage in STAGES),
        ("gradient", Loss.BPR),
        ("gradient", Loss.FOCAL_BCE),
    ],
)
def test_whether_and_what_an_answer_holds_does_not_depend_on_overflowing_histories(
    stage: str, attack: str, loss: Loss
) -> None:
    """With the item or without it there is an answer of finite numbers, at most C long before its noise."""
    public = ATTACKS[attack](honest()[stage])
    for events in (WITH, QUIET, []):
        shoppers = shoppers_of([events])
        for unit in (devices(shoppers), merchant(shoppers, np.arange(ITEMS))):
            for seed in range(6):
                asked = task(stage, basket_kinds="purchase,view", loss=str(loss), seed=seed)
                plain, noisy = (
                    STAGES[stage](replace(asked, trust=str(trust), steps=2), unit, public, ITEMS)
                    for trust in (Trust.CENTRAL, Trust.LOCAL)
                )
                parts = plain if isinstance(plain, dict) else {"": plain}
                assert norm_of(parts) <= asked.clipping_norm * (1 + 1e-5)
                for part in noisy.values() if isinstance(noisy, dict) else [noisy]:
                    assert np.isfinite(part).all()


@pytest.mark.parametrize("attack", ["overflow", "nan", "infinity"])
@pytest.mark.parametrize("stage", ["gradient", "fusion", "baskets"])
def test_a_share_that_is_not_finite_takes_nothing_from_the_others(stage: str, attack: str) -> None:
    """The sum of a cohort is that of its members one by one, whoever among them has no norm."""
    public = ATTACKS[attack](honest()[stage])
    if stage == "gradient":
        public["item_vectors"] = np.where(
            np.arange(ITEMS)[:, None] == TOLD, public["item_vectors"], Model(1).vectors
        ).astype(np.float32)
        public["gain"] = Model(1).weights["gain"]
    shoppers = busy_shoppers(3, 30)
    together = answer(stage, devices(shoppers), public)
    alone = [answer(stage, devices(one_of(shoppers, number)), public) for number in range(30)]
    lengths = np.array([norm_of(parts) for parts in alone])
    assert stage == "fusion" or ((lengths > 0).any() and (lengths == 0).sum() > 1)
    for name, value in together.items():
        np.testing.assert_allclose(value, np.sum([parts[name] for parts in alone], axis=0), atol=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_what_honest_coordinators_send_is_taken(stage: str) -> None:
    """By devices and merchants, also where a merchant has directions of its own."""
    shoppers = random_shoppers(1, 5)
    units = [devices(shoppers), merchant(shoppers)]
    check_public(stage, honest()[stage], ITEMS, units)
    if stage == "subspace":
        own = {BASIS + MERCHANT_PART + "m1": np.ones((2, 1)), BASIS + MERCHANT_PART + "m2": np.ones((9, 9))}
        check_public(stage, {**HEAD, **own}, ITEMS, units[1:])


def _changes() -> list[tuple[str, str, Any, str]]:
    """Stage, array, what it is made of, and what the refusal says."""
    found: list[tuple[str, str, Any, str]] = []
    for stage, public in honest().items():
        for name, value in sorted(public.items()):
            if name not in ("attention", "complement"):
                found.append((stage, name, None, f"lacks the array '{name}'"))
            found.append((stage, name, np.concatenate([value, value[:1]]), " has shape"))
            found.append((stage, name, value[None], " has shape"))
            found.append((stage, name, value.astype(np.complex128), f"'{name}' has type"))
            if value.dtype.kind == "f":
                for bad in (np.nan, np.inf, -np.inf, 1e25, -1e25):
                    spoiled = value.copy()
                    spoiled.flat[-1] = bad
                    found.append((stage, name, spoiled, f"'{name}' has values that are not within"))
    found.append(("gram", "head", np.array([0, 2, 3, ITEMS]), "'head' has values"))
    found.append(("gram", "head", np.array([0, 2, 3, -1]), "'head' has values"))
    found.append(("gram", "popularity", np.array([1.0, 0.0, 1.0, 1.0]), "'popularity' has values"))
    found.append(("fusion", FUSION_UNITS, np.array([1.0, 0.0, 1.0, 1.0]), "'fusion_units' has values"))
    found.append(("gradient", "q", np.full(ITEMS, -0.1), "'q' has values"))
    found.append(("gradient", "surprise", np.ones(3), "'surprise' that the stage does not declare"))
    found.append(("counts", "head", np.arange(3), "'head' that the stage does not declare"))
    return found


@pytest.mark.parametrize(("stage", "name", "value", "reason"), _changes())
def test_an_array_of_another_shape_type_or_size_is_refused_by_name(
    stage: str, name: str, value: NDArray[np.generic] | None, reason: str
) -> None:
    """By public facts alone: neither stores nor shoppers are looked at."""
    public = honest()[stage]
    if value is None:
        del public[name]
    else:
        public[name] = value
    nobody = devices(Shoppers((), shoppers_of([]).histories, np.zeros(0, np.uint64)))
    with pytest.raises(WireError, match=reason):
        check_public(stage, public, ITEMS, [nobody])


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("seed", range(3))
def test_no_history_overflows_within_the_bound(seed: int, loss: Loss) -> None:
    """At the bound itself every share is finite as it is: what reaches further is refused, not cleared."""
    random = np.random.default_rng(seed)
    fixed = {"q", FUSION_UNITS}
    public = {
        name: value
        if name in fixed
        else np.asarray(random.choice([-LARGEST, LARGEST], value.shape), value.dtype)
        for name, value in honest(seed)["fusion"].items()
    }
    check_public("fusion", public, ITEMS, [])
    shoppers, model = random_shoppers(seed, 30, longest=1000), Model(seed)
    weights = {name: public[name].astype(np.float32) for name in public}
    vectors = weights["item_vectors"]
    gradient = cohort_gradient(weights, vectors, model.examples(shoppers), model.log_q, loss)
    assert np.isfinite(gradient.squared_norms(TRAINED | {"attention"})).all()
    released = FusionModel(
        weights=weights,
        vectors=vectors,
        probabilities=model.q,
        start=public[FUSION_START].astype(np.float64),
        units=np.full(SIDE, LEAST_POSITIVE),
    )
    rows = fusion_rows(released, shoppers.histories, shoppers.keys, DRAW)
    assert np.isfinite(np.linalg.norm(rows, axis=1)).all() and rows.any()
