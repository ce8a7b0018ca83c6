"""Results inside each merchant's own catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_world import dataset, random_dataset
from numpy.typing import NDArray

from evaluation.per_merchant import merchant_rows
from evaluation.split import Split, SplitKind, split
from model.catalogue import PublicItems
from model.content import ItemColumns
from privacy.anonymity import OTHER


def catalogue(cut: Split, owners: list[str]) -> PublicItems:
    """The split's items with these owners."""
    none: list[str | None] = [None] * len(cut.items)
    columns = ItemColumns(
        titles=none, categories=none, brands=none, prices=[None] * len(cut.items), descriptions=none
    )
    return PublicItems(item_ids=cut.items, merchant_ids=tuple(owners), columns=columns)


def bought(shopper: str, trained: list[int], wanted: int) -> list[tuple[str, str, str, int | None]]:
    """A shopper who buys these items one after another, and the wanted one at the end."""
    rows = [(shopper, f"i{item:02d}", "purchase", time) for time, item in enumerate(trained, start=1)]
    return [*rows, (shopper, f"i{wanted:02d}", "purchase", 99)]


def shop(at_a: int, at_b: int) -> tuple[Split, PublicItems]:
    """Shoppers with something to find at merchant a (items 0 and 10) or b (1 to 9); nobody has at c (11, 12)."""
    rows = [row for n in range(at_a) for row in bought(f"a{n}", list(range(1, 10)), 0)]
    rows += [row for n in range(at_b) for row in bought(f"b{n}", [0, *range(2, 10)], 1)]
    cut = split(dataset(rows, items=[f"i{n:02d}" for n in range(13)]), SplitKind.TIME)
    assert cut.relevant.nnz == at_a + at_b
    return cut, catalogue(cut, ["a"] + ["b"] * 9 + ["a"] + ["c"] * 2)


def scorer(shoppers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Put item 10 above item 0, both above items 1 to 9, and items 11 and 12 on top."""
    scores = np.zeros((len(shoppers), 13), dtype=np.float32)
    scores[:, 0], scores[:, 10], scores[:, 11], scores[:, 12] = 1.0, 2.0, 8.0, 9.0
    return scores


def test_a_hand_made_case() -> None:
    """The held-out item at merchant a is second in its shop: 1 / log2(3), wherever else it stands.

    Nobody was judged at c, and b has the next fewest, so b and c are one row; at b the only new item comes first.
    """
    cut, items = shop(at_a=60, at_b=50)
    first, last = merchant_rows(cut, items, {"x": scorer})
    assert (first["merchant"], first["items"], first["shoppers_at_least"]) == ("a", 2, 50)
    assert first["ndcg@10 x"] == pytest.approx(1 / np.log2(3))
    assert (last["merchant"], last["items"], last["shoppers_at_least"]) == (OTHER, 11, 50)
    assert last["ndcg@10 x"] == pytest.approx(1.0)


def test_a_merchant_with_fewer_than_fifty_judged_shoppers_has_no_row_of_its_own() -> None:
    """Its figures are told together with the next smallest merchant's, and not at all where that is not enough."""
    cut, items = shop(at_a=60, at_b=49)
    assert [row["merchant"] for row in merchant_rows(cut, items, {"x": scorer})] == [OTHER]
    cut, items = shop(at_a=30, at_b=19)
    assert merchant_rows(cut, items, {"x": scorer}) == []


def test_a_scorer_that_knows_the_answer_is_perfect_everywhere_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every merchant with somebody to serve gets 1, in whatever blocks shoppers are scored."""
    cut = split(random_dataset(2, shoppers=240, count=7200), SplitKind.TIME)
    items = catalogue(cut, [f"m{index % 3}" for index in range(len(cut.items))])

    def oracle(shoppers: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(cut.relevant[shoppers].toarray(), dtype=np.float32)

    def constant(shoppers: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.tile(np.arange(len(cut.items), dtype=np.float32), (len(shoppers), 1))

    rows = merchant_rows(cut, items, {"oracle": oracle, "constant": constant})
    assert [row["ndcg@10 oracle"] for row in rows] == pytest.approx([1.0] * 3)
    assert all(0 < row["ndcg@10 constant"] < 0.9 for row in rows)
    monkeypatch.setattr("evaluation.per_merchant.BLOCK", 7)
    again = merchant_rows(cut, items, {"oracle": oracle, "constant": constant})
    for row, other in zip(rows, again, strict=True):
        assert row == pytest.approx(other)
