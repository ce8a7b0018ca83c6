"""The one door between training and ranking: model versions under their content hash, and which is promoted.

A version is a folder `versions/<version>/` with `model.safetensors` and `card.json`; `<version>` is the first
16 hex digits of the SHA-256 over both. The file `promoted` names the version that serving takes. Every write
is atomic and durable: a reader sees a whole version or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from server.errors import CorruptVersion, InvalidModel, UnknownVersion

Weights = dict[str, npt.NDArray[Any]]

_VERSION = re.compile(r"[0-9a-f]{16}")
_WEIGHTS_FILE = "model.safetensors"
_CARD_FILE = "card.json"
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

    def __init__(self, root: Path) -> None:
        """Use the folder `root`; it is made at the first `add`."""
        self._root = root

    def add(self, weights: Mapping[str, npt.NDArray[Any]], card: Mapping[str, Any]) -> ModelVersion:
        """Store a version and return it. The same content again is the same version and writes nothing.

        Raises `InvalidModel` for empty, non-numeric or non-finite weights, or a card that is not JSON.
        """
        arrays = {name: _checked(name, array) for name, array in weights.items()}
        if not arrays:
            raise InvalidModel("a model version needs at least one weight; got none")
        card_bytes = _canonical(card)
        version = _content_hash(arrays, card_bytes)[:16]
        folder = self._folder(version)
        if not folder.exists():
            self._write(folder, {_WEIGHTS_FILE: save(arrays), _CARD_FILE: card_bytes})
        return self.get(version)

    def get(self, version: str) -> ModelVersion:
        """Read a version and verify its hash; raises `UnknownVersion` or `CorruptVersion`."""
        self._check(version)
        try:
            card_bytes = (self._folder(version) / _CARD_FILE).read_bytes()
            weights = load((self._folder(version) / _WEIGHTS_FILE).read_bytes())
            card = json.loads(card_bytes)
        except (OSError, SafetensorError, ValueError) as error:
            raise _corrupt(version, f"cannot be read ({type(error).__name__})") from error
        content_hash = _content_hash(weights, card_bytes)
        if content_hash[:16] != version:
            raise _corrupt(version, f"has the hash {content_hash[:16]}")
        return ModelVersion(version=version, content_hash=content_hash, weights=weights, card=card)

    def card(self, version: str) -> dict[str, Any]:
        """The card alone, which is not held against the hash, for lists; raises as `get` does."""
        self._check(version)
        try:
            card: dict[str, Any] = json.loads((self._folder(version) / _CARD_FILE).read_bytes())
        except (OSError, ValueError) as error:
            raise _corrupt(version, f"cannot be read ({type(error).__name__})") from error
        return card

    def added(self, version: str) -> float:
        """When a version came to this registry, in Unix seconds; raises `UnknownVersion`."""
        self._check(version)
        return self._folder(version).stat().st_mtime

    def versions(self) -> list[str]:
        """Every version in the registry, oldest first."""
        folders = [path for path in self._root.glob("versions/*") if _VERSION.fullmatch(path.name)]
        return [path.name for path in sorted(folders, key=lambda path: (path.stat().st_mtime_ns, path.name))]

    def promote(self, version: str) -> None:
        """Make `version` the one that serving takes, after verifying it; raises as `get` does."""
        self.get(version)
        _write_durably(self._root / _POINTER, version.encode())

    def promoted(self) -> str | None:
        """The promoted version, or None before the first promotion."""
        try:
            name = (self._root / _POINTER).read_text()
        except FileNotFoundError:
            return None
        if not _VERSION.fullmatch(name):
            raise CorruptVersion(
                f"the pointer {self._root / _POINTER} names no version; "
                "promote one again with `fedrank models promote`"
            )
        return name

    def _check(self, version: str) -> None:
        if not _VERSION.fullmatch(version) or not self._folder(version).is_dir():
            raise UnknownVersion(
                f"no model version {version!r} in {self._root}; it holds {len(self.versions())}, "
                "see `fedrank models list`"
            )

    def _folder(self, version: str) -> Path:
        return self._root / "versions" / version

    def _write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder.parent))
        try:
            for name, content in files.items():
                _write_durably(incoming / name, content)
            incoming.rename(folder)
            _sync_folder(folder.parent)
        except OSError:
            shutil.rmtree(incoming, ignore_errors=True)
            if not folder.exists():  # else another process has added the same content first
                raise


def _checked(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = np.asarray(array, order="C")
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise InvalidModel(f"weight {name!r} has dtype {values.dtype}; store numbers of at most 64 bits")
    if not np.isfinite(values).all():
        raise InvalidModel(f"weight {name!r} holds NaN or infinity; a version with such weights cannot rank")
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _canonical(card: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(dict(card), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:
        raise InvalidModel(f"the card is not plain JSON: {error}") from error
    return text.encode()


def _content_hash(weights: Mapping[str, npt.NDArray[Any]], card: bytes) -> str:
    """SHA-256 over each array (by name: dtype, shape, little-endian bytes) and the card."""
    digest = hashlib.sha256(b"fedrank model version 1\n")
    for name in sorted(weights):
        array = weights[name]
        header = json.dumps([name, array.dtype.str, list(array.shape)]).encode()
        digest.update(len(header).to_bytes(8, "little") + header)
        digest.update(array.tobytes())
    digest.update(card)
    return digest.hexdigest()


def _corrupt(version: str, finding: str) -> CorruptVersion:
    return CorruptVersion(
        f"model version {version} {finding}: it was changed after it was added; "
        "delete its folder and add the version again from its run, or promote another with `fedrank models promote`"
    )


def _write_durably(path: Path, content: bytes) -> None:
    """Write beside `path`, sync, rename over it, sync the folder."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
