"""The local key-encryption key: versions, what protects it, and what is said when it does not open."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import DecryptionError, KeyringError, KmsUnavailable, UnknownKeyVersion, WrongPassphrase
from privacy.keyring import Keyring
from privacy.kms import KEY_FILE_NAME, KeyFile, Passphrase, Pkcs11Token, Unlock, Unprotected, unlock_from
from privacy.kms_local import LocalFileKms

_TEXT = "correct horse battery staple"
_SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess costs little here; the real cost is checked by name."""
    monkeypatch.setattr("privacy.kms_lock.SCRYPT_COST", 2**10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the key file lies."""
    (tmp_path / "keys").mkdir(mode=0o700)
    return tmp_path / "keys" / KEY_FILE_NAME


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key file on another medium."""
    file = tmp_path / "medium.key"
    file.write_bytes(os.urandom(32))
    file.chmod(0o600)
    return file


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=20), st.data())
def test_what_is_wrapped_opens_in_its_own_place_only(
    tmp_path_factory: pytest.TempPathFactory, key: bytes, aad: bytes, data: st.DataObject
) -> None:
    """Not with other associated data, and not with any bit flipped, the version in the header included."""
    kms = LocalFileKms.create(tmp_path_factory.getbasetemp() / KEY_FILE_NAME, Unprotected())
    wrapped = bytearray(kms.wrap(key, aad))
    assert kms.unwrap(bytes(wrapped), aad) == key
    with pytest.raises(DecryptionError):
        kms.unwrap(bytes(wrapped), aad + b"x")
    bit = data.draw(st.integers(0, 8 * len(wrapped) - 1))
    wrapped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        kms.unwrap(bytes(wrapped), aad)


def test_a_version_opens_until_it_is_destroyed_and_another_process_sees_it_all(path: Path) -> None:
    """The newest version wraps; what an unknown one wrapped is looked for in the file before it is refused."""
    kms, other = LocalFileKms.create(path, Unprotected()), LocalFileKms(path, Unprotected())
    old = other.wrap(_SECRET, b"")
    assert kms.rotate() == 2
    new = other.wrap(_SECRET, b"")
    assert (old[4], new[4]) == (1, 2)
    assert kms.unwrap(old, b"") == kms.unwrap(new, b"") == _SECRET
    kms.destroy(1)
    kms.destroy(1)
    assert kms.versions() == other.versions() == (2,)
    with pytest.raises(UnknownKeyVersion, match="version 1"):
        other.unwrap(old, b"")
    with pytest.raises(KeyringError, match="in use"):
        kms.destroy(2)


def test_a_destroyed_version_is_overwritten_where_it_lay(path: Path) -> None:
    """The file that was replaced holds zeros, whoever still has it open; nothing is left beside."""
    kms = LocalFileKms.create(path, Unprotected())
    with path.open("rb") as before:
        kms.rotate()
        kms.destroy(1)
        assert set(before.read()) == {0}
    assert [file.name for file in path.parent.iterdir()] == [KEY_FILE_NAME]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_passphrase_or_key_file_opens_what_it_protects(path: Path, key_file: Path) -> None:
    """From one protection to the next, in any order; the keys stay the same and are in the file as ciphertext."""
    kms = LocalFileKms.create(path, Unprotected())
    wrapped = kms.wrap(_SECRET, b"")
    plain = json.loads(path.read_bytes())["keys"]
    for unlock in (Passphrase(text=_TEXT), KeyFile(path=key_file), Passphrase(text=_TEXT + "!")):
        kms.protect(unlock)
        kms = LocalFileKms(path, unlock)
        assert kms.unwrap(wrapped, b"") == _SECRET
        assert plain not in path.read_text()
        assert "not encrypted" not in kms.protection
    kms.protect(Unprotected())
    assert "not encrypted" in LocalFileKms(path, Unprotected()).protection


def test_a_wrong_passphrase_or_key_file_is_one_clear_error(path: Path, key_file: Path) -> None:
    """Neither opens what another one protects, and the error repeats neither."""
    LocalFileKms.create(path, Passphrase(text=_TEXT)).rotate()
    with pytest.raises(WrongPassphrase, match="wrong one, or the file is damaged") as refusal:
        LocalFileKms(path, Passphrase(text="another passphrase"))
    assert "another" not in str(refusal.value)
    LocalFileKms(path, Passphrase(text=_TEXT)).protect(KeyFile(path=key_file))
    key_file.write_bytes(os.urandom(32))
    with pytest.raises(WrongPassphrase, match="key file"):
        LocalFileKms(path, KeyFile(path=key_file))


def test_changed_parameters_of_a_protected_file_are_refused(path: Path) -> None:
    """A weaker or endless derivation that somebody wrote into the file is not carried out."""
    LocalFileKms.create(path, Passphrase(text=_TEXT))
    record = json.loads(path.read_bytes())
    for change in ({"n": 2**9}, {"n": 2**30}, {"r": 1}, {"salt": "AAAA"}):
        path.write_text(json.dumps(record | {"protection": record["protection"] | change}))
        with pytest.raises(KeyringError, match="damaged"):
            LocalFileKms(path, Passphrase(text=_TEXT))


