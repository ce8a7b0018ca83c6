"""The texts of a kit: what it is, how it is started on a machine, in containers and on Kubernetes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.federation_model import Federation, Merchant
from deploy.kit import CALLERS, CALLERS_REVOKED, COORDINATOR, KIT, POLICY, TLS, TLS_KEY
from deploy.kit_files import Kits, write_public
from deploy.rendering import render

HOME: Final = "/srv/fedrank"
"""Where kits lie on a machine without containers, as they lie below the folder of all kits."""
METRICS_PORT: Final = 9464
WHOLE: Final = "compose.yaml"

NETWORK: Final = {
    "coordinator": "Merchants' nodes may come in; nothing goes out.",
    "merchant": "Nothing comes in. Names are looked up, and the coordinator is reached; nothing else goes out.",
    "serving": "Callers come in, and the cluster's own programs for metrics; nothing goes out.",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kit to be written: the coordinator's, or a merchant's node or endpoint."""

    federation: Federation
    kind: str
    merchant: Merchant | None = None

    @property
    def name(self) -> str:
        """How its service is called."""
        return self.kind if self.merchant is None else f"{self.kind}-{self.merchant.id}"

    @property
    def port(self) -> int | None:
        """Where others reach it; a merchant's node nobody does."""
        if self.merchant is None:
            return self.federation.coordinator.port
        serving = self.merchant.serving if self.kind == "serving" else None
        return None if serving is None else serving.port

    @property
    def files(self) -> dict[str, str]:
        """File -> template."""
        helm = {
            "coordinator": ("deployment", "network", "storage", "service"),
            "merchant": ("deployment", "network", "storage"),
            "serving": ("deployment", "network", "service"),
        }[self.kind]
        return {
            KIT: KIT,
            "README.md": f"{self.kind}.md",
            "compose.yaml": "compose.yaml",
            f"systemd/fedrank-{self.name}.service": "unit.service",
            ".dockerignore": "dockerignore",
            **{f"helm/{name}": f"helm/{name}" for name in ("Dockerfile", "Chart.yaml", "values.yaml")},
            **{f"helm/templates/{name}.yaml": f"helm/{name}.yaml" for name in helm},
        }

    def texts(self) -> dict[str, str]:
        """File -> content."""
        return {file: render(template, **self._words()) for file, template in self.files.items()}

    def _words(self) -> dict[str, Any]:
        merchant = self.merchant
        own = "coordinator" if merchant is None else f"merchants/{merchant.id}"
        place = own if self.kind != "serving" else own.replace("merchants/", "serving/")
        return {
            **_common(self.federation),
            "kind": self.kind,
            "merchant": merchant,
            "name": self.name,
            "slug": slug(self.name),
            "place": f"{HOME}/{place}",
            "data": f"{HOME}/{own}/data",
            "port": self.port,
            "policy_says": NETWORK[self.kind],
            "public": {"merchant": [COORDINATOR], "serving": [COORDINATOR, POLICY]}.get(self.kind, []),
        }


def parts_of(federation: Federation) -> list[Part]:
    """All kits of a federation, the coordinator's first."""
    parts = [Part(federation=federation, kind="coordinator")]
    for merchant in federation.merchants:
        parts.append(Part(federation=federation, kind="merchant", merchant=merchant))
        if merchant.serving is not None:
            parts.append(Part(federation=federation, kind="serving", merchant=merchant))
    return parts


def write_texts(kits: Kits, federation: Federation) -> None:
    """Write the texts of all kits, and what starts the whole federation on one machine."""
    for part in parts_of(federation):
        for name, text in part.texts().items():
            write_public(_folder(kits, part) / name, text.encode())
    write_public(kits.root / WHOLE, whole_federation(federation).encode())


def whole_federation(federation: Federation) -> str:
    """The compose file of a federation on one machine, to try it out."""
    host = federation.coordinator.host
    alias = None if _is_machine_address(host) else host  # a network of containers gives names, not addresses
    return render("federation-compose.yaml", alias=alias, **_common(federation))


def _is_machine_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost"


def slug(name: str) -> str:
    """A name as image registries and Kubernetes take it: lower case, no underscores."""
    return re.sub(r"[^a-z0-9.-]", "-", name.lower())


def serve_words(federation: Federation, merchant: Merchant, kit: str, data: str, metrics: str) -> list[str]:
    """The words of `fedrank` that serve a merchant's rankings from a kit; `metrics` is the metrics' address."""
    assert merchant.serving is not None
    return [
        *("serve", "--run", data, "--merchant", merchant.id),
        *("--host", "0.0.0.0", "--port", str(merchant.serving.port)),
        *("--tls-cert", f"{kit}/{TLS}", "--tls-key", f"{kit}/{TLS_KEY}"),
        *("--client-ca", f"{kit}/{CALLERS}", "--revoked", f"{kit}/{CALLERS_REVOKED}"),
        *("--trust-domain", federation.domain, "--policy", f"{kit}/{POLICY}"),
        *("--metrics-host", metrics, "--metrics-port", str(METRICS_PORT), "--log-format", "json"),
    ]


def _common(federation: Federation) -> dict[str, Any]:
    """What every template may name."""
    let_in = ["test", "-f", "/kit/data/flower/node.ready"]
    port = federation.coordinator.port
    reach = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
    metrics = f"http://127.0.0.1:{METRICS_PORT}/metrics"
    return {
        "federation": federation,
        "serve_words": serve_words,
        "metrics_port": METRICS_PORT,
        "looks": {
            "coordinator": ["python", "-c", reach],
            "merchant": let_in,
            "serving": ["python", "-c", f"import urllib.request as r; r.urlopen('{metrics}', timeout=5)"],
        },
    }


def _folder(kits: Kits, part: Part) -> Path:
    if part.merchant is None:
        return kits.coordinator
    return (kits.merchant if part.kind == "merchant" else kits.serving)(part.merchant.id)
