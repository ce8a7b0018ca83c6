"""Rotation of the upper layers of keys: nothing is lost, old secrets are gone, kills and others do no harm."""

import json
import multiprocessing
import os
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from privacy.errors import KeyringError, RotationRunning
from privacy.failpoints import FAILPOINTS, Failpoint
from privacy.key_rotation import one_rotation, rotate_kek, rotate_wrapping
from privacy.keyring import DATABASE_NAME, Keyring
from privacy.keyring_backup import backup_keyring
from privacy.keyring_status import status_of
from privacy.kms import KEY_FILE_NAME
from privacy.secret_files import SecretFile

_processes = multiprocessing.get_context("forkserver")
HOLDERS = ("devices", "shop-1")
SHOPPERS = [f"{number:032x}" for number in range(1200)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A keyring of two holders with several pages of shoppers, and what each key was."""
    keyring = Keyring.open(tmp_path / "keys")
    for holder in HOLDERS:
        keyring.holder(holder).data_keys.newest(SHOPPERS)
    _ = keyring.anchor
    keyring.close()
    return tmp_path / "keys"


def everything(folder: Path) -> dict[str, object]:
    """All that the keys of a folder give: data keys, pseudonyms, signatures, the ledger's hash."""
    keyring = Keyring.open(folder, create=False)
    found: dict[str, object] = {"ledger": keyring.anchor.mac("x")}
    for holder in HOLDERS:
        keys = keyring.holder(holder)
        found[holder] = (keys.data_keys.newest(SHOPPERS), keys.pseudonymiser.of("x"), keys.signer.public_key)
    keyring.close()
    return found


def rotate(folder: Path, failpoint: Failpoint = lambda _: None) -> None:
    """Rotate both upper layers of a folder."""
    keyring = Keyring.open(folder, create=False)
    with one_rotation(folder):
        rotate_kek(keyring, failpoint=failpoint)
        for holder in HOLDERS:
            rotate_wrapping(keyring, holder, pace=0.0, failpoint=failpoint)
    keyring.close()


def leave(folder: Path, passed: str, point: str) -> None:
    """End this process by kill -9 at a failpoint."""
    if passed == point:
        os.kill(os.getpid(), signal.SIGKILL)


def _rotate_and_die(folder: Path, point: str) -> None:
    rotate(folder, lambda passed: leave(folder, passed, point))


def test_a_rotation_changes_every_upper_key_and_nothing_that_they_give(folder: Path) -> None:
    """One version and one secret are left of each, with the next number, and all is as it was."""
    before = everything(folder)
    passed: list[str] = []
    rotate(folder, passed.append)
    assert everything(folder) == before
    assert list(dict.fromkeys(passed)) == list(FAILPOINTS["rewrap"])
    keyring = Keyring.open(folder)
    assert keyring.kms.versions() == (2,)
    for holder in HOLDERS:
        file = SecretFile.of_holder(folder, holder)
        secrets = file.load(keyring.kms)
        assert secrets is not None
        assert list(secrets.wrapping) == [2]
        assert file.versions() == {2}
    assert status_of(keyring).unfinished == ()
    keyring.close()


def test_a_copy_from_before_a_rotation_opens_nothing_that_came_after(folder: Path, tmp_path: Path) -> None:
    """Neither the old key-encryption key nor the old wrapping secrets open the files of now."""
    backup_keyring(folder, tmp_path / "old")
    rotate(folder)
    now = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    for name, content in now.items():
        (tmp_path / "old" / name).write_bytes(content)
    with pytest.raises(KeyringError, match="same backup"):
        Keyring.open(tmp_path / "old").holder("shop-1")
    backup_keyring(folder, tmp_path / "new")
    connection = sqlite3.connect(tmp_path / "new" / DATABASE_NAME)
    assert connection.execute("SELECT DISTINCT wrapping_id FROM data_keys").fetchall() == [(2,)]
    connection.close()


@pytest.mark.parametrize("point", FAILPOINTS["rewrap"])
def test_a_rotation_that_is_killed_harms_nothing_and_is_finished_by_the_next(
    folder: Path, point: str
) -> None:
    """kill -9 at any point: all keys are there, also new ones, and the next rotation leaves one secret of each."""
    before = everything(folder)
    process = _processes.Process(target=_rotate_and_die, args=(folder, point))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert everything(folder) == before
    keyring = Keyring.open(folder)
    made = keyring.holder("shop-1").data_keys.newest(["f" * 32])
    rotate(folder)
    status = status_of(keyring)
    assert status.unfinished == ()
    assert len(status.kek_versions) == 1
    assert {one.wrapping_secrets for one in status.holders} == {1}
    assert everything(folder) == before
    assert Keyring.open(folder).holder("shop-1").data_keys.newest(["f" * 32]) == made
    assert [path.name for path in folder.iterdir() if len(path.suffix) == 17] == []
    keyring.close()


def _use(folder: Path, number: int, until: Path, told: "multiprocessing.Queue[tuple[int, int]]") -> None:
    """Read and make keys until a file appears: with one keyring for all, and with a fresh one each time."""
    lasting, failed, done = Keyring.open(folder), 0, 0
    while not until.exists():
        for keyring in (lasting, Keyring.open(folder)):
            known = keyring.holder("shop-1").data_keys
            names = [
                (shopper, known.keys_of([shopper])[shopper][0][0]) for shopper in SHOPPERS[done % 1000 :][:20]
            ]
            failed += len(names) - len(known.find(names))
            known.newest([f"a{number}{done:030d}"])
            keyring.holder(f"shop-{number}-{done // 8}")
            done += 1
            if keyring is not lasting:
                keyring.close()
    told.put((failed, done))


def test_others_read_and_make_keys_while_the_upper_layers_rotate(folder: Path, tmp_path: Path) -> None:
    """Two processes go on through four rotations; no key is missed, and all that were made open afterwards."""
    before, told, until = everything(folder), _processes.Queue(), tmp_path / "enough"
    processes = [_processes.Process(target=_use, args=(folder, number, until, told)) for number in range(2)]
    for process in processes:
        process.start()
    while len(Keyring.open(folder).holders()) < 5:
        assert all(process.is_alive() for process in processes)
    for _ in range(4):
        rotate(folder)
    until.touch()
    answers = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert [failed for failed, _ in answers] == [0, 0]
    assert everything(folder) == before
    keyring = Keyring.open(folder, create=False)
    made = [f"a{number}{count:030d}" for number in range(2) for count in range(2000)]
    own = keyring.holder("shop-1").data_keys.keys_of(made)
    names = [(shopper, key_id) for shopper, keys in own.items() for key_id, _ in keys]
    assert len(names) == sum(done for _, done in answers)
    assert len(keyring.holder("shop-1").data_keys.find(names)) == len(names)
    assert all(keyring.holder(holder).data_keys for holder in keyring.holders())
    keyring.close()


def test_two_rotations_at_once_are_refused(folder: Path, tmp_path: Path) -> None:
    """So are a copy and a change of protection while one is on its way; a process that is gone holds nothing."""
    with one_rotation(folder):
        with pytest.raises(RotationRunning, match="wait"), one_rotation(folder):
            pass
        with pytest.raises(RotationRunning):
            backup_keyring(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    rotate(folder)


def test_what_a_killed_process_left_beside_is_removed_and_no_live_file_is_harmed(folder: Path) -> None:
    """A half-written file is overwritten; a second name of a key file goes, and the key file stays."""
    before = everything(folder)
    half, second = folder / f".{KEY_FILE_NAME}.{'0' * 16}", folder / f".{KEY_FILE_NAME}.{'1' * 16}"
    half.write_bytes(b"half a key")
    second.hardlink_to(folder / KEY_FILE_NAME)
    with half.open("rb") as still_open:
        with one_rotation(folder):
            pass
        assert still_open.read() == bytes(10)
    assert not half.exists()
    assert not second.exists()
    assert everything(folder) == before


def test_a_data_key_that_does_not_open_stops_no_rotation(folder: Path) -> None:
    """It was lost before; all others are wrapped anew."""
    connection = sqlite3.connect(folder / DATABASE_NAME)
    with connection:
        connection.execute("UPDATE data_keys SET wrapped = zeroblob(65) WHERE shopper = ?", (SHOPPERS[7],))
    connection.close()
    keyring = Keyring.open(folder)
    with one_rotation(folder):
        assert rotate_wrapping(keyring, "shop-1", pace=0.0) == len(SHOPPERS) - 1
    names = [
        (shopper, own[0][0]) for shopper, own in keyring.holder("shop-1").data_keys.keys_of(SHOPPERS).items()
    ]
    assert len(keyring.holder("shop-1").data_keys.find(names)) == len(SHOPPERS) - 1
    keyring.close()


def test_a_copy_of_a_keyring_opens_like_the_original_and_is_private(folder: Path, tmp_path: Path) -> None:
    """Whole, of mode 0700 and 0600; what is there already is never replaced."""
    names = backup_keyring(folder, tmp_path / "copy")
    assert everything(tmp_path / "copy") == everything(folder)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    assert {stat.S_IMODE((tmp_path / "copy" / name).stat().st_mode) for name in names} == {0o600}
    with pytest.raises(KeyringError, match="never replaces"):
        backup_keyring(folder, tmp_path / "copy")
    with pytest.raises(KeyringError, match="cannot be copied"):
        backup_keyring(folder, tmp_path / "no" / "where")
    assert json.loads((tmp_path / "copy" / KEY_FILE_NAME).read_bytes())["format"] == 2
