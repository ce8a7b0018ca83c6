"""What does not fit a round is refused with a reason before it is added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scripted_grid import Answer, ScriptedGrid

from proto.federation import CONTRIBUTION, RECEIPT, Receipt, Task, WireError
from server.coordination.aggregate import CohortTooSmall, RoundSum
from server.coordination.exchange import collect

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
SHAPES = {"devices": (4,), "merchant:a": (2,)}
ONES = {"devices": np.ones(4)}

Values = NDArray[np.generic]


def new_round() -> RoundSum:
    """A round that waits for answers."""
    return RoundSum(task=TASK, shapes=SHAPES)


def test_answers_are_added_part_by_part() -> None:
    """The sum of a part is the sum of what every answer holds of it; parts may be left out."""
    round_sum = new_round()
    round_sum.add(GOOD, ONES)
    round_sum.add(
        replace(GOOD, participants=2), {"devices": np.full(4, 2.0), "merchant:a": np.array([1.0, -1])}
    )
    totals = round_sum.closed(5)
    np.testing.assert_array_equal(totals["devices"], np.full(4, 3.0))
    np.testing.assert_array_equal(totals["merchant:a"], [1.0, -1.0])
    assert round_sum.participants == 5
    assert round_sum.refused == []


def test_a_contribution_of_zeros_is_valid() -> None:
    """A participant whose shoppers liked nothing still counts towards the cohort."""
    round_sum = new_round()
    round_sum.add(GOOD, {"devices": np.zeros(4, dtype=np.float32)})
    np.testing.assert_array_equal(round_sum.closed(3)["devices"], np.zeros(4))


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
    round_sum.add(replace(GOOD, **change), ONES)
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
    round_sum.add(GOOD, {"merchant:a": np.ones(2), part: value})
    assert round_sum.totals == {}
    assert round_sum.participants == 0
    assert reason in round_sum.refused[0]


def test_an_answer_without_any_part_is_refused() -> None:
    """A receipt alone does not make a participant."""
    round_sum = new_round()
    round_sum.add(GOOD, {})
    assert "holds no contribution" in round_sum.refused[0]


def test_a_round_closes_with_the_good_answers() -> None:
    """Bad answers among enough good ones leave the sum of the good ones."""
    round_sum = new_round()
    for receipt, value in [(GOOD, 1.0), (replace(GOOD, round=9), 100.0), (GOOD, 2.0), (GOOD, np.nan)]:
        round_sum.add(receipt, {"devices": np.full(4, value)})
    np.testing.assert_array_equal(round_sum.closed(6)["devices"], np.full(4, 3.0))
    assert len(round_sum.refused) == 2


def test_a_round_below_the_minimum_cohort_is_given_up() -> None:
    """One participant short: no sum, and the reasons are named."""
    round_sum = new_round()
    round_sum.add(GOOD, ONES)
    round_sum.add(replace(GOOD, refused="the shop is closed"), {})
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
        round_sum.add(receipt, parts)
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


def answer(receipt: dict[str, Any] | None, array: Array | None) -> RecordDict:
    """The content of an answer as it comes from the wire."""
    content = RecordDict()
    if receipt is not None:
        content[RECEIPT] = ConfigRecord(receipt)
    if array is not None:
        content[CONTRIBUTION] = ArrayRecord({"devices": array})
    return content


def collected(*answers: RecordDict, repeats: int = 1) -> RoundSum:
    """What a round has of these answers, each of which comes `repeats` times."""

    def fixed(content: RecordDict) -> Answer:
        return lambda _question: content

    round_sum = new_round()
    collect(ScriptedGrid([fixed(content) for content in answers], repeats), round_sum, {}, 60.0)
    return round_sum


RECORD: dict[str, Any] = dict(GOOD.to_record())


def test_an_answer_that_comes_twice_counts_once() -> None:
    """A repeated reply to one question changes neither sum nor cohort."""
    round_sum = collected(answer(RECORD, Array(np.ones(4))), repeats=2)
    assert round_sum.participants == 3
    np.testing.assert_array_equal(round_sum.totals["devices"], np.ones(4))
    assert "twice" in round_sum.refused[0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (answer(None, Array(np.ones(4))), "no valid receipt"),
        (answer({**RECORD, "participants": 1e9}, Array(np.ones(4))), "participants of a Receipt is float"),
        (answer({**RECORD, "round": "2"}, Array(np.ones(4))), "round of a Receipt is str"),
        (answer(RECORD, Array("float64", (4,), "numpy.ndarray", b"garbage")), "cannot be read"),
        (answer(RECORD, Array("float64", (4,), "numpy.ndarray", b"")), "cannot be read"),
        (answer(RECORD, Array("float64", (4,), "torch.tensor", b"\x80\x04N.")), "cannot be read"),
        (answer(RECORD, None), "holds no contribution"),
    ],
)
def test_a_malformed_answer_is_refused_and_the_others_are_kept(bad: RecordDict, reason: str) -> None:
    """Whatever one node sends, the round goes on with the answers of the others."""
    round_sum = collected(bad, answer(RECORD, Array(np.ones(4))))
    assert any(reason in text for text in round_sum.refused), round_sum.refused
    assert round_sum.participants == 3


def test_a_pickled_answer_is_never_executed() -> None:
    """An array of Python objects is refused unread."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    objects = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x80\x04N."
    round_sum = collected(answer(RECORD, Array("object", (1,), "numpy.ndarray", objects)))
    assert "cannot be read (ValueError)" in round_sum.refused[0]
    assert round_sum.participants == 0


def test_an_entry_beyond_all_bounded_shares_is_refused() -> None:
    """Finite but impossible: no honest cohort reaches it; what all shares can reach is added."""
    round_sum = RoundSum(task=TASK, shapes=SHAPES, largest=100.0)
    round_sum.add(GOOD, {"devices": np.array([0.0, 1e38, 0.0, 0.0])})
    round_sum.add(GOOD, {"devices": np.array([0.0, 0.0, -100.1, 0.0])})
    assert round_sum.participants == 0
    assert all("more than all shares add to" in reason for reason in round_sum.refused)
    round_sum.add(GOOD, {"devices": np.full(4, -100.0)})
    assert round_sum.participants == GOOD.participants
