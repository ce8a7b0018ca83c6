"""Embeddings of texts on disk: looked up by what they are made from, never by who asked.

Sixteen safetensors files hold the SHA-256 of each text and its vector in half precision, 1 KB for 512 columns. A
file is written beside its place and then moved there, so a reader sees the old one or the new one. It carries a
digest of its rows; one that does not open or does not match is made anew. Two writers at once lose nothing but
the work of one of them.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model.errors import EncoderError

SHARDS = 16
MOST_VECTORS = 262_144
"""Vectors kept over all files; beyond it those go that were asked for longest ago."""

Shard = dict[bytes, NDArray[np.float16]]
"""SHA-256 of a text -> its vector, those asked for longest ago first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VectorCache:
    """The embeddings of one version of one encoder.

    Attributes:
        folder: of this encoder and version alone.
        columns: length of a vector.
        most: how many vectors are kept.
    """

    folder: Path
    columns: int
    most: int = MOST_VECTORS

    def __post_init__(self) -> None:
        """Refuse a cache that could keep nothing."""
        if self.most < SHARDS:
            raise EncoderError(f"a cache of {self.most} vectors is too small; keep at least {SHARDS}")

    def vectors(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return the vectors (texts, columns); `encode` makes those not kept yet.

        New and kept vectors are both rounded to half precision, so that a first and a later call agree.

        Raises:
            EncoderError: the folder cannot be written, or `encode` gives vectors of another shape.
        """
        keys = [sha256(text.encode()).digest() for text in texts]
        named = dict(zip(keys, texts, strict=True))
        found: Shard = {}
        for number in sorted({key[0] % SHARDS for key in named}):
            mine = {key: text for key, text in named.items() if key[0] % SHARDS == number}
            found |= self._shard(number, mine, encode)
        if not keys:
            return np.zeros((0, self.columns), dtype=np.float32)
        return np.stack([found[key] for key in keys]).astype(np.float32)

    def _shard(
        self,
        number: int,
        wanted: dict[bytes, str],
        encode: Callable[[Sequence[str]], NDArray[np.float32]],
    ) -> Shard:
        """Return the wanted vectors of one file, and write it if some were missing."""
        path = self.folder / f"{number:x}.safetensors"
        kept = self._read(path)
        missing = [key for key in wanted if key not in kept]
        if not missing:
            return {key: kept[key] for key in wanted}
        made = encode([wanted[key] for key in missing])
        if made.shape != (len(missing), self.columns) or not np.isfinite(made).all():
            raise EncoderError(
                f"the encoder gave {made.shape} for {len(missing)} texts, expected finite numbers of shape "
                f"{(len(missing), self.columns)}; install the version that pyproject.toml names"
            )
        new = {**kept, **dict(zip(missing, made.astype(np.float16), strict=True))}
        found = {key: new[key] for key in wanted}
        others = {key: vector for key, vector in new.items() if key not in wanted}
        self._write(path, {**others, **found})
        return found

    def _read(self, path: Path) -> Shard:
        """Return what a file holds; nothing, where there is none or it is damaged."""
        try:
            with safe_open(path, framework="np") as file:
                keys, vectors = file.get_tensor("keys"), file.get_tensor("vectors")
                digest = (file.metadata() or {}).get("sha256")
        except FileNotFoundError:
            return {}
        except (SafetensorError, OSError) as error:
            return _damaged(path, type(error).__name__)
        if vectors.shape != (len(keys), self.columns) or digest != _digest(keys, vectors):
            return _damaged(path, "its rows do not match their digest")
        return dict(zip([row.tobytes() for row in keys], vectors, strict=True))

    def _write(self, path: Path, shard: Shard) -> None:
        """Put a file in place at once, with the vectors asked for last."""
        newest = list(shard)[-(self.most // SHARDS) :]
        keys = np.frombuffer(b"".join(newest), dtype=np.uint8).reshape(len(newest), 32)
        vectors = np.stack([shard[key] for key in newest])
        body = save({"keys": keys, "vectors": vectors}, metadata={"sha256": _digest(keys, vectors)})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, body)
        except OSError as error:
            raise EncoderError(
                f"the encoder's cache {path.parent} cannot be written ({type(error).__name__}); free the "
                "place, or point XDG_CACHE_HOME to a folder that can be written"
            ) from error


def _replace(path: Path, body: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _digest(keys: NDArray[np.uint8], vectors: NDArray[np.float16]) -> str:
    return sha256(keys.tobytes() + vectors.tobytes()).hexdigest()


def _damaged(path: Path, reason: str) -> Shard:
    _log.warning("the cached embeddings in %s are damaged (%s); they are made again", path.name, reason)
    return {}
