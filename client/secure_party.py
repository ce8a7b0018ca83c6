"""One node's part in secure aggregation: who it is, and the round that it is in.

A round lives in memory and dies with the process. An invitation to another round ends it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.charging import PRICE_TOLERANCE
from client.stages import shortened
from privacy.distributed_noise import NoiseShare
from privacy.errors import ManifestError, SecureAggregationError
from privacy.federation_identity import Identity, node_identity
from privacy.federation_manifest import FederationManifest
from privacy.fixed_point import GRID
from privacy.plan import Trust, budget_mu2
from privacy.secagg.encoding import encode
from privacy.secagg.manifest import RoundManifest
from privacy.secagg.messages import Confirmations, Delivery, Invitation, Masked, Message, Roster, Survivors
from privacy.secagg.participant import Limits, Participant
from proto.federation import RELEASE_ID, Phase, Task, layout_of

WIDE: Final = 64
FINENESS: Final = 2.0**-20
"""Coarsest unit of a contribution without noise in shares, in clipping norms."""

Record = Mapping[str, object]


class Party:
    """The participant whose identity lies in one folder."""

    def __init__(self, folder: Path) -> None:
        """Take part in no round yet."""
        self._folder = folder
        self._round: Participant | None = None
        self._answered: set[str] = set()

    def identity(self) -> Identity:
        """Return who this is, read anew: certificates are renewed and revoked while a process runs."""
        return node_identity(self._folder)

    def answer(self, phase: Phase, record: Record) -> Message:
        """Return the answer to a question of a phase that needs no events.

        Raises:
            SecureAggregationError: the question breaks a rule of the protocol, or belongs to another round.
        """
        if phase is Phase.ADVERTISE:
            return self._advertised(Invitation.from_record(record))
        current = self._current(str(record.get(RELEASE_ID)))
        if phase is Phase.SHARE:
            return current.share(Roster.from_record(record))
        if phase is Phase.CONFIRM:
            return current.confirm(Survivors.from_record(record))
        return current.unmask(Confirmations.from_record(record))

    def check(self, task: Task, record: Record | None, participants: int) -> None:
        """Refuse a task that protects less than was agreed; take the shares of the others where it is a secure one.

        Args:
            participants: that answer here: one, but in simulation.

        Raises:
            ManifestError, SecureAggregationError: names what is wrong; nothing was computed or charged.
        """
        agreed = self.identity().federation
        if agreed.secure_aggregation and not task.secure:
            raise ManifestError(
                "the task asks for a contribution in the open; the federation agreed to masks"
            )
        if task.trust != agreed.trust:
            raise ManifestError(f"the task has trust {task.trust}, the federation agreed to {agreed.trust}")
        agreed.check_entropy(task.noise_seed)
        if task.minimum_cohort < agreed.minimum_cohort:
            raise ManifestError(
                f"the task's minimum cohort is {task.minimum_cohort}, the federation agreed to at least "
                f"{agreed.minimum_cohort}"
            )
        _check_cap(task, agreed)
        if not task.secure:
            _check_cohort(task.minimum_cohort, agreed.minimum_cohort * participants)
            return
        current = self._current(task.release_id)
        current.manifest.check_same(task.to_record())
        _check_unit(task, current.manifest)
        _check_cohort(task.minimum_cohort, current.manifest.minimum_cohort * participants)
        current.receive(Delivery.from_record(record or {}))

    def within_declared(
        self, task: Task, parts: dict[str, NDArray[np.float64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return bounded sums no longer than the declared number of shoppers may add, before noise.

        Noise of trust `local` is in them already, and the coordinator's bound makes room for it.
        """
        identity = self.identity()
        declared = identity.federation.declared_shoppers.get(identity.name)
        if declared is None or task.trust == Trust.LOCAL:
            return parts
        return shortened(parts, task.clipping_norm * declared)

    def masked(self, task: Task, parts: Mapping[str, NDArray[np.float64]]) -> Masked:
        """Return a contribution under all its masks; raises `SecureAggregationError` where it does not fit.

        What passes a narrow modulus wraps: a refusal would tell, without noise, that an entry is large.
        """
        current = self._current(task.release_id)
        manifest = current.manifest
        units = encode(laid_out(parts, manifest.layout), manifest.step, WIDE, parties=1)
        masked = current.contribute(units.astype(manifest.dtype))
        self._answered.add(task.release_id)
        return masked

    def _advertised(self, invitation: Invitation) -> Message:
        identity = self.identity()
        invited = Participant(
            name=identity.name,
            signer=identity.signer,
            trusted=identity.trusted,
            limits=Limits(federation=identity.federation, answered=self._answered),
            entropy=os.urandom,
        )
        advertisement = invited.advertise(invitation)
        self._round = invited
        return advertisement

    def _current(self, release_id: str) -> Participant:
        if self._round is None or self._round.manifest.release_id != release_id:
            raise SecureAggregationError(
                "this participant is in no round of that release; it was restarted, or is in a later one: ask again"
            )
        return self._round


def _check_cap(task: Task, agreed: FederationManifest) -> None:
    """Refuse a cap on a shopper's account above the budget that was agreed."""
    cap = budget_mu2(Trust(task.trust), agreed.epsilon, agreed.delta)
    if task.trust != Trust.NONE and not task.cap_mu2 <= cap * (1 + PRICE_TOLERANCE):
        raise ManifestError(
            f"the task's cap on an account is mu^2 {task.cap_mu2:.6g}; epsilon {agreed.epsilon:g} at delta "
            f"{agreed.delta:.3g}, which the federation agreed to, is {cap:.6g}"
        )


def _check_cohort(calibrated: int, promised: int) -> None:
    """Refuse shares of noise that add up to too little in the smallest cohort whose sum may be seen."""
    if calibrated > promised:
        raise ManifestError(
            f"the task's noise is calibrated for {calibrated} participants, and a sum of {promised} may be released"
        )


def _check_unit(task: Task, manifest: RoundManifest) -> None:
    """Refuse a unit or a layout that lets a sum say more than the noisy sum of all.

    On a coarser grid than that of its noise every contribution would be rounded by itself, under its own share of
    the noise alone, and the shares of others would not cover what is left of it.
    """
    layout = layout_of(task)
    if dict(manifest.layout) != layout:
        raise ManifestError("the task's layout is not that of the signed manifest; the round was changed")
    if task.trust == Trust.DISTRIBUTED:
        least = most = NoiseShare.of(task, sum(layout.values())).step
    else:
        least, most = GRID, max(GRID, FINENESS * task.clipping_norm)
    if not least <= manifest.step <= most:
        raise ManifestError(
            f"the round's unit is {manifest.step:.6g}; at this noise and clipping norm it must be {least:.6g} to "
            f"{most:.6g}"
        )


def laid_out(
    parts: Mapping[str, NDArray[np.float64]], layout: tuple[tuple[str, int], ...]
) -> NDArray[np.float64]:
    """Return the parts in the order of a layout, with zeros where a participant has nothing.

    Raises:
        SecureAggregationError: a part is of another size, or the layout has no place for it.
    """
    lengths = dict(layout)
    for name, value in parts.items():
        if lengths.get(name) != value.size:
            raise SecureAggregationError(
                f"the layout has {lengths.get(name, 0)} places for part {name!r}, which takes {value.size}"
            )
    return np.concatenate(
        [np.ravel(parts[name]) if name in parts else np.zeros(length) for name, length in layout]
    )


@lru_cache(maxsize=1024)
def party_at(folder: str) -> Party:
    """Return the party whose identity lies in a folder, the same one in every message to this process."""
    return Party(Path(folder))
