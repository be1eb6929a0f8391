"""Inverted lists of 8-bit vectors, by FAISS: how they are made, and which of them a query probes.

A query probes every list whose centre is nearly as near as the nearest one, so that one in the midst of a list probes
that list, and one between lists all of those around it (as Chen et al., 2021, SPANN, do with a ratio of distances). How
near is near enough is measured on the store's own vectors: see ``measure``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import MissingExtra

RECALL_WANTED = 0.999
LOST = 0.0002
"""Share of the true neighbours that may lie in lists which are not probed; others are lost to the 8-bit vectors."""
SAMPLE = (128, 512)
"""Images whose nearest are found exactly, to measure by, at least and at most: 1,280 pairs of ten nearest tell 0.999,
and more of them tell of clusters torn between lists, which a hundredth of the images may be in."""
COMPARED = 128_000_000
"""Pairs of such an image and another that are compared, within these bounds: 128 with a million, a second."""
DEPTHS = (10, 20, 40, 80, 160, 320)
"""How many of the nearest: the ten that pass a filter are among the first forty or so where a third passes."""
TINY = np.float32(1e-30)
"""Length that a vector of none is taken to have."""
ROUNDING = 1e-6
"""Between inner products of the same vectors of length one, summed in two orders."""
POINTS_PER_LIST = 128
"""Vectors that the lists' centres are trained on, for each of them. With half as many, clusters that share a list are
torn apart: of 120,000 vectors in 600 clusters and 120 lists, 16 lists instead of 2 had to be probed for one recall."""
BLOCK = 16_384
"""Vectors that are scaled to length one, or compared, at a time."""
RERANKED = (2, 4, 8)
"""Candidates fetched for every hit wanted, to be ranked by their exact vectors: the least of these that suffices."""


class Measured(NamedTuple):
    """What searches go by.

    reach: how far below the nearest centre's cosine that of another may be whose list is probed, by depth. reranked:
    candidates fetched for every hit. recall_at_10, lists_probed: what these give without a filter, mean of the sample.
    """

    reach: dict[str, float]
    reranked: int
    recall_at_10: float
    lists_probed: float


class Probe(NamedTuple):
    """Lists to look into, and the cosines of their centres with the query: (lists,) each."""

    lists: Integers
    cosines: Floats


class Neighbours(NamedTuple):
    """What searches are measured by. queries: (queries, dim), of length one; nearest: rows (queries, k), best first."""

    queries: Floats
    nearest: Integers


@dataclass(frozen=True, eq=False)
class Lists:
    """FAISS's inverted lists. ``centres``: (lists, dim), of length one, more or less."""

    index: Any
    centres: Floats

    @classmethod
    def of(cls, index: Any) -> "Lists":
        return cls(index, index.quantizer.reconstruct_n(0, index.nlist))

    def __len__(self) -> int:
        return len(self.centres)

    def fill(self, scaled: Floats, norms: Floats, theirs: Integers) -> None:
        """Vectors (rows, dim) and their lengths, each into the list that is named for it."""
        pointer = faiss_module().swig_ptr
        block = np.empty((BLOCK, scaled.shape[1]), np.float32)
        with one_thread():
            for start in range(0, len(scaled), BLOCK):
                part = slice(start, min(start + BLOCK, len(scaled)))
                unit, lists = _unit(scaled[part], norms[part], out=block[: part.stop - start]), theirs[part]
                self.index.add_core(len(unit), pointer(unit), None, pointer(lists))

    def within(self, query: Floats, reach: float) -> Probe:
        """The lists whose centres are so near the query (dim,), of length one."""
        cosines = self.centres @ query
        lists = np.flatnonzero(cosines >= cosines.max() - reach)
        return Probe(lists, cosines[lists])

    def candidates(self, query: Floats, probe: Probe, count: int) -> Integers:
        """Rows of the nearest by their 8-bit vectors, best first; fewer where the lists hold fewer."""
        faiss = faiss_module()
        found, scores = np.empty(count, np.int64), np.empty(count, np.float32)
        asking = np.ascontiguousarray(query, np.float32)  # a name of its own: FAISS sees addresses alone
        arrays = (asking, probe.lists, probe.cosines, scores, found)
        asked, *others = [faiss.swig_ptr(array) for array in arrays]
        self.index.search_preassigned_c(1, asked, count, *others, False, _parameters(len(probe.lists)))
        return found if found[-1] >= 0 else found[found >= 0]


def faiss_module() -> Any:
    """FAISS, loaded when it is needed. Raises MissingExtra."""
    try:
        return import_module("faiss")
    except ImportError:
        raise MissingExtra("faiss", "cpu") from None


