"""The family of errors of a participant: each names the thing, the value, the bound and the next step.

No message ever holds an event, an embedding, a key or a shopper's id.
"""

from collections.abc import Mapping
from dataclasses import dataclass


class ClientError(Exception):
    """Base of every error of the client room."""


class InvalidEvent(ClientError):
    """An event, or a column of events, holds a value that no event can have."""


class StoreError(ClientError):
    """The event store cannot do what it was asked."""


class StoreUnavailable(StoreError):
    """The database under the event store is missing, unreachable, full, or of a newer version."""


class StoreFull(StoreUnavailable):
    """There is no space left for what should be stored; nothing of it was kept, and reading goes on."""


class StoreInterrupted(StoreError):
    """Another thread that stored a batch together with its own was interrupted; the outcome is unknown."""


class WrongKeys(StoreError):
    """The event store was opened with other keys than those it was written with."""


class NotTheLiveStore(StoreError):
    """Keys should be rotated over a store that is not the one that the keyring knows."""


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What an erasure destroyed: rows by table, and data keys."""

    rows: Mapping[str, int]
    keys: int


class ErasureIncomplete(StoreError):
    """Rows and keys are deleted, but a copy may remain in a write-ahead log for now.

    Attributes:
        erased: what the erasure of a shopper destroyed; None for a run of retention.
    """

    def __init__(self, message: str, erased: Erased | None = None) -> None:
        """Keep what was destroyed, for the receipt."""
        super().__init__(message)
        self.erased = erased
