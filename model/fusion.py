"""The learned fusion: what a surface's score is made of, and how much each part counts.

score(surface, i) = sum over f of weight[surface, f] * feature_f(i), where

* affinity    u . v_i: the user embedding of the whole history and the moment, and the item vector;
* session     s . v_i: the user embedding of this session alone (the anchor item on detail, the basket on cart);
* complement  c . w_i: c = sum of the complement vectors w of the anchors / sqrt(their number): what goes together;
* prior       the released, noisy log count of the item (`item_bias`);
* text        q . v_i: the query read by the item tower's own encoder; search only;
* fresh       2 ** (-days since listed / 30), 0 where that is unknown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.features import FUSION_FEATURES, SURFACES
from model.schema import FUSION, Weights

__all__ = ["FUSION_FEATURES", "fusion_weights", "unlearned"]

_UNLEARNED: dict[str, dict[str, float]] = {
    "home": {"affinity": 1.0, "session": 0.25},
    "search": {"affinity": 0.5, "session": 0.25, "text": 1.0},
    "detail": {"affinity": 0.25, "session": 1.0, "complement": 0.5},
    "cart": {"affinity": 0.25, "session": 0.5, "complement": 1.0},
    "new_arrivals": {"affinity": 1.0, "session": 0.25, "fresh": 1.0},
    "promotion": {"affinity": 1.0, "session": 0.25},
}
"""What a model version without learned weights is served with; the prior counts as the version says.

The cart's were chosen on validation cuts of two data sets (docs/adr/0024)."""


def fusion_weights(weights: Weights) -> NDArray[np.float32]:
    """Return the (surfaces, features) weights of a model version: learned ones, or public constants."""
    return weights[FUSION] if FUSION in weights else unlearned(weights)


def unlearned(weights: Weights) -> NDArray[np.float32]:
    """Return the public constants (surfaces, features) for a model version; learning starts from them."""
    table = np.zeros((len(SURFACES), len(FUSION_FEATURES)), dtype=np.float32)
    for row, surface in enumerate(SURFACES):
        for name, value in _UNLEARNED[surface].items():
            table[row, FUSION_FEATURES.index(name)] = value
    table[:, FUSION_FEATURES.index("prior")] = weights["prior_scale"][0]
    return table
