"""docs/deployment.md is true: its files and commands make a federation, in the order in which they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from test_docs_examples import ROOT, blocks, write_files
from typer.testing import CliRunner

from deploy.federation_model import SETTINGS
from deploy.kit import MerchantKit, open_kit
from deploy.membership import Operator
from fedrank.cli import app
from privacy.certificates import check_pair, read_revoked

PAGE = ROOT / "docs" / "deployment.md"


def steps() -> list[list[str]]:
    """The commands of the page that make and change kits, as words."""
    lines = [line for block in blocks(PAGE, "sh") for line in block.text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("fedrank ")]


def test_the_commands_of_the_page_make_a_federation_and_change_its_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provision, request, approve, install, invite, rotate, revoke; afterwards every kit opens and fits together."""
    write_files(PAGE, tmp_path)
    (description,) = blocks(PAGE, "toml")
    (tmp_path / "federation.toml").write_text(description.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for words in steps():
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
    operator = Operator.open(tmp_path / "kits")
    kits = [open_kit(folder) for folder in operator.kits.all()]
    assert len({kit.federation.digest() for kit in kits}) == 1
    assert kits[0].federation.merchants == 3
    (south,) = (kit for kit in kits if isinstance(kit, MerchantKit) and kit.merchant == "south")
    check_pair(south.certificate.read_bytes(), south.key.read_bytes(), south.key.stat().st_mtime)
    revoked = (kits[0].revoked.read_bytes(), kits[0].authority.read_bytes())
    assert len(read_revoked(*revoked)) == 2


def test_the_page_lists_the_words_that_a_federation_may_fix() -> None:
    """All of them and no other, in the row of [settings]."""
    row = next(
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `[settings]`")
    )
    assert set(re.findall(r"`([a-z-]+)`", row)) == set(SETTINGS)
