"""What leaves in the clear is about 50 shoppers at least, also after every sum and difference of what was shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.anonymity import (
    OTHER,
    Aggregate,
    Figures,
    Group,
    K,
    Measure,
    Noised,
    at_least,
    publish,
    publish_noised,
    safe_groups,
)
from privacy.coarse import Window
from privacy.errors import AnonymityError, NotNoised, TooFewShoppers, WindowOverlaps
from privacy.ledger_records import Charge, ChargeRecord, ChargeState
from privacy.publications import Publications

_WEEK = Window(starts=date(2026, 1, 5), ends=date(2026, 1, 12))


@pytest.fixture
def publications(database_url: str) -> Iterator[Publications]:
    """An empty record on each kind of database."""
    record = Publications.open(database_url)
    yield record
    record.close()


def _group(first: int, count: int, amount: float = 1.0) -> Group:
    """`count` shoppers from number `first` on, with one row each."""
    return Group(shoppers=np.arange(first, first + count), figures={"orders": np.full(count, amount)})


def _disjoint(*counts: int) -> dict[str, Group]:
    """Groups g0, g1, ... of that many shoppers each, none of them in two."""
    return {f"g{i}": _group(sum(counts[:i]), count) for i, count in enumerate(counts)}


def _aggregate(groups: dict[str, Group], series: str = "orders by region") -> Aggregate:
    return Aggregate(series=series, window=_WEEK, measure=Measure.SUM, groups=groups)


def _shown(groups: dict[str, Group], measure: Measure = Measure.SUM) -> dict[str, Figures]:
    return {one.label: one for one in safe_groups(groups, measure)}


def _parts(groups: dict[str, Group]) -> dict[str, set[str]]:
    """The labels of the groups behind each figure that is shown."""
    shown = set(_shown(groups))
    rest = set(groups) - shown
    return {label: rest if label == OTHER else {label} for label in shown}


def test_a_group_of_fifty_is_shown_and_one_of_forty_nine_joins_others() -> None:
    """K is the bound itself; the figures of joined groups add up."""
    shown = _shown(_disjoint(K, K, K - 1, 1))
    assert set(shown) == {"g0", "g1", OTHER}
    assert shown["g0"].values == {"orders": float(K)} and shown[OTHER].values == {"orders": float(K)}


def test_a_single_small_group_takes_the_next_smallest_along() -> None:
    """Else the total less the groups that are shown would be its figure."""
    shown = _shown(_disjoint(200, 60, 70, 3))
    assert set(shown) == {"g0", "g2", OTHER}
    assert shown[OTHER].values == {"orders": 63.0} and shown[OTHER].at_least == K


def test_an_empty_group_is_hidden_like_one_of_few() -> None:
    """That nobody was there cannot be told from that one was."""
    assert set(_shown(_disjoint(200, 60, 0))) == set(_shown(_disjoint(200, 60, 1))) == {"g0", OTHER}


def test_rows_are_not_shoppers() -> None:
    """A hundred rows of two shoppers are about two, and the same shoppers in two groups are counted once."""
    busy = Group(shoppers=np.repeat(["a", "b"], 50), figures={"orders": np.ones(100)})
    assert _shown({"busy": busy}) == {}
    assert _shown({"left": _group(0, 40), "right": _group(5, 40)}) == {}
    assert set(_shown({"left": _group(0, 40), "right": _group(30, 40)})) == {OTHER}


def test_a_sum_that_is_nearly_one_shoppers_own_is_not_shown_alone() -> None:
    """The p% rule: 60 shoppers with 1 order each cannot hide one with 1,000; 60 others with 100 each can."""
    amounts = np.array([1.0] * 60 + [1000.0])
    whale = Group(shoppers=np.arange(61), figures={"orders": amounts})
    assert set(_shown({"whale": whale, "many": _group(100, 60, 100.0)})) == {OTHER}
    assert _shown({"whale": whale}) == {}


def test_the_measure_of_scores_is_their_mean_over_rows_also_where_groups_are_joined() -> None:
    """And a score cannot be above 1, so that one row never decides a mean."""
    groups = {"good": _group(0, 60, 1.0), "few": _group(60, 20, 0.5), "fair": _group(80, 55, 0.25)}
    shown = _shown(groups, Measure.MEAN)
    assert shown["good"].values == {"orders": 1.0}
    assert shown[OTHER].values["orders"] == pytest.approx((20 * 0.5 + 55 * 0.25) / 75)
    with pytest.raises(AnonymityError, match="between 0 and 1"):
        safe_groups({"g": _group(0, 60, 1.5)}, Measure.MEAN)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 120)), min_size=1, max_size=7))
def test_no_figure_nor_any_sum_or_difference_of_figures_is_about_fewer_than_fifty(
    rows: list[list[int]],
) -> None:
    """What is shown splits all groups into parts of K shoppers, so what follows from it is about whole parts."""
    groups = {f"g{i}": _group(first, count) for i, (first, count) in enumerate(rows)}
    parts = _parts(groups)
    everybody = {shopper for group in groups.values() for shopper in group.shoppers.tolist()}
    assert bool(parts) == (len(everybody) >= K)
    if not parts:
        return
    assert sorted(label for part in parts.values() for label in part) == sorted(groups)
    for label, part in parts.items():
        behind = {shopper for one in part for shopper in groups[one].shoppers.tolist()}
        assert len(behind) >= K
        assert _shown(groups)[label].at_least == at_least(len(behind))
        assert _shown(groups)[label].values["orders"] == sum(groups[one].shoppers.size for one in part)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(K, 90), min_size=2, max_size=5), st.integers(0, K - 1), st.integers(0, K - 1))
def test_a_group_below_the_bound_changes_nothing_but_the_figure_of_the_others(
    sizes: list[int], few: int, other_few: int
) -> None:
    """Whatever a group of fewer than K does, all other figures and the labels stay as they are."""
    before, after = _shown(_disjoint(*sizes, few)), _shown(_disjoint(*sizes, other_few))
    assert set(before) == set(after)
    assert all(before[label] == after[label] for label in before if label != OTHER)


def test_sizes_are_told_in_steps_so_that_one_shopper_rarely_shows() -> None:
    """Joining a group changes its published size for one shopper in K, on average over sizes."""
    sizes = np.arange(K, K + 100 * K)
    changed = [at_least(int(size)) != at_least(int(size) + 1) for size in sizes]
    assert np.mean(changed) == 1 / K


def test_groups_that_cannot_be_shown_together_are_refused_and_the_window_stays_free(
    publications: Publications,
) -> None:
    """A refused publication claims nothing; the message names series, bound and next step, and no group."""
    with pytest.raises(
        TooFewShoppers, match=f"'orders by region'.*fewer than {K} shoppers.*longer window"
    ) as error:
        publish(_aggregate({"Lighthouse 3": _group(0, 49)}), publications)
    assert "Lighthouse" not in str(error.value)
    assert publish(_aggregate(_disjoint(60)), publications).groups[0].label == "g0"


def test_what_was_published_once_is_not_published_again_with_one_shopper_less(
    publications: Publications,
) -> None:
    """Two figures over the same days would tell about the difference of their shoppers."""
    assert "at least 50 shoppers" in publish(_aggregate(_disjoint(60)), publications).grounds
    with pytest.raises(WindowOverlaps, match=r"'orders by region'.*2026-01-05 to 2026-01-12"):
        publish(_aggregate(_disjoint(59)), publications)
    assert publish(_aggregate(_disjoint(59), series="another series"), publications)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"orders": np.ones(3)}, "3 rows for 60 shoppers"),
        ({"orders": np.full(60, np.nan)}, "not finite"),
        ({"orders": np.full(60, -1.0)}, "below 0"),
    ],
)
def test_rows_that_are_not_amounts_of_shoppers_are_refused(
    figures: dict[str, NDArray[np.float64]], message: str
) -> None:
    """A negative amount would make a sum of many look like that of few, and the other way round."""
    with pytest.raises(AnonymityError, match=message):
        Group(shoppers=np.arange(60), figures=figures)


def test_groups_with_different_figures_or_the_label_of_the_others_are_refused() -> None:
    """Joining would be ambiguous."""
    other = Group(shoppers=np.arange(60), figures={"views": np.ones(60)})
    for groups in ({"a": _group(0, 60), "b": other}, {OTHER: _group(0, 60)}):
        with pytest.raises(AnonymityError, match="same figures"):
            safe_groups(groups, Measure.SUM)


def _record(state: ChargeState = ChargeState.COMMITTED, noise: float = 2.0) -> ChargeRecord:
    charge = Charge(
        release_id="r1",
        holder="shop-1",
        stage="counts",
        round=1,
        noise_multiplier=noise,
        clipping_norm=1.0,
        mu2=0.25,
    )
    return ChargeRecord(
        position=1,
        charge=charge,
        subjects=3,
        cohort_digest="0" * 64,
        state=state,
        reserved_at="2026-01-02T03:04:05+00:00",
        committed_at=None,
    )


def test_noised_figures_leave_under_a_committed_release_of_their_holder_however_few_are_behind_them() -> None:
    """The noise protects them; the ledger's record is the proof that it was paid for."""
    noised = Noised(series="orders", window=_WEEK, release_id="r1", holder="shop-1", values={"orders": 3.7})
    published = publish_noised(noised, [_record()])
    assert published.groups[0].values == {"orders": 3.7} and published.groups[0].at_least is None
    assert "release r1 of holder shop-1" in published.grounds


@pytest.mark.parametrize(
    ("holder", "records", "message"),
    [
        ("shop-1", [], "not there"),
        ("shop-2", [_record()], "not there"),
        ("shop-1", [_record(state=ChargeState.RESERVED)], "not committed with noise"),
        ("shop-1", [_record(noise=0.0)], "not committed with noise"),
    ],
)
def test_figures_without_a_committed_noised_release_are_refused(
    holder: str, records: list[ChargeRecord], message: str
) -> None:
    """A reservation alone, another holder's release, or one without noise is no proof."""
    noised = Noised(series="orders", window=_WEEK, release_id="r1", holder=holder, values={"orders": 3.7})
    with pytest.raises(NotNoised, match=message):
        publish_noised(noised, records)
