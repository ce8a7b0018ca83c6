"""Joins the ranking endpoint to the encrypted event store; the rooms of the two do not know each other.

A stored history makes a profile only where the shopper has granted that; anybody else is unknown, and what they do
is recorded all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from client import errors
from client.consent import Purpose
from client.errors import ClientError
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from model.features import KINDS
from privacy.errors import PrivacyError
from privacy.pseudonyms import NotAPseudonym, Pseudonymiser, check_pseudonyms
from server.errors import FeedbackUnavailable, ProfileUnavailable, ServerError, StoreFull
from server.serving.query import PastEvent
from server.serving.stores import FeedbackEvent

IMPRESSION = "impression"
"""The kind under which the event store keeps what was shown."""


class ShopperEvents:
    """A `ProfileSource` and a `FeedbackSink` over one holder's event store."""

    def __init__(self, store: EventStore, pseudonymiser: Pseudonymiser) -> None:
        """Read and write `store`, whose shoppers go by the pseudonyms of `pseudonymiser`."""
        self._store = store
        self._consents = Consents(store.access)
        self._pseudonymiser = pseudonymiser

    def history(self, shopper: str) -> list[PastEvent] | None:
        """What the shopper did, oldest first; None where the store may not tell or knows nothing of them."""
        with _raising(ProfileUnavailable):
            pseudonym = self._pseudonym(shopper)
            granted = self._consents.granted(Purpose.PROFILE, [pseudonym])
            events = self._store.history(pseudonym) if granted else []
        return [
            PastEvent(item_id=event.item_id, kind=event.kind, time=event.timestamp)
            for event in events
            if event.kind in KINDS
        ] or None

    def record(self, batch: Sequence[FeedbackEvent]) -> int:
        """Store the new events of a batch, all or none."""
        with _raising(FeedbackUnavailable, full=StoreFull):
            pseudonyms = {shopper: self._pseudonym(shopper) for shopper in {event.shopper for event in batch}}
            return self._store.append(_stored(event, pseudonyms[event.shopper]) for event in batch)

    def _pseudonym(self, shopper: str) -> str:
        """A pseudonym that the store knows stands for itself; all else is an id, which is never stored as it is."""
        try:
            check_pseudonyms([shopper])
        except NotAPseudonym:
            return self._pseudonymiser.of(shopper)
        return shopper if self._store.knows(shopper) else self._pseudonymiser.of(shopper)


@contextmanager
def _raising(error: type[ServerError], full: type[ServerError] | None = None) -> Iterator[None]:
    """Tell the server room in its own words that the store cannot be used; store errors hold no shopper.

    `full` is the word for a store without room, where it differs.
    """
    try:
        yield
    except errors.StoreFull as cause:
        raise (full or error)(str(cause)) from cause
    except (ClientError, PrivacyError) as cause:
        raise error(str(cause)) from cause


def _stored(event: FeedbackEvent, pseudonym: str) -> Event:
    return Event(
        shopper=pseudonym,
        item_id=event.item_id,
        kind=event.kind or IMPRESSION,
        timestamp=event.timestamp,
        surface=event.surface.value if event.surface else None,
        quantity=event.quantity,
        price=event.price,
        ranking_id=event.ranking_id or None,
        merchant_id=event.merchant_id,
        event_id=event.event_id,
        propensity=event.propensity,
    )
