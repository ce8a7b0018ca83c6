"""One run at a time is submitted, followed to its end, and taken up when its process dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from federations import TEXT, provisioned
from typer.testing import CliRunner

from deploy.errors import KitError
from deploy.federation_model import SETTINGS
from deploy.kit import CoordinatorKit, open_kit
from deploy.run_words import run_words
from fedrank.cli import app
from fedrank.exits import DATA, UNREACHABLE
from fedrank.federation.running import PATIENCE, RESUMES, Clock, RunFailed, RunGoing, Runner
from fedrank.federation.status_page import Progress
from privacy.canonical import Scalar
from privacy.key_files import locked
from server.coordination.config import FederationConfig
from server.coordination.status import RunStatus, State, StatusFile
from server.coordination.superlink import RunState
from server.coordination.superlink_files import SuperLinkError

COMPLETED = RunState(status="finished", outcome="completed")
FAILED = RunState(status="finished", outcome="failed", details="CohortTooSmall: nobody")
DIED = RunState(status="finished", outcome="stopped", details="its executor died")
RUNNING = RunState(status="running")

Event = Callable[["FakeLink"], RunState]


class FakeLink:
    """A SuperLink whose runs go as a script says, look by look; it may be away."""

    def __init__(self, folder: Path, script: list[Event], going: list[int] | None = None) -> None:
        """Write statuses into `folder`."""
        self.folder, self.script, self.going = folder, list(script), going or []
        self.submitted: list[Mapping[str, Scalar]] = []

    @contextmanager
    def open(self) -> Iterator[FakeLink]:
        """Connect."""
        yield self

    def submit(self, run_config: Mapping[str, Scalar]) -> int:
        """Take a run."""
        self.submitted.append(run_config)
        return len(self.submitted)

    def state(self, run_id: int) -> RunState:
        """Do what comes next."""
        return self.script.pop(0)(self)

    def unfinished(self) -> list[int]:
        """Say what is going."""
        return self.going

    def status(self) -> StatusFile:
        """The status file of a run that begins."""
        return StatusFile(self.folder, run=f"r{len(self.submitted)}", rounds=5)


def finishing(link: FakeLink) -> RunState:
    """The run makes a version."""
    link.status().finished("0123456789abcdef", ["north"], ["south: away"])
    return COMPLETED


def refusing(link: FakeLink) -> RunState:
    """The run ends with a reason of its own."""
    link.status().failed("round 2 (gram) was given up")
    return FAILED


def dying(link: FakeLink) -> RunState:
    """The process that runs is killed in a round."""
    link.status()
    return DIED


def running(_link: FakeLink) -> RunState:
    """The run goes on."""
    return RUNNING


def away(_link: FakeLink) -> RunState:
    """The SuperLink is being restarted."""
    raise SuperLinkError("the SuperLink does not answer")


@pytest.fixture
def kit(tmp_path: Path) -> CoordinatorKit:
    """A coordinator's kit."""
    opened = open_kit(provisioned(tmp_path, TEXT).coordinator)
    assert isinstance(opened, CoordinatorKit)
    return opened


def runner(kit: CoordinatorKit, *script: Event, going: list[int] | None = None) -> tuple[Runner, FakeLink]:
    """What runs a kit's federation over a scripted SuperLink, on a clock that sleeps at once."""
    link, now = FakeLink(kit.data / "journal", list(script), going), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return Runner(kit=kit, link=link.open, clock=Clock(now=lambda: now[0], sleep=sleep)), link


def test_a_run_takes_what_the_authority_has_signed_and_defaults_for_the_rest(kit: CoordinatorKit) -> None:
    """The words make a configuration; no setting overrides what was agreed."""
    words = run_words(kit)
    config = FederationConfig.from_run_config(words)
    agreed = kit.federation
    assert (config.epsilon, config.delta, config.rounds) == (agreed.epsilon, agreed.delta, agreed.rounds)
    assert (config.minimum_cohort, config.shoppers, config.merchants) == (2, 1500, 2)
    assert config.secure_aggregation and config.dim == agreed.settings["dim"] == 16 and SETTINGS["dim"] == 128
    assert config.run_name == agreed.federation and config.noise_seed < 0 and config.offer_version


def test_a_run_is_followed_to_its_version(kit: CoordinatorKit) -> None:
    """What was watched is told; the status of the end is returned."""
    seen: list[RunStatus] = []
    run, link = runner(kit, running, away, running, finishing)
    found = Runner(kit=kit, link=link.open, watch=seen.append, clock=run.clock).run()
    assert found.state is State.FINISHED and found.version == "0123456789abcdef"
    assert len(link.submitted) == 1 and link.submitted[0] == run_words(kit)
    assert [status.state for status in seen] == [State.FINISHED]


