"""`fedrank keys`: status, rotation, protection and copies of a keyring, and one clear line where it does not open."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from client.events import Event
from client.store import EventStore
from fedrank.exits import DATA
from privacy.database import opened, writing
from privacy.keyring import Keyring

Run = Callable[..., subprocess.CompletedProcess[str]]
_TEXT = "correct horse battery staple"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess at a passphrase costs little here."""
    monkeypatch.setattr("privacy.kms_lock.SCRYPT_COST", 2**10)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a store of two holders and their keyring."""
    folder = tmp_path / "run"
    (folder / "store").mkdir(parents=True)
    keyring = Keyring.open(folder / "keys")
    for holder in ("devices", "shop-1"):
        with EventStore.open(folder / "store" / "events.db", keyring, holder) as store:
            store.append(events(keyring, holder))
    keyring.close()
    return folder


def events(keyring: Keyring, holder: str) -> list[Event]:
    """Thirty events of ten shoppers."""
    pseudonym = keyring.holder(holder).pseudonymiser.of
    return [
        Event(shopper=pseudonym(f"u{number % 10}"), item_id=f"i{number}", kind="view", timestamp=number)
        for number in range(30)
    ]


def stored(run: Path) -> dict[str, int]:
    """How many events each holder has that can be read."""
    keyring = Keyring.open(run / "keys", create=False)
    found = {}
    for holder in keyring.holders():
        with EventStore.open(run / "store" / "events.db", keyring, holder) as store:
            found[holder] = len(store.read_columns())
            assert store.quarantined == frozenset()
    keyring.close()
    return found


def status(fedrank: Run, run: Path) -> dict[str, object]:
    """What `fedrank keys status --json` says."""
    found: dict[str, object] = json.loads(fedrank("keys", "status", "--run", str(run), "--json").stdout)
    return found


def test_status_names_holders_and_says_that_a_plain_file_protects_nothing(fedrank: Run, run: Path) -> None:
    """For people and for machines; the word `not encrypted` is in both."""
    shown = fedrank("keys", "status", "--run", str(run))
    assert shown.returncode == 0
    assert "not encrypted" in shown.stdout
    assert "shop-1" in shown.stdout
    found = status(fedrank, run)
    assert found["kek_versions"] == [1]
    assert found["unfinished"] == []
    assert [(one["holder"], one["shoppers"]) for one in found["holders"]] == [("devices", 10), ("shop-1", 10)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", [[], ["--online"]])
def test_rotation_changes_all_layers_and_loses_nothing(fedrank: Run, run: Path, option: list[str]) -> None:
    """Every file, data key and row is done again; an old copy of the database does not open any more."""
    before = (run / "store" / "events.db").read_bytes()
    done = fedrank("keys", "rotate", "--run", str(run), "--json", *option)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["data_keys_wrapped"] == counts["old_data_keys_destroyed"] == counts["rows_sealed"] == 20
    assert counts["files_wrapped"] == 2
    assert counts["rows_unreadable"] == 0
    assert stored(run) == {"devices": 30, "shop-1": 30}
    found = status(fedrank, run)
    assert (found["kek_versions"], found["unfinished"]) == ([2], [])
    for name in ("events.db-wal", "events.db-shm"):
        (run / "store" / name).unlink(missing_ok=True)
    (run / "store" / "events.db").write_bytes(before)
    keyring = Keyring.open(run / "keys")
    with EventStore.open(run / "store" / "events.db", keyring, "shop-1") as store:
        assert len(store.read_columns()) == 0
        assert len(store.quarantined) > 0
    keyring.close()


@pytest.mark.parametrize(
    ("layer", "expected"), [("kek", {"files_wrapped"}), ("wrapping", {"data_keys_wrapped"})]
)
def test_one_layer_needs_the_keyring_only(fedrank: Run, run: Path, layer: str, expected: set[str]) -> None:
    """The upper layers are rotated without a store."""
    words = ("keys", "rotate", "--keys", str(run / "keys"), "--layer", layer, "--json")
    assert json.loads(fedrank(*words).stdout).keys() == expected
    assert stored(run) == {"devices": 30, "shop-1": 30}


def test_one_holder_is_rotated_by_name_and_an_unknown_one_is_refused(fedrank: Run, run: Path) -> None:
    """Only its data keys belong to a new generation."""
    assert fedrank("keys", "rotate", "--run", str(run), "--holder", "shop-1").returncode == 0
    generations = {one["holder"]: one["generation"] for one in status(fedrank, run)["holders"]}  # type: ignore[attr-defined]
    assert generations == {"devices": 1, "shop-1": 2}
    refused = fedrank("keys", "rotate", "--run", str(run), "--holder", "shop-9")
    assert refused.returncode == 2
    assert "shop-9" in refused.stderr


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "the backup's own file"])
def test_a_copy_is_not_rotated_in_place_of_the_live_store(
    fedrank: Run, run: Path, tmp_path: Path, restored: bool
) -> None:
    """Its rotation would destroy the keys of the live one; only who says so makes it the live one."""
    live, copy = str(run / "store" / "events.db"), str(tmp_path / "copy.db")
    assert fedrank("db", "backup", live, copy).returncode == 0
    if restored:
        backup, copy = copy, str(tmp_path / "restored.db")
        assert fedrank("db", "restore", backup, copy).returncode == 0
    words = ("keys", "rotate", "--keys", str(run / "keys"), "--store")
    refused = fedrank(*words, copy)
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1), refused.stderr
    assert "--adopt-store" in refused.stderr
    assert status(fedrank, run)["kek_versions"] == [1]
    assert fedrank(*words, live).returncode == 0
    assert stored(run) == {"devices": 30, "shop-1": 30}
    (run / "store" / "events.db").rename(tmp_path / "lost.db")
    assert fedrank("db", "backup", str(tmp_path / "lost.db"), str(tmp_path / "newer.db")).returncode == 0
    assert fedrank("db", "restore", str(tmp_path / "newer.db"), live).returncode == 0
    assert fedrank(*words, live).returncode == 4
    assert fedrank(*words, live, "--adopt-store").returncode == 0
    assert fedrank(*words, live).returncode == 0
    assert stored(run) == {"devices": 30, "shop-1": 30}


def test_rows_that_do_not_open_are_told_with_exit_code_3(fedrank: Run, run: Path) -> None:
    """All others are rotated, and the keys of their shoppers stay."""
    with opened(run / "store" / "events.db") as engine, writing(engine) as connection:
        broken = connection.exec_driver_sql(
            "UPDATE events SET sealed = zeroblob(90) WHERE holder = 'shop-1' AND shopper = "
            "(SELECT min(shopper) FROM events WHERE holder = 'shop-1')"
        ).rowcount
    done = fedrank("keys", "rotate", "--run", str(run), "--json")
    assert (done.returncode, json.loads(done.stdout)["rows_unreadable"]) == (DATA, broken)
    assert "fedrank db check" in done.stderr


def test_a_log_in_use_is_told_after_a_rotation(
    fedrank: Run, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that reads the store keeps old copies of rows in its log."""
    with monkeypatch.context() as busy:
        busy.setattr("client.store_rotation.drop_deleted_bytes", lambda _: False)
        done = fedrank("keys", "rotate", "--run", str(run), "--layer", "data")
    assert done.returncode == 0
    assert "rotate again when it has ended" in done.stderr
    assert fedrank("keys", "rotate", "--run", str(run), "--layer", "data").stderr == ""


