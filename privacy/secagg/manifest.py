"""What one round is about, signed by the coordinator and checked by every participant before it says anything.

The manifest's digest goes into every key, every signature and every ciphertext of the round. Two participants that
were shown different manifests share no mask, so nothing of theirs can ever be unmasked together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from privacy.canonical import check_types, from_canonical, to_canonical
from privacy.errors import ManifestError
from privacy.federation_manifest import FederationManifest
from privacy.plan import Trust
from privacy.secagg.identity import check_name, statement

SMALLEST_COHORT: Final = 2
LARGEST_COHORT: Final = 256
LARGEST_LENGTH: Final = 2**28
"""Most integers in one contribution."""
LARGEST_BYTES: Final = 256 * 1024

Unsigned = NDArray[np.unsignedinteger[Any]]
"""Integers modulo 2^32 or 2^64."""


def smallest_threshold(cohort: int) -> int:
    """Return the smallest threshold above two thirds of a cohort.

    Below it, a lying coordinator with participants of its own could make two halves believe different survivors
    (Bonawitz et al. 2017, section 6.2).
    """
    return 2 * cohort // 3 + 1


@dataclass(frozen=True, kw_only=True)
class RoundManifest:
    """One round of secure aggregation.

    Attributes:
        federation_digest: of the federation's manifest.
        release_id, stage, round, model_hash: which release this is, and of which state of the model.
        trust, clipping_norm, noise_multiplier: how contributions are bounded and noised; the multiplier is 0 under
            trust `none`.
        minimum_cohort: fewest survivors whose sum may be seen.
        threshold: participants that it takes to unmask, more than two thirds of the cohort.
        step: value of one integer unit.
        modulus_bits: of one integer: 32 or 64.
        layout: name and length of each part of a contribution, in order.
        cohort: names of all who are asked, sorted.
    """

    federation_digest: str
    release_id: str
    stage: str
    round: int
    model_hash: str
    trust: str
    clipping_norm: float
    noise_multiplier: float
    minimum_cohort: int
    threshold: int
    step: float
    modulus_bits: int
    layout: tuple[tuple[str, int], ...]
    cohort: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a round that is none; raises `ManifestError`."""
        check_types(self)
        for what, fault in self._faults():
            if fault:
                raise ManifestError(f"the manifest of round {self.round} cannot stand: {what}")
        for name in self.cohort:
            check_name(name)

    def _faults(self) -> Iterator[tuple[str, bool]]:
        size = len(self.cohort)
        yield f"its cohort has {size} names; 2 to 256 can take part", not 2 <= size <= LARGEST_COHORT
        yield (
            "its cohort is not sorted or names somebody twice",
            list(self.cohort) != sorted(set(self.cohort)),
        )
        least = smallest_threshold(size)
        yield (
            f"its threshold is {self.threshold}; it must be {least} to {size} of {size} participants",
            not least <= self.threshold <= size,
        )
        yield (
            f"its minimum cohort is {self.minimum_cohort}; it must be 2 to {size}",
            not SMALLEST_COHORT <= self.minimum_cohort <= size,
        )
        yield f"its modulus has {self.modulus_bits} bits; take 32 or 64", self.modulus_bits not in (32, 64)
        yield f"its unit is {self.step}; it must be positive", not self.step > 0
        yield f"its clipping norm is {self.clipping_norm}; it must be positive", not self.clipping_norm > 0
        noiseless = self.trust == Trust.NONE
        yield (
            f"its noise multiplier is {self.noise_multiplier} under trust {self.trust}; only trust none goes without",
            not (self.noise_multiplier == 0.0 if noiseless else self.noise_multiplier > 0),
        )
        names = [name for name, _ in self.layout]
        yield "its layout names a part twice, or none", not names or len(set(names)) < len(names)
        short = all(length > 0 for _, length in self.layout) and self.length <= LARGEST_LENGTH
        yield (
            f"its layout has {self.length} integers; each part has some, and at most 2^28 are summed",
            not short,
        )

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return to_canonical(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read canonical JSON of at most 256 KiB; raises `ManifestError`."""
        return from_canonical(cls, content, LARGEST_BYTES)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON, 32 bytes."""
        return hashlib.sha256(self.to_bytes()).digest()

    @staticmethod
    def statement_of(content: bytes) -> bytes:
        """Return what the coordinator signs: these bytes, as the manifest of a round."""
        return statement("round-manifest", content)

    @property
    def length(self) -> int:
        """Integers in a contribution."""
        return sum(length for _, length in self.layout)

    @property
    def fewest(self) -> int:
        """Fewest participants that every phase must be left with."""
        return max(self.threshold, self.minimum_cohort)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Type of the integers, little-endian."""
        return np.dtype("<u4") if self.modulus_bits == 32 else np.dtype("<u8")

    def seat(self, name: str) -> int:
        """Return where a participant's shares lie: its place in the cohort, from 1."""
        return self.cohort.index(name) + 1

    def parts(self, values: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        """Cut a flat array along the layout, without copying."""
        ends = np.cumsum([length for _, length in self.layout])
        return dict(zip([name for name, _ in self.layout], np.split(values, ends[:-1]), strict=True))

    def check_agreed(self, federation: FederationManifest) -> None:
        """Raise `ManifestError` where the round is another federation's, or protects less than was agreed."""
        if self.federation_digest != federation.digest():
            raise ManifestError(
                "the round names another federation manifest than this participant's; compare kits"
            )
        if self.trust != federation.trust:
            raise ManifestError(
                f"the round has trust {self.trust}, the federation agreed to {federation.trust}"
            )
        if self.minimum_cohort < federation.minimum_cohort:
            raise ManifestError(
                f"the round's minimum cohort is {self.minimum_cohort}, the federation agreed to at least "
                f"{federation.minimum_cohort}"
            )

    def check_same(self, words: Mapping[str, object]) -> None:
        """Raise `ManifestError` where the words of a task differ from this manifest's: both speak of one release."""
        for name in (
            "release_id",
            "stage",
            "round",
            "model_hash",
            "trust",
            "clipping_norm",
            "noise_multiplier",
        ):
            if words.get(name) != getattr(self, name):
                raise ManifestError(
                    f"the task's {name} is {words.get(name)!r}, the signed manifest's {getattr(self, name)!r}; "
                    "the round was changed after it was signed"
                )
