"""One participant in one round: what it says in each phase, and what it must see before it says it.

Each phase happens once and in order. A message out of turn changes nothing. A message that breaks a rule ends the
round for this participant: its secrets are gone and it says nothing more, which others see as a drop-out.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import OutOfTurn, PrivacyError, SecureAggregationError
from privacy.federation_manifest import FederationManifest
from privacy.secagg import masks
from privacy.secagg.identity import Signer, Trusted
from privacy.secagg.manifest import RoundManifest, Unsigned
from privacy.secagg.messages import (
    Advertisement,
    Confirmation,
    Confirmations,
    Delivery,
    Invitation,
    Masked,
    Roster,
    Shares,
    Survivors,
    Unmasking,
)
from privacy.secagg.shamir import SECRET_BYTES, SHARE_BYTES, Entropy, is_share, split
from privacy.secagg.views import Signed, check_enough, check_roster, sign, survivors_statement


class Turn(StrEnum):
    """What a participant is waiting for."""

    ADVERTISE = "advertise"
    SHARE = "share"
    RECEIVE = "receive"
    CONTRIBUTE = "contribute"
    CONFIRM = "confirm"
    UNMASK = "unmask"
    DONE = "done"
    GIVEN_UP = "given up"


_TURNS = tuple(Turn)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a participant holds every round against.

    Attributes:
        federation: what was agreed, with the authority's signature already verified.
        answered: releases that this participant has contributed to; a second contribution would not be charged.
    """

    federation: FederationManifest
    answered: Container[str]


@dataclass(kw_only=True)
class _Secrets:
    """What dies with the round: private keys, the seed, and shares of others' secrets by owner."""

    sealing: X25519PrivateKey
    masking: X25519PrivateKey
    seed: bytes
    key_shares: dict[str, bytes] = field(default_factory=dict)
    seed_shares: dict[str, bytes] = field(default_factory=dict)


