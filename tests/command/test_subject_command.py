"""`fedrank subject`, `consent` and `retention`: rights from the command line, refusals in one line."""

from __future__ import annotations

import io
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.consent import Purpose
from client.events import Event
from client.store import EventStore
from client.store_consent import Consents
from fedrank.exits import DATA, UNREACHABLE, USAGE
from privacy.database import open_engine, writing
from privacy.keyring import Keyring
from privacy.pseudonyms import NotAnId, Pseudonymiser
from privacy.schema import consents

Fedrank = Callable[..., subprocess.CompletedProcess[str]]
ID = "canary-anna-77"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder in which a shopper has one old event at a device and one at a merchant, with consent."""
    run = tmp_path / "run"
    (run / "store").mkdir(parents=True)
    (run / "report.json").write_text(json.dumps({"data": {"clock": "seconds"}, "privacy": {"delta": 1e-5}}))
    keyring = Keyring.open(run / "keys")
    for holder in ("devices", "shop-1"):
        with EventStore.open(run / "store" / "events.db", keyring, holder) as store:
            shopper = store.access.keys.pseudonymiser.of(ID)
            store.append([Event(shopper=shopper, item_id="lamp", kind="view", timestamp=1_000_000_000)])
            Consents(store.access).record([shopper], tuple(Purpose), granted=True, origin="a test")
    keyring.close()
    return run


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What an error box says, without its frame."""
    return " ".join(done.stderr.replace("│", " ").split())


def test_an_export_has_every_holders_part_in_one_object(fedrank: Fedrank, run: Path) -> None:
    """On standard output, or in a file that only its owner may read."""
    printed = json.loads(fedrank("subject", "export", ID, "--run", str(run)).stdout)
    assert [part["holder"] for part in printed["holders"]] == ["devices", "shop-1"]
    assert {part["events"][0]["item_id"] for part in printed["holders"]} == {"lamp"}
    out = run / "copy.json"
    assert (
        fedrank("subject", "export", ID, "--run", str(run), "--holder", "shop-1", "--out", str(out)).stdout
        == ""
    )
    assert [part["holder"] for part in json.loads(out.read_bytes())["holders"]] == ["shop-1"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_an_erasure_leaves_receipts_that_verify(fedrank: Fedrank, run: Path) -> None:
    """One per holder; again it says that nothing was there; no output names the shopper."""
    receipt, again = run / "receipt.json", run / "again.json"
    words = ("subject", "erase", ID, "--run", str(run), "--yes", "--receipt")
    done = fedrank(*words, str(receipt))
    assert done.returncode == 0, done.stderr
    assert "devices: 3 rows, 1 keys destroyed; 0 left" in done.stdout
    assert fedrank("subject", "verify", str(receipt)).stdout.count("valid: ") == 2
    assert "this keyring's key" in fedrank("subject", "verify", str(receipt), "--run", str(run)).stdout
    assert fedrank(*words, str(again)).stdout.count("nothing was there") == 2
    assert ID not in done.stdout + done.stderr + receipt.read_text() + again.read_text()
    part = json.loads(fedrank("subject", "export", ID, "--run", str(run)).stdout)["holders"][0]
    assert (part["events"], part["consents"]) == ([], [])


def test_a_changed_receipt_is_refused(fedrank: Fedrank, run: Path) -> None:
    """Also a file that is none: the data are wrong, in one line."""
    receipt = run / "receipt.json"
    fedrank("subject", "erase", ID, "--run", str(run), "--yes", "--receipt", str(receipt))
    receipt.write_text(receipt.read_text().replace('"keys_destroyed": 1', '"keys_destroyed": 2'))
    done = fedrank("subject", "verify", str(receipt))
    assert (done.returncode, done.stdout) == (DATA, "")
    assert "changed after it was signed" in done.stderr
    receipt.write_text("[]")
    assert fedrank("subject", "verify", str(receipt)).returncode == DATA


def test_without_a_yes_nothing_is_erased(
    fedrank: Fedrank, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question stands on standard error; the id may come from standard input, where nobody else sees it."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert (
        fedrank("subject", "erase", ID, "--run", str(run), "--receipt", str(run / "r.json")).returncode != 0
    )
    assert not (run / "r.json").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO(ID + "\n"))
    assert (
        len(json.loads(fedrank("subject", "export", "-", "--run", str(run)).stdout)["holders"][0]["events"])
        == 1
    )


