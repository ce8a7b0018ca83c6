"""Prices of releases in Gaussian differential privacy (Dong, Roth & Su 2022), exact for sums under Gaussian noise.

A release that adds noise of z clipping norms to a sum of bounded contributions is mu-GDP with mu = 1 / z; releases
compose by adding mu^2, however adaptively they are chosen. So the ledger counts mu^2, and epsilon at a given delta
is read off the exact curve of Balle & Wang (2018). Nothing here relies on subsampling.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import erfcx, ndtr

from privacy.errors import PrivacyError

DELTA_EXPONENT = 1.1

ROUNDED_DOWN = 1e-11
"""Relative margin below a root, so that what was asked for is never passed by a rounding error."""

FAR_TAIL = 40.0
"""Standard deviations beyond which the normal tail is 0 in double precision."""


class BudgetError(PrivacyError, ValueError):
    """A budget was asked for that no mechanism can keep."""


def default_delta(shoppers: int) -> float:
    """Return 1 / N^1.1 for a public number of shoppers N."""
    if shoppers < 2:
        raise BudgetError(f"shoppers is {shoppers}; at least 2 are needed to derive delta, or pass --delta")
    return float(shoppers**-DELTA_EXPONENT)


def delta_of(mu: float, epsilon: float) -> float:
    """Return the smallest delta at which a mu-GDP mechanism is (epsilon, delta)-DP (Balle & Wang 2018, Thm 8)."""
    return 0.0 if mu == 0.0 else _delta_at(mu, epsilon / mu - mu / 2)


def epsilon_of(mu: float, delta: float) -> float:
    """Return the smallest epsilon at which a mu-GDP mechanism is (epsilon, delta)-DP; infinite above 1e308.

    Raises:
        BudgetError: mu is negative or not finite, or delta is outside (0, 1).
    """
    _check_delta(delta)
    if not (math.isfinite(mu) and mu >= 0):
        raise BudgetError(f"mu is {mu}; it must be finite and at least 0")
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    lower, upper = max(-mu / 2, -FAR_TAIL), math.sqrt(2 * math.log(1 / delta))  # Phi(-upper) <= delta / 2
    t = brentq(lambda t: _delta_at(mu, t) - delta, lower, upper, xtol=1e-13, rtol=1e-13)
    return mu * (mu / 2 + float(t))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest mu whose mu-GDP mechanism is (epsilon, delta)-DP.

    Raises:
        BudgetError: epsilon is not positive and finite, or delta is outside (0, 1).
    """
    _check_delta(delta)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise BudgetError(f"epsilon is {epsilon}; it must be positive and finite, for example --epsilon 8")
    lower = upper = 1.0
    while delta_of(upper, epsilon) < delta:
        upper *= 2
    while delta_of(lower, epsilon) > delta:
        lower /= 2
    found = brentq(
        lambda log_mu: delta_of(math.exp(log_mu), epsilon) - delta,
        math.log(lower),
        math.log(upper),
        xtol=1e-13,
    )
    return math.exp(float(found)) * (1 - ROUNDED_DOWN)


def _delta_at(mu: float, t: float) -> float:
    """Return delta of mu-GDP at epsilon = mu (mu / 2 + t).

    Both terms of Phi(-t) - e^epsilon Phi(-t - mu) stay below 1, since e^epsilon Phi(-t - mu) is
    e^(-t^2 / 2) erfcx((t + mu) / sqrt 2) / 2 with the scaled complementary error function.
    """
    return float(ndtr(-t) - math.exp(-t * t / 2) * erfcx((t + mu) / math.sqrt(2)) / 2)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise BudgetError(f"delta is {delta}; it must lie between 0 and 1, well below 1 / number of shoppers")
