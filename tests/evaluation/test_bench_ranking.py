"""The load generator counts right, its statistics are right, and the ranking bench gives rows that can be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from load_server import ANSWER, Peer, later, load_server

from evaluation.bench import ranking, ranking_index
from evaluation.bench.ranking_load import Storm, overload_rows
from evaluation.bench.ranking_promotion import judge
from evaluation.bench.ranking_ratio import Ratio
from evaluation.bench.ranking_servers import echoing, load
from evaluation.bench.ranking_world import NOW, World, make_world
from evaluation.bench.rows import Row
from evaluation.errors import LoadError
from evaluation.load.generator import Generator, read_bodies, write_bodies
from evaluation.load.http2 import EXPIRED, LOST, RESET, UNSENT
from evaluation.load.plan import OK, Outcome, Phase, Plan
from evaluation.load.processes import cpu_seconds, family, shared_bytes
from evaluation.settings import Watch
from proto.fedrank.ranking.v1 import ranking_pb2 as pb

QUESTION = [b"question"]


def offered(port: int, *, rate: float = 200.0, seconds: float = 0.5, **words: object) -> Outcome:
    """Load a server in this process with an open loop."""
    plan = Plan(port=port, phases=(Phase(seconds=seconds, rate=rate),), connections=2, deadline_s=0.4)
    return Generator(replace(plan, **words), QUESTION).run()  # type: ignore[arg-type]


def test_every_answer_is_counted_once() -> None:
    """A server that answers at once: all calls are answered, and the messages are kept where asked for."""
    with load_server(lambda peer, stream, call: peer.answer(stream)) as server:
        found = offered(server.port, keep=True)
    assert found.ended(0) == {OK: server.calls}
    assert found.failed() == 0
    assert set(found.answers) == {ANSWER}
    assert 60 <= found.offered(0) <= 140


def test_a_refusal_is_no_answer_and_keeps_its_status() -> None:
    """Every third call is refused with RESOURCE_EXHAUSTED."""
    with load_server(lambda peer, stream, call: peer.answer(stream, 8 * (call % 3 == 0))) as server:
        found = offered(server.port)
    assert found.ended(0)[8] == server.calls // 3
    assert found.failed() == server.calls // 3
    assert found.answered(0) <= found.ended(0)[OK]


def test_a_delay_is_in_the_latency_and_past_the_deadline_the_call_is_lost() -> None:
    """Every second answer comes after 100 ms, every fifth never."""

    def script(peer: Peer, stream: int, call: int) -> None:
        if call % 5:
            later(0.1 * (call % 2), lambda: peer.answer(stream))

    with load_server(script) as server:
        found = offered(server.port)
    assert found.ended(0)[EXPIRED] == server.calls // 5
    assert found.timed_out(0) == server.calls // 5
    assert 0.1 <= found.latency(0, 0.9) < 0.4


def test_latency_runs_from_the_moment_a_call_was_due() -> None:
    """One call at a time of 20 ms each: who waits for a turn has a long latency although its own call was short."""
    with load_server(
        lambda peer, stream, call: later(0.02, lambda: peer.answer(stream)), streams=1
    ) as server:
        found = offered(server.port, rate=150.0, seconds=0.6, connections=1, deadline_s=5.0, waits=True)
    waited = found.done - found.due
    served = found.done - found.sent
    assert found.ended(0) == {OK: found.offered(0)}
    assert np.median(waited) > 3 * np.median(served)
    assert found.failed() == 0


def test_a_caller_that_does_not_wait_fails_the_call_that_finds_no_place() -> None:
    """The endpoint's limit of calls holds; what finds no place is never sent."""
    with load_server(lambda peer, stream, call: later(0.1, lambda: peer.answer(stream)), streams=2) as server:
        found = offered(server.port, connections=1)
    assert server.calls == found.ended(0)[OK]
    assert found.ended(0)[UNSENT] == found.offered(0) - server.calls
    assert found.latency(0, 0.99) < 0.3


