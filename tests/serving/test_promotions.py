"""Promotions: which items have one now, and which one is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import CatalogueError
from server.serving.promotions import REMEMBERED, SCHEMA, Promotion, Promotions, read_promotions


def find(ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Items are called i0 to i9."""
    known = {f"i{row}": row for row in range(10)}
    return np.array([known.get(item, -1) for item in ids], dtype=np.int64)


def row(promotion_id: str, item_id: str, **words: Any) -> dict[str, Any]:
    """One row of the file, null where nothing is said."""
    return {
        **dict.fromkeys(SCHEMA),
        "promotion_id": promotion_id,
        "item_id": item_id,
        "kind": "discount",
        **words,
    }


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    """The file's table."""
    return pl.DataFrame(list(rows), schema=dict(SCHEMA))


def test_a_promotion_is_valid_from_its_start_until_before_its_end() -> None:
    """Bounds are half open; none given means always."""
    promotions = Promotions(
        table(row("a", "i1", starts=10, ends=20), row("b", "i2", starts=20), row("c", "i3", ends=10)), find
    )
    found = {now: promotions.valid_at(now).tolist() for now in (9, 10, 19, 20, 10**12)}
    assert found == {9: [3], 10: [1], 19: [1], 20: [2], 10**12: [2]}
    assert promotions.best(1, 20) is None
    assert promotions.best(0, 10) is None


def test_what_is_valid_at_moments_asked_in_turn_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As callers do whose clocks differ; no more moments are kept than a few, and answers stay right."""
    promotions = Promotions(
        table(*(row(f"p{day}", "i1", starts=day, ends=day + 1) for day in range(100))), find
    )
    looked: list[int] = []
    between = promotions._between

    def counted(now: int) -> Any:
        looked.append(now)
        return between(now)

    monkeypatch.setattr(promotions, "_between", counted)
    for _ in range(50):
        for day in (1, 50, 99):
            assert promotions.valid_at(day).tolist() == [1]
            best = promotions.best(1, day)
            assert best is not None and best.promotion_id == f"p{day}"
    assert looked == [1, 50, 99]
    for day in range(100):
        promotions.valid_at(day)
    assert len(promotions._looked_up) == REMEMBERED


def test_the_best_promotion_is_the_largest_discount_then_the_easiest_then_the_most_urgent() -> None:
    """Of one item one promotion is shown, and always the same one."""
    rows = [
        row("d", "i1", discount=0.2, least_quantity=1, ends=90),
        row("c", "i1", discount=0.2, least_quantity=1, ends=50, text="20 % off", kind="coupon"),
        row("b", "i1", discount=0.2, least_quantity=3, ends=40),
        row("a", "i1"),
        row("e", "i1", discount=0.5, ends=30),
    ]
    promotions = Promotions(table(*rows), find)
    best = [promotions.best(1, now) for now in (29, 30, 50, 90)]
    assert [promotion.promotion_id for promotion in best if promotion] == ["e", "c", "d", "a"]
    assert best[1] == Promotion(
        promotion_id="c", kind="coupon", text="20 % off", discount=0.2, least_quantity=1, ends=50
    )


spans = st.tuples(st.integers(0, 9), st.none() | st.integers(0, 30), st.none() | st.integers(31, 60))


@given(rows=st.lists(spans, max_size=20), nows=st.lists(st.integers(-5, 70), min_size=1, max_size=8))
def test_what_is_valid_is_what_a_look_at_every_row_says(
    rows: list[tuple[int, int | None, int | None]], nows: list[int]
) -> None:
    """Whatever is asked in whatever order, no expired and no future promotion is found."""
    promotions = Promotions(
        table(*(row(str(n), f"i{item}", starts=s, ends=e) for n, (item, s, e) in enumerate(rows))), find
    )
    for now in nows:
        valid = {item for item, s, e in rows if (s is None or s <= now) and (e is None or now < e)}
        assert promotions.valid_at(now).tolist() == sorted(valid)
        assert {item for item in range(10) if promotions.best(item, now)} == valid


def test_no_file_means_no_promotion_and_rows_of_unknown_items_are_left_out(tmp_path: Path) -> None:
    """A shop without promotions needs no file, and one merchant's endpoint reads the file of all."""
    path = tmp_path / "promotions.parquet"
    assert len(read_promotions(path, find)) == 0
    assert read_promotions(path, find).valid_at(0).tolist() == []
    table(row("a", "i1"), row("b", "stranger")).write_parquet(path)
    assert read_promotions(path, find).valid_at(0).tolist() == [1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"discount": 1.5}, "row 1 has a discount outside 0 to 1"),
        ({"discount": float("nan")}, "row 1 has a discount outside 0 to 1"),
        ({"least_quantity": 0}, "row 1 has a least_quantity outside 1 to 1000000"),
        ({"least_quantity": 1 << 32}, "row 1 has a least_quantity outside 1 to 1000000"),
        (
            {"ends": 1_800_000_000_000},
            "row 1 has starts or ends outside 0 to 253402300799; give Unix seconds",
        ),
        ({"starts": -1}, "row 1 has starts or ends outside 0"),
        ({"starts": 5, "ends": 5}, "row 1 ends before it starts"),
        ({"kind": None}, "row 1 has no promotion_id, item_id or kind"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(
    tmp_path: Path, words: dict[str, Any], problem: str
) -> None:
    """The file, the row and the bound are named."""
    path = tmp_path / "promotions.parquet"
    table(row("a", "i1"), row("b", "i2", **words)).write_parquet(path)
    with pytest.raises(CatalogueError, match=problem):
        read_promotions(path, find)


def test_a_file_without_a_column_or_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    """The column is named."""
    path = tmp_path / "promotions.parquet"
    table(row("a", "i1")).drop("ends").write_parquet(path)
    with pytest.raises(CatalogueError, match="lacks the columns ends"):
        read_promotions(path, find)
    path.write_text("no parquet")
    with pytest.raises(CatalogueError, match="cannot be read"):
        read_promotions(path, find)
