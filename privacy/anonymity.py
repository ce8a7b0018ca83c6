"""The one way in which figures about shoppers leave in the clear: over K shoppers at least, or under paid noise.

`publish` takes rows about shoppers, never ready figures, so that a figure and the shoppers it is said to cover cannot
drift apart. A group is shown on its own if it is about at least K distinct shoppers (Sweeney, "k-anonymity",
2002; Ads Data Hub asks for the same 50) and no sum of it is all but one shopper's own (the p% rule). What is left is
shown together; while that is not enough, the next smallest group joins it, so that a known total less the
figures shown never gives a group away: complementary suppression (Cox, "Suppression Methodology and Statistical
Disclosure Control", JASA 1980; Hundepool et al., "Statistical Disclosure Control", Wiley 2012, chapter 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy.coarse import Window
from privacy.errors import AnonymityError, NotNoised, TooFewShoppers
from privacy.ledger_records import ChargeRecord, ChargeState
from privacy.publications import Publications

K: Final = 50
"""Fewest distinct shoppers behind a figure without noise."""

ESTIMATE: Final = 0.1
"""p of the p% rule: whoever knows the second largest share must not learn the largest to within this fraction."""

OTHER: Final = "all others together"
"""The label of the groups that are not shown on their own."""


class Measure(StrEnum):
    """How the rows of a group become a figure."""

    SUM = "sum"
    """The sum of amounts, 0 or more each."""

    MEAN = "mean"
    """The mean of scores between 0 and 1, over rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Rows about shoppers: row i says `figures[name][i]` about `shoppers[i]`, who may have several rows.

    Shoppers are ids, pseudonyms or indices: they are told apart, and leave in no form.
    """

    shoppers: NDArray[Any]
    figures: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        """Refuse figures without a row for each shopper, and amounts below 0 or not finite; `AnonymityError`."""
        for name, amounts in self.figures.items():
            if len(amounts) != len(self.shoppers):
                raise AnonymityError(
                    f"figure {name!r} has {len(amounts)} rows for {len(self.shoppers)} shoppers; give one each"
                )
            if not (np.isfinite(amounts).all() and (np.asarray(amounts) >= 0).all()):
                raise AnonymityError(
                    f"figure {name!r} has amounts below 0 or not finite; publish other amounts"
                )


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one group; `at_least` is its number of shoppers, rounded down to a multiple of K.

    It is None under noise. The exact number may not leave: the sizes of two groups and of both together
    would tell how many shoppers are in both.
    """

    label: str
    at_least: int | None
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate:
    """What is to be published: groups of rows that share no event, within one window of one series."""

    series: str
    window: Window
    measure: Measure
    groups: Mapping[str, Group]


@dataclass(frozen=True, kw_only=True)
class Noised:
    """Figures that already carry the noise of a release which `holder`'s shoppers have paid for."""

    series: str
    window: Window
    release_id: str
    holder: str
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Published:
    """Figures that may leave, and why: `grounds` says so in words for whoever reads them."""

    series: str
    window: Window
    groups: tuple[Figures, ...]
    grounds: str


def publish(aggregate: Aggregate, publications: Publications) -> Published:
    """Return what may leave of an aggregate and note its window durably; nothing leaves twice.

    Raises `TooFewShoppers` where nothing may, `WindowOverlaps` where some of the window's days were published before.
    """
    groups = safe_groups(aggregate.groups, aggregate.measure)
    if not groups:
        raise TooFewShoppers(
            f"all groups of series {aggregate.series!r} together are about fewer than {K} shoppers, or about one "
            "above all; publish a longer window"
        )
    publications.claim(aggregate.series, aggregate.window)
    grounds = f"each figure covers at least {K} shoppers"
    return Published(series=aggregate.series, window=aggregate.window, groups=groups, grounds=grounds)


