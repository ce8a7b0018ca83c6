"""`fedrank provision` and `fedrank merchant invite|request|...`: what they print, and how they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedrank.cli import app
from fedrank.exits import DATA, USAGE, exit_code

DESCRIPTION = """
name = "spring"
domain = "shops.example"
coordinator = "hub.shops.example:9092"
epsilon = 8
delta = 1e-6
rounds = 3
minimum_cohort = 2
"""
ITEMS = "item_id,title,category,brand,price,description\n{0}1,Tea,drinks,Leaf,3.5,green\n"


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A federation file of two merchants."""
    text = DESCRIPTION
    for name in ("north", "south"):
        (tmp_path / f"{name}.csv").write_text(ITEMS.format(name))
        text += f'\n[[merchants]]\nid = "{name}"\ncatalogue = "{name}.csv"\nshoppers = 10\n'
    path = tmp_path / "federation.toml"
    path.write_text(text)
    return path


def run(*words: str | Path) -> Any:
    """Run `fedrank` in this process."""
    return CliRunner().invoke(app, list(map(str, words)))


def test_provision_prints_the_folders_and_what_to_keep_offline(described: Path) -> None:
    """Folders for machines on standard output, the warning beside it."""
    out = described.parent / "kits"
    done = run("provision", described, "--out", out)
    assert done.exit_code == 0, done.output
    listed = ("authority", "coordinator", "merchants/north", "merchants/south")
    assert done.stdout.splitlines() == [str(out / name) for name in listed]
    assert "keep it offline" in done.stderr


def test_with_csr_no_merchants_key_is_made(described: Path) -> None:
    """The kits come without one, and a request makes it."""
    kits = described.parent / "kits"
    assert run("provision", described, "--out", kits, "--csr").exit_code == 0
    assert not list((kits / "merchants").rglob("*.key"))
    done = run("merchant", "request", kits / "merchants/north")
    assert done.stdout.splitlines() == [str(kits / "merchants/north/node.csr")]


def test_membership_prints_what_has_to_be_carried(described: Path) -> None:
    """Paths alone on standard output, so that a script can copy them."""
    kits = described.parent / "kits"
    run("provision", described, "--out", kits)
    done = run("merchant", "revoke", "north", "--kits", kits)
    assert done.exit_code == 0, done.output
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert paths[:2] == [kits / "coordinator/revoked.pem", kits / "coordinator/members"]
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("minimum_cohort = 2", "minimum_cohort = 3", USAGE),
        ('id = "south"', 'id = "north"', USAGE),
        ("hub.shops.example:9092", "hub.shops.example", USAGE),
        ('"south.csv"', '"federation.toml"', DATA),
        ('"south.csv"', '"nowhere.csv"', DATA),
    ],
)
def test_a_refusal_is_an_error_of_the_documented_kind_and_leaves_no_folder(
    described: Path, before: str, after: str, code: int
) -> None:
    """2 for a description that cannot be, 3 for data that cannot be used."""
    text = described.read_text()
    assert before in text
    described.write_text(text.replace(before, after))
    done = run("provision", described, "--out", described.parent / "kits")
    assert isinstance(done.exception, Exception)
    assert exit_code(done.exception) == code
    assert not (described.parent / "kits").exists()


def test_an_address_of_an_endpoint_that_is_none_is_refused(described: Path) -> None:
    """The option is named."""
    kits = described.parent / "kits"
    run("provision", described, "--out", kits)
    words = ("--catalogue", described.parent / "north.csv", "--shoppers", "5", "--serving", "rank.example")
    done = run("merchant", "invite", "west", "--kits", kits, *words)
    assert isinstance(done.exception, Exception)
    assert "--serving is 'rank.example'" in str(done.exception)
