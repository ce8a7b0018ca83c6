"""Which model versions were promoted, and when: what a rollback goes back along."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from model.versions import write_durably
from privacy.key_files import locked
from server.errors import CorruptVersion

_FILE, _LOCK = "promotions.json", ".promoting"


class Act(StrEnum):
    """How a version came to be the one that serving takes."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """One line of the history: the version that serving takes from then on; `at` in Unix seconds."""

    version: str
    act: Act
    at: float


class PromotionHistory:
    """The file of all promotions of one registry, oldest first. A person's act each: it stays short."""

    def __init__(self, root: Path) -> None:
        """Keep it in the folder of the registry."""
        self._root = root

    def read(self) -> list[Promotion]:
        """All lines; `CorruptVersion` where the file is damaged."""
        try:
            lines = json.loads((self._root / _FILE).read_bytes())
            return [Promotion(version=line["version"], act=Act(line["act"]), at=line["at"]) for line in lines]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptVersion(
                f"the history of promotions {self._root / _FILE} is damaged; restore it, or delete it and promote a "
                "version with `fedrank promote`"
            ) from error

    def move(self, lines: Callable[[list[Promotion]], list[Promotion]], then: Callable[[str], None]) -> str:
        """Add `lines` of what was noted so far, then do the last of them; nobody else moves meanwhile."""
        with locked(self._root / _LOCK):
            noted = self.read()
            noted += lines(noted)
            text = json.dumps([asdict(one) for one in noted], indent=1)
            write_durably(self._root / _FILE, text.encode())
            then(noted[-1].version)
        return noted[-1].version


def before(lines: list[Promotion], served: str | None) -> list[str]:
    """Versions that a rollback may go to, the latest first; what was rolled back is none of them.

    `served` is what serving takes: a line after it was noted and not done, since somebody was cut off between.
    """
    path: list[str] = []
    for line in lines:
        if line.act is Act.ROLLBACK:
            path = _cut(path, line.version)
        path.append(line.version)
    return list(dict.fromkeys(version for version in reversed(_cut(path, served)) if version != served))


def _cut(path: list[str], version: str | None) -> list[str]:
    """What came before the last mention of a version; all where there is none."""
    return path[: len(path) - 1 - path[::-1].index(version)] if version in path else path
