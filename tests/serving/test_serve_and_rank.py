"""`fedrank serve` and `fedrank rank` as two processes over one run folder, and the join to the encrypted store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.consent import Purpose
from client.errors import StoreUnavailable
from client.events import Event
from client.ranking import RankingClient
from client.ranking_words import Impression, Interaction, Question, Surface
from client.store import EventStore
from client.store_consent import Consents
from client.store_retention import expire
from fedrank import cli
from fedrank.commands.rank import SurfaceName, read_history
from fedrank.endpoint import run_endpoint
from fedrank.endpoint_options import EndpointOptions
from fedrank.exits import DATA, UNREACHABLE, USAGE, exit_code
from fedrank.shopper_events import ShopperEvents
from model.features import SURFACES
from privacy.database import migrate, opened
from privacy.errors import DatabaseMissing, OlderSchema
from privacy.keyring import Keyring
from privacy.schema import REVISIONS
from server.errors import FeedbackUnavailable, ProfileUnavailable
from server.serving import logs
from server.serving.query import Surface as ServedSurface
from server.serving.stores import FeedbackEvent

ROOT = Path(__file__).resolve().parents[2]
APP = """
import typer
from fedrank import cli
from fedrank.commands.rank import rank
from fedrank.commands.serve import serve
from fedrank.exits import reporting
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(serve)
app.command()(rank)
reporting(app)
"""
SIMULATION = ("--stored-profiles",)
"""What the endpoint of all shoppers' devices is started with."""
SHOPPER = "canary-shopper-4711"
NOW = 1_700_000_000


def command(*arguments: str) -> list[str]:
    """The command line of the two commands under test."""
    return [sys.executable, "-c", APP, *arguments]


