"""Coverage-guided fuzzing of everything that reads a request, without a network.

`python tests/serving/fuzz_requests.py RUN -max_total_time=60`: RUN is a run folder of `fedrank simulate`, the other
words are libFuzzer's. A finding is any exception that is not a refusal, or an answer that breaks a promise; its input
is left in a file. Needs the package atheris. `test_fuzz.py` runs it for a bounded time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(  # but for what is compiled: instrumented, it could not be
    include=["server.serving"],
    exclude=[
        f"server.serving.{file.stem}"
        for file in (Path(__file__).parents[2] / "server" / "serving").glob("kernels*.py")
    ],
):
    from server.serving.answer import write_ranking
    from server.serving.engine import Engine
    from server.serving.feedback import check_events, read_events
    from server.serving.identity import read_identity
    from server.serving.wire import read_query

from google.protobuf.message import DecodeError

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.errors import ServerError
from server.registry import Registry

NOW = 1_700_000_000
DOMAIN = "shop.example"


def fuzz_rank(engine: Engine, content: bytes) -> None:
    """A question is refused, or answered by unique items, at most k."""
    request = pb.RankRequest.FromString(content)
    query = read_query(request, NOW)
    [ranking] = engine.rank([query])
    answer = pb.RankResponse.FromString(write_ranking(ranking, "ranking", show_scores=False))
    names = [item.item_id for item in answer.items]
    assert len(names) == len(set(names)) <= request.k


def fuzz_events(engine: Engine, content: bytes) -> None:
    """Events are refused, or read one by one."""
    request = pb.RecordEventsRequest.FromString(content)
    check_events(request, NOW, 0)
    assert len(read_events(request.events, engine.snapshot.items)) <= len(request.events)


def fuzz_identity(engine: Engine, content: bytes) -> None:
    """A name is nobody's, or has one spelling."""
    text = content.decode("utf-8", "surrogateescape")
    assert read_identity([text], DOMAIN).uri(DOMAIN) == text


TARGETS: tuple[Callable[[Engine, bytes], None], ...] = (fuzz_rank, fuzz_events, fuzz_identity)


def main() -> None:
    """Fuzz until libFuzzer's words say stop."""
    run = Path(sys.argv.pop(1))
    engine = Engine.load(Registry(run / "registry"), run / "catalogue.parquet")

    def one(data: bytes) -> None:
        if data:
            try:
                TARGETS[data[0] % len(TARGETS)](engine, data[1:])
            except (DecodeError, ServerError):
                return

    setup: Any = atheris.Setup
    setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
