"""Files that hold keys: created once, whole or not at all, readable by their owner alone.

A file appears under its name only when its content is on the disk: it is written beside, flushed, and then
linked to its name, which fails if another process was first; then the other's content counts. So two
processes that create the same file at once both go on with the same key.
"""

import os
import secrets
import stat
from pathlib import Path

from privacy.errors import KeyringError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def open_folder(folder: Path, *, create: bool) -> None:
    """Check that `folder` cannot be written by others; create it with mode 0700 if asked and absent."""
    if create:
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
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyringError(f"key file {path} cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise KeyringError(
            f"key file {path} has mode {mode:04o}; only its owner may read it. Run: chmod 0600 {path}, "
            "and replace the keys if anyone else had access"
        )
    return content


def create_private(path: Path, content: bytes) -> bytes:
    """Create a key file of mode 0600 durably and return its content, or the content of whoever was first."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_durably(beside, content)
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            content = _existing(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise KeyringError(f"key file {path} cannot be written: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
    return content


def _existing(path: Path) -> bytes:
    content = read_private(path)
    if content is None:
        raise KeyringError(
            f"key file {path} appeared and vanished again; another process is changing the keyring"
        )
    return content


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
