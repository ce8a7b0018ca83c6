"""The compiled cohort: the same sums in any chunks and on any number of threads; nothing is read out of bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tower_world import (
    START,
    Vectors,
    histories_of,
    random_examples,
    random_log_q,
    random_vectors,
    random_weights,
)

from model import threads
from model.errors import FeatureError, ModelError, ShapeError
from model.features import Histories, moments_at
from model.gradient import ITEM_VECTORS, CohortGradient, cohort_gradient, zero_sum
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples, draw_negatives
from model.torch_tower import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
ITEMS, DIM = 12, 37
EVERYTHING = frozenset({*PARAMETERS, ITEM_VECTORS})


def gradient_of(examples: Examples, seed: int = 1, vectors: Vectors | None = None) -> CohortGradient:
    """The gradient of a cohort under random weights."""
    random = np.random.default_rng(seed)
    weights = random_weights(random, items=ITEMS, dim=DIM)
    drawn = random_vectors(random, items=ITEMS, dim=DIM)
    return cohort_gradient(
        weights, drawn if vectors is None else vectors, examples, random_log_q(random, ITEMS)
    )


def examples_of(seed: int, shoppers: int) -> Examples:
    """Random examples with every odd case among them."""
    return random_examples(np.random.default_rng(seed), shoppers=shoppers, items=ITEMS, longest=40)


def clipped_sum(examples: Examples, chunk: int) -> dict[str, NDArray[np.float64]]:
    """The clipped sum, added up chunk by chunk."""
    total = zero_sum(EVERYTHING, ITEMS, DIM)
    for start in range(0, len(examples), chunk):
        gradient = gradient_of(examples.part(start, start + chunk))
        gradient.add_to(total, 0.7 / np.sqrt(gradient.squared_norms(EVERYTHING)).clip(min=0.7))
    return total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 41))
def test_the_size_of_a_chunk_changes_nothing(seed: int, shoppers: int, chunk: int) -> None:
    """Sums of item vectors and context agree to the bit, the small ones to the rounding of double precision."""
    examples = examples_of(seed, shoppers)
    whole, parts = clipped_sum(examples, shoppers), clipped_sum(examples, chunk)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-12, atol=1e-13, err_msg=name)
    np.testing.assert_array_equal(parts[ITEM_VECTORS], whole[ITEM_VECTORS])
    np.testing.assert_array_equal(parts["context"], whole["context"])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_number_of_threads_changes_no_bit(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and sums of one seed are the same numbers on every machine size."""
    examples = examples_of(3, 200)
    found = []
    for number in (1, count):
        monkeypatch.setattr(threads, "thread_count", lambda number=number: number)
        gradient = gradient_of(examples)
        found.append((gradient.squared_norms(EVERYTHING), clipped_sum(examples, 200)))
    (norms, sums), (norms_too, sums_too) = found
    np.testing.assert_array_equal(norms_too, norms)
    for name, value in sums.items():
        np.testing.assert_array_equal(sums_too[name], value, err_msg=name)


@given(st.integers(0, 400), st.integers(1, 9))
def test_parts_of_a_range_cover_it_once(length: int, count: int) -> None:
    """Every number belongs to exactly one thread, and short ranges stay on the calling one."""
    seen = np.zeros(length, np.int64)

    def kernel(first: int, last: int) -> None:
        seen[first:last] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "thread_count", lambda: count)
        threads.in_parts(kernel, length)
    assert (seen == 1).all()


def test_a_failure_in_a_thread_is_a_failure_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of a cohort is lost in silence."""
    monkeypatch.setattr(threads, "thread_count", lambda: 2)

    def kernel(first: int, last: int) -> None:
        if first > 0:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.in_parts(kernel, 1000)


@pytest.mark.parametrize(("asked", "most"), [("1", 1), ("", 999), ("many", 999), ("0", 1)])
def test_the_usual_variable_bounds_the_threads(
    asked: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OMP_NUM_THREADS, which Ray sets for its actors, is an upper bound; words that are no number are none."""
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads.thread_count() == min(most, len(os.sched_getaffinity(0)))


def one_shopper(events: list[int], targets: list[int], negatives: list[int]) -> Examples:
    """A shopper with these items; purchases a day apart."""
    history = histories_of([(item, "purchase", START + 86_400 * h) for h, item in enumerate(events)])
    wanted, unwanted = np.full((1, TARGET_LIMIT), -1), np.full((1, NEGATIVES), -1)
    wanted[0, : len(targets)], unwanted[0, : len(negatives)] = targets, negatives
    return Examples(history, moments_at(np.array([START + 10**7])), wanted, unwanted)


