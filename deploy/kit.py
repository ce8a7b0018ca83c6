"""Opens a kit, the folder with which one process of a federation starts: absolute paths, a verified manifest.

A kit is read-only but for its data folder, which is laid out like a run folder: store/, keys/, ledger.db, registry/
and catalogue.parquet. A private key is a file of mode 0600, and is read by whoever needs it, not here.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.errors import KitError, KitIncomplete
from deploy.federation_model import Address
from deploy.kit_files import write_public
from privacy.canonical import Scalar
from privacy.certificate_authority import AUTHORITY, REVOKED
from privacy.errors import PrivacyError
from privacy.federation_identity import MANIFEST, MANIFEST_SIGNATURE
from privacy.federation_manifest import DECLARED, FederationManifest, verify_manifest

KIT, CATALOGUE = "kit.toml", "catalogue.parquet"
NODE_KEY, NODE, COORDINATOR_KEY, COORDINATOR = "node.key", "node.pem", "coordinator.key", "coordinator.pem"
TLS, TLS_KEY, CALLERS, CALLERS_REVOKED, POLICY = (
    "tls.pem",
    "tls.key",
    "callers.pem",
    "callers-revoked.pem",
    "policy.toml",
)
NEXT_KEY, REQUEST = "node.next.key", "node.csr"
"""At the merchant's: a key that waits for its certificate, and what the operator signs."""
MEMBERS: Final = "members"
SIGNERS: Final = "registry/signers.pem"
"""In the data folder: certificates whose signatures on model versions count."""
DATA_VARIABLE: Final = "FEDRANK_DATA"
"""Environment variable that names another data folder, for containers whose kit is mounted read-only."""


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What all kits have.

    Attributes:
        federation: the manifest, its signature verified against `authority`.
        address: where the coordinator is reached.
        authority, revoked: PEM files of the federation's authority and of its revocation list.
        catalogue: the public items of all merchants, in the order of the model's indices.
        manifest, manifest_signature: the signed bytes and the signature.
        coordinator_certificate: PEM file of the coordinator's certificate, whose key signs rounds and versions.
        data: store, keys, ledger and registry, laid out like a run folder.
    """

    folder: Path
    federation: FederationManifest
    address: Address
    authority: Path
    revoked: Path
    catalogue: Path
    manifest: Path
    manifest_signature: Path
    coordinator_certificate: Path
    data: Path

    @property
    def settings(self) -> dict[str, Scalar]:
        """Words of a run that all agreed to."""
        return {
            word: value for word, value in self.federation.settings.items() if not word.startswith(DECLARED)
        }

    @property
    def declared_shoppers(self) -> dict[str, int]:
        """Public number of shoppers of each merchant; it bounds what that merchant may add to a sum."""
        return self.federation.declared_shoppers

    def lay_out_data(self) -> None:
        """Make the data folder, and let its items and its list of signers be those of the kit; keep all else."""
        for folder in (self.data, self.data / "store", self.data / "registry"):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise KitError(
                    f"the data folder {folder} cannot be made ({error.strerror}); give this user a folder there that "
                    "it may write to, or name another as `data` in kit.toml"
                ) from error
        _copy(self.catalogue, self.data / CATALOGUE)
        _copy(self.coordinator_certificate, self.data / SIGNERS)


@dataclass(frozen=True, kw_only=True)
class CoordinatorKit(Kit):
    """The coordinator's kit.

    Attributes:
        key: of the coordinator's certificate, PEM, mode 0600.
        tls_certificate, tls_key: PEM files of the port that merchants reach.
        members: folder with the certificate of every merchant's node, ID.pem; followed as it changes.
    """

    key: Path
    tls_certificate: Path
    tls_key: Path
    members: Path


@dataclass(frozen=True, kw_only=True)
class MerchantKit(Kit):
    """A merchant's kit; `key` (PEM, mode 0600) and `certificate` are its node's."""

    merchant: str
    key: Path
    certificate: Path


@dataclass(frozen=True, kw_only=True)
class ServingKit(Kit):
    """The kit of a merchant's ranking endpoint.

    Attributes:
        tls_certificate, tls_key: PEM files of the endpoint.
        callers, callers_revoked: authority that issues callers' certificates, and its revocation list.
        policy: knobs of the surfaces.
        listen: where the endpoint is reached.
    """

    merchant: str
    tls_certificate: Path
    tls_key: Path
    callers: Path
    callers_revoked: Path
    policy: Path
    listen: Address


def open_kit(folder: Path, *, keyed: bool = True) -> CoordinatorKit | MerchantKit | ServingKit:
    """Open the kit in `folder`.

    Args:
        keyed: False opens a kit whose key and certificate are not there yet, because the merchant makes them itself.

    Raises:
        KitError: there is no kit, a file of it is missing, or its catalogue or manifest is not the signed one.
    """
    place = folder.resolve()
    words = _words(place)
    kind = words.get("kind")
    if kind not in _KINDS:
        raise KitError(f"kind in {place / KIT} is {kind!r}; it must be one of {', '.join(_KINDS)}")
    kit = _KINDS[kind](words, _common(place, words))
    _check(kit, keyed=keyed)
    return kit


def _words(place: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((place / KIT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KitError(
            f"{place} is no kit: its {KIT} cannot be read ({type(error).__name__}); name the folder that "
            "`fedrank provision` wrote"
        ) from error


def _common(place: Path, words: Mapping[str, Any]) -> dict[str, Any]:
    named = ("authority", AUTHORITY), ("revoked", REVOKED), ("catalogue", CATALOGUE), ("manifest", MANIFEST)
    files = {name: place / file for name, file in named}
    data = os.environ.get(DATA_VARIABLE) or _text(place, words, "data")
    return {
        **files,
        "folder": place,
        "manifest_signature": place / MANIFEST_SIGNATURE,
        "coordinator_certificate": place / COORDINATOR,
        "address": Address.read(_text(place, words, "coordinator"), f"coordinator in {place / KIT}"),
        "federation": _manifest(place),
        "data": (place / data).resolve(),
    }


def _manifest(place: Path) -> FederationManifest:
    files = place / MANIFEST, place / MANIFEST_SIGNATURE, place / AUTHORITY
    try:
        return verify_manifest(*(file.read_bytes() for file in files))
    except (OSError, PrivacyError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, OSError) else str(error)
        raise KitError(
            f"the manifest of the kit {place} cannot be trusted: {reason}; ask for a new kit"
        ) from error


def _coordinator(_words: Mapping[str, Any], common: Mapping[str, Any]) -> CoordinatorKit:
    place = common["folder"]
    return CoordinatorKit(
        **common,
        key=place / COORDINATOR_KEY,
        tls_certificate=place / TLS,
        tls_key=place / TLS_KEY,
        members=place / MEMBERS,
    )


def _merchant(words: Mapping[str, Any], common: Mapping[str, Any]) -> MerchantKit:
    place = common["folder"]
    merchant = _text(place, words, "merchant")
    return MerchantKit(**common, merchant=merchant, key=place / NODE_KEY, certificate=place / NODE)


def _serving(words: Mapping[str, Any], common: Mapping[str, Any]) -> ServingKit:
    place = common["folder"]
    return ServingKit(
        **common,
        merchant=_text(place, words, "merchant"),
        listen=Address.read(_text(place, words, "listen"), f"listen in {place / KIT}"),
        tls_certificate=place / TLS,
        tls_key=place / TLS_KEY,
        callers=place / CALLERS,
        callers_revoked=place / CALLERS_REVOKED,
        policy=place / POLICY,
    )


_KINDS: Final[
    dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], CoordinatorKit | MerchantKit | ServingKit]]
] = {"coordinator": _coordinator, "merchant": _merchant, "serving": _serving}


def _text(place: Path, words: Mapping[str, Any], name: str) -> str:
    value = words.get(name)
    if not isinstance(value, str) or not value:
        raise KitError(f"{name} in {place / KIT} is {value!r}; it must be a text")
    return value


def _check(kit: Kit, *, keyed: bool) -> None:
    """Every file is there, and the catalogue is the one that the authority signed."""
    keys = ("key", "certificate", "tls_key", "tls_certificate", "callers", "callers_revoked") if keyed else ()
    for name in ("revoked", "catalogue", "coordinator_certificate", *keys):
        path = getattr(kit, name, None)
        if path is not None and not path.is_file():
            raise KitIncomplete(f"the kit {kit.folder} lacks {path.name}", _step(kit.folder, path.name))
    if (found := digest_of_file(kit.catalogue)) != kit.federation.catalogue_hash:
        raise KitError(
            f"{kit.catalogue} has SHA-256 {found[:16]}..., the signed manifest names "
            f"{kit.federation.catalogue_hash[:16]}...; copy both files from the same kit"
        )


def _step(folder: Path, missing: str) -> str:
    """Return what brings a missing file; a node's key made at its site waits beside it for its certificate."""
    if missing == NODE_KEY and not (folder / NEXT_KEY).exists():
        return f"make one with `fedrank merchant request {folder}`, and send {REQUEST} to the operator"
    return _NEXT.get(missing, "ask for a new kit").format(folder=folder)


_INSTALL: Final = (
    f"send {REQUEST} to the operator, who signs it with `fedrank merchant approve`, and put in place what comes back "
    "with `fedrank merchant install {folder} FILE`"
)
_NEXT: Final = {
    NODE_KEY: f"its certificate has been requested and is not here yet: {_INSTALL}",
    NODE: _INSTALL,
    TLS: "make a pair with `fedrank certificates make`, and copy server.pem to tls.pem and server.key to tls.key",
    CALLERS: "copy ca.pem of the callers' authority to callers.pem",
    CALLERS_REVOKED: "copy revoked.pem of the callers' authority to callers-revoked.pem",
}


def _copy(source: Path, target: Path) -> None:
    """Replace a file whole where its content differs."""
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        write_public(target, content)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: what a manifest says of the catalogue."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
