"""Group commit: who waits together is stored together, in order, and only whom an error concerns gets it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from client.errors import StoreInterrupted, StoreUnavailable
from client.events import Event
from client.group_commit import GroupCommit
from client.store import EventStore
from privacy.database import open_engine, writing
from privacy.errors import DamagedDataKeys
from privacy.keyring import Keyring
from privacy.schema import data_keys

_SHOPPERS = [f"{number:032x}" for number in range(6)]


class Log:
    """A commit function that notes its groups; the first call waits until it is let go."""

    def __init__(self) -> None:
        """Begin with an empty note book and the gate closed."""
        self.groups: list[list[int]] = []
        self.gate, self.begun = threading.Event(), threading.Event()

    def __call__(self, works: Sequence[int]) -> list[int]:
        """Do what the works ask for: 13 is refused, 500 concerns everybody, -1 is Ctrl-C; else double them."""
        self.groups.append(list(works))
        self.begun.set()
        assert self.gate.wait(30)
        for work, error in (
            (13, ValueError("13")),
            (500, StoreUnavailable("disk")),
            (-1, KeyboardInterrupt()),
        ):
            if work in works:
                raise error
        return [work * 2 for work in works]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that submit."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def _queued(
    group: GroupCommit[int, int], pool: ThreadPoolExecutor, works: Sequence[int]
) -> list[Future[int]]:
    """Submit works from a thread each, one after the other, so that they stand in this order."""
    futures = []
    for work in works:
        futures.append(pool.submit(group.submit, work))
        _wait_until(lambda: len(group._queue) == len(futures))
    return futures


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def _group(log: Log, limit: int = 100) -> GroupCommit[int, int]:
    return GroupCommit(log, size=lambda _: 1, limit=limit, common=StoreUnavailable)


def _behind_the_first(
    log: Log, group: GroupCommit[int, int], pool: ThreadPoolExecutor, works: Sequence[int]
) -> list[Future[int]]:
    """Submit 1, and while it is committed the others; then let all go."""
    first = pool.submit(group.submit, 1)
    assert log.begun.wait(30)
    rest = _queued(group, pool, works)
    log.gate.set()
    return [first, *rest]


def test_those_who_wait_are_committed_at_once_in_the_order_of_their_coming(pool: ThreadPoolExecutor) -> None:
    """Five callers, two commits; everybody gets the result of the own work."""
    log = Log()
    done = _behind_the_first(log, _group(log), pool, [2, 3, 4, 5])
    assert [future.result(30) for future in done] == [2, 4, 6, 8, 10]
    assert log.groups == [[1], [2, 3, 4, 5]]


def test_a_group_grows_to_its_limit_and_no_further(pool: ThreadPoolExecutor) -> None:
    """What does not fit goes with the next one, and nobody is forgotten."""
    log = Log()
    done = _behind_the_first(log, _group(log, limit=2), pool, [2, 3, 4, 5, 6])
    assert [future.result(30) for future in done] == [2, 4, 6, 8, 10, 12]
    assert log.groups == [[1], [2, 3], [4, 5], [6]]


def test_one_bad_work_fails_alone_and_the_others_are_done(pool: ThreadPoolExecutor) -> None:
    """A group that failed is taken apart."""
    log = Log()
    first, second, bad, last = _behind_the_first(log, _group(log), pool, [2, 13, 3])
    with pytest.raises(ValueError, match="13"):
        bad.result(30)
    assert [future.result(30) for future in (first, second, last)] == [2, 4, 6]
    assert log.groups == [[1], [2, 13, 3], [2], [13], [3]]


def test_an_error_that_concerns_all_is_told_to_all_and_not_tried_again(pool: ThreadPoolExecutor) -> None:
    """A full disk is no fuller for one than for another."""
    log = Log()
    first, *others = _behind_the_first(log, _group(log), pool, [2, 500, 3])
    assert first.result(30) == 2
    for future in others:
        with pytest.raises(StoreUnavailable, match="disk"):
            future.result(30)
    assert log.groups == [[1], [2, 500, 3]]


def test_an_interrupted_leader_leaves_nobody_waiting(pool: ThreadPoolExecutor) -> None:
    """Ctrl-C hits the thread that commits; the others of its group learn that the outcome is unknown."""
    log = Log()
    group = _group(log)
    first, leader, follower = _behind_the_first(log, group, pool, [-1, 3])
    assert first.result(30) == 2
    outcomes = {type(future.exception(30)) for future in (leader, follower)}
    assert outcomes == {KeyboardInterrupt, StoreInterrupted}
    assert group.submit(4) == 8


def _event(shopper: str, number: int) -> Event:
    return Event(
        shopper=shopper, item_id="lamp", kind="view", timestamp=number, event_id=f"{shopper}/{number}"
    )


def test_threads_that_append_at_once_share_a_transaction_and_a_bad_batch_fails_alone(
    database_url: str, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """Five batches wait behind a slow commit, one for a shopper with a damaged key: four are stored."""
    passed: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def failpoint(name: str) -> None:
        passed.append(name)
        begun.set()
        assert gate.wait(30)

    with EventStore.open(database_url, Keyring.open(tmp_path / "keys"), "devices") as other:
        other.append([_event(shopper, 0) for shopper in _SHOPPERS])
    _damage_key(tmp_path / "keys" / "keys.db", _SHOPPERS[3])
    keyring = Keyring.open(tmp_path / "keys")
    with EventStore.open(database_url, keyring, "devices", failpoint=failpoint) as store:
        first = pool.submit(store.append, [_event(_SHOPPERS[0], 1)])
        assert begun.wait(30)
        rest = [
            pool.submit(store.append, [_event(shopper, number) for number in (0, 1)])
            for shopper in _SHOPPERS[1:]
        ]
        _wait_until(lambda: len(store._appends._queue) == len(rest))
        gate.set()
        bad = rest.pop(2)
        with pytest.raises(DamagedDataKeys):
            bad.result(30)
        assert [future.result(30) for future in (first, *rest)] == [1] * 5
        assert [len(store.history(shopper)) for shopper in _SHOPPERS] == [2, 2, 2, 0, 2, 2]


def test_many_threads_get_by_with_few_commits(
    database_url: str, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """A hundred events from sixteen threads: each is stored once and acknowledged once, in fewer transactions."""
    commits: list[str] = []
    with EventStore.open(
        database_url, Keyring.open(tmp_path / "keys"), "devices", failpoint=commits.append
    ) as store:
        stored = pool.map(lambda number: store.append([_event(_SHOPPERS[number % 6], number)]), range(100))
        assert sum(stored) == 100
        assert sorted(store.read_columns().timestamp) == list(range(100))
    assert commits.count("append: after commit") < 100


def _damage_key(database: Path, shopper: str) -> None:
    engine = open_engine(database, create=False)
    with writing(engine) as connection:
        row = data_keys.c.shopper == shopper
        wrapped = bytearray(connection.execute(select(data_keys.c.wrapped).where(row)).scalar_one())
        wrapped[-1] ^= 1
        connection.execute(data_keys.update().where(row).values(wrapped=bytes(wrapped)))
    engine.dispose()
