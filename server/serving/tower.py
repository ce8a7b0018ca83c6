"""The user tower and the fusion in onnxruntime: from what is known of shoppers to query vectors, one call a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.onnx_tower import ABSENT

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the tower reads of one question; `model.onnx_tower.tower_graph` says what each array means.

    `vectors` (e, D) of the events, newest first; `codes` (2, e); `anchors` (e,); `context` (4,); `given` and `text`
    (dim,) or None; `newest` holds the place of the newest event of history and session.
    """

    vectors: Floats
    codes: Ints
    anchors: Floats
    context: tuple[int, ...]
    surface: int
    given: Floats | None
    text: Floats | None
    newest: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fused:
    """What the tower makes of a batch: `query` (b, D), `pooled` (b, 3, D), `base` (b, dim), `counts` (b, 2, e)."""

    query: Floats
    pooled: Floats
    base: Floats
    counts: Floats


class UserTower:
    """A session over the graph of one model version, on one thread; safe to share between threads."""

    def __init__(self, graph: bytes) -> None:
        """Load the graph of `model.onnx_tower.tower_graph`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        self.attends = "newest" in shapes
        """Whether what an event counts depends on the newest event of its reading."""
        self._columns, self._dim = shapes["vectors"][2], shapes["given"][1]

    def read(self, readings: Sequence[Reading]) -> Fused:
        """The query vectors of a batch of at least one question."""
        feeds = self._feeds(readings)
        return Fused(*self._session.run(("query", "pooled", "base", "counts"), feeds))

    def _feeds(self, readings: Sequence[Reading]) -> dict[str, npt.NDArray[np.generic]]:
        batch, events = len(readings), max(1, *(len(reading.vectors) for reading in readings))
        vectors = np.zeros((batch, events, self._columns), dtype=np.float32)
        codes = np.full((batch, 2, events), ABSENT, dtype=np.int64)
        anchors = np.zeros((batch, 1, events), dtype=np.float32)
        given = np.zeros((batch, self._dim), dtype=np.float32)
        text = np.zeros((batch, self._dim), dtype=np.float32)
        for row, reading in enumerate(readings):
            count = len(reading.vectors)
            vectors[row, :count] = reading.vectors
            codes[row, :, :count] = reading.codes
            anchors[row, 0, :count] = reading.anchors
            if reading.given is not None:
                given[row] = reading.given
            if reading.text is not None:
                text[row] = reading.text
        feeds = {
            "vectors": vectors,
            "codes": codes,
            "anchors": anchors,
            "context": np.array([reading.context for reading in readings]),
            "surface": np.array([reading.surface for reading in readings]),
            "given": given,
            "text": text,
        }
        return feeds | {"newest": _newest(readings, events)} if self.attends else feeds


def _newest(readings: Sequence[Reading], events: int) -> Floats:
    """(b, 2, e) with a one at the newest event of each reading."""
    marks = np.zeros((len(readings), 2, events), dtype=np.float32)
    places = np.array([reading.newest for reading in readings])
    np.put_along_axis(marks, places[:, :, None], 1.0, axis=2)
    return marks
