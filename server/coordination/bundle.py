"""The bundle that Flower wants with every run: two names, and no code.

Executors run the installed apps whatever a bundle holds, so this one holds nothing but where the run's configuration
lies at the coordinator.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from flwr.cli.build import build_fab_from_files

RUN: Final = "run"
"""The one word of a bundle's configuration: the name of the run, under which the coordinator keeps the others."""

_PROJECT: Final = f"""
[project]
name = "fedrank"
version = "1.0.0"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedrank"

[tool.flwr.app.components]
serverapp = "server.coordination.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
{RUN} = ""
"""


@cache
def bundle() -> bytes:
    """The bundle's bytes, the same in every run."""
    content, _ = build_fab_from_files({"pyproject.toml": _PROJECT.encode()})
    return content
