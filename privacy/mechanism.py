"""Clipping and noise as one object, so that the bound that is enforced is the bound that the noise is scaled to.

A contribution is what one shopper adds to a sum. `clip_factors` shortens every shopper's share to the clipping
norm C; `release` adds Gaussian noise of z * C to each entry of the sum (z: noise multiplier). Under add/remove
adjacency of one shopper the sum moves by at most C in L2, so the release is 1/z-GDP.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from privacy.errors import PrivacyError

Array = NDArray[np.float64]


class ContributionError(PrivacyError, ValueError):
    """A sum cannot leave as it should: nobody would add the noise."""


class NoiseSource(Protocol):
    """Where Gaussian noise comes from."""

    def normal(self, count: int) -> Array:
        """Return `count` independent standard normal numbers."""


class SystemNoise:
    """Noise from the operating system's entropy: what production uses."""

    def normal(self, count: int) -> Array:
        """Return `count` standard normals by inversion of 52-bit uniforms from `os.urandom`.

        With 52 bits the middle of every cell is a double; with one more the last would round to 1, and its
        normal to infinity.
        """
        words = np.frombuffer(os.urandom(8 * count), dtype="<u8")
        return np.asarray(ndtri(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52))


class SeededNoise:
    """Repeatable noise for tests and simulation; who knows the seed can take the noise away."""

    def __init__(self, seed: int) -> None:
        """Start the stream of `seed`."""
        self._generator = np.random.default_rng(seed)

    def normal(self, count: int) -> Array:
        """Return the next `count` standard normals of the stream."""
        return self._generator.standard_normal(count)


class Mechanism(Protocol):
    """How a sum of bounded contributions leaves."""

    @property
    def clipping_norm(self) -> float:
        """Longest L2 norm of one shopper's share."""

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise in each entry of the sum."""

    @property
    def mu2(self) -> float:
        """Price of one release in mu^2 of Gaussian differential privacy."""

    def release(self, total: Array, draws: int = 1) -> Array:
        """Return the sum as it may leave; `draws` participants have each added noise of their own."""


@dataclass(frozen=True, kw_only=True)
class GaussianSum:
    """A sum released under Gaussian noise of `noise_multiplier` clipping norms."""

    clipping_norm: float
    noise_multiplier: float
    noise: NoiseSource

    def __post_init__(self) -> None:
        """Refuse norms and multipliers that protect nobody."""
        for name, value in (
            ("clipping norm", self.clipping_norm),
            ("noise multiplier", self.noise_multiplier),
        ):
            if not (math.isfinite(value) and value > 0):
                raise PrivacyError(f"{name} is {value}; it must be positive and finite")

    @property
    def noise_std(self) -> float:
        """Noise multiplier times clipping norm."""
        return self.noise_multiplier * self.clipping_norm

    @property
    def mu2(self) -> float:
        """1 / z^2."""
        return self.noise_multiplier**-2

    def release(self, total: Array, draws: int = 1) -> Array:
        """Return the sum with fresh noise in every entry; that of `draws` participants is drawn as one.

        Raises:
            ContributionError: nobody would add noise.
        """
        if draws < 1:
            raise ContributionError(f"noise of {draws} participants was asked for; it takes at least 1")
        std = self.noise_std * math.sqrt(draws)
        return np.asarray(total + std * self.noise.normal(total.size).reshape(total.shape))


@dataclass(frozen=True, kw_only=True)
class UnprotectedSum:
    """A sum released as it is: no privacy at all. It has a name so that nobody asks for it by accident."""

    clipping_norm: float

    @property
    def noise_std(self) -> float:
        """No noise."""
        return 0.0

    @property
    def mu2(self) -> float:
        """The price of an unprotected release is infinite."""
        return math.inf

    def release(self, total: Array, draws: int = 1) -> Array:
        """Return the sum unchanged."""
        return total


def clip_factors(norms: Array, clipping_norm: float) -> Array:
    """Return for each shopper the factor min(1, C / norm) that bounds a share of that L2 norm.

    It is 0 where the norm is not finite: such a share is nothing, since an error would tell without noise that some
    history led to it. Leave its row out of the sum, for 0 times infinity is no number.
    """
    return np.where(np.isfinite(norms), np.minimum(1.0, clipping_norm / np.maximum(norms, 1e-12)), 0.0)
