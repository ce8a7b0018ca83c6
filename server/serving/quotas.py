"""How much a caller may ask for: requests per second with a burst, and calls in progress at once.

An account belongs to an identity and a method, so that more connections or more certificates of one name give no
more, and health checks take nothing from rankings. Every worker process counts for itself: its share is the quota
divided by the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from server.errors import EndpointError, QuotaExceeded

BUSY_RETRY_SECONDS = 0.1
STREAMS_AT_ONCE = 64
"""Calls of a method that lasts, in progress at once, of one identity at one worker."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What one identity may ask of each method of one endpoint.

    Attributes:
        per_second: calls per second in the long run (a stream of events is one call).
        burst: calls that may come at once after a pause.
        at_once: calls in progress at the same time; less than a worker takes in all, so that others get in too.
    """

    per_second: float = 1000.0
    burst: float = 2000.0
    at_once: int = 192

    def __post_init__(self) -> None:
        """Refuse a quota under which nobody could call."""
        for name, value in (
            ("per_second", self.per_second),
            ("burst", self.burst),
            ("at_once", self.at_once),
        ):
            if not 0 < value < float("inf"):
                raise EndpointError(f"the quota's {name} is {value}; give a number above 0")
        if self.burst < 1:
            raise EndpointError(
                f"the quota's burst is {self.burst:g}; give 1 or more, or no call ever passes"
            )

    def share(self, workers: int) -> Quota:
        """The part of one worker among `workers`; the burst is never below one call."""
        return Quota(
            per_second=self.per_second / workers,
            burst=max(1.0, self.burst / workers),
            at_once=max(1, self.at_once // workers),
        )

    def of_streams(self) -> Quota:
        """The same for a method whose calls last."""
        return replace(self, at_once=min(self.at_once, STREAMS_AT_ONCE))


class Account:
    """What one identity has used: a bucket of tokens that fills by `per_second`, and the calls in progress.

    Source of the bucket: J. Turner, "New directions in communications", IEEE Communications Magazine 24(10), 1986.
    """

    __slots__ = ("_at", "_quota", "_subject", "_tokens", "in_progress")

    def __init__(self, quota: Quota, subject: str, now: float) -> None:
        """Start with a full bucket; `subject` names whose it is in a refusal."""
        self._quota, self._subject = quota, subject
        self._tokens, self._at = quota.burst, now
        self.in_progress = 0

    def enter(self, now: float) -> None:
        """Take a token and begin a call at `now`, in seconds of a clock that never goes back.

        Raises `QuotaExceeded`.
        """
        quota = self._quota
        if self.in_progress >= quota.at_once:
            raise self._refusal(f"{quota.at_once} calls in progress at once", BUSY_RETRY_SECONDS)
        tokens = min(quota.burst, self._tokens + (now - self._at) * quota.per_second)
        self._at = now
        if tokens < 1.0:
            self._tokens = tokens
            raise self._refusal(f"{quota.per_second:g} calls per second", (1.0 - tokens) / quota.per_second)
        self._tokens = tokens - 1.0
        self.in_progress += 1

    def leave(self) -> None:
        """End a call that was begun."""
        self.in_progress -= 1

    def _refusal(self, bound: str, seconds: float) -> QuotaExceeded:
        return QuotaExceeded(
            f"{self._subject} may have {bound} at this worker of the endpoint; "
            f"try again in {seconds:.3g} s, or ask the operator for a larger quota",
            subject=self._subject,
            retry_seconds=seconds,
        )
