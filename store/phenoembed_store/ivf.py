"""Inverted lists of 8-bit vectors, by FAISS: how they are made, and how many of them have to be probed."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import MissingExtra
from phenoembed_store.subset import Subset

RECALL_WANTED = 0.999
SAMPLE = 200
"""Images whose ten nearest, by index and exactly, are compared to measure the recall."""
FILTERED_SAMPLE = 100
"""Images whose nearest among a random share of all are looked for, to measure how many lists a filter needs."""
SHARES = (0.5, 0.25, 0.1, 0.05, 0.025)
FEW = 1000
"""Images that are compared one by one in the time that a call of FAISS takes (0.15 ms)."""
POINTS_PER_LIST = 128
"""Vectors that the lists' centres are trained on, for each of them: 256 find lists hardly better, in twice the time."""
BLOCK = 16_384
"""Vectors that are scaled to length one, or compared, at a time."""
RERANKED = 4
"""Candidates fetched from the index for every hit wanted, to be ranked by their exact vectors."""


class Measured(NamedTuple):
    """The lists to probe without a filter and the recall that gives; with one, by the share that passes."""

    nprobe: int
    recall_at_10: float
    filtered: dict[str, int]


def faiss_module() -> Any:
    """FAISS, loaded when it is needed. Raises MissingExtra."""
    try:
        return import_module("faiss")
    except ImportError:
        raise MissingExtra("faiss", "cpu") from None


def build_faiss(scaled: Floats, norms: Floats, path: Path) -> Measured:
    """Write the FAISS file; the number of lists to probe for the wanted recall, and the recall it gives."""
    faiss = faiss_module()
    n, dim = scaled.shape
    nlist = 1 << int(np.log2(np.sqrt(n)))  # more lists are found no faster below a million, and take longer to make
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = 6  # more moves the lists little, and costs the most of all
    index.cp.max_points_per_centroid = POINTS_PER_LIST
    sample = np.sort(np.random.default_rng(0).choice(n, min(n, POINTS_PER_LIST * nlist), replace=False))
    index.train(_unit(scaled[sample], norms[sample]))
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        index.add(_unit(scaled[part], norms[part]))
    faiss.write_index(index, str(path))
    return _measure(index, scaled, norms)


def _measure(index: Any, scaled: Floats, norms: Floats) -> Measured:
    """Search for some of the vectors themselves: among all of them, and among random shares of them."""
    n = len(scaled)
    draw = np.random.default_rng(1)
    picked = draw.choice(n, min(SAMPLE, n), replace=False)
    queries = _unit(scaled[picked], norms[picked])
    shares = [share for share in SHARES if share * n > FEW]
    subsets = [Subset(draw.random(n) < share) for share in shares]
    (truth,) = exact_neighbours(scaled, norms, queries, 10)
    truths = exact_neighbours(scaled, norms, queries[:FILTERED_SAMPLE], 10, subsets)
    nprobe, recall = _probes_wanted(index, queries, truth, None)
    filtered = {}
    for share, subset, true in zip(shares, subsets, truths, strict=True):
        filtered[str(share)], _ = _probes_wanted(index, queries[:FILTERED_SAMPLE], true, subset)
    return Measured(nprobe, recall, filtered)


def _probes_wanted(index: Any, queries: Floats, truth: Integers, among: Subset | None) -> tuple[int, float]:
    """The fewest lists (to an eighth) that reach the wanted recall@10, and the recall."""

    def recall(nprobe: int) -> float:
        _, found = index.search(queries, truth.shape[1] * RERANKED, params=parameters(nprobe, among))
        return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))

    enough, reached = 1, recall(1)
    while reached < RECALL_WANTED and enough < index.nlist:
        enough = min(2 * enough, index.nlist)
        reached = recall(enough)
    step = enough // 8
    while step and (fewer := recall(enough - step)) >= RECALL_WANTED:
        enough, reached = enough - step, fewer
    return enough, reached


def exact_neighbours(
    scaled: Floats, norms: Floats, queries: Floats, k: int, among: Sequence[Subset | None] = (None,)
) -> list[Integers]:
    """Rows of the k nearest of every query, (queries, k), in no order: for each subset. In bounded memory."""
    ids = [np.zeros((len(queries), 0), np.int64) for _ in among]
    best = [np.zeros((len(queries), 0), np.float32) for _ in among]
    for start in range(0, len(scaled) if among else 0, BLOCK):
        part = slice(start, start + BLOCK)
        scores = (queries @ scaled[part].T) / np.maximum(norms[part], np.float32(1e-30))
        here = np.arange(start, start + scores.shape[1])
        for i, subset in enumerate(among):
            passing = slice(None) if subset is None else subset.flags[part]
            both = np.concatenate([best[i], scores[:, passing]], axis=1)
            named = np.broadcast_to(here[passing], (len(queries), both.shape[1] - best[i].shape[1]))
            named = np.concatenate([ids[i], named], axis=1)
            top = np.argpartition(-both, min(k, both.shape[1]) - 1, axis=1)[:, :k]
            best[i], ids[i] = np.take_along_axis(both, top, 1), np.take_along_axis(named, top, 1)
    return ids


def parameters(nprobe: int, among: Subset | None) -> Any:
    """What FAISS is told for a search: the lists to probe, and which of the vectors count."""
    faiss = faiss_module()
    selector = None if among is None else faiss.IDSelectorBitmap(among.bits)
    return faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)


def inner_products(vectors: Floats, rows: Integers, query: Floats) -> Floats:
    """Inner product of the query with each of these rows, read where they lie: twice as fast as taking them first."""
    faiss = faiss_module()
    found = np.empty(len(rows), np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, vectors, rows)]
    faiss.fvec_inner_products_by_idx(*pointers, vectors.shape[1], 1, len(rows))
    return found


def _unit(vectors: Floats, norms: Floats) -> Floats:
    return np.ascontiguousarray(vectors / np.maximum(norms, np.float32(1e-30))[:, None], np.float32)
