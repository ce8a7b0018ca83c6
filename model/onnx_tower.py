"""The user tower and the fusion as one ONNX graph: what the ranking endpoint computes of a question.

A question is up to three readings of the same events: the history as a whole, the session, and the anchors that
something is sought to go with. Items come as index rows z_i = [v_i | w_i | p_i]: item vector, complement vector
and prior. The graph answers with the vector x for which x . z_i is the score of item i (`model.fusion`, all parts
but `fresh`), and with what x was made of, so that a reason can take it apart. Its numbers are those of
`model.two_tower` and `model.torch_tower`.

What an event counts before the rarity of its item, exp(kind + position + age weight), is one of 505 numbers: events
come as a code, and the graph looks it up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.attention import SHARPNESS
from model.features import AGE_BUCKETS, FUSION_FEATURES, HISTORY_LIMIT, POSITION_BUCKETS, log_bucket
from model.fusion import fusion_weights
from model.schema import Weights, complement_of

if TYPE_CHECKING:
    from onnx import NodeProto, ValueInfoProto

OPSET = 18
IR_VERSION = 10
ABSENT = 0
"""The code of an event that a reading does not count, and of padding."""

_AGES = AGE_BUCKETS + 1
"""Ages with "unknown" before them."""

_FLOOR = 1e-30
"""Below the smallest total of real events; keeps an empty reading at zero."""

Array = NDArray[Any]


def event_codes(kinds: Array, positions: Array, ages: Array) -> NDArray[np.int64]:
    """Return the codes of events from their kind, position bucket and age bucket (-1: age unknown), all one shape."""
    return np.asarray(((kinds * POSITION_BUCKETS + positions) * _AGES + ages + 1) + 1, dtype=np.int64)


KIND_STEP = POSITION_BUCKETS * _AGES
"""What each kind of event adds to a code."""
PLACES = _AGES * log_bucket(np.arange(HISTORY_LIMIT), POSITION_BUCKETS)
"""What the place of an event adds, the newest first."""
LAST_DAY = 2 ** (AGE_BUCKETS - 1) - 1
"""Days from which on all ages are in the last bucket."""
DAYS = 2 + log_bucket(np.arange(LAST_DAY + 1), AGE_BUCKETS)
"""What the age of an event in whole days adds; an unknown age adds 1."""


def codes_newest_first(kinds: Array, days: Array | None) -> NDArray[np.int64]:
    """Return the codes of one reading's events (e,) in tables' time: at most `HISTORY_LIMIT`, the newest first.

    `days` is the age of each event in whole days; None where no clock is known.
    """
    ages = 1 if days is None else DAYS[np.minimum(days, LAST_DAY)]
    return np.asarray(PLACES[: len(kinds)] + KIND_STEP * kinds + ages, dtype=np.int64)


def tower_graph(weights: Weights) -> bytes:
    """Return the serialised graph of a model version.

    Inputs, with b questions, e events (newest first, padded), D = dim + c + 1 columns of z:
        vectors (b, e, D) float32; codes (b, 2, e) int64, of history and session; anchors (b, 1, e) float32;
        context (b, 4) int64, rows of the context table, -1 unknown; surface (b,) int64; given (b, dim) float32,
        added to the user embedding; text (b, dim) float32, the vector of the words searched for; and with
        attention newest (b, 2, e) float32, one at each reading's newest event.
    Outputs: query (b, D) = x; pooled (b, 3, D), the readings in the blocks that they speak to; base (b, dim),
    context and `given`; counts (b, 2, e), a_h of each event.
    """
    from onnx import checker, helper

    constants = _constants(weights)
    nodes = _counts(weights) + _pooling() + _fusing()
    dim, columns = weights["context"].shape[1], constants["blocks"].shape[1]
    graph = helper.make_graph(
        nodes, "user_tower", _inputs(weights, dim, columns), _outputs(dim, columns), _tensors(constants)
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fedrank"
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _constants(weights: Weights) -> dict[str, Array]:
    """Return the graph's tables; the last row of `contexts` is zero, where code -1 points."""
    dim, complement = weights["context"].shape[1], complement_of(weights).shape[1]
    zeros = np.zeros((1, dim), dtype=np.float32)
    blocks = np.zeros((3, dim + complement + 1), dtype=np.float32)
    blocks[:2, :dim], blocks[2, dim:-1] = weights["gain"], 1.0
    fusion = fusion_weights(weights)
    part = {name: fusion[:, FUSION_FEATURES.index(name)] for name in FUSION_FEATURES}
    rest = np.zeros((len(fusion), 1, complement + 1), dtype=np.float32)
    rest[:, 0, -1] = part["prior"]
    constants: dict[str, Array] = {
        "event_table": _event_table(weights),
        "rarity": -weights["rarity"],
        "low": np.array(-10.0, dtype=np.float32),
        "high": np.array(10.0, dtype=np.float32),
        "floor": np.array(_FLOOR, dtype=np.float32),
        "contexts": np.concatenate([weights["context"], zeros]),
        "blocks": blocks,
        "of_readings": np.stack([part["affinity"], part["session"], part["complement"]], axis=1)[:, None, :],
        "of_base": np.stack([part["affinity"], part["text"]], axis=1)[:, None, :],
        "of_rest": rest,
        "last": np.array(-1),
        "first_axis": np.array([1]),
        "last_axis": np.array([-1]),
    }
    if "attention" in weights:
        constants |= {
            "attention": SHARPNESS * weights["attention"],
            "start": np.array([0]),
            "stop": np.array([dim]),
        }
    return constants


