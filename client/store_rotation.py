"""Online re-encryption: every row of a holder's shoppers under a fresh data key, while everybody else works on.

Page by page of shoppers:

1. With their rows of `shoppers` locked, each gets a data key of the new generation, which its new rows use from
   here on. Whoever writes a shopper's rows locks that row first (see `client.store_writing`), so after this commit no
   row can come under an older key.
2. Rows under older keys are read and sealed again outside of any lock. A short transaction then replaces those that
   are still as they were read, if the shopper still uses the new key: an erasure or another rotation that came
   between has the last word.
3. When no row under an older key is left, the older keys are destroyed.

The lock is held for a few milliseconds at a time, with pauses between (`client.store_rhythm`). A killed rotation
goes on where it was: what is left to do stands in the keyring (whose newest key is of an older generation, who has
several keys) and in the headers of the rows. A row that does not open stays as it is, since a backup may still repair
it, and its shopper keeps all older keys: nobody has vouched for the key that its header names. Keys of shoppers whom
this database does not know are left alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Table

from client.store_access import StoreAccess, translated
from client.store_envelopes import ShopperSeal
from client.store_locking import use_keys
from client.store_rhythm import PACE, Rhythm
from client.store_rotation_rows import (
    SEALED_TABLES,
    Pair,
    SealedRow,
    fetch_sealed,
    lock_known,
    replace_sealed,
    shopper_pages,
)
from privacy.data_keys import DataKey
from privacy.database import drop_deleted_bytes
from privacy.errors import DecryptionError


@dataclass(kw_only=True)
class Reencrypted:
    """What a rotation did so far: shoppers with a new key, rows sealed again, keys destroyed.

    `unreadable` rows did not open; they stay as they are, and so do the older keys of their shoppers. Until
    `old_copies_gone`, copies of old rows or keys may lie in a log that another process reads: rotate again.
    """

    generation: int
    shoppers: int = 0
    rows: int = 0
    keys_destroyed: int = 0
    unreadable: int = 0
    old_copies_gone: bool = False


def reencrypt(
    access: StoreAccess, *, pace: float = PACE, step: Callable[[Reencrypted], None] = lambda _: None
) -> Reencrypted:
    """Give every shopper of the holder a fresh data key and destroy the older ones; `step` hears of each page.

    A rotation that was interrupted is finished before a new one may begin, and that is then all. Several may run
    at once. `pace` 0 makes no pauses. Raises `StoreUnavailable` with the reason.
    """
    with translated():
        rotation = _Rotation(access, _generation_to_reach(access), Rhythm(pace))
        for page in shopper_pages(access):
            if rotation.renew(page):
                step(rotation.done)
        # Whoever came during the pass may have brought a key that was made before it.
        while sum(rotation.renew(page, only_late=True) for page in shopper_pages(access)):
            step(rotation.done)
        cleaned = [access.keys.data_keys.rebuild(), drop_deleted_bytes(access.engine)]
        rotation.done.old_copies_gone = all(cleaned)
    return rotation.done


class _Rotation:
    """One rotation on its way."""

    def __init__(self, access: StoreAccess, generation: int, rhythm: Rhythm) -> None:
        self.done = Reencrypted(generation=generation)
        self._access = access
        self._data_keys = access.keys.data_keys
        self._rhythm = rhythm

    def renew(self, page: Sequence[str], *, only_late: bool = False) -> bool:
        """Bring some shoppers to a new key alone; False if nobody needed it (`only_late`: nobody without one)."""
        held = self._data_keys.keys_of(page)
        wanted = [
            shopper
            for shopper, keys in sorted(held.items())
            if _newest(keys)[1] < self.done.generation or (len(keys) > 1 and not only_late)
        ]
        if not wanted:
            return False
        using, older = self._use_new_keys(wanted)
        kept = {shopper for table in SEALED_TABLES for shopper in self._seal_again(table, using)}
        self._access.failpoint("rotate: rows sealed")
        destroyed = [pair for pair in older if pair[0] in using and pair[0] not in kept]
        self._data_keys.drop(destroyed)
        self._access.failpoint("rotate: old keys destroyed")
        self.done.shoppers += len(using)
        self.done.keys_destroyed += len(destroyed)
        return True

    def _use_new_keys(self, wanted: Sequence[str]) -> tuple[dict[str, DataKey], list[Pair]]:
        """Let new rows of shoppers use a key of the generation; return those keys, and all others that they have."""
        holder = self._access.holder
        with self._rhythm.transaction(self._access) as connection:
            there = lock_known(connection, holder, wanted)
            held = self._data_keys.keys_of(sorted(there))
            using = self._new_keys(held)
            self._access.failpoint("rotate: keys made")
            use_keys(connection, holder, {shopper: key.key_id for shopper, key in using.items()})
        self._access.failpoint("rotate: keys in use")
        pairs = [(shopper, key_id) for shopper, keys in held.items() for key_id, _ in keys]
        return using, [pair for pair in pairs if pair[1] != using[pair[0]].key_id]

    def _new_keys(self, held: Mapping[str, list[tuple[int, int]]]) -> dict[str, DataKey]:
        """Return a key of the generation for each shopper: the one from before an interruption, or a fresh one."""
        newest = {shopper: _newest(keys) for shopper, keys in held.items()}
        made = [
            (shopper, key_id)
            for shopper, (key_id, number) in newest.items()
            if number >= self.done.generation
        ]
        using = {
            shopper: DataKey(key_id=key_id, key=key)
            for (shopper, key_id), key in self._data_keys.find(made).items()
        }
        return using | self._data_keys.make(sorted(held.keys() - using), self.done.generation)

    def _seal_again(self, table: Table, using: dict[str, DataKey]) -> set[str]:
        """Bring rows of shoppers under the keys in use; return who has older rows that do not open.

        Shoppers who are gone or use another key by now leave `using`: somebody else looks after them.
        """
        kept, after, broken_before = set[str](), ("", -1), set[SealedRow]()
        while using and (rows := fetch_sealed(self._access, table, sorted(using), after)):
            older = [row for row in rows if row.key_pair[1] != using[row.shopper].key_id]
            fresh = self._sealed_again(table, older, using)
            broken = {row for row in older if row not in fresh}
            replaced = sum(
                self._replace(table, batch, using) for batch in self._rhythm.batches(list(fresh.items()))
            )
            self.done.rows += replaced
            # Where something changed meanwhile, or a key was gone, the page is looked at once more.
            if replaced == len(fresh) and broken <= broken_before:
                after = (rows[-1].shopper, rows[-1].number)
                kept |= {row.shopper for row in broken}
                self.done.unreadable += len(broken)
            broken_before = broken
        return kept

    def _sealed_again(
        self, table: Table, rows: Sequence[SealedRow], using: Mapping[str, DataKey]
    ) -> dict[SealedRow, bytes]:
        """Return the rows that open, each with its content under the shopper's key in use."""
        holder = self._access.holder
        old = {
            (shopper, key_id): ShopperSeal(key, key_id, holder, shopper, table.name)
            for (shopper, key_id), key in self._data_keys.find({row.key_pair for row in rows}).items()
        }
        new = {
            shopper: ShopperSeal(using[shopper].key, using[shopper].key_id, holder, shopper, table.name)
            for shopper in {row.shopper for row in rows}
        }
        sealed = {}
        for row in rows:
            try:
                content = old[row.key_pair].open(row.number, row.sealed)
            except (KeyError, DecryptionError):
                continue
            sealed[row] = new[row.shopper].seal(row.number, content)
        return sealed

    def _replace(
        self, table: Table, batch: Sequence[tuple[SealedRow, bytes]], using: dict[str, DataKey]
    ) -> int:
        """Replace rows that are as they were read, of shoppers who still use the key; return how many."""
        names = sorted({row.shopper for row, _ in batch})
        with self._rhythm.transaction(self._access, len(batch)) as connection:
            there = lock_known(connection, self._access.holder, names)
            self._access.failpoint("rotate: shoppers locked")
            for shopper in names:
                if shopper in using and there.get(shopper) != using[shopper].key_id:
                    del using[shopper]
            ours = [(row, sealed) for row, sealed in batch if row.shopper in using]
            done = replace_sealed(connection, self._access.holder, table, ours)
            self._access.failpoint("rotate: before commit")
        return done


def _newest(keys: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the (key id, generation) of the highest generation."""
    return max(keys, key=lambda pair: pair[1])


def _generation_to_reach(access: StoreAccess) -> int:
    """Return the newest generation while a shopper's newest key is older, else begin another."""
    data_keys = access.keys.data_keys
    newest = data_keys.newest_generation()
    for page in shopper_pages(access):
        if any(_newest(keys)[1] < newest for keys in data_keys.keys_of(page).values()):
            return newest
    return data_keys.begin_generation()
