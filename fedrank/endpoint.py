"""Puts a ranking endpoint together from a run folder: registry, catalogue, keys and event store."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from client.store import EventStore
from fedrank.shopper_events import ShopperEvents
from privacy.errors import DatabaseMissing
from privacy.keyring import DATABASE_NAME, Keyring
from privacy.kms import KEY_FILE_NAME
from server.registry import Registry
from server.serving.endpoint import EndpointConfig, serve_until_stopped
from server.serving.engine import Engine
from server.serving.service import Doors, RankingService

DEVICES = "devices"
"""The holder of all shoppers' own devices, where no merchant is named."""


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """What to serve: a run folder, one merchant's part of it or all, a pinned version or the promoted one.

    Attributes:
        store, keys: event store (path or URL) and keyring, both there already.
    """

    run: Path
    store: str
    keys: Path
    merchant_id: str | None
    version: str | None
    show_scores: bool
    config: EndpointConfig


def run_endpoint(options: EndpointOptions, on_ready: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` gets the address and the model version.

    Raises the errors of the rooms that it puts together; nothing listens before all of them are ready.
    """
    engine = Engine.load(
        Registry(options.run / "registry"),
        options.run / "catalogue.parquet",
        merchant_id=options.merchant_id,
        version=options.version,
    )
    holder = options.merchant_id or DEVICES
    with (
        closing(_keyring(options.keys)) as keyring,
        EventStore.open(options.store, keyring, holder, create=False) as store,
        ThreadPoolExecutor(1) as store_thread,
    ):
        events = ShopperEvents(store, keyring.holder(holder).pseudonymiser)
        doors = Doors(
            profiles=events,
            feedback=events,
            store_thread=store_thread,
            clock=time.time,
            new_ranking_id=lambda: secrets.token_hex(16),
        )
        service = RankingService(engine, doors, show_scores=options.show_scores)
        ready: Callable[[str], None] = lambda address: on_ready(address, engine.snapshot.version)  # noqa: E731
        asyncio.run(serve_until_stopped(options.config, engine, service, ready))


def _keyring(folder: Path) -> Keyring:
    """Open a keyring that is whole; it may make keys for a merchant that is served for the first time.

    Raises `DatabaseMissing` if it is not there (other keys would open nothing, and whoever is erased by id later
    would not be found), `OlderSchema` if its database has to be migrated, `KeyringError`.
    """
    if missing := [name for name in (KEY_FILE_NAME, DATABASE_NAME) if not (folder / name).is_file()]:
        raise DatabaseMissing(
            f"the keyring {folder} has no {' and no '.join(missing)}, and the endpoint makes no keys of its own; "
            "restore the keyring from its backup, or give the folder that `fedrank simulate` wrote"
        )
    keyring = Keyring.open(folder)
    keyring.engine.connect().close()
    return keyring