def test_a_connection_that_drops_loses_its_calls_and_is_opened_again() -> None:
    """The twentieth call makes the server hang up."""

    def script(peer: Peer, stream: int, call: int) -> None:
        if call == 20:
            peer.socket.shutdown(2)
        else:
            peer.answer(stream)

    with load_server(script) as server:
        found = offered(server.port)
        assert server.connections == 3
    assert found.ended(0)[LOST] == 1
    assert found.ended(0)[OK] == server.calls - 1


def test_a_refused_stream_is_sent_once_more_and_only_once() -> None:
    """As gRPC's callers do, because the server has not looked at it."""
    with load_server(lambda peer, stream, call: peer.reset(stream, 7)) as server:
        found = offered(server.port, rate=100.0)
    assert server.calls == 2 * found.offered(0)
    assert found.answered(0) == 0


def test_a_reset_call_is_not_sent_again() -> None:
    """Something may have been done for it."""
    with load_server(lambda peer, stream, call: peer.reset(stream, 2)) as server:
        found = offered(server.port, rate=100.0)
    assert found.ended(0) == {RESET: server.calls}


def test_after_goodbye_calls_go_over_a_new_connection() -> None:
    """A server that drains answers what it has, and the rest goes elsewhere; nothing fails."""

    def script(peer: Peer, stream: int, call: int) -> None:
        if call == 10:
            peer.say_goodbye(stream)
        peer.answer(stream)

    with load_server(script) as server:
        found = offered(server.port, connections=1)
        assert server.connections == 2
    assert found.ended(0) == {OK: found.offered(0)}


def test_a_closed_loop_keeps_so_many_calls_under_way() -> None:
    """Answers after 10 ms each: in half a second about 50 turns of 4 calls."""
    with load_server(lambda peer, stream, call: later(0.01, lambda: peer.answer(stream))) as server:
        found = offered(server.port, phases=(Phase(seconds=0.5, in_flight=4),))
    assert 40 < found.answered(0) <= 4 * 51
    under_way = [int(((found.sent <= moment) & (found.done > moment)).sum()) for moment in found.sent]
    assert max(under_way) <= 4


def test_a_server_that_is_gone_ends_the_load_with_a_sentence() -> None:
    """The connection cannot be opened again."""

    def script(peer: Peer, stream: int, call: int) -> None:
        server.close()
        peer.socket.shutdown(2)

    with load_server(script) as server, pytest.raises(LoadError, match="nobody listens"):
        offered(server.port, connections=1)


def test_a_phase_is_open_or_closed_and_lasts() -> None:
    """Neither, both or nothing at all is refused."""
    for rate, in_flight in ((None, None), (1.0, 1), (-1.0, None), (None, 0)):
        with pytest.raises(LoadError):
            Phase(seconds=1.0, rate=rate, in_flight=in_flight)
    with pytest.raises(LoadError):
        Phase(seconds=0.0, rate=1.0)


def made_outcome() -> Outcome:
    """Two phases of 1 s: 100 calls of 1..100 ms, then 10 calls of which 5 failed and 5 were never sent."""
    due = np.concatenate([np.linspace(0, 0.8, 100), np.linspace(1.0, 1.9, 10)])
    took = np.concatenate([np.arange(1, 101) / 1000, np.full(10, 0.05)])
    return Outcome(
        due=due,
        sent=due,
        done=due + took,
        status=np.array([OK] * 100 + [8] * 5 + [UNSENT] * 5),
        phase=np.array([0] * 100 + [1] * 10),
        begins=np.array([0.0, 1.0, 2.0]),
        cpu=np.array([10.0, 10.5, 11.0]),
        own_cpu=np.zeros(3),
        late=np.zeros(1),
        answers=(b"first", b"", b"third"),
    )


