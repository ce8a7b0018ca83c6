"""What a call to the ranking endpoint can end with, before anything is sent and after.

Every message names the field, what is wrong with it, the bound and the next step; never a shopper, an item or an
event.
"""

from __future__ import annotations

from collections.abc import Sequence

from client import errors
from client.errors import ClientError


class RankingError(ClientError):
    """Base of what a call to the ranking endpoint can end with."""


class InvalidQuestion(RankingError):
    """A question contradicts itself, or holds what no request can carry; nothing was sent."""


class InvalidEvent(RankingError, errors.InvalidEvent):
    """An event holds what no request can carry; nothing was sent."""


class InvalidConnection(RankingError):
    """Address, time limits, certificate or key cannot be used; nothing was sent."""


class ClientClosed(RankingError):
    """The client was closed before the call, or during it."""


class EndpointUnreachable(RankingError):
    """No endpoint answered at the address, after every attempt."""


class DeadlineExceeded(RankingError):
    """The endpoint did not answer within the time given."""


class EndpointBusy(RankingError):
    """Too many calls of this client are under way; nothing was sent."""


class RequestRefused(RankingError):
    """The endpoint refused the request; `violations` are (field, problem) where it named fields."""

    def __init__(self, words: str, violations: Sequence[tuple[str, str]] = ()) -> None:
        """Keep the endpoint's words and the fields at fault."""
        super().__init__(words)
        self.violations = tuple(violations)


class EndpointFailed(RankingError):
    """The endpoint failed in a way that the request is not the cause of."""
