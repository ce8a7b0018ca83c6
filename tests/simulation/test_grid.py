"""The in-process grid delivers Flower's messages one by one, as Flower's own engine would."""

from __future__ import annotations

from typing import cast

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from simulation.grid import InProcessGrid, run_in_process

NODES = 3


def echo(message: Message, context: Context) -> Message:
    """Answer with the node's place; the node with an odd place fails."""
    place = int(str(context.node_config["partition-id"]))
    if place % 2:
        raise ArithmeticError("odd")
    record = ConfigRecord({"place": place, "nodes": int(str(context.node_config["num-partitions"]))})
    return Message(RecordDict({"echo": record}), reply_to=message)


def grid(ticks: list[int] | None = None) -> InProcessGrid:
    """A grid of three echoing nodes."""
    return InProcessGrid(
        cast(ClientApp, echo),
        nodes=NODES,
        run_config={"word": "x"},
        on_reply=lambda: None if ticks is None else ticks.append(1),
    )


def questions(to: InProcessGrid) -> list[Message]:
    """One message per node."""
    return [to.create_message(RecordDict(), "train.x", node, "1") for node in to.get_node_ids()]


def test_every_node_answers_in_its_own_place_and_a_failure_is_an_error_reply() -> None:
    """Node p of P knows p and P; an exception reaches the coordinator as words, not as an exception."""
    ticks: list[int] = []
    nodes = grid(ticks)
    answers = list(nodes.send_and_receive(questions(nodes), timeout=60.0))
    assert len(answers) == len(ticks) == NODES
    assert [answer.has_error() for answer in answers] == [False, True, False]
    assert answers[1].error.reason == "ArithmeticError: odd"
    assert dict(answers[2].content.config_records["echo"]) == {"place": 2, "nodes": NODES}
    assert len({answer.metadata.reply_to_message_id for answer in answers}) == NODES


def test_replies_come_one_by_one() -> None:
    """Nothing is asked before its reply is wanted, so a large cohort never lies in memory."""
    ticks: list[int] = []
    nodes = grid(ticks)
    replies = nodes.send_and_receive(iter(questions(nodes)))
    assert ticks == []
    next(iter(replies))
    assert ticks == [1]


def test_no_node_is_asked_after_the_timeout() -> None:
    """A coordinator that has run out of time closes the round with the answers that it has."""
    nodes = grid()
    assert list(nodes.send_and_receive(questions(nodes), timeout=-1.0)) == []


def test_pushed_messages_are_pulled_once() -> None:
    """The other half of Flower's interface: push now, pull each reply once."""
    nodes = grid()
    ids = list(nodes.push_messages(questions(nodes)))
    assert len(list(nodes.pull_messages(ids[:1]))) == 1
    assert len(list(nodes.pull_messages(ids))) == NODES - 1
    assert list(nodes.pull_messages(ids)) == []


def test_a_server_app_runs_over_the_grid_and_leaves_its_state() -> None:
    """It sees the run configuration; what it puts into its state comes back."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        """Note the word of the run."""
        context.state["seen"] = ConfigRecord({"word": str(context.run_config["word"])})

    state = run_in_process(server, grid(), {"word": "hello"})
    assert state.config_records["seen"]["word"] == "hello"


def test_an_error_of_the_server_app_is_not_swallowed() -> None:
    """The command has to know why a run ended."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        """Fail."""
        raise ArithmeticError("no model")

    with pytest.raises(ArithmeticError, match="no model"):
        run_in_process(server, grid(), {})
