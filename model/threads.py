"""Both cores for the compiled kernels: parts of a range at once, with results that do not depend on how many."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LEAST_PART = 16
"""A part of a range is at least this long: shorter ones cost more to hand over than to compute."""


def in_parts(kernel: Callable[..., None], length: int, *arguments: object) -> None:
    """Run `kernel(first, last, *arguments)` over range(length), one part per thread; return when all are done."""
    threads = max(1, min(thread_count(), length // LEAST_PART))
    if threads == 1:
        kernel(0, length, *arguments)
        return
    ends = [length * part // threads for part in range(threads + 1)]
    done = [_pool(threads).submit(kernel, first, last, *arguments) for first, last in pairwise(ends)]
    for part in done:
        part.result()


def plain(array: NDArray[Any], kind: DTypeLike) -> NDArray[Any]:
    """Return the array as kernels are compiled for: one type, contiguous, writable; itself where it is so."""
    return np.require(array, kind, ["C", "W"])


def thread_count() -> int:
    """Return how many threads to use: the cores that this process may use, or OMP_NUM_THREADS where it is less."""
    cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(asked))) if asked.isdecimal() else cores


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; a forked child makes its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")


os.register_at_fork(after_in_child=_pool.cache_clear)
