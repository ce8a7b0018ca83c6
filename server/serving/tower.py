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
class Inputs:
    """What the tower reads of a batch, padded to the longest question.

    `vectors` (b, e, D), `codes` (b, 2, e), `anchors` (b, 1, e), `context` (b, 4), `surface` (b,), `given` and `text`
    (b, dim), `newest` (b, 2). `items` (b, e) are the rows of the vectors, `sizes` (b,) says how many a question
    has, and `looked_at` (b,) which item comes last because it is looked at, -1 for none.
    """

    sizes: Ints
    looked_at: Ints
    items: Ints
    vectors: Floats
    codes: Ints
    anchors: Floats
    context: Ints
    surface: Ints
    given: Floats
    text: Floats
    newest: Ints

    def of(self, row: int, given: Floats | None, text: Floats | None) -> Reading:
        """One question, with the vectors that it was given."""
        size = int(self.sizes[row])
        return Reading(
            vectors=self.vectors[row, :size],
            codes=self.codes[row, :, :size],
            anchors=self.anchors[row, 0, :size],
            context=self.context[row],
            surface=int(self.surface[row]),
            given=given,
            text=text,
            newest=self.newest[row],
        )


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
        """The query vectors of a batch of at least one question, read one by one."""
        batch, events = len(readings), max(1, *(len(reading.vectors) for reading in readings))
        inputs = Inputs(
            sizes=np.array([len(reading.vectors) for reading in readings]),
            looked_at=np.full(batch, -1),
            items=np.zeros((batch, events), dtype=np.int64),
            vectors=np.zeros((batch, events, self._columns), dtype=np.float32),
            codes=np.full((batch, 2, events), ABSENT, dtype=np.int64),
            anchors=np.zeros((batch, 1, events), dtype=np.float32),
            context=np.array([reading.context for reading in readings]),
            surface=np.array([reading.surface for reading in readings]),
            given=rows_or_zeros([reading.given for reading in readings], self._dim),
            text=rows_or_zeros([reading.text for reading in readings], self._dim),
            newest=np.array([reading.newest for reading in readings]),
        )
        for row, reading in enumerate(readings):
            count = len(reading.vectors)
            inputs.vectors[row, :count] = reading.vectors
            inputs.codes[row, :, :count] = reading.codes
            inputs.anchors[row, 0, :count] = reading.anchors
        return self.run(inputs)

    def run(self, inputs: Inputs) -> Fused:
        """The query vectors of a batch of at least one question."""
        feeds = {name: getattr(inputs, name) for name in _PLAIN_INPUTS}
        if self.attends:
            feeds["newest"] = np.zeros(inputs.codes.shape, dtype=np.float32)
            np.put_along_axis(feeds["newest"], inputs.newest[:, :, None], 1.0, axis=2)
        return Fused(*self._session.run(_OUTPUTS, feeds))


def rows_or_zeros(rows: Sequence[Floats | None], dim: int) -> Floats:
    """The rows (b, dim), zeros where there is none."""
    found = np.zeros((len(rows), dim), dtype=np.float32)
    for place, row in enumerate(rows):
        if row is not None:
            found[place] = row
    return found


_PLAIN_INPUTS = ("vectors", "codes", "anchors", "context", "surface", "given", "text")
_OUTPUTS = ("query", "pooled", "base", "counts")
