"""The next basket: a shopper's last moment with a purchase is held out whole, and repeats count."""

from __future__ import annotations

import pytest
from evaluation_world import Row, dataset

from evaluation.errors import SplitError
from evaluation.next_basket import next_basket
from evaluation.protocol import evaluate
from evaluation.split import Csr, Split

ROWS: list[Row] = [
    ("ann", "bread", "purchase", 10),
    ("ann", "milk", "purchase", 10),
    ("ann", "bread", "purchase", 20),
    ("ann", "salt", "purchase", 20),
    ("bob", "milk", "purchase", 15),
    ("bob", "salt", "purchase", 15),
    ("cid", "milk", "purchase", 5),
    ("cid", "milk", "purchase", 9),
    ("cid", "salt", "return", 12),
]
"""Ann buys bread again, Bob comes once only, Cid returns salt after his last basket."""


@pytest.fixture(scope="module")
def cut() -> Split:
    """The three shoppers' next baskets."""
    return next_basket(dataset(ROWS))


def pairs(matrix: Csr, cut: Split) -> set[tuple[str, str]]:
    """The (shopper, item) pairs of a matrix by name."""
    rows, columns = matrix.nonzero()
    return {(cut.shoppers[row], cut.items[column]) for row, column in zip(rows, columns, strict=True)}


def test_the_last_basket_is_held_out_whole_and_the_others_are_train(cut: Split) -> None:
    """All items of one moment go together; none of them stays behind in train at that moment."""
    assert pairs(cut.held_out, cut) >= {("ann", "bread"), ("ann", "salt"), ("cid", "milk")}
    ann = cut.train.filter(cut.train["user_id"] == "ann")
    assert sorted(ann["item_id"]) == ["bread", "milk"]
    assert set(ann["timestamp"]) == {10}
    assert cut.test.height + cut.train.height == len(ROWS) - 1, "a return is in neither part"


def test_an_item_bought_again_counts(cut: Split) -> None:
    """Bread was in Ann's earlier basket and is wanted again; so is Cid's milk."""
    assert {("ann", "bread"), ("cid", "milk")} <= pairs(cut.relevant, cut)


def test_nothing_is_masked_so_a_repeated_item_can_be_found(cut: Split) -> None:
    """A scorer that ranks what was bought before finds it, where other cuts would hide it."""
    assert cut.seen.nnz == 0
    found = evaluate("before", lambda who: cut.positives[who].toarray(), cut, ks=(2,))
    assert found.mean("recall@2") == pytest.approx((0.5 + 1.0) / 2)


def test_a_shopper_of_one_moment_stays_in_train_and_is_not_judged(cut: Split) -> None:
    """Bob's only basket is train: nothing of his could be learned if it were held out."""
    assert cut.train.filter(cut.train["user_id"] == "bob").height == 2
    assert [cut.shoppers[row] for row in cut.evaluated] == ["ann", "cid"]


def test_a_return_is_no_wish() -> None:
    """What comes back after or with the last basket is not wanted from a ranking, nor does it move the basket."""
    cut = next_basket(dataset([*ROWS, ("cid", "bread", "return", 9)]))
    assert pairs(cut.relevant, cut) == {("ann", "bread"), ("ann", "salt"), ("cid", "milk")}


def test_shoppers_who_all_came_once_cannot_be_judged() -> None:
    """The error says that the cut holds out nothing."""
    with pytest.raises(SplitError, match="holds out no"):
        next_basket(dataset(ROWS[4:6]))
