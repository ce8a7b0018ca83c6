"""What the documents show is true: their commands run, their output comes, their Python does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np
import pytest
import typer.main
from google.protobuf import json_format

from evaluation.releasing import signing_registry
from fedrank.cli import app
from model.content import CONTENT_FEATURES
from model.schema import Schema
from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from proto.fedrank.ranking.v1.ranking_pb2_grpc import RankingServiceStub
from server.coordination.config import Participants
from simulation.data import load
from simulation.population import build_population

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIM = 8


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a document; `title` is the file that it shows."""

    language: str
    title: str | None
    text: str


def blocks(document: Path, *languages: str) -> list[Block]:
    """The blocks of a document in some languages, in order."""
    found = FENCE.findall(document.read_text(encoding="utf-8"))
    return [Block(language=a, title=b or None, text=c) for a, b, c in found if a in languages]


def commands(document: Path) -> list[str]:
    """Every `fedrank` command line that a document shows."""
    lines = [line for block in blocks(document, "sh", "console") for line in block.text.splitlines()]
    lines = [line.removeprefix("$ ").removeprefix(".venv/bin/").strip(" &") for line in lines]
    return [line for line in lines if line.startswith("fedrank ")]


def write_files(document: Path, folder: Path) -> None:
    """Write the files that a document shows into a folder; a mapping file waits for its turn."""
    for block in blocks(document, "csv"):
        assert block.title is not None
        path = folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")


def environment() -> dict[str, str]:
    """The environment of a user who has activated the virtual environment, with a wide terminal."""
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": found, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}


def flat(text: str) -> str:
    """Text with runs of blanks as one, so that the width of a table does not matter."""
    return re.sub(r"\s+", " ", text)


def run_console(block: Block, folder: Path) -> None:
    """Run a block's commands in a folder; each line shown under a command must be in its output."""
    output = ""
    for line in block.text.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                ["bash", "-c", line.removeprefix("$ ")],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
            )
            output = flat(done.stdout + done.stderr)
        else:
            assert flat(line).strip() in output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_in_a_document_is_one_that_fedrank_understands(document: Path) -> None:
    """Sub-commands and options exist and their values have the right form; nothing is run."""
    for line in commands(document):
        words = shlex.split(line, comments=True)[1:]
        command: click.Command = typer.main.get_command(app)
        while isinstance(command, click.Group) and words:
            command, words = command.commands[words[0]], words[1:]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options, line


def test_the_commands_for_own_data_give_the_output_shown(tmp_path: Path) -> None:
    """docs/data.md from top to bottom: files are written and commands run in the order in which they stand."""
    document = ROOT / "docs" / "data.md"
    write_files(document, tmp_path)
    for block in blocks(document, "toml", "console"):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        else:
            run_console(block, tmp_path)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`fedrank serve` over the shop of docs/data.md with random weights; gives the address."""
    folder = tmp_path_factory.mktemp("shop")
    write_files(ROOT / "docs" / "data.md", folder)
    data = load(folder / "shop")
    build_population(folder, data.items, data.events, Participants.SHOPPERS)
    schema = Schema(items=len(data.items), content_features=CONTENT_FEATURES, dim=DIM)
    # Without weights for context and age, what is shown does not depend on the hour of the test.
    drawn = np.random.default_rng(0).normal(0, 1, schema.shapes()["item_id"])
    weights = {**schema.zeros(), "gain": np.ones(DIM, np.float32), "item_id": drawn.astype(np.float32)}
    registry, signer = signing_registry(folder, "shop")
    registry.promote(registry.add(weights, {"clock": "seconds"}, signer).version)
    command = ["fedrank", "serve", "--run", str(folder), "--port", "0", "--stored-profiles"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
        process.terminate()


def test_the_python_of_the_ranking_page_runs_as_it_stands(address: str, tmp_path: Path) -> None:
    """All blocks of docs/ranking.md, joined in order, against an endpoint; the last lines print what is shown."""
    document = ROOT / "docs" / "ranking.md"
    code = "\n".join(block.text for block in blocks(document, "python"))
    assert "127.0.0.1:8443" in code
    script = tmp_path / "shop.py"
    script.write_text(code.replace("127.0.0.1:8443", address), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    (shown,) = blocks(document, "text")
    assert done.stdout == shown.text


def test_the_answer_shown_has_the_form_of_a_real_one(address: str) -> None:
    """The JSON of docs/ranking.md has the keys and types that `fedrank rank --json` prints."""
    document = ROOT / "docs" / "ranking.md"
    line = next(line for line in commands(document) if line.startswith("fedrank rank"))
    words = [*shlex.split(line), "--address", address]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True)
    (shown,) = blocks(document, "json")
    assert form(json.loads(shown.text)) == form(json.loads(done.stdout))


def form(value: Any) -> Any:
    """The keys and types of a JSON value; a list has the form of its first entry."""
    if isinstance(value, dict):
        return {key: form(part) for key, part in value.items()}
    if isinstance(value, list):
        return [form(part) for part in value[:1]]
    return type(value).__name__


def test_the_protocol_shown_is_that_of_the_proto_file() -> None:
    """Every line of the block in docs/ranking.md is in ranking.proto."""
    proto = (ROOT / "proto/fedrank/ranking/v1/ranking.proto").read_text(encoding="utf-8").splitlines()
    (shown,) = blocks(ROOT / "docs" / "ranking.md", "proto")
    assert [line for line in shown.text.splitlines() if line not in proto] == []


def test_the_json_for_grpcurl_is_what_the_protocol_reads_and_the_endpoint_answers(address: str) -> None:
    """Each -d of docs/ranking.md is a message of the method that it is sent to; field names and enums are checked."""
    shown = [
        shlex.split(line)
        for block in blocks(ROOT / "docs" / "ranking.md", "sh")
        for line in block.text.splitlines()
        if line.startswith("grpcurl ")
    ]
    methods = pb.DESCRIPTOR.services_by_name["RankingService"].methods_by_name
    sent = {}
    for words in shown:
        service, _, method = words[-1].partition("/")
        assert service == "fedrank.ranking.v1.RankingService"
        assert (ROOT / words[words.index("-proto") + 1]).is_file()
        kind = getattr(pb, methods[method].input_type.name)
        sent[method] = json_format.Parse(words[words.index("-d") + 1], kind())
    with grpc.insecure_channel(address) as channel:
        stub = RankingServiceStub(channel)  # type: ignore[no-untyped-call]
        assert stub.Rank(sent["Rank"], timeout=10).items
        assert stub.RecordEvents(iter([sent["RecordEvents"]]), timeout=10).acknowledged == 1


def test_the_runner_of_examples_sees_a_wrong_output(tmp_path: Path) -> None:
    """A line that the command does not print fails the example."""
    run_console(Block(language="console", title=None, text="$ echo a   b\na b\n"), tmp_path)
    with pytest.raises(AssertionError):
        run_console(Block(language="console", title=None, text="$ echo a\nb\n"), tmp_path)
