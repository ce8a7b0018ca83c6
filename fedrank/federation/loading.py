"""Puts a merchant's own events into the encrypted store of its kit.

Only events at items of the merchant's part of the federation's catalogue are kept. Every event gets an id made of its
own values, so that a file that is loaded again, or a later export that holds the same rows, stores nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from client.consent import Purpose
from client.home import KEYS, STORE, prepare
from client.store import EventStore
from client.store_consent import Consents
from privacy.keyring import Keyring
from simulation.data.errors import DataError

if TYPE_CHECKING:
    from deploy.kit import MerchantKit
    from evaluation.settings import Watch
    from simulation.data.mapping import Mapping

CHUNK_EVENTS: Final = 20_000
"""Events of one durable transaction."""
_VALUES: Final = ("user_id", "item_id", "kind", "timestamp", "quantity", "price")
_ID_LENGTH: Final = 32

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What a loading did.

    Attributes:
        shoppers: with events at items of this merchant.
        stored: events that were new.
        known: events that the store had already.
        elsewhere: events at items that are not this merchant's in the catalogue; left out.
        rejected: rows of the file that are no events; `fedrank data check` names them.
        consents: shoppers for whom consent was recorded now.
    """

    merchant: str
    shoppers: int
    stored: int
    known: int
    elsewhere: int
    rejected: int
    consents: int


def load_file(kit: MerchantKit, data: Path, mapping: Mapping, consent: str | None, watch: Watch) -> Loading:
    """Store what a file or folder of events holds, and record where its shoppers' consent comes from, if anywhere.

    Raises:
        DataError: the file cannot be read or mapped, or no event of it is at an item of this merchant.
    """
    events, elsewhere, rejected = events_of(kit, data, mapping)
    if elsewhere and events.is_empty():
        raise DataError(
            f"none of the {elsewhere:,} events of {data.name} is at an item of {kit.merchant} in the federation's "
            "catalogue; nothing was stored. Is it another merchant's file, or does its column of items hold other "
            "ids than the catalogue (see --column)?"
        )
    kit.lay_out_data()
    prepare(kit.data, kit.merchant)
    shoppers = events["user_id"].unique().to_list()
    watch.begin("storing events", chunks_of(events))
    stored = store_events(kit, events, watch.step)
    return Loading(
        merchant=kit.merchant,
        shoppers=len(shoppers),
        stored=stored,
        known=events.height - stored,
        elsewhere=elsewhere,
        rejected=rejected,
        consents=record_consent(kit, shoppers, tuple(Purpose), consent) if consent else 0,
    )


def events_of(kit: MerchantKit, data: Path, mapping: Mapping) -> tuple[pl.DataFrame, int, int]:
    """Read a file or folder of events; return those at the merchant's items, and how many were left out and rejected.

    Raises:
        DataError: the file cannot be read or mapped.
    """
    from simulation.data import load

    dataset = load(data, mapping=mapping)
    catalogue = pl.read_parquet(kit.catalogue)
    own = catalogue.filter(pl.col("merchant_id") == kit.merchant)["item_id"]
    events = dataset.events.select(_VALUES).filter(pl.col("item_id").is_in(own.implode()))
    return events, dataset.events.height - events.height, dataset.rejected_rows


def chunks_of(events: pl.DataFrame) -> int:
    """How many steps `store_events` will take."""
    return -(-events.height // CHUNK_EVENTS)


def store_events(kit: MerchantKit, events: pl.DataFrame, step: Step) -> int:
    """Store the events that are new, one durable transaction a step, and return how many those are."""
    keyring = Keyring.open(kit.data / KEYS)
    pseudonymise = keyring.holder(kit.merchant).pseudonymiser.of
    names = {user: pseudonymise(user) for user in events["user_id"].unique()}
    stored = 0
    with EventStore.open(kit.data / STORE, keyring, kit.merchant) as store:
        for chunk in with_ids(events).iter_slices(CHUNK_EVENTS):
            stored += store.append_columns(
                [names[user] for user in chunk["user_id"]],
                chunk["item_id"].to_list(),
                chunk["kind"].to_list(),
                chunk["timestamp"].to_list(),
                quantities=chunk["quantity"].to_list(),
                prices=chunk["price"].to_list(),
                merchant_ids=[kit.merchant] * chunk.height,
                event_ids=chunk["event_id"].to_list(),
            )
            step()
    return stored


def with_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Add `event_id`: a hash of the event's values, and of its place among events with the same values."""
    place = pl.int_range(pl.len()).over(*_VALUES)
    rows = events.select(*_VALUES, place.alias("place")).iter_rows()
    ids = [hashlib.sha256(repr(row).encode()).hexdigest()[:_ID_LENGTH] for row in rows]
    return events.with_columns(event_id=pl.Series(ids, dtype=pl.String))


def record_consent(
    kit: MerchantKit, shoppers: Collection[str], purposes: Collection[Purpose], origin: str
) -> int:
    """Record that shoppers allow the purposes, where they have decided nothing yet; return for how many.

    A decision of their own, a withdrawal above all, is never overridden by a file.
    """
    keyring = Keyring.open(kit.data / KEYS)
    pseudonymise = keyring.holder(kit.merchant).pseudonymiser.of
    with EventStore.open(kit.data / STORE, keyring, kit.merchant) as store:
        consents = Consents(store.access)
        undecided = {pseudonymise(shopper) for shopper in shoppers} - consents.decided()
        return consents.record(undecided, purposes, granted=True, origin=origin)
