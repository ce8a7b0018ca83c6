"""What a question is, as one hash: the public arrays, and every word that says what is computed from them.

It stands in the task as `model_hash`, and under secure aggregation in the signed manifest of the round. A participant
compares it with what it was sent, so that nobody can be asked another question than the rest: a sum to which the
others' answers are known beforehand would be one participant's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from proto.federation import Task

_WORDS: Final = (
    "stage",
    "round",
    "clipping_norm",
    "steps",
    "expected_shoppers",
    "clock",
    "seed",
    "noise_seed",
    "loss",
    "basket_kinds",
    "minimum_cohort",
)
"""Fields of a task on which an answer depends, beside those of the release and its layout."""


def question_hash(task: Task, public: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a question, in hexadecimal; the task's own `model_hash` has no part in it."""
    digest = hashlib.sha256(json.dumps([getattr(task, word) for word in _WORDS]).encode())
    for name in sorted(public):
        value = np.ascontiguousarray(public[name])
        digest.update(json.dumps([name, value.dtype.str, value.shape]).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
