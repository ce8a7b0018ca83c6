"""Merchants come, get their keys and go: who is trusted after each step, and what never leaves a site."""

from __future__ import annotations

import shutil
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from federations import NOW, TEXT, provisioned, write_items

from deploy.errors import FederationFileError, KitError, KitExists, MembershipError, PublicCatalogueError
from deploy.federation_model import KeysMadeBy, Merchant
from deploy.kit import MerchantKit, open_kit
from deploy.kit_files import Kits
from deploy.membership import Operator
from deploy.site_keys import install, request
from privacy.errors import CertificateError
from privacy.secagg.identity import Signer, Trusted, statement

SITE = TEXT.replace("shoppers = 300", 'shoppers = 300\nkeys = "site"')
MESSAGE = statement("test", "x")


def merchant_kit(folder: Path) -> MerchantKit:
    """The kit in a folder, which is a merchant's."""
    kit = open_kit(folder)
    assert isinstance(kit, MerchantKit)
    return kit


def signer_of(folder: Path) -> Signer:
    """The pair of a merchant's kit."""
    kit = merchant_kit(folder)
    return Signer.read(kit.certificate.read_bytes(), kit.key.read_bytes())


def check(kits: Kits, name: str, signer: Signer) -> None:
    """Hold a signature of a node against what the coordinator's kit trusts."""
    trusted = Trusted.read(
        authority=(kits.coordinator / "ca.pem").read_bytes(),
        revoked=(kits.coordinator / "revoked.pem").read_bytes(),
        domain="shops.example",
        now=NOW.timestamp,
    )
    trusted.check(name, signer.certificate, MESSAGE, signer.sign(MESSAGE))


def approved(kits: Kits, site: Path, name: str = "south") -> None:
    """Carry a request from a site to the operator, and the certificate back."""
    certificate, *_ = Operator.open(kits.root).approve(name, (site / "node.csr").read_bytes(), NOW)
    install(site, certificate, NOW.timestamp)


@pytest.fixture
def site(tmp_path: Path) -> tuple[Kits, Path]:
    """All kits at the operator's, and the kit of south carried to its own site."""
    kits = provisioned(tmp_path, SITE)
    return kits, Path(shutil.copytree(kits.merchant("south"), tmp_path / "site" / "south"))


def test_a_key_is_made_at_the_site_and_only_its_certificate_is_signed_elsewhere(
    site: tuple[Kits, Path],
) -> None:
    """After request, approve and install the node is believed, and its key lies nowhere else."""
    kits, kit = site
    request(kit)
    assert stat.S_IMODE((kit / "node.next.key").stat().st_mode) == 0o600
    assert b"PRIVATE KEY" not in (kit / "node.csr").read_bytes()
    approved(kits, kit)
    check(kits, "south", signer_of(kit))
    assert stat.S_IMODE((kit / "node.key").stat().st_mode) == 0o600
    assert not (kit / "node.next.key").exists()
    assert not list(kits.merchant("south").rglob("*.key"))
    assert (kits.coordinator / "members/south.pem").read_bytes() == (kit / "node.pem").read_bytes()


def test_a_second_request_of_a_site_replaces_the_key_and_the_old_one_is_out(site: tuple[Kits, Path]) -> None:
    """The node keeps its old pair until the new certificate is there; then the old one is revoked."""
    kits, kit = site
    request(kit)
    approved(kits, kit)
    old = signer_of(kit)
    request(kit)
    assert signer_of(kit).certificate == old.certificate
    approved(kits, kit)
    check(kits, "south", signer_of(kit))
    with pytest.raises(CertificateError, match="revoked"):
        check(kits, "south", old)


def test_an_open_request_is_not_replaced_unasked(site: tuple[Kits, Path]) -> None:
    """The operator may be signing it."""
    request(site[1])
    key = (site[1] / "node.next.key").read_bytes()
    with pytest.raises(KitExists, match="a request is open"):
        request(site[1])
    assert (site[1] / "node.next.key").read_bytes() == key


