"""Kits as they are provisioned: who holds which key, what all hold alike, and what is never touched."""

from __future__ import annotations

import stat
from pathlib import Path

import polars as pl
import pytest
from federations import NOW, TEXT, federation, provisioned, write_federation

from deploy.errors import KitExists, PublicCatalogueError
from deploy.federation_file import read_federation
from deploy.kit import CoordinatorKit, MerchantKit, ServingKit, open_kit
from deploy.provisioning import provision
from model.catalogue import read_public_items
from privacy.certificates import check_pair, read_certificate
from privacy.secagg.identity import Signer, Trusted, statement
from server.serving.catalogue import read_catalogue

SITE = TEXT.replace("shoppers = 300", 'shoppers = 300\nkeys = "site"')


def test_every_kit_opens_and_carries_the_same_signed_terms(tmp_path: Path) -> None:
    """Of the right kind, with absolute paths that exist, one manifest and one catalogue."""
    kits = provisioned(tmp_path)
    opened = [open_kit(folder) for folder in kits.all()]
    assert [type(kit) for kit in opened] == [CoordinatorKit, MerchantKit, MerchantKit, ServingKit]
    assert {kit.federation.digest() for kit in opened} == {opened[0].federation.digest()}
    terms = opened[0].federation
    assert (terms.federation, terms.merchants, terms.shoppers) == ("spring", 2, 1500)
    assert (terms.trust, terms.minimum_cohort) == ("distributed", 2)
    assert opened[0].settings == {"dim": 16, "clock": "seconds"}
    assert opened[0].declared_shoppers == {"north": 1200, "south": 300}
    assert all(kit.authority.is_absolute() and kit.catalogue.is_file() for kit in opened)
    assert {kit.address.port for kit in opened} == {9092}


def test_the_endpoint_of_a_merchant_shares_the_data_folder_of_its_node(tmp_path: Path) -> None:
    """What shoppers do with a ranking is what the node learns from."""
    kits = provisioned(tmp_path)
    assert open_kit(kits.serving("north")).data == open_kit(kits.merchant("north")).data


def test_private_keys_are_their_owners_alone_and_nobody_holds_anothers(tmp_path: Path) -> None:
    """Mode 0600, one place each; the authority's key is in no kit."""
    kits = provisioned(tmp_path)
    keys = sorted(kits.root.rglob("*.key"))
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert len({key.read_bytes() for key in keys}) == len(keys) == 8
    assert [key.name for key in kits.authority.rglob("*.key")] == ["ca.key"]
    assert [key.name for key in kits.merchant("north").rglob("*.key")] == ["node.key"]
    assert stat.S_IMODE((kits.merchant("north") / "data").stat().st_mode) == 0o700


def test_certificates_name_their_process_and_belong_to_its_key(tmp_path: Path) -> None:
    """The coordinator and each node sign as themselves, and as nobody else."""
    kits = provisioned(tmp_path)
    hub, node = open_kit(kits.coordinator), open_kit(kits.merchant("north"))
    assert isinstance(hub, CoordinatorKit)
    assert isinstance(node, MerchantKit)
    trusted = Trusted.read(
        authority=node.authority.read_bytes(),
        revoked=node.revoked.read_bytes(),
        domain="shops.example",
        now=NOW.timestamp,
    )
    message = statement("test", "x")
    signer = Signer.read(node.certificate.read_bytes(), node.key.read_bytes())
    trusted.check("north", signer.certificate, message, signer.sign(message))
    signer = Signer.read(hub.coordinator_certificate.read_bytes(), hub.key.read_bytes())
    trusted.check_coordinator(signer.certificate, message, signer.sign(message))
    check_pair(hub.tls_certificate.read_bytes(), hub.tls_key.read_bytes(), NOW.timestamp())
    assert (hub.members / "north.pem").read_bytes() == node.certificate.read_bytes()
    assert read_certificate(node.certificate.read_bytes()).uris == (
        "spiffe://shops.example/merchant/north/node",
    )


def test_where_a_merchant_makes_its_keys_itself_its_kits_come_without_any(tmp_path: Path) -> None:
    """Neither key nor certificate, and no member until a request is approved."""
    kits = provisioned(tmp_path, SITE)
    assert not list(kits.merchant("south").rglob("*.key"))
    assert not (kits.merchant("south") / "node.pem").exists()
    assert [path.name for path in (kits.coordinator / "members").iterdir()] == ["north.pem"]


def test_keys_of_all_merchants_are_made_at_their_sites_when_asked_for(tmp_path: Path) -> None:
    """What the option --csr does: only the operator's own two places hold keys."""
    kits = provision(federation(tmp_path).with_keys_at_site(), tmp_path / "kits", NOW)
    assert {key.parent.name for key in kits.root.rglob("*.key")} == {"authority", "coordinator"}


def test_the_public_items_are_one_catalogue_that_training_and_serving_read(tmp_path: Path) -> None:
    """All merchants' items, sorted by id, each with its merchant."""
    catalogue = open_kit(provisioned(tmp_path).coordinator).catalogue
    items = read_public_items(catalogue)
    assert items.item_ids == ("n1", "n2", "s1", "s2")
    assert items.merchant_ids == ("north", "north", "south", "south")
    assert read_catalogue(catalogue).table["price"].to_list() == [3.5, 20.0, 3.5, 20.0]


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """A second provisioning is refused and changes no byte."""
    kits = provisioned(tmp_path)
    before = (kits.authority / "ca.key").read_bytes()
    with pytest.raises(KitExists, match="is there already"):
        provisioned(tmp_path)
    assert (kits.authority / "ca.key").read_bytes() == before


def drop_column(table: pl.DataFrame) -> pl.DataFrame:
    """A catalogue without prices and brands."""
    return table.drop("price", "brand")


def repeat_item(table: pl.DataFrame) -> pl.DataFrame:
    """A catalogue that names its items twice."""
    return pl.concat([table, table])


def foreign_item(table: pl.DataFrame) -> pl.DataFrame:
    """A catalogue with an item of the other merchant."""
    return table.with_columns(item_id=pl.Series(["n1", "s2"]))


def no_item(table: pl.DataFrame) -> pl.DataFrame:
    """A catalogue without rows."""
    return table.head(0)


def no_number(table: pl.DataFrame) -> pl.DataFrame:
    """A catalogue whose prices are words."""
    return table.with_columns(price=pl.lit("cheap"))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (drop_column, "merchant 'south' lacks the columns brand, price"),
        (repeat_item, "'s1' more than once"),
        (foreign_item, "'n1' is in the catalogues of north and south"),
        (no_item, "holds no item"),
        (no_number, "no number"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_named_before_anything_is_written(
    tmp_path: Path, damage: object, named: str
) -> None:
    """The merchant, the column or the item; no folder is left behind."""
    path = write_federation(tmp_path)
    assert callable(damage)
    damage(pl.read_csv(tmp_path / "south.csv")).write_csv(tmp_path / "south.csv")
    with pytest.raises(PublicCatalogueError, match=named):
        provision(read_federation(path), tmp_path / "kits", NOW)
    assert {entry.name for entry in tmp_path.iterdir()} == {"federation.toml", "north.csv", "south.csv"}