def test_a_passphrase_protects_from_then_on(
    fedrank: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, and with a wrong one, there is one line that says what to do; with it all is as before."""
    word = tmp_path / "word"
    word.write_text(_TEXT)
    word.chmod(0o600)
    done = fedrank("keys", "protect", "--run", str(run), "--passphrase-file", str(word))
    assert "passphrase (scrypt)" in done.stdout
    assert "rotate" in done.stdout
    closed = fedrank("keys", "status", "--run", str(run))
    assert (closed.returncode, closed.stderr.count("\n")) == (5, 1)
    assert "FEDRANK_PASSPHRASE_FILE" in closed.stderr
    monkeypatch.setenv("FEDRANK_PASSPHRASE", "another one altogether")
    wrong = fedrank("keys", "status", "--run", str(run))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (3, 1)
    assert "Traceback" not in wrong.stderr
    monkeypatch.delenv("FEDRANK_PASSPHRASE")
    monkeypatch.setenv("FEDRANK_PASSPHRASE_FILE", str(word))
    assert status(fedrank, run)["protection"] == "passphrase (scrypt)"
    assert stored(run) == {"devices": 30, "shop-1": 30}


def test_a_key_file_is_made_where_there_is_none(
    fedrank: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is private, and the keyring opens with it alone."""
    file = tmp_path / "medium.key"
    done = fedrank("keys", "protect", "--run", str(run), "--key-file", str(file))
    assert "keep a copy elsewhere" in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("FEDRANK_KEY_FILE", str(file))
    assert "key file" in str(status(fedrank, run)["protection"])
    assert fedrank("keys", "protect", "--run", str(run), "--none").returncode == 0
    monkeypatch.delenv("FEDRANK_KEY_FILE")
    assert "not encrypted" in str(status(fedrank, run)["protection"])


@pytest.mark.parametrize("words", [[], ["--none", "--passphrase"]])
def test_one_protection_is_to_be_chosen(fedrank: Run, run: Path, words: list[str]) -> None:
    """Neither none nor two of them."""
    refused = fedrank("keys", "protect", "--run", str(run), *words)
    assert refused.returncode == 2
    assert "--passphrase-file" in refused.stderr


def test_a_copy_opens_and_says_what_it_is(fedrank: Run, run: Path, tmp_path: Path) -> None:
    """It is to be kept apart from databases and not for long; what is there is never replaced."""
    target = tmp_path / "copy"
    done = fedrank("keys", "backup", str(target), "--run", str(run))
    assert "Keep it apart" in " ".join(done.stdout.split())
    assert "erased later" in done.stdout
    again = fedrank("keys", "backup", str(target), "--run", str(run), "--json")
    assert (again.returncode, again.stderr.count("\n")) == (3, 1)
    (run / "keys").rename(tmp_path / "lost")
    target.rename(run / "keys")
    assert stored(run) == {"devices": 30, "shop-1": 30}


def test_a_missing_module_is_one_clear_line(fedrank: Run, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring whose key lies in a token stays closed without it."""
    file = run / "keys" / "kms.key"
    record = {"format": 2, "protection": {"kind": "pkcs11", "token": "t", "label": "l"}}
    file.write_text(json.dumps(record))
    closed = fedrank("keys", "status", "--run", str(run))
    assert (closed.returncode, closed.stderr.count("\n")) == (5, 1)
    assert "FEDRANK_PKCS11_MODULE" in closed.stderr
    for name, value in (("MODULE", os.devnull), ("TOKEN", "t"), ("PIN", "1234")):
        monkeypatch.setenv(f"FEDRANK_PKCS11_{name}", value)
    closed = fedrank("keys", "status", "--run", str(run))
    assert (closed.returncode, closed.stderr.count("\n")) == (5, 1)
    assert "1234" not in closed.stderr