def test_a_request_that_names_somebody_else_is_not_signed(site: tuple[Kits, Path]) -> None:
    """South's request gets no certificate of north, and north stays a member with the one it has."""
    kits, kit = site
    request(kit)
    before = (kits.authority / "members/north.pem").read_bytes()
    with pytest.raises(CertificateError, match="another participant's"):
        Operator.open(kits.root).approve("north", (kit / "node.csr").read_bytes(), NOW)
    assert (kits.authority / "members/north.pem").read_bytes() == before
    check(kits, "north", signer_of(kits.merchant("north")))


def test_a_certificate_that_is_not_for_the_waiting_key_is_not_installed(site: tuple[Kits, Path]) -> None:
    """Another member's, or the right one without a request; the kit stays as it was."""
    kits, kit = site
    foreign = kits.authority / "members/north.pem"
    with pytest.raises(MembershipError, match="no open request"):
        install(kit, foreign, NOW.timestamp)
    request(kit)
    with pytest.raises(CertificateError, match="not for the key that waits"):
        install(kit, foreign, NOW.timestamp)
    assert not (kit / "node.key").exists()
    assert (kit / "node.next.key").exists()


def test_the_kit_of_a_coordinator_makes_no_merchants_request(tmp_path: Path) -> None:
    """It is no merchant's."""
    with pytest.raises(KitError, match="no merchant's kit"):
        request(provisioned(tmp_path).coordinator)


def test_an_invited_merchant_gets_a_kit_and_all_kits_get_the_new_terms(tmp_path: Path) -> None:
    """One federation of three, one catalogue of six items, one digest; keys stay."""
    kits = provisioned(tmp_path)
    key = (kits.merchant("north") / "node.key").read_bytes()
    items = write_items(tmp_path / "west.csv", "w")
    Operator.open(kits.root).invite(Merchant(id="west", catalogue=items, shoppers=50), NOW)
    opened = [open_kit(folder) for folder in kits.all()]
    assert len({kit.federation.digest() for kit in opened}) == 1
    assert (opened[0].federation.merchants, opened[0].federation.shoppers) == (3, 1550)
    assert (kits.merchant("north") / "node.key").read_bytes() == key
    check(kits, "west", signer_of(kits.merchant("west")))
    again = Operator.open(kits.root).federation
    assert [merchant.id for merchant in again.merchants] == ["north", "south", "west"]
    assert again.settings == {"dim": 16, "clock": "seconds"}


@pytest.mark.parametrize(
    ("name", "prefix", "error", "named"),
    [
        ("north", "w", FederationFileError, "'north' stands there more than once"),
        ("west", "s", PublicCatalogueError, "'s1' is in the catalogues"),
    ],
)
def test_an_invitation_that_does_not_fit_changes_nothing(
    tmp_path: Path, name: str, prefix: str, error: type[Exception], named: str
) -> None:
    """A taken id, a taken item."""
    kits = provisioned(tmp_path)
    before = {path: path.read_bytes() for path in kits.root.rglob("*") if path.is_file()}
    items = write_items(tmp_path / "west.csv", prefix)
    with pytest.raises(error, match=named):
        Operator.open(kits.root).invite(Merchant(id=name, catalogue=items, shoppers=50), NOW)
    assert {path: path.read_bytes() for path in kits.root.rglob("*") if path.is_file()} == before


def test_a_revoked_merchant_is_on_every_list_and_no_member(tmp_path: Path) -> None:
    """Its own key is refused; the others go on. A second time there is nothing to revoke."""
    kits = provisioned(tmp_path)
    signer = signer_of(kits.merchant("south"))
    carried = Operator.open(kits.root).revoke("south", NOW)
    assert {kits.coordinator / "revoked.pem", kits.coordinator / "members"} <= set(carried)
    with pytest.raises(CertificateError, match="revoked"):
        check(kits, "south", signer)
    check(kits, "north", signer_of(kits.merchant("north")))
    left = {path.name: path.read_bytes() for path in (kits.coordinator / "members").iterdir()}
    assert set(left) == {"north.pem", "_former.pem"}
    assert left["_former.pem"] == (kits.merchant("south") / "node.pem").read_bytes()
    assert len({(kit / "revoked.pem").read_bytes() for kit in kits.all()}) == 1
    with pytest.raises(MembershipError, match="out already"):
        Operator.open(kits.root).revoke("south", NOW)


