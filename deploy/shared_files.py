"""What all kits of a federation hold alike: the authority, its signed terms, the public items, and texts."""

from __future__ import annotations

import hashlib
import io

from deploy.catalogue import join_items, read_items
from deploy.federation_model import Federation
from deploy.kit import CATALOGUE, COORDINATOR
from deploy.kit_files import Kits, write_public
from deploy.kit_texts import write_texts
from deploy.rendering import render
from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority
from privacy.federation_identity import MANIFEST, MANIFEST_SIGNATURE
from privacy.federation_manifest import DECLARED, FederationManifest, sign_manifest

MODEL = "federation.toml"
"""In the authority's folder: the model that all kits are made from."""
CATALOGUES = "catalogues"
"""There too: the public items of each merchant, ID.parquet."""


def write_shared(kits: Kits, federation: Federation, authority: CertificateAuthority) -> None:
    """Write, or write anew, everything that follows from the model; keys, certificates and data stay."""
    folder = kits.authority / CATALOGUES
    items = join_items([read_items(folder / f"{one.id}.parquet", one.id) for one in federation.merchants])
    buffer = io.BytesIO()
    items.write_parquet(buffer)
    manifest = manifest_of(federation, hashlib.sha256(buffer.getvalue()).hexdigest())
    shared = {
        AUTHORITY: (kits.authority / AUTHORITY).read_bytes(),
        REVOKED: (kits.authority / REVOKED).read_bytes(),
        COORDINATOR: (kits.coordinator / COORDINATOR).read_bytes(),
        CATALOGUE: buffer.getvalue(),
        MANIFEST: manifest.to_bytes(),
        MANIFEST_SIGNATURE: sign_manifest(manifest, authority.key),
    }
    for kit in kits.all():
        for name, content in shared.items():
            write_public(kit / name, content)
    write_texts(kits, federation)
    # Last, so that what was interrupted before can simply be asked for again.
    write_public(kits.authority / MODEL, render(MODEL, federation=federation).encode())


def manifest_of(federation: Federation, catalogue_hash: str) -> FederationManifest:
    """The terms that the authority signs."""
    declared = {f"{DECLARED}{merchant.id}": merchant.shoppers for merchant in federation.merchants}
    return FederationManifest(
        federation=federation.name,
        domain=federation.domain,
        trust=federation.trust.value,
        epsilon=federation.epsilon,
        delta=federation.delta,
        minimum_cohort=federation.minimum_cohort,
        secure_aggregation=federation.secure_aggregation,
        catalogue_hash=catalogue_hash,
        shoppers=federation.shoppers,
        merchants=len(federation.merchants),
        rounds=federation.rounds,
        settings={**federation.settings, **declared},
    )


def write_revoked(kits: Kits) -> None:
    """Copy the authority's revocation list into every kit."""
    content = (kits.authority / REVOKED).read_bytes()
    for kit in kits.all():
        write_public(kit / REVOKED, content)