def _event_table(weights: Weights) -> NDArray[np.float32]:
    """Return what an event of each code counts before rarity and attention, (505,); see `model.two_tower`."""
    ages = np.append(np.float32(0.0), weights["age_weight"])
    logits = weights["kind_weight"][:, None, None] + weights["position_weight"][:, None] + ages
    return np.append(np.float32(0.0), np.exp(np.clip(logits, -10.0, 10.0))).astype(np.float32)


def _counts(weights: Weights) -> list[NodeProto]:
    """Return the nodes from events to `counts`, a_h in each reading."""
    nodes = [
        _node("Gather", "vectors last", "priors", axis=2),
        _node("Unsqueeze", "priors first_axis", "priors_of_events"),
        _node("Mul", "priors_of_events rarity", "rarities"),
        *_bounded_exp("rarities", "rare"),
        _node("Gather", "event_table codes", "plain"),
    ]
    if "attention" not in weights:
        return [*nodes, _node("Mul", "plain rare", "counts")]
    return [
        *nodes,
        _node("Slice", "vectors start stop last_axis", "items"),
        _node("ReduceL2", "items last_axis", "lengths"),
        _node("Max", "lengths floor", "safe_lengths"),
        _node("Div", "items safe_lengths", "units"),
        _node("MatMul", "newest units", "newest_units"),
        _node("Mul", "newest_units attention", "asked"),
        _node("Transpose", "units", "units_across", perm=[0, 2, 1]),
        _node("MatMul", "asked units_across", "likeness"),
        *_bounded_exp("likeness", "attended"),
        _node("Mul", "plain rare", "without_attention"),
        _node("Mul", "without_attention attended", "counts"),
    ]


def _bounded_exp(logits: str, result: str) -> list[NodeProto]:
    """Return the nodes for exp of logits, bounded as the towers bound them."""
    return [
        _node("Clip", f"{logits} low high", f"{result}_bounded"),
        _node("Exp", f"{result}_bounded", result),
    ]


def _pooling() -> list[NodeProto]:
    """Return the nodes that pool the events of each reading: sum of a z / sqrt(sum of a), or of the anchors."""
    return [
        _node("ReduceSum", "counts last_axis", "totals"),
        _node("Max", "totals floor", "safe_totals"),
        _node("Sqrt", "safe_totals", "roots"),
        _node("Div", "counts roots", "shares"),
        _node("Concat", "shares anchors", "readings", axis=1),
        _node("MatMul", "readings vectors", "sums"),
        _node("Mul", "sums blocks", "pooled"),
    ]


def _fusing() -> list[NodeProto]:
    """Return the nodes that weigh the parts by surface and add them up to the query vector."""
    return [
        _node("Gather", "contexts context", "context_rows"),
        _node("ReduceSum", "context_rows first_axis", "moment", keepdims=0),
        _node("Add", "moment given", "base"),
        _node("Unsqueeze", "base first_axis", "base_row"),
        _node("Unsqueeze", "text first_axis", "text_row"),
        _node("Concat", "base_row text_row", "base_and_text", axis=1),
        _node("Gather", "of_base surface", "base_weights"),
        _node("MatMul", "base_weights base_and_text", "from_base"),
        _node("Gather", "of_rest surface", "from_prior"),
        _node("Concat", "from_base from_prior", "from_rest", axis=2),
        _node("Gather", "of_readings surface", "reading_weights"),
        _node("MatMul", "reading_weights pooled", "from_readings"),
        _node("Add", "from_readings from_rest", "query_row"),
        _node("Squeeze", "query_row first_axis", "query"),
    ]


def _node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    from onnx import helper

    return helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def _tensors(constants: dict[str, Array]) -> list[Any]:
    from onnx import numpy_helper

    return [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]


def _inputs(weights: Weights, dim: int, columns: int) -> list[ValueInfoProto]:
    newest = [_value("newest", float, "b", 2, "e")] if "attention" in weights else []
    return [
        _value("vectors", float, "b", "e", columns),
        _value("codes", int, "b", 2, "e"),
        _value("anchors", float, "b", 1, "e"),
        _value("context", int, "b", 4),
        _value("surface", int, "b"),
        _value("given", float, "b", dim),
        _value("text", float, "b", dim),
        *newest,
    ]


def _outputs(dim: int, columns: int) -> list[ValueInfoProto]:
    return [
        _value("query", float, "b", columns),
        _value("pooled", float, "b", 3, columns),
        _value("base", float, "b", dim),
        _value("counts", float, "b", 2, "e"),
    ]


def _value(name: str, kind: type, *shape: int | str) -> ValueInfoProto:
    from onnx import TensorProto, helper

    element = TensorProto.FLOAT if kind is float else TensorProto.INT64
    return helper.make_tensor_value_info(name, element, list(shape))
