"""Puts a ranking endpoint together from a run folder: registry, catalogue, keys and event store."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
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
from server.serving.endpoint import Inside, is_loopback, run_loop, serve_until_stopped
from server.serving.engine import Engine
from server.serving.guard import CertificateGuard, Guard, LocalGuard, Rules
from server.serving.logs import AccessLog
from server.serving.metrics import Metrics, metrics_of_this_process, metrics_of_workers
from server.serving.policy import read_policy
from server.serving.revocation import RevocationList, nothing_revoked
from server.serving.service import Doors, RankingService, ServiceRules
from server.serving.workers import WorkerFailed, WorkerPlan, Workers, reserved_port

_log = logging.getLogger(__name__)

DEVICES = "devices"
"""The holder of all shoppers' own devices, where no merchant is named."""


OnReady = Callable[[str, str, str | None], None]
"""Is told the address, the model version, and the URL of the metrics where they are offered."""


def run_endpoint(options: EndpointOptions, on_ready: OnReady) -> None:
    """Serve until SIGTERM or SIGINT, in this process or in several."""
    if options.stored_profiles:
        _log.warning("requests may name any shopper (--stored-profiles): for simulations only")
    if options.unsigned:
        _log.warning(
            "model versions are taken whoever made them (--unsigned): nobody answers for what is ranked"
        )
    if options.client_ca is None:
        _log.warning("no TLS: whoever reaches the port is served, and nobody is asked who they are")
    if options.workers == 1:
        serve_here(options, on_ready)
    else:
        _serve_in_workers(options, on_ready)


def serve_here(options: EndpointOptions, on_ready: OnReady, parent: IO[str] | None = None) -> None:
    """Serve in this process until SIGTERM, SIGINT or the end of `parent`.

    Raises the errors of the rooms that it puts together; nothing listens before all of them are ready.
    """
    metrics = Metrics()
    engine = _engine(options)
    with ExitStack() as stack:
        url: str | None = None
        if options.workers == 1 and options.metrics_port is not None:
            url = stack.enter_context(
                metrics_of_this_process(metrics.registry, options.metrics_host, options.metrics_port)
            )
        inside = Inside(
            engine=engine,
            service=RankingService(engine, doors_of(options, stack), rules_of(options), metrics),
            guard=_guard(options),
            metrics=metrics,
            access_log=AccessLog(options.access_log, random.random),
            reflection=options.reflection,
        )
        ready: Callable[[str], None] = lambda address: on_ready(address, engine.snapshot.version, url)  # noqa: E731
        gc.collect()
        gc.freeze()  # what is here now stays: no collection while serving looks through it again
        run_loop(serve_until_stopped(options.config(), inside, ready, parent))


def _serve_in_workers(options: EndpointOptions, on_ready: OnReady) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port(options.host, options.port))
        environment: dict[str, str] = {}
        url: str | None = None
        on_end: Callable[[int], None] = lambda pid: None  # noqa: E731
        if options.metrics_port is not None:
            offered = metrics_of_workers(options.metrics_host, options.metrics_port)
            shared, environment, url = stack.enter_context(offered)
            on_end = shared.worker_ended
        shared_port = replace(options, port=port, share_port=True)
        plan = WorkerPlan(
            command=(sys.executable, "-m", "fedrank.worker"),
            options=shared_port.to_json(),
            count=options.workers,
            environment=environment,
            drain_seconds=options.drain_notice + options.drain_seconds + 5,
        )
        address = shared_port.config().address(port)
        try:
            asyncio.run(Workers(plan, on_end).run(lambda version: on_ready(address, version, url)))
        except WorkerFailed as failure:  # the worker has said why
            sys.exit(failure.code)


def _engine(options: EndpointOptions) -> Engine:
    run = Path(options.run)
    return Engine.load(
        Registry(run / "registry", unsigned=options.unsigned),
        run / "catalogue.parquet",
        merchant_id=options.merchant,
        version=options.version,
        policy=None if options.policy is None else read_policy(Path(options.policy)),
    )


def rules_of(options: EndpointOptions) -> ServiceRules:
    """What the endpoint gives, and to whom."""
    return ServiceRules(
        show_scores=options.show_scores,
        merchant=options.merchant,
        stored_profiles=options.stored_profiles,
        local=is_loopback(options.host),
    )


def _guard(options: EndpointOptions) -> Guard:
    """Who decides on calls: by certificate, or, without TLS, one who knows nobody."""
    quota = options.share_of_quota()
    if options.client_ca is None:
        return LocalGuard(quota, time.monotonic)
    merchants = options.admit or tuple(filter(None, (options.merchant,)))
    rules = Rules(merchants=frozenset(merchants), domain=options.trust_domain, quota=quota)
    is_revoked: Callable[[bytes, int], bool] = nothing_revoked
    if options.revoked is not None:
        is_revoked = RevocationList(Path(options.revoked), Path(options.client_ca), time.monotonic)
    return CertificateGuard(rules, is_revoked, time.time, time.monotonic)


def doors_of(options: EndpointOptions, stack: ExitStack) -> Doors:
    """Open keyring and store for as long as `stack` lives; the store twice, for reading passes a writer by."""
    holder = options.merchant or DEVICES
    keyring = stack.enter_context(closing(_keyring(Path(options.keys))))
    pseudonymiser = keyring.holder(holder).pseudonymiser
    reader, writer = (
        ShopperEvents(
            stack.enter_context(EventStore.open(options.store, keyring, holder, create=False)), pseudonymiser
        )
        for _ in range(2)
    )
    return Doors(
        profiles=reader,
        feedback=writer,
        profile_thread=stack.enter_context(ThreadPoolExecutor(1)),
        feedback_thread=stack.enter_context(ThreadPoolExecutor(1)),
        clock=time.time,
        new_ranking_id=lambda: secrets.token_hex(16),
    )


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
