"""What `fedrank coordinator start` and `fedrank merchant start` have in common."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from deploy.kit import Kit

JsonOption = Annotated[bool, typer.Option("--json", help="Print the ready line as one JSON object.")]

KitT = TypeVar("KitT", bound="Kit")


def of_kind(folder: Path, kind: type[KitT], word: str) -> KitT:
    """Open a kit of one kind; raises `KitError` for another kind or none."""
    from deploy.errors import KitError
    from deploy.kit import open_kit

    kit = open_kit(folder)
    if not isinstance(kit, kind):
        raise KitError(
            f"{folder} is no {word}'s kit; give the folder of a {word} that `fedrank provision` wrote"
        )
    return kit


def announcing(what: str, facts: Mapping[str, str], *, as_json: bool) -> Callable[[], None]:
    """Return what prints the one line that says that all processes are ready."""

    def announce() -> None:
        line = json.dumps({"ready": what, **facts}) if as_json else f"ready {what} {' '.join(facts.values())}"
        typer.echo(line)

    return announce


def logging_children() -> bool:
    """Let warnings of the supervisor show with their time; return whether everything was asked for."""
    verbose = logging.getLogger().isEnabledFor(logging.INFO)
    logging.getLogger("fedrank.federation").setLevel(logging.INFO)
    return verbose