def test_a_protection_that_is_not_given_is_asked_for(path: Path, key_file: Path) -> None:
    """A protected file never opens without, and a plain one is not taken for a protected one."""
    LocalFileKms.create(path, Passphrase(text=_TEXT))
    for unlock in (Unprotected(), KeyFile(path=key_file)):
        with pytest.raises(KmsUnavailable, match="FEDRANK_PASSPHRASE_FILE"):
            LocalFileKms(path, unlock)
    LocalFileKms(path, Passphrase(text=_TEXT)).protect(Unprotected())
    with pytest.raises(KmsUnavailable, match="keys protect"):
        LocalFileKms(path, Passphrase(text=_TEXT))


def _lost(file: Path) -> None:
    file.unlink()


def _exposed(file: Path) -> None:
    file.chmod(0o644)


def _short(file: Path) -> None:
    file.write_bytes(b"x" * 31)


@pytest.mark.parametrize(
    ("damage", "words"), [(_lost, "no key file at"), (_exposed, "chmod 0600"), (_short, "31 bytes")]
)
def test_a_key_file_that_is_gone_exposed_or_short_is_named(
    path: Path, key_file: Path, damage: Callable[[Path], None], words: str
) -> None:
    """The error names the file and what to do."""
    LocalFileKms.create(path, KeyFile(path=key_file))
    damage(key_file)
    with pytest.raises(KeyringError, match=words):
        LocalFileKms(path, KeyFile(path=key_file))


def test_what_protects_nothing_is_refused_when_it_is_chosen(path: Path) -> None:
    """A passphrase that can be guessed, and a key file in the folder that it is to protect."""
    with pytest.raises(KeyringError, match="12 or more"):
        LocalFileKms.create(path, Passphrase(text="12345678901"))
    beside = path.with_name("my.key")
    beside.write_bytes(os.urandom(32))
    beside.chmod(0o600)
    with pytest.raises(KeyringError, match="another medium"):
        LocalFileKms.create(path, KeyFile(path=beside))
    assert not path.exists()


def test_scrypt_costs_a_guess_a_hundred_megabytes() -> None:
    """N = 2^17 with blocks of 1 KiB, whatever this file's tests use."""
    from privacy import kms_lock

    source = Path(str(kms_lock.__file__)).read_text(encoding="utf-8")
    assert "SCRYPT_COST: Final = 2**17\n" in source


def test_the_environment_says_how_a_keyring_is_opened(tmp_path: Path, key_file: Path) -> None:
    """One way only; a secret comes from a variable or a private file."""
    word = tmp_path / "word"
    word.write_text(_TEXT + "\n")
    word.chmod(0o600)
    assert unlock_from({}) == Unprotected()
    assert unlock_from({"FEDRANK_PASSPHRASE": _TEXT}) == Passphrase(text=_TEXT)
    assert unlock_from({"FEDRANK_PASSPHRASE_FILE": str(word)}) == Passphrase(text=_TEXT)
    assert unlock_from({"FEDRANK_KEY_FILE": str(key_file)}) == KeyFile(path=key_file)
    token = {"FEDRANK_PKCS11_MODULE": "/lib/x.so", "FEDRANK_PKCS11_TOKEN": "t"}
    expected = Pkcs11Token(module=Path("/lib/x.so"), token="t", pin=_TEXT)
    assert unlock_from(token | {"FEDRANK_PKCS11_PIN_FILE": str(word)}) == expected
    assert _TEXT not in repr(expected) + repr(Passphrase(text=_TEXT))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"FEDRANK_PASSPHRASE": "x", "FEDRANK_KEY_FILE": "y"},
            "several ways.*FEDRANK_PASSPHRASE, FEDRANK_KEY_FILE",
        ),
        ({"FEDRANK_PASSPHRASE": "x", "FEDRANK_PASSPHRASE_FILE": "y"}, "both set"),
        ({"FEDRANK_PASSPHRASE_FILE": "nowhere/x"}, "no such file"),
        ({"FEDRANK_PASSPHRASE_FILE": "{empty}"}, "holds no text"),
        ({"FEDRANK_PKCS11_MODULE": "x"}, "FEDRANK_PKCS11_TOKEN"),
        ({"FEDRANK_PKCS11_MODULE": "x", "FEDRANK_PKCS11_TOKEN": "y"}, "FEDRANK_PKCS11_PIN"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    """The error names the variable."""
    empty = tmp_path / "empty"
    empty.touch(0o600)
    filled = {name: value.replace("{empty}", str(empty)) for name, value in environment.items()}
    with pytest.raises(KmsUnavailable, match=words):
        unlock_from(filled)


def test_a_keyring_that_is_open_goes_on_when_its_protection_is_gone(path: Path, key_file: Path) -> None:
    """Keys that are in use stay in use; what is not open yet stays closed."""
    unlock: Unlock = KeyFile(path=key_file)
    folder = path.parent
    keyring = Keyring.open(folder, unlock=unlock)
    keys = keyring.holder("shop-1")
    key_file.unlink()
    assert keys.data_keys.newest(["0" * 32])
    with pytest.raises(KmsUnavailable):
        Keyring.open(folder, unlock=unlock)
    keyring.close()
