"""Which file of a folder is which: events, items, users, given test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulation.data.errors import UnknownLayout, UnreadableFile
from simulation.data.mapping import Mapping

RECBOLE_SUFFIXES = (".inter", ".item", ".user")
_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", *RECBOLE_SUFFIXES)
_EVENT_STEMS = ("events", "interactions", "ratings")
_ITEM_STEMS = ("items", "products")
_USER_STEMS = ("users",)
_NEXT_STEP = 'Name them in fedrank-data.toml: [files] events = "NAME", items = "NAME"'


@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """Paths of one data set; only the events are needed."""

    events: Path
    items: Path | None = None
    users: Path | None = None
    test: Path | None = None


def locate(path: Path, mapping: Mapping) -> DataFiles:
    """Return the files of the data set at `path` (a folder, or the events file itself).

    A file at `path` is the events. In a folder the mapping's names count, and where it gives none the files' own:
    `events`, `interactions` or `ratings` and `.inter` are events, `items`, `products` and `.item` items, `users`
    and `.user` users; a lone file is events.

    Raises:
        UnreadableFile: `path` or a named file does not exist.
        UnknownLayout: no file, or more than one, can be the events.
    """
    if not path.exists():
        raise UnreadableFile(f"{path.name} does not exist; give a folder or a file of events")
    folder = path if path.is_dir() else path.parent
    known = _recognised(folder) if path.is_dir() else _siblings(path)
    named = _named(folder, mapping.events_file) if path.is_dir() else None
    return DataFiles(
        events=named or known.get("events") or _no_events(folder, known),
        items=_named(folder, mapping.items_file) or known.get("items"),
        users=_named(folder, mapping.users_file) or known.get("users"),
        test=_named(folder, mapping.test_file),
    )


def suffix_of(path: Path) -> str:
    """Return the suffix with its compression: `.csv.gz`, `.parquet`, ...; lower case."""
    name = path.name.lower()
    return next((known for known in _SUFFIXES if name.endswith(known)), path.suffix.lower())


def _named(folder: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    if not (folder / name).is_file():
        raise UnreadableFile(f"{folder.name} has no file '{name}' that the mapping names; correct [files]")
    return folder / name


def _siblings(path: Path) -> dict[str, Path]:
    """A RecBole `.inter` file brings its `.item` and `.user`; any other file stands alone."""
    found = {"events": path}
    if path.suffix == ".inter":
        for role, suffix in (("items", ".item"), ("users", ".user")):
            if path.with_suffix(suffix).is_file():
                found[role] = path.with_suffix(suffix)
    return found


def _recognised(folder: Path) -> dict[str, Path]:
    """Role -> file, for each role that exactly one file of the folder can play."""
    candidates: dict[str, list[Path]] = {"events": [], "items": [], "users": [], "other": []}
    for path in sorted(folder.iterdir()):
        if path.is_file() and suffix_of(path) in _SUFFIXES:
            candidates[_role(path)].append(path)
    if not candidates["events"] and len(candidates["other"]) == 1:
        candidates["events"] = candidates["other"]
    return {role: paths[0] for role, paths in candidates.items() if len(paths) == 1}


def _role(path: Path) -> str:
    stem = path.name.lower().split(".")[0]
    suffix = suffix_of(path)
    if suffix == ".inter" or stem in _EVENT_STEMS:
        return "events"
    if suffix == ".item" or stem in _ITEM_STEMS:
        return "items"
    if suffix == ".user" or stem in _USER_STEMS:
        return "users"
    return "other"


def _no_events(folder: Path, known: dict[str, Path]) -> Path:
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path not in known.values())
    raise UnknownLayout(
        f"{folder.name}: which file holds the events? Files found: {', '.join(names) or 'none'}. {_NEXT_STEP}"
    )
