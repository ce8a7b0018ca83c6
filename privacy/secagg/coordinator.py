"""The coordinator's side of one round: it asks, counts every answer once, and learns the sum and nothing else.

    questions = aggregation.begin()            # an Invitation for everybody of the cohort
    aggregation.accept(name, answer)           # as answers come; whatever is unfit is refused by name
    questions = aggregation.close()            # of the next phase; at the deadline, or once nobody is awaited
    total = aggregation.finish()               # in place of the fifth `close`

Nothing here keeps time; whoever drives it closes each phase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from enum import StrEnum
from typing import Any, Final

import numpy as np

from privacy.errors import CohortLost, OutOfTurn, PrivacyError, SecureAggregationError
from privacy.secagg import masks
from privacy.secagg.identity import Signer, Trusted
from privacy.secagg.manifest import RoundManifest, Unsigned
from privacy.secagg.messages import (
    DIGEST_BYTES,
    Advertisement,
    Confirmation,
    Confirmations,
    Delivery,
    Invitation,
    Masked,
    Message,
    Roster,
    Shares,
    Survivors,
    Unmasking,
)
from privacy.secagg.shamir import combine
from privacy.secagg.views import check_advertisement, survivors_statement


class Phase(StrEnum):
    """Which answers are being collected."""

    ADVERTISE = "advertise"
    SHARE = "share"
    CONTRIBUTE = "contribute"
    CONFIRM = "confirm"
    UNMASK = "unmask"
    OVER = "over"


_PHASES: Final = tuple(Phase)
_ANSWERS: Final[Mapping[Phase, type[Message]]] = {
    Phase.ADVERTISE: Advertisement,
    Phase.SHARE: Shares,
    Phase.CONTRIBUTE: Masked,
    Phase.CONFIRM: Confirmation,
    Phase.UNMASK: Unmasking,
}


class Aggregation:
    """One round of secure aggregation.

    Attributes:
        manifest: what was signed.
        phase: which answers are being collected.
        complaints: false shares that were left aside, in words.
    """

    def __init__(self, *, manifest: RoundManifest, signer: Signer, trusted: Trusted) -> None:
        """Prepare a round; nobody has been asked yet."""
        self.manifest, self.phase = manifest, Phase.ADVERTISE
        self.complaints: list[str] = []
        self._signer, self._trusted = signer, trusted
        self._expected = frozenset(manifest.cohort)
        self._answers: dict[str, Any] = {}
        self._roster: dict[str, Advertisement] = {}
        self._shares: dict[str, Shares] = {}
        self._survivors: tuple[str, ...] = ()
        self._total: Unsigned = np.zeros(manifest.length, dtype=manifest.dtype)
        self._secret_shares: dict[str, dict[int, bytes]] = {}

    @property
    def awaited(self) -> frozenset[str]:
        """Who was asked in this phase and has not answered yet."""
        return self._expected - self._answers.keys()

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose contributions the sum holds, sorted; empty before the third phase is closed."""
        return self._survivors

    def begin(self) -> dict[str, Invitation]:
        """Return the first question for everybody of the cohort."""
        content = self.manifest.to_bytes()
        signature = self._signer.sign(RoundManifest.statement_of(content))
        invitation = Invitation(manifest=content, certificate=self._signer.certificate, signature=signature)
        return dict.fromkeys(self.manifest.cohort, invitation)

    def accept(self, name: str, message: Message) -> None:
        """Take an answer of this phase.

        Raises:
            OutOfTurn: it came twice, too late, too early, or unasked; nothing has changed.
            SecureAggregationError: it is unfit; its sender is awaited still, and drops out with the phase.
        """
        wanted = _ANSWERS.get(self.phase)
        if wanted is None or type(message) is not wanted or name not in self._expected:
            raise OutOfTurn(
                f"{name} answered {type(message).__name__}, which is not awaited in phase {self.phase}"
            )
        if name in self._answers:
            raise OutOfTurn(f"{name} answered phase {self.phase} twice; it was counted once")
        try:
            self._take(name, message)
        except PrivacyError as error:
            raise SecureAggregationError(f"{name} in phase {self.phase}: {error}") from error
        # A contribution lies in the sum already, and of one sum there is one copy.
        self._answers[name] = None if self.phase is Phase.CONTRIBUTE else message

    def close(self) -> dict[str, Message]:
        """End the phase and return the questions of the next; raises `CohortLost` where too few have answered."""
        following: Mapping[Phase, Callable[[], dict[str, Message]]] = {
            Phase.ADVERTISE: self._rosters,
            Phase.SHARE: self._deliveries,
            Phase.CONTRIBUTE: self._lists,
            Phase.CONFIRM: self._confirmations,
        }
        if self.phase not in following:
            raise OutOfTurn(f"phase {self.phase} is not closed but finished")
        self._check_enough()
        questions = following[self.phase]()
        self.phase = _PHASES[_PHASES.index(self.phase) + 1]
        self._expected, self._answers = frozenset(questions), {}
        return questions

    def finish(self) -> Unsigned:
        """End the last phase and return the sum of the survivors' contributions, modulo 2^b.

        Raises:
            CohortLost: too few shares came.
            SecureAggregationError: a participant dealt false shares; it is named, and nothing is released.
        """
        if self.phase is not Phase.UNMASK:
            raise OutOfTurn(f"phase {self.phase} is closed, not finished")
        self._check_enough()
        self.phase = Phase.OVER
        for name in self._survivors:
            seed = self._secret(name)
            if masks.commitment(self.manifest.digest, name, seed) != self._roster[name].commitment:
                raise SecureAggregationError(f"{name} dealt shares of another seed than it committed to")
            key = masks.self_mask_key(self.manifest.digest, name, seed)
            masks.mask(self._total, key, subtract=True)
        for name in self._dropped():
            self._take_off(name)
        return self._total

    def _take(self, name: str, message: Message) -> None:
        """Check an answer, and add it up where it is a contribution or a share."""
        digest = self.manifest.digest
        if isinstance(message, Advertisement):
            check_advertisement(self.manifest, self._trusted, name, message)
            return
        certificate = self._roster[name].certificate
        if isinstance(message, Confirmation):
            self._trusted.check(name, certificate, self._view(), message.signature)
        elif isinstance(message, Shares | Masked | Unmasking):
            self._trusted.check(name, certificate, message.statement(digest, name), message.signature)
        if isinstance(message, Shares):
            _check_names(message.sealed, self._roster.keys() - {name})
            _check_names(message.digests, self._roster.keys())
        elif isinstance(message, Masked):
            self._add(message)
        elif isinstance(message, Unmasking):
            _check_names(message.seeds, set(self._survivors))
            _check_names(message.keys, self._dropped())
            self._keep_shares(name, message)

    def _add(self, message: Masked) -> None:
        if len(message.content) != self._total.nbytes:
            raise SecureAggregationError(
                f"a contribution has {len(message.content)} bytes; the round's have {self._total.nbytes}"
            )
        self._total += np.frombuffer(message.content, dtype=self.manifest.dtype)

    def _keep_shares(self, holder: str, message: Unmasking) -> None:
        """Keep the shares that are what their owner dealt; a false one is left aside."""
        seat = self.manifest.seat(holder)
        for dealt, place in ((message.keys, 0), (message.seeds, DIGEST_BYTES)):
            for owner, share in dealt.items():
                said = self._shares[owner].digests[holder][place : place + DIGEST_BYTES]
                if masks.share_digest(self.manifest.digest, owner, holder, share) == said:
                    self._secret_shares.setdefault(owner, {})[seat] = share
                else:
                    self.complaints.append(f"the share that {holder} gave is not the one that {owner} dealt")

    def _rosters(self) -> dict[str, Message]:
        self._roster = dict(sorted(self._answers.items()))
        roster = Roster.of(self._roster)
        return dict.fromkeys(self._roster, roster)

    def _deliveries(self) -> dict[str, Message]:
        self._shares = dict(sorted(self._answers.items()))
        return {
            name: Delivery(
                sealed={
                    sender: shares.sealed[name] for sender, shares in self._shares.items() if sender != name
                }
            )
            for name in self._shares
        }

    def _lists(self) -> dict[str, Message]:
        self._survivors = tuple(sorted(self._answers))
        return dict.fromkeys(self._survivors, Survivors(names=self._survivors))

    def _confirmations(self) -> dict[str, Message]:
        signatures = {name: answer.signature for name, answer in self._answers.items()}
        return dict.fromkeys(signatures, Confirmations(signature=signatures))

    def _check_enough(self) -> None:
        """The first three phases must leave a minimum cohort; confirming and unmasking take the threshold."""
        counting = self.phase in (Phase.ADVERTISE, Phase.SHARE, Phase.CONTRIBUTE)
        needed = self.manifest.fewest if counting else self.manifest.threshold
        if len(self._answers) < needed:
            closed, self.phase = self.phase, Phase.OVER
            raise CohortLost(
                f"{len(self._answers)} of {len(self._expected)} participants answered phase {closed} in time; "
                f"it takes {needed}, so the round releases nothing"
            )

    def _dropped(self) -> set[str]:
        """Who dealt shares and did not contribute in time: their masks lie in the sums of the others."""
        return self._shares.keys() - set(self._survivors)

    def _secret(self, owner: str) -> bytes:
        try:
            return combine(self._secret_shares.get(owner, {}), self.manifest.threshold)
        except SecureAggregationError as error:
            raise SecureAggregationError(f"a secret of {owner} cannot be put together: {error}") from error

    def _take_off(self, name: str) -> None:
        """Take the masks that survivors share with one who dropped out off the sum."""
        private = masks.private_key(self._secret(name))
        if masks.public_of(private) != self._roster[name].masking_key:
            raise SecureAggregationError(f"{name} dealt shares of another key than it advertised")
        for survivor in self._survivors:
            public = self._roster[survivor].masking_key
            key = masks.pair_mask_key(self.manifest.digest, private, public, name, survivor)
            masks.pair_mask(self._total, key, survivor, name, undo=True)

    def _view(self) -> bytes:
        return survivors_statement(self.manifest, self._roster, tuple(self._shares), self._survivors)


def _check_names(given: Mapping[str, bytes], wanted: Set[str]) -> None:
    if given.keys() != wanted:
        raise SecureAggregationError(
            f"the answer speaks of {len(given)} participants, not of exactly the {len(wanted)} it was asked about"
        )
