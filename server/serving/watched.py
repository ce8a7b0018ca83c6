"""Files that may change while the endpoint runs: read anew when they do, and kept as they were when that fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from privacy.errors import CertificateError
from server.errors import EndpointError
from server.serving.logs import fault, fields

Value = TypeVar("Value")

_log = logging.getLogger(__name__)


class Watched(Generic[Value]):
    """What was read from some files together, whole: the newest that could be read."""

    def __init__(self, what: str, paths: Sequence[Path], read: Callable[[Sequence[bytes]], Value]) -> None:
        """Read the files now; raises `EndpointError` where that fails. `read` gets their contents in order.

        `read` raises `CertificateError` for contents that cannot be used. `what` is one word for the log.
        """
        self._what, self._paths, self._read = what, paths, read
        self._lock = threading.Lock()
        self._complaint = ""
        self._seen = self._mark()
        self.value = self._load()

    def changed(self) -> bool:
        """Look at the files; True where `value` is newer than before. Each failure is logged once."""
        with self._lock:
            try:
                mark = self._mark()
                if mark == self._seen:
                    return False
                self._seen = mark
                self.value = self._load()
            except EndpointError as error:
                self._complain(error)
                return False
            self._complaint = ""
        _log.warning("files have changed and are in use from now on", extra=fields(what=self._what))
        return True

    def _load(self) -> Value:
        try:
            return self._read([path.read_bytes() for path in self._paths])
        except OSError as error:
            raise _unreadable(error) from error
        except CertificateError as error:
            names = ", ".join(str(path) for path in self._paths)
            raise EndpointError(f"{names}: {error}") from error

    def _mark(self) -> tuple[tuple[int, int, int], ...]:
        """Changes whenever a file is replaced or written, as far as the file system tells."""
        try:
            found = [path.stat() for path in self._paths]
        except OSError as error:
            raise _unreadable(error) from error
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _complain(self, error: EndpointError) -> None:
        if str(error) != self._complaint:
            _log.error(
                "files have changed and cannot be used: what was read before stays in use", extra=fault(error)
            )
            self._complaint = str(error)


def _unreadable(error: OSError) -> EndpointError:
    return EndpointError(f"the file {error.filename} cannot be read: {error.strerror}")
