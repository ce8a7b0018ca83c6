"""A holder's wrapping secrets: numbered, the newest in use, and looked up again when a number is unknown."""

from collections.abc import Callable, Mapping

from privacy.cipher import KeyWrap, key_id_of, sub_key
from privacy.errors import DecryptionError, UnknownKeyVersion


class WrappingKeys:
    """Wraps and unwraps data keys under a holder's secrets; during a rotation there are several."""

    def __init__(self, secrets: Mapping[int, bytes], reload: Callable[[], Mapping[int, bytes]]) -> None:
        """Take the secrets by number, and how to get them anew after another process has changed them."""
        self._reload = reload
        self._ciphers = _ciphers(secrets)

    @property
    def newest(self) -> int:
        """The highest number that is known here."""
        return max(self._ciphers)

    def cipher(self, number: int) -> KeyWrap:
        """Return the cipher under secret `number`; `UnknownKeyVersion` if the holder's file has none either."""
        if number not in self._ciphers:
            self._ciphers = _ciphers(self._reload())
        try:
            return self._ciphers[number]
        except KeyError:
            raise UnknownKeyVersion(
                f"a data key was wrapped by secret {number} of its holder, and the keyring has "
                f"{', '.join(map(str, sorted(self._ciphers)))}; restore the whole keyring from one backup"
            ) from None

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the key inside `wrapped`, or raise `DecryptionError`."""
        return self.cipher(key_id_of(wrapped)).open(wrapped, aad)

    def opened(self, wrapped: bytes, aad: bytes) -> bytes | None:
        """Return the key inside `wrapped`, or None if it is damaged, moved, or another holder's."""
        try:
            return self.unwrap(wrapped, aad)
        except DecryptionError:
            return None


def _ciphers(secrets: Mapping[int, bytes]) -> dict[int, KeyWrap]:
    return {number: KeyWrap(sub_key(secret, "data key wrap"), number) for number, secret in secrets.items()}
