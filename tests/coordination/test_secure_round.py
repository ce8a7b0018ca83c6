"""A secure round: the plain sum comes out, nothing else is seen, and whoever breaks the rules is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_arrays import UNREADABLE
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from scipy import stats
from secure_world import (
    DEADLINE,
    SHAPES,
    Tamper,
    World,
    contributions,
    norm,
    phase_of,
    scaled,
    sent_by,
    total,
    world,
)

from privacy.secagg.encoding import encode
from proto.federation import MASKED, REASON, RECEIPT, REFUSAL, SECURE, Task
from server.coordination.aggregate import CohortTooSmall
from server.coordination.collecting import Collected
from server.coordination.config import Combine
from simulation.grid import FIRST_NODE

NODES = 7
GRID = 2.0**-32
ENTRIES = sum(int(np.prod(shape)) for shape in SHAPES.values())
PHASES = ("advertise", "share", "contribute", "confirm", "unmask")


def task(number: int = 1, **changes: Any) -> Task:
    """A round without noise."""
    words: dict[str, Any] = {
        "release_id": f"toy/x/{number}-gradient",
        "stage": "gradient",
        "round": number,
        "model_hash": "abc",
        "trust": "none",
        "clipping_norm": 1.0,
        "noise_multiplier": 0.0,
        "mu2": 0.0,
        "cap_mu2": 0.0,
        "steps": 1,
        "expected_shoppers": 5,
        "clock": True,
        "seed": 0,
        "noise_seed": -1,
        "minimum_cohort": 3,
    }
    return Task(**{**words, **changes})


def assert_sum(found: Collected, values: list[dict[str, Any]]) -> None:
    """The sum is the plain one within the rounding of each contribution to the grid."""
    for name, value in total(values).items():
        np.testing.assert_allclose(found.totals[name], value, rtol=0, atol=len(values) * GRID)
        assert found.totals[name].shape == SHAPES[name]


def test_the_sum_is_the_plain_sum_and_parts_may_be_left_out(tmp_path: Path) -> None:
    """Everybody is in it, nobody is refused, the price is reserved once, and no time is lost."""
    values = contributions(NODES)
    with world(tmp_path, [{**values[0]}, *values[1:]]) as parties:
        began = parties.clock()
        found = parties.collect(task())
        assert_sum(found, values)
        assert found.participants == len(found.cohort) == NODES and found.refused == ()
        assert parties.charged == [began] and parties.clock() == began
        parties.values = [{"devices": values[0]["devices"]}, *values[1:]]
        alone = parties.collect(task(2)).totals
    np.testing.assert_allclose(
        alone["everyone/gain"], total(values[1:])["everyone/gain"], rtol=0, atol=NODES * GRID
    )


@pytest.mark.parametrize("zeros", [False, True])
def test_a_recording_coordinator_sees_only_masked_integers(tmp_path: Path, zeros: bool) -> None:
    """Everything but receipts is protocol; what looks like a contribution is uniform, also where all is zero."""
    values = [scaled(one, 0.0 if zeros else 1.0) for one in contributions(NODES)]
    recorded: list[np.ndarray[Any, Any]] = []
    with world(tmp_path, values) as parties:
        for number in range(1, 9):
            assert_sum(parties.collect(task(number)), values)
        answers = [answer for phase in parties.seen.values() for answer in phase]
        recorded = [masked_bytes(answer) for answer in parties.seen["contribute"]]
    assert len(recorded) == 8 * NODES
    assert {name for answer in answers for name in answer} == {SECURE, RECEIPT, MASKED}
    seen = np.concatenate(recorded)
    assert seen.size == 8 * NODES * ENTRIES * 8
    counts = np.bincount(seen, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6
    plain = np.concatenate([np.ravel(values[0][name]) for name in SHAPES])
    encoded = np.frombuffer(encode(plain, GRID, 64).tobytes(), np.uint8)
    assert (
        stats.chisquare(np.bincount(encoded, minlength=256)).pvalue < 1e-6
    )  # the test sees what is not masked
    assert not any(np.array_equal(encoded, one) for one in recorded)


def masked_bytes(answer: RecordDict) -> np.ndarray[Any, Any]:
    """The contribution of an answer as it came over the wire."""
    return answer.array_records[MASKED][MASKED].numpy()


@pytest.mark.parametrize("phase", PHASES)
def test_a_dropout_in_any_phase_closes_the_round_with_those_who_contributed(
    tmp_path: Path, phase: str
) -> None:
    """Two of seven fall silent; before contributing they are out and named, afterwards their part counts."""
    values = contributions(NODES)
    with world(tmp_path, values) as parties:
        parties.silent = {1: phase, 4: phase}
        began = parties.clock()
        found = parties.collect(task())
        assert parties.clock() - began < 2 * DEADLINE
    if phase in ("confirm", "unmask"):
        assert_sum(found, values)
        assert found.refused == ()
    else:
        assert_sum(found, [value for node, value in enumerate(values) if node not in (1, 4)])
        assert found.refused == tuple(f"node-{node}: no answer to {phase} came in time" for node in (1, 4))
    assert found.participants == len(found.cohort) == (NODES if phase in ("confirm", "unmask") else NODES - 2)


@pytest.mark.parametrize("phase", PHASES)
def test_too_many_dropouts_release_nothing_and_are_named(tmp_path: Path, phase: str) -> None:
    """Three of seven are more than a third; a price is reserved only where somebody was asked to contribute."""
    with world(tmp_path, contributions(NODES)) as parties:
        parties.silent = dict.fromkeys((0, 2, 5), phase)
        with pytest.raises(CohortTooSmall, match=r"given up.*it takes 5, so the round releases nothing"):
            parties.collect(task())
        assert bool(parties.charged) == (phase not in ("advertise", "share"))


def test_a_node_that_was_away_takes_part_in_the_next_round(tmp_path: Path) -> None:
    """A round that was given up leaves nothing behind."""
    values = contributions(NODES)
    with world(tmp_path, values) as parties:
        parties.silent = dict.fromkeys((0, 2, 5), "contribute")
        with pytest.raises(CohortTooSmall):
            parties.collect(task())
        parties.silent, parties._gone = {}, set()
        assert_sum(parties.collect(task(2)), values)


BAD_VALUES = {"nan": np.nan, "infinite": np.inf, "1e38": 1e38}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_an_honest_program_does_not_mask_what_is_no_contribution(tmp_path: Path, name: str) -> None:
    """Such a node fails, is named, and the sum is that of the others."""
    values = contributions(NODES)
    values[3]["devices"][7] = BAD_VALUES[name]
    with world(tmp_path, values) as parties:
        found = parties.collect(task())
    assert_sum(found, values[:3] + values[4:])
    (refusal,) = found.refused
    assert refusal.startswith("node-3: its node failed: SecureAggregationError: a contribution has a value")


def changing(parties: World, node: int, task_: Task, made: Any) -> None:
    """Let a node send well-signed integers of its own choice."""

    def tamper(question: Message, answer: RecordDict) -> RecordDict:
        if phase_of(question) == "contribute":
            answer.update(sent_by(parties.folder, node, task_, made))
        return answer

    parties.tampers[node] = tamper


def test_an_update_a_thousand_times_too_long_voids_its_bucket_by_name(tmp_path: Path) -> None:
    """Under masks nobody can say who it was; with one bucket the round is given up, and all are named."""
    values = contributions(NODES)
    values[2] = scaled(values[2], 1000.0)
    with world(tmp_path, values) as parties, pytest.raises(CohortTooSmall, match="more than the") as given_up:
        parties.collect(task())
    assert "node-0, node-1, node-2, node-3, node-4, node-5, node-6 together: their sum has norm" in str(
        given_up.value
    )


def test_with_buckets_only_the_spoiled_one_is_left_out(tmp_path: Path) -> None:
    """A node that sends noise of its own over the whole modulus: the other buckets close with their sum."""
    values = contributions(9)
    with world(tmp_path, values) as parties:
        noise = np.random.default_rng(5).integers(2**63, size=ENTRIES, dtype=np.uint64)
        changing(parties, 2, task(), noise)
        found = parties.collect(task(), count=3)
    (refusal,) = found.refused
    spoiled = refusal.partition(" together: ")[0].split(", ")
    assert "node-2" in spoiled and len(spoiled) == 3
    kept = [value for node, value in enumerate(values) if f"node-{node}" not in spoiled]
    assert_sum(found, kept)
    assert len(found.cohort) == 6 and not set(spoiled) & set(found.cohort)


def test_the_median_of_buckets_leaves_one_of_three_no_say(tmp_path: Path) -> None:
    """A node as bad as its bound allows moves a sum by its whole length, and the median not at all."""
    same = contributions(1, length=1.0)[0]
    moved = {}
    with world(tmp_path, [same] * 9) as parties:
        for number, combine in enumerate(Combine):
            parties.values = [same] * 9
            honest = parties.collect(task(2 * number), count=3, combine=combine)
            parties.values = [scaled(same, -5.0), *[same] * 8]
            attacked = parties.collect(task(2 * number + 1), count=3, combine=combine).totals
            moved[combine] = norm({name: attacked[name] - honest.totals[name] for name in SHAPES})
            assert_sum(honest, [same] * 9)
    assert moved[Combine.SUM] == pytest.approx(6.0, abs=1e-6)
    assert moved[Combine.MEDIAN] < 1e-6


def test_too_few_nodes_for_a_median_are_a_round_that_is_not_asked(tmp_path: Path) -> None:
    """Two buckets have no median that a liar could not move."""
    with world(tmp_path, contributions(NODES)) as parties:
        with pytest.raises(CohortTooSmall, match="a median of buckets takes 3"):
            parties.collect(task(), count=3, combine=Combine.MEDIAN)
        assert parties.seen == {}


def test_a_wrong_shape_and_anothers_round_are_refused_by_name(tmp_path: Path) -> None:
    """Too few integers, and a well-signed message of the round before; the sum is that of the others."""
    values = contributions(NODES)
    with world(tmp_path, values) as parties:
        parties.collect(task(1))
        stale = parties.seen["contribute"][6]
        parties.tampers[6] = instead("contribute", stale)
        changing(parties, 5, task(2), np.zeros(ENTRIES - 1))
        found = parties.collect(task(2))
    assert_sum(found, values[:5])
    assert [reason.partition(":")[0] for reason in found.refused] == ["node-5", "node-6"]
    assert f"has {8 * (ENTRIES - 1)} bytes; the round's have {8 * ENTRIES}" in found.refused[0]
    assert "its answer is for release_id 'toy/x/1-gradient'" in found.refused[1]


def test_a_stale_contribution_under_a_new_receipt_is_refused_by_its_signature(tmp_path: Path) -> None:
    """Every message is signed for one manifest."""
    values = contributions(NODES)
    with world(tmp_path, values) as parties:
        parties.collect(task(1))
        stale = parties.seen["contribute"][6]
        parties.tampers[6] = lambda question, answer: (
            RecordDict({**stale, RECEIPT: answer[RECEIPT]}) if phase_of(question) == "contribute" else answer
        )
        found = parties.collect(task(2))
    assert_sum(found, values[:6])
    assert "node-6 in phase contribute: what node-6 is said to have signed was not signed by its key" in str(
        found.refused
    )


def instead(phase: str, content: RecordDict) -> Tamper:
    """Answer one phase with this, whatever was asked."""
    return lambda question, answer: content if phase_of(question) == phase else answer


def test_a_participants_reason_is_kept_as_one_line_of_bounded_length(tmp_path: Path) -> None:
    """It is written to log, journal and status, where it must not look like anybody else's words."""
    said = RecordDict({REFUSAL: ConfigRecord({REASON: "no\nnode-5: " + "x" * 1_000_000})})
    with world(tmp_path, contributions(NODES)) as parties:
        parties.tampers[6] = instead("share", said)
        (reason,) = parties.collect(task()).refused
    assert reason.startswith("node-6: no?node-5: xxx") and len(reason) < 600


