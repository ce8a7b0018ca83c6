"""One round's traffic: the same question to every node, and the answers that came back in time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from proto.federation import CONTRIBUTION, PUBLIC, RECEIPT, TASK, Receipt, Task, WireError
from server.coordination.aggregate import RoundSum

PublicArrays = Mapping[str, NDArray[np.generic]]


def collect(grid: Grid, round_sum: RoundSum, public: PublicArrays, timeout: float) -> None:
    """Ask all nodes and add their answers to the round's sum; errors are noted as refused."""
    record = ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in public.items()})
    questions = _questions(grid, round_sum.task, record)
    answered: set[str] = set()
    for answer in grid.send_and_receive(questions, timeout=timeout):
        question = answer.metadata.reply_to_message_id
        if question in answered:
            round_sum.refused.append("an answer came twice; it was counted once")
            continue
        answered.add(question)
        if answer.has_error():
            round_sum.refused.append(f"a node failed: {answer.error.reason or answer.error.code}")
            continue
        _add(round_sum, answer.content)


def _questions(grid: Grid, task: Task, public: ArrayRecord) -> Iterator[Message]:
    """Yield one message per node; the arrays are shared, the scalars are each message's own."""
    for node in grid.get_node_ids():
        content = RecordDict({TASK: ConfigRecord(dict(task.to_record())), PUBLIC: public})
        yield Message(content, dst_node_id=node, message_type=f"train.{task.stage}", group_id=str(task.round))


def _add(round_sum: RoundSum, content: RecordDict) -> None:
    try:
        receipt = Receipt.from_record(content.config_records[RECEIPT])
    except (KeyError, WireError) as fault:
        round_sum.refused.append(f"an answer has no valid receipt: {fault}")
        return
    try:
        parts = _parts(content)
    except (TypeError, ValueError, EOFError) as fault:
        round_sum.refused.append(f"an answer's arrays cannot be read ({type(fault).__name__})")
        return
    round_sum.add(receipt, parts)


def _parts(content: RecordDict) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an answer; what is not a plain tensor raises, and nothing is ever unpickled."""
    records = content.array_records
    if CONTRIBUTION not in records:
        return {}
    return {name: array.numpy() for name, array in records[CONTRIBUTION].items()}


def public_hash(public: PublicArrays) -> str:
    """Return a hash of what a question shows of the model, so that answers to another version are noticed."""
    digest = hashlib.sha256()
    for name in sorted(public):
        value = np.ascontiguousarray(public[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]
