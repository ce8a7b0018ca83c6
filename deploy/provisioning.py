"""Makes the kits of a federation: an authority, a coordinator's kit, and one kit per merchant and per endpoint."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl

from deploy.catalogue import join_items, read_items
from deploy.errors import KitExists
from deploy.federation_model import Federation, KeysMadeBy, Merchant
from deploy.kit import (
    CALLERS,
    CALLERS_REVOKED,
    COORDINATOR,
    COORDINATOR_KEY,
    MEMBERS,
    NODE,
    NODE_KEY,
    POLICY,
    TLS,
    TLS_KEY,
)
from deploy.kit_files import Kits, write_private, write_public
from deploy.rendering import render
from deploy.shared_files import CATALOGUES, write_shared
from privacy.certificate_authority import AUTHORITY, REVOKED, CertificateAuthority, Wanted
from privacy.secagg.identity import coordinator_uri, node_uri

LOOPBACK = ("localhost", "127.0.0.1")
"""The coordinator's certificate is valid for its own machine too, for checks there."""


def provision(federation: Federation, out: Path, now: datetime) -> Kits:
    """Write all kits into a new folder, whole or not at all.

    Raises:
        KitExists: the folder is there already.
        PublicCatalogueError: a merchant's catalogue cannot be used.
        CertificateError, KeyringError: a key or certificate cannot be made or written.
    """
    if out.exists():
        raise KitExists(
            f"{out} is there already and stays as it is, for its keys may be in use; name another folder, or use "
            "`fedrank merchant invite`, `approve`, `revoke` and `rotate` to change that federation"
        )
    parts = {one.id: read_items(one.catalogue, one.id) for one in federation.merchants}
    join_items(list(parts.values()))
    stage = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(stage, ignore_errors=True)
    try:
        _write(Kits(root=stage), federation, parts, now)
        stage.rename(out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return Kits(root=out)


def _write(kits: Kits, federation: Federation, parts: dict[str, pl.DataFrame], now: datetime) -> None:
    authority = CertificateAuthority.make(kits.authority, now)
    (kits.authority / CATALOGUES).mkdir()
    (kits.coordinator / MEMBERS).mkdir(parents=True)
    renew_coordinator(kits, federation, authority, now)
    for merchant in federation.merchants:
        add_merchant(kits, federation, merchant, parts[merchant.id], authority, now)
    write_shared(kits, federation, authority)


def add_merchant(
    kits: Kits,
    federation: Federation,
    merchant: Merchant,
    items: pl.DataFrame,
    authority: CertificateAuthority,
    now: datetime,
) -> None:
    """Write what one merchant alone has: items, keys unless it makes them itself, and its endpoint's certificate."""
    items.write_parquet(kits.authority / CATALOGUES / f"{merchant.id}.parquet")
    (kits.merchant(merchant.id) / "data").mkdir(parents=True, mode=0o700)
    if merchant.keys is KeysMadeBy.OPERATOR:
        renew_node(kits, federation, merchant, authority, now)
    if merchant.serving is not None:
        write_public(kits.serving(merchant.id) / POLICY, render("policy.toml").encode())
        if merchant.keys is KeysMadeBy.OPERATOR:
            _make_callers(kits, federation, merchant, now)


def renew_coordinator(
    kits: Kits, federation: Federation, authority: CertificateAuthority, now: datetime, former: bytes = b""
) -> None:
    """Write a new certificate and key of the coordinator, and a new pair of its port.

    Args:
        former: certificates (PEM) to be kept behind the new one, whose signatures on model versions go on counting.
    """
    hosts = tuple(dict.fromkeys((federation.coordinator.host, *LOOPBACK)))
    days = federation.certificate_days
    named = Wanted(name="coordinator", uri=coordinator_uri(federation.domain), days=days)
    port = Wanted(name="coordinator port", hosts=hosts, days=days)
    for wanted, file, key_file in ((named, COORDINATOR, COORDINATOR_KEY), (port, TLS, TLS_KEY)):
        certificate, key = authority.pair(wanted, now)
        write_private(kits.coordinator / key_file, key)
        write_public(kits.coordinator / file, certificate + (former if file == COORDINATOR else b""))
    (kits.coordinator / "data").mkdir(exist_ok=True, mode=0o700)


def renew_node(
    kits: Kits, federation: Federation, merchant: Merchant, authority: CertificateAuthority, now: datetime
) -> None:
    """Write a new key and certificate of a merchant's node into its kit, and make it a member."""
    certificate, key = authority.pair(wanted_node(federation, merchant), now)
    write_private(kits.merchant(merchant.id) / NODE_KEY, key)
    write_public(kits.merchant(merchant.id) / NODE, certificate)
    write_member(kits, merchant, certificate)


def write_member(kits: Kits, merchant: Merchant, certificate: bytes) -> None:
    """Write a node's certificate to where the authority and the coordinator look up members."""
    for folder in (kits.authority, kits.coordinator):
        write_public(folder / MEMBERS / f"{merchant.id}.pem", certificate)


def wanted_node(federation: Federation, merchant: Merchant) -> Wanted:
    """The certificate that a merchant's node is to have."""
    uri = node_uri(federation.domain, merchant.id)
    return Wanted(name=f"{merchant.id} node", uri=uri, days=federation.certificate_days)


def _make_callers(kits: Kits, federation: Federation, merchant: Merchant, now: datetime) -> None:
    """Make the authority of an endpoint's callers, the endpoint's pair and a storefront's certificate."""
    assert merchant.serving is not None
    authority = CertificateAuthority.make(kits.callers(merchant.id), now)
    uri = f"spiffe://{federation.domain}/merchant/{merchant.id}/storefront"
    days = federation.certificate_days
    authority.issue([Wanted(name=f"{merchant.id}-storefront", uri=uri, days=days)], now)
    hosts = tuple(dict.fromkeys((merchant.serving.host, *LOOPBACK)))
    certificate, key = authority.pair(Wanted(name="endpoint", hosts=hosts, days=days), now)
    kit = kits.serving(merchant.id)
    write_private(kit / TLS_KEY, key)
    write_public(kit / TLS, certificate)
    for name, file in ((AUTHORITY, CALLERS), (REVOKED, CALLERS_REVOKED)):
        write_public(kit / file, (authority.folder / name).read_bytes())
