"""What a worker holds in memory of the items and the index of a prepared folder, and how long opening it takes.

Run as a module it is one worker: it opens the folder, looks at every page, and waits until the other has done so too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from evaluation.bench.ranking_world import THINGS
from evaluation.bench.rows import Row
from evaluation.errors import ReportError
from server.serving.index import VectorIndex
from server.serving.index_build import JUDGED_AT, build_coarse
from server.serving.index_coarse import Coarse
from server.serving.items import ItemTable, columns_of
from server.serving.prepared import prepared
from server.serving.prepared_arrays import open_columns, write_columns
from server.serving.words import WordIndex, word_columns

Floats = npt.NDArray[np.float32]

_KEY = "items"
_COARSE = "coarse.faiss"
_DIM = 64
_WORKERS = 2


def memory_rows(vectors: Floats, groups: npt.NDArray[np.int32], questions: Floats) -> list[Row]:
    """How the memory of each of two workers grows by opening a folder and looking at every page."""
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder), _KEY, lambda incoming: _make(incoming, vectors, groups, questions))
        found = _two_workers(Path(folder))
    raw = 4 * _DIM * len(vectors)
    name = f"items, words and index of each of {_WORKERS} workers at {len(vectors)} x {_DIM}"
    held = {part: max(worker[part] for worker in found) / raw for part in ("share", "resident", "private")}
    opening = max(worker["seconds"] for worker in found)
    return [
        Row(
            measure=f"memory of {name} / raw vectors",
            value=held["share"],
            unit="ratio",
            target=1.3,
            at_least=False,
        ),
        Row(
            measure=f"the same with every shared page in full: {name} / raw vectors",
            value=held["resident"],
            unit="ratio",
        ),
        Row(
            measure=f"the same without shared pages: {name} / raw vectors",
            value=held["private"],
            unit="ratio",
        ),
        Row(measure=f"opening {name}, every file checked", value=opening, unit="seconds"),
    ]


def _make(
    folder: Path, vectors: Floats, groups: npt.NDArray[np.int32], questions: Floats
) -> Mapping[str, Any]:
    titles = [f"{THINGS[group % 12]} {row}" for row, group in enumerate(groups.tolist())]
    table = pl.DataFrame(
        {
            "item_id": [f"item-{row:07d}" for row in range(len(vectors))],
            "title": titles,
            "category": [f"Shop > {group}" for group in groups.tolist()],
            "merchant_id": [f"merchant-{group % 40}" for group in groups.tolist()],
        }
    )
    write_columns(folder, {"vectors": vectors, **columns_of(table), **word_columns(titles)})
    coarse = build_coarse(vectors, questions)
    if coarse is None:
        return {"coarse": None}
    coarse.save(folder / _COARSE)
    return {"coarse": {"items": coarse.items, "factor": coarse.factor, "recall": coarse.recall}}


def _two_workers(root: Path) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "evaluation.bench.ranking_index_memory", str(root)]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(_WORKERS)]
    try:
        _said(workers)
        return [json.loads(words) for words in _said(workers)]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _said(workers: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each of the workers says next; then all may go on."""
    words = [worker.stdout.readline() if worker.stdout else "" for worker in workers]
    for worker in workers:
        if worker.stdin:
            worker.stdin.write("\n")
            worker.stdin.flush()
    return words


def work(root: Path) -> None:
    """Open the folder as a worker does, use all of it, and tell how the memory has grown."""
    import faiss  # noqa: F401  # the memory of the libraries is no item's

    np.ones((_DIM, _DIM), dtype=np.float32) @ np.ones(_DIM, dtype=np.float32)
    before = _memory()
    began = time.perf_counter()
    items, words, index = _open(root)
    seconds = time.perf_counter() - began
    for row in range(0, len(items), 1000):
        index.search(index.vectors[row : row + 1], JUDGED_AT)
        items.find([items.item_id(row)])
    words.match(" ".join(THINGS))
    index.vectors.sum()
    _meet("opened")
    after = _memory()
    _meet(json.dumps({**{part: after[part] - before[part] for part in after}, "seconds": seconds}))


def _meet(words: str) -> None:
    """Say something, and wait until the other worker has come as far: what it maps is shared while it is there."""
    print(words, flush=True)
    sys.stdin.readline()


def _open(root: Path) -> tuple[ItemTable, WordIndex, VectorIndex]:
    found = prepared(root, _KEY, _not_here)
    folder, about = found.folder, found.about
    columns = open_columns(folder)
    items = ItemTable(columns)
    coarse = Coarse.load(folder / _COARSE, **about["coarse"]) if about["coarse"] else None
    return items, WordIndex(columns), VectorIndex(columns["vectors"], items.servable, coarse)


def _not_here(folder: Path) -> Mapping[str, Any]:
    raise ReportError(
        f"the folder {folder.parent} that two workers were to open is damaged; run the bench again"
    )


def _memory() -> dict[str, int]:
    """Bytes of this process: its share of all pages, all pages in full, and those that no other process has."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    sizes = {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines}
    return {
        "share": sizes["Pss"],
        "resident": sizes["Rss"],
        "private": sizes["Private_Clean"] + sizes["Private_Dirty"],
    }


if __name__ == "__main__":
    work(Path(sys.argv[1]))
