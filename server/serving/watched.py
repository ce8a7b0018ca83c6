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
        self._seen = self._contents()
        self.value = self._understood(self._seen)

    def changed(self) -> bool:
        """Look at the files; True where `value` is newer than before. Each failure is logged once."""
        with self._lock:
            try:
                contents = self._contents()
                if contents == self._seen:
                    return False
                self._seen = contents
                self.value = self._understood(contents)
            except EndpointError as error:
                self._complain(error)
                return False
            self._complaint = ""
        _log.warning("files have changed and are in use from now on", extra=fields(what=self._what))
        return True

    def _contents(self) -> list[bytes]:
        """All of them: a file system's times are too coarse to tell two writes apart."""
        try:
            return [path.read_bytes() for path in self._paths]
        except OSError as error:
            raise EndpointError(f"the file {error.filename} cannot be read: {error.strerror}") from error

    def _understood(self, contents: Sequence[bytes]) -> Value:
        try:
            return self._read(contents)
        except CertificateError as error:
            names = ", ".join(str(path) for path in self._paths)
            raise EndpointError(f"{names}: {error}") from error

    def _complain(self, error: EndpointError) -> None:
        if str(error) != self._complaint:
            _log.error(
                "files have changed and cannot be used: what was read before stays in use", extra=fault(error)
            )
            self._complaint = str(error)
