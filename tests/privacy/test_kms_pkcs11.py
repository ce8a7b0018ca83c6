"""A key-encryption key in a PKCS#11 token, shown on SoftHSM: it wraps, rotates, and never falls back to a file."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.errors import DecryptionError, KeyringError, KmsUnavailable, UnknownKeyVersion
from privacy.key_rotation import one_rotation, rotate_kek, rotate_wrapping
from privacy.keyring import Keyring
from privacy.kms import KEY_FILE_NAME, Passphrase, Pkcs11Token, Unlock, Unprotected
from privacy.kms_opening import change_protection
from privacy.kms_pkcs11 import Pkcs11Kms

_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
_PIN = "648219"
_SECRET = bytes(range(32))


def _module() -> Path | None:
    return next((Path(name) for name in _MODULES if Path(name).is_file()), None)


def _reason_to_skip() -> str | None:
    if importlib.util.find_spec("pkcs11") is None:
        return "python-pkcs11 is not installed; run: pip install 'fedrank[pkcs11]'"
    if _module() is None or shutil.which("softhsm2-util") is None:
        return "SoftHSM is not installed; run: apt-get install softhsm2"
    return None


pytestmark = pytest.mark.skipif(_reason_to_skip() is not None, reason=str(_reason_to_skip()))


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pkcs11Token]:
    """A real token in a temporary folder."""
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    command = [
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        "fedrank-test",
        "--pin",
        _PIN,
        "--so-pin",
        "0000",
    ]
    subprocess.run(command, check=True, capture_output=True)
    yield Pkcs11Token(module=_module() or Path(), token="fedrank-test", pin=_PIN)
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the keyring lies."""
    return tmp_path / "keys"


def test_a_keyring_in_a_token_opens_again_and_holds_no_key_of_it(token: Pkcs11Token, folder: Path) -> None:
    """The file names the token and the key's label; the secrets of holders come back."""
    keyring = Keyring.open(folder, unlock=token)
    pseudonym = keyring.holder("shop-1").pseudonymiser.of("x")
    made = keyring.holder("shop-1").data_keys.newest(["0" * 32])
    again = Keyring.open(folder, unlock=token)
    assert again.holder("shop-1").pseudonymiser.of("x") == pseudonym
    assert again.holder("shop-1").data_keys.newest(["0" * 32]) == made
    record = json.loads((folder / KEY_FILE_NAME).read_bytes())
    assert set(record["protection"]) == {"kind", "token", "label"}
    assert set(record) == {"format", "protection"}
    assert "never leaves" in again.kms.protection
    assert _PIN not in repr(token)


def test_the_key_cannot_be_read_out_of_the_token(token: Pkcs11Token, folder: Path) -> None:
    """The object is sensitive and not extractable, so the token refuses its value."""
    import pkcs11
    from pkcs11 import Attribute

    Keyring.open(folder, unlock=token)
    label = json.loads((folder / KEY_FILE_NAME).read_bytes())["protection"]["label"]
    with pkcs11.lib(str(token.module)).get_token(token_label=token.token).open(user_pin=_PIN) as session:
        (key,) = session.get_objects({Attribute.LABEL: label})
        assert key[Attribute.EXTRACTABLE] is False
        assert key[Attribute.SENSITIVE] is True
        with pytest.raises(pkcs11.AttributeSensitive):
            _ = key[Attribute.VALUE]


def test_what_the_token_wraps_is_bound_to_its_place(token: Pkcs11Token, folder: Path) -> None:
    """No flipped bit and no other place opens; the tag is 16 bytes and the nonce is never the same."""
    kms = Keyring.open(folder, unlock=token).kms
    wrapped = kms.wrap(_SECRET, b"place")
    assert kms.unwrap(wrapped, b"place") == _SECRET
    assert len(wrapped) == 5 + 12 + 32 + 16
    assert wrapped[5:17] != kms.wrap(_SECRET, b"place")[5:17]
    with pytest.raises(DecryptionError):
        kms.unwrap(wrapped, b"elsewhere")
    for place in (0, 3, 5, 17, 40, len(wrapped) - 1):
        flipped = bytearray(wrapped)
        flipped[place] ^= 1
        with pytest.raises(DecryptionError):
            kms.unwrap(bytes(flipped), b"place")
    with pytest.raises(DecryptionError):
        kms.unwrap(wrapped[:20], b"place")
    with pytest.raises(DecryptionError):
        kms.unwrap(wrapped[:5] + AESGCM(bytes(32)).encrypt(bytes(12), _SECRET, None), b"place")


