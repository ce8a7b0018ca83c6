"""What one unit of a cohort computes for each stage of a round: its bounded sum, noised where trust is local."""

from __future__ import annotations

import secrets
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from client.baskets import Baskets, basket_share
from client.cohort import Unit
from client.contribution import HeadHistories, count_share, gradient_share, gram_share, subspace_share
from client.fusion import Draw, FusionModel, fusion_share
from client.public import HEAD, POPULARITY, Public, Q
from model.features import KINDS, Histories
from model.gradient import ITEM_VECTORS
from model.head import Head
from model.losses import Loss
from model.sampling import Examples, draw_examples
from model.schema import COMPLEMENT, Weights
from privacy.mechanism import GaussianSum, NoiseSource, SeededNoise, SystemNoise
from privacy.plan import Trust
from proto.federation import AXES, BASIS, DEVICES, FUSION_START, FUSION_UNITS, Task, WireError

Array = NDArray[np.float64]

LOG_Q_FLOOR = 1e-12
QUIETLY = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Arithmetic on arrays that overflow: what is not finite adds nothing, and no warning, nor an error where a process
makes errors of warnings, tells which history it was."""
PER_ITEM = frozenset({"item_bias", COMPLEMENT})
"""Public arrays of one row per item that are weights of the model."""


def counts(task: Task, unit: Unit, public: Public, catalogue_size: int) -> Array:
    """Return the unit's item counts over its own items, (n,)."""
    total = count_share(unit.shoppers, catalogue_size, task.clipping_norm)[unit.items]
    return _noised_locally(task, unit, total)


def gram(task: Task, unit: Unit, public: Public, catalogue_size: int) -> Array:
    """Return the unit's Gram triangle over the head items that are its own, (m (m + 1) / 2,)."""
    own, _ = _own_head(unit, public)
    histories = HeadHistories.of(unit.shoppers, own, catalogue_size)
    return _noised_locally(task, unit, gram_share(histories, task.clipping_norm))


@QUIETLY
def subspace(task: Task, unit: Unit, public: Public, catalogue_size: int) -> Array:
    """Return the unit's Gram triangle inside the public basis, its own where it has one, (k (k + 1) / 2,)."""
    own, positions = _own_head(unit, public)
    name = BASIS + unit.part
    basis = np.asarray(public[name] if name in public else public[BASIS + DEVICES][positions], np.float32)
    histories = HeadHistories.of(unit.shoppers, own, catalogue_size)
    return _noised_locally(task, unit, subspace_share(histories, basis, task.clipping_norm))


def _own_head(unit: Unit, public: Public) -> tuple[Head, NDArray[np.int64]]:
    """Return the head cut to the unit's own items, and their positions in it."""
    head = Head(np.asarray(public[HEAD], np.int64), np.asarray(public[POPULARITY], np.float64))
    positions = np.flatnonzero(np.isin(head.items, unit.items))
    return head.at(positions), positions


@QUIETLY
def baskets(task: Task, unit: Unit, public: Public, catalogue_size: int) -> Array:
    """Return the moment of the unit's baskets of its own items in the public axes, (k (k + 1) / 2,)."""
    own = _own_items(unit.shoppers.histories, unit.items, catalogue_size)
    axes = np.asarray(public[AXES], np.float32)[unit.items]
    found = Baskets.of(own, basket_kinds_of(task), len(unit.items))
    return _noised_locally(task, unit, basket_share(found, axes, task.clipping_norm))


@QUIETLY
def gradient(task: Task, unit: Unit, public: Public, catalogue_size: int) -> dict[str, Array]:
    """Return the unit's clipped gradient sum by parameter; under local trust the noised one."""
    local = _LocalView(task, unit, public, catalogue_size)
    if task.trust != Trust.LOCAL:
        return local.gradient_sum(step=0)
    mechanism = local_mechanism(task, unit)
    if unit.part == DEVICES:
        return local.noised_gradient(mechanism)
    return local.train_with_opacus(mechanism)


@QUIETLY
def fusion(task: Task, unit: Unit, public: Public, catalogue_size: int) -> Array:
    """Return the unit's clipped sum of what its histories teach the surfaces (`client.fusion`)."""
    known = {name: value for name, value in public.items() if name not in (FUSION_START, FUSION_UNITS)}
    view = _LocalView(task, unit, known, catalogue_size)
    start, units = (np.asarray(public[name], np.float64) for name in (FUSION_START, FUSION_UNITS))
    return _noised_locally(task, unit, view.fusion_sum(start, units))


def loss_of(task: Task) -> Loss:
    """Return the loss that is asked for.

    Raises:
        WireError: nobody here knows a loss of that name.
    """
    if task.loss not in list(Loss):
        raise WireError(
            f"loss is {task.loss!r}; this participant knows {', '.join(Loss)}: update it, or ask for one of these"
        )
    return Loss(task.loss)


def basket_kinds_of(task: Task) -> frozenset[str]:
    """Return the event kinds that make a basket.

    Raises:
        WireError: nobody here knows a kind of that name.
    """
    kinds = frozenset(filter(None, task.basket_kinds.split(",")))
    if unknown := kinds - set(KINDS):
        raise WireError(
            f"baskets are asked for of kind {sorted(unknown)[0]!r}; this participant knows {', '.join(KINDS)}: "
            "update it, or ask for these"
        )
    return kinds


