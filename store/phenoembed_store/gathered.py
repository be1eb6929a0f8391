"""What filters that are asked again let pass, gathered as 8-bit codes: a quarter as much to read, and in one run.

The codes choose candidates and the exact vectors rank them. How far a code may be from its vector is known, so that the
hits are proved to be the nearest, or every vector is compared.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.indexes import Index
from phenoembed_store.ivf import faiss_module, one_thread
from phenoembed_store.subset import Subset

KEPT_BYTES = 64 << 20
"""Codes and flags that are kept, over all filters; those not asked for longest go first."""
LARGEST = 32 << 20
"""Bytes of the codes of one filter. While they are made, five times as much is held."""
FETCHED, AT_LEAST = 8, 64
"""Candidates for every hit wanted, and at least so many: the hits are proved where the last of them is far behind."""
ROUNDING = 1e-5
"""Between cosines of vectors of length one, summed in single precision in two orders."""
BLOCK = 16_384


@dataclass(frozen=True, eq=False)
class Gathered:
    """Codes of some rows. ``error``: the most that a code's cosine with anything differs from its vector's."""

    rows: Integers
    codes: Any
    error: float

    def nearest(self, index: Index, query: Floats, k: int) -> tuple[Integers, Floats] | None:
        """The k nearest rows and their exact cosines, best first. None where the codes do not prove that they are.

        query: (dim,), of length one.
        """
        fetched = max(FETCHED * k, AT_LEAST)
        if fetched >= len(self.rows):
            return None
        with one_thread():
            found, places = self.codes.search(query[None], fetched)
        rows = np.sort(self.rows[places[0]])
        cosines = index.cosines(query, rows)
        best = np.argsort(-cosines, kind="stable")[:k]
        proved = cosines[best[-1]] > found[0, -1] + self.error + ROUNDING
        return (rows[best], cosines[best]) if proved else None


def gather(index: Index, rows: Integers) -> Gathered:
    """The rows as codes, each dimension between the least and the most that they have there."""
    faiss = faiss_module()
    unit = index.scaled[rows]
    unit /= np.maximum(index.norms[rows], np.float32(1e-30))[:, None]
    codes = faiss.IndexScalarQuantizer(unit.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    codes.train(unit)
    codes.add(unit)
    error = 0.0
    for start in range(0, len(rows), BLOCK):
        block = unit[start : start + BLOCK]
        error = max(error, float(np.linalg.norm(codes.reconstruct_n(start, len(block)) - block, axis=1).max()))
    return Gathered(rows, codes, error)


class Gathers:
    """What the last filters let pass of one index, gathered: in bounded memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Subset, Gathered] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def nearest(self, index: Index, query: Floats, k: int, passing: Subset) -> tuple[Integers, Floats] | None:
        """See ``Gathered.nearest``; None, too, for a filter that is new, or lets too many pass."""
        rows = passing.between(0, len(index))
        if not passing.asked_again or not AT_LEAST < len(rows) <= LARGEST // index.manifest.dim:
            return None
        with self._lock:
            gathered = self._kept.pop(passing, None) or gather(index, rows)
            self._kept[passing] = gathered  # the last: what was not asked for longest goes first
            while self.nbytes > KEPT_BYTES:
                self._kept.popitem(last=False)
        return gathered.nearest(index, query, k)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(len(one.rows) * one.codes.code_size + len(passing.flags) for passing, one in self._kept.items())
