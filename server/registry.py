"""The one door between training and ranking: model versions under their content hash, and which is promoted.

A version is a folder `versions/<version>/` (`model.versions`). The file `promoted` names the version that serving
takes, `promotions.json` all that it took before, and `signers.pem` lists whose signatures count. Every write is
atomic and durable: a reader sees a whole version or none.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import UnfitVersion, UnreadableVersion
from model.versions import (
    VERSION,
    Content,
    folder_of,
    hash_of_card,
    read,
    read_card,
    read_signature,
    store,
    write_durably,
)
from privacy.errors import CertificateError, SignatureError
from privacy.signing import ReleaseSigner, Signature, Signers, joined
from server.errors import (
    CorruptVersion,
    InvalidModel,
    NothingPromoted,
    UnknownVersion,
    UntrustedVersion,
)
from server.promotion_history import Act, Promotion, PromotionHistory, before

log = logging.getLogger("fedrank.registry")

Weights = dict[str, npt.NDArray[Any]]

SIGNERS_FILE = "signers.pem"
"""Certificates of those whose model versions this registry lets be served."""

_POINTER = "promoted"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """Weights by name, with the card that describes them (schema, metrics, privacy statement; plain JSON)."""

    version: str
    content_hash: str
    weights: Weights
    card: dict[str, Any]


class Registry:
    """A folder of model versions. Several processes may read and add at the same time."""

    def __init__(self, root: Path, *, unsigned: bool = False, clock: Callable[[], float] = time.time) -> None:
        """Use the folder `root`; it is made at the first `add`.

        `unsigned` lets versions be promoted and served that no listed signer has signed.
        """
        self._root, self._unsigned, self._clock = root, unsigned, clock
        self._history = PromotionHistory(root)

    def add(
        self,
        weights: Mapping[str, npt.NDArray[Any]],
        card: Mapping[str, Any],
        signer: ReleaseSigner | None = None,
    ) -> ModelVersion:
        """Store a version, signed where there is a signer, and return it. The same content is the same version.

        Raises `InvalidModel` for empty, non-numeric or non-finite weights, or a card that is not JSON.
        """
        try:
            content = Content.of({name: np.asarray(array) for name, array in weights.items()}, card)
        except UnfitVersion as error:
            raise InvalidModel(str(error)) from error
        signature = None
        if signer is not None:
            signed = signer.sign(content_hash=content.content_hash, card_hash=content.card_hash)
            signature = signed.to_bytes()
        store(self._root, content, signature)
        return self.get(content.version)

    def get(self, version: str) -> ModelVersion:
        """Read a version and verify its hash; raises `UnknownVersion` or `CorruptVersion`.

        Who released it is not asked: `trusted` does.
        """
        self._check(version)
        try:
            content = read(self._root, version)
        except UnreadableVersion as error:
            raise _corrupt(version, error) from error
        return ModelVersion(
            version=version,
            content_hash=content.content_hash,
            weights=content.weights,
            card=json.loads(content.card),
        )

    def card(self, version: str) -> dict[str, Any]:
        """The card alone, which is not held against the hash, for lists; raises as `get` does."""
        card: dict[str, Any] = json.loads(self._card_bytes(version))
        return card

    def added(self, version: str) -> float:
        """When a version came to this registry, in Unix seconds; raises `UnknownVersion`."""
        self._check(version)
        return folder_of(self._root, version).stat().st_mtime

    def versions(self) -> list[str]:
        """Every version in the registry, oldest first."""
        folders = [path for path in self._root.glob("versions/*") if VERSION.fullmatch(path.name)]
        return [path.name for path in sorted(folders, key=lambda path: (path.stat().st_mtime_ns, path.name))]

    def trust(self, certificate: bytes) -> None:
        """Put a signer's certificate (PEM) on the list; raises `CertificateError` where it cannot be read."""
        path = self._root / SIGNERS_FILE
        listed = path.read_bytes() if path.exists() else b""
        if (wanted := joined(listed, certificate)) != listed:
            self._root.mkdir(parents=True, exist_ok=True)
            write_durably(path, wanted)

    def signer(self, version: str) -> str | None:
        """Who signed a version, in words; its weights are not read, and not held against it.

        None: nobody who is listed, and this registry was opened to take such versions. Raises `UntrustedVersion`
        otherwise, and as `get` does.
        """
        return self._vouched(version, None)

    def trusted(self, version: str) -> ModelVersion:
        """Read a version, and hold weights and card against a listed signer's signature.

        Raises as `get` and `signer` do.
        """
        found = self.get(version)
        self._vouched(version, found.content_hash)
        return found

    def promote(self, version: str) -> None:
        """Make `version` the one that serving takes, after verifying it; raises as `trusted` does."""
        self.trusted(version)
        self._history.move(lambda lines: self._lines(lines, version, Act.PROMOTE), self._point)

    def rollback(self) -> str:
        """Go back to the version that was served before and still verifies, and return it.

        Raises `NothingPromoted` where there is none, and `CorruptVersion` for a damaged history or pointer.
        """
        if self.promoted() is None:
            raise NothingPromoted(
                f"the registry {self._root} has promoted nothing yet; "
                "promote a version with `fedrank promote VERSION`"
            )
        return self._history.move(
            lambda lines: self._lines(lines, self._last_good(lines), Act.ROLLBACK), self._point
        )

    def promotions(self) -> list[Promotion]:
        """Every promotion and rollback, oldest first; raises `CorruptVersion` where the file is damaged."""
        return self._history.read()

    def promoted(self) -> str | None:
        """The promoted version, or None before the first promotion."""
        try:
            name = (self._root / _POINTER).read_text()
        except FileNotFoundError:
            return None
        if not VERSION.fullmatch(name):
            raise CorruptVersion(
                f"the pointer {self._root / _POINTER} names no version; promote one again with `fedrank promote`"
            )
        return name

    def _lines(self, lines: list[Promotion], version: str, act: Act) -> list[Promotion]:
        """What to note: the move, and before it what a registry without a history was serving."""
        now = self._clock()
        served = None if lines else self._pointed()
        first = [] if served is None else [Promotion(version=served, act=Act.PROMOTE, at=now)]
        return [*first, Promotion(version=version, act=act, at=now)]

    def _last_good(self, lines: list[Promotion]) -> str:
        for version in before(lines, self.promoted()):
            try:
                return self.trusted(version).version
            except (UnknownVersion, CorruptVersion, UntrustedVersion):
                continue
        raise NothingPromoted(
            f"nothing was served from {self._root} before {self.promoted()} that still verifies; promote a version "
            "with `fedrank promote VERSION`"
        )

    def _pointed(self) -> str | None:
        """The promoted version; None also where the pointer is damaged, which a promotion mends."""
        try:
            return self.promoted()
        except CorruptVersion:
            return None

    def _point(self, version: str) -> None:
        write_durably(self._root / _POINTER, version.encode())

    def _vouched(self, version: str, content_hash: str | None) -> str | None:
        try:
            return self._signer(version, content_hash)
        except UntrustedVersion as refusal:
            if not self._unsigned:
                raise
            log.warning("%s; it is taken all the same", str(refusal))  # the record must hold no frames
            return None

    def _signer(self, version: str, content_hash: str | None) -> str:
        card_hash = hash_of_card(self._card_bytes(version))
        record = read_signature(self._root, version)
        if record is None:
            raise UntrustedVersion(
                f"model version {version} in {self._root} is not signed, as those of older run folders are not; "
                "train again with `fedrank simulate`, which signs, or give --unsigned to take it as it is"
            )
        try:
            signature = Signature.from_bytes(record)
            wanted = content_hash or signature.content_hash
            if wanted[:16] != version:
                raise SignatureError(f"it bears the signature of version {wanted[:16]!r}")
            return self._signers().check(
                signature, content_hash=wanted, card_hash=card_hash, federation=signature.federation
            )
        except SignatureError as error:
            raise UntrustedVersion(f"model version {version} in {self._root} is refused: {error}") from error

    def _signers(self) -> Signers:
        path = self._root / SIGNERS_FILE
        try:
            return Signers.read(path.read_bytes()) if path.exists() else Signers()
        except CertificateError as error:
            raise UntrustedVersion(
                f"the list of signers {path} holds no certificate that can be read; restore it from where the "
                "versions come from"
            ) from error

    def _card_bytes(self, version: str) -> bytes:
        self._check(version)
        try:
            return read_card(self._root, version)
        except UnreadableVersion as error:
            raise _corrupt(version, error) from error

    def _check(self, version: str) -> None:
        if not VERSION.fullmatch(version) or not folder_of(self._root, version).is_dir():
            raise UnknownVersion(
                f"no model version {version!r} in {self._root}; it holds {len(self.versions())}, "
                "see `fedrank models list`"
            )


def _corrupt(version: str, finding: UnreadableVersion) -> CorruptVersion:
    return CorruptVersion(
        f"model version {version} {finding}: it was changed after it was added; "
        "delete its folder and add the version again from its run, or promote another with `fedrank promote`"
    )
