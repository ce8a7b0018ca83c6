"""What a shop declares beyond relevance: the knobs of each surface. docs/policy.md says what each does and costs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from server.errors import PolicyError
from server.serving.query import Surface

FRESH_DAYS = 30
"""An item counts as fresh for so many days after it was listed."""


@dataclass(frozen=True, kw_only=True)
class SurfacePolicy:
    """The knobs of one surface; each is off as it stands here.

    Attributes:
        diversity: 0 to 1, the share of likeness to what stands above in an item's value (1 - lambda of MMR).
        category_quota, merchant_quota: at most so many items of one category or merchant in a list.
        long_tail_share: least share of a list from the tail of the released counts.
        fresh_share: least share of a list from items listed within `FRESH_DAYS` days.
        fairness: 0 to 1, how strongly merchants that got less exposure than merit are raised.
        exploration_share: 0 to 0.5, the probability with which a place is given to a random candidate.
    """

    diversity: float = 0.0
    category_quota: int | None = None
    merchant_quota: int | None = None
    long_tail_share: float = 0.0
    fresh_share: float = 0.0
    fairness: float = 0.0
    exploration_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no list could obey; raises `PolicyError`."""
        for name in ("diversity", "long_tail_share", "fresh_share", "fairness", "exploration_share"):
            _check_share(name, getattr(self, name), 0.5 if name == "exploration_share" else 1.0)
        for name in ("category_quota", "merchant_quota"):
            _check_quota(name, getattr(self, name))
        if self.long_tail_share + self.fresh_share > 1:
            raise PolicyError(
                f"long_tail_share is {self.long_tail_share} and fresh_share is {self.fresh_share}; "
                "together they may be at most 1, or no list could keep both"
            )

    @cached_property
    def is_off(self) -> bool:
        """Whether the candidates' own order is the list."""
        return not (self.reorders or self.exploration_share)

    @cached_property
    def reorders(self) -> bool:
        """Whether any knob but exploration is on."""
        quotas = self.category_quota is not None or self.merchant_quota is not None
        return quotas or bool(self.diversity or self.long_tail_share or self.fresh_share or self.fairness)


def _check_share(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise PolicyError(f"{name} is {value!r}; use a number from 0 (off) to {most:g}")


def _check_quota(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise PolicyError(f"{name} is {value!r}; use a whole number of at least 1, or leave it out")


OFF = SurfacePolicy()
DEFAULTS: Mapping[Surface, SurfacePolicy] = {Surface.NEW_ARRIVALS: SurfacePolicy(fresh_share=0.2)}
"""What a surface does where no policy names it; the others have every knob off."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The knobs of every surface; as it stands here, `DEFAULTS`."""

    surfaces: Mapping[Surface, SurfacePolicy] = field(default_factory=lambda: DEFAULTS)

    def of(self, surface: Surface) -> SurfacePolicy:
        """The knobs of one surface."""
        return self.surfaces.get(surface, OFF)


def read_policy(path: Path) -> Policy:
    """Read a TOML file with a table per surface and its knobs; a surface that it leaves out keeps its default.

    Raises:
        PolicyError: the file cannot be read, or names an unknown surface or knob, or a knob is out of bounds.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"the policy {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy {path} is no TOML: {error}") from error
    try:
        return Policy(surfaces={**DEFAULTS, **dict(map(_surface, tables.items()))})
    except PolicyError as error:
        raise PolicyError(f"the policy {path}: {error}; see docs/policy.md") from None


def _surface(entry: tuple[str, Any]) -> tuple[Surface, SurfacePolicy]:
    name, knobs = entry
    if name not in set(Surface):
        raise PolicyError(f"[{name}] is no surface; use {', '.join(Surface)}")
    if not isinstance(knobs, dict):
        raise PolicyError(f"{name} is {knobs!r}; make it a table [{name}] with knobs")
    known = [knob.name for knob in fields(SurfacePolicy)]
    unknown = sorted(knobs.keys() - set(known))
    if unknown:
        raise PolicyError(f"[{name}] has no knob {', '.join(unknown)}; the knobs are {', '.join(known)}")
    try:
        return Surface(name), SurfacePolicy(**knobs)
    except PolicyError as error:
        raise PolicyError(f"[{name}] {error}") from None