class Participant:
    """The participant `name` in one round."""

    def __init__(
        self, *, name: str, signer: Signer, trusted: Trusted, limits: Limits, entropy: Entropy
    ) -> None:
        """Wait for an invitation.

        Args:
            signer: its key, and the certificate that names it.
            trusted: whose signatures count.
            entropy: gives so many bytes that nobody can guess: `os.urandom`.
        """
        self._name, self._signer, self._trusted = name, signer, trusted
        self._limits, self._entropy = limits, entropy
        self._turn, self._lock = Turn.ADVERTISE, Lock()
        self._manifest: RoundManifest
        self._secrets: _Secrets
        self._roster: dict[str, Advertisement] = {}
        self._dealers: tuple[str, ...] = ()
        self._survivors: tuple[str, ...] = ()

    @property
    def turn(self) -> Turn:
        """What it waits for now."""
        return self._turn

    @property
    def manifest(self) -> RoundManifest:
        """The round's manifest, from the first answer on."""
        return self._manifest

    def advertise(self, invitation: Invitation) -> Advertisement:
        """Check the round and answer fresh keys; raises `SecureAggregationError`, as all phases do."""
        with self._phase(Turn.ADVERTISE):
            manifest = self._accepted(invitation)
            sealing, masking = (masks.private_key(self._entropy(SECRET_BYTES)) for _ in range(2))
            seed = self._entropy(SECRET_BYTES)
            self._manifest, self._secrets = manifest, _Secrets(sealing=sealing, masking=masking, seed=seed)
            unsigned = Advertisement(
                sealing_key=masks.public_of(sealing),
                masking_key=masks.public_of(masking),
                commitment=masks.commitment(manifest.digest, self._name, seed),
                certificate=self._signer.certificate,
                signature=b"",
            )
            own = self._sign(unsigned)
            self._roster = {self._name: own}
            return own

    def share(self, roster: Roster) -> Shares:
        """Check everybody's keys and deal shares of the two secrets, sealed for each."""
        with self._phase(Turn.SHARE):
            advertisements = roster.advertisements()
            check_roster(self._manifest, self._trusted, advertisements)
            if advertisements.get(self._name) != self._roster[self._name]:
                raise SecureAggregationError(f"the roster has not the keys that {self._name} has made")
            self._roster = advertisements
            return self._dealt()

    def receive(self, delivery: Delivery) -> None:
        """Open the shares of the others; whoever is missing here has dropped out before contributing.

        Charge and remember the release between this and `contribute`.
        """
        with self._phase(Turn.RECEIVE):
            self._check_fresh(self._manifest)
            dealers = tuple(sorted({*delivery.sealed, self._name}))
            self._check_known(dealers, self._roster)
            check_enough(self._manifest, dealers)
            for sender, sealed in delivery.sealed.items():
                self._keep(sender, self._opened(sender, sealed))
            self._dealers = dealers

    def contribute(self, values: Unsigned) -> Masked:
        """Answer one's own encoded values under all masks; the values are left as they are.

        Args:
            values: of the manifest's type and length.
        """
        with self._phase(Turn.CONTRIBUTE):
            manifest, secrets = self._manifest, self._secrets
            if values.dtype != manifest.dtype or values.shape != (manifest.length,):
                raise SecureAggregationError(
                    f"a contribution has type {values.dtype} and shape {values.shape}; "
                    f"the round's are {manifest.dtype} and ({manifest.length},)"
                )
            masked = values.copy()
            masks.mask(masked, masks.self_mask_key(manifest.digest, self._name, secrets.seed))
            for peer in self._dealers:
                if peer != self._name:
                    public = self._roster[peer].masking_key
                    key = masks.pair_mask_key(manifest.digest, secrets.masking, public, self._name, peer)
                    masks.pair_mask(masked, key, self._name, peer)
            del secrets.sealing, secrets.masking, secrets.seed
            return self._sign(Masked(content=masked.tobytes(), signature=b""))

    def confirm(self, survivors: Survivors) -> Confirmation:
        """Check who is said to have contributed, and sign it for the others."""
        with self._phase(Turn.CONFIRM):
            names = survivors.names
            self._check_known(names, self._dealers)
            check_enough(self._manifest, names)
            if self._name not in names or list(names) != sorted(set(names)):
                raise SecureAggregationError(
                    f"the list of survivors names somebody twice, or leaves out {self._name} who contributed"
                )
            self._survivors = names
            return Confirmation(signature=self._signer.sign(self._view()))

    def unmask(self, confirmations: Confirmations) -> Unmasking:
        """Once enough others have signed the same list: answer one share for each peer, of one of its secrets."""
        with self._phase(Turn.UNMASK):
            self._check_known(confirmations.signature, self._survivors)
            if len(confirmations.signature) < self._manifest.threshold:
                raise SecureAggregationError(
                    f"{len(confirmations.signature)} participants confirmed the survivors; "
                    f"it takes {self._manifest.threshold}"
                )
            view = self._view()
            for peer, signature in confirmations.signature.items():
                self._trusted.check(peer, self._roster[peer].certificate, view, signature)
            secrets, alive = self._secrets, set(self._survivors)
            seeds = {peer: secrets.seed_shares[peer] for peer in self._survivors}
            keys = {peer: secrets.key_shares[peer] for peer in self._dealers if peer not in alive}
            del self._secrets
            return self._sign(Unmasking(seeds=seeds, keys=keys, signature=b""))

    @contextmanager
    def _phase(self, turn: Turn) -> Iterator[None]:
        """Let one phase happen, once and in order; a broken rule ends the round here."""
        with self._lock:
            if self._turn is not turn:
                raise OutOfTurn(f"{self._name} was asked to {turn}; its turn is to {self._turn}")
            self._turn = Turn.GIVEN_UP
            try:
                yield
            except BaseException as error:
                self.__dict__.pop("_secrets", None)
                if isinstance(error, PrivacyError) and not isinstance(error, SecureAggregationError):
                    raise SecureAggregationError(str(error)) from error
                raise
            self._turn = _TURNS[_TURNS.index(turn) + 1]

    def _accepted(self, invitation: Invitation) -> RoundManifest:
        content = invitation.manifest
        message = RoundManifest.statement_of(content)
        self._trusted.check_coordinator(invitation.certificate, message, invitation.signature)
        manifest = RoundManifest.from_bytes(content)
        manifest.check_agreed(self._limits.federation)
        if self._name not in manifest.cohort:
            raise SecureAggregationError(f"{self._name} was invited to a round whose cohort does not name it")
        self._check_fresh(manifest)
        return manifest

    def _check_fresh(self, manifest: RoundManifest) -> None:
        if manifest.release_id in self._limits.answered:
            raise SecureAggregationError(
                f"{self._name} has contributed to release {manifest.release_id} before; ask under a new release"
            )

    def _dealt(self) -> Shares:
        """Split both secrets over the roster's seats; one's own shares stay here."""
        names = list(self._roster)
        seats = [self._manifest.seat(name) for name in names]
        keys, seeds = (
            split(secret, seats, self._manifest.threshold, self._entropy)
            for secret in (self._secrets.masking.private_bytes_raw(), self._secrets.seed)
        )
        sealed, digests = {}, {}
        for name, key_share, seed_share in zip(names, keys, seeds, strict=True):
            pair = key_share + seed_share
            digests[name] = b"".join(
                masks.share_digest(self._manifest.digest, self._name, name, share)
                for share in (key_share, seed_share)
            )
            if name == self._name:
                self._keep(name, pair)
            else:
                sealed[name] = masks.seal(self._sealing(self._name, name, name), pair)
        return self._sign(Shares(sealed=sealed, digests=digests, signature=b""))

    def _opened(self, sender: str, sealed: bytes) -> bytes:
        return masks.unseal(self._sealing(sender, self._name, sender), sealed, sender)

    def _sealing(self, sender: str, receiver: str, peer: str) -> bytes:
        public = self._roster[peer].sealing_key
        return masks.sealing_key(self._manifest.digest, self._secrets.sealing, public, sender, receiver, peer)

    def _keep(self, owner: str, pair: bytes) -> None:
        key_share, seed_share = pair[:SHARE_BYTES], pair[SHARE_BYTES:]
        if not (is_share(key_share) and is_share(seed_share)):
            raise SecureAggregationError(f"what {owner} dealt are no shares")
        self._secrets.key_shares[owner], self._secrets.seed_shares[owner] = key_share, seed_share

    def _check_known(self, names: Iterable[str], known: Container[str]) -> None:
        strangers = [name for name in names if name not in known]
        if strangers:
            raise SecureAggregationError(f"{strangers[0]} was named, who has no part in this phase")

    def _sign(self, message: Signed) -> Signed:
        return sign(message, self._signer, self._manifest.digest, self._name)

    def _view(self) -> bytes:
        return survivors_statement(self._manifest, self._roster, self._dealers, self._survivors)
