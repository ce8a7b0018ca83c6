"""The keyring: keys made once, wrapped, private to their owner, and the same for every process."""

import errno
import json
import multiprocessing
import stat
from contextlib import closing
from pathlib import Path

import pytest

from privacy.anchor import LedgerHead
from privacy.errors import KeyringError, PrivacyError
from privacy.keyring import DATABASE_NAME, FILES_LOCK, Keyring
from privacy.kms import KEY_FILE_NAME
from privacy.pseudonyms import NotAPseudonym, Pseudonymiser, check_pseudonyms

_processes = multiprocessing.get_context("forkserver")


def _holder_file(folder: Path) -> Path:
    (file,) = folder.glob("holder-*.json")
    return file


def test_pseudonyms_are_stable_and_no_two_holders_have_one_in_common(tmp_path: Path) -> None:
    """One shopper has one pseudonym with a merchant, for ever, and quite another with the next merchant."""
    keyring = Keyring.open(tmp_path / "keys")
    ids = [f"shopper-{number}" for number in range(200)]
    first = [keyring.holder("shop-1").pseudonymiser.of(shopper) for shopper in ids]
    second = [keyring.holder("shop-2").pseudonymiser.of(shopper) for shopper in ids]
    again = Keyring.open(tmp_path / "keys", create=False).holder("shop-1").pseudonymiser
    assert [again.of(shopper) for shopper in ids] == first
    assert len(set(first) | set(second)) == 400
    check_pseudonyms(first)


def test_a_pseudonym_is_the_keyed_hash_of_the_id() -> None:
    """RFC 4231, test case 6: HMAC-SHA256 under a key of 131 bytes, cut to its first 16 bytes."""
    data = "Test Using Larger Than Block-Size Key - Hash Key First"
    assert Pseudonymiser(b"\xaa" * 131).of(data) == "60e431591ee0b67f0d8a26aacbf5b77f"
    with pytest.raises(PrivacyError, match="8 bytes"):
        Pseudonymiser(b"\xaa" * 8)


