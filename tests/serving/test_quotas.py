"""What a caller may ask for: never more than the quota, in any window, and all of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import EndpointError, QuotaExceeded
from server.serving.quotas import Account, Quota


@given(
    quota=st.builds(
        Quota,
        per_second=st.floats(0.1, 1000),
        burst=st.floats(1, 50),
        at_once=st.just(10**6),
    ),
    pauses=st.lists(st.floats(0, 3), max_size=200),
)
def test_no_window_of_any_traffic_holds_more_calls_than_burst_and_rate_allow(
    quota: Quota, pauses: list[float]
) -> None:
    """Between any two admitted calls lie at most burst + rate x time calls."""
    account, now, admitted = Account(quota, "someone", 0.0), 0.0, []
    for pause in pauses:
        now += pause
        try:
            account.enter(now)
        except QuotaExceeded:
            continue
        admitted.append(now)
    for first, began in enumerate(admitted):
        for last in range(first, len(admitted)):
            allowed = quota.burst + quota.per_second * (admitted[last] - began)
            assert last - first + 1 <= allowed + 1e-6


@given(per_second=st.floats(0.1, 1000), burst=st.integers(1, 20))
def test_a_refused_caller_that_waits_as_told_is_admitted(per_second: float, burst: int) -> None:
    """The pause in the refusal is enough, and not longer than one call's worth."""
    account = Account(Quota(per_second=per_second, burst=burst), "someone", 0.0)
    for _ in range(burst):
        account.enter(0.0)
    with pytest.raises(QuotaExceeded) as caught:
        account.enter(0.0)
    assert 0 < caught.value.retry_seconds <= 1 / per_second + 1e-9
    account.enter(caught.value.retry_seconds * (1 + 1e-9))


def test_calls_in_progress_are_bounded_and_an_ended_one_makes_room() -> None:
    """Slow calls of one caller leave room for others; a refused call takes no token."""
    account = Account(Quota(per_second=1, burst=100, at_once=2), "reader of merchant tea-house", 0.0)
    account.enter(0.0)
    account.enter(0.0)
    with pytest.raises(QuotaExceeded, match="reader of merchant tea-house may have 2 calls in progress"):
        account.enter(0.0)
    account.leave()
    account.enter(0.0)
    assert account.in_progress == 2


def test_the_shares_of_all_workers_are_the_quota() -> None:
    """Each worker counts for itself; nobody's share is less than one call at a time."""
    share = Quota(per_second=100, burst=10, at_once=8).share(4)
    assert (share.per_second, share.burst, share.at_once) == (25, 2.5, 2)
    least = Quota(per_second=1, burst=1, at_once=1).share(8)
    assert (least.burst, least.at_once) == (1.0, 1)


@pytest.mark.parametrize("field", ["per_second", "burst", "at_once"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_quota_under_which_nobody_could_call_is_refused(field: str, value: float) -> None:
    """At start, naming the number."""
    with pytest.raises(EndpointError, match=field):
        Quota(**{field: value})  # type: ignore[arg-type]


def test_a_burst_below_one_call_is_refused() -> None:
    """The bucket would never hold a whole token."""
    with pytest.raises(EndpointError, match="no call ever passes"):
        Quota(burst=0.5)
