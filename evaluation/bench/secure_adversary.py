"""A coordinator without scruples, with some participants on its side, and what it can work out in the end.

It sends what an attack makes of each honest question, takes every answer, and then does its best: it puts together
every secret of which it has enough shares, and takes every mask off that it knows. An input is revealed where what is
left equals the true sum of too few honest participants.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluation.bench.secure_world import World, answers_of
from privacy.errors import PrivacyError, SecureAggregationError
from privacy.secagg import masks
from privacy.secagg.identity import Signer
from privacy.secagg.manifest import RoundManifest, Unsigned
from privacy.secagg.messages import (
    Advertisement,
    Confirmations,
    Delivery,
    Invitation,
    Message,
    Roster,
    Survivors,
    Unmasking,
)
from privacy.secagg.participant import Limits, Participant
from privacy.secagg.shamir import combine
from privacy.secagg.views import survivors_statement

Questions = list[tuple[str, Message]]
Attack = Callable[["Adversary", int, Questions], Questions]
LENGTH: Final = 4


class Watched(Participant):
    """A participant whose view the judge of an attack may look at, and which a traitor gives away."""

    def __init__(self, **words: Any) -> None:
        """Remember what will be wiped."""
        super().__init__(**words)
        self.stolen: dict[str, dict[str, bytes]] = {"keys": {}, "seeds": {}}
        self.private = b""

    @property
    def roster(self) -> Mapping[str, Advertisement]:
        """Everybody's keys, as this participant saw them."""
        return self._roster

    @property
    def dealers(self) -> Sequence[str]:
        """With whom it shares masks."""
        return self._dealers

    @property
    def view(self) -> bytes:
        """What it has signed as the list of survivors, or would sign."""
        return self._view()

    def receive(self, delivery: Delivery) -> None:
        """Keep a copy of all secrets."""
        super().receive(delivery)
        secrets = self._secrets
        self.private = secrets.masking.private_bytes_raw()
        self.stolen = {"keys": dict(secrets.key_shares), "seeds": dict(secrets.seed_shares)}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one adversarial run came to.

    Attributes:
        groups: sets of honest participants whose sum was worked out, each checked against the true sum.
        refusals: how many questions honest participants refused.
        smallest: fewest honest participants of a sum that may be seen.
    """

    groups: tuple[frozenset[str], ...]
    refusals: int
    smallest: int

    @property
    def revealed(self) -> bool:
        """Whether some sum is of too few."""
        return any(len(group) < self.smallest for group in self.groups)


class Adversary:
    """One run of one attack.

    Attributes:
        manifest: the round's, as the coordinator would honestly sign it.
        traitors: participants on the coordinator's side.
        honest: the others.
        victim: one of the honest.
        answers: by phase, what each participant answered last.
    """

    def __init__(self, world: World, rng: random.Random, kind: type[Watched] = Watched) -> None:
        """Choose sides, at most as many traitors as the protocol stands: below a third."""
        self.world, self.rng, self.manifest = world, rng, world.manifest(LENGTH)
        names = list(self.manifest.cohort)
        rng.shuffle(names)
        self.traitors = frozenset(names[: rng.randint(0, (len(names) - 1) // 3)])
        self.honest = [name for name in names if name not in self.traitors]
        self.victim = self.honest[0]
        self.answered: set[str] = set()
        self._kind = kind
        self.refusals = 0
        self.attacker_keys: dict[bytes, bytes] = {}
        self.unmasked: list[tuple[str, Unmasking]] = []
        self.earlier: list[dict[str, Any]] = []
        self.replayed = 0
        self.restart()

    def restart(self) -> None:
        """Have the same members wait for a new round, with new values."""
        self.values: dict[str, Unsigned] = {
            name: np.frombuffer(os.urandom(4 * LENGTH), dtype="<u4") for name in self.manifest.cohort
        }
        self.members = {name: self._member(name) for name in self.manifest.cohort}
        self.answers: list[dict[str, Any]] = [{} for _ in range(5)]
        self._asked = {name: answers_of(one, self.values[name]) for name, one in self.members.items()}

    def run(self, attack: Attack | None) -> Verdict:
        """Go through all phases under an attack, and try to work out inputs; None: an honest round."""
        for phase in range(5):
            questions = self.questions(phase)
            for name, question in attack(self, phase, questions) if attack else questions:
                self.ask(name, question)
        return self._verdict()

    def ask(self, name: str, question: Message) -> None:
        """Ask, and note the answer or the refusal."""
        phase = (Invitation, Roster, Delivery, Survivors, Confirmations).index(type(question))
        try:
            answer = self._asked[name][phase](question)
        except SecureAggregationError:
            self.refusals += name not in self.traitors
            return
        self.answers[phase][name] = answer
        if isinstance(answer, Unmasking):
            self.unmasked.append((name, answer))

    def questions(self, phase: int) -> Questions:
        """Return what an honest coordinator would ask now, of everybody who still answers."""
        before = self.answers[phase - 1]
        if phase == 0:
            return [(name, self.invitation(self.manifest.to_bytes())) for name in self.manifest.cohort]
        if phase == 1:
            return [(name, Roster.of(dict(sorted(before.items())))) for name in before]
        if phase == 2:
            return [(name, self.delivery(name, before)) for name in before]
        if phase == 3:
            return [(name, Survivors(names=tuple(sorted(before)))) for name in before]
        return [(name, self.confirmations(name)) for name in before]

    def invitation(self, manifest: bytes, signer: Signer | None = None) -> Invitation:
        """Return any manifest with a valid signature of the coordinator, or of another."""
        signer = signer or self.world.coordinator
        signature = signer.sign(RoundManifest.statement_of(manifest))
        return Invitation(manifest=manifest, certificate=signer.certificate, signature=signature)

    def delivery(self, name: str, dealers: Sequence[str] | Mapping[str, Any]) -> Delivery:
        """Return what the named dealers sealed for a participant."""
        shares = self.answers[1]
        return Delivery(
            sealed={one: shares[one].sealed[name] for one in sorted(dealers) if one != name and one in shares}
        )

    def confirmations(self, name: str, survivors: tuple[str, ...] | None = None) -> Confirmations:
        """Return all signatures under the list that a participant saw; traitors sign whatever is wanted."""
        own = self.members[name]
        view = own.view if survivors is None else self.view(name, survivors)
        signatures = {
            peer: answer.signature
            for peer, answer in self.answers[3].items()
            if self.members[peer].view == view
        }
        for traitor in self.traitors & set(own.dealers):
            signatures[traitor] = self.world.members[traitor].sign(view)
        return Confirmations(signature=dict(sorted(signatures.items())))

    def view(self, name: str, survivors: tuple[str, ...]) -> bytes:
        """Return what a participant would sign if it were shown this list of survivors."""
        own = self.members[name]
        return survivors_statement(own.manifest, own.roster, own.dealers, survivors)

    def _member(self, name: str) -> Watched:
        limits = Limits(federation=self.world.federation, answered=self.answered)
        signer = self.world.members[name]
        return self._kind(
            name=name, signer=signer, trusted=self.world.trusted, limits=limits, entropy=os.urandom
        )

    def _verdict(self) -> Verdict:
        smallest = self.manifest.fewest - len(self.traitors)
        groups = tuple(self._worked_out(group) for group in self._groups())
        found = tuple(group for group in groups if group)
        return Verdict(groups=found, refusals=self.refusals, smallest=smallest)

    def _groups(self) -> list[set[str]]:
        """Return honest contributors in groups that share masks which the adversary does not know."""
        left, groups = {name for name in self.answers[2] if name not in self.traitors}, []
        while left:
            group, edge = set(), {left.pop()}
            while edge:
                name = edge.pop()
                group.add(name)
                edge |= {peer for peer in left if self._cancels(name, peer)}
                left -= edge
            groups.append(group)
        return groups

    def _cancels(self, name: str, peer: str) -> bool:
        """Whether two contributors put the same unknown mask on, with opposite signs."""
        one, other = self.members[name], self.members[peer]
        return (
            peer in one.dealers
            and name in other.dealers
            and one.manifest.digest == other.manifest.digest
            and one.roster[peer] == other.roster[peer]
            and one.roster[name] == other.roster[name]
            and self._pair_key(name, peer) is None
        )

    def _worked_out(self, group: set[str]) -> frozenset[str]:
        """Return the group if its sum can be computed, else nobody."""
        total = np.zeros(LENGTH, dtype="<u4")
        for name in group:
            own = self.members[name]
            total += np.frombuffer(self.answers[2][name].content, dtype="<u4")
            seed = self._secret("seeds", name)
            masks.mask(total, masks.self_mask_key(own.manifest.digest, name, seed), subtract=True)
            for peer in own.dealers:
                key = None if peer in group or peer == name else self._pair_key(name, peer)
                if key is not None:
                    masks.pair_mask(total, key, name, peer, undo=True)
        true = np.sum([self.values[name] for name in group], axis=0, dtype="<u4")
        return frozenset(group) if np.array_equal(total, true) else frozenset()

    def _pair_key(self, name: str, peer: str) -> bytes | None:
        """Return the key of a mask that `name` put on, where the adversary knows a private key of the pair."""
        own = self.members[name]
        mine, theirs = own.roster[name].masking_key, own.roster[peer].masking_key
        for known, other in ((self._private(peer, theirs), mine), (self._private(name, mine), theirs)):
            if known is not None:
                return masks.pair_mask_key(own.manifest.digest, masks.private_key(known), other, name, peer)
        return None

    def _private(self, name: str, public: bytes) -> bytes | None:
        if public in self.attacker_keys:
            return self.attacker_keys[public]
        private = self.members[name].private if name in self.traitors else self._secret("keys", name)
        return private if private and masks.public_of(masks.private_key(private)) == public else None

    def _secret(self, kind: str, owner: str) -> bytes:
        """Put a secret together from all shares that were given or stolen; wrong where there are too few."""
        manifest = self.members[owner].manifest
        given = [(holder, getattr(answer, kind)) for holder, answer in self.unmasked]
        given += [(traitor, self.members[traitor].stolen[kind]) for traitor in self.traitors]
        shares = {manifest.seat(holder): dealt[owner] for holder, dealt in given if owner in dealt}
        try:
            return combine(shares, manifest.threshold)
        except PrivacyError:
            return bytes(masks.KEY_BYTES)