def test_versions_in_a_token_rotate_and_are_destroyed(token: Pkcs11Token, folder: Path) -> None:
    """Another process wraps under the new version at once; what a destroyed one wrapped is gone."""
    kms, other = Keyring.open(folder, unlock=token).kms, Keyring.open(folder, unlock=token).kms
    old = other.wrap(_SECRET, b"")
    assert kms.rotate() == 2
    assert other.versions() == (1, 2)
    assert other.wrap(_SECRET, b"")[4] == 2
    assert kms.unwrap(old, b"") == _SECRET
    kms.destroy(1)
    kms.destroy(1)
    with pytest.raises(UnknownKeyVersion):
        other.unwrap(old, b"")
    with pytest.raises(KeyringError, match="in use"):
        kms.destroy(2)


def test_a_keyring_in_a_token_is_rotated_like_any_other(token: Pkcs11Token, folder: Path) -> None:
    """Both upper layers; data keys and pseudonyms stay what they were."""
    keyring = Keyring.open(folder, unlock=token)
    pseudonym = keyring.holder("shop-1").pseudonymiser.of("x")
    made = keyring.holder("shop-1").data_keys.newest(["0" * 32])
    with one_rotation(folder):
        assert rotate_kek(keyring) == 1
        assert rotate_wrapping(keyring, "shop-1", pace=0.0) == 1
    assert keyring.kms.versions() == (2,)
    again = Keyring.open(folder, unlock=token).holder("shop-1")
    assert again.pseudonymiser.of("x") == pseudonym
    assert again.data_keys.newest(["0" * 32]) == made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": Path("/nowhere/module.so")}, "FEDRANK_PKCS11_MODULE"),
        ({"module": Path(__file__)}, "FEDRANK_PKCS11_MODULE"),
        ({"token": "another"}, "bring the token"),
        ({"pin": "999999"}, "refuses the PIN"),
    ],
)
def test_a_token_that_cannot_be_used_is_one_clear_error(
    token: Pkcs11Token, folder: Path, change: dict[str, object], words: str
) -> None:
    """Module, token or PIN: each is named, and the PIN is never shown."""
    Keyring.open(folder, unlock=token)
    told = {"module": token.module, "token": token.token, "pin": token.pin} | change
    wrong = Pkcs11Token(**told)  # type: ignore[arg-type]
    with pytest.raises(KmsUnavailable, match=words) as refusal:
        Keyring.open(folder, unlock=wrong)
    assert wrong.pin not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_token_that_is_absent_is_named(token: Pkcs11Token, folder: Path) -> None:
    """For a new keyring, nothing is made anywhere else instead."""
    absent = Pkcs11Token(module=token.module, token="not-plugged-in", pin=_PIN)
    with pytest.raises(KmsUnavailable, match=r"no token 'not-plugged-in'.*plug it in"):
        Keyring.open(folder, unlock=absent)
    assert not (folder / KEY_FILE_NAME).exists()


def test_a_token_that_lost_the_key_is_named(token: Pkcs11Token, folder: Path) -> None:
    """A token that was set up anew has the name but not the key; no new one is made."""
    Keyring.open(folder, unlock=token).holder("shop-1")
    record = json.loads((folder / KEY_FILE_NAME).read_bytes())
    record["protection"]["label"] = "fedrank-0000000000000000"
    (folder / KEY_FILE_NAME).write_text(json.dumps(record))
    with pytest.raises(KeyringError, match=r"has no key.*restore the token"):
        Keyring.open(folder, unlock=token)


@pytest.mark.parametrize("unlock", [Unprotected(), Passphrase(text="correct horse battery staple")])
def test_nothing_falls_back_to_a_file(token: Pkcs11Token, folder: Path, unlock: Unlock) -> None:
    """Without the token's variables the keyring stays closed, and cannot be turned into a file."""
    keyring = Keyring.open(folder, unlock=token)
    with pytest.raises(KmsUnavailable, match="FEDRANK_PKCS11_MODULE"):
        Keyring.open(folder, unlock=unlock)
    with pytest.raises(KmsUnavailable, match="neither leaves"):
        change_protection(keyring.kms, unlock)


def test_processes_that_make_a_keyring_at_once_agree_on_one_key_in_the_token(
    token: Pkcs11Token, folder: Path
) -> None:
    """Who comes second takes the file that is there and removes the key that it had made."""
    first = Keyring.open(folder, unlock=token).kms
    second = Pkcs11Kms.create(folder / KEY_FILE_NAME, token)
    assert second.unwrap(first.wrap(_SECRET, b""), b"") == _SECRET
    assert second.versions() == (1,)
