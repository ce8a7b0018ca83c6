"""`fedrank certificates`: what it makes, what it refuses, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedrank.cli import app
from fedrank.exits import exit_code
from privacy.certificates import read_certificate, read_revoked
from privacy.errors import CertificateError


def run(*words: str | Path) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["certificates", *map(str, words)])


def make(folder: Path, *words: str) -> Any:
    """Make certificates in a folder."""
    return run("make", "--out", folder, *words)


def test_one_command_makes_an_authority_an_endpoint_and_callers(tmp_path: Path) -> None:
    """The files are printed, and what to keep secret is said beside them."""
    folder = tmp_path / "certs"
    done = make(
        folder, "--server", "localhost", "--merchant", "tea-house", "--role", "reader", "--role", "monitor"
    )
    assert done.exit_code == 0, done.output
    made = {path.name for path in folder.iterdir()}
    pairs = {
        f"{name}.{kind}"
        for name in ("server", "tea-house-reader", "tea-house-monitor")
        for kind in ("pem", "key")
    }
    assert made == {"ca.pem", "ca.key", "revoked.pem"} | pairs
    assert {Path(line).name for line in done.stdout.splitlines()} == made
    assert "ca.key can make any caller" in done.stderr
    reader = read_certificate((folder / "tea-house-reader.pem").read_bytes())
    assert reader.uris == ("spiffe://fedrank/merchant/tea-house/reader",)


def test_a_second_run_adds_and_overwrites_only_when_told(tmp_path: Path) -> None:
    """The authority stays; a pair that is there stays, and none of the others is made then."""
    make(tmp_path, "--merchant", "tea-house", "--role", "reader")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = make(tmp_path, "--merchant", "tea-house", "--role", "monitor", "--role", "reader")
    assert isinstance(refused.exception, CertificateError)
    assert exit_code(refused.exception) == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert make(tmp_path, "--merchant", "tea-house", "--role", "reader", "--renew").exit_code == 0
    assert (tmp_path / "tea-house-reader.pem").read_bytes() != before["tea-house-reader.pem"]
    assert (tmp_path / "ca.pem").read_bytes() == before["ca.pem"]


def test_a_revoked_certificate_is_on_the_list(tmp_path: Path) -> None:
    """Which the endpoint then reads."""
    make(tmp_path, "--merchant", "tea-house", "--role", "reader")
    done = run("revoke", "--out", tmp_path, tmp_path / "tea-house-reader.pem")
    assert "certificates on the list: 1" in done.stdout
    read = read_certificate((tmp_path / "tea-house-reader.pem").read_bytes())
    listed = read_revoked((tmp_path / "revoked.pem").read_bytes(), (tmp_path / "ca.pem").read_bytes())
    assert listed == {(read.issuer, read.serial)}


@pytest.mark.parametrize("name", ["ca.pem", "server.pem"])
def test_what_is_no_callers_is_not_revoked(tmp_path: Path, name: str) -> None:
    """Endpoints look at callers alone; exit code 3 with what to give, and the list stays as it is."""
    make(tmp_path, "--server", "localhost")
    before = (tmp_path / "revoked.pem").read_bytes()
    refused = run("revoke", "--out", tmp_path, tmp_path / name)
    assert isinstance(refused.exception, CertificateError)
    assert "is no caller's" in str(refused.exception)
    assert (tmp_path / "revoked.pem").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ("--merchant", "tea-house"),
        ("--role", "reader"),
        ("--merchant", "tea-house", "--role", "admin"),
    ],
)
def test_wrong_usage_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2, and no authority on the side."""
    assert make(tmp_path / "certs", *words).exit_code == 2
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--merchant", "caf\u00e9", "--role", "reader"),
        ("--merchant", "a/b", "--role", "reader"),
        ("--merchant", "tea-house", "--role", "reader", "--days", "400"),
        ("--merchant", "tea-house", "--role", "reader", "--trust-domain", "Shop Example"),
    ],
)
def test_a_name_or_time_that_no_certificate_can_have_makes_nothing(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Exit code 3, with what would do, before anything is written."""
    done = make(tmp_path / "certs", *words)
    assert done.exception is not None
    assert exit_code(done.exception) == 3
    assert not (tmp_path / "certs").exists()
