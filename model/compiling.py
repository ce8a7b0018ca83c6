"""One way to compile a kernel: machine code kept on disk, no interpreter lock, sums that may be reordered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., object])

REORDERED = {"reassoc", "contract", "nsz", "arcp"}
"""What lets a sum run in vector registers; infinities and NaN keep their meaning."""


def compiled(kernel: Kernel) -> Kernel:
    """Return the kernel compiled at its first call, or read from the cache where there is one."""
    try:
        return cast(Kernel, _compiled(kernel, cache=True))
    except RuntimeError:  # nowhere to write: neither beside the sources nor in the home folder
        return cast(Kernel, _compiled(kernel, cache=False))


def _compiled(kernel: Callable[..., object], signatures: list[str] | None = None, *, cache: bool) -> object:
    return njit(signatures, cache=cache, nogil=True, error_model="numpy", fastmath=REORDERED)(kernel)


def compiled_for(*signatures: str) -> Callable[[Kernel], Kernel]:
    """As `compiled`, but for these types alone, and ready as soon as the module is imported."""

    def compile_now(kernel: Kernel) -> Kernel:
        try:
            return cast(Kernel, _compiled(kernel, [*signatures], cache=True))
        except RuntimeError:  # as above
            return cast(Kernel, _compiled(kernel, [*signatures], cache=False))

    return compile_now
