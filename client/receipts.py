"""Erasure with a receipt: what was destroyed, how that was verified, signed by the holder who says so.

A receipt names the shopper by the pseudonym alone, which nobody without the holder's keys can turn into an id. It is
signed with Ed25519 over its canonical JSON: sorted keys, no spaces, ASCII.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from client.errors import ClientError, Erased, ErasureIncomplete
from client.store import EventStore
from client.store_access import StoreAccess
from client.store_erasure import erase_shopper, rows_left, vacuum_erased
from privacy.receipts import verify

FORMAT: Final = "fedrank erasure receipt"
VERSION: Final = 1

_SIGNATURE: Final = "signature"
_FOUND_NOTHING: Final = "nothing was there at this time; an earlier erasure may have removed it"
_KEPT: Final = "what this pseudonym has spent of its privacy budget, so that it stays spent"
_REMAINS: Final = {
    "sqlite": "no key and no row; unused space of the database's index may hold the pseudonym until it is written "
    "anew (VACUUM), and so may a log that was not emptied; earlier copies hold ciphertext whose keys are destroyed",
    "postgresql": "dead copies of rows until a vacuum finds nobody who may still see them, and the server's log "
    "until it is recycled: ciphertext whose keys are destroyed",
}


class InvalidReceipt(ClientError, ValueError):
    """A receipt was changed, was signed by somebody else, or is no receipt."""


class ErasureFailed(ClientError):
    """After an erasure something of the shopper is there: somebody stored it anew in the meantime."""


def utc_now() -> datetime:
    """Return the time of the system clock in UTC."""
    return datetime.now(UTC)


def erase_with_receipt(
    store: EventStore, shopper_id: str, clock: Callable[[], datetime] = utc_now
) -> dict[str, Any]:
    """Destroy everything of a shopper at one holder, but the budget's account, and return a signed receipt.

    Erasing again finishes what was interrupted and says what there still was. The receipt tells if another process
    kept a log from being emptied. Raises `ErasureFailed` if something is there again.
    """
    access = store.access
    shopper = access.keys.pseudonymiser.of(shopper_id)
    erased, log_emptied = _erase(access, shopper)
    vacuumed = vacuum_erased(access)
    left = rows_left(access, shopper)
    if left or store.history(shopper):
        raise ErasureFailed(
            f"{left} rows of the shopper are there after the erasure: events came in meanwhile; stop recording, "
            "withdraw consent, and erase again"
        )
    found_nothing = not (erased.keys or any(erased.rows.values()))
    body = {
        "format": FORMAT,
        "version": VERSION,
        "holder": access.holder,
        "pseudonym": shopper,
        "time": clock().astimezone(UTC).isoformat(timespec="seconds"),
        "rows_destroyed": dict(erased.rows),
        "keys_destroyed": erased.keys,
        "found_nothing": found_nothing,
        "note": _FOUND_NOTHING if found_nothing else "",
        "verified": {"rows_left": left, "rows_readable": 0, "log_emptied": log_emptied},
        "database": access.engine.name,
        "vacuumed_tables": list(vacuumed),
        "remains": _REMAINS[access.engine.name],
        "kept": _KEPT,
        "public_key": access.keys.signer.public_key.hex(),
    }
    return {**body, _SIGNATURE: access.keys.signer.sign(_canonical(body)).hex()}


def check_receipt(receipt: Mapping[str, Any], public_key: bytes | None = None) -> None:
    """Raise `InvalidReceipt` unless a receipt is whole and signed by the key that it names.

    Anybody can make a key: that it is the holder's follows only from `public_key`, the holder's own, or from
    comparing it with what the holder publishes.
    """
    body = {name: value for name, value in receipt.items() if name != _SIGNATURE}
    if body.get("format") != FORMAT or body.get("version") != VERSION:
        raise InvalidReceipt(
            f"this is no receipt in the known form ({FORMAT}, version {VERSION}); give the file that "
            "`fedrank subject erase --receipt` wrote"
        )
    try:
        named, signature = bytes.fromhex(body["public_key"]), bytes.fromhex(receipt[_SIGNATURE])
    except (KeyError, TypeError, ValueError):
        raise InvalidReceipt("the receipt has no public key or no signature; it was cut or changed") from None
    if not verify(named, _canonical(body), signature):
        raise InvalidReceipt("the signature does not fit the receipt: it was changed after it was signed")
    if public_key is not None and named != public_key:
        raise InvalidReceipt("the receipt was signed by another key than this holder's")


def _erase(access: StoreAccess, shopper: str) -> tuple[Erased, bool]:
    """Erase a shopper; return what was destroyed, and whether all logs could be emptied."""
    try:
        return erase_shopper(access, shopper), True
    except ErasureIncomplete as incomplete:
        if incomplete.erased is None:
            raise
        return incomplete.erased, False


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
