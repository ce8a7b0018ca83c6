"""The endpoint's side of mutual TLS: its certificate, and the authorities that callers' certificates come from.

New files on disk are in service from the next connection on, without a restart; a damaged or mismatching pair leaves
the old one in service. Python's gRPC offers no choice of the TLS version: `limits.TLS_1_3_ONLY` says how it is had
all the same, and the guard refuses calls over anything older.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from privacy.certificates import check_pair, read_authorities
from server.serving.watched import Watched

_Configuration = grpc.ServerCertificateConfiguration


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files: the server's certificate chain, its private key, and the authorities of callers."""

    certificate: Path
    key: Path
    client_authorities: Path

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files, and demand a certificate of every caller.

        Raises `EndpointError` where a file cannot be read, or certificate and key do not belong together.
        """
        paths = (self.certificate, self.key, self.client_authorities)
        watched = Watched("certificates", paths, _configuration)
        fetch: Any = lambda: watched.value if watched.changed() else None  # noqa: E731  # the stubs lack None
        return grpc.dynamic_ssl_server_credentials(watched.value, fetch, require_client_authentication=True)


def _configuration(contents: Sequence[bytes]) -> _Configuration:
    certificate, key, authorities = contents
    check_pair(certificate, key, time.time())
    read_authorities(authorities)
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)
