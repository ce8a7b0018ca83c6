"""A small index that proposes candidates among very many vectors; the exact inner products decide among them.

`server.serving.index_build` makes it and judges it. It holds 8 to 32 bytes of each vector; the vectors stay in their
memory-mapped file.
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

_THREE_AND_THREE = 0x33
"""How many questions a pass over the codes looks for: six, in two groups that fit the registers."""


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

    def __post_init__(self) -> None:
        """Use one thread, and pass over the codes for several questions at once."""
        import faiss

        faiss.omp_set_num_threads(1)
        codes: Any = self.faiss_index
        if isinstance(codes, faiss.IndexPreTransform):
            codes = faiss.downcast_index(codes.index)
        codes.qbs = _THREE_AND_THREE

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

        return cls(faiss_index=faiss.read_index(str(path)), items=items, factor=factor, recall=recall)
