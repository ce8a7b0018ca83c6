"""Named points in operations that must survive a crash; tests end the process there with kill -9.

An object takes `failpoint: Failpoint = no_failpoint` and calls it with one of the names below.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

Failpoint = Callable[[str], None]
"""What is called at a point, with the point's name."""


def no_failpoint(_name: str) -> None:
    """Do nothing: what every operation calls unless a test passes something else."""


_listener: Failpoint = no_failpoint


def passed(name: str) -> None:
    """Tell whoever listens that this process has come to a point: for programs that others start and call."""
    _listener(name)


def listen(failpoint: Failpoint) -> None:
    """Let `failpoint` be called at every point that this process passes from now on; tests alone do this."""
    global _listener
    _listener = failpoint


FAILPOINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "append": (
            "append: keys made",
            "append: ids claimed",
            "append: numbers taken",
            "append: before commit",
            "append: after commit",
        ),
        "charge": (
            "charge: accounts charged",
            "charge: before commit",
            "charge: after commit",
            "charge: remembered",
        ),
        "rotate": (
            "rotate: keys made",
            "rotate: keys in use",
            "rotate: shoppers locked",
            "rotate: before commit",
            "rotate: rows sealed",
            "rotate: old keys destroyed",
        ),
        "rewrap": (
            "rewrap: kek made",
            "rewrap: file wrapped",
            "rewrap: old kek destroyed",
            "rewrap: secret made",
            "rewrap: secret in use",
            "rewrap: page wrapped",
            "rewrap: old secret destroyed",
        ),
        "erase": (
            "erase: locked",
            "erase: rows deleted",
            "erase: keys destroyed",
            "erase: after commit",
        ),
        "migrate": (
            "migrate: locked",
            "migrate: after a revision",
            "migrate: before commit",
            "migrate: after commit",
        ),
    }
)
"""The points of every operation, in the order in which it passes them."""

FEDERATION_FAILPOINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "round": (
            "round: planned",
            "round: cohort there",
            "round: reserved",
            "round: collected",
            "round: noise drawn",
            "journal: arrays written",
            "journal: entry written",
            "round: committed",
            "round: learned",
        ),
        "run": (
            "run: learned",
            "run: version added",
            "run: version offered",
            "run: journal finished",
        ),
        "secure": (
            "secure: advertise closed",
            "secure: share closed",
            "secure: contribute closed",
            "secure: confirm closed",
            "secure: unmask closed",
        ),
        "answer": (
            "answer: before charge",
            "answer: after charge",
            "answer: computed",
            "answer: before reply",
        ),
        "phase": (
            "phase: advertise answered",
            "phase: share answered",
            "phase: confirm answered",
            "phase: unmask answered",
        ),
        "version": (
            "version: verified",
            "version: stored",
        ),
    }
)
"""Points of a federation's processes: `round`, `run` and `secure` of the coordinator, the others of a participant.

They call `passed`, because Flower starts and calls them; so do the points `charge` of both sides' ledgers.
"""
