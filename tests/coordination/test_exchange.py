"""Answers are awaited until a deadline, counted once, and read without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from broken_arrays import UNREADABLE
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from run_words import config
from scripted_grid import Answer, ScriptedGrid
from test_aggregate import GOOD, SHAPES, TASK

from proto.federation import CONTRIBUTION, RECEIPT
from server.coordination.aggregate import CohortTooSmall
from server.coordination.collecting import Collected
from server.coordination.config import Participants
from server.coordination.exchange import LONGEST_WAIT, Exchange
from server.coordination.influence import Influence
from server.coordination.open_round import OpenCollector

INFLUENCE = Influence(kind=Participants.SHOPPERS, shoppers=100, merchants=1)
RECORD: dict[str, Any] = dict(GOOD.to_record())
DEADLINE = 10.0


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        """Begin at an odd moment."""
        self.now = 1234.5

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        assert 0 < seconds <= LONGEST_WAIT
        self.now += seconds


class SlowGrid(ScriptedGrid):
    """Node p answers from `ready[p]` on; `reordered` answers come last first."""

    def __init__(self, answers: list[Answer], ready: list[float], clock: Clock) -> None:
        """Let node p take `ready[p]` seconds from now."""
        super().__init__(answers)
        self._ready = dict(zip(self.get_node_ids(), (clock() + seconds for seconds in ready), strict=True))
        self._clock, self.looks = clock, 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield what is ready by now."""
        self.looks += 1
        asked = {key: self._waiting[key].metadata.dst_node_id for key in message_ids if key in self._waiting}
        return super().pull_messages([k for k, n in asked.items() if self._ready[n] <= self._clock()][::-1])


def answer(receipt: dict[str, Any] | None, array: Array | None) -> RecordDict:
    """The content of an answer as it comes from the wire."""
    content = RecordDict()
    if receipt is not None:
        content[RECEIPT] = ConfigRecord(receipt)
    if array is not None:
        content[CONTRIBUTION] = ArrayRecord({"devices": array})
    return content


HONEST = answer(RECORD, Array(np.ones(4)))


def fixed(content: RecordDict) -> Answer:
    """A node that answers the same whatever it is asked."""
    return lambda _question: content


def failing(message: Message) -> RecordDict:
    """A node that dies of a question."""
    raise ArithmeticError("no memory")


def collected(*answers: Answer, repeats: int = 1, minimum_cohort: int = 0) -> Collected:
    """What a round makes of these answers, each of which comes `repeats` times."""
    return collector(ScriptedGrid(answers, repeats), minimum_cohort).collect(TASK, SHAPES, {}, lambda: None)


def collector(grid: ScriptedGrid, minimum_cohort: int = 0, clock: Clock | None = None) -> OpenCollector:
    """An open round over a grid, on a clock that only waiting moves."""
    clock = clock or Clock()
    exchange = Exchange(grid, deadline=DEADLINE, clock=clock, wait=clock.wait)
    return OpenCollector(exchange=exchange, influence=INFLUENCE, minimum_cohort=minimum_cohort)


def test_an_answer_that_comes_twice_counts_once() -> None:
    """A repeated reply to one question changes neither sum nor cohort."""
    found = collected(fixed(HONEST), repeats=3)
    assert found.participants == 3
    np.testing.assert_array_equal(found.totals["devices"], np.ones(4))
    assert found.refused == ()


def test_what_nobody_contributed_to_is_a_part_of_zeros() -> None:
    """The learner gets every part that was asked for, in its shape."""
    np.testing.assert_array_equal(collected(fixed(HONEST)).totals["merchant:a"], np.zeros(2))


def test_a_straggler_is_cut_off_at_the_deadline_and_named() -> None:
    """Two answer in time; the third would have a second later, and is not waited for."""
    clock = Clock()
    grid = SlowGrid([fixed(HONEST)] * 3, [0.0, 9.0, 11.0], clock)
    began = clock()
    found = collector(grid, clock=clock).collect(TASK, SHAPES, {}, lambda: None)
    assert found.participants == 6
    assert found.refused == ("node-2: no answer came in time",)
    assert clock() - began == pytest.approx(DEADLINE, abs=LONGEST_WAIT)
    assert grid.looks < 60


def test_a_late_answer_of_an_earlier_round_is_not_counted_in_the_next() -> None:
    """It is an answer to a question that nobody asks any more."""
    clock = Clock()
    grid = SlowGrid([fixed(HONEST)] * 2, [0.0, 12.0], clock)
    rounds = collector(grid, clock=clock)
    rounds.collect(TASK, SHAPES, {}, lambda: None)
    clock.now += 5.0
    assert rounds.collect(TASK, SHAPES, {}, lambda: None).participants == 6


def test_quick_answers_are_not_waited_for() -> None:
    """Where everybody has answered at the first look no time passes."""
    clock = Clock()
    began = clock()
    collector(SlowGrid([fixed(HONEST)] * 5, [0.0] * 5, clock), clock=clock).collect(
        TASK, SHAPES, {}, lambda: None
    )
    assert clock() == began


