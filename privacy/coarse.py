"""Coarse time and place: all of either that may stand beside a figure which leaves in the clear.

A few exact times or places single out most people (de Montjoye et al., "Unique in the Crowd", Scientific Reports
2013), so times leave as weeks and parts of the day, places as regions, and figures cover whole days, seven at least.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from privacy.errors import TooFine

SHORTEST_WINDOW: Final = timedelta(days=7)
"""A shorter window tells on which day somebody did something."""

POSTAL_CHARACTERS: Final = 2
"""What is kept of a postal code. (45 CFR 164.514(b)(2) keeps three digits where they cover 20,000 people.)"""

_PARTS: Final = ("night", "morning", "afternoon", "evening")
_HOURS: Final = 24 // len(_PARTS)
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_REGION: Final = re.compile(r"[A-Z0-9]{1,3}")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Whole days in UTC, from `starts` up to but not including `ends`; at least SHORTEST_WINDOW."""

    starts: date
    ends: date

    def __post_init__(self) -> None:
        """Refuse times of day, and windows that are too short; raises `TooFine`."""
        if isinstance(self.starts, datetime) or isinstance(self.ends, datetime):
            raise TooFine("a window begins or ends at a time of day; give whole days (datetime.date)")
        if self.ends - self.starts < SHORTEST_WINDOW:
            raise TooFine(
                f"the window {self} has {(self.ends - self.starts).days} days; "
                f"publish over at least {SHORTEST_WINDOW.days}"
            )

    def __str__(self) -> str:
        """Both ends, for a message."""
        return f"{self.starts} to {self.ends}"

    def seconds(self) -> tuple[int, int]:
        """Return both ends as seconds since 1970."""
        start, end = (datetime.combine(day, time(), UTC) for day in (self.starts, self.ends))
        return int(start.timestamp()), int(end.timestamp())


def coarse_time(timestamp: int) -> str:
    """Return the ISO week and the part of the day of a time (seconds since 1970, UTC): `2026-W05 evening`."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02d} {_PARTS[moment.hour // _HOURS]}"


def coarse_place(*, country: str, region: str | None = None, postal_code: str | None = None) -> str:
    """Return `DE`, `DE-BY` or, from a postal code, `DE 80`; nothing finer leaves.

    `country` and `region` are codes of ISO 3166-1 and 3166-2, so that no town or street can be passed off as
    one. Raises `TooFine`.
    """
    if not _COUNTRY.fullmatch(country):
        raise TooFine("a country is not a code of two capital letters (ISO 3166-1), such as DE")
    if region is not None and postal_code is not None:
        raise TooFine("a region and a postal code together are finer than either; give one of them")
    if region is not None:
        if not _REGION.fullmatch(region):
            raise TooFine(
                "a region is not a code of one to three characters (ISO 3166-2), such as BY of DE-BY"
            )
        return f"{country}-{region}"
    if postal_code is None:
        return country
    kept = "".join(filter(str.isalnum, postal_code))[:POSTAL_CHARACTERS].upper()
    return f"{country} {kept}".rstrip()
