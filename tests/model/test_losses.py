"""The losses by name: what their formulas say, and errors that are the slopes of the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.kernels_losses import loss_errors
from model.losses import Loss

Doubles = NDArray[np.float64]

some_logits = st.lists(st.one_of(st.floats(-6, 6), st.just(-math.inf)), min_size=1, max_size=6)


def computed(loss: Loss, wanted: list[float], unwanted: list[float]) -> tuple[float, Doubles, Doubles]:
    """Loss and errors from the compiled code; a logit of -inf stands for a candidate that is absent."""
    logits_t, logits_n = np.array(wanted), np.array(unwanted)
    targets = np.where(np.isinf(logits_t), -1, 7).astype(np.int32)
    errors_t = np.full(len(wanted), 99.0, np.float32)
    errors_n = np.full(len(unwanted), 99.0, np.float32)
    value = loss_errors(loss.code, targets, logits_t, logits_n, errors_t, errors_n)
    return float(value), errors_t.astype(np.float64), errors_n.astype(np.float64)


def formula(loss: Loss, wanted: list[float], unwanted: list[float]) -> float:
    """The loss as its docstring writes it down, over candidates that are there."""
    targets = [x for x in wanted if x > -math.inf]
    negatives = [x for x in unwanted if x > -math.inf]
    each = {Loss.SAMPLED_SOFTMAX: _softmax, Loss.BPR: _pairwise, Loss.FOCAL_BCE: _focal}[loss]
    return sum(each(x, negatives) for x in targets) / len(targets) if targets else 0.0


def _softmax(x: float, negatives: list[float]) -> float:
    return math.log(math.exp(x) + sum(math.exp(n) for n in negatives)) - x


def _pairwise(x: float, negatives: list[float]) -> float:
    return sum(math.log1p(math.exp(n - x)) for n in negatives) / max(len(negatives), 1)


def _focal(x: float, negatives: list[float]) -> float:
    def f(y: float) -> float:
        p = 1 / (1 + math.exp(-y))
        return -((1 - p) ** 2) * math.log(p)

    return f(x) + sum(f(-n) for n in negatives)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(Loss), some_logits, some_logits)
def test_the_loss_is_the_documented_formula(loss: Loss, wanted: list[float], unwanted: list[float]) -> None:
    """For any number of targets and negatives, absent ones among them, to 1e-9."""
    value, _, _ = computed(loss, wanted, unwanted)
    assert value == pytest.approx(formula(loss, wanted, unwanted), rel=1e-9, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(Loss), some_logits, some_logits)
def test_errors_are_slopes_and_absent_candidates_have_none(
    loss: Loss, wanted: list[float], unwanted: list[float]
) -> None:
    """Central differences of the formula agree to 1e-5; an absent candidate's error is exactly 0."""
    _, errors_t, errors_n = computed(loss, wanted, unwanted)
    both, found = [*wanted, *unwanted], np.concatenate([errors_t, errors_n])
    for place, logit in enumerate(both):
        if logit == -math.inf:
            assert found[place] == 0.0
            continue
        sides = []
        for step in (1e-5, -1e-5):
            moved = [*both]
            moved[place] += step
            sides.append(formula(loss, moved[: len(wanted)], moved[len(wanted) :]))
        assert found[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("loss", Loss)
def test_a_target_far_above_its_negatives_is_learned_and_one_far_below_is_not_forgotten(loss: Loss) -> None:
    """A thousand apart nothing overflows: no error where all is told apart, an error near 1 where nothing is."""
    value, errors_t, errors_n = computed(loss, [1000.0], [-1000.0, -1000.0])
    assert value == pytest.approx(0.0) and not errors_t.any() and not errors_n.any()
    value, errors_t, errors_n = computed(loss, [-1000.0], [1000.0])
    assert math.isfinite(value) and value >= 1000.0
    assert errors_t[0] == pytest.approx(-1.0) and errors_n[0] == pytest.approx(1.0)


@pytest.mark.parametrize("loss", Loss)
def test_an_undefined_logit_makes_the_errors_undefined(loss: Loss) -> None:
    """NaN must reach the clipping, which refuses the shopper, instead of passing as a small number."""
    for wanted, unwanted in (([math.nan], [0.0]), ([0.0], [math.nan, 1.0])):
        _, errors_t, errors_n = computed(loss, wanted, unwanted)
        assert np.isnan(np.concatenate([errors_t, errors_n])).any()


def test_the_focal_loss_passes_over_what_is_told_apart() -> None:
    """Lin et al.: at p = .9 the error is far below that of plain cross entropy (.1), at p = .1 near to it."""
    easy, hard = math.log(9.0), -math.log(9.0)
    _, told_apart, _ = computed(Loss.FOCAL_BCE, [easy], [-math.inf])
    _, mistaken, _ = computed(Loss.FOCAL_BCE, [hard], [-math.inf])
    assert abs(told_apart[0]) < 0.1 * 0.1
    assert abs(mistaken[0]) > 0.9 * 0.9


def test_names_are_the_words_of_the_command_line() -> None:
    """They are written into run configurations and model cards, and their codes into compiled code."""
    assert [str(loss) for loss in Loss] == ["sampled_softmax", "bpr", "focal_bce"]
    assert [loss.code for loss in Loss] == [0, 1, 2]
