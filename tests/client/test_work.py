"""What a unit answers in a round: its own items, its own noise, and the same in any cut of the cohort."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from shopper_world import DIM, ITEMS, TRAINED, Arrays, Model, norm_of, one_of, random_shoppers

from client import work
from client.cohort import Unit
from client.contribution import HeadHistories, count_share, gradient_share, gram_share, subspace_share
from client.shoppers import Shoppers
from model.features import Histories
from model.head import Head
from model.losses import Loss
from model.sampling import Examples, draw_examples
from privacy.mechanism import SystemNoise
from privacy.plan import Trust
from proto.federation import BASIS, DEVICES, MERCHANT_PART, Task, WireError

OWN = np.array([1, 2, 5, 7])
EVERYTHING = np.arange(ITEMS)
HEAD: dict[str, NDArray[np.generic]] = {
    "head": np.array([0, 2, 3, 7]),
    "popularity": np.array([5.0, 1, 3, 2]),
}
SHARED: NDArray[np.float32] = np.linalg.qr(np.random.default_rng(4).normal(size=(4, 3)))[0].astype(np.float32)
WITH_BASIS: dict[str, NDArray[np.generic]] = {**HEAD, BASIS + DEVICES: SHARED}
OWN_HEAD = Head(np.array([2, 7]), np.array([1.0, 2.0]))
"""What `merchant` owns of it."""

Update = dict[str, NDArray[np.float64]]


def task(stage: str = "gradient", trust: Trust = Trust.CENTRAL, **changes: object) -> Task:
    """What a coordinator asks in round 3, with seeds as in a simulation."""
    asked = Task(
        release_id="run/3",
        stage=stage,
        round=3,
        model_hash="0" * 16,
        trust=str(trust),
        clipping_norm=0.5,
        noise_multiplier=2.0,
        mu2=0.25,
        cap_mu2=1.0,
        steps=1,
        expected_shoppers=5,
        clock=True,
        seed=17,
        noise_seed=23,
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


def devices(shoppers: Shoppers) -> Unit:
    """Devices, one for each shopper, over the whole catalogue."""
    return Unit(part=DEVICES, holder=DEVICES, participants=len(shoppers), shoppers=shoppers, items=EVERYTHING)


def merchant(shoppers: Shoppers, items: NDArray[np.int64] = OWN, name: str = "m1") -> Unit:
    """A merchant with all of its shoppers and only its own items."""
    return Unit(part=MERCHANT_PART + name, holder=name, participants=1, shoppers=shoppers, items=items)


def added(parts: list[Update]) -> Update:
    """The sum of several updates."""
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def test_a_cohort_of_devices_answers_what_they_would_one_by_one() -> None:
    """Counts, both Grams and gradient of one message equal the sum of a message per device, to 1e-5."""
    shoppers, model = random_shoppers(1, 40), Model(1)
    whole, alone = devices(shoppers), [devices(one_of(shoppers, number)) for number in range(40)]
    by_one = np.sum([work.counts(task("counts"), unit, {}, ITEMS) for unit in alone], axis=0)
    np.testing.assert_allclose(work.counts(task("counts"), whole, {}, ITEMS), by_one, atol=1e-9)
    for stage, compute in (("gram", work.gram), ("subspace", work.subspace)):
        by_one = np.sum([compute(task(stage), unit, WITH_BASIS, ITEMS) for unit in alone], axis=0)
        np.testing.assert_allclose(compute(task(stage), whole, WITH_BASIS, ITEMS), by_one, atol=1e-9)
    together = work.gradient(task(), whole, model.public(), ITEMS)
    singly = added([work.gradient(task(), unit, model.public(), ITEMS) for unit in alone])
    assert together.keys() == TRAINED
    for name, total in together.items():
        np.testing.assert_allclose(total, singly[name], atol=1e-5, err_msg=name)


def test_statistics_of_a_merchant_cover_its_own_items_alone() -> None:
    """Counts have one entry per own item; the Gram covers the head items among them, norm C per shopper."""
    shoppers = random_shoppers(2, 30)
    unit = merchant(shoppers)
    counted = work.counts(task("counts"), unit, {}, ITEMS)
    np.testing.assert_array_equal(counted, count_share(shoppers, ITEMS, 0.5)[OWN])
    triangle = work.gram(task("gram"), unit, HEAD, ITEMS)
    own = HeadHistories.of(shoppers, OWN_HEAD, ITEMS)
    np.testing.assert_array_equal(triangle, gram_share(own, 0.5))
    elsewhere = merchant(shoppers, np.array([4, 6]))
    assert work.gram(task("gram"), elsewhere, HEAD, ITEMS).shape == (0,)


def test_a_merchant_reads_its_rows_of_the_basis_that_all_share() -> None:
    """Beside devices it answers in all shared coordinates, also where no head item is its own."""
    shoppers = random_shoppers(2, 30)
    found = work.subspace(task("subspace"), merchant(shoppers), WITH_BASIS, ITEMS)
    own = HeadHistories.of(shoppers, OWN_HEAD, ITEMS)
    np.testing.assert_array_equal(found, subspace_share(own, SHARED[[1, 3]], 0.5))
    assert found.shape == (6,) and found.any()
    elsewhere = merchant(shoppers, np.array([4, 6]))
    assert work.subspace(task("subspace"), elsewhere, WITH_BASIS, ITEMS).tolist() == [0.0] * 6


def test_a_merchant_with_a_basis_of_its_own_reads_no_other() -> None:
    """Where merchants are alone each is told its own directions, over its own head items."""
    shoppers, own_basis = random_shoppers(2, 30), np.array([[0.6], [-0.8]], dtype=np.float32)
    other = np.ones((2, 2), dtype=np.float32)
    public = {**HEAD, BASIS + MERCHANT_PART + "m1": own_basis, BASIS + MERCHANT_PART + "m2": other}
    found = work.subspace(task("subspace"), merchant(shoppers), public, ITEMS)
    own = HeadHistories.of(shoppers, OWN_HEAD, ITEMS)
    np.testing.assert_array_equal(found, subspace_share(own, own_basis, 0.5))
    assert found.shape == (1,) and found[0] > 0


def test_a_merchant_trains_in_its_own_catalogue() -> None:
    """Events, vectors, priors and probabilities are cut to the merchant's items; q is scaled to sum to 1."""
    shoppers, model = random_shoppers(3, 25), Model(3)
    found = work.gradient(task(), merchant(shoppers), model.public(), ITEMS)
    histories = shoppers.histories
    own = histories.keep(np.isin(histories.items, OWN))
    numbers = np.searchsorted(OWN, own.items).astype(np.int32)
    small = Model(3)
    small.vectors = model.vectors[OWN]
    small.weights["item_bias"] = model.weights["item_bias"][OWN]
    small.q = model.q[OWN] / model.q[OWN].sum()
    shop = Shoppers(shoppers.pseudonyms, Histories(own.indptr, numbers, own.kinds, own.times), shoppers.keys)
    expected = gradient_share(small.weights, small.vectors, drawn(small, shop), np.log(small.q), TRAINED, 0.5)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    assert norm_of(expected) > 0


