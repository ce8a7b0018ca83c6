"""What a keyring remembers of its ledger: the newest state only, of one ledger only, for several processes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from privacy.anchor import Anchor, LedgerHead
from privacy.database import open_engine, prepare
from privacy.errors import ForeignLedger, KeyringError, LedgerRolledBack


@pytest.fixture
def anchor(tmp_path: Path) -> Iterator[Anchor]:
    """An anchor in a keyring's database of its own."""
    engine = open_engine(tmp_path / "keys.db")
    prepare(engine)
    yield Anchor(engine, b"k" * 32)
    engine.dispose()


def _head(releases: int, ledger: str = "a" * 32, salt: str = "") -> LedgerHead:
    return LedgerHead(ledger=ledger, releases=releases, head=f"{releases}{salt}".encode().ljust(32))


def test_nothing_is_remembered_at_first_and_then_the_newest_state(anchor: Anchor) -> None:
    """The memory only rises: an older state that comes late, or the same again, changes nothing."""
    assert anchor.remembered() is None
    for releases in (1, 3, 2, 3, 1):
        anchor.remember(_head(releases))
    assert anchor.remembered() == _head(3)


def test_another_ledger_is_refused_and_changes_nothing(anchor: Anchor) -> None:
    """One keyring goes with one ledger, however long the other one is."""
    anchor.remember(_head(2))
    with pytest.raises(ForeignLedger, match="keyring of its own"):
        anchor.remember(_head(9, ledger="b" * 32))
    assert anchor.remembered() == _head(2)


def test_two_histories_of_one_length_are_told_apart(anchor: Anchor) -> None:
    """Two copies of one ledger that were charged apart end in different heads, and that is not swallowed."""
    anchor.remember(_head(2))
    with pytest.raises(LedgerRolledBack, match="charged apart"):
        anchor.remember(_head(2, salt="other"))


def test_threads_that_remember_at_once_leave_the_newest_state(anchor: Anchor) -> None:
    """Whatever order they come in, the highest wins and none fails."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: anchor.remember(_head(number)), [*range(1, 40, 2), *range(2, 41, 2)]))
    assert anchor.remembered() == _head(40)


def test_codes_bind_the_borders_of_their_parts_and_the_key(anchor: Anchor) -> None:
    """What is moved from one part to the next has another code, and so has everything under another key."""
    codes = {
        anchor.mac(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), ("ab", "d"))
    }
    assert len(codes) == 5
    assert Anchor(anchor._engine, b"l" * 32).mac("ab", "c") not in codes
    assert anchor.mac("ab", "c") in codes


def test_a_short_key_is_refused(anchor: Anchor) -> None:
    """A key of the wrong length would be a weak code; the message says the length."""
    with pytest.raises(KeyringError, match="5 bytes"):
        Anchor(anchor._engine, b"short")
