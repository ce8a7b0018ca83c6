"""Versions that nobody answers for: the option that takes them, said in one way by all commands."""

from __future__ import annotations

from typing import Annotated

import typer

UNSIGNED = " (unsigned versions are taken)"
"""What a command adds to its line where the option is given."""

UnsignedOption = Annotated[
    bool,
    typer.Option("--unsigned", help="Take model versions too that no listed signer has signed."),
]
