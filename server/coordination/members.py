"""Who may take part now: the certificates in the coordinator's folder of members, read anew while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy.certificates import certificates_in
from privacy.errors import CertificateError
from privacy.member_certificates import FORMER, MemberCertificate
from privacy.secagg.identity import Trusted, node_name
from server.errors import ServerError

log = logging.getLogger("fedrank.coordination.members")

LOOK_SECONDS: Final = 1.0
"""How long a change of the files may go unnoticed."""


class NotAMember(ServerError):
    """A node may not take part; `merchant` is whose key it shows, or nothing where nobody's."""

    def __init__(self, merchant: str, reason: str) -> None:
        """Keep whose node it is."""
        super().__init__(reason)
        self.merchant = merchant


@dataclass(frozen=True, kw_only=True)
class MemberFiles:
    """Where membership is written: a folder of ID.pem, the authority and its revocation list, all PEM."""

    members: Path
    authority: Path
    revoked: Path

    def contents(self) -> dict[str, bytes]:
        """All of them: a file system's times are too coarse to tell two writes apart."""
        found = {path.stem: path.read_bytes() for path in sorted(self.members.glob("*.pem"))}
        return {**found, _AUTHORITY: self.authority.read_bytes(), _REVOKED: self.revoked.read_bytes()}


_AUTHORITY, _REVOKED = "/authority", "/revoked"
"""Keys that no merchant id can be."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the files say; `former` has those whose certificate was given up, and whose key has no other."""

    trusted: Trusted
    by_key: Mapping[bytes, tuple[str, MemberCertificate]]
    former: Mapping[bytes, tuple[str, MemberCertificate]]


class Members:
    """The members as the files say, at most `LOOK_SECONDS` old. Threads may share one."""

    def __init__(
        self, files: MemberFiles, domain: str, now: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        """Read the files; raises `CertificateError` where authority or revocation list cannot be used."""
        self._files, self._domain, self._now, self._monotonic = files, domain, now, monotonic
        self._lock = threading.Lock()
        self._seen = files.contents()
        self._known = self._understood(self._seen)
        self._next_look = monotonic() + LOOK_SECONDS

    def check(self, public_key: bytes, message: bytes, signature: bytes) -> str:
        """Return the merchant whose node has signed the message with this key (PEM).

        Raises:
            NotAMember: nobody's key, an expired or revoked certificate, or another's signature.
        """
        known = self._current()
        merchant, member = known.by_key.get(public_key, ("", None))
        if member is None:
            raise _refusal(known, public_key, message, signature)
        try:
            known.trusted.check(merchant, member.certificate, message, signature)
        except CertificateError as error:
            raise NotAMember(merchant, str(error)) from error
        return merchant

    def keys(self) -> dict[str, bytes]:
        """Public key (PEM) of every member whose certificate is not revoked, by merchant."""
        known = self._current()
        return {
            merchant: member.public_key
            for merchant, member in known.by_key.values()
            if (member.issuer, member.serial) not in known.trusted.revoked
        }

    def revoked(self) -> set[bytes]:
        """Public keys (PEM) of members whose certificate is revoked."""
        known = self._current()
        valid = set(self.keys().values())
        return {key for key in known.by_key if key not in valid}

    def _current(self) -> _Known:
        with self._lock:
            if self._monotonic() >= self._next_look:
                self._next_look = self._monotonic() + LOOK_SECONDS
                self._look()
            return self._known

    def _look(self) -> None:
        """Take up changed files; files that cannot be used leave what was known before."""
        try:
            contents = self._files.contents()
            if contents == self._seen:
                return
            self._seen = contents
            self._known = self._understood(contents)
        except (OSError, CertificateError) as error:
            log.error("the membership files cannot be used, what was known before counts: %s", error)
            return
        log.info("membership has changed: %d members", len(self._known.by_key))

    def _understood(self, contents: Mapping[str, bytes]) -> _Known:
        trusted = Trusted.read(
            authority=contents[_AUTHORITY], revoked=contents[_REVOKED], domain=self._domain, now=self._now
        )
        by_key: dict[bytes, tuple[str, MemberCertificate]] = {}
        for merchant, pem in contents.items():
            if merchant in (_AUTHORITY, _REVOKED, FORMER):
                continue
            try:
                member = MemberCertificate.read(pem)
            except CertificateError as error:
                log.error("merchant %s is no member: %s", merchant, error)
                continue
            by_key[member.public_key] = merchant, member
        return _Known(trusted=trusted, by_key=by_key, former=_former(contents.get(FORMER), self._domain))


def _former(pem: bytes | None, domain: str) -> dict[bytes, tuple[str, MemberCertificate]]:
    """Read the certificates that were given up: they let nobody in, so that damaged ones are only noted."""
    try:
        read = [(node_name(one, domain), MemberCertificate.read(one)) for one in certificates_in(pem or b"")]
    except CertificateError as error:
        if pem:
            log.warning("the certificates of former members cannot be read: %s", error)
        return {}
    return {member.public_key: (name, member) for name, member in read}


def _refusal(known: _Known, public_key: bytes, message: bytes, signature: bytes) -> NotAMember:
    """Return why a key of no member is turned away; whoever was one learns what became of its certificate."""
    merchant, member = known.former.get(public_key, ("", None))
    if member is None:
        return NotAMember("", "the node's key belongs to no member; send the operator the certificate again")
    if merchant not in {name for name, _ in known.by_key.values()}:
        try:
            known.trusted.check(merchant, member.certificate, message, signature)
        except CertificateError as error:
            return NotAMember(merchant, str(error))
    return NotAMember(
        merchant, f"the certificate of {merchant} was replaced; start the node with the new one"
    )
