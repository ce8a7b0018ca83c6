"""The family of errors of a participant: each names the thing, the value, the bound and the next step.

No message ever holds an event, an embedding, a key or a shopper's id.
"""


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


class ErasureIncomplete(StoreError):
    """A shopper's rows and key are deleted, but a copy may remain in the write-ahead log for now."""
