"""What can go wrong in the coordinator, the registry and the ranking endpoint.

Every message names the thing, the value where it is public, the bound and the next step; never an event, an
embedding, a key or a shopper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ServerError(Exception):
    """Base of every error that the room `server` raises on purpose."""


class RegistryError(ServerError):
    """The model registry cannot do what was asked."""


class UnknownVersion(RegistryError):
    """No model version of this name was added to the registry."""


class CorruptVersion(RegistryError):
    """The files of a model version do not have the hash that they were stored under."""


class UntrustedVersion(RegistryError):
    """A model version is not signed, not by a signer whom this registry lists, or not as it is."""


class InvalidModel(RegistryError):
    """Weights or card cannot be stored: empty, not finite, or not plain numbers or JSON."""


class NothingPromoted(RegistryError):
    """The registry holds no promoted version, so there is nothing to serve."""


class CatalogueError(ServerError):
    """The catalogue cannot be read, or does not belong to the model version."""


class PolicyError(ServerError):
    """A knob of a surface is unknown or out of bounds."""


class EndpointError(ServerError):
    """The endpoint cannot be opened as configured."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One field of a request that was refused: its path, and what is wrong, the bound and the next step."""

    field: str
    problem: str


class InvalidRequest(ServerError):
    """A request breaks the protocol; `violations` name the fields at fault, and there are `more` of them."""

    def __init__(self, *violations: Violation, more: int = 0) -> None:
        """Keep the violations; the message joins them."""
        words = "; ".join(f"{violation.field}: {violation.problem}" for violation in violations)
        super().__init__(f"{words}; and {more} more" if more else words)
        self.violations, self.more = violations, more


MAX_VIOLATIONS = 10
"""Violations told to a caller; details travel in a header of at most 8 KiB."""


class Violations:
    """What is wrong with one request: the first `MAX_VIOLATIONS` in words, the others counted."""

    def __init__(self) -> None:
        """Nothing is wrong yet."""
        self._told: list[Violation] = []
        self._more = 0

    def note(self, field: str, problem: str) -> None:
        """One field is wrong."""
        if len(self._told) < MAX_VIOLATIONS:
            self._told.append(Violation(field=field, problem=problem))
        else:
            self._more += 1

    def first_of(self, places: Sequence[int]) -> Sequence[int]:
        """Of many places at fault those that there is room to note; the others are counted."""
        room = MAX_VIOLATIONS - len(self._told)
        self._more += max(len(places) - room, 0)
        return places[:room]

    def refuse_any(self) -> None:
        """Raise `InvalidRequest` where anything is wrong."""
        if self._told:
            raise InvalidRequest(*self._told, more=self._more)


class UnknownItem(ServerError):
    """The item that the surface starts from is not in the catalogue."""


class WrongModelVersion(ServerError):
    """The request carries an embedding of another model version than the one that is served."""


class FeedbackUnavailable(ServerError):
    """Events could not be stored now; nothing of the batch is acknowledged."""


class ProfileUnavailable(ServerError):
    """Stored profiles cannot be read now."""


class StoredProfilesOff(ServerError):
    """The request names a shopper, and this endpoint keeps no shopper's events for this caller."""


class Unauthenticated(ServerError):
    """The caller shows no certificate from which an identity follows: absent, expired, revoked or misnamed."""


class Forbidden(ServerError):
    """The caller is known and may not do this here."""


class QuotaExceeded(ServerError):
    """The caller has used up what it may ask for now.

    Attributes:
        subject: whose quota, and of what: words without anything of the request.
        retry_seconds: when to try again; more than 0.
    """

    def __init__(self, message: str, *, subject: str, retry_seconds: float) -> None:
        """Keep what a caller needs in order to come back in time."""
        super().__init__(message)
        self.subject = subject
        self.retry_seconds = retry_seconds


class SilentStream(ServerError):
    """The caller keeps a stream open and sends nothing, or too slowly."""


class StoreFull(FeedbackUnavailable):
    """There is no space left for events; rankings go on, and a person has to make room."""
