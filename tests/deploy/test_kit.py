"""Opening a kit: what does not belong together is refused, with what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import TEXT, provisioned, write_items

from deploy.errors import KitError
from deploy.kit import DATA_VARIABLE, open_kit
from server.registry import Registry


def test_a_kit_whose_terms_were_changed_is_refused(tmp_path: Path) -> None:
    """One byte of federation.json: a larger epsilon is not what the authority signed."""
    kit = provisioned(tmp_path).merchant("north")
    manifest = kit / "federation.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"epsilon":8.0', b'"epsilon":9.0'))
    with pytest.raises(KitError, match="not signed by the federation's authority"):
        open_kit(kit)


def test_a_kit_with_another_federations_authority_is_refused(tmp_path: Path) -> None:
    """Whoever swaps the root of trust has no signature under it."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    kit = provisioned(tmp_path / "one").merchant("north")
    other = provisioned(tmp_path / "other").authority
    (kit / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    with pytest.raises(KitError, match="cannot be trusted"):
        open_kit(kit)


def test_a_kit_with_other_items_than_the_signed_ones_is_refused(tmp_path: Path) -> None:
    """Model indices would mean other items."""
    kit = provisioned(tmp_path).merchant("north")
    write_items(kit / "catalogue.parquet", "n")
    with pytest.raises(KitError, match="SHA-256"):
        open_kit(kit)


@pytest.mark.parametrize(
    ("lost", "next_step"),
    [
        ("node.key", "merchant request"),
        ("node.pem", "merchant install"),
        ("revoked.pem", "ask for a new kit"),
        ("federation.sig", "federation.sig is missing"),
        ("kit.toml", "fedrank provision"),
    ],
)
def test_a_kit_that_lacks_a_file_is_refused_with_the_next_step(
    tmp_path: Path, lost: str, next_step: str
) -> None:
    """The file and what to do."""
    kit = provisioned(tmp_path).merchant("north")
    (kit / lost).unlink()
    with pytest.raises(KitError, match=next_step):
        open_kit(kit)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('kind = "merchant"', 'kind = "guest"', "'guest'"),
        ('merchant = "north"', "merchant = 7", "merchant in .* is 7"),
        ('data = "data"', "", "data in .* is None"),
    ],
)
def test_a_kit_file_with_a_wrong_word_is_refused(tmp_path: Path, before: str, after: str, named: str) -> None:
    """The word and its value."""
    kit = provisioned(tmp_path).merchant("north")
    text = (kit / "kit.toml").read_text()
    assert before in text
    (kit / "kit.toml").write_text(text.replace(before, after))
    with pytest.raises(KitError, match=named):
        open_kit(kit)


def test_a_kit_without_its_key_opens_where_the_key_is_yet_to_be_made(tmp_path: Path) -> None:
    """As `fedrank merchant request` has to."""
    site = TEXT.replace("shoppers = 300", 'shoppers = 300\nkeys = "site"')
    kit = provisioned(tmp_path, site).merchant("south")
    assert open_kit(kit, keyed=False).folder == kit
    with pytest.raises(KitError, match=r"node\.key"):
        open_kit(kit)


def test_the_data_folder_is_a_run_folder_that_follows_the_kit(tmp_path: Path) -> None:
    """It gets the kit's items and signers, and what else lies in it stays."""
    kit = open_kit(provisioned(tmp_path).merchant("north"))
    kit.lay_out_data()
    (kit.data / "ledger.db").write_bytes(b"accounts")
    (kit.data / "catalogue.parquet").write_bytes(b"of last year")
    kit.lay_out_data()
    assert (kit.data / "catalogue.parquet").read_bytes() == kit.catalogue.read_bytes()
    assert (kit.data / "ledger.db").read_bytes() == b"accounts"
    assert Registry(kit.data / "registry").versions() == []
    assert (kit.data / "registry/signers.pem").read_bytes() == kit.coordinator_certificate.read_bytes()


def test_containers_name_another_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their kit cannot be written to."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "elsewhere"))
    assert open_kit(provisioned(tmp_path).merchant("north")).data == tmp_path / "elsewhere"
