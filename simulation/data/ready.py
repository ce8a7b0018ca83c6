"""Ready mappings of well-known public sets, chosen where a folder has the set's name, files and columns."""

from __future__ import annotations

from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from simulation.data.errors import DataError
from simulation.data.mapping import FileFormat, Mapping
from simulation.data.mapping_file import read_mapping
from simulation.data.opening import first_line
from simulation.data.tables import header_of


def ready_names() -> list[str]:
    """Return the names of the sets that have a ready mapping."""
    return sorted(entry.name.removesuffix(".toml") for entry in _mappings().iterdir())


def ready_mapping(folder: Path) -> Mapping | None:
    """Return the ready mapping of `folder`, or None where its name, files or columns are not those of a known set."""
    name = folder.resolve().name
    if not folder.is_dir() or name not in ready_names():
        return None
    with as_file(_mappings() / f"{name}.toml") as path:
        mapping = read_mapping(path)
    return mapping if _fits(folder, mapping) else None


def _mappings() -> Traversable:
    return files("simulation.data") / "mappings"


def _fits(folder: Path, mapping: Mapping) -> bool:
    """A folder may have a known set's name by chance: then its files or columns differ."""
    named = (mapping.events_file, mapping.items_file, mapping.users_file, mapping.test_file)
    if not all((folder / name).is_file() for name in named if name):
        return False
    try:
        return _has_columns(folder, mapping)
    except DataError:
        return False


def _has_columns(folder: Path, mapping: Mapping) -> bool:
    events = folder / str(mapping.events_file)
    if mapping.file_format is FileFormat.SEQUENCES:
        words = first_line(events).split()
        return len(words) > 1 and all(word.isdigit() for word in words)
    if not set(mapping.columns.values()) <= set(header_of(events)):
        return False
    items = mapping.items_file
    return items is None or set(mapping.item_columns.values()) <= set(header_of(folder / items))
