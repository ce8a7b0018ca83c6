"""Group commit: what several threads want stored at the same time goes into one durable transaction.

A durable commit waits for the disk, so ten of them one after another wait ten times. Whoever finds nobody
committing leads: it takes everything that waits and commits it at once, while those who come in the meantime
wait for the next group. Nobody waits for company.
"""

import copy
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Generic, TypeVar

from client.errors import StoreInterrupted

Work = TypeVar("Work")
Result = TypeVar("Result")


class _Place(Generic[Work, Result]):
    """One caller's work in the queue, and its outcome."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.done = False
        self.result: Result | None = None
        # What stands if the leader is interrupted (Ctrl-C) before it knows the outcome.
        self.error: Exception | None = StoreInterrupted(
            "storing was interrupted, and a batch may be stored or not; append it again with its event ids"
        )


class GroupCommit(Generic[Work, Result]):
    """Hands the work of concurrent callers, in the order of their coming, to one function in groups."""

    def __init__(
        self,
        commit: Callable[[Sequence[Work]], Sequence[Result]],
        *,
        size: Callable[[Work], int],
        limit: int,
        common: type[Exception],
    ) -> None:
        """Take the function that does a whole group or, with an exception, nothing of it.

        A group grows up to `limit`, measured by `size` (one work may be larger alone). A `common` error concerns
        everybody in the group alike; after any other, each is tried alone, so that it hits only whom it concerns.
        """
        self._commit = commit
        self._size = size
        self._limit = limit
        self._common = common
        self._turn = Condition()
        self._queue: deque[_Place[Work, Result]] = deque()
        self._busy = False

    def submit(self, work: Work) -> Result:
        """Do `work`, together with what others submit meanwhile; return its result or raise its error."""
        place: _Place[Work, Result] = _Place(work)
        with self._turn:
            self._queue.append(place)
            self._turn.wait_for(lambda: place.done or not self._busy)
            leads = not place.done
            self._busy |= leads
        if leads:
            self._lead_until(place)
        if place.error is not None:
            raise place.error
        return place.result  # type: ignore[return-value]  # without an error there is a result

    def _lead_until(self, own: _Place[Work, Result]) -> None:
        """Do group after group until one's own work is done, then leave the lead to whoever waits."""
        try:
            while not own.done:
                group = self._next_group()
                try:
                    self._settle(group)
                finally:
                    self._announce(group)
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()

    def _next_group(self) -> list[_Place[Work, Result]]:
        with self._turn:
            group = [self._queue.popleft()]
            room = self._limit - self._size(group[0].work)
            while self._queue and (size := self._size(self._queue[0].work)) <= room:
                group.append(self._queue.popleft())
                room -= size
        return group

    def _settle(self, group: Sequence[_Place[Work, Result]]) -> None:
        """Note the outcome of each work of a group."""
        try:
            results = self._commit([place.work for place in group])
        except self._common as error:
            for place in group:
                place.error = copy.copy(error)
        except Exception as error:
            if len(group) == 1:
                group[0].error = error
                return
            for place in group:
                self._settle([place])
        else:
            for place, result in zip(group, results, strict=True):
                place.result, place.error = result, None

    def _announce(self, group: Sequence[_Place[Work, Result]]) -> None:
        with self._turn:
            for place in group:
                place.done = True
            self._turn.notify_all()