def test_quantiles_and_rates_are_those_of_the_calls() -> None:
    """Checked against figures worked out by hand."""
    found = made_outcome()
    assert found.latency(0, 0.5) == pytest.approx(0.0505)
    assert found.latency(0, 0.99) == pytest.approx(0.09901)
    assert found.latency_by_window(0, 1.0, 0.5)[1] == pytest.approx(0.1)
    assert (found.answered(0), found.goodput(0), found.per_cpu_second(0)) == (100, 100.0, 200.0)
    assert (found.offered(1), found.failed(), found.timed_out(1)) == (10, 5, 5)
    with pytest.raises(LoadError, match="phase 1"):
        found.latency(1, 0.5)


def test_plans_outcomes_and_messages_come_back_from_files(tmp_path: Path) -> None:
    """What two processes share is what one of them wrote."""
    plan = Plan(
        port=1, phases=(Phase(seconds=1.0, rate=2.0), Phase(seconds=1.0, in_flight=3)), watched=(4, 5)
    )
    plan.write(tmp_path / "plan")
    assert Plan.read(tmp_path / "plan") == plan
    made_outcome().write(tmp_path / "outcome.npz")
    back = Outcome.read(tmp_path / "outcome.npz")
    assert back.answers == made_outcome().answers
    assert all(
        np.array_equal(getattr(back, name), getattr(made_outcome(), name)) for name in ("due", "done", "cpu")
    )
    write_bodies(tmp_path / "bodies", [b"", b"one", b"two" * 500])
    assert read_bodies(tmp_path / "bodies") == [b"", b"one", b"two" * 500]


def storm_of(half: float, peak: float, overload: float, after: list[float]) -> Storm:
    """A storm of 100 calls a second with these latencies; `after` second by second, a negative one fails."""
    seconds = [half, half, peak, overload, *after]
    due = np.concatenate([place + np.linspace(0, 0.99, 100) for place in range(len(seconds))])
    took = np.repeat(seconds, 100)
    return Storm(
        peak=100.0,
        outcome=replace(
            made_outcome(),
            due=due,
            sent=due,
            done=due + np.abs(took),
            status=np.where(took < 0, EXPIRED, OK),
            phase=np.repeat([0, 1, 2, 3, *[4] * len(after)], 100),
            begins=np.array([0.0, 1, 2, 3, 4, 4 + len(after)]),
            cpu=np.zeros(6),
        ),
    )


def test_recovery_ends_with_the_first_second_that_is_as_fast_as_at_the_peak() -> None:
    """Two bad seconds after the overload, then calm; and a server that never recovers is said to take it all."""
    assert storm_of(0.01, 0.02, 0.03, [-0.1, 0.5, 0.01, 0.01]).recovery() == pytest.approx(2.0, abs=0.26)
    assert storm_of(0.01, 0.02, 0.03, [-0.1] * 4).recovery() == 4.0


def test_the_rows_of_an_overload_hold_what_was_seen() -> None:
    """Accepted answers took 30 ms at the p99 where the peak had 20."""
    rows = {
        row.measure.rpartition(": ")[2]: row
        for row in overload_rows("x", storm_of(0.01, 0.02, 0.03, [0.01] * 3))
    }
    assert rows["p99 of accepted / p99 at peak load"].value == pytest.approx(1.5)
    assert rows["goodput / peak"].value == pytest.approx(0.99, abs=0.02)
    assert rows["recovery"].value == 0.0


def test_a_ratio_is_the_middle_of_neighbouring_spells() -> None:
    """Not of the middles."""
    found = Ratio(rank=(1.0, 2.0, 9.0), echo=(4.0, 4.0, 12.0), peak=(1.0, 1.0, 1.0))
    assert (found.median, min(found.ratios)) == (0.5, 0.25)


