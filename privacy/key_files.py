"""Files that hold keys: created once or replaced, whole or not at all, readable by their owner alone.

A file appears under its name only when its content is on the disk: it is written beside and flushed first. Creating
links it to its name, which fails if another process was first; then the other's content counts. Replacing renames it,
and then overwrites the bytes of the file that was there.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privacy.errors import KeyringError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SUFFIX_BYTES = 8


def open_folder(folder: Path, *, create: bool) -> None:
    """Check that `folder` cannot be written by others; create it with mode 0700 if asked and absent."""
    if create:
        with _explained(f"keyring folder {folder} cannot be made"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not folder.is_dir():
        raise KeyringError(f"there is no keyring folder at {folder}; create one first or correct the path")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OTHERS_WRITE:
        raise KeyringError(
            f"keyring folder {folder} has mode {mode:04o}, so others can replace its keys; "
            f"run: chmod 0700 {folder}"
        )


def read_private(path: Path) -> bytes | None:
    """Return the content of a key file, or None if there is none; refuse one that others may read."""
    while True:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                content = file.read()
            # Replaced while it was read: what was read may be overwritten already.
            unchanged = path.stat().st_ino == found.st_ino
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyringError(f"key file {path} cannot be read: {error.strerror}") from error
        if unchanged:
            _refuse_exposed(path, stat.S_IMODE(found.st_mode))
            return content


def create_private(path: Path, content: bytes) -> bytes:
    """Create a key file of mode 0600 durably and return its content, or the content of whoever was first."""
    beside = _beside(path)
    with _explained(f"key file {path} cannot be written"):
        try:
            write_durably(beside, content)
            try:
                path.hardlink_to(beside)
            except FileExistsError:
                content = _existing(path)
            flush_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    return content


def replace_private(path: Path, content: bytes) -> None:
    """Put `content` in the place of a key file, durably and at once, and overwrite the bytes that were there.

    A file system that keeps old versions of blocks (snapshots, flash memory) may have them still.
    """
    beside, old = _beside(path), _beside(path)
    with _explained(f"key file {path} cannot be replaced"):
        try:
            write_durably(beside, content)
            old.hardlink_to(path)
            beside.replace(path)
            flush_folder(path.parent)
            _overwrite(old)
        finally:
            beside.unlink(missing_ok=True)
            old.unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write or replace a file of mode 0600, whole."""
    if path.exists():
        replace_private(path, content)
    else:
        create_private(path, content)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left beside its key files, and overwrite it unless it is a key file's content.

    Only for who holds the lock under which key files of `folder` are made and replaced.
    """
    with _explained(f"the keyring folder {folder} cannot be changed"):
        for path in folder.glob(f".*.{'[0-9a-f]' * (2 * _SUFFIX_BYTES)}"):
            if path.stat().st_nlink == 1:
                _overwrite(path)
            path.unlink()


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock that the file `path` stands for; without `wait`, tell by False that another process has it.

    A process that dies lets go of it.
    """
    with _explained(f"the lock {path} cannot be taken"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600 whose content is on the disk afterwards; `FileExistsError` if it is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make sure that the names of the files in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Let an error of the file system come as a `KeyringError` that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise KeyringError(f"{what}: {error.strerror}") from error


def _refuse_exposed(path: Path, mode: int) -> None:
    if mode & _OTHERS:
        raise KeyringError(
            f"key file {path} has mode {mode:04o}; only its owner may read it. Run: chmod 0600 {path}, "
            "and replace the keys if anyone else had access"
        )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(_SUFFIX_BYTES)}")


def _existing(path: Path) -> bytes:
    content = read_private(path)
    if content is None:
        raise KeyringError(
            f"key file {path} appeared and vanished again; another process is changing the keyring"
        )
    return content


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
