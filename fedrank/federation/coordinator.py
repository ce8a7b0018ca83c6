"""Which processes a coordinator's kit needs: SuperLink, fleet proxy, executor."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.kit import CoordinatorKit
from fedrank.federation.flower import LOOPBACK, environment, free_port, listening, telling
from fedrank.federation.supervisor import Service
from privacy.certificate_authority import AUTHORITY, LONGEST_DAYS, CertificateAuthority, Wanted
from server.coordination.superlink_files import SuperLinkFiles

_PAIR = "superlink"


class CoordinatorServices:
    """The services of one coordinator's kit."""

    def __init__(self, kit: CoordinatorKit, listen: str, *, verbose: bool) -> None:
        """Serve merchants at the address `listen` and the port of the kit."""
        self._kit, self._listen = kit, listen
        self._files = SuperLinkFiles.make(kit.data)
        self._settings = environment(self._files.folder, verbose=verbose)

    def all(self) -> list[Service]:
        """Choose the SuperLink's port, certify its loopback address, and name the services in order of start."""
        port = free_port()
        certificate, key = _loopback_pair(self._files.authority)
        self._files.endpoint.write_text(json.dumps({"port": port}), encoding="ascii")
        return [self._superlink(port, certificate, key), self._proxy(), self._executor()]

    def _superlink(self, port: int, certificate: Path, key: Path) -> Service:
        return Service(
            name="superlink",
            target="server.coordination.superlink_process:main",
            arguments=(
                *("--host", LOOPBACK, "--port", str(port), "--isolation", "process"),
                *("--ssl-ca-certfile", str(self._files.authority / AUTHORITY)),
                *("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)),
                *("--database", str(self._files.database), "--enable-supernode-auth"),
                *("--superexec-auth-secret-file", str(self._files.secret)),
                "--disable-runtime-dependency-installation",
            ),
            ready=listening(port),
            environment=self._settings,
        )

    def _proxy(self) -> Service:
        kit = self._kit
        settings, ready = telling(self._files.folder, "proxy", self._settings)
        return Service(
            name="fleet proxy",
            target="server.coordination.fleet_process:main",
            arguments=(
                *("--data", str(kit.data), "--members", str(kit.members), "--domain", kit.federation.domain),
                *("--authority", str(kit.authority), "--revoked", str(kit.revoked)),
                *("--certificate", str(kit.tls_certificate), "--key", str(kit.tls_key)),
                *("--host", self._listen, "--port", str(kit.address.port)),
            ),
            ready=ready,
            environment=settings,
        )

    def _executor(self) -> Service:
        settings, ready = telling(self._files.folder, "executor", self._settings)
        return Service(
            name="executor",
            target="server.coordination.executor:main",
            arguments=("--data", str(self._kit.data)),
            ready=ready,
            environment=settings,
        )


def listening_address(kit: CoordinatorKit, named: str | None) -> str:
    """The address to listen at: the named one; else loopback where merchants reach it there; else all addresses."""
    if named is not None:
        return named
    try:
        return kit.address.host if ipaddress.ip_address(kit.address.host).is_loopback else "0.0.0.0"
    except ValueError:
        return LOOPBACK if kit.address.host == "localhost" else "0.0.0.0"


def _loopback_pair(folder: Path) -> tuple[Path, Path]:
    """Issue the SuperLink's certificate for this machine's loopback address anew."""
    now = datetime.now(UTC)
    made = CertificateAuthority.is_in(folder)
    authority = CertificateAuthority.open(folder) if made else CertificateAuthority.make(folder, now)
    wanted = Wanted(name=_PAIR, hosts=(LOOPBACK,), days=LONGEST_DAYS)
    certificate, key = authority.issue([wanted], now, renew=True)
    return certificate, key
