"""A database whose ciphertexts can be damaged and repaired at will, and what its reader then believes.

Two merchants share it. Every event says where it belongs in its item, so that one that is served from another place
is seen at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Table, Update, bindparam, literal, select

from client.consent import Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from evaluation.bench.storage_world import START, pseudonyms
from privacy import schema
from privacy.database import open_engine, reading, writing
from privacy.keyring import Keyring

MERCHANTS: Final = ("merchant-1", "merchant-2")
KEYS_DATABASE: Final = "keys.db"
SEALED: Final[Mapping[str, str]] = {"events": "sealed", "consents": "sealed", "data_keys": "wrapped"}
"""The tables with a ciphertext of a shopper, and its column."""


class Spot(NamedTuple):
    """One ciphertext: its table, holder and shopper, and the row's number or key id (0 for a consent)."""

    table: str
    holder: str
    shopper: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader made of damage; all zero is what must hold.

    Attributes:
        accepted: damaged rows that were believed: their content, or something else in their place, was served.
        unnamed: damaged rows that are not in quarantine.
        withheld: sound rows that were not served, or are in quarantine.
    """

    accepted: int = 0
    unnamed: int = 0
    withheld: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        """Return both together."""
        return Verdict(
            accepted=self.accepted + other.accepted,
            unnamed=self.unnamed + other.unnamed,
            withheld=self.withheld + other.withheld,
        )


class Vault:
    """Sealed rows of two merchants, as they were written, and the way to change them past the store."""

    def __init__(self, url: str, keys: Path, *, shoppers: int, rows: int) -> None:
        """Fill an empty database: of each merchant so many shoppers, each with a consent and rows of one event."""
        self._url, self._keys = url, keys
        self.shoppers, self.rows = pseudonyms(shoppers), rows
        for holder in MERCHANTS:
            with self._store(holder) as store:
                for number in range(rows):
                    store.append([_event(holder, name, number) for name in self.shoppers])
                Consents(store.access).record(
                    self.shoppers, list(Purpose), granted=True, origin="fault bench"
                )
        main, own = open_engine(url), open_engine(keys / KEYS_DATABASE)
        self._engines = {"events": main, "consents": main, "data_keys": own}
        self.sealed: dict[Spot, bytes] = {
            spot: token for table in SEALED for spot, token in self._read(table)
        }
        self._key_of = {spot[1:3]: spot for spot in self.sealed if spot.table == "data_keys"}

    def close(self) -> None:
        """Give the database connections back."""
        for engine in self._engines.values():
            engine.dispose()

    def key_of(self, holder: str, shopper: str) -> Spot:
        """Return where the wrapped data key of a shopper lies."""
        return self._key_of[holder, shopper]

    def write(self, changes: Mapping[Spot, bytes]) -> None:
        """Put other bytes into places, past the store."""
        for name in SEALED:
            rows = [
                {
                    "of_holder": spot.holder,
                    "of_shopper": spot.shopper,
                    "of_number": spot.number,
                    "token": token,
                }
                for spot, token in changes.items()
                if spot.table == name
            ]
            if rows:
                with writing(self._engines[name]) as connection:
                    connection.execute(_update(schema.metadata.tables[name]), rows)

    def repair(self, spots: Iterable[Spot]) -> None:
        """Put back into places what the store had written."""
        self.write({spot: self.sealed[spot] for spot in spots})

    def judge(self, damaged: Collection[Spot]) -> Verdict:
        """Read everything with fresh keys and hold it against what is damaged and what is not."""
        verdict = Verdict()
        for holder in MERCHANTS:
            own = {spot for spot in damaged if spot.holder == holder}
            with self._store(holder) as store:
                verdict += self._judge_events(holder, own, store) + self._judge_consents(holder, own, store)
        return verdict

    def _judge_events(self, holder: str, damaged: Collection[Spot], store: EventStore) -> Verdict:
        keyless = {spot.shopper for spot in damaged if spot.table == "data_keys"}
        rows = [spot for spot in self.sealed if spot.holder == holder and spot.table == "events"]
        broken = {spot for spot in rows if spot in damaged or spot.shopper in keyless}
        columns = store.read_columns()
        served = Counter(zip(columns.shopper, columns.item_id, strict=True))
        due = Counter(
            (spot.shopper, _item(holder, spot.shopper, spot.number)) for spot in rows if spot not in broken
        )
        named = {f"events/{spot.shopper}/{spot.number}" for spot in broken}
        return Verdict(
            accepted=(served - due).total(),
            unnamed=len(named - store.quarantined),
            withheld=(due - served).total() + len(store.quarantined - named),
        )

    def _judge_consents(self, holder: str, damaged: Collection[Spot], store: EventStore) -> Verdict:
        broken = {spot.shopper for spot in damaged if spot.table != "events"}
        given = {spot.shopper for spot in self.sealed if spot.holder == holder and spot.table == "consents"}
        granted = Consents(store.access).granted(Purpose.TRAINING)
        return Verdict(accepted=len(granted & broken), withheld=len(given - broken - granted))

    @contextmanager
    def _store(self, holder: str) -> Iterator[EventStore]:
        """Open a merchant's store with keys that nobody has in memory yet."""
        with (
            closing(Keyring.open(self._keys)) as keyring,
            EventStore.open(self._url, keyring, holder) as store,
        ):
            yield store

    def _read(self, name: str) -> Iterable[tuple[Spot, bytes]]:
        table = schema.metadata.tables[name]
        query = select(table.c.holder, table.c.shopper, _number_of(table), table.c[SEALED[name]])
        with reading(self._engines[name]) as connection:
            for holder, shopper, number, token in connection.execute(query).all():
                yield Spot(name, holder, shopper, number), bytes(token)


def _update(table: Table) -> Update:
    own = [table.c.holder == bindparam("of_holder"), table.c.shopper == bindparam("of_shopper")]
    return (
        table.update()
        .where(*own, _number_of(table) == bindparam("of_number"))
        .values({SEALED[table.name]: bindparam("token")})
    )


def _number_of(table: Table) -> ColumnElement[Any]:
    """Return what tells the rows of one shopper apart; a shopper has one consent."""
    columns = {"events": "number", "data_keys": "key_id"}
    return table.c[columns[table.name]] if table.name in columns else literal(0)


def _event(holder: str, shopper: str, number: int) -> Event:
    return Event(
        shopper=shopper, item_id=_item(holder, shopper, number), kind="view", timestamp=START + number
    )


def _item(holder: str, shopper: str, number: int) -> str:
    return f"{holder}/{shopper}/{number}"