def drawn(model: Model, shoppers: Shoppers) -> Examples:
    """The examples that the task of this page asks for."""
    return draw_examples(shoppers.histories, shoppers.keys, model.q, seed=17, round_number=3, clock=True)


def test_the_model_that_is_sent_decides_what_is_trained() -> None:
    """Item vectors, bias and probabilities are inputs; a parameter that is not sent is not answered."""
    shoppers, public = random_shoppers(4, 6), Model(4).public()
    assert work.gradient(task(), devices(shoppers), public, ITEMS).keys() == TRAINED


def noise_of(released: NDArray[np.float64], true: NDArray[np.float64], std: float) -> float:
    """Two-sided p-value that the difference is normal noise of `std`."""
    squares = float(np.square((released - true) / std).sum())
    return 2 * float(min(stats.chi2.cdf(squares, true.size), stats.chi2.sf(squares, true.size)))


@pytest.mark.parametrize("participants", [1, 30])
def test_under_local_trust_every_participant_adds_its_own_noise(participants: int) -> None:
    """Each of n participants adds z C; a merchant is one, a group of devices as many as it has."""
    catalogue = 4000
    shoppers = random_shoppers(5, 30)
    unit = replace(devices(shoppers), participants=participants, items=np.arange(catalogue))
    true = work.counts(task("counts"), unit, {}, catalogue)
    noisy = work.counts(task("counts", Trust.LOCAL), unit, {}, catalogue)
    std = 2.0 * 0.5 * np.sqrt(participants)
    assert noise_of(noisy, true, std) > 1e-6
    assert noise_of(noisy, true, 1.1 * std) < 1e-6 and noise_of(noisy, true, 0.9 * std) < 1e-6
    head: Arrays = {"head": np.arange(80), "popularity": np.ones(80), BASIS + DEVICES: np.eye(80)}
    for stage, compute in (("gram", work.gram), ("subspace", work.subspace)):
        true = compute(task(stage), unit, dict(head), catalogue)
        noisy = compute(task(stage, Trust.LOCAL), unit, dict(head), catalogue)
        assert noise_of(noisy, true, std) > 1e-6
        assert noise_of(noisy, true, 1.1 * std) < 1e-6 and noise_of(noisy, true, 0.9 * std) < 1e-6


