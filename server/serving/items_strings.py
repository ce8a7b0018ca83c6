"""Many byte strings in two arrays, which can be mapped into memory: all bytes in a row, and where each begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Columns = Mapping[str, npt.NDArray[Any]]
"""Arrays by name, in memory or mapped."""


@dataclass(frozen=True)
class Strings:
    """Byte strings by number; `offsets` (strings + 1,) into `data` (bytes,) uint8."""

    offsets: memoryview
    data: memoryview

    @classmethod
    def of(cls, columns: Columns, name: str) -> Strings:
        """The strings that `string_columns` made under this name."""
        return cls(columns[f"{name}_offsets"].data, columns[f"{name}_bytes"].data)

    def __len__(self) -> int:
        """Number of strings."""
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        """Every string as UTF-8 text."""
        return (self.raw(number).decode() for number in range(len(self)))

    def raw(self, number: int) -> bytes:
        """The bytes of one string."""
        return bytes(self.data[self.offsets[number] : self.offsets[number + 1]])

    def begins(self, number: int, start: bytes) -> bool:
        """Whether one string begins with these bytes."""
        at = self.offsets[number]
        return bool(self.data[at : at + len(start)] == start)


def string_columns(name: str, strings: Iterable[bytes]) -> Columns:
    """The two arrays of some strings, under names that begin with `name`."""
    kept = list(strings)
    return {
        f"{name}_offsets": starts_of(np.fromiter(map(len, kept), dtype=np.int64, count=len(kept))),
        f"{name}_bytes": np.frombuffer(b"".join(kept), dtype=np.uint8),
    }


def starts_of(lengths: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Where each of some parts (n,) begins, and where the last ends, (n + 1,); 4 bytes each where that suffices."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return starts.astype(np.uint32 if starts[-1] <= np.iinfo(np.uint32).max else np.int64)
