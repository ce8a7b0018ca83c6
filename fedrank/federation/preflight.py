"""Whether a kit can do its work here and now: every finding says what was looked at, and what to do about it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from deploy.errors import DeployError, KitIncomplete
from deploy.kit import CoordinatorKit, Kit, MerchantKit, ServingKit, open_kit
from fedrank.federation.preflight_connection import Greeting, NoConnection, greeting_of
from privacy.certificates import check_pair, read_certificate, read_revoked
from privacy.database_state import database_state
from privacy.errors import DatabaseError, PrivacyError
from privacy.key_files import read_private
from proto.federation import PROTOCOL

DAY: Final = 86_400.0
SOON: Final = 30 * DAY
"""A certificate that ends within this time is a warning."""
LITTLE_DISK, NO_DISK = 2 * 2**30, 2**28
"""Free bytes below which data will soon not fit, and below which they do not."""
CLOCK_WARNING, CLOCK_AHEAD, CLOCK_BEHIND = 2.0, 4.0, 240.0
"""Seconds between both clocks. Nodes sign the time of every call; Flower refuses 5 s ahead and 305 s behind."""


class Level(IntEnum):
    """How bad a finding is; the worst one is the exit code."""

    GOOD = 0
    WARNING = 1
    FAILURE = 2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one look found.

    Attributes:
        fix: what to do; empty where all is well.
    """

    check: str
    level: Level
    found: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look needs: the kit, the time, the database, and a way to greet the coordinator."""

    kit: Kit
    now: Callable[[], float]
    database: str
    greet: Callable[[str, int, Path], Greeting]


def preflight(
    folder: Path,
    *,
    database: str | None = None,
    now: Callable[[], float] = time.time,
    greet: Callable[[str, int, Path], Greeting] = greeting_of,
) -> list[Finding]:
    """Look at everything that the process of a kit will need; nothing is changed.

    Args:
        database: path or URL of the database where it is not the kit's own.
    """
    try:
        kit = open_kit(folder)
    except KitIncomplete as error:
        return [_failure("kit", error.found, error.step)]
    except (DeployError, PrivacyError, OSError) as error:
        return [_failure("kit", str(error), "name a kit's folder, or ask the operator for a new kit")]
    look = Look(kit=kit, now=now, database=database or str(_database_of(kit)), greet=greet)
    signed = f"{kit.federation.federation}, manifest {kit.federation.digest()[:16]} signed by the authority"
    findings = [_good("kit", signed)]
    for check in (_pairs, _disk, _tables, _coordinator):
        findings += check(look)
    return findings


def _database_of(kit: Kit) -> Path:
    return kit.data / ("store/events.db" if isinstance(kit, MerchantKit) else "ledger.db")


def _pairs(look: Look) -> Iterator[Finding]:
    """Every certificate with its key: dates, whether both belong together, whether it is revoked."""
    kit, named = look.kit, []
    if isinstance(kit, MerchantKit):
        named = [("node certificate", kit.certificate, kit.key, "fedrank merchant rotate")]
    elif isinstance(kit, CoordinatorKit):
        named = [
            ("coordinator certificate", kit.folder / "coordinator.pem", kit.key, "fedrank provision"),
            ("TLS certificate", kit.tls_certificate, kit.tls_key, "fedrank provision"),
        ]
    elif isinstance(kit, ServingKit):
        named = [("TLS certificate", kit.tls_certificate, kit.tls_key, "fedrank certificates make")]
    for check, certificate, key, maker in named:
        yield _pair(look, check, certificate, key, f"get a new pair ({maker})")


def _pair(look: Look, check: str, certificate: Path, key: Path, fix: str) -> Finding:
    now = look.now()
    try:
        content = certificate.read_bytes()
        check_pair(content, read_private(key) or b"", now)
        read = read_certificate(content)
        revoked = read_revoked(look.kit.revoked.read_bytes(), look.kit.authority.read_bytes())
    except (PrivacyError, OSError) as error:
        return _failure(check, f"{certificate.name}: {error}", fix)
    if (read.issuer, read.serial) in revoked:
        return _failure(check, f"{certificate.name} is revoked", "ask the operator to let you in again")
    days = (read.ends - now) / DAY
    if read.ends - now < SOON:
        return Finding(
            check=check, level=Level.WARNING, found=f"{certificate.name} ends in {days:.0f} days", fix=fix
        )
    return _good(check, f"{certificate.name} and its key belong together, {days:.0f} days left")


def _disk(look: Look) -> Iterator[Finding]:
    """Whether data can be written, and for how long."""
    folder = look.kit.data
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK | os.X_OK):
        yield _failure("data folder", f"{folder} cannot be written", f"run: chown -R $(id -u) {folder}")
    else:
        yield _good("data folder", f"{folder} can be written")
    level = Level.FAILURE if free < NO_DISK else Level.WARNING if free < LITTLE_DISK else Level.GOOD
    fix = (
        ""
        if level is Level.GOOD
        else f"free some, or let FEDRANK_DATA name a folder with {LITTLE_DISK >> 30} GiB"
    )
    yield Finding(check="disk", level=level, found=f"{free / 2**30:.1f} GiB free at {folder}", fix=fix)


def _tables(look: Look) -> Iterator[Finding]:
    """The database, its version, and whether its tables are those of this version of fedrank."""
    try:
        state = database_state(look.database)
    except DatabaseError as error:
        yield _failure("database", str(error), "start the database, or correct its path or URL")
        return
    if state.revision is None:
        yield _good(
            "database", f"{state.where} ({state.system}) has no tables yet; the first start makes them"
        )
    elif state.revision != state.newest:
        yield _failure(
            "database",
            f"{state.where} ({state.system}) has tables of revision {state.revision}, the newest is {state.newest}",
            f"make a backup (fedrank db backup), then run: fedrank db migrate {state.where}",
        )
    else:
        yield _good("database", f"{state.where} ({state.system}), revision {state.revision}")


def _coordinator(look: Look) -> Iterator[Finding]:
    """Whether the coordinator is reached, is the one of the kit, has the time, and speaks this protocol."""
    kit = look.kit
    if isinstance(kit, ServingKit):
        return  # an endpoint connects to nothing
    began = look.now()
    try:
        greeting = look.greet(kit.address.host, kit.address.port, kit.authority)
    except NoConnection as error:
        down = isinstance(kit, CoordinatorKit) and error.nobody
        level = Level.WARNING if down else Level.FAILURE
        fix = "start it: fedrank coordinator start KIT" if down else error.fix
        yield Finding(check=error.check, level=level, found=str(error), fix=fix)
        return
    yield _good("connection", f"{kit.address} answers; {greeting.tls}, its certificate is the authority's")
    yield _clock(greeting, began, look.now())
    yield _protocol(greeting)


def _clock(greeting: Greeting, began: float, ended: float) -> Finding:
    """The coordinator tells whole seconds, at some time between both looks at this clock."""
    if greeting.date is None:
        return Finding(
            check="clock",
            level=Level.WARNING,
            found="the coordinator tells no time",
            fix="update the coordinator",
        )
    ahead, behind = began - (greeting.date + 1.0), greeting.date - ended
    off = max(ahead, behind, 0.0)
    refused = ahead > CLOCK_AHEAD or behind > CLOCK_BEHIND
    level = Level.FAILURE if refused else Level.WARNING if off > CLOCK_WARNING else Level.GOOD
    fix = "" if level is Level.GOOD else "set this machine's clock by NTP: timedatectl set-ntp true"
    words = "ahead of" if ahead > behind else "behind"
    return Finding(check="clock", level=level, found=f"{off:.0f} s {words} the coordinator's", fix=fix)


def _protocol(greeting: Greeting) -> Finding:
    if greeting.protocol == PROTOCOL:
        return _good("protocol", f"both speak version {PROTOCOL}")
    if not greeting.protocol:
        return _failure(
            "protocol",
            "what answers at this address is no coordinator of fedrank",
            "correct the address in kit.toml",
        )
    return _failure(
        "protocol",
        f"the coordinator speaks version {greeting.protocol[:16]}, this machine {PROTOCOL}",
        "install the version of fedrank that the coordinator runs",
    )


def _good(check: str, found: str) -> Finding:
    return Finding(check=check, level=Level.GOOD, found=found)


def _failure(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, level=Level.FAILURE, found=found, fix=fix)