def local_mechanism(task: Task, unit: Unit) -> GaussianSum:
    """Return the mechanism of participants that add their own noise."""
    return GaussianSum(
        clipping_norm=task.clipping_norm, noise_multiplier=task.noise_multiplier, noise=_noise(task, unit)
    )


def _noise(task: Task, unit: Unit) -> NoiseSource:
    """Return the system's entropy; in tests and simulation a stream of its own for each unit and round."""
    if task.noise_seed < 0:
        return SystemNoise()
    return SeededNoise(noise_stream(task, f"{unit.part}/{unit.shoppers.pseudonyms[:1]}"))


def noise_stream(task: Task, name: str) -> int:
    """Return the seed of the noise that bears this name in a simulation's round."""
    words = f"{task.noise_seed}/{task.stage}/{task.round}/{name}"
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "little")


def _noised_locally(task: Task, unit: Unit, total: Array) -> Array:
    """Return the sum as it leaves the unit: under local trust every participant has added its noise."""
    if task.trust != Trust.LOCAL:
        return total
    return local_mechanism(task, unit).release(total, unit.participants)


class _LocalView:
    """The public model cut to the unit's own items, and the unit's examples in those indices."""

    def __init__(self, task: Task, unit: Unit, public: Public, catalogue_size: int) -> None:
        self._task, self._unit, self._loss = task, unit, loss_of(task)
        self._vectors = np.asarray(public[ITEM_VECTORS], dtype=np.float32)[unit.items]
        self._trained = frozenset(public) - {ITEM_VECTORS, Q, *PER_ITEM}
        self._weights: Weights = {name: np.asarray(public[name], np.float32) for name in self._trained}
        for name in PER_ITEM & public.keys():
            self._weights[name] = np.asarray(public[name], np.float32)[unit.items]
        q = np.asarray(public[Q], dtype=np.float64)[unit.items]
        self._q = q / max(float(q.sum()), LOG_Q_FLOOR)
        self._log_q = np.log(np.maximum(self._q, LOG_Q_FLOOR))
        self._histories = _own_items(unit.shoppers.histories, unit.items, catalogue_size)

    def fusion_sum(self, start: Array, units: Array) -> Array:
        """Return the clipped sum over shoppers of one example per surface."""
        model = FusionModel(
            weights=self._weights, vectors=self._vectors, probabilities=self._q, start=start, units=units
        )
        draw = Draw(
            seed=self._seed,
            round_number=self._task.round * self._task.steps,
            basket_kinds=basket_kinds_of(self._task),
            clock=self._task.clock,
        )
        keys = self._unit.shoppers.keys
        return fusion_share(model, self._histories, keys, draw, self._task.clipping_norm)

    @property
    def _seed(self) -> int:
        """What a draw begins from: the seed of a simulation, or the system's entropy, new each time."""
        return self._task.seed if self._task.seed >= 0 else secrets.randbits(63)

    def examples(self, step: int) -> Examples:
        """Return one example per shopper, its own in every step of every round."""
        task = self._task
        return draw_examples(
            self._histories,
            self._unit.shoppers.keys,
            self._q,
            seed=self._seed,
            round_number=task.round * task.steps + step,
            clock=task.clock,
        )

    def gradient_sum(self, step: int) -> dict[str, Array]:
        """Return the clipped gradient sum of one step."""
        norm = self._task.clipping_norm
        return gradient_share(
            self._weights, self._vectors, self.examples(step), self._log_q, self._trained, norm, self._loss
        )

    def noised_gradient(self, mechanism: GaussianSum) -> dict[str, Array]:
        """Return the mean over steps of what devices send: each its clipped gradient under its own noise.

        A device's DP-SGD step has one sample, so the closed form gives what Opacus would, for all at once.
        """
        total: dict[str, Array] = {}
        for step in range(self._task.steps):
            for name, value in self.gradient_sum(step).items():
                noisy = mechanism.release(value, self._unit.participants)
                total[name] = total.get(name, 0.0) + noisy
        return {name: value / self._task.steps for name, value in total.items()}

    def train_with_opacus(self, mechanism: GaussianSum) -> dict[str, Array]:
        """Return the mean noised gradient sum of the local DP-SGD steps."""
        from client.training import local_update  # torch and Opacus load only where they are used

        return local_update(
            self._weights,
            self._vectors,
            self.examples,
            self._log_q,
            self._trained,
            mechanism,
            steps=self._task.steps,
            expected_batch=self._task.expected_shoppers,
            loss=self._loss,
        )


def _own_items(histories: Histories, items: NDArray[np.int64], catalogue_size: int) -> Histories:
    """Return the histories with items numbered within the unit's own catalogue."""
    place = np.full(catalogue_size, -1, dtype=np.int64)
    place[items] = np.arange(len(items))
    own = histories.keep(place[histories.items] >= 0)
    return Histories(own.indptr, place[own.items].astype(np.int32), own.kinds, own.times)