def test_a_merchant_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    """For whoever mistypes an id."""
    with pytest.raises(FederationFileError, match="no merchant 'sout'; it has north, south"):
        Operator.open(provisioned(tmp_path).root).revoke("sout", NOW)


def test_a_rotated_node_is_believed_with_its_new_key_alone(tmp_path: Path) -> None:
    """Where the operator makes the keys."""
    kits = provisioned(tmp_path)
    old = signer_of(kits.merchant("north"))
    Operator.open(kits.root).rotate("north", NOW)
    check(kits, "north", signer_of(kits.merchant("north")))
    with pytest.raises(CertificateError, match="revoked"):
        check(kits, "north", old)


def test_former_certificates_are_kept_for_as_long_as_they_would_be_valid(tmp_path: Path) -> None:
    """Two rotations leave two; after their year only the newest is there."""
    kits = provisioned(tmp_path)
    known = []
    for later in (timedelta(0), timedelta(days=1), timedelta(days=367)):
        known.append((kits.merchant("north") / "node.pem").read_bytes())
        Operator.open(kits.root).rotate("north", NOW + later)
        former = (kits.coordinator / "members/_former.pem").read_bytes()
        assert former == (b"".join(known) if later < timedelta(days=300) else b"")


@pytest.mark.parametrize("former", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_list_of_former_certificates_stands_in_the_way_of_a_revocation(
    tmp_path: Path, former: bytes
) -> None:
    """It is empty once all of them have ended, and a damaged one only loses words for whoever was a member."""
    kits = provisioned(tmp_path)
    for folder in (kits.coordinator, kits.authority):
        (folder / "members/_former.pem").write_bytes(former)
    retired = (kits.merchant("south") / "node.pem").read_bytes()
    Operator.open(kits.root).revoke("south", NOW)
    assert not (kits.coordinator / "members/south.pem").exists()
    assert (kits.coordinator / "members/_former.pem").read_bytes() == retired


def test_the_operator_makes_no_key_for_a_merchant_that_makes_its_own(site: tuple[Kits, Path]) -> None:
    """The refusal says what to do instead."""
    operator = Operator.open(site[0].root)
    assert operator.federation.merchant("south").keys is KeysMadeBy.SITE
    with pytest.raises(MembershipError, match="fedrank merchant approve south --csr"):
        operator.rotate("south", NOW)


def test_a_rotated_coordinator_is_believed_and_its_former_signatures_go_on_counting(tmp_path: Path) -> None:
    """The new certificate stands first, the former one behind it; after a revocation only the new one does."""
    kits = provisioned(tmp_path)
    first = (kits.coordinator / "coordinator.pem").read_bytes()
    Operator.open(kits.root).rotate("coordinator", NOW)
    both = (kits.merchant("north") / "coordinator.pem").read_bytes()
    assert both.endswith(first)
    assert both.count(b"BEGIN") == 2
    Signer.read(both, (kits.coordinator / "coordinator.key").read_bytes())
    Operator.open(kits.root).revoke("coordinator", NOW)
    last = (kits.merchant("north") / "coordinator.pem").read_bytes()
    assert last.count(b"BEGIN") == 1
    assert last not in both


def test_revoking_the_coordinator_revokes_every_certificate_that_it_has_had(tmp_path: Path) -> None:
    """Whoever has stolen the key before a rotation could sign rounds until that certificate ends."""
    kits = provisioned(tmp_path)
    stolen = Signer.read(*((kits.coordinator / f"coordinator.{end}").read_bytes() for end in ("pem", "key")))
    Operator.open(kits.root).rotate("coordinator", NOW)
    Operator.open(kits.root).revoke("coordinator", NOW)
    trusted = Trusted.read(
        authority=(kits.merchant("north") / "ca.pem").read_bytes(),
        revoked=(kits.merchant("north") / "revoked.pem").read_bytes(),
        domain="shops.example",
        now=NOW.timestamp,
    )
    with pytest.raises(CertificateError, match="is revoked"):
        trusted.check_coordinator(stolen.certificate, MESSAGE, stolen.sign(MESSAGE))


def test_a_folder_without_an_authority_is_no_operators(tmp_path: Path) -> None:
    """A merchant cannot approve."""
    with pytest.raises(KitError, match=r"no authority/federation\.toml"):
        Operator.open(provisioned(tmp_path).merchant("north"))