def publish_noised(noised: Noised, charges: Iterable[ChargeRecord]) -> Published:
    """Return noised figures if their release is committed in the ledger (`Ledger.charges`), or raise `NotNoised`.

    Windows of noised figures may overlap: the ledger has charged each of them.
    """
    wanted = (noised.release_id, noised.holder)
    found = [one for one in charges if (one.charge.release_id, one.charge.holder) == wanted]
    if not any(one.state is ChargeState.COMMITTED and one.charge.noise_multiplier > 0 for one in found):
        raise NotNoised(
            f"series {noised.series!r} names release {noised.release_id!r} of holder {noised.holder!r}, which is "
            f"{'not committed with noise' if found else 'not there'} in the ledger; reserve, add the noise, commit"
        )
    group = Figures(label=noised.holder, at_least=None, values=dict(noised.values))
    grounds = f"noised under release {noised.release_id} of holder {noised.holder}"
    return Published(series=noised.series, window=noised.window, groups=(group,), grounds=grounds)


def safe_groups(groups: Mapping[str, Group], measure: Measure) -> tuple[Figures, ...]:
    """Return the groups that can be shown on their own, largest first, and the rest joined as OTHER.

    Nothing is returned if all of them together cannot be shown. Raises `AnonymityError` for a group that is
    labelled as OTHER, groups with different figures, and a score above 1.
    """
    _check_groups(groups, measure)
    alone = sorted((label for label in groups if _is_safe(groups[label], measure)), key=_by_size(groups))
    rest = [label for label in groups if label not in set(alone)]
    while rest and not _is_safe(_joined(groups, rest), measure):
        if not alone:
            return ()
        rest.append(alone.pop())
    shown = [_figures(label, groups[label], measure) for label in alone]
    return (*shown, *([_figures(OTHER, _joined(groups, rest), measure)] if rest else []))


def at_least(shoppers: int) -> int:
    """Return a number of shoppers rounded down to a multiple of K."""
    return shoppers // K * K


def _check_groups(groups: Mapping[str, Group], measure: Measure) -> None:
    names = {tuple(sorted(group.figures)) for group in groups.values()}
    if len(names) > 1 or OTHER in groups:
        raise AnonymityError(f"groups must have the same figures, and none may be labelled {OTHER!r}")
    scores = [amounts for group in groups.values() for amounts in group.figures.values()]
    if measure is Measure.MEAN and any(np.asarray(one).max(initial=0.0) > 1 for one in scores):
        raise AnonymityError(
            "a mean is of scores between 0 and 1, and one is above; publish a sum, or scale it"
        )


def _by_size(groups: Mapping[str, Group]) -> Any:
    sizes = {label: np.unique(group.shoppers).size for label, group in groups.items()}
    return lambda label: (-sizes[label], label)


def _joined(groups: Mapping[str, Group], labels: list[str]) -> Group:
    parts = [groups[label] for label in labels]
    figures = {name: np.concatenate([part.figures[name] for part in parts]) for name in parts[0].figures}
    return Group(shoppers=np.concatenate([part.shoppers for part in parts]), figures=figures)


def _is_safe(group: Group, measure: Measure) -> bool:
    """Whether K shoppers are behind the group, and none of them is nearly all of a sum."""
    distinct, row_of = np.unique(group.shoppers, return_inverse=True)
    if distinct.size < K:
        return False
    if measure is Measure.MEAN:
        return True
    shares = [np.bincount(row_of, amounts).astype(np.float64) for amounts in group.figures.values()]
    return not any(map(_is_dominated, shares))


def _is_dominated(shares: NDArray[np.float64]) -> bool:
    """The p% rule: the second largest share can estimate the largest, as total - own, too well."""
    *_, second, largest = np.sort(shares)
    return bool(shares.sum() - largest - second < ESTIMATE * largest)


def _figures(label: str, group: Group, measure: Measure) -> Figures:
    reduce = np.sum if measure is Measure.SUM else np.mean
    values = {name: float(reduce(amounts)) for name, amounts in group.figures.items()}
    return Figures(label=label, at_least=at_least(np.unique(group.shoppers).size), values=values)