def test_a_receipt_is_never_written_over_another_file(fedrank: Fedrank, run: Path) -> None:
    """It is refused before anything is erased."""
    done = fedrank("subject", "erase", ID, "--run", str(run), "--yes", "--receipt", str(run / "report.json"))
    assert done.returncode == USAGE
    assert "name a new file" in one_line(done)
    assert json.loads(fedrank("subject", "export", ID, "--run", str(run)).stdout)["holders"][0]["events"]


@pytest.mark.parametrize("place", ["{run}/no/receipt.json", "{run}/dangling"])
def test_nothing_is_erased_where_no_receipt_can_be_made(fedrank: Fedrank, run: Path, place: str) -> None:
    """A folder that is not there, or a link to nowhere: the file is made before anything is destroyed."""
    (run / "dangling").symlink_to(run / "nowhere")
    done = fedrank("subject", "erase", ID, "--run", str(run), "--yes", "--receipt", place.format(run=run))
    assert done.returncode == USAGE
    assert "name a new file" in one_line(done)
    assert json.loads(fedrank("subject", "export", ID, "--run", str(run)).stdout)["holders"][0]["events"]


def test_an_erasure_beside_a_reader_has_its_receipt_and_asks_to_be_repeated(
    fedrank: Fedrank, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every holder rows and keys are gone; exit code 5 says that a log is not empty yet."""
    words = ("subject", "erase", ID, "--run", str(run), "--yes", "--receipt")
    with monkeypatch.context() as busy:
        busy.setattr("client.store_erasure.drop_deleted_bytes", lambda _: False)
        done = fedrank(*words, str(run / "receipt.json"))
    assert (done.returncode, "erase again" in done.stderr) == (UNREACHABLE, True), done.stderr
    receipts = json.loads((run / "receipt.json").read_bytes())
    assert [(one["keys_destroyed"], one["verified"]["log_emptied"]) for one in receipts] == [(1, False)] * 2
    assert fedrank("subject", "verify", str(run / "receipt.json")).stdout.count("valid: ") == 2
    assert fedrank(*words, str(run / "again.json")).returncode == 0


@pytest.mark.parametrize(
    "text", ["[" * 100_000 + "]" * 100_000, "[{}]", '[{"holder": "\\ud800", "time": "t", "public_key": ""}]']
)
def test_what_is_no_receipt_is_refused_in_one_line(fedrank: Fedrank, run: Path, text: str) -> None:
    """Also lists that are too deep to read, and receipts that lack what would be printed of them."""
    (run / "receipt.json").write_text(text)
    done = fedrank("subject", "verify", str(run / "receipt.json"))
    assert (done.returncode, done.stderr.count("\n")) == (DATA, 1), done.stderr


def test_an_id_on_standard_input_is_one_line_however_it_ends(
    fedrank: Fedrank, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of Windows names the same shopper; of two lines none is taken for the id."""
    words = ("subject", "export", "-", "--run", str(run))
    monkeypatch.setattr("sys.stdin", io.StringIO(ID + "\r\n"))
    assert json.loads(fedrank(*words).stdout)["holders"][0]["events"]
    monkeypatch.setattr("sys.stdin", io.StringIO(ID + "\nother\n"))
    refused = fedrank(*words)
    assert (refused.returncode, ID in refused.stderr) == (USAGE, False)
    assert "2 lines" in one_line(refused)


@pytest.mark.parametrize(
    "words",
    [
        ("subject", "export", "\udcff", "--run", "{run}"),
        ("consent", "show", "\udcff", "--run", "{run}"),
        ("rank", "--shopper", "\udcff"),
    ],
)
def test_an_id_of_bytes_that_are_no_text_is_refused(
    fedrank: Fedrank, run: Path, words: tuple[str, ...]
) -> None:
    """As the shell gives it: one clear refusal, no stack trace."""
    done = fedrank(*(word.format(run=run) for word in words))
    assert done.returncode == USAGE
    assert "UTF-8" in one_line(done)
    with pytest.raises(NotAnId, match="UTF-8"):
        Pseudonymiser(bytes(32)).of("\udcff")


def test_consent_is_granted_to_one_holder_and_withdrawn_everywhere(fedrank: Fedrank, run: Path) -> None:
    """The history tells both; who never allowed a holder anything is not made known to it."""
    words = ("--purpose", "training", "--run", str(run))
    assert "--holder" in one_line(fedrank("consent", "grant", "new", *words))
    assert (
        "shop-1: granted by 1 of 1" in fedrank("consent", "grant", "new", *words, "--holder", "shop-1").stdout
    )
    done = fedrank("consent", "withdraw", "new", *words, "--origin", "settings page")
    assert done.stdout.splitlines() == [
        "devices: withdrawn by 0 of 1 shoppers",
        "shop-1: withdrawn by 1 of 1 shoppers",
    ]
    shown = fedrank("consent", "show", "new", "--run", str(run)).stdout
    assert "devices: nothing was decided, so nothing is allowed" in shown
    found: dict[str, Any] = json.loads(fedrank("consent", "show", "new", "--run", str(run), "--json").stdout)
    assert [(one["granted"], one["origin"]) for one in found["shop-1"]] == [
        (True, "command line"),
        (False, "settings page"),
    ]


def test_decisions_that_do_not_open_are_shown_as_such_beside_the_others(fedrank: Fedrank, run: Path) -> None:
    """Damage at one holder hides nothing of another."""
    engine = open_engine(run / "store" / "events.db")
    with writing(engine) as connection:
        connection.execute(consents.update().where(consents.c.holder == "devices").values(sealed=b"-"))
    engine.dispose()
    found = json.loads(fedrank("consent", "show", ID, "--run", str(run), "--json").stdout)
    assert found["devices"] == "does not open"
    assert len(found["shop-1"]) == 2


def test_retention_counts_first_and_deletes_then(fedrank: Fedrank, run: Path) -> None:
    """An event of 2001 is older than 400 days and younger than 10,000 weeks."""
    words = ("retention", "--run", str(run), "--json", "--older-than")
    counted = json.loads(fedrank(*words, "400d", "--dry-run").stdout)["holders"]
    assert {holder: one["events"] for holder, one in counted.items()} == {"devices": 1, "shop-1": 1}
    assert json.loads(fedrank(*words, "10000w").stdout)["holders"]["devices"]["events"] == 0
    assert json.loads(fedrank(*words, "400d").stdout)["holders"] == counted
    assert json.loads(fedrank(*words, "400d").stdout)["holders"]["devices"]["events"] == 0


def test_data_without_a_calendar_have_no_age(fedrank: Fedrank, run: Path) -> None:
    """Positions in a history are no times: retention refuses instead of deleting everything."""
    (run / "report.json").write_text(json.dumps({"data": {"clock": "order"}}))
    done = fedrank("retention", "--run", str(run), "--older-than", "400d")
    assert done.returncode == USAGE
    assert "clock 'order'" in one_line(done)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["subject", "export", ID], USAGE, "say where the data lie"),
        (["subject", "export", ID, "--run", "{run}/no"], USAGE, "there is no run folder"),
        (
            ["subject", "export", ID, "--store", "{run}/no.db", "--keys", "{run}/keys"],
            USAGE,
            "no database file",
        ),
        (["subject", "export", ID, "--store", "{run}/store/events.db"], USAGE, "--keys FOLDER"),
        (["subject", "export", ID, "--keys", "{run}/keys"], USAGE, "--store PATH_OR_URL"),
        (
            ["subject", "export", ID, "--run", "{run}", "--holder", "nobody"],
            USAGE,
            "no keys of holder 'nobody'",
        ),
        (["subject", "export", "", "--run", "{run}"], USAGE, "id is empty"),
        (
            ["subject", "export", ID, "--store", "mysql://h/d", "--keys", "{run}/keys"],
            UNREACHABLE,
            "cannot be used",
        ),
        (
            ["consent", "show", ID, "--store", "{run}/report.json", "--keys", "{run}/keys"],
            UNREACHABLE,
            "not a database",
        ),
        (["consent", "grant", ID, "--run", "{run}", "--purpose", "sale"], USAGE, "'sale' is not one of"),
        (["retention", "--run", "{run}", "--older-than", "0d"], USAGE, "is no age"),
    ],
)
def test_what_cannot_be_done_is_one_clear_refusal(
    fedrank: Fedrank, run: Path, words: list[str], code: int, reason: str
) -> None:
    """The reason and the next step, no stack trace, and never the shopper's id."""
    done = fedrank(*(word.format(run=run) for word in words))
    assert done.returncode == code, done.stderr
    assert reason in one_line(done)
    assert "Traceback" not in done.stderr
    assert ID not in done.stderr