@pytest.mark.parametrize("trust", [Trust.CENTRAL, Trust.NONE])
@pytest.mark.parametrize("stage", ["counts", "gram", "subspace"])
def test_under_the_other_trust_models_the_bounded_sum_leaves_unnoised(stage: str, trust: Trust) -> None:
    """The coordinator adds the noise, or nobody does; twice the same question has the same answer."""
    unit = devices(random_shoppers(6, 10))
    compute = {"counts": work.counts, "gram": work.gram, "subspace": work.subspace}[stage]
    first, second = (compute(task(stage, trust, noise_seed=-1), unit, WITH_BASIS, ITEMS) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_production_noise_comes_from_the_operating_system_and_is_never_repeated() -> None:
    """A negative noise seed is the system's entropy; a seed gives each unit, stage and round its own stream."""
    unit = devices(random_shoppers(7, 10))
    secret = task("counts", Trust.LOCAL, noise_seed=-1)
    assert isinstance(work.local_mechanism(secret, unit).noise, SystemNoise)
    assert not (work.counts(secret, unit, {}, ITEMS) == work.counts(secret, unit, {}, ITEMS)).any()
    seeded = task("counts", Trust.LOCAL)
    others = [
        (seeded, unit),
        (replace(seeded, round=4), unit),
        (replace(seeded, stage="gram"), unit),
        (replace(seeded, noise_seed=24), unit),
        (seeded, merchant(unit.shoppers)),
        (seeded, devices(one_of(unit.shoppers, 3))),
    ]
    streams = [tuple(work.local_mechanism(*asked).noise.normal(4)) for asked in others]
    assert len(set(streams)) == len(streams)
    assert streams[0] == tuple(work.local_mechanism(seeded, unit).noise.normal(4))


def test_production_moments_and_negatives_are_drawn_anew_each_time() -> None:
    """A negative seed takes the system's entropy; with a seed the same round gives the same gradient."""
    unit, public = devices(random_shoppers(8, 20)), Model(8).public()
    secret = task(seed=-1)
    first, second = (work.gradient(secret, unit, public, ITEMS)["gain"] for _ in range(2))
    assert not np.array_equal(first, second)
    first, second = (work.gradient(task(), unit, public, ITEMS)["gain"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other_round = work.gradient(task(round=4), unit, public, ITEMS)["gain"]
    assert not np.array_equal(first, other_round)


@pytest.mark.parametrize("trust", list(Trust))
def test_the_loss_of_the_task_is_the_loss_of_every_gradient(trust: Trust) -> None:
    """Devices, and merchants who train with Opacus, both minimise what is asked for."""
    shoppers, public = random_shoppers(8, 20), Model(8).public()
    for unit in (devices(shoppers), merchant(shoppers, EVERYTHING)):
        quiet = task(trust=trust, noise_multiplier=1e-9)
        found = [work.gradient(replace(quiet, loss=str(loss)), unit, public, ITEMS)["gain"] for loss in Loss]
        assert not np.allclose(found[0], found[1]) and not np.allclose(found[0], found[2])
        plain = work.gradient(task(loss="bpr"), unit, public, ITEMS)["gain"]
        np.testing.assert_allclose(found[1], plain, atol=2e-5)


def test_an_unknown_loss_is_named_with_those_that_are_known() -> None:
    """The message says what to do."""
    with pytest.raises(WireError, match=r"'hinge'.*sampled_softmax, bpr, focal_bce.*update it"):
        work.loss_of(task(loss="hinge"))


STEPS = 3


@pytest.mark.parametrize("maker", [devices, merchant])
def test_a_local_gradient_is_the_mean_of_its_noised_steps(maker: object) -> None:
    """Without shoppers' influence it is noise of z C sqrt(n) / sqrt(steps) in every entry, per participant."""
    shoppers, model = random_shoppers(9, 12), Model(9, dim=DIM)
    assert callable(maker)
    unit: Unit = maker(shoppers)
    nothing = np.zeros(0)
    noises = []
    for noise_seed in range(30):
        asked = task(trust=Trust.LOCAL, steps=STEPS, noise_seed=noise_seed, noise_multiplier=200.0)
        update = work.gradient(asked, unit, model.public(), ITEMS)
        assert {name: value.shape for name, value in update.items()} == {
            name: model.weights[name].shape for name in TRAINED
        }
        noises.append(np.concatenate([nothing, *(value.ravel() for value in update.values())]))
    noise = np.concatenate(noises)
    std = 200.0 * 0.5 * np.sqrt(unit.participants / STEPS)
    assert noise_of(noise, np.zeros(noise.size), std) > 1e-6
    assert noise_of(noise, np.zeros(noise.size), 1.1 * std) < 1e-6
    assert noise_of(noise, np.zeros(noise.size), 0.9 * std) < 1e-6


def test_a_device_and_a_merchant_send_the_same_first_step() -> None:
    """The closed form of devices and Opacus at a merchant agree once the noise vanishes."""
    shoppers, public = random_shoppers(10, 15), Model(10).public()
    asked = task(trust=Trust.LOCAL, noise_multiplier=1e-9)
    at_devices = work.gradient(asked, devices(shoppers), public, ITEMS)
    at_merchant = work.gradient(asked, merchant(shoppers, EVERYTHING), public, ITEMS)
    central = work.gradient(task(), devices(shoppers), public, ITEMS)
    for name, value in central.items():
        np.testing.assert_allclose(at_devices[name], value, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(at_merchant[name], value, atol=2e-5, err_msg=name)


def test_no_two_local_steps_look_at_the_same_moments() -> None:
    """Two steps of round 3 use the draws of rounds 6 and 7, so that no step of any round repeats another."""
    unit, public = devices(random_shoppers(12, 15)), Model(12).public()
    local = task(trust=Trust.LOCAL, steps=2, noise_multiplier=1e-9)
    found = work.gradient(local, unit, public, ITEMS)
    by_hand = added([work.gradient(task(round=number), unit, public, ITEMS) for number in (6, 7)])
    for name, value in by_hand.items():
        np.testing.assert_allclose(found[name], value / 2, atol=1e-5, err_msg=name)
    assert not np.allclose(
        found["gain"], work.gradient(task(round=6), unit, public, ITEMS)["gain"], atol=1e-3
    )


@pytest.mark.parametrize("trust", list(Trust))
def test_a_unit_without_shoppers_answers_every_stage(trust: Trust) -> None:
    """Zeros, or under local trust noise: nobody can tell from the answer that nobody was there."""
    unit, public = merchant(random_shoppers(1, 0)), Model(1).public()
    answers: list[NDArray[Any]] = [
        work.counts(task("counts", trust), unit, {}, ITEMS),
        work.gram(task("gram", trust), unit, HEAD, ITEMS),
        work.subspace(task("subspace", trust), unit, WITH_BASIS, ITEMS),
        work.gradient(task(trust=trust), unit, public, ITEMS)["context"],
    ]
    assert [answer.shape for answer in answers] == [(4,), (3,), (6,), Model(1).weights["context"].shape]
    assert all(bool(answer.all()) == (trust is Trust.LOCAL) for answer in answers)


def test_a_merchant_whose_items_were_never_bought_still_answers() -> None:
    """Sampling probabilities of zero over all own items are no division by zero."""
    model = Model(11)
    public = {**model.public(), "q": np.where(np.isin(EVERYTHING, OWN), 0.0, model.q)}
    update = work.gradient(task(), merchant(random_shoppers(11, 8)), public, ITEMS)
    assert all(np.isfinite(value).all() for value in update.values())
