"""A population on disk: the public catalogue, every participant's encrypted events, and who takes part.

Each shopper's device holds its own events over all merchants. Where merchants take part, each holds the events
of its shoppers at its own items, under pseudonyms and keys that no other merchant shares.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from client.consent import Purpose
from client.store import EventStore
from client.store_consent import Consents
from privacy.database import database_url
from privacy.keyring import Keyring
from privacy.ledger import Ledger
from privacy.plan import Plan, Trust
from proto.federation import DEVICES
from server.coordination.budget import HOLDER as COORDINATOR
from server.coordination.config import Participants
from simulation.errors import SimulationError

DEVICE_SHARE = 0.5
"""Share of shoppers whose device takes part where both kinds do; the others take part through merchants."""

CATALOGUE_COLUMNS = ("item_id", "title", "category", "brand", "price", "description", "merchant_id")
LISTED = "listed_at"
PROMOTIONS_FILE = "promotions.parquet"
"""Promotions of the catalogue's items, where the data set has some; columns of `PROMOTION_SCHEMA`."""


CONSENT_ORIGIN = "import of a data set"
"""Where a simulated shopper's consent comes from: nobody was asked, and the report says so."""

RESERVED = (DEVICES, COORDINATOR)
"""Holders in stores and ledgers that are no merchants."""


class ReservedName(SimulationError):
    """A merchant bears a name that means something else in stores and ledgers."""