def test_an_answer_that_mixes_versions_is_found() -> None:
    """Half of the third answer's items are the other version's; the fourth names a version that nobody knows."""
    lists = {"a": [frozenset({"1", "2", "3", "4"})], "b": [frozenset({"5", "6", "7", "8"})]}
    answers = [("a", "1234"), ("b", "5678"), ("a", "1256"), ("c", "1234")]
    messages = tuple(
        pb.RankResponse(
            model_version=version, items=[pb.RankedItem(item_id=item) for item in items]
        ).SerializeToString()
        for version, items in answers
    )
    found = judge(replace(made_outcome(), status=np.zeros(4, dtype=np.int64), answers=messages), lists)
    assert (found.calls, found.mixed, found.changes) == (4, 2, 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small simulated shop."""
    return make_world(tmp_path_factory.mktemp("world"), 500, versions=2)


def test_questions_are_valid_different_and_repeatable(world: World) -> None:
    """A history of 50 events, oldest first, none after the moment of the question."""
    first, again, other = world.question(0), world.question(0), world.question(1, history=3, reasons=False)
    request, short = pb.RankRequest.FromString(first), pb.RankRequest.FromString(other)
    times = [event.time.seconds for event in request.history.events]
    assert first == again != other
    assert (len(times), request.k, request.without_reasons) == (50, 20, False)
    assert times == sorted(times)
    assert times[-1] < NOW
    assert (len(short.history.events), short.without_reasons) == (3, True)
    assert len(world.versions) == 2


def test_the_echo_server_answers_real_grpc_from_a_process_of_its_own(tmp_path: Path) -> None:
    """The generator speaks with gRPC's own server, and processor time of that process is counted."""
    with echoing([b"one", b"two"], tmp_path) as server:
        found = load(
            Plan(port=0, phases=(Phase(seconds=1.0, in_flight=8),), deadline_s=5.0, keep=True),
            QUESTION,
            tmp_path,
            server,
        )
        assert server.processes()[0] == server.process
        assert shared_bytes(server.process) > 1 << 20
    assert found.ended(0) == {OK: found.offered(0)}
    assert set(found.answers) == {b"one", b"two"}
    assert 0 < found.cpu_seconds(0) < 4
    assert found.per_cpu_second(0) > 100


def test_processor_seconds_and_children_are_read_from_the_system() -> None:
    """A process that is gone counts nothing; its memory cannot be read."""
    assert cpu_seconds([os.getpid()]) > 0
    assert cpu_seconds([2**30]) == 0
    assert family(os.getpid())[0] == os.getpid()
    with pytest.raises(LoadError):
        shared_bytes(2**30)


def test_a_ranking_beside_an_echo_gives_rows_with_their_targets(tmp_path: Path) -> None:
    """A very small shop behind a real endpoint: words, units, target, and a ratio that is below 1."""
    sizes = replace(ranking.QUICK, spell_s=0.3)
    rows = ranking.ratio_measure(tmp_path, 300, sizes)
    assert len({row.measure for row in rows}) == len(rows) == 5
    assert 0 < rows[0].value < 1.5
    assert {
        row.target for row in ranking.ratio_rows("x", Ratio(rank=(1.0,), echo=(2.0,), peak=(1.0,)), 0.6)
    } == {None, 0.6}


def test_a_bench_takes_every_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measure gets a folder of its own, progress is told, and rows come in their order."""
    seen: list[Path] = []
    steps: list[None] = []

    def measure(folder: Path, *_: object, **__: object) -> list[Row]:
        seen.append(folder)
        return [Row(measure=str(len(seen)), value=1.0, unit="ratio")]

    for name in ("ratio_measure", "start_measure", "load_measure", "memory_measure", "promotion_measure"):
        monkeypatch.setattr(ranking, name, named(measure, name))
    monkeypatch.setattr(ranking, "answer_rows", measure)
    monkeypatch.setattr(ranking_index, "rows", lambda **_: measure(Path()))
    rows = ranking.run(quick=False, watch=Watch(step=lambda: steps.append(None)))
    assert [row.measure for row in rows] == [str(place) for place in range(1, 10)]
    assert len(steps) == 7


def named(measure: Callable[..., list[Row]], name: str) -> Callable[..., list[Row]]:
    """The same measure under another name."""

    def other(*words: object) -> list[Row]:
        return measure(*words)

    other.__name__ = name
    return other
