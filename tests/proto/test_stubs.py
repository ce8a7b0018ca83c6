"""The committed stubs are what the protocol compiler makes of the `.proto` files, and they import."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from proto import generate

pytest.importorskip("grpc_tools", reason="grpcio-tools is in the extra `dev`")


def test_the_committed_stubs_are_fresh(tmp_path: Path) -> None:
    """Generating again into an empty folder gives the committed bytes, file by file."""
    written = generate.generate(tmp_path)
    assert len(written) == 3 * len(generate.proto_files())
    for path in written:
        committed = generate.ROOT / path.relative_to(tmp_path)
        assert committed.read_bytes() == path.read_bytes(), f"{committed} is stale: python -m proto.generate"


def test_a_changed_proto_file_makes_the_stubs_stale(tmp_path: Path) -> None:
    """The comparison above can fail: one more message in the source gives other stubs."""
    for name in generate.proto_files():
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True)
        target.write_text((generate.ROOT / name).read_text() + "\nmessage Planted { string value = 1; }\n")
    (tmp_path / "out").mkdir()
    for path in generate.generate(tmp_path / "out", root=tmp_path / "source"):
        committed = generate.ROOT / path.relative_to(tmp_path / "out")
        if path.suffix != ".py" or not path.name.endswith("_grpc.py"):
            assert committed.read_bytes() != path.read_bytes()


def test_a_proto_file_that_does_not_compile_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The generator does not report success over a syntax error."""
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "broken.proto").write_text('syntax = "proto3"; message {')
    with pytest.raises(generate.GenerationError, match="protoc ended with status 1"):
        generate.generate(tmp_path, root=tmp_path)
    assert "broken.proto" in capfd.readouterr().err


def test_the_stubs_import_under_their_package_and_name_the_service() -> None:
    """Readers import `proto.fedrank.ranking.v1.ranking_pb2`; the wire name is the versioned service."""
    messages = importlib.import_module("proto.fedrank.ranking.v1.ranking_pb2")
    services = importlib.import_module("proto.fedrank.ranking.v1.ranking_pb2_grpc")
    service = messages.DESCRIPTOR.services_by_name["RankingService"]
    assert service.full_name == "fedrank.ranking.v1.RankingService"
    assert [method.name for method in service.methods] == ["Rank", "RecordEvents"]
    assert hasattr(services, "RankingServiceStub")


def test_the_command_writes_stubs_into_the_folder_it_is_given(tmp_path: Path) -> None:
    """`python -m proto.generate FOLDER` lists what it wrote and ends with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "proto.generate", str(tmp_path)],
        cwd=generate.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "proto/fedrank/ranking/v1/ranking_pb2.pyi" in done.stdout.splitlines()
    assert (tmp_path / "proto/fedrank/ranking/v1/ranking_pb2.py").is_file()