@pytest.mark.parametrize(
    ("events", "targets", "negatives"),
    [([3] * 9, [3, 3], [5] * 6), ([3], [3], [5]), ([], [4, 4, 4], [5, 6, 5]), ([1, 2, 1], [2, 1], [7, 7])],
)
def test_repeated_items_are_one_row_of_the_gradient(
    events: list[int], targets: list[int], negatives: list[int]
) -> None:
    """The closed-form norm is the length of the unfolded gradient, where repeated items have been added up."""
    gradient = gradient_of(one_shopper(events, targets, negatives))
    unfolded = gradient.per_shopper(frozenset({ITEM_VECTORS}))[ITEM_VECTORS].astype(np.float64)
    squares = gradient.squared_norms(frozenset({ITEM_VECTORS}))
    assert squares[0] > 0
    np.testing.assert_allclose(squares, np.square(unfolded).sum(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_is_not_finite_stays_so_in_the_norm(poison: float, where: int) -> None:
    """An item vector of the history, a target or a negative: clipping must see it, or it would pass unclipped."""
    vectors = random_vectors(np.random.default_rng(2), items=ITEMS, dim=DIM)
    vectors[where] = poison
    with np.errstate(all="ignore"):
        gradient = gradient_of(one_shopper([0, 4], [1, 5], [2, 6]), vectors=vectors)
        assert not np.isfinite(gradient.squared_norms(EVERYTHING)[0])


def edited(examples: Examples, name: str, value: int) -> Examples:
    """The examples with the first entry of one array changed."""
    histories, targets, negatives = examples.histories, examples.targets.copy(), examples.negatives.copy()
    items, kinds = histories.items.copy(), histories.kinds.copy()
    arrays: dict[str, NDArray[Any]] = {
        "items": items,
        "kinds": kinds,
        "targets": targets,
        "negatives": negatives,
    }
    arrays[name].flat[0] = value
    changed = Histories(histories.indptr, items, kinds, histories.times)
    return Examples(changed, examples.moments, targets, negatives)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("items", ITEMS, "item numbers from 3 to 12; they must be from 0 to 11"),
        ("items", -1, "item numbers from -1 to 3"),
        ("kinds", 7, "kind numbers from 2 to 7; they must be from 0 to 6"),
        ("targets", ITEMS, "candidate 12 and the catalogue ends at 11"),
        ("negatives", 10**6, "candidate 1000000 and the catalogue ends at 11"),
    ],
)
def test_what_the_catalogue_does_not_have_is_refused(name: str, value: int, words: str) -> None:
    """Compiled loops check no bound: an index beyond would read or write the memory of something else."""
    examples = edited(one_shopper([3, 3], [4], [5]), name, value)
    with pytest.raises(FeatureError, match=words):
        gradient_of(examples)


def test_negatives_are_not_drawn_for_items_that_the_catalogue_does_not_have() -> None:
    """The draws look up who owns an item; an item beyond the probabilities is refused first."""
    with pytest.raises(FeatureError, match="item numbers from 3 to 3; they must be from 0 to 1"):
        draw_negatives(np.zeros((1, 4)), np.array([0.5, 0.5]), histories_of([(3, "view", 1)]))


def test_parameters_of_two_catalogues_are_refused() -> None:
    """Vectors of one catalogue with biases of another do not belong together."""
    vectors = random_vectors(np.random.default_rng(2), items=ITEMS + 1, dim=DIM)
    with pytest.raises(ShapeError, match="13 item vectors, 12 biases and 12 probabilities"):
        gradient_of(examples_of(1, 3), vectors=vectors)
    assert issubclass(ShapeError, ModelError)


Change = Callable[[Vectors], Vectors]


@pytest.mark.parametrize(
    "change", [lambda v: np.asfortranarray(v), lambda v: v.astype(np.float64), lambda v: v[::1]]
)
def test_arrays_of_any_layout_give_the_same_and_compile_nothing_new(change: Change) -> None:
    """Read-only, transposed or double arrays are taken over; every kernel has one compiled form."""
    from model.kernels import gradients

    examples, vectors = examples_of(5, 20), random_vectors(np.random.default_rng(2), items=ITEMS, dim=DIM)
    plain = gradient_of(examples, vectors=vectors).squared_norms(EVERYTHING)
    other = change(vectors)
    other.flags.writeable = False
    np.testing.assert_array_equal(gradient_of(examples, vectors=other).squared_norms(EVERYTHING), plain)
    assert len(gradients.signatures) == 1  # type: ignore[attr-defined]


def test_numba_loads_only_where_gradients_are_computed_and_says_nothing() -> None:
    """Importing the module is cheap; the first gradient prints no warning, even where all of them are shown."""
    script = (
        "import sys; import model.gradient, model.sampling; assert 'numba' not in sys.modules; "
        "sys.path.insert(0, 'tests/model'); import test_gradient_kernels as t; "
        "t.gradient_of(t.examples_of(1, 20)).squared_norms(t.EVERYTHING)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "numba" not in (done.stdout + done.stderr).lower()
