"""The page that comes with a kit: short, true to the terms, and its commands are commands of fedrank."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from federations import TEXT, federation

from deploy.kit_texts import parts_of
from fedrank.cli import app

PAGE = 60
"""Lines on one page."""
SITE = TEXT.replace("shoppers = 1200", 'shoppers = 1200\nkeys = "site"')
OPEN = TEXT.replace("rounds = 3", 'rounds = 3\ntrust = "none"\nsecure_aggregation = false')


def readmes(folder: Path, text: str) -> list[str]:
    """The pages of a federation: coordinator, north, its endpoint, south."""
    return [part.texts()["README.md"] for part in parts_of(federation(folder, text))]


def commands(page: str) -> Iterator[list[str]]:
    """The words after `fedrank` in every command that a page shows, in a container or not."""
    for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["docker", "compose"] and words[2] == "run":
                yield words[next(at for at, word in enumerate(words) if word in SERVICES) + 1 :]
            elif words[:2] == ["docker", "run"]:
                yield words[next(at for at, word in enumerate(words) if word.startswith("fedrank:")) + 1 :]
            elif "fedrank" in words:
                yield words[words.index("fedrank") + 1 :]


SERVICES = ("coordinator", "merchant", "serving")


@pytest.mark.parametrize("text", [TEXT, SITE, OPEN])
def test_a_readme_is_one_page_that_names_whom_to_tell(tmp_path: Path, text: str) -> None:
    """And no word that only a programmer of Python knows."""
    for page in readmes(tmp_path, text):
        assert len(page.splitlines()) <= PAGE
        assert "the operator who sent you this folder" in page
        assert not re.search(r"\b(pip|venv|virtual environment)\b", page)


@pytest.mark.parametrize("text", [TEXT, SITE])
def test_every_command_in_a_readme_is_one_that_fedrank_understands(tmp_path: Path, text: str) -> None:
    """Sub-commands and options exist; nothing is run."""
    shown = [words for page in readmes(tmp_path, text) for words in commands(page)]
    assert len(shown) >= 8
    for words in shown:
        command: click.Command = typer.main.get_command(app)
        left = list(words)
        while isinstance(command, click.Group):
            assert left[0] in command.commands, words
            command = command.commands[left.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in left if word.startswith("-")} <= options, words


@pytest.mark.parametrize(
    ("text", "noise", "masks", "at_site"),
    [
        (TEXT, "with noise", True, False),
        (SITE, "with noise", True, True),
        (OPEN, "**without noise**", False, False),
    ],
)
def test_a_merchants_readme_says_what_goes_out_and_what_never_does(
    tmp_path: Path, text: str, noise: str, masks: bool, at_site: bool
) -> None:
    """In words that follow the terms: noise where there is some, masks where there are, a key made at the site."""
    page = readmes(tmp_path, text)[1]
    assert noise in page
    assert ("masked" in page) is masks
    assert ("node.csr" in page) is at_site
    assert "**What never goes out:**" in page