@pytest.mark.parametrize("deaths", range(1, RESUMES + 1))
def test_a_run_whose_process_died_is_submitted_again_with_the_same_words(
    kit: CoordinatorKit, deaths: int
) -> None:
    """Its journal goes on from there; a status that the dead one left is no end."""
    run, link = runner(kit, *[dying] * deaths, finishing)
    assert run.run().version
    assert link.submitted == [run_words(kit)] * (1 + deaths)


def test_a_run_that_always_dies_is_given_up(kit: CoordinatorKit) -> None:
    """A bounded number of times, with the last words of the coordinator."""
    run, link = runner(kit, *[dying] * 9)
    with pytest.raises(RunFailed, match=r"died 4 times.*its executor died"):
        run.run()
    assert len(link.submitted) == 1 + RESUMES


def test_a_run_that_gives_a_reason_is_not_submitted_again(kit: CoordinatorKit) -> None:
    """Too few participants, no budget: doing it again at once helps nobody."""
    run, link = runner(kit, running, refusing)
    with pytest.raises(RunFailed, match="was given up"):
        run.run()
    assert len(link.submitted) == 1


def test_the_reason_of_an_earlier_run_is_not_that_of_this_one(kit: CoordinatorKit) -> None:
    """A process that dies before it writes a status leaves the old one, which says nothing of it."""
    StatusFile(kit.data / "journal", run="old", rounds=5).failed("an old reason")
    run, link = runner(kit, lambda _link: DIED, finishing)
    assert run.run().version
    assert len(link.submitted) == 2


def test_a_superlink_that_stays_away_ends_the_wait(kit: CoordinatorKit) -> None:
    """It is waited for a while, not for ever; one that never was there is told at once."""
    run, _ = runner(kit, *[away] * 1000)
    with pytest.raises(SuperLinkError):
        run.run()
    assert run.clock.now() == pytest.approx(PATIENCE, abs=1.0)


def test_one_run_goes_at_a_time(kit: CoordinatorKit) -> None:
    """Neither beside another command nor beside a run that the SuperLink has in work."""
    run, link = runner(kit, finishing, going=[7])
    with pytest.raises(RunGoing, match="run 7"):
        run.run()
    link.going = []
    with locked(kit.data / "journal" / "run.lock", wait=False), pytest.raises(RunGoing, match="another"):
        run.run()
    assert not link.submitted and run.run().version


def test_the_schedule_goes_on_from_the_newest_run_and_at_once_where_a_crash_cut_one_off(
    kit: CoordinatorKit,
) -> None:
    """A scheduler that is restarted does not spend budget on a run before its time."""
    run, _ = runner(kit, finishing)
    assert run.last_begun() is None
    run.run()
    begun = run.last_begun()
    assert begun is not None and abs((datetime.now(UTC) - begun).total_seconds()) < 60
    (kit.data / "journal" / "current").mkdir()
    assert run.last_begun() is None


def test_progress_is_told_when_it_changes_and_once_a_minute(tmp_path: Path) -> None:
    """A status is written twice a second while a run waits; the number of those connected is a change."""
    lines: list[str] = []
    now = [0.0]
    progress = Progress(lines.append, lambda: now[0])
    waiting = RunStatus(round=1, rounds=4, stage="counts", state=State.WAITING)
    for _ in range(150):
        progress(replace(waiting, at=str(now[0])))
        now[0] += 0.5
    assert lines == ["round 1 of 4 counts: waiting for participants, 0 connected"] * 2
    progress(replace(waiting, present=("north",)))
    progress(replace(waiting, state=State.ASKING, attempt=2))
    assert lines[2:] == [
        "round 1 of 4 counts: waiting for participants, 1 connected",
        "round 1 of 4 counts, attempt 2: asking",
    ]


@pytest.mark.parametrize("command", [("run",), ("run", "--every", "1h"), ("status",)])
def test_a_command_that_fails_prints_an_object_too(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A script that reads objects gets the error and the exit code; people get the line on standard error."""
    done = CliRunner().invoke(app, ["federation", command[0], str(tmp_path), *command[1:], "--json"])
    assert isinstance(done.exception, KitError)
    assert json.loads(done.stdout) == {"error": str(done.exception), "exit": DATA}
    assert CliRunner().invoke(app, ["federation", command[0], str(tmp_path), *command[1:]]).stdout == ""


def test_a_run_without_a_coordinator_prints_an_object(kit: CoordinatorKit) -> None:
    """Exit code 5: nothing is reached."""
    done = CliRunner().invoke(app, ["federation", "run", str(kit.folder), "--json"])
    assert isinstance(done.exception, SuperLinkError)
    assert json.loads(done.stdout) == {"error": str(done.exception), "exit": UNREACHABLE}
