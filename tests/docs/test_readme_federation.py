"""The README's way to a federation is one that is run elsewhere: from the page of deployment or in a test."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import typer.main
from test_docs_examples import ROOT, blocks

from fedrank.cli import app

RUN = [
    ROOT / "tests" / "federation" / "small_federation.py",
    ROOT / "tests" / "federation" / "test_end_to_end.py",
    ROOT / "evaluation" / "bench" / "federation_world.py",  # begins the processes of that test
    ROOT / "tests" / "deploy" / "test_preflight.py",
]
"""Where `fedrank` is called as the README has it, beside the page whose commands `test_docs_deployment.py` runs."""
PAGE = ROOT / "docs" / "deployment.md"
BEGIN = "fedrank provision "


class Line(NamedTuple):
    """A command of the README: its names, and the options that it gives."""

    names: tuple[str, ...]
    options: frozenset[str]


def readme() -> list[list[str]]:
    """The words of each command in the block that begins with `fedrank provision`."""
    (block,) = (one for one in blocks(ROOT / "README.md", "sh") if one.text.startswith(BEGIN))
    lines = [shlex.split(line) for line in block.text.splitlines()]
    assert all(words[0] == "fedrank" for words in lines)
    return [words[1:] for words in lines]


def parsed(words: list[str]) -> Line:
    """Let the command line itself read the words; it raises where it has no such command, option or argument."""
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="fedrank")
    names: list[str] = []
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert name is not None and found is not None
        names, command = [*names, name], found
        context = click.Context(command, info_name=name, parent=context)
    known = {text for one in command.params for text in one.opts if text.startswith("-")}
    given = frozenset(word for word in words if word in known)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if rest or any(
        one.required and not isinstance(values.get(one.name or ""), str) for one in command.params
    ):
        raise click.UsageError(f"{names} has an argument too many or too few: {words}")
    return Line(tuple(names), given)


def literal_calls(file: Path) -> Iterator[list[str]]:
    """The texts that stand in each call of a Python file, in order; what is no text is left out."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            inner = [part for one in node.args for part in (one.elts if isinstance(one, ast.List) else [one])]
            yield [one.value for one in inner if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def stand_together(names: tuple[str, ...], words: list[str]) -> bool:
    """Whether a command's names stand in this order in a call, one right after the other."""
    return any(tuple(words[at : at + len(names)]) == names for at in range(len(words)))


def run_elsewhere() -> list[list[str]]:
    """The words of all commands that the page or a test of the whole runs."""
    lines = [line for block in blocks(PAGE, "sh") for line in block.text.splitlines()]
    page = [shlex.split(line)[1:] for line in lines if line.startswith("fedrank ")]
    return page + [call for file in RUN for call in literal_calls(file)]


def test_every_line_of_the_readme_on_a_federation_is_a_command_that_is_run_elsewhere() -> None:
    """With the same options: a command that changes there has to change in the README too."""
    lines, elsewhere = [parsed(words) for words in readme()], run_elsewhere()
    assert len(lines) >= 8
    for line in lines:
        found = [words for words in elsewhere if stand_together(line.names, words)]
        assert any(line.options <= set(words) for words in found), (line, found)


@pytest.mark.parametrize("words", ["merchant lode KIT", "promote V --runs KIT", "federation run"])
def test_a_line_that_is_no_command_is_found(words: str) -> None:
    """A wrong name, an option that is not there, an argument that is missing."""
    with pytest.raises(click.UsageError):
        parsed(words.split())


def test_the_readme_loads_events_that_may_be_used() -> None:
    """Without a consent a run would spend its budget on nothing."""
    (load,) = (line for line in map(parsed, readme()) if line.names == ("merchant", "load"))
    assert "--consent" in load.options
