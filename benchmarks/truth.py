"""What a search should have found, and how much of it was found."""

from collections.abc import Sequence

import numpy as np


def recall(found: Sequence[set[int]], truth: Sequence[set[int]]) -> float:
    """Share of the true neighbours that were found, over all queries."""
    return sum(len(f & t) for f, t in zip(found, truth, strict=True)) / max(1, sum(map(len, truth)))


def exact(unit: np.ndarray, queries: np.ndarray, rows: Sequence[np.ndarray | None]) -> list[set[int]]:
    """The ten rows nearest to each query, among the rows given for it (None: all)."""
    everyone = None if all(one is not None for one in rows) else unit @ queries.T  # (rows, queries)
    found = []
    for i, (query, among) in enumerate(zip(queries, rows, strict=True)):
        scores = everyone[:, i] if among is None else unit[among] @ query
        best = np.argpartition(-scores, min(10, len(scores)) - 1)[:10] if len(scores) else np.zeros(0, np.int64)
        found.append(set((best if among is None else among[best]).tolist()))
    return found
