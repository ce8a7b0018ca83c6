"""What does not fit a round is refused with a reason before it is added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from proto.federation import Receipt, Task, WireError
from server.coordination.aggregate import CohortTooSmall, RoundSum
from server.coordination.config import Participants
from server.coordination.influence import Influence

TASK = Task(
    release_id="toy/1/2-gram",
    stage="gram",
    round=2,
    model_hash="abc",
    trust="central",
    clipping_norm=1.0,
    noise_multiplier=1.0,
    mu2=1.0,
    cap_mu2=2.0,
    steps=1,
    expected_shoppers=5,
    clock=True,
    seed=0,
    noise_seed=-1,
)
GOOD = Receipt(release_id=TASK.release_id, stage="gram", round=2, model_hash="abc", participants=3)
SHAPES: dict[str, tuple[int, ...]] = {"devices": (4,), "merchant:a": (2,)}
ONES = {"devices": np.ones(4)}

INFLUENCE = Influence(kind=Participants.BOTH, shoppers=1_000_000, merchants=100)
NAME = "node-0"

Values = NDArray[np.generic]


def new_round() -> RoundSum:
    """A round that waits for answers."""
    return RoundSum(task=TASK, shapes=SHAPES, influence=INFLUENCE)


def test_answers_are_added_part_by_part() -> None:
    """The sum of a part is the sum of what every answer holds of it; parts may be left out."""
    round_sum = new_round()
    round_sum.add(NAME, GOOD, ONES)
    round_sum.add(
        NAME, replace(GOOD, participants=2), {"devices": np.full(4, 2.0), "merchant:a": np.array([1.0, -1])}
    )
    totals = round_sum.closed(5).totals
    np.testing.assert_array_equal(totals["devices"], np.full(4, 3.0))
    np.testing.assert_array_equal(totals["merchant:a"], [1.0, -1.0])
    assert round_sum.participants == 5
    assert round_sum.refused == []


def test_a_contribution_of_zeros_is_valid() -> None:
    """A participant whose shoppers liked nothing still counts towards the cohort."""
    round_sum = new_round()
    round_sum.add(NAME, GOOD, {"devices": np.zeros(4, dtype=np.float32)})
    np.testing.assert_array_equal(round_sum.closed(3).totals["devices"], np.zeros(4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"round": 1}, "is for round 1, the round's is 2"),
        ({"stage": "counts"}, "is for stage 'counts'"),
        ({"release_id": "toy/0/2-gram"}, "is for release_id"),
        ({"model_hash": "abd"}, "is for model_hash 'abd'"),
        ({"refused": "no budget left"}, "no budget left"),
        ({"participants": 0}, "names no participant"),
        ({"participants": -4}, "names no participant"),
    ],
)
def test_an_answer_to_another_question_is_refused(change: dict[str, Any], reason: str) -> None:
    """Stale, foreign, refusing and empty answers are noted with the reason and change nothing."""
    round_sum = new_round()
    round_sum.add(NAME, replace(GOOD, **change), ONES)
    assert round_sum.participants == 0
    assert round_sum.totals == {}
    assert reason in round_sum.refused[0]


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("devices", np.array([1.0, np.nan, 0, 0]), "NaN or infinite"),
        ("devices", np.array([1.0, np.inf, 0, 0]), "NaN or infinite"),
        ("devices", np.array([1.0, -np.inf, 0, 0], dtype=np.float32), "NaN or infinite"),
        ("devices", np.ones(5), r"shape (5,), the round's is (4,)"),
        ("devices", np.ones((4, 1)), "shape (4, 1)"),
        ("devices", np.ones(4, dtype=np.int64), "type int64"),
        ("devices", np.ones(4, dtype=np.float16), "type float16"),
        ("devices", np.ones(4, dtype=np.complex128), "type complex128"),
        ("devices", np.array(["1"] * 4), "type <U1"),
        ("merchant:z", np.ones(2), "'merchant:z' is not part of stage gram"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_with_all_of_its_answer(
    part: str, value: Values, reason: str
) -> None:
    """A bad part among good ones: nothing of the answer is added."""
    round_sum = new_round()
    round_sum.add(NAME, GOOD, {"merchant:a": np.ones(2), part: value})
    assert round_sum.totals == {}
    assert round_sum.participants == 0
    assert reason in round_sum.refused[0]


def test_a_reason_is_kept_as_one_line_of_bounded_length() -> None:
    """A participant cannot write lines of its own into log, journal and status, nor fill the disk with them."""
    round_sum = new_round()
    round_sum.add(NAME, replace(GOOD, participants=0, refused="no\nnode-1: \x1b[2K" + "x" * 1_000_000), {})
    (reason,) = round_sum.refused
    assert reason.startswith("node-0: no?node-1: ?[2Kxxx") and len(reason) < 600


def test_an_answer_without_any_part_is_refused() -> None:
    """A receipt alone does not make a participant."""
    round_sum = new_round()
    round_sum.add(NAME, GOOD, {})
    assert "holds no contribution" in round_sum.refused[0]


def test_a_round_closes_with_the_good_answers() -> None:
    """Bad answers among enough good ones leave the sum of the good ones."""
    round_sum = new_round()
    for receipt, value in [(GOOD, 1.0), (replace(GOOD, round=9), 100.0), (GOOD, 2.0), (GOOD, np.nan)]:
        round_sum.add(NAME, receipt, {"devices": np.full(4, value)})
    np.testing.assert_array_equal(round_sum.closed(6).totals["devices"], np.full(4, 3.0))
    assert len(round_sum.refused) == 2


def test_a_round_below_the_minimum_cohort_is_given_up() -> None:
    """One participant short: no sum, and the reasons are named."""
    round_sum = new_round()
    round_sum.add(NAME, GOOD, ONES)
    round_sum.add(NAME, replace(GOOD, refused="the shop is closed"), {})
    with pytest.raises(CohortTooSmall, match=r"3 participants contributed, .* 4.*the shop is closed"):
        round_sum.closed(4)
    assert round_sum.closed(3)


@given(st.lists(arrays(np.float64, 4, elements=st.floats(-1e6, 1e6, width=32)), max_size=6), st.randoms())
def test_bad_answers_never_change_the_sum(values: list[NDArray[np.float64]], random: Any) -> None:
    """However good and bad answers are mixed, the sum is that of the good ones."""
    bad = [
        (replace(GOOD, round=1), ONES),
        (GOOD, {"devices": np.full(4, np.nan)}),
        (GOOD, {"devices": np.ones(3)}),
        (replace(GOOD, refused="no"), ONES),
    ]
    mixed: list[tuple[Receipt, dict[str, Any]]] = [*((GOOD, {"devices": value}) for value in values), *bad]
    random.shuffle(mixed)
    round_sum = new_round()
    for receipt, parts in mixed:
        round_sum.add(NAME, receipt, parts)
    assert round_sum.participants == 3 * len(values)
    expected = np.sum(values, axis=0) if values else 0.0
    np.testing.assert_allclose(round_sum.totals.get("devices", 0.0), expected, atol=1e-6)


@pytest.mark.parametrize("field", ["release_id", "stage", "round", "model_hash", "participants", "refused"])
def test_a_receipt_lacks_no_field_and_has_the_declared_types(field: str) -> None:
    """A missing field, a number for a text and a truth value for a number are wire errors."""
    record: dict[str, object] = dict(GOOD.to_record())
    assert Receipt.from_record(record) == GOOD
    for wrong in (True, 1.5, b"x", [1]):
        with pytest.raises(WireError, match=field):
            Receipt.from_record({**record, field: wrong})
    del record[field]
    with pytest.raises(WireError, match=field):
        Receipt.from_record(record)


@pytest.mark.parametrize("field", list(TASK.to_record()))
def test_a_task_survives_the_wire_and_each_field_is_checked(field: str) -> None:
    """A task read from its record is the same task; without one of its fields it is none."""
    record: dict[str, object] = dict(TASK.to_record())
    assert Task.from_record(record) == TASK
    with pytest.raises(WireError, match=field):
        Task.from_record({key: value for key, value in record.items() if key != field})
