"""A small index that proposes candidates among very many vectors; the exact inner products decide among them.

`server.serving.index_build` makes it and judges it. It holds 2 or 4 bits of each coordinate; the vectors stay in
their memory-mapped file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import faiss

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Coarse:
    """An index over the first `items` rows.

    Attributes:
        factor: candidates to take for each item that is wanted.
        recall: share of the exact best 100 found on held-out questions, with this factor.
    """

    faiss_index: faiss.Index
    items: int
    factor: int
    recall: float

    def candidates(self, queries: Floats, count: int) -> Ints:
        """Items (q, count) that may be the best of each question; -1 where there are not so many."""
        search: Any = self.faiss_index.search  # faiss declares the signature of C++, and takes arrays
        found: tuple[Floats, Ints] = search(np.ascontiguousarray(queries, dtype=np.float32), count)
        return found[1]

    def save(self, path: Path) -> None:
        """Write what `load` reads, but for the numbers."""
        import faiss

        faiss.write_index(self.faiss_index, str(path))

    @classmethod
    def load(cls, path: Path, *, items: int, factor: int, recall: float) -> Coarse:
        """Read an index that `save` wrote."""
        import faiss

        faiss.omp_set_num_threads(1)
        return cls(faiss_index=faiss.read_index(str(path)), items=items, factor=factor, recall=recall)
