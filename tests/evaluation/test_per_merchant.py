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


def catalogue(cut: Split, owners: list[str]) -> PublicItems:
    """The split's items with these owners."""
    none: list[str | None] = [None] * len(cut.items)
    columns = ItemColumns(
        titles=none, categories=none, brands=none, prices=[None] * len(cut.items), descriptions=none
    )
    return PublicItems(item_ids=cut.items, merchant_ids=tuple(owners), columns=columns)


def test_a_hand_made_case() -> None:
    """The one held-out item at merchant a is second in its shop: 1 / log2(3), wherever else it stands."""
    rows = [("s", f"i{n:02d}", "purchase", n) for n in range(1, 10)] + [("s", "i00", "purchase", 99)]
    cut = split(
        dataset(rows, items=[f"i{n:02d}" for n in range(13)]),
        SplitKind.TIME,
    )
    assert cut.relevant.nnz == 1
    owners = ["a"] + ["b"] * 9 + ["a"] + ["c"] * 2

    def scorer(shoppers: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.zeros((len(shoppers), 13), dtype=np.float32)
        scores[:, 0], scores[:, 10], scores[:, 11], scores[:, 12] = 1.0, 2.0, 8.0, 9.0
        return scores

    found = {row["merchant"]: row for row in merchant_rows(cut, catalogue(cut, owners), {"x": scorer})}
    assert found["a"]["ndcg@10 x"] == pytest.approx(1 / np.log2(3))
    assert (found["a"]["items"], found["a"]["shoppers"]) == (2, 1)
    assert found["b"]["ndcg@10 x"] is None and found["b"]["shoppers"] == 0
    assert [row["merchant"] for row in merchant_rows(cut, catalogue(cut, owners), {"x": scorer})] == [
        "b",
        "a",
        "c",
    ]


def test_a_scorer_that_knows_the_answer_is_perfect_everywhere_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every merchant with somebody to serve gets 1, in whatever blocks shoppers are scored."""
    cut = split(random_dataset(2), SplitKind.TIME)
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