class LostKeys(SimulationError):
    """A ledger exists whose pseudonyms cannot be made again, so its accounts could not be continued."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """Who takes part, and where their events lie.

    Attributes:
        folder: holds `catalogue.parquet`, `store/events.db`, `keys/` and `participants.json`.
        devices: pseudonyms of the devices that take part.
        merchants: merchants that take part.
        merchants_per_shopper: (shoppers,) for shoppers who take part through merchants; simulation only.
    """

    folder: Path
    devices: tuple[str, ...]
    merchants: tuple[str, ...]
    merchants_per_shopper: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def participants(self) -> int:
        """How many take part."""
        return len(self.devices) + len(self.merchants)

    def spent_mu2(self, ledger: Ledger) -> float:
        """Return the most that one shopper may have spent: its device's account and its highest merchant's.

        The simulator adds both because one shopper may have taken part in either way in earlier runs. Of a
        merchant that takes no part now the highest account counts, whoever's it is.
        """
        on_devices = ledger.spent(DEVICES, self.shoppers_of(DEVICES))
        at_merchants = [ledger.spent(merchant, self.shoppers_of(merchant)) for merchant in self.merchants]
        now = {*self.merchants, *RESERVED}
        elsewhere = [one.highest_mu2 for one in ledger.statement() if one.holder not in now]
        return on_devices + max(at_merchants + elsewhere, default=0.0)

    def check_quotas(self, ledger: Ledger, plan: Plan) -> None:
        """Refuse a run that a holder's quota would stop half-way; without noise nothing is charged.

        Raises:
            QuotaExceeded: names the holder, and what is spent of its quota.
        """
        if plan.trust is not Trust.NONE:
            # Devices pay this once for each group that answers together; how they are grouped is not known yet.
            devices = [DEVICES] if self.devices else []
            ledger.check_quotas([*self.merchants, *devices, COORDINATOR], plan.mu2)

    def shoppers_of(self, holder: str) -> list[str]:
        """Return the pseudonyms of all shoppers of one holder."""
        keyring = Keyring.open(self.folder / "keys", create=False)
        with EventStore.open(self.folder / "store" / "events.db", keyring, holder) as store:
            return store.shoppers()


def build_population(
    folder: Path, items: pl.DataFrame, events: pl.DataFrame, kind: Participants
) -> Population:
    """Write a population from public items and the train events of all shoppers.

    Args:
        folder: of the run; an earlier store in it is replaced, its keys and ledger are kept.
        items: one row per item, in model index order.
        events: with user_id, item_id, kind, timestamp, merchant_id, quantity, price.
    """
    shutil.rmtree(folder / "store", ignore_errors=True)
    (folder / "store").mkdir(parents=True)
    write_catalogue(items, folder / "catalogue.parquet")
    keyring = Keyring.open(folder / "keys")
    pseudonyms = _store(folder, keyring, DEVICES, events)
    through_devices = _device_shoppers(pseudonyms, kind)
    others = events.filter(~pl.col("user_id").is_in(list(through_devices)))
    stored = _store_merchants(folder, keyring, others) if kind is not Participants.SHOPPERS else ()
    owners = set(items["merchant_id"])
    merchants = tuple(
        name for name in stored if name in owners
    )  # without a catalogue there is nothing to learn
    devices = tuple(sorted(pseudonyms[user] for user in through_devices))
    listed = {"devices": devices, "merchants": merchants}
    (folder / "participants.json").write_text(json.dumps(listed), encoding="utf-8")
    return Population(
        folder=folder,
        devices=devices,
        merchants=merchants,
        merchants_per_shopper=_merchants_per_shopper(others),
    )


def write_catalogue(items: pl.DataFrame, path: Path) -> None:
    """Write the public items (`CATALOGUE_COLUMNS`), with `listed_at` where some item has it."""
    listed = LISTED in items.columns and items[LISTED].null_count() < items.height
    items.select(*CATALOGUE_COLUMNS, *([LISTED] if listed else [])).write_parquet(path)


def place_keys(run: Path, ledger: str) -> None:
    """Make `run/keys` the keys that the ledger's pseudonyms are made with.

    The keys lie in the folder `keys` beside a SQLite ledger; a run elsewhere links to them, so that the same
    shopper has the same account in every run on that ledger. With a database server the keys stay in the run
    folder, and continuing its accounts takes the same run folder.

    Raises:
        LostKeys: the ledger is there and its keys are not, or the run folder has other keys.
    """
    url = database_url(ledger)
    if url.get_backend_name() != "sqlite":
        return
    file = Path(str(url.database))
    beside = file.parent / "keys"
    if file.exists() and not beside.exists():
        raise LostKeys(
            f"the ledger {file} has no folder keys beside it: its accounts cannot be continued; put the keys "
            "back, or start another ledger for other shoppers"
        )
    own = run / "keys"
    if beside.resolve() == own.resolve():
        return
    if own.exists():
        raise LostKeys(f"{own} holds keys of its own, and the ledger {file} has others; choose another --out")
    Keyring.open(beside)
    own.symlink_to(beside.resolve(), target_is_directory=True)


def _device_shoppers(pseudonyms: dict[str, str], kind: Participants) -> set[str]:
    """Return the shoppers who take part with their device; with both kinds, a keyed and so random half."""
    if kind is Participants.BOTH:
        return {user for user, name in pseudonyms.items() if int(name[-8:], 16) < DEVICE_SHARE * 2**32}
    return set(pseudonyms) if kind is Participants.SHOPPERS else set()


def _store_merchants(folder: Path, keyring: Keyring, events: pl.DataFrame) -> tuple[str, ...]:
    """Write every merchant's own store and return the merchants."""
    by_merchant = events.partition_by("merchant_id", as_dict=True)
    if taken := [name for name in RESERVED if (name,) in by_merchant]:
        raise ReservedName(f"a merchant is called {taken[0]!r}, which is a reserved word; give it another id")
    for (merchant,), own in sorted(by_merchant.items()):
        _store(folder, keyring, str(merchant), own)
    return tuple(sorted(str(merchant) for (merchant,) in by_merchant))


def _store(folder: Path, keyring: Keyring, holder: str, events: pl.DataFrame) -> dict[str, str]:
    """Encrypt the events of one holder's shoppers, note their consent, and return their pseudonyms there."""
    pseudonymise = keyring.holder(holder).pseudonymiser.of
    names = {user: pseudonymise(user) for user in events["user_id"].unique()}
    with EventStore.open(folder / "store" / "events.db", keyring, holder) as store:
        store.append_columns(
            [names[user] for user in events["user_id"]],
            events["item_id"].to_list(),
            events["kind"].to_list(),
            events["timestamp"].to_list(),
            quantities=events["quantity"].to_list(),
            prices=events["price"].to_list(),
            merchant_ids=events["merchant_id"].to_list(),
        )
        Consents(store.access).record(names.values(), tuple(Purpose), granted=True, origin=CONSENT_ORIGIN)
    return names


def _merchants_per_shopper(events: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = events.group_by("user_id").agg(pl.col("merchant_id").n_unique().alias("merchants"))
    return np.asarray(counts["merchants"].to_numpy(), dtype=np.int64)