GARBAGE = {
    "nothing at all": RecordDict(),
    "no protocol": RecordDict({SECURE: ConfigRecord({"content": 5})}),
    "a list of the wrong kind": RecordDict(
        {SECURE: ConfigRecord({"names/sealed": [1, 2], "sealed": [b"x"]})}
    ),
}


@pytest.mark.parametrize("phase", PHASES)
def test_garbage_in_any_phase_is_refused_and_the_round_goes_on(tmp_path: Path, phase: str) -> None:
    """It counts as silence, is named while it matters, and takes no time."""
    values = contributions(10)
    with world(tmp_path, values) as parties:
        for node, garbage in enumerate(GARBAGE.values()):
            parties.tampers[node] = instead(phase, garbage)
        began = parties.clock()
        found = parties.collect(task())
        assert parties.clock() == began
    contributed = phase in ("confirm", "unmask")
    assert_sum(found, values if contributed else values[3:])
    named = sorted({reason.partition(":")[0] for reason in found.refused})
    assert named == ([] if contributed else ["node-0", "node-1", "node-2"])


@pytest.mark.parametrize("data", [b"junk", b"", *UNREADABLE])
def test_an_array_that_cannot_be_read_is_refused_and_the_round_goes_on(tmp_path: Path, data: bytes) -> None:
    """Nothing in it is ever executed."""

    def tamper(question: Message, answer: RecordDict) -> RecordDict:
        if phase_of(question) == "contribute":
            answer[MASKED] = ArrayRecord({MASKED: Array("uint8", (4,), "numpy.ndarray", data)})
        return answer

    values = contributions(NODES)
    with world(tmp_path, values) as parties:
        parties.tampers[6] = tamper
        found = parties.collect(task())
    assert_sum(found, values[:6])
    (refusal,) = found.refused
    assert refusal.startswith("node-6: its arrays cannot be read")


def test_an_answer_that_comes_twice_is_added_once(tmp_path: Path) -> None:
    """Every reply of every phase comes three times."""
    values = contributions(NODES)

    echoes: list[Message] = []

    class Echoing(World):
        def _deliver(self, message: Message) -> Message:
            reply = super()._deliver(message)
            echoes.append(reply)
            return reply

        def pull_messages(self, message_ids: Any) -> Any:
            for reply in super().pull_messages(message_ids):
                yield from [reply, *echoes]

    with world(tmp_path, values) as parties:
        assert_sum(Echoing(parties.folder, values).collect(task()), values)


def test_participants_refuse_a_task_that_is_not_the_one_that_was_signed(tmp_path: Path) -> None:
    """A coordinator whose words differ between manifest and task gets no contribution."""
    with world(tmp_path, contributions(NODES)) as parties:
        deliver = parties._deliver

        def lying(message: Message) -> Message:
            if phase_of(message) == "contribute" and message.metadata.dst_node_id != FIRST_NODE:
                message.content.config_records["task"]["clipping_norm"] = 50.0
            return deliver(message)

        parties._deliver = lying  # type: ignore[method-assign]
        with pytest.raises(CohortTooSmall, match="the round was changed after it was signed"):
            parties.collect(task())
