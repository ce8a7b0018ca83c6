"""`fedrank rank`: wrong usage is exit code 2 and one message; what an endpoint sends cannot steer the terminal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from fedrank.exits import USAGE
from fedrank.printable import printable, printable_line
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1 import ranking_pb2_grpc

Command = Callable[..., subprocess.CompletedProcess[str]]
NASTY = "\x1b]0;owned\x07\u202etitle\n\x9b31m"


class Hostile(ranking_pb2_grpc.RankingServiceServicer):
    """An endpoint that puts control sequences wherever it can."""

    def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        """Answer with them, or refuse with them."""
        if request.k == 7:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, NASTY)
        reason = pb.Reason(text=NASTY)
        item = pb.RankedItem(rank=1, item_id="a", title=NASTY, merchant_id=NASTY, reason=reason)
        return pb.RankResponse(ranking_id=NASTY, model_version=NASTY, items=[item], notices=[NASTY])


@pytest.fixture
def hostile() -> Iterator[str]:
    """Its address."""
    server = grpc.server(ThreadPoolExecutor(1))
    ranking_pb2_grpc.add_RankingServiceServicer_to_server(Hostile(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-k", "-5"), "k of a question is -5; give 1 to 200"),
        (("-k", "4294967296"), "k of a question is 4294967296"),
        (("--segment", "4294967296"), "segment of a question is 4294967296"),
        (("--shopper", "1967", "--history", "1082185:view"), "shopper and history; give at most one"),
        (("--address", "127.0.0.1"), "give HOST:PORT"),
        (("--timeout", "nan"), "the timeout is nan"),
        (("--timeout", "inf"), "the timeout is inf"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_line(fedrank: Command, words: tuple[str, ...], said: str) -> None:
    """No traceback, and nothing on standard output."""
    done = fedrank("rank", *words)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"item_id": 5, "kind": "view"}, "item_id of an event is of type int"),
        ({"item_id": "a", "kind": "view", "time": "yesterday"}, "give Unix seconds"),
        ({"item_id": "a", "kind": "view", "time": 99999999999999999999}, "divide milliseconds by 1000"),
        ({"item_id": "a", "kind": "view", "time": float("nan")}, "no time in Unix seconds"),
    ],
)
def test_a_history_that_cannot_be_sent_is_exit_code_2(
    fedrank: Command, tmp_path: Path, event: dict[str, Any], said: str
) -> None:
    """The file is read, and what is wrong in it is named."""
    path = tmp_path / "h.json"
    path.write_text(json.dumps([event]))
    done = fedrank("rank", "--history", str(path))
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_an_endpoints_words_reach_the_terminal_as_text(fedrank: Command, hostile: str) -> None:
    """In the table, in JSON, which keeps its value, and in a refusal."""
    table = fedrank("rank", "--address", hostile)
    as_json = fedrank("rank", "--address", hostile, "--json")
    refused = fedrank("rank", "--address", hostile, "-k", "7")
    for text in (table.stdout, as_json.stdout, refused.stderr):
        assert "owned" in text
        assert not set(text) & set("\x1b\x07\x9b\u202e")
    assert (table.returncode, refused.returncode) == (0, USAGE)
    assert json.loads(as_json.stdout)["items"][0]["title"] == NASTY


def test_text_without_control_characters_stays_as_it_is() -> None:
    """Other scripts, joined emoji and line ends of messages too; a line has none."""
    for text in ("绿茶 100 g", "café", "👩\u200d🌾", "שלום", "a\nb"):
        assert printable(text) == text
    assert printable_line("a\nb\t") == "a\\u000ab\\u0009"
