"""Values in memory for a limited time, and a limited number of them."""

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)
Value = TypeVar("Value")


class TimedCache(Generic[Name, Value]):
    """Values by name; each is forgotten after a time, and the oldest make room. Safe for several threads.

    What is too old is never given out; it leaves the memory at the next use of the cache.
    """

    def __init__(self, seconds: float, most: int, clock: Callable[[], float]) -> None:
        """Keep up to `most` values for up to `seconds` each, measured by `clock`, which never goes back."""
        self._seconds, self._most, self._clock = seconds, most, clock
        self._lock = threading.Lock()
        self._entries: dict[Name, tuple[Value, float]] = {}

    def get(self, names: Iterable[Name]) -> dict[Name, Value]:
        """Return the values of those names for which there is one."""
        with self._lock:
            self._forget_old()
            entries = self._entries
            return {name: entries[name][0] for name in names if name in entries}

    def put(self, values: Mapping[Name, Value]) -> None:
        """Keep values from now on, in place of those with the same names."""
        with self._lock:
            self._forget_old()
            deadline = self._clock() + self._seconds
            for name, value in values.items():
                # Put in anew, so that the dictionary stays in the order of its deadlines.
                self._entries.pop(name, None)
                self._entries[name] = (value, deadline)
            for name in list(islice(self._entries, max(0, len(self._entries) - self._most))):
                del self._entries[name]

    def drop(self, names: Iterable[Name]) -> None:
        """Forget the values of some names."""
        with self._lock:
            for name in names:
                self._entries.pop(name, None)

    def drop_where(self, condition: Callable[[Name], bool]) -> None:
        """Forget the values of all names that meet a condition."""
        with self._lock:
            for name in [name for name in self._entries if condition(name)]:
                del self._entries[name]

    def _forget_old(self) -> None:
        now, entries = self._clock(), self._entries
        while entries and entries[first := next(iter(entries))][1] <= now:
            del entries[first]
