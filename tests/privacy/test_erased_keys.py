"""After an erasure no byte of any file is a key to the shopper's rows, in whatever copy they live on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from canary_scan import content_of
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from sqlalchemy import Table, select

from client.consent import Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from client.store_rotation import reencrypt
from privacy.cipher import KEY_BYTES, FieldCipher, aad_of
from privacy.database import reading
from privacy.keyring import Keyring
from privacy.schema import RECORD_VERSION, consents, data_keys, events

HEADER_BYTES, NONCE_BYTES = 5, 12
HOLDER = "devices"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A sealed row as a thief copied it before the erasure, with the associated data, which are no secret."""

    token: bytes
    aad: bytes

    def opens_with(self, key: bytes) -> bool:
        """Whether these bytes are the row's key."""
        header, rest = self.token[:HEADER_BYTES], self.token[HEADER_BYTES:]
        try:
            AESGCMSIV(key).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], header + self.aad)
        except InvalidTag:
            return False
        return True


def windows(data: bytes, length: int) -> set[bytes]:
    """Every run of `length` bytes at any offset, those of 16-byte alignment among them."""
    return {data[start : start + length] for start in range(len(data) - length + 1)}


def keys_in(files: list[Path], copies: list[Copy]) -> set[bytes]:
    """The windows of 16 and 32 bytes that open one of the copies."""
    tried = set().union(*(windows(content_of(file), length) for file in files for length in (16, 32)))
    return {key for key in tried if any(copy.opens_with(key) for copy in copies)}


@dataclass(frozen=True, kw_only=True)
class World:
    """A store, its keyring, and the files in which either keeps anything."""

    store: EventStore
    keyring: Keyring
    anna: str
    berta: str
    folders: list[Path]

    def files(self) -> list[Path]:
        """Databases, logs and key files as they are now."""
        return [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]

    def copies(self, shopper: str) -> list[Copy]:
        """The shopper's sealed rows of every kind, as they are now."""
        return [copy for table in (events, consents) for copy in self._rows(table, shopper)]

    def wrapped_keys(self, shopper: str) -> set[bytes]:
        """The shopper's data keys as the keyring keeps them."""
        query = select(data_keys.c.wrapped).where(data_keys.c.shopper == shopper)
        with reading(self.keyring.engine) as connection:
            return set(connection.execute(query).scalars())

    def plain_keys(self, shopper: str) -> set[bytes]:
        """The shopper's data keys, opened."""
        keys = self.keyring.holder(HOLDER).data_keys
        names = [(shopper, key_id) for key_id, _ in keys.keys_of([shopper])[shopper]]
        return set(keys.find(names).values())

    def _rows(self, table: Table, shopper: str) -> Iterator[Copy]:
        place = aad_of("fedrank/store", RECORD_VERSION, HOLDER, table.name, "sealed") + aad_of(shopper)
        with reading(self.store.access.engine) as connection:
            for row in connection.execute(select(table).where(table.c.shopper == shopper)).mappings():
                yield Copy(token=bytes(row["sealed"]), aad=place + aad_of(row.get("number", 0)))


