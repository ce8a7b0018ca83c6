"""Random bit flips, and swaps of ciphertext between rows, shoppers, merchants, tables and columns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from evaluation.bench.faults_vault import MERCHANTS, Spot, Vault, Verdict

FLIPPED_AT_ONCE: Final = {"events": 1000, "consents": 40, "data_keys": 10}
SWAPPED_AT_ONCE: Final = {
    "rows": 180,
    "shoppers": 180,
    "merchants": 120,
    "tables": 30,
    "columns": 6,
    "keys": 4,
}
"""Changes in one batch, for at most this share of the shoppers: one whose key is damaged has no sound row left."""

Changes = dict[Spot, bytes]

Batch = Callable[[Vault, random.Random], tuple[int, Changes]]
"""Gives how many changes a batch makes, and what lies in the damaged places after them."""


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """How many changes were made, and what a reader made of them."""

    changes: int
    verdict: Verdict


def damage(vault: Vault, rng: random.Random, wanted: int, batch: Batch) -> Iterator[Damaged]:
    """Change ciphertexts in batches until so many changes were made; read everything after each, and repair."""
    made = 0
    while made < wanted:
        count, changes = batch(vault, rng)
        vault.write(changes)
        yield Damaged(changes=count, verdict=vault.judge(changes))
        vault.repair(changes)
        made += count


def flips(vault: Vault, rng: random.Random) -> tuple[int, Changes]:
    """Return one random bit flip in each of some places."""
    changes: Changes = {}
    for table, most in FLIPPED_AT_ONCE.items():
        there = [spot for spot in vault.sealed if spot.table == table]
        for spot in rng.sample(there, min(most, len(there) // 4)):
            changes[spot] = flipped(vault.sealed[spot], rng)
    return len(changes), changes


def flipped(token: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one random bit the other way round."""
    place = rng.randrange(len(token))
    return token[:place] + bytes([token[place] ^ 1 << rng.randrange(8)]) + token[place + 1 :]


def swaps(vault: Vault, rng: random.Random) -> tuple[int, Changes]:
    """Return swaps of all kinds between places, none of which takes part twice."""
    changes: Changes = {}
    count = 0
    by_table = {
        table: [spot for spot in vault.sealed if spot.table == table] for table in ("events", "data_keys")
    }
    for kind, most in SWAPPED_AT_ONCE.items():
        here = by_table["data_keys" if kind == "keys" else "events"]
        for one in rng.sample(here, min(most, len(here) // 8)):
            other = _partner(vault, kind, one, rng)
            if not {one, other} & changes.keys():
                changes |= {one: vault.sealed[other], other: vault.sealed[one]}
                count += 1
    return count, changes


def _partner(vault: Vault, kind: str, one: Spot, rng: random.Random) -> Spot:
    """Return the place that swaps with `one`: as near to it as its kind of swap allows."""
    stranger = rng.choice([name for name in vault.shoppers if name != one.shopper])
    rival = next(name for name in MERCHANTS if name != one.holder)
    match kind:
        case "rows":
            return one._replace(number=(one.number + rng.randrange(1, vault.rows)) % vault.rows)
        case "shoppers":
            return one._replace(shopper=stranger)
        case "merchants":
            return one._replace(holder=rival)
        case "tables":
            return one._replace(table="consents", number=0)
        case "columns":
            return vault.key_of(one.holder, stranger)
        case _:
            return vault.key_of(rival, one.shopper)
