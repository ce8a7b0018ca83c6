"""Messages that lie in a folder: each is answered once, by the node that it is for, whoever dies meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from simulation.mailbox import MailboxGrid, answer_letters

NODES = ("east", "west")


@pytest.fixture
def answered(tmp_path: Path) -> Iterator[MailboxGrid]:
    """A grid whose nodes, forked, tell their name; west fails."""
    children = [_node(tmp_path, name) for name in NODES]
    yield MailboxGrid(tmp_path, NODES)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_every_question_gets_the_answer_of_its_node_and_a_failure_tells_its_kind_alone(
    answered: MailboxGrid,
) -> None:
    """Once: what was pulled is gone."""
    questions = [Message(RecordDict(), node, "query.name") for node in answered.get_node_ids()]
    replies = list(answered.send_and_receive(questions, timeout=60))
    found = {reply.metadata.reply_to_message_id: reply for reply in replies}
    first, second = (found[question.metadata.message_id] for question in questions)
    assert first.content.config_records["name"]["name"] == "east"
    assert second.error.reason == "ValueError"
    assert list(answered.pull_messages(found)) == []


def test_a_question_to_a_node_that_is_away_waits_for_it(tmp_path: Path) -> None:
    """It lies in the node's own box; nobody answers, and time is up."""
    grid = MailboxGrid(tmp_path, NODES)
    node = next(iter(grid.get_node_ids()))
    assert list(grid.send_and_receive([Message(RecordDict(), node, "query.name")], timeout=0.1)) == []
    assert [info.name for info in grid.get_nodes()] == list(NODES)
    assert [path.parent.name for path in tmp_path.rglob("*") if path.is_file()] == ["east"]


def _node(folder: Path, name: str) -> int:
    child = os.fork()
    if child == 0:
        answer_letters(folder, name, _tell_name, {"name": name})
        os._exit(0)
    return child


def _tell_name(message: Message, context: Context) -> Message:
    if context.node_config["name"] == "west":
        raise ValueError("what is private")
    return Message(RecordDict({"name": ConfigRecord({"name": "east"})}), reply_to=message)
