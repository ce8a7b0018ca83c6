"""What the documents point to exists: files, tests, columns, links; and what must be listed is listed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from evaluation.report_contract import _COST, _DATA_COUNTS, _PRIVACY
from privacy.schema import REVISION_TABLE, metadata

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ROOMS = "proto|privacy|model|client|server|simulation|evaluation|fedrank|tests|docs|deploy"
FILES = re.compile(rf"(?<![\w/.-])((?:{ROOMS})/[\w/.-]*\w)(?:::(\w+))?")
LINKS = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def missing_references(text: str) -> set[str]:
    """Files of the tree, and tests in them, that a text names and that do not exist."""
    missing = set()
    for name, test in FILES.findall(text):
        path = ROOT / name
        if not path.exists() and not list(path.parent.glob(path.name + "-*.md")):
            missing.add(name)
        elif test and test not in functions_of(path):
            missing.add(f"{name}::{test}")
    return missing


def functions_of(path: Path) -> set[str]:
    """Names of the functions that a file defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_and_test_that_a_document_names_exists(document: Path) -> None:
    """Files by their path from the root, tests by their id, links from the document's folder."""
    text = document.read_text(encoding="utf-8")
    assert missing_references(text) == set()
    assert {link for link in LINKS.findall(text) if not (document.parent / link).exists()} == set()


def test_a_reference_to_nothing_is_found() -> None:
    """The search sees a missing file and a missing test, and knows a decision by its number."""
    text = "`model/schema.py`, `model/nothing.py`, `tests/test_architecture.py::test_nothing`, docs/adr/0001."
    assert missing_references(text) == {"model/nothing.py", "tests/test_architecture.py::test_nothing"}


def test_the_threat_model_lists_every_column_of_every_table() -> None:
    """No table and no column is added without saying what it leaves readable."""
    text = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    listed = {
        match[1]: set(re.findall(r"`(\w+)`", match[2]))
        for match in re.finditer(r"^\| `(\w+)`[^|]*\| ([^|]+)\|", text, re.MULTILINE)
    }
    columns = {name: {column.name for column in table.columns} for name, table in metadata.tables.items()}
    assert columns | {REVISION_TABLE: {"version_num"}} == listed


def test_the_architecture_lists_every_word_of_the_report_contract() -> None:
    """What machines read is documented word by word."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    words = {"name", "label", *_DATA_COUNTS, *_PRIVACY, *_COST, "mean", "low", "high"}
    assert {word for word in words if f"`{word}`" not in text} == set()


def test_decisions_are_numbered_without_gaps_and_fill_one_page() -> None:
    """`docs/adr/` counts from 0001, and each decision has its three parts."""
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{n:04d}" for n in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert len(text.splitlines()) <= 60


def test_contributing_stays_short() -> None:
    """It is read before the first change, so it fits on one screen."""
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 60
