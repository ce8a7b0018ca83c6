"""Clipping and noise: the noise has the strength that is claimed, and no share passes its bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from privacy.errors import PrivacyError
from privacy.mechanism import (
    ContributionError,
    GaussianSum,
    Mechanism,
    NoiseSource,
    SeededNoise,
    SystemNoise,
    UnprotectedSum,
    clip_factors,
)

SURELY = 1e-6  # fixed level: a right distribution falls below it once in a million runs

Draws = NDArray[np.float64]
SOURCES: list[Callable[[], NoiseSource]] = [SystemNoise, lambda: SeededNoise(11)]


def is_normal_with(std: float, draws: Draws) -> bool:
    """Whether a chi-square test on the squares and a test on the mean accept independent N(0, std^2)."""
    squares = float(np.square(draws / std).sum())
    tail = min(stats.chi2.cdf(squares, draws.size), stats.chi2.sf(squares, draws.size))
    mean = stats.norm.sf(abs(float(draws.mean())) * math.sqrt(draws.size) / std)
    return 2 * float(tail) > SURELY and 2 * float(mean) > SURELY


@pytest.mark.parametrize("source", SOURCES)
def test_noise_is_standard_normal(source: Callable[[], NoiseSource]) -> None:
    """Kolmogorov-Smirnov accepts 400,000 draws at a fixed level, and rejects ones that are 3 % wider or shifted."""
    draws = source().normal(400_000)
    assert draws.shape == (400_000,) and draws.dtype == np.float64
    assert stats.kstest(draws, "norm").pvalue > SURELY
    assert stats.kstest(1.03 * draws, "norm").pvalue < SURELY
    assert stats.kstest(draws + 0.02, "norm").pvalue < SURELY


@pytest.mark.parametrize("source", SOURCES)
def test_draws_are_unrelated_to_their_neighbours(source: Callable[[], NoiseSource]) -> None:
    """No correlation at lags 1, 2 and 64, and no value twice."""
    draws = source().normal(200_000)
    for lag in (1, 2, 64):
        correlation = float(np.mean(draws[lag:] * draws[:-lag]))
        assert abs(correlation) < 6 / math.sqrt(draws.size)
    assert len(np.unique(draws)) == draws.size


def test_system_noise_differs_each_time_and_seeded_noise_does_not() -> None:
    """Production noise cannot be repeated by anyone; a seeded stream goes on instead of starting again."""
    source = SystemNoise()
    assert not (source.normal(1000) == source.normal(1000)).any()
    assert not (SystemNoise().normal(1000) == SystemNoise().normal(1000)).any()
    seeded = SeededNoise(5)
    first, second = seeded.normal(10), seeded.normal(10)
    np.testing.assert_array_equal(SeededNoise(5).normal(20), np.concatenate([first, second]))
    assert not (SeededNoise(6).normal(10) == first).any()


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_no_entropy_gives_infinite_noise(byte: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last of all uniforms are finite normals, 8.2 standard deviations out on either side."""
    monkeypatch.setattr("privacy.mechanism.os.urandom", lambda count: bytes([byte]) * count)
    draws = SystemNoise().normal(3)
    sign = -1 if byte == 0 else 1
    np.testing.assert_allclose(draws, sign * stats.norm.isf(2.0**-53), rtol=1e-12)


def test_no_noise_is_asked_for_an_empty_sum() -> None:
    """Zero draws are an empty array from either source."""
    for source in SOURCES:
        assert source().normal(0).shape == (0,)


@pytest.mark.parametrize("participants", [1, 9])
@pytest.mark.parametrize("source", SOURCES)
def test_a_release_carries_noise_of_the_stated_strength(
    source: Callable[[], NoiseSource], participants: int
) -> None:
    """z C on each entry, times the root of the participants; a strength 2 % off on either side is rejected."""
    mechanism = GaussianSum(clipping_norm=2.0, noise_multiplier=1.5, noise=source())
    total = np.linspace(-100, 100, 200_000).reshape(400, 500)
    released = mechanism.release(total, participants)
    assert released.shape == total.shape
    noise, std = (released - total).ravel(), 3.0 * math.sqrt(participants)
    assert mechanism.noise_std == 3.0
    assert is_normal_with(std, noise)
    assert not is_normal_with(1.02 * std, noise)
    assert not is_normal_with(0.98 * std, noise)


