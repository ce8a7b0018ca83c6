"""Folders of arrays that are made once and mapped by every worker: whole and as they were made, or made again.

A folder is written beside its place and then moved there, by one process at a time; others wait for it. Its manifest
holds the SHA-256 of every file, which each process checks once, when it opens the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.errors import CatalogueError
from server.serving.items_strings import Columns

KEPT = 6
"""Folders that stay: those opened last. A process keeps what it has mapped although its folder is gone."""

_MANIFEST = "manifest.json"
_LOCK = ".lock"
_INCOMING = ".incoming-"

_log = logging.getLogger(__name__)

Make = Callable[[Path], Mapping[str, Any]]
"""Fills a folder, and returns what is to be known of it; plain JSON."""


def prepared(root: Path, key: str, make: Make) -> tuple[Path, dict[str, Any]]:
    """The folder `root`/`key` and what its maker said of it; made now unless it is there and whole.

    Raises `CatalogueError` where it has to be made and `root` cannot be written, and what `make` raises.
    """
    folder = root / key
    about = _about(folder)
    if about is None:
        with _only_builder(root):
            about = _about(folder) or _made(folder, make)
            _prune(root, folder)
    with suppress(OSError):  # a folder that may only be read stays as old as it is
        os.utime(folder)
    return folder, about


def is_whole(folder: Path) -> bool:
    """Whether a prepared folder is there with every file as it was made."""
    return _about(folder) is not None


def write_columns(folder: Path, columns: Columns, spare: Mapping[str, int] | None = None) -> None:
    """Write each array as a file; one that `spare` names gets so many empty rows at its end, which take no room."""
    for name, values in columns.items():
        rows = (len(values) + (spare or {}).get(name, 0), *values.shape[1:])
        if 0 in rows:
            np.save(folder / f"{name}.npy", values)
            continue
        mapped = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=values.dtype, shape=rows)
        mapped[: len(values)] = values
        del mapped


def open_columns(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Map every array of a folder. What is written to one is seen by this process alone, and changes no file."""
    return {path.stem: _mapped(path) for path in sorted(folder.glob("*.npy"))}


def _mapped(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    if 0 in shape:  # nothing to map
        return np.asarray(np.load(path))
    return np.asarray(np.load(path, mmap_mode="c"))


def _about(folder: Path) -> dict[str, Any] | None:
    """What the maker of a folder said of it; None where it is not there, or not whole."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        changed = [name for name, digest in manifest["files"].items() if _digest(folder / name) != digest]
        about: dict[str, Any] = manifest["about"]
    except FileNotFoundError:
        if folder.exists():
            _log.warning("the prepared folder %s is not whole; it is made again", folder.name)
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning(
            "the prepared folder %s is damaged (%s); it is made again", folder.name, type(error).__name__
        )
        return None
    if changed:
        _log.warning(
            "the prepared folder %s is damaged (%s); it is made again", folder.name, ", ".join(changed)
        )
        return None
    return about


def _made(folder: Path, make: Make) -> dict[str, Any]:
    incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=folder.parent))
    try:
        about = dict(make(incoming))
        files = {path.name: _digest(path) for path in sorted(incoming.iterdir())}
        (incoming / _MANIFEST).write_text(json.dumps({"about": about, "files": files}), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        incoming.chmod(0o755)
        incoming.rename(folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return about


@contextmanager
def _only_builder(root: Path) -> Iterator[None]:
    """Wait until no other process makes a folder here. The lock goes with the process that holds it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CatalogueError(
            f"{root} cannot be written ({type(error).__name__}), and what is to be served is not prepared there; "
            "run fedrank index build on this run folder as a user who may write it"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _prune(root: Path, made: Path) -> None:
    """Remove what a killed builder left, and the folders that were opened longest ago."""
    for left in root.glob(f"{_INCOMING}*"):
        shutil.rmtree(left, ignore_errors=True)
    folders = [path for path in root.iterdir() if path.is_dir() and path != made]
    for old in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
