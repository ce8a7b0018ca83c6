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
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import CatalogueError
from server.serving.logs import fields

KEPT = 6
"""Folders that stay: those used last, beside their bases and whatever a process has open."""

_MANIFEST = "manifest.json"
_LOCK = ".lock"
_INCOMING = ".incoming-"

_AGAIN = "a prepared folder is not as it was made; it is made again when it is needed"
_log = logging.getLogger(__name__)

Make = Callable[[Path], Mapping[str, Any]]
"""Fills a folder, and returns what is to be known of it; plain JSON."""


class _Hold:
    """A shared lock on a folder, as long as this lives: nobody prunes it."""

    def __init__(self, folder: Path) -> None:
        """Raises `FileNotFoundError` where there is no folder."""
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._descriptor)
        with suppress(
            OSError
        ):  # without locks on this file system the folder may go; what is open stays usable
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def is_of(self, folder: Path) -> bool:
        """Whether the folder of this name is still the one that is held."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), folder.stat())
        except FileNotFoundError:
            return False


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A whole folder, which stays as long as this lives, and what its maker said of it."""

    folder: Path
    about: Mapping[str, Any]
    hold: _Hold


def prepared(root: Path, key: str, make: Make) -> Prepared:
    """The folder `root`/`key`, made now unless it is there and whole.

    A key `<base>.<rest>` means a folder that is of no use without the folder `root`/`<base>`, which stays as long.
    Raises `CatalogueError` where it has to be made and `root` cannot be written, and what `make` raises.
    """
    folder = root / key
    found = _whole(folder)
    if found is None:
        with _only_builder(root):
            found = _whole(folder) or _made(folder, make)
            _prune(root, folder)
    for used in {folder, _base_of(folder)}:
        with suppress(OSError):  # a folder that may only be read stays as old as it is
            os.utime(used)
    return found


def _base_of(folder: Path) -> Path:
    return folder.with_name(folder.name.partition(".")[0])


def _whole(folder: Path) -> Prepared | None:
    """The folder, held from before it is read; None where it is not there, not whole, or just replaced."""
    try:
        hold = _Hold(folder)
    except FileNotFoundError:
        return None
    about = _about(folder)
    return (
        None if about is None or not hold.is_of(folder) else Prepared(folder=folder, about=about, hold=hold)
    )


def is_whole(folder: Path) -> bool:
    """Whether a prepared folder is there with every file as it was made."""
    return _about(folder) is not None


def _about(folder: Path) -> dict[str, Any] | None:
    """What the maker of a folder said of it; None where it is not there, or not whole."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        changed = [name for name, digest in manifest["files"].items() if _digest(folder / name) != digest]
        about: dict[str, Any] = manifest["about"]
    except FileNotFoundError:
        if folder.exists():
            _log.warning(_AGAIN, extra=fields(what="incomplete", folder=folder.name))
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning(_AGAIN, extra=fields(what="unreadable", folder=folder.name, error=type(error).__name__))
        return None
    for name in changed:
        _log.warning(_AGAIN, extra=fields(what="changed", folder=folder.name, file=name))
    return None if changed else about


def _made(folder: Path, make: Make) -> Prepared:
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
    return Prepared(folder=folder, about=about, hold=_Hold(folder))


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
    """Remove what a killed builder left, and the folders that were used longest ago. Only for the one builder."""
    for left in root.glob(f"{_INCOMING}*"):
        shutil.rmtree(left, ignore_errors=True)
    others = [path for path in root.iterdir() if path.is_dir() and path != made]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    bases = {_base_of(path) for path in (made, *others[: KEPT - 1])}
    for old in others[KEPT - 1 :]:
        if old not in bases:
            _drop(old)


def _drop(folder: Path) -> None:
    """Remove a folder, unless a process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
