"""Reads arrays that participants send."""

from __future__ import annotations

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

from server.coordination.aggregate import RefusedContribution
from server.coordination.ending import Ending


def tensor_of(array: Array) -> NDArray[np.generic]:
    """Return a plain tensor; nothing is ever unpickled.

    Raises:
        RefusedContribution: it is none. Whatever its bytes make NumPy's reader raise is its sender's fault: for some
            archives and headers raise more than `ValueError`, or ask for more memory than there is.
    """
    try:
        found: object = array.numpy()
    except Ending:
        raise
    except Exception as fault:
        raise _unreadable(type(fault).__name__) from fault
    if not isinstance(found, np.ndarray):  # an archive of arrays is read as one of another type
        raise _unreadable(type(found).__name__)
    return found


def _unreadable(kind: str) -> RefusedContribution:
    return RefusedContribution(f"its arrays cannot be read ({kind})")
