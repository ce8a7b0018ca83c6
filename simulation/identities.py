"""Identities for simulated parties of secure aggregation: an authority that lives as long as the run."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority, Wanted
from privacy.federation_identity import COORDINATOR, MANIFEST, MANIFEST_SIGNATURE, NODE
from privacy.federation_manifest import DECLARED, FederationManifest, sign_manifest
from privacy.secagg.identity import coordinator_uri, node_uri
from server.coordination.config import FederationConfig

DOMAIN = "simulation"


def coordinator_kit(identities: Path) -> Path:
    """Return where the coordinator's identity lies below the folder of all."""
    return identities / COORDINATOR


@contextmanager
def identities(folder: Path, nodes: Sequence[str], config: FederationConfig) -> Iterator[Path]:
    """Make an authority, the coordinator's identity and one for each node, and take them away afterwards.

    Each lies in a folder of its own with the files of a kit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    try:
        _make(folder, nodes, config)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path, nodes: Sequence[str], config: FederationConfig) -> None:
    now = datetime.now(UTC)
    authority = CertificateAuthority.make(folder / "authority", now)
    wanted = [Wanted(name=name, uri=node_uri(DOMAIN, name)) for name in nodes]
    authority.issue([*wanted, Wanted(name=COORDINATOR, uri=coordinator_uri(DOMAIN))], now)
    manifest = _agreed(config)
    signature = sign_manifest(manifest, authority.key)
    for name in (*nodes, COORDINATOR):
        own, role = folder / name, COORDINATOR if name == COORDINATOR else NODE
        own.mkdir(mode=0o700)
        for shared in (AUTHORITY, REVOKED):
            shutil.copy(authority.folder / shared, own)
        for end in (".pem", ".key"):
            shutil.move(authority.folder / f"{name}{end}", own / f"{role}{end}")
        (own / MANIFEST).write_bytes(manifest.to_bytes())
        (own / MANIFEST_SIGNATURE).write_bytes(signature)


def _agreed(config: FederationConfig) -> FederationManifest:
    return FederationManifest(
        federation=config.run_name,
        domain=DOMAIN,
        trust=str(config.trust),
        epsilon=config.epsilon,
        delta=config.delta,
        minimum_cohort=config.minimum_nodes,
        secure_aggregation=config.secure_aggregation,
        catalogue_hash=hashlib.sha256(config.catalogue.read_bytes()).hexdigest(),
        shoppers=config.shoppers,
        merchants=config.merchants,
        rounds=config.rounds,
        settings={
            "noise-seed": config.noise_seed,
            **{f"{DECLARED}{name}": count for name, count in config.declared.items()},
        },
    )