def ask(*arguments: str) -> Any:
    """The JSON object that `fedrank rank --json` prints in this process, and nothing else."""
    done = CliRunner().invoke(cli.app, ["rank", "--json", "--timeout", "30", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def ask_apart(*arguments: str) -> Any:
    """The same as a process of its own."""
    done = subprocess.run(
        command("rank", "--json", "--timeout", "30", *arguments),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout)


@pytest.fixture
def stocked(run_folder: Path) -> Path:
    """The run folder with two purchases of one shopper in the devices' store."""
    (run_folder / "store").mkdir()
    keyring = Keyring.open(run_folder / "keys")
    pseudonym = keyring.holder("devices").pseudonymiser.of(SHOPPER)
    with EventStore.open(run_folder / "store" / "events.db", keyring, "devices") as store:
        store.append(
            Event(shopper=pseudonym, item_id=item, kind="purchase", timestamp=NOW)
            for item in ("item-03", "item-16")
        )
    allow_profile(run_folder, "devices")
    return run_folder


def allow_profile(run: Path, holder: str, *, granted: bool = True) -> None:
    """Record that the shopper lets a holder use the stored history, or no longer does."""
    keyring = Keyring.open(run / "keys")
    pseudonym = keyring.holder(holder).pseudonymiser.of(SHOPPER)
    with EventStore.open(run / "store" / "events.db", keyring, holder) as store:
        Consents(store.access).record([pseudonym], [Purpose.PROFILE], granted=granted, origin="a test")


@contextmanager
def serving(run: Path, *arguments: str) -> Iterator[tuple[str, str]]:
    """Run `fedrank serve` on a free port; gives address and model version, then stops it and checks a clean end."""
    process = subprocess.Popen(
        command("serve", "--run", str(run), "--port", "0", *(arguments or SIMULATION)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        assert words[:1] + words[2:3] == ["ready", "model"], process.stderr and process.stderr.read()
        yield words[1], words[3]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest) == (0, ""), errors
        assert SHOPPER not in errors
    finally:
        process.kill()
        process.wait()


def test_two_processes_serve_and_ask_for_every_kind_of_shopper(stocked: Path) -> None:
    """By id, by pseudonym, unknown, by history, on search; then feedback changes the next list; then a clean stop."""
    with serving(stocked) as (address, version):
        by_id = ask_apart("--address", address, "--shopper", SHOPPER, "--surface", "home", "-k", "10")
        assert by_id["model_version"] == version
        assert by_id["profile_source"] == "stored"
        names = [item["item_id"] for item in by_id["items"]]
        assert len(set(names)) == len(names) == 10
        assert not {"item-03", "item-16"} & set(names)
        assert any(item["reason"].startswith("because you bought") for item in by_id["items"])
        pseudonym = Keyring.open(stocked / "keys").holder("devices").pseudonymiser.of(SHOPPER)
        by_pseudonym = ask("--address", address, "--shopper", pseudonym)
        assert by_pseudonym["items"] == by_id["items"]
        assert ask("--address", address, "--shopper", "nobody")["cold_start"] is True
        events = [{"item_id": item, "kind": "purchase", "time": NOW} for item in ("item-03", "item-16")]
        (stocked / "history.json").write_text(json.dumps(events))
        given = ask("--address", address, "--history", str(stocked / "history.json"))
        assert (given["profile_source"], [item["item_id"] for item in given["items"]]) == ("history", names)
        found = ask("--address", address, "--surface", "search", "--query", "绿茶", "--shopper", SHOPPER)
        assert found["items"][0]["reason"] == "matches '绿茶'"
        done = Interaction(event_id="e1", shopper=SHOPPER, item_id=names[0], timestamp=NOW, kind="purchase")
        with RankingClient(address, timeout=30) as client:
            assert client.record([done]).acknowledged == 1
        assert names[0] not in {
            item["item_id"] for item in ask("--address", address, "--shopper", SHOPPER)["items"]
        }


def test_the_table_is_for_people_and_names_model_and_source(stocked: Path) -> None:
    """Titles, reasons, the model version, and where the list came from; notices below."""
    with serving(stocked) as (address, version):
        done = subprocess.run(
            command("rank", "--address", address, "--surface", "promotion", "-k", "3"),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200"},
        )
    assert version in done.stdout
    assert "made from: cold start" in done.stdout
    assert "popular" in done.stdout
    assert "no column promotion" in done.stdout


def test_a_merchants_endpoint_uses_only_its_own_catalogue_and_shoppers(stocked: Path) -> None:
    """What the devices' store knows is unknown to the merchant, and what the merchant records is not the devices'."""
    with serving(stocked, "--merchant", "merchant-1") as (address, _):
        first = ask("--address", address, "--shopper", SHOPPER)
        assert first["cold_start"] is True
        assert {item["merchant_id"] for item in first["items"]} == {"merchant-1"}
        done = Interaction(event_id="e1", shopper=SHOPPER, item_id="item-04", timestamp=NOW, kind="view")
        foreign = Interaction(event_id="e2", shopper=SHOPPER, item_id="item-03", timestamp=NOW, kind="view")
        with RankingClient(address, timeout=30) as client:
            told = client.record([done, foreign])
        assert (told.acknowledged, told.unknown_items) == (1, 1)
        assert ask("--address", address, "--shopper", SHOPPER)["cold_start"] is True, (
            "nobody granted a profile"
        )
        allow_profile(stocked, "merchant-1")
        assert ask("--address", address, "--shopper", SHOPPER)["profile_source"] == "stored"
        allow_profile(stocked, "merchant-1", granted=False)
        assert ask("--address", address, "--shopper", SHOPPER)["cold_start"] is True
    keyring = Keyring.open(stocked / "keys")
    holders = [keyring.holder(name).pseudonymiser.of(SHOPPER) for name in ("devices", "merchant-1")]
    assert holders[0] != holders[1]
    with EventStore.open(stocked / "store" / "events.db", keyring, "devices") as store:
        assert store.shoppers() == [holders[0]]
        assert len(store.history(holders[0])) == 2
    assert SHOPPER.encode() not in b"".join(path.read_bytes() for path in (stocked / "store").iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "0.0.0.0"], USAGE, "give --tls-cert and --tls-key"),
        (["--merchant", "nobody"], DATA, "merchant 'nobody' has no item"),
        (["--version", "0" * 16], DATA, "no model version '0000000000000000'"),
        (["--tls-cert", "x.pem"], USAGE, "give --tls-cert, --tls-key and --client-ca together"),
        (["--policy", "missing.toml"], USAGE, "the policy missing.toml cannot be read"),
        (["--metrics-port", "1", "--metrics-host", "192.0.2.1"], DATA, "give another --metrics-port"),
        (["--port", "99999"], USAGE, "port is 99999"),
        (["--quota", "0"], USAGE, "the quota's per_second is 0"),
        (["--quota", "nan"], USAGE, "--quota is nan"),
        (["--refresh-seconds", "nan"], USAGE, "--refresh-seconds is nan; give a finite number"),
        (["--drain-seconds", "inf"], USAGE, "--drain-seconds is inf"),
        (["--access-log", "nan"], USAGE, "--access-log is nan"),
        (["--metrics-port", "-1"], USAGE, "--metrics-port"),
        (["--trust-domain", "Shop Example"], USAGE, "the trust domain is 'Shop Example'"),
    ],
)
def test_an_endpoint_that_cannot_be_opened_says_why_and_never_says_ready(
    stocked: Path,
    arguments: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing on standard output, exit code 2 for wrong usage and 3 for the rest, and the next step.

    It is opened in this process, whose logs stay those of the test.
    """
    monkeypatch.setattr(logs, "set_up_logs", lambda form, level: None)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(sys, "argv", ["fedrank", "serve", "--run", str(stocked), "--port", "0", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    printed = capsys.readouterr()
    assert (done.value.code, printed.out) == (code, "")
    assert words in printed.err


def endpoint_options(run: Path, **changes: Any) -> EndpointOptions:
    """The run folder's own store and keys on a free port, with changes."""
    fields: dict[str, Any] = {
        "store": str(run / "store" / "events.db"),
        "keys": str(run / "keys"),
        "port": 0,
    }
    return EndpointOptions(**{"run": str(run), **fields, **changes})


@pytest.mark.parametrize("lost", ["keys", "keys/kms.key", "keys/keys.db", "store/events.db", "store"])
def test_an_endpoint_makes_neither_keys_nor_a_store(stocked: Path, tmp_path: Path, lost: str) -> None:
    """What is missing is refused with exit code 5 and the next step, and is missing still."""
    (stocked / lost).rename(stocked / "moved away")
    with pytest.raises((StoreUnavailable, DatabaseMissing), match=r"check|restore") as refused:
        run_endpoint(endpoint_options(stocked), lambda *_: None)
    assert exit_code(refused.value) == UNREACHABLE
    assert not (stocked / lost).exists()


def test_an_endpoint_refuses_a_keyring_of_an_older_revision_before_it_listens(stocked: Path) -> None:
    """And not at the first shopper whose key is needed."""
    with opened(stocked / "keys" / "keys.db") as engine:
        migrate(engine, REVISIONS[0])
    with pytest.raises(OlderSchema):
        run_endpoint(endpoint_options(stocked), lambda *_: None)


def test_a_store_and_keys_elsewhere_are_served_when_they_are_named(stocked: Path, tmp_path: Path) -> None:
    """The run folder gives the model and the catalogue alone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("store", "keys"):
        (stocked / name).rename(elsewhere / name)
    named = (
        "--store",
        f"sqlite:///{elsewhere / 'store' / 'events.db'}",
        "--keys",
        str(elsewhere / "keys"),
        *SIMULATION,
    )
    with serving(stocked, *named) as (address, _), RankingClient(address, timeout=30) as client:
        assert client.rank(Question(surface=Surface.HOME, shopper=SHOPPER)).profile_source == "stored"
    assert not (stocked / "keys").exists()


def test_asking_where_nobody_listens_fails_with_how_to_start_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No table, no JSON, a failing status."""
    monkeypatch.setattr(sys, "argv", ["fedrank", "rank", "--json", "--address", "127.0.0.1:9"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    printed = capsys.readouterr()
    assert (done.value.code, printed.out) == (UNREACHABLE, "")
    assert "fedrank serve" in printed.err


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("fedrank.endpoint", ("torch", "flwr", "opacus")),
        ("fedrank.commands.serve", ("numpy", "grpc", "polars", "sqlalchemy", "google.protobuf")),
        ("fedrank.commands.rank", ("numpy", "grpc", "polars", "rich.table", "google.protobuf")),
        ("client.ranking", ("torch", "flwr", "opacus", "polars", "sqlalchemy")),
    ],
)
def test_importing_stays_light(module: str, absent: tuple[str, ...]) -> None:
    """Serving needs no training library, and `--help` needs hardly anything."""
    script = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_command_offers_every_surface() -> None:
    """The names in `--help` are the model's."""
    assert SurfaceName.__args__ == SURFACES  # type: ignore[attr-defined]


def test_a_history_is_read_from_text_or_from_a_file(tmp_path: Path) -> None:
    """An item id may hold a colon; a file may give times; anything else says what was expected."""
    import typer

    read = read_history("a:b:view,c:purchase")
    assert [(event.item_id, event.kind) for event in read] == [("a:b", "view"), ("c", "purchase")]
    path = tmp_path / "history.json"
    path.write_text(json.dumps([{"item_id": "a", "kind": "rating", "time": 5}]))
    assert read_history(str(path))[0].time == 5
    path.write_text('[{"item": "a"}]')
    for wrong in ("a:bought", "a", str(path), str(tmp_path / "missing.json")):
        with pytest.raises(typer.BadParameter, match="ITEM:KIND"):
            read_history(wrong)


class Join:
    """A store under one holder, joined to the server's protocols."""

    def __init__(self, folder: Path) -> None:
        """Open a new store and keyring in `folder`."""
        self.keys = Keyring.open(folder / "keys").holder("devices")
        self.store = EventStore.open(folder / "events.db", Keyring.open(folder / "keys"), "devices")
        self.events = ShopperEvents(self.store, self.keys.pseudonymiser)

    def allow(self, *shoppers: str) -> None:
        """Record that shoppers let their history be used."""
        names = [self.keys.pseudonymiser.of(shopper) for shopper in shoppers]
        Consents(self.store.access).record(names, [Purpose.PROFILE], granted=True, origin="a test")


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """An empty joined store."""
    made = Join(tmp_path)
    yield made
    made.store.close()


def feedback(event_id: str, shopper: str, **changes: Any) -> FeedbackEvent:
    """A purchase at the service's door, with changes."""
    fields: dict[str, Any] = {
        "event_id": event_id,
        "ranking_id": "r",
        "shopper": shopper,
        "item_id": "i",
        "merchant_id": "m",
        "timestamp": NOW,
        "kind": "purchase",
        **changes,
    }
    return FeedbackEvent(**fields)


def test_an_id_that_looks_like_a_pseudonym_is_stored_under_a_pseudonym_all_the_same(join: Join) -> None:
    """A merchant's ids may be 32 hex digits: only a value the store knows already stands for itself."""
    lookalike = "0123456789abcdef" * 2
    join.allow(lookalike, "plain id")
    assert join.events.history(lookalike) is None
    assert join.events.record([feedback("e1", lookalike), feedback("e2", "plain id")]) == 2
    assert lookalike not in join.store.shoppers()
    assert [event.item_id for event in join.events.history(lookalike) or ()] == ["i"]
    pseudonym = join.keys.pseudonymiser.of("plain id")
    assert join.events.record([feedback("e3", pseudonym)]) == 1
    assert len(join.events.history(pseudonym) or ()) == len(join.events.history("plain id") or ()) == 2


def test_a_pseudonym_without_events_stands_for_itself_as_long_as_the_store_knows_it(join: Join) -> None:
    """After retention has deleted every event, and before the first one: erasure by id reaches what comes then."""
    pseudonym = join.keys.pseudonymiser.of("plain id")
    assert join.events.record([feedback("e1", "plain id")]) == 1
    assert expire(join.store.access, NOW + 1, pace=0).events == 1
    assert join.events.record([feedback("e2", pseudonym)]) == 1
    assert join.store.shoppers() == [pseudonym]
    join.allow("decided only")
    decided = join.keys.pseudonymiser.of("decided only")
    assert join.events.record([feedback("e3", decided)]) == 1
    assert join.store.shoppers() == sorted([pseudonym, decided])


def test_without_consent_events_are_recorded_and_make_no_profile(join: Join) -> None:
    """The history is there the moment that the shopper grants it."""
    assert join.events.record([feedback("e1", "s")]) == 1
    assert join.events.history("s") is None
    join.allow("s")
    assert [event.item_id for event in join.events.history("s") or ()] == ["i"]


def test_what_was_shown_is_kept_and_is_no_part_of_a_history(join: Join) -> None:
    """Impressions lie in the store with their surface and ranking; the profile has interactions only."""
    join.allow("s")
    shown = feedback("e1", "s", kind=None, surface=ServedSurface.CART, rank=1)
    assert join.events.record([shown, shown]) == 1
    assert join.events.history("s") is None
    kept = join.store.history(join.keys.pseudonymiser.of("s"))[0]
    assert (kept.kind, kept.surface, kept.ranking_id, kept.merchant_id) == ("impression", "cart", "r", "m")


def test_a_store_that_fails_speaks_the_servers_words(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading becomes `ProfileUnavailable`, writing `FeedbackUnavailable`; a programming error stays one."""

    def full(*_: object) -> Callable[..., Any]:
        raise StoreUnavailable("the disk is full")

    join.allow("s")
    monkeypatch.setattr(join.store, "history", full)
    monkeypatch.setattr(join.store, "append", full)
    with pytest.raises(ProfileUnavailable, match="the disk is full"):
        join.events.history("s")
    with pytest.raises(FeedbackUnavailable, match="the disk is full"):
        join.events.record([feedback("e1", "s")])


def test_the_typed_client_and_the_store_agree_on_impressions(stocked: Path) -> None:
    """An impression sent over the wire lies sealed in the store under the shopper's pseudonym."""
    shown = Impression(
        event_id="e", shopper=SHOPPER, item_id="item-05", timestamp=NOW, surface=Surface.HOME, rank=4
    )
    with serving(stocked) as (address, _), RankingClient(address, timeout=30) as client:
        assert client.record([shown]).acknowledged == 1
    keyring = Keyring.open(stocked / "keys")
    with EventStore.open(stocked / "store" / "events.db", keyring, "devices") as store:
        kept = store.history(keyring.holder("devices").pseudonymiser.of(SHOPPER))
    assert [event.surface for event in kept if event.kind == "impression"] == ["home"]