def files_of_database(url: str) -> Path:
    """The folder in which a database keeps everything: that of the SQLite file, or the server's whole data."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return Path(parts.path).parent
    return Path(parse_qs(parts.query)["host"][0]) / "data"


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """Two shoppers with events and consents; their keys were once exchanged for others, and more was stored."""
    if database_url.startswith("sqlite"):
        (tmp_path / "store").mkdir()
        database_url = f"sqlite:///{tmp_path / 'store' / 'events.db'}"
    keyring = Keyring.open(tmp_path / "keys")
    anna, berta = (keyring.holder(HOLDER).pseudonymiser.of(name) for name in ("anna", "berta"))
    with EventStore.open(database_url, keyring, HOLDER) as store:
        both = [anna, berta] * 40
        store.append(
            Event(shopper=who, item_id="tea", kind="view", timestamp=n) for n, who in enumerate(both)
        )
        Consents(store.access).record([anna, berta], list(Purpose), granted=True, origin="test")
        reencrypt(store.access, pace=0)
        store.append([Event(shopper=who, item_id="pot", kind="view", timestamp=99) for who in both[:2]])
        folders = [tmp_path / "keys", files_of_database(database_url)]
        yield World(store=store, keyring=keyring, anna=anna, berta=berta, folders=folders)
    keyring.close()


def contain(files: list[Path], secrets: set[bytes]) -> set[bytes]:
    """Those of the secrets that are in a file, as they are or in hexadecimal."""
    found = set()
    for file in files:
        data = content_of(file)
        found |= {one for one in secrets if one in data or one.hex().encode() in data.lower()}
    return found


def test_after_an_erasure_no_window_of_any_file_is_a_key_to_the_shoppers_rows(world: World) -> None:
    """Neither as it is nor wrapped, in database, log or keyring; the other shopper's rows are read as before."""
    copies, wrapped, plain = (
        world.copies(world.anna),
        world.wrapped_keys(world.anna),
        world.plain_keys(world.anna),
    )
    assert len(copies) >= 3 and any(copy.opens_with(key) for key in plain for copy in copies)
    assert contain(world.files(), wrapped) == wrapped
    world.store.erase(world.anna)
    files = world.files()
    if world.store.access.engine.name == "sqlite":
        assert {file.name for file in files} >= {"events.db", "keys.db"}
        assert keys_in(files, copies) == set()
    assert contain(files, wrapped | plain) == set()
    assert world.copies(world.anna) == [] and len(world.store.history(world.berta)) == 41


def test_keys_that_an_exchange_replaced_are_gone_with_the_erasure_too(world: World) -> None:
    """A copy of a row from before the exchange stays as unreadable as one from after it."""
    wrapped, plain = world.wrapped_keys(world.anna), world.plain_keys(world.anna)
    copies = world.copies(world.anna)
    reencrypt(world.store.access, pace=0)
    assert not wrapped & world.wrapped_keys(world.anna)
    world.store.erase(world.anna)
    assert contain(world.files(), wrapped | plain) == set()
    if world.store.access.engine.name == "sqlite":
        assert keys_in(world.files(), copies) == set()


def test_no_key_ever_lies_in_the_database_of_events(world: World) -> None:
    """Not even before the erasure, nor wrapped: a copy of that database holds no key to destroy."""
    if world.store.access.engine.name == "postgresql":
        with psycopg.connect(
            world.store.access.engine.url.set(drivername="postgresql").render_as_string()
        ) as other:
            other.execute("CHECKPOINT")
    in_database = [path for path in world.folders[1].rglob("*") if path.is_file()]
    secrets = {
        key for who in (world.anna, world.berta) for key in world.wrapped_keys(who) | world.plain_keys(who)
    }
    assert contain(in_database, secrets) == set()
    (row, *_) = world.copies(world.anna)
    assert contain(in_database, {row.token}) == {row.token}


@pytest.mark.parametrize("length", [16, KEY_BYTES])
@pytest.mark.parametrize("offset", [0, 4096, 5003])
def test_the_search_finds_a_planted_key_of_either_length_at_any_offset(
    tmp_path: Path, length: int, offset: int
) -> None:
    """Without this a search that always fails would look like a proof."""
    key, header, nonce = os.urandom(length), os.urandom(HEADER_BYTES), os.urandom(NONCE_BYTES)
    token = header + nonce + AESGCMSIV(key).encrypt(nonce, b"tea", header + b"place")
    file = tmp_path / "planted"
    file.write_bytes(os.urandom(offset) + key + os.urandom(100))
    copy = Copy(token=token, aad=b"place")
    assert keys_in([file], [copy]) == {key}
    file.write_bytes(os.urandom(offset + 100))
    assert keys_in([file], [copy]) == set()


def test_a_row_of_the_store_is_what_the_search_tries_to_open(world: World) -> None:
    """With the right key, planted beside the database, every kind of row opens; and the format is the cipher's."""
    copies, plain = world.copies(world.anna), world.plain_keys(world.anna)
    assert len(plain) == 1
    planted = world.folders[0] / "planted"
    planted.write_bytes(os.urandom(7) + next(iter(plain)))
    assert keys_in([planted], copies) == plain
    assert all(copy.opens_with(next(iter(plain))) for copy in copies)
    sealed = FieldCipher(next(iter(plain)), 7).seal(b"tea", b"place")
    assert Copy(token=sealed, aad=b"place").opens_with(next(iter(plain)))
