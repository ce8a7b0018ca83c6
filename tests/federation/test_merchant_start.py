"""A merchant's node is not started with a key that could only be turned away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kits_of_two import make_kits, merchant_kit
from typer.testing import CliRunner

from deploy.kit_files import Kits
from fedrank.cli import app
from fedrank.exits import DATA, exit_code
from fedrank.federation.merchant import merchant_services
from privacy.errors import CertificateError

DAY = 86_400.0


def _of_another(kits: Kits) -> None:
    key = kits.merchant("north") / "node.key"
    key.write_bytes((kits.merchant("south") / "node.key").read_bytes())


def _damaged(kits: Kits) -> None:
    (kits.merchant("north") / "node.pem").write_bytes(b"half a certificate")


@pytest.mark.parametrize(
    ("damage", "words"),
    [(_of_another, "do not belong together"), (_damaged, "the certificate cannot be read")],
)
def test_a_node_without_a_pair_is_not_started(
    tmp_path: Path, damage: Callable[[Kits], None], words: str
) -> None:
    """The command ends before it starts anything, names both files and the way to new ones."""
    kits = make_kits(tmp_path)
    damage(kits)
    done = CliRunner().invoke(app, ["merchant", "start", str(kits.merchant("north"))])
    assert isinstance(done.exception, CertificateError)
    assert exit_code(done.exception) == DATA
    told = str(done.exception)
    assert words in told and "node.pem and node.key" in told and "fedrank merchant rotate" in told
    assert "ready" not in done.output


@pytest.mark.parametrize(("days", "refusal"), [(-1, "is not valid yet"), (0, ""), (366, "has expired")])
def test_a_certificate_counts_between_its_dates(tmp_path: Path, days: int, refusal: str) -> None:
    """The day before it begins, today, and the day after its year."""
    kit = merchant_kit(make_kits(tmp_path), "north")
    kit.lay_out_data()

    def now() -> float:
        return time.time() + days * DAY

    if not refusal:
        assert [service.name for service in merchant_services(kit, verbose=False, now=now)] == ["node"]
        return
    with pytest.raises(CertificateError, match=refusal):
        merchant_services(kit, verbose=False, now=now)
