"""A model version as files: weights and card under the hash of both, with the signature of who released them.

`versions/VERSION/` holds `model.safetensors`, `card.json` and, where somebody signed it, `signature.json`; VERSION is
the first 16 hex digits of the content hash. A version is written whole or not at all. Whether a signature counts is
for its reader to say (`privacy.signing`).
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
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from model.errors import UnfitVersion, UnreadableVersion

Arrays = Mapping[str, npt.NDArray[Any]]

VERSION = re.compile(r"[0-9a-f]{16}")
_WEIGHTS_FILE, _CARD_FILE, _SIGNATURE_FILE = "model.safetensors", "card.json", "signature.json"


@dataclass(frozen=True)
class Content:
    """What a version is: weights by name, little-endian and in C order, and its card as canonical JSON."""

    weights: dict[str, npt.NDArray[Any]]
    card: bytes

    @classmethod
    def of(cls, weights: Arrays, card: Mapping[str, Any]) -> Self:
        """Check what shall become a version; `UnfitVersion` for weights that cannot rank, or a card not in JSON."""
        return cls(checked_weights(weights), _canonical(card))

    @property
    def version(self) -> str:
        """The name of the version."""
        return self.content_hash[:16]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over each array (by name: dtype, shape, little-endian bytes) and the card, in hexadecimal."""
        digest = hashlib.sha256(b"fedrank model version 1\n")
        for name in sorted(self.weights):
            array = self.weights[name]
            header = json.dumps([name, array.dtype.str, list(array.shape)]).encode()
            digest.update(len(header).to_bytes(8, "little") + header)
            digest.update(array.tobytes())
        digest.update(self.card)
        return digest.hexdigest()

    @property
    def card_hash(self) -> str:
        """SHA-256 over the card alone, in hexadecimal."""
        return hash_of_card(self.card)


def checked_weights(weights: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return weights as they are stored and hashed; `UnfitVersion` where there are none, or some cannot rank."""
    if not weights:
        raise UnfitVersion("a model version needs at least one weight; got none")
    return {name: _checked(name, array) for name, array in weights.items()}


def hash_of_card(card: bytes) -> str:
    """SHA-256 over a card as it is stored, in hexadecimal."""
    return hashlib.sha256(card).hexdigest()


def folder_of(root: Path, version: str) -> Path:
    """Where a registry keeps a version."""
    return root / "versions" / version


def store(root: Path, content: Content, signature: bytes | None = None) -> None:
    """Write a version under `root`, whole and durably; one that is there gets the signature and nothing else."""
    folder = folder_of(root, content.version)
    if not folder.exists():
        files = {_WEIGHTS_FILE: save(content.weights), _CARD_FILE: content.card}
        _write_whole(folder, files if signature is None else {**files, _SIGNATURE_FILE: signature})
    if signature is not None and read_signature(root, content.version) != signature:
        write_durably(folder / _SIGNATURE_FILE, signature)


def read(root: Path, version: str) -> Content:
    """Read a version and hold it against its name; `UnreadableVersion` says what is wrong with it."""
    card = read_card(root, version)
    try:
        weights = load((folder_of(root, version) / _WEIGHTS_FILE).read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise UnreadableVersion(f"cannot be read ({type(error).__name__})") from error
    content = Content(weights, card)
    if content.version != version:
        raise UnreadableVersion(f"has the hash {content.version}")
    return content


def read_card(root: Path, version: str) -> bytes:
    """Read the card alone, which is JSON and not held against a hash; `UnreadableVersion` where it is not there."""
    try:
        card = (folder_of(root, version) / _CARD_FILE).read_bytes()
        json.loads(card)
    except (OSError, ValueError) as error:
        raise UnreadableVersion(f"cannot be read ({type(error).__name__})") from error
    return card


def read_signature(root: Path, version: str) -> bytes | None:
    """Read the signature of a version, which nobody has checked yet; None where it has none."""
    try:
        return (folder_of(root, version) / _SIGNATURE_FILE).read_bytes()
    except FileNotFoundError:
        return None


def write_durably(path: Path, content: bytes) -> None:
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


def _write_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder.parent))
    try:
        for name, content in files.items():
            write_durably(incoming / name, content)
        incoming.rename(folder)
        _sync_folder(folder.parent)
    except OSError:
        shutil.rmtree(incoming, ignore_errors=True)
        if not folder.exists():  # else another process has added the same content first
            raise


def _checked(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = np.asarray(array, order="C")
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise UnfitVersion(f"weight {name!r} has dtype {values.dtype}; store numbers of at most 64 bits")
    if not np.isfinite(values).all():
        raise UnfitVersion(f"weight {name!r} holds NaN or infinity; a version with such weights cannot rank")
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _canonical(card: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(dict(card), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:
        raise UnfitVersion(f"the card is not plain JSON: {error}") from error
    return text.encode()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
