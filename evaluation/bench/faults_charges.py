"""Many processes charge overlapping cohorts at once, more than the cap allows: does any shopper overspend?

Blocks of shoppers overlap by half, and each is presented `PRESENTED` times, so that a shopper in two of them would
be charged 20 times where the cap allows `ALLOWED`; some releases are presented by two processes. Prices are binary
fractions, so sums are exact, and the accounts must hold what was acknowledged, to the last bit.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from evaluation.settings import Watch

if TYPE_CHECKING:
    from privacy.ledger import Ledger
    from privacy.ledger_records import Charge

BLOCK: Final = 500
PRESENTED: Final = 10
ALLOWED: Final = 16
PRICE_MU2: Final = 1 / ALLOWED
CAP_MU2: Final = 1.0
REPEATED: Final = 0.1
"""Share of the releases that two processes present."""

_HOLDER: Final = "devices"
_STRIDE: Final = BLOCK // 2

Release = tuple[int, int]
"""A number that names the release, and the first shopper of its block."""


@dataclass(frozen=True, kw_only=True)
class Storm:
    """What came of a storm of charges; `overspent` and `unlike` must be 0.

    Attributes:
        requested, granted: charges of single shoppers.
        refused, repeated: releases that were refused for the cap, or known already.
        overspent: accounts beyond the cap.
        unlike: accounts that hold another sum than was acknowledged.
    """

    requested: int
    granted: int
    refused: int
    repeated: int
    overspent: int
    unlike: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Answers:
    granted: tuple[Release, ...]
    refused: int
    repeated: int


def charge_storm(url: str, keyring_folder: Path, *, processes: int, charges: int, watch: Watch) -> Storm:
    """Present about `charges` charges of single shoppers to a new ledger, from several processes at once.

    Raises:
        LedgerDamaged: the chain of charges does not verify afterwards.
    """
    from privacy.ledger_place import ledger_at

    blocks = max(2, round(charges / (PRESENTED * BLOCK)))
    work = _dealt(blocks, processes)
    watch.begin(f"charging from {processes} processes", processes)
    began = time.perf_counter()
    answers: list[_Answers] = []
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("forkserver")) as pool:
        for one in pool.map(_present, [url] * processes, [keyring_folder] * processes, work):
            answers.append(one)
            watch.step()
    seconds = time.perf_counter() - began
    with closing(ledger_at(url, keyring_folder, create=False)) as ledger:
        ledger.verify()
        overspent, unlike = compared(ledger, [release for one in answers for release in one.granted])
    return Storm(
        requested=BLOCK * sum(map(len, work)),
        granted=BLOCK * sum(len(one.granted) for one in answers),
        refused=sum(one.refused for one in answers),
        repeated=sum(one.repeated for one in answers),
        overspent=overspent,
        unlike=unlike,
        seconds=seconds,
    )


def _dealt(blocks: int, processes: int) -> list[list[Release]]:
    """Deal every block's releases to the processes in a random order, some of them to two processes."""
    random = np.random.default_rng(0)
    firsts = np.repeat(np.arange(blocks) * _STRIDE, PRESENTED)
    releases = [(number, int(first)) for number, first in enumerate(random.permutation(firsts))]
    dealt: list[list[Release]] = [[] for _ in range(processes)]
    for number, release in enumerate(releases):
        dealt[number % processes].append(release)
        if random.random() < REPEATED:
            dealt[(number + 1) % processes].append(release)
    return dealt


def _present(url: str, keyring_folder: Path, releases: list[Release]) -> _Answers:
    """Present releases one after the other, as one process of several."""
    from privacy.errors import BudgetExceeded
    from privacy.ledger_place import ledger_at

    ledger = ledger_at(url, keyring_folder)
    granted, refused, repeated = [], 0, 0
    for release in releases:
        try:
            if ledger.reserve(charge_of(release), block_of(release), CAP_MU2):
                granted.append(release)
            else:
                repeated += 1
        except BudgetExceeded:
            refused += 1
    ledger.close()
    return _Answers(granted=tuple(granted), refused=refused, repeated=repeated)


def compared(ledger: Ledger, granted: Iterable[Release]) -> tuple[int, int]:
    """Return how many accounts are beyond the cap, and how many hold another sum than was acknowledged."""
    due: Counter[str] = Counter()
    for release in granted:
        due.update(block_of(release))
    spent = ledger.spent_by_subject(_HOLDER)
    everybody = {*due, *spent}
    unlike = sum(spent.get(shopper, 0.0) != due[shopper] * PRICE_MU2 for shopper in everybody)
    return sum(mu2 > CAP_MU2 for mu2 in spent.values()), unlike


def block_of(release: Release) -> list[str]:
    """Return the shoppers of one release."""
    return [f"{shopper:032x}" for shopper in range(release[1], release[1] + BLOCK)]


def charge_of(release: Release) -> Charge:
    """Return the price of one release."""
    from privacy.ledger_records import Charge

    return Charge(
        release_id=f"storm/{release[0]}",
        holder=_HOLDER,
        stage="gradient",
        round=1,
        noise_multiplier=PRICE_MU2**-0.5,
        clipping_norm=1.0,
        mu2=PRICE_MU2,
    )
