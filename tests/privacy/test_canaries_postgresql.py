"""Canaries in a store on PostgreSQL: none is in the server's files, in its log of all statements, or in copies."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from canary_scan import scan
from canary_world import EVENT, ORIGIN, PRIVATE, PUBLIC, SHOPPER, START, TITLE, Shop, shopper_id

from client.consent import Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from privacy.keyring import Keyring

pytestmark = pytest.mark.slow
ANNA = shopper_id(1)
PLANTED = "kzqvxwjfhypg"


@pytest.fixture
def server_files(postgres_database: str) -> list[Path]:
    """The data and the log of the server, which logs every statement with its parameters on this database."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
        connection.execute(f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
    folder = Path(parse_qs(urlsplit(postgres_database).query)["host"][0])
    return [folder / "data", folder / "log"]


def fill(url: str, keys: Path) -> None:
    """Forty shoppers with events, consents and event ids, in small and in large batches."""
    keyring = Keyring.open(keys)
    with EventStore.open(url, keyring, "devices") as store:
        names = [keyring.holder("devices").pseudonymiser.of(shopper_id(number)) for number in range(40)]
        for size in (1, 40):
            store.append(
                Event(
                    shopper=shopper, item_id=f"i-{TITLE}", kind="view", timestamp=START + number,
                    event_id=f"{EVENT}-{size}-{number}", ranking_id=f"r-{EVENT}", surface="home",
                )
                for shopper in names[:size] for number in range(100)
            )  # fmt: skip
        Consents(store.access).record(names, list(Purpose), granted=True, origin=f"page {ORIGIN}")
    keyring.close()


def test_no_canary_is_in_the_files_or_the_log_of_the_server_nor_in_what_is_copied_from_it(
    postgres_database: str, server_files: list[Path], tmp_path: Path
) -> None:
    """Stored, read, sealed anew, copied, erased; items that a shopper looked at are as secret as who looked."""
    with Shop(root=tmp_path / "shop").opened() as shop:
        keys = shop.written / "keys"
        fill(postgres_database, keys)
        store = ("--store", postgres_database)
        places = (*store, "--keys", str(keys))
        shop.run("export", "subject", "export", ANNA, *places, tells=True)
        shop.run("rotate", "keys", "rotate", *places)
        shop.run("backup", "db", "backup", postgres_database, "copy.db")
        shop.run("erase", "subject", "erase", ANNA, *places, "--receipt", "receipt.json", "--yes")
        shop.run("lost-keys", "subject", "export", ANNA, *store, "--keys", "/", expect=None)
    told = (shop.told / "export.out").read_text()
    assert TITLE in told and EVENT in told and ORIGIN in told
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    assert scan([shop.written, *server_files], PRIVATE | PUBLIC) == []
    assert "fedrank_revision" in server_files[1].read_text(errors="replace")


def test_a_canary_that_is_stored_as_it_is_shows_in_the_servers_data_and_log(
    postgres_database: str, server_files: list[Path]
) -> None:
    """The search would have seen a row that was not sealed: in the table, in the log ahead, in the statements."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (text text)")
        connection.execute("INSERT INTO notes VALUES (%s)", (f"{PLANTED}@shop.example",))
        connection.execute("CHECKPOINT")
    hits = scan(server_files, {"planted": PLANTED, "shopper id": SHOPPER})
    parts = {hit.file.relative_to(server_files[0].parent).as_posix().split("/")[:2][-1] for hit in hits}
    assert parts >= {"base", "pg_wal", "log"} and {hit.canary for hit in hits} == {"planted"}