@pytest.mark.parametrize("wrong", ["", "alice", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"])
def test_what_is_no_pseudonym_is_refused_and_not_repeated(wrong: str) -> None:
    """Anything but 32 lower-case hexadecimal characters could be a shopper's own id."""
    with pytest.raises(NotAPseudonym) as refusal:
        check_pseudonyms(["0" * 32, wrong])
    assert "1 values" in str(refusal.value)
    assert not wrong or wrong not in str(refusal.value)


def test_sub_keys_of_one_holder_are_independent(tmp_path: Path) -> None:
    """The blind index, the pseudonym and the check share nothing, nor do two holders."""
    keyring = Keyring.open(tmp_path / "keys")
    keys, others = keyring.holder("shop-1"), keyring.holder("shop-2")
    pseudonym, blind = bytes.fromhex(keys.pseudonymiser.of("x")), keys.blind_index("x")
    assert len(blind) == 16
    assert blind != pseudonym
    assert blind == Keyring.open(tmp_path / "keys").holder("shop-1").blind_index("x")
    assert blind != others.blind_index("x")
    assert keys.signer.public_key != others.signer.public_key


def test_a_check_is_passed_by_the_keys_that_made_it_and_by_no_others(tmp_path: Path) -> None:
    """Two checks of one holder are not alike, and both are passed; a changed one is not."""
    keyring = Keyring.open(tmp_path / "keys")
    keys, checks = keyring.holder("shop-1"), [keyring.holder("shop-1").new_check() for _ in range(2)]
    assert checks[0] != checks[1]
    assert all(keys.passes_check(check) for check in checks)
    assert not keyring.holder("shop-2").passes_check(checks[0])
    assert not keys.passes_check(checks[0][:-1] + bytes([checks[0][-1] ^ 1]))
    assert not keys.passes_check(b"")


def test_keys_lie_in_private_files_and_holder_keys_only_wrapped(tmp_path: Path) -> None:
    """Folder 0700, files 0600, no other file left behind, no name of a holder in a file's name."""
    folder = tmp_path / "keys"
    with closing(Keyring.open(folder)) as keyring:
        keyring.holder("../shop 1/ü")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    expected = {KEY_FILE_NAME, DATABASE_NAME, FILES_LOCK, _holder_file(folder).name}
    assert {file.name for file in files} == expected
    assert "shop" not in _holder_file(folder).name


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the file, its mode and the command that repairs it."""
    folder = tmp_path / "keys"
    Keyring.open(folder).holder("shop-1")
    for file in (folder / KEY_FILE_NAME, _holder_file(folder)):
        file.chmod(mode)
        with pytest.raises(KeyringError, match=f"{mode:04o}.*chmod 0600"):
            Keyring.open(folder).holder("shop-1")
        file.chmod(0o600)
    Keyring.open(folder).holder("shop-1")


def test_a_keyring_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write the folder can replace the keys."""
    folder = tmp_path / "keys"
    Keyring.open(folder)
    folder.chmod(0o770)
    with pytest.raises(KeyringError, match="chmod 0700"):
        Keyring.open(folder)


def test_a_lost_key_encryption_key_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    """A new key could never open the holder keys; the error asks for the backup."""
    folder = tmp_path / "keys"
    Keyring.open(folder).holder("shop-1")
    (folder / KEY_FILE_NAME).unlink()
    with pytest.raises(KeyringError, match="backup"):
        Keyring.open(folder)
    assert not (folder / KEY_FILE_NAME).exists()


def test_holder_keys_of_another_keyring_are_refused(tmp_path: Path) -> None:
    """Holder keys copied under another key-encryption key do not open, nor under another holder's name."""
    one, other = Keyring.open(tmp_path / "one"), Keyring.open(tmp_path / "other")
    one.holder("shop-1")
    other.holder("shop-1")
    _holder_file(tmp_path / "one").replace(_holder_file(tmp_path / "other"))
    with pytest.raises(KeyringError, match="same backup"):
        Keyring.open(tmp_path / "other").holder("shop-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"format": 2}',
        b"\xff\xfe",
        b'{"format": 2, "protection": {"kind": "none"}, "keys": "e30="}',
    ],
)
def test_a_damaged_key_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    """Whatever a key file was overwritten with, the error names the file and asks for its backup."""
    folder = tmp_path / "keys"
    Keyring.open(folder).holder("shop-1")
    _holder_file(folder).write_bytes(content)
    with pytest.raises(KeyringError, match="backup"):
        Keyring.open(folder).holder("shop-1")
    (folder / KEY_FILE_NAME).write_bytes(content)
    with pytest.raises(KeyringError, match="backup"):
        Keyring.open(folder)


@pytest.mark.parametrize(("form", "advice"), [(1, "new run folder"), (3, "update fedrank")])
def test_a_key_file_of_another_format_is_refused(tmp_path: Path, form: int, advice: str) -> None:
    """A format of the past or future is named, with what to do, instead of being called damage."""
    folder = tmp_path / "keys"
    Keyring.open(folder).holder("shop-1")
    for file in (_holder_file(folder), folder / KEY_FILE_NAME):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": form}))
        with pytest.raises(KeyringError, match=f"format {form}.*{advice}"):
            Keyring.open(folder).holder("shop-1")


def test_a_lost_database_of_keys_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """An empty one would open no row, and would have forgotten what the ledger has spent."""
    folder = tmp_path / "keys"
    Keyring.open(folder).holder("shop-1")
    (folder / DATABASE_NAME).unlink()
    with pytest.raises(KeyringError, match="restore the whole keyring"):
        Keyring.open(folder).holder("shop-1").data_keys.newest(["0" * 32])
    assert not (folder / DATABASE_NAME).exists()


@pytest.mark.parametrize("lost", ["holder-*.json", "ledger.json", "kms.key *.json"])
def test_lost_key_files_are_not_replaced_where_the_database_of_keys_knows_them(
    tmp_path: Path, lost: str
) -> None:
    """New secrets would give every shopper a new pseudonym, and so spent budget back; nothing is made."""
    folder = tmp_path / "keys"
    with closing(Keyring.open(folder)) as keyring:
        keyring.holder("shop-1").data_keys.newest(["0" * 32])
        keyring.anchor.remember(LedgerHead(ledger="a" * 32, releases=1, head=bytes(32)))
    gone = [file for pattern in lost.split() for file in folder.glob(pattern)]
    for file in gone:
        file.unlink()
    with pytest.raises(KeyringError, match=r"is lost.*restore the whole keyring"):
        _ = [(keyring := Keyring.open(folder)).holder("shop-1"), keyring.anchor]
    assert gone
    assert not any(file.exists() for file in gone)


def test_the_holders_of_a_keyring_are_known_by_name(tmp_path: Path) -> None:
    """Sorted, whatever characters their names have."""
    keyring = Keyring.open(tmp_path / "keys")
    assert keyring.holders() == ()
    for name in ("shop ü", "devices", "../x"):
        keyring.holder(name)
    assert keyring.holders() == ("../x", "devices", "shop ü")


def test_nothing_is_created_where_that_was_not_allowed(tmp_path: Path) -> None:
    """A reader with a wrong path or an unknown holder gets an error instead of fresh keys."""
    with pytest.raises(KeyringError, match="no keyring folder"):
        Keyring.open(tmp_path / "keys", create=False)
    Keyring.open(tmp_path / "keys")
    with pytest.raises(KeyringError, match="'shop-9'"):
        Keyring.open(tmp_path / "keys", create=False).holder("shop-9")
    assert {file.name for file in (tmp_path / "keys").iterdir()} == {KEY_FILE_NAME, DATABASE_NAME}


def test_a_folder_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path through a file, and a disk without space: the error names the place, and nothing half-made is left."""
    (tmp_path / "file").touch()
    with pytest.raises(KeyringError, match="cannot be made"):
        Keyring.open(tmp_path / "file" / "keys")
    keyring = Keyring.open(tmp_path / "keys")

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("privacy.key_files.os.fsync", no_space)
    with pytest.raises(KeyringError, match="No space left"):
        keyring.holder("shop-1")
    assert not [file.name for file in (tmp_path / "keys").iterdir() if "holder" in file.name]
    monkeypatch.undo()
    assert keyring.holder("shop-1")


def test_no_secret_is_shown_by_printing_keys(tmp_path: Path) -> None:
    """The representation of a holder's keys names the holder alone."""
    assert repr(Keyring.open(tmp_path / "keys").holder("shop-1")) == "HolderKeys('shop-1')"


def _pseudonyms_of_ten(folder: Path, found: "multiprocessing.Queue[list[str]]") -> None:
    keyring = Keyring.open(folder)
    found.put([keyring.holder(f"shop-{number}").pseudonymiser.of("x") for number in range(10)])


def test_processes_that_create_a_keyring_at_once_agree_on_its_keys(tmp_path: Path) -> None:
    """Four processes race for an absent keyring and ten holders; all end with the same keys."""
    found = _processes.Queue()
    processes = [
        _processes.Process(target=_pseudonyms_of_ten, args=(tmp_path / "keys", found)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    answers = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert all(answer == answers[0] for answer in answers)
    assert len(list((tmp_path / "keys").glob("holder-*"))) == 10