def test_a_release_leaves_the_sum_as_it_was() -> None:
    """The true sum in memory is neither noised in place nor returned."""
    total = np.zeros(100)
    released = GaussianSum(clipping_norm=1.0, noise_multiplier=1.0, noise=SystemNoise()).release(total)
    assert not total.any()
    assert (released != 0).all()


@pytest.mark.parametrize("participants", [0, -1])
def test_a_release_with_the_noise_of_nobody_is_refused(participants: int) -> None:
    """Zero participants would release the sum as it is."""
    mechanism = GaussianSum(clipping_norm=1.0, noise_multiplier=1.0, noise=SystemNoise())
    with pytest.raises(ContributionError, match="at least 1"):
        mechanism.release(np.zeros(3), participants)


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_the_price_depends_on_the_noise_multiplier_alone(norm: float, multiplier: float) -> None:
    """1 / z^2 whatever the clipping norm is, and the noise grows with both."""
    mechanism = GaussianSum(clipping_norm=norm, noise_multiplier=multiplier, noise=SeededNoise(1))
    assert mechanism.mu2 == pytest.approx(1 / multiplier**2)
    assert mechanism.noise_std == pytest.approx(norm * multiplier)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["clipping_norm", "noise_multiplier"])
def test_a_mechanism_that_protects_nobody_is_refused(name: str, value: float) -> None:
    """Zero, negative, infinite and NaN parameters are named."""
    parameters = {"clipping_norm": 1.0, "noise_multiplier": 1.0, name: value}
    with pytest.raises(PrivacyError, match=name.replace("_", " ")):
        GaussianSum(**parameters, noise=SystemNoise())


def test_no_privacy_is_a_mechanism_with_an_infinite_price() -> None:
    """The sum leaves unchanged, without noise, and no ledger can pay for it."""
    mechanism: Mechanism = UnprotectedSum(clipping_norm=1.0)
    total = np.array([1.0, 2.0])
    np.testing.assert_array_equal(mechanism.release(total, 5), total)
    assert mechanism.noise_std == 0.0
    assert mechanism.mu2 == math.inf


norms = st.lists(st.floats(0, 1e300), min_size=1, max_size=20).map(np.array)


@given(norms, st.floats(1e-3, 1e3))
def test_clipped_shares_never_exceed_the_norm_and_short_ones_stay(lengths: Draws, norm: float) -> None:
    """factor x length <= C for everyone, and exactly 1 for shares that are no longer than C."""
    factors = clip_factors(lengths, norm)
    assert (factors * lengths <= norm * (1 + 1e-12)).all()
    assert (factors[lengths <= norm] == 1.0).all()
    assert (factors[lengths > norm] < 1.0).all()
    np.testing.assert_allclose((factors * lengths)[lengths > norm], norm)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_that_is_not_finite_is_cut_to_nothing(bad: float) -> None:
    """A NaN would pass unclipped, and an error would tell without noise that some history led to it."""
    assert clip_factors(np.array([1.0, bad, 2.0]), 1.0).tolist() == [1.0, 0.0, 0.5]


def test_nobody_to_clip_is_nothing_to_refuse() -> None:
    """A cohort without shoppers has no factors."""
    assert clip_factors(np.zeros(0), 1.0).shape == (0,)


def test_a_nearby_wrong_strength_is_visible_to_the_test_itself() -> None:
    """The chi-square used above rejects a mean of 0.02 standard deviations as well."""
    draws = np.random.default_rng(1).standard_normal(200_000)
    assert is_normal_with(1.0, draws)
    assert not is_normal_with(1.0, draws + 0.02)
