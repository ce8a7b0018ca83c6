"""Generate the stubs that lie, committed, beside each `.proto` file: `python -m proto.generate [OUTPUT]`.

The compiler runs at the repository root, so a file is registered, and its stubs import each other, as
`proto.fedrank...`: the package `fedrank` is the command line and stays free of generated code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds the package `proto`."""

_ENDINGS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


class GenerationError(RuntimeError):
    """The protocol compiler refused a file, or is not installed."""


def proto_files(root: Path = ROOT) -> list[str]:
    """Paths of all `.proto` files, relative to `root`, in a fixed order."""
    return sorted(path.relative_to(root).as_posix() for path in (root / "proto").rglob("*.proto"))


def generate(output: Path, root: Path = ROOT) -> list[Path]:
    """Write `_pb2.py`, `_pb2.pyi` and `_pb2_grpc.py` of every `.proto` file under `output`.

    Returns the paths written. Raises `GenerationError` where the compiler (package grpcio-tools, in the extra
    `dev`) is absent or fails.
    """
    try:
        from grpc_tools import protoc  # type: ignore[import-untyped]
    except ImportError as error:
        raise GenerationError("grpcio-tools is not installed: pip install 'fedrank[dev]'") from error
    bundled = Path(protoc.__file__).parent / "_proto"
    files = proto_files(root)
    status = protoc.main(
        ["protoc", f"-I{root}", f"-I{bundled}"]
        + [f"--{kind}_out={output}" for kind in ("python", "pyi", "grpc_python")]
        + files
    )
    if status != 0:
        raise GenerationError(f"protoc ended with status {status}; its message above names the line")
    return [output / (name.removesuffix(".proto") + ending) for name in files for ending in _ENDINGS]


def main(arguments: Sequence[str]) -> int:
    """Regenerate into the tree, or into the folder given; prints each file written."""
    output = Path(arguments[0]) if arguments else ROOT
    for path in generate(output):
        print(path.relative_to(output))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
