"""What `fedrank serve` was asked for, in plain words and numbers, so that each worker gets it as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from server.errors import EndpointError
from server.serving.credentials import TlsFiles
from server.serving.endpoint import EndpointConfig
from server.serving.identity import TRUST_DOMAIN, check_domain
from server.serving.limits import MAX_CALLS
from server.serving.quotas import Quota

OPEN = Quota(per_second=1e9, burst=1e9, at_once=MAX_CALLS)
"""For the one caller of an endpoint without TLS, who is on this machine or behind a proxy that counts."""


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """What to serve, where, and to whom.

    Attributes:
        run: run folder with registry and catalogue.
        store, keys: event store (path or URL) and keyring, both there already.
        merchant, version: one merchant's part instead of all, a pinned version instead of the promoted one.
        unsigned: whether to take model versions that no listed signer has signed.
        policy: TOML file of the surfaces' knobs.
        stored_profiles: whether requests may name shoppers although this is no merchant's own endpoint.
        tls_cert, tls_key, client_ca: files of mutual TLS, all or none; `revoked`: of revocation lists.
        admit: merchants whose callers are let in; empty: the merchant served.
        quota: calls per second of one identity; None: as `quotas.Quota`, and none without TLS.
        workers: processes that answer on one port; `share_port`: whether this is one of several.
        access_log: share of the calls that are logged.
        log_level: of `logging`.
    """

    run: str
    store: str
    keys: str
    merchant: str | None = None
    version: str | None = None
    unsigned: bool = False
    policy: str | None = None
    show_scores: bool = False
    stored_profiles: bool = False
    host: str = "127.0.0.1"
    port: int = 8443
    tls_cert: str | None = None
    tls_key: str | None = None
    client_ca: str | None = None
    revoked: str | None = None
    trust_domain: str = TRUST_DOMAIN
    admit: tuple[str, ...] = ()
    quota: float | None = None
    insecure_any_interface: bool = False
    reflection: bool = False
    workers: int = 1
    share_port: bool = False
    refresh_seconds: float = 5.0
    drain_seconds: float = 10.0
    drain_notice: float = 0.0
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    log_format: str = "text"
    access_log: float = 0.0
    log_level: int = 30

    def __post_init__(self) -> None:
        """Refuse what no endpoint can do, before a worker is started; raises `EndpointError`."""
        for name in ("quota", "refresh_seconds", "drain_seconds", "drain_notice", "access_log"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise EndpointError(f"--{name.replace('_', '-')} is {value}; give a finite number")
        check_domain(self.trust_domain)
        self.config()
        self.share_of_quota()

    def config(self) -> EndpointConfig:
        """Where and how to listen; raises `EndpointError`."""
        return EndpointConfig(
            host=self.host,
            port=self.port,
            tls=self._tls(),
            insecure_any_interface=self.insecure_any_interface,
            refresh_seconds=self.refresh_seconds,
            drain_seconds=self.drain_seconds,
            notice_seconds=self.drain_notice,
            share_port=self.share_port,
        )

    def share_of_quota(self) -> Quota:
        """What one worker grants one identity."""
        if self.quota is not None:
            return Quota(per_second=self.quota, burst=max(1.0, 2 * self.quota)).share(self.workers)
        return OPEN if self.client_ca is None else Quota().share(self.workers)

    def _tls(self) -> TlsFiles | None:
        files = (self.tls_cert, self.tls_key, self.client_ca)
        if self.tls_cert and self.tls_key and self.client_ca:
            paths = [Path(file) for file in (self.tls_cert, self.tls_key, self.client_ca)]
            return TlsFiles(certificate=paths[0], key=paths[1], client_authorities=paths[2])
        if any(files) or self.revoked or self.admit:
            raise EndpointError(
                "over TLS the endpoint knows who calls; give --tls-cert, --tls-key and --client-ca together "
                "(`fedrank certificates make` issues all of them), or none of these and neither --revoked nor --admit"
            )
        return None

    def to_json(self) -> str:
        """One line for a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote."""
        found = json.loads(line)
        return cls(**{**found, "admit": tuple(found["admit"])})
