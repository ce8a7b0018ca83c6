"""Prices of releases in Gaussian differential privacy (Dong, Roth & Su 2022), exact for sums under Gaussian noise.

A release that adds noise of z clipping norms to a sum of bounded contributions is mu-GDP with mu = 1 / z; releases
compose by adding mu^2, however adaptively they are chosen. So the ledger counts mu^2, and epsilon at a given delta
is read off the exact curve of Balle & Wang (2018). Nothing here relies on subsampling.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from privacy.errors import PrivacyError

DELTA_EXPONENT = 1.1


class BudgetError(PrivacyError, ValueError):
    """A budget was asked for that no mechanism can keep."""


def default_delta(shoppers: int) -> float:
    """Return 1 / N^1.1 for a public number of shoppers N."""
    if shoppers < 2:
        raise BudgetError(f"shoppers is {shoppers}; at least 2 are needed to derive delta, or pass --delta")
    return float(shoppers**-DELTA_EXPONENT)


def delta_of(mu: float, epsilon: float) -> float:
    """Return the smallest delta at which a mu-GDP mechanism is (epsilon, delta)-DP (Balle & Wang 2018, Thm 8)."""
    if mu == 0.0:
        return 0.0
    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def epsilon_of(mu: float, delta: float) -> float:
    """Return the smallest epsilon at which a mu-GDP mechanism is (epsilon, delta)-DP.

    Raises:
        BudgetError: mu is negative or not finite, or delta is outside (0, 1).
    """
    _check_delta(delta)
    if not (math.isfinite(mu) and mu >= 0):
        raise BudgetError(f"mu is {mu}; it must be finite and at least 0")
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    upper = (
        mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1.0
    )  # always enough (from the GDP tail bound)
    return float(brentq(lambda eps: delta_of(mu, eps) - delta, 0.0, upper, xtol=1e-12, rtol=1e-12))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest mu whose mu-GDP mechanism is (epsilon, delta)-DP.

    Raises:
        BudgetError: epsilon is not positive and finite, or delta is outside (0, 1).
    """
    _check_delta(delta)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise BudgetError(f"epsilon is {epsilon}; it must be positive and finite, for example --epsilon 8")
    upper = 1.0
    while delta_of(upper, epsilon) < delta:
        upper *= 2
    return float(brentq(lambda mu: delta_of(mu, epsilon) - delta, 1e-9, upper, xtol=1e-13, rtol=1e-12))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise BudgetError(f"delta is {delta}; it must lie between 0 and 1, well below 1 / number of shoppers")
