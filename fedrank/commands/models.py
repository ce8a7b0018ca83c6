"""`fedrank models`: which model versions a run folder holds, what one is like, and which one is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrank.printable import printable, printable_line
from fedrank.signatures import UNSIGNED, UnsignedOption

if TYPE_CHECKING:
    from model.segments import Segments
    from server.registry import Registry

HELP = "List the model versions of a run, show one with its segments, or promote one."

Run = Annotated[
    Path, typer.Option("--run", help="Run folder of `fedrank simulate`.", exists=True, file_okay=False)
]
Version = Annotated[str | None, typer.Argument(help="A model version; else the promoted one.")]
Merchant = Annotated[
    str | None, typer.Option("--merchant", help="The segments of this merchant's own endpoint.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.command("list")
def list_versions(run: Run, as_json: Json = False) -> None:
    """List the model versions, oldest first: which is promoted, when it came, and its epsilon."""
    registry, promoted = _registry(run)
    found = [_told(registry, version, promoted) for version in registry.versions()]
    if as_json:
        _print_json({"promoted": promoted, "versions": found})
        return
    for one in found:
        mark = ("" if one["signer"] else " not signed") + (" promoted" if one["promoted"] else "")
        typer.echo(f"{one['version']} added {one['added']} {_epsilon(one['privacy'])}{mark}")
    if promoted is None:
        typer.echo(f"none is promoted; `fedrank promote --run {run} VERSION` does it", err=True)


@app.command()
def show(
    run: Run,
    version: Version = None,
    merchant: Merchant = None,
    unsigned: UnsignedOption = False,
    as_json: Json = False,
) -> None:
    """Show the card of a version, and the segments that a request may name.

    Prepares what an endpoint opens where nobody has yet, as `fedrank index build` does.
    """
    from server.serving.snapshot_source import SnapshotSource

    registry, promoted = _registry(run, unsigned=unsigned)
    source = SnapshotSource(registry, run / "catalogue.parquet", merchant_id=merchant, version=version)
    snapshot = source.snapshot(source.state())
    told = _told(registry, snapshot.version, promoted) | {"card": dict(snapshot.card)}
    segments = _segments(snapshot.segments)
    if as_json:
        _print_json(told | {"segments": segments})
        return
    mark = ", promoted" if told["promoted"] else ""
    mark += f", signed by {told['signer']}" if told["signer"] else ", not signed"
    typer.echo(printable(f"{snapshot.version}, added {told['added']}{mark}"))
    for name, value in snapshot.card.items():
        typer.echo(printable(f"{name}: {json.dumps(value, ensure_ascii=False)}"))
    typer.echo("segments (number, items, what most of them are):")
    for one in segments:
        typer.echo(printable_line(f"{one['number']:4} {one['items']:9} {one['name']}"))


@app.command()
def promote(
    run: Run,
    version: Annotated[str, typer.Argument(help="The model version, as `fedrank models list` has it.")],
    unsigned: UnsignedOption = False,
    as_json: Json = False,
) -> None:
    """Make a version the one that is served; endpoints that run follow within their --refresh-seconds.

    A version that none of the signers in the run's registry/signers.pem has signed is refused, unless --unsigned is
    given. `fedrank models promote` is the same command.
    """
    registry, before = _registry(run, unsigned=unsigned)
    registry.promote(version)
    _tell_moved(version, before, unsigned=unsigned, as_json=as_json)


def rollback(run: Run, unsigned: UnsignedOption = False, as_json: Json = False) -> None:
    """Serve again what was served before the promoted version; what does not verify is passed over.

    A version that was rolled back is not gone back to; `fedrank promote` takes any.
    """
    registry, before = _registry(run, unsigned=unsigned)
    _tell_moved(registry.rollback(), before, unsigned=unsigned, as_json=as_json)


def _tell_moved(version: str, before: str | None, *, unsigned: bool, as_json: bool) -> None:
    if as_json:
        _print_json({"promoted": version, "before": before})
        return
    was = "where none was" if before is None else f"before it {before}"
    typer.echo(f"promoted {version}, {was}{UNSIGNED * unsigned}")


def _registry(run: Path, *, unsigned: bool = False) -> tuple[Registry, str | None]:
    """The registry and what it has promoted; raises `UnknownVersion` where there is no version at all."""
    from server.errors import UnknownVersion
    from server.registry import Registry

    registry = Registry(run / "registry", unsigned=unsigned)
    if not registry.versions():
        raise UnknownVersion(
            f"{run / 'registry'} holds no model version; give the --out folder of `fedrank simulate`, or the data/ "
            "of a federation's kit"
        )
    return registry, registry.promoted()


def _told(registry: Registry, version: str, promoted: str | None) -> dict[str, Any]:
    """What a list has of a version; `privacy` None: the card cannot be read, or tells nothing of it."""
    from server.errors import CorruptVersion

    try:
        card = registry.card(version)
    except CorruptVersion:
        card = {}
    added = datetime.fromtimestamp(registry.added(version), UTC)
    return {
        "version": version,
        "promoted": version == promoted,
        "added": added.isoformat(timespec="seconds"),
        "privacy": card.get("privacy"),
        "signer": _signer(registry, version),
    }


def _signer(registry: Registry, version: str) -> str | None:
    """Who signed a version; None where it could not be served without --unsigned."""
    from server.errors import RegistryError

    try:
        return registry.signer(version)
    except RegistryError:
        return None


def _epsilon(privacy: Mapping[str, Any] | None) -> str:
    if privacy is None:
        return "epsilon unknown"
    epsilon = privacy.get("epsilon")
    return "no privacy" if epsilon is None else f"epsilon {epsilon:.4g} delta {privacy.get('delta', 0):.2g}"


def _segments(segments: Segments) -> list[dict[str, Any]]:
    pairs = zip(segments.names, segments.sizes, strict=True)
    return [{"number": number, "name": name, "items": size} for number, (name, size) in enumerate(pairs)]


def _print_json(found: Mapping[str, Any]) -> None:
    typer.echo(printable(json.dumps(found, ensure_ascii=False)))
