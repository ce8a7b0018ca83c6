"""What there is in a keyring, for whoever keeps it: numbers and versions, never a key."""

from dataclasses import dataclass

from privacy.keyring import Keyring
from privacy.secret_files import SecretFile


@dataclass(frozen=True, kw_only=True)
class HolderStatus:
    """The keys of one holder.

    Attributes:
        wrapping_secrets: one, or several while a rotation of that layer is unfinished.
        shoppers, data_keys: how many shoppers have keys here, and how many keys they have.
        generation: how often the data keys were rotated, plus one.
        older_data_keys: how many are of an older generation; a rotation that is unfinished leaves some.
    """

    holder: str
    wrapping_secrets: int
    shoppers: int
    data_keys: int
    generation: int
    older_data_keys: int


@dataclass(frozen=True, kw_only=True)
class KeyringStatus:
    """A keyring: how its key-encryption key is protected, that key's versions, its holders."""

    folder: str
    protection: str
    kek_versions: tuple[int, ...]
    holders: tuple[HolderStatus, ...]

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What a rotation left to be finished, in words."""
        kek = ["the key-encryption key"] * (len(self.kek_versions) > 1)
        wrapping = [
            f"the wrapping secret of {one.holder}" for one in self.holders if one.wrapping_secrets > 1
        ]
        data = [f"the data keys of {one.holder}" for one in self.holders if one.older_data_keys]
        return (*kek, *wrapping, *data)


def status_of(keyring: Keyring) -> KeyringStatus:
    """Look at a keyring. Raises `KeyringError` if a file does not open."""
    return KeyringStatus(
        folder=str(keyring.folder),
        protection=keyring.kms.protection,
        kek_versions=keyring.kms.versions(),
        holders=tuple(_holder(keyring, holder) for holder in keyring.holders()),
    )


def _holder(keyring: Keyring, holder: str) -> HolderStatus:
    data_keys = keyring.holder(holder).data_keys
    counts, secrets = data_keys.counts(), SecretFile.of_holder(keyring.folder, holder).load(keyring.kms)
    return HolderStatus(
        holder=holder,
        wrapping_secrets=len(secrets.wrapping) if secrets else 0,
        shoppers=counts.shoppers,
        data_keys=counts.keys,
        generation=data_keys.newest_generation(),
        older_data_keys=counts.behind,
    )
