"""The keys of one holder: who keeps a shopper's events, a merchant or the devices.

Each holder has two kinds of secrets of 256 bits: the identity, from which pseudonyms, blind indexes and signatures
come and which never changes, and numbered wrapping secrets, which wrap the shoppers' data keys. What is used is never
a secret itself but a sub-key derived from it under its own label.
"""

import hmac
import os
from typing import Final

from privacy.cipher import sub_key
from privacy.data_keys import DataKeys
from privacy.pseudonyms import Pseudonymiser
from privacy.receipts import Signer

_BLIND_INDEX_BYTES: Final = 16
_SALT_BYTES: Final = 16


class HolderKeys:
    """The keys of one holder; the secrets stay inside and no method shows them."""

    def __init__(self, holder_id: str, identity: bytes, data_keys: DataKeys) -> None:
        """Derive the sub-keys of `holder_id` from its identity of 32 bytes."""
        self.holder_id = holder_id
        self.data_keys = data_keys
        self.pseudonymiser = Pseudonymiser(sub_key(identity, "pseudonym"))
        self._blind_key = sub_key(identity, "blind index")
        self._check_key = sub_key(identity, "key check")
        self.signer = Signer(sub_key(identity, "signature"))

    def blind_index(self, value: str) -> bytes:
        """Return 16 bytes that find `value` again and do not reveal it; only for values nobody can guess."""
        return hmac.digest(self._blind_key, value.encode(), "sha256")[:_BLIND_INDEX_BYTES]

    def new_check(self) -> bytes:
        """Return bytes by which these keys are known again; no two are alike, and a rotation changes nothing."""
        salt = os.urandom(_SALT_BYTES)
        return salt + self._tag(salt)

    def passes_check(self, check: bytes) -> bool:
        """Tell whether `check` was made by this holder's keys."""
        salt, tag = check[:_SALT_BYTES], check[_SALT_BYTES:]
        return hmac.compare_digest(tag, self._tag(salt))

    def _tag(self, salt: bytes) -> bytes:
        return hmac.digest(self._check_key, salt, "sha256")

    def __repr__(self) -> str:
        """Name the holder and nothing else."""
        return f"HolderKeys({self.holder_id!r})"
