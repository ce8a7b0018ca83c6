"""What `fedrank serve` was asked for, in plain words and numbers, so that each worker gets it as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from server.serving.endpoint import EndpointConfig, TlsFiles


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """What to serve, where, and to whom.

    Attributes:
        run: run folder with registry and catalogue.
        store, keys: event store (path or URL) and keyring, both there already.
        merchant_id, version: one merchant's part instead of all, a pinned version instead of the promoted one.
        workers: processes that answer on one port.
        share_port: whether other workers listen on the port too.
    """

    run: str
    store: str
    keys: str
    merchant_id: str | None = None
    version: str | None = None
    show_scores: bool = False
    host: str = "127.0.0.1"
    port: int = 8443
    tls_cert: str | None = None
    tls_key: str | None = None
    insecure_any_interface: bool = False
    workers: int = 1
    share_port: bool = False
    log_level: int = 30

    def __post_init__(self) -> None:
        """Refuse what no endpoint can do, before a worker is started."""
        self.config()

    def config(self) -> EndpointConfig:
        """Where and how to listen; raises `EndpointError`."""
        tls = None
        if self.tls_cert and self.tls_key:
            tls = TlsFiles(certificate=Path(self.tls_cert), key=Path(self.tls_key))
        return EndpointConfig(
            host=self.host,
            port=self.port,
            tls=tls,
            insecure_any_interface=self.insecure_any_interface,
            share_port=self.share_port,
        )

    def to_json(self) -> str:
        """One line for a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(line))
