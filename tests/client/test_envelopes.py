"""The form of an envelope: what was stored before a column was known is still read."""

from __future__ import annotations

from client.events import Columns, Event
from client.store_envelopes import decode, encode

SHOPPER = "a" * 32
SHOWN = Event(shopper=SHOPPER, item_id="lamp", kind="impression", timestamp=7, propensity=0.25)
STORED_BEFORE = b'{"v":1,"n":2,"item_id":["lamp","bulb"],"kind":"view","timestamp":[1,2]}'


def test_an_envelope_of_before_propensities_is_read_without_them() -> None:
    """The bytes are those of an earlier version."""
    columns = decode(STORED_BEFORE)
    assert columns["item_id"] == ["lamp", "bulb"]
    assert columns["propensity"] == [None, None]


def test_a_propensity_is_kept_and_costs_nothing_where_there_is_none() -> None:
    """The column is written for impressions that have one, and for no other event."""
    bought = Event(shopper=SHOPPER, item_id="lamp", kind="purchase", timestamp=8)
    both, without = (encode(Columns.of(events), range(len(events))) for events in ([SHOWN, bought], [bought]))
    assert decode(both)["propensity"] == [0.25, None]
    assert b"propensity" not in without