def test_the_error_reply_of_the_superlink_is_that_of_the_participant_who_was_asked() -> None:
    """Such a reply bears the SuperLink's node id, 1."""

    class LostNode(ScriptedGrid):
        def _deliver(self, message: Message) -> Message:
            reply = Message(Error(code=3, reason="node unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
            return reply if message.metadata.dst_node_id % 2 else super()._deliver(message)

    found = collector(LostNode([fixed(HONEST)] * 3)).collect(TASK, SHAPES, {}, lambda: None)
    assert found.refused == ("node-1: its node failed: node unavailable",)
    assert found.participants == 6


def test_of_two_nodes_under_one_name_one_is_asked() -> None:
    """A participant that is registered twice counts once."""

    class Twins(ScriptedGrid):
        def get_nodes(self) -> Iterable[NodeInfo]:
            return [NodeInfo(node_id=node, name="twin") for node in self.get_node_ids()]

    grid = Twins([fixed(HONEST)] * 2)
    assert collector(grid).collect(TASK, SHAPES, {}, lambda: None).participants == 3
    assert len(grid.asked) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (fixed(answer(None, Array(np.ones(4)))), "no valid receipt"),
        (
            fixed(answer({**RECORD, "participants": 1e9}, Array(np.ones(4)))),
            "participants of a Receipt is float",
        ),
        (fixed(answer({**RECORD, "round": "2"}, Array(np.ones(4)))), "round of a Receipt is str"),
        (fixed(answer(RECORD, Array("float64", (4,), "numpy.ndarray", b"garbage"))), "cannot be read"),
        (fixed(answer(RECORD, Array("float64", (4,), "numpy.ndarray", b""))), "cannot be read"),
        (fixed(answer(RECORD, Array("float64", (4,), "torch.tensor", b"\x80\x04N."))), "cannot be read"),
        *(
            (fixed(answer(RECORD, Array("float64", (4,), "numpy.ndarray", data))), "cannot be read")
            for data in UNREADABLE
        ),
        (fixed(answer(RECORD, None)), "holds no contribution"),
        (failing, "its node failed: ArithmeticError: no memory"),
    ],
)
def test_a_malformed_answer_is_refused_by_name_and_the_others_are_kept(bad: Answer, reason: str) -> None:
    """Whatever one node sends, the round goes on with the answers of the others."""
    found = collected(fixed(HONEST), bad)
    (refusal,) = found.refused
    assert refusal.startswith("node-1: ") and reason in refusal
    assert found.participants == 3
    with pytest.raises(CohortTooSmall, match="node-1: "):
        collected(fixed(HONEST), bad, minimum_cohort=4)


@pytest.mark.parametrize("name", ["devices", "elsewhere"])
def test_what_has_no_place_in_the_sum_is_refused_unread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is too long, or of a name that nobody asked for, takes no memory beyond what has come."""
    read = list[Array]()
    monkeypatch.setattr("server.coordination.open_round.tensor_of", read.append)
    found = collected(
        fixed(RecordDict({**HONEST, CONTRIBUTION: ArrayRecord({name: Array(np.ones(10_000))})}))
    )
    assert found.refused[0].startswith(f"node-0: part {name!r}")
    assert found.participants == 0 and read == []


def test_a_pickled_answer_is_never_executed() -> None:
    """An array of Python objects is refused unread."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    objects = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x80\x04N."
    found = collected(fixed(answer(RECORD, Array("object", (1,), "numpy.ndarray", objects))))
    assert "cannot be read (ValueError)" in found.refused[0]
    assert found.participants == 0


def test_every_question_outlives_its_deadline_only_a_little() -> None:
    """A node that comes back an hour later finds no question left, so it charges nobody for a round that is over."""
    grid = ScriptedGrid([fixed(HONEST)])
    collector(grid).collect(TASK, SHAPES, {}, lambda: None)
    assert DEADLINE < grid.asked[0].metadata.ttl <= DEADLINE + 60


def test_a_question_may_have_a_share_of_the_deadline() -> None:
    """The phases of a secure round together never take more than two."""
    clock = Clock()
    grid = SlowGrid([fixed(HONEST)], [1e9], clock)
    exchange = Exchange(grid, deadline=DEADLINE, clock=clock, wait=clock.wait)
    began = clock()
    assert not list(exchange.ask("query.share", "r", {"node-0": RecordDict()}, share=0.25))
    assert clock() - began == pytest.approx(DEADLINE / 4, abs=LONGEST_WAIT)


def test_a_node_under_a_name_that_is_no_members_is_not_asked_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who reaches the SuperLink at its own machine may register any name; only declared merchants take part."""
    grid = ScriptedGrid([fixed(HONEST)] * 3)
    declared = config(declared_shoppers="node-0=5,node-2=5,away=5")
    exchange = Exchange.of(grid, declared)
    rounds = OpenCollector(exchange=exchange, influence=INFLUENCE, minimum_cohort=0)
    assert rounds.collect(TASK, SHAPES, {}, lambda: None).cohort == ("node-0", "node-2")
    assert list(exchange.participants()) == ["node-0", "node-2"]
    assert [line for line in caplog.messages if "no member" in line] == [
        "a node is registered as node-1, which is no member; it is not asked"
    ]
