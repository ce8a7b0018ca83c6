"""Arrays in the files of a folder: written once, mapped by every worker."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.errors import CatalogueError
from server.serving.items_strings import Columns


class ArrayFile:
    """A file that holds an array. It can be mapped as long as this lives, also after its folder was removed."""

    def __init__(self, path: Path) -> None:
        """Open the file that `write_columns` made."""
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            self._shape, _, self._type = np.lib.format.read_array_header_1_0(file)
            self._begin = file.tell()
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def mapped(self) -> npt.NDArray[Any]:
        """Map the array anew. What is written to it is seen there alone, and changes no file."""
        if 0 in self._shape:  # nothing to map
            return np.zeros(self._shape, self._type)
        pages = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_COPY)
        return np.ndarray(self._shape, self._type, buffer=pages, offset=self._begin)


def write_columns(folder: Path, columns: Columns, spare: Mapping[str, int] | None = None) -> None:
    """Write each array as a file; one that `spare` names gets so many empty rows at its end, which take no room."""
    for name, values in columns.items():
        rows = (len(values) + (spare or {}).get(name, 0), *values.shape[1:])
        if 0 in rows:
            np.save(folder / f"{name}.npy", values)
            continue
        mapped = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=values.dtype, shape=rows)
        mapped[: len(values)] = values
        del mapped


def array_files(folder: Path) -> dict[str, ArrayFile]:
    """Open every array of a folder; raises `CatalogueError` where there is none."""
    try:
        files = {path.stem: ArrayFile(path) for path in sorted(folder.glob("*.npy"))}
    except FileNotFoundError:  # the folder is being removed
        files = {}
    if not files:
        raise CatalogueError(
            f"the prepared folder {folder} is gone; it is made again at the next look, or by fedrank index build"
        )
    return files


def open_columns(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Map every array of a folder, as `ArrayFile.mapped` does; raises `CatalogueError` where there is none."""
    return {name: file.mapped() for name, file in array_files(folder).items()}