def make_lists(scaled: Floats, norms: Floats) -> tuple[Lists, Integers]:
    """Empty lists for these vectors, by k-means of some of them; and the list that each is to go into, (rows,)."""
    faiss = faiss_module()
    n, dim = scaled.shape
    nlist = 1 << int(np.log2(np.sqrt(n)) + 0.25)  # a power of two near the root: 256 of 138,240, 1,024 of a million
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = 6  # after four, four times as many lists of a million are probed; after ten, as many
    index.cp.max_points_per_centroid = POINTS_PER_LIST
    picked = np.sort(np.random.default_rng(0).choice(n, min(n, POINTS_PER_LIST * nlist), replace=False))
    sample = scaled[picked]
    _unit(sample, norms[picked], out=sample)
    faiss.Clustering(dim, nlist, index.cp).train(sample, quantizer)
    index.train(sample[:: max(1, len(sample) // BLOCK)])  # the codes' ranges; it leaves a quantizer that is full
    lists = Lists.of(index)
    return lists, _nearest_list(lists.centres, scaled)


def _nearest_list(centres: Floats, scaled: Floats) -> Integers:
    """Of each vector, (rows,). NumPy's BLAS knows newer processors than the one in FAISS's wheels."""
    theirs = np.empty(len(scaled), np.int64)
    cosines = np.empty((BLOCK, len(centres)), np.float32)
    for start in range(0, len(scaled), BLOCK):
        part = scaled[start : start + BLOCK]
        np.matmul(part, centres.T, out=cosines[: len(part)]).argmax(axis=1, out=theirs[start : start + BLOCK])
    return theirs


def neighbours(scaled: Floats, norms: Floats) -> Neighbours:
    """Some of the vectors, and their true nearest."""
    n = len(scaled)
    count = min(n, int(np.clip(COMPARED // n, *SAMPLE)))
    picked = np.random.default_rng(1).choice(n, count, replace=False)
    queries = _unit(scaled[picked], norms[picked])
    return Neighbours(queries, _nearest_rows(queries, scaled, norms, min(DEPTHS[-1], n)))


def measure(lists: Lists, theirs: Integers, known: Neighbours) -> Measured:
    """Look where the nearest of some vectors are: how far from the nearest list, and how many the codes put first.

    theirs: the list that each vector is in, (rows,). The deeper, the more pairs of vector and neighbour there are, and
    the less the measure hangs on a few of them.
    """
    queries, nearest = known
    cosines = queries @ lists.centres.T
    behind = cosines.max(axis=1)[:, None] - np.take_along_axis(cosines, theirs[nearest], 1)
    reach, farthest = {}, 0.0
    for depth in DEPTHS:
        pairs = np.sort(behind[:, :depth], axis=None)
        farthest = max(farthest, float(pairs[len(pairs) - 1 - int(LOST * len(pairs))]) + ROUNDING)
        reach[str(depth)] = farthest
    probes = [lists.within(query, reach[str(DEPTHS[0])]) for query in queries]
    recalls: dict[int, float] = {}
    for reranked in RERANKED:
        recalls[reranked] = _recall(lists, queries, probes, nearest[:, :10], reranked)
        if recalls[reranked] >= RECALL_WANTED:
            break
    best = max(recalls, key=recalls.__getitem__)
    return Measured(reach, best, recalls[best], float(np.mean([len(probe.lists) for probe in probes])))


def _recall(lists: Lists, queries: Floats, probes: Sequence[Probe], truth: Integers, reranked: int) -> float:
    """Share of the true neighbours (queries, k) among the candidates that are fetched."""
    fetched = truth.shape[1] * reranked
    hits = [
        np.isin(true, lists.candidates(query, probe, fetched)).sum()
        for query, probe, true in zip(queries, probes, truth, strict=True)
    ]
    return float(sum(hits) / truth.size)


def _nearest_rows(queries: Floats, scaled: Floats, norms: Floats, k: int) -> Integers:
    """The k rows nearest to each query, (queries, k), best first, by comparing all. queries: of length one."""
    best, rows = np.full((len(queries), k), -2, np.float32), np.zeros((len(queries), k), np.int64)
    for start in range(0, len(scaled), BLOCK):
        part = slice(start, start + BLOCK)
        cosines = queries @ scaled[part].T / np.maximum(norms[part], TINY)
        for i, better in enumerate(cosines > best.min(axis=1)[:, None]):
            found = np.flatnonzero(better)
            both = np.concatenate([best[i], cosines[i, found]])
            kept = np.argpartition(-both, k - 1)[:k]
            best[i], rows[i] = both[kept], np.concatenate([rows[i], start + found])[kept]
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)


@lru_cache(64)
def _parameters(nprobe: int) -> Any:
    return faiss_module().SearchParametersIVF(nprobe=nprobe)


def inner_products(vectors: Floats, rows: Integers, query: Floats) -> Floats:
    """Inner product of the query with each of these rows, read where they lie: twice as fast as taking them first."""
    faiss = faiss_module()
    found = np.empty(len(rows), np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, vectors, rows)]
    with one_thread():
        faiss.fvec_inner_products_by_idx(*pointers, vectors.shape[1], 1, len(rows))
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS works in this thread alone: others bring little where memory is the limit, and when busy are waited for."""
    faiss = faiss_module()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of what this thread starts; other threads keep theirs
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _unit(vectors: Floats, norms: Floats, out: Floats | None = None) -> Floats:
    """The vectors at length one; in ``out`` where much would be worked out: memory taken anew costs as much as that."""
    return np.divide(vectors, np.maximum(norms, TINY)[:, None], out=out, dtype=np.float32)
