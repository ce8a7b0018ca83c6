"""Puts a ranking endpoint together from a run folder: registry, catalogue, keys and event store."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO

from client.store import EventStore
from fedrank.endpoint_options import EndpointOptions
from fedrank.shopper_events import ShopperEvents
from privacy.errors import DatabaseMissing
from privacy.keyring import DATABASE_NAME, Keyring
from privacy.kms import KEY_FILE_NAME
from server.registry import Registry
from server.serving.endpoint import run_loop, serve_until_stopped
from server.serving.engine import Engine
from server.serving.service import Doors, RankingService
from server.serving.workers import WorkerFailed, WorkerPlan, Workers, reserved_port

DEVICES = "devices"
"""The holder of all shoppers' own devices, where no merchant is named."""


def run_endpoint(options: EndpointOptions, on_ready: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT, in this process or in several; `on_ready` gets address and model version."""
    if options.workers == 1:
        serve_here(options, on_ready)
        return
    with reserved_port(options.host, options.port) as port:
        shared = replace(options, port=port, share_port=True, workers=1)
        plan = WorkerPlan(
            command=(sys.executable, "-m", "fedrank.worker"), options=shared.to_json(), count=options.workers
        )
        address = shared.config().address(port)
        try:
            asyncio.run(Workers(plan).run(lambda version: on_ready(address, version)))
        except WorkerFailed as failure:  # the worker has said why
            sys.exit(failure.code)


def serve_here(
    options: EndpointOptions, on_ready: Callable[[str, str], None], parent: IO[str] | None = None
) -> None:
    """Serve in this process until SIGTERM, SIGINT or the end of `parent`.

    Raises the errors of the rooms that it puts together; nothing listens before all of them are ready.
    """
    run = Path(options.run)
    engine = Engine.load(
        Registry(run / "registry"),
        run / "catalogue.parquet",
        merchant_id=options.merchant_id,
        version=options.version,
    )
    holder = options.merchant_id or DEVICES
    with (
        closing(_keyring(Path(options.keys))) as keyring,
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
        run_loop(serve_until_stopped(options.config(), engine, service, ready, parent))


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
