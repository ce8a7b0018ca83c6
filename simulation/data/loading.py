"""Load a data set: find its mapping, read, validate, and give every item a merchant."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from simulation.data.assemble import Loaded, read_all
from simulation.data.completejourney import load_completejourney
from simulation.data.dataset import Dataset
from simulation.data.mapping import Mapping
from simulation.data.mapping_file import read_mapping
from simulation.data.ready import ready_mapping

MAPPING_FILE = "fedrank-data.toml"


def load(path: Path | None, *, mapping: Mapping | None = None) -> Dataset:
    """Return the data set at `path`, a folder or a file of events; None means the embedded default set.

    Without `mapping` the one of `find_mapping` is used. Rejected rows are dropped and counted in
    `rejected_rows`; `simulation.data.check` names them.

    Raises:
        DataError: the files cannot be found, mapped or read, or no event is left; the message says the next
        step.
    """
    return load_with_findings(path, mapping=mapping).dataset


def load_with_findings(path: Path | None, *, mapping: Mapping | None = None) -> Loaded:
    """Return the data set of `load` together with its rejections and the other findings of reading it."""
    if path is None:
        return load_completejourney()
    return read_all(path, mapping if mapping is not None else find_mapping(path))


def find_mapping(path: Path, *, file: Path | None = None, columns: Iterable[str] = ()) -> Mapping:
    """Return the mapping of the data at `path`, refined by `columns` flags (`field=column`).

    The first of these that exists: `file`; `fedrank-data.toml` beside the data; a ready mapping; recognition.
    """
    folder = path if path.is_dir() else path.parent
    beside = folder / MAPPING_FILE
    if file is not None:
        mapping = read_mapping(file)
    elif beside.is_file():
        mapping = read_mapping(beside)
    else:
        mapping = ready_mapping(path) or Mapping()
    return mapping.with_columns(columns)
