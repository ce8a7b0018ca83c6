"""Four content features in place of thousands, where what items look like is not the matter."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from model.content import ItemColumns
from model.encoders import EncoderName


class SmallEncoder:
    """An encoder of four random features."""

    name, version, columns = EncoderName.HASHED, "small", 4

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Return the same features whatever the items are."""
        return sp.csr_matrix(np.random.default_rng(0).random((len(items.titles), self.columns)))
