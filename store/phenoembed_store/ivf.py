"""Inverted lists of 8-bit vectors, by FAISS: how they are made, and how many of them have to be probed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import MissingExtra
from phenoembed_store.subset import Subset

RECALL_WANTED = 0.999
SAMPLE = 128
"""Images whose ten nearest, by index and exactly, are compared to measure the recall: 1,280 pairs tell 0.999."""
SHARES = (0.5, 0.25, 0.1, 0.05, 0.025)
"""Shares of all images among which they are looked for too, to measure how many lists a filter needs."""
NEAREST = 1000
"""Their nearest that are found exactly: 25 of them are in the smallest share, where ten are wanted."""
FEW = 1000
"""Images that are compared one by one in the time that a call of FAISS takes (0.15 ms)."""
FEW_LISTS = 32
"""Under a filter so many lists, a quarter of all, or twice as many as where more passes are tried at most."""
POINTS_PER_LIST = 128
"""Vectors that the lists' centres are trained on, for each of them. With half as many, clusters that share a list are
torn apart: of 120,000 vectors in 600 clusters and 120 lists, 16 lists instead of 2 had to be probed for one recall."""
BLOCK = 16_384
"""Vectors that are scaled to length one, or compared, at a time."""
RERANKED = (2, 4, 8)
"""Candidates fetched for every hit wanted, to be ranked by their exact vectors: the least of these that suffices."""
ID_COST = 0.02
"""What it costs to pass over an image that a filter leaves out, in comparisons."""


class Measured(NamedTuple):
    """The lists to probe without a filter and the recall that gives; with one, by the share that passes."""

    nprobe: int
    reranked: int
    recall_at_10: float
    filtered: dict[str, int]


@dataclass(frozen=True)
class _Trial:
    """Queries whose true neighbours are known, among some of the vectors or all: ``truth`` (queries, 10), -1: none."""

    index: Any
    queries: Floats
    truth: Integers
    among: Subset | None = None

    def recall(self, nprobe: int, reranked: int) -> float:
        """Share of the true neighbours among the candidates that are fetched."""
        fetched = self.truth.shape[1] * reranked
        _, found = self.index.search(self.queries, fetched, params=parameters(nprobe, self.among))
        hits = [np.isin(true[true >= 0], some).sum() for some, true in zip(found, self.truth, strict=True)]
        return float(sum(hits) / np.count_nonzero(self.truth >= 0))


def faiss_module() -> Any:
    """FAISS, loaded when it is needed. Raises MissingExtra."""
    try:
        return import_module("faiss")
    except ImportError:
        raise MissingExtra("faiss", "cpu") from None


def make_lists(scaled: Floats, norms: Floats) -> tuple[Any, "Nearest"]:
    """The FAISS index of all vectors, and some of them with their true neighbours, to measure it by."""
    faiss = faiss_module()
    n, dim = scaled.shape
    nlist = 1 << int(np.log2(np.sqrt(n)) + 0.25)  # a power of two near the root: 256 of 138,240, 1,024 of a million
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = 6  # more moves the lists little; after four, a million needed 28 lists probed, after six 2
    index.cp.max_points_per_centroid = POINTS_PER_LIST
    sample = np.sort(np.random.default_rng(0).choice(n, min(n, POINTS_PER_LIST * nlist), replace=False))
    index.train(_unit(scaled[sample], norms[sample]))
    picked = np.random.default_rng(1).choice(n, min(SAMPLE, n), replace=False)
    nearest = Nearest(_unit(scaled[picked], norms[picked]), min(NEAREST, n))
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        unit = _unit(scaled[part], norms[part])
        index.add(unit)
        nearest.see(unit, start)
    return index, nearest


def measure(index: Any, known: "Nearest") -> Measured:
    """Search for vectors whose neighbours are known: among all of them, and among random shares of them."""
    n, queries, nearest = int(index.ntotal), known.queries, known.rows()
    draw = np.random.default_rng(2)
    whole = _Trial(index, queries, nearest[:, :10])
    nprobe, recall = _probes_wanted(whole, RERANKED[-1], 1, index.nlist)
    wanted = min(recall, RECALL_WANTED)
    reranked = next(many for many in RERANKED if many == RERANKED[-1] or whole.recall(nprobe, many) >= wanted)
    filtered, fewest = {}, nprobe  # the fewer pass, the more lists their nearest are spread over
    for share in SHARES:
        subset = Subset(draw.random(n) < share)
        most = min(affordable_lists(index.nlist, len(subset), n), max(FEW_LISTS, index.nlist // 4, 2 * fewest))
        if most < fewest:
            break
        trial = _Trial(index, queries, _first_passing(nearest, subset, 10), subset)
        fewest, reached = _probes_wanted(trial, reranked, fewest, most)
        if reached < RECALL_WANTED:
            break
        filtered[str(share)] = fewest
    return Measured(nprobe, reranked, whole.recall(nprobe, reranked), filtered)


def _first_passing(nearest: Integers, subset: Subset, k: int) -> Integers:
    """Of each row of neighbours, best first, the first k that pass; -1 where fewer do."""
    passing = subset.flags[nearest]
    order = np.argsort(~passing, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(passing, order, 1), np.take_along_axis(nearest, order, 1), -1)


def _probes_wanted(trial: _Trial, reranked: int, at_least: int, most: int) -> tuple[int, float]:
    """The fewest lists (to an eighth) that reach the wanted recall@10, and the recall."""
    enough, reached = at_least, trial.recall(at_least, reranked)
    while reached < RECALL_WANTED and enough < most:
        enough = min(2 * enough, most)
        reached = trial.recall(enough, reranked)
    step = enough // 8
    while step and enough - step >= at_least and (fewer := trial.recall(enough - step, reranked)) >= RECALL_WANTED:
        enough, reached = enough - step, fewer
    return enough, reached


def affordable_lists(nlist: int, passing: int, n: int) -> int:
    """How many lists can be probed in the time of comparing with each of the images that pass a filter."""
    return max(0, int(nlist * (passing - FEW) / (ID_COST * n + passing)))


class Nearest:
    """The k nearest of some queries (queries, dim), all of length one, among vectors that are shown block by block."""

    def __init__(self, queries: Floats, k: int) -> None:
        self.queries = queries
        self._k = k
        self._scores = [np.zeros(0, np.float32) for _ in queries]
        self._rows = [np.zeros(0, np.int64) for _ in queries]

    def see(self, unit: Floats, start: int) -> None:
        """A block (rows, dim) that starts at this row."""
        for i, scores in enumerate(self.queries @ unit.T):
            full = len(self._scores[i]) == self._k
            better = np.flatnonzero(scores > self._scores[i].min()) if full else np.arange(len(scores))
            both = np.concatenate([self._scores[i], scores[better]])
            best = np.argpartition(-both, self._k - 1)[: self._k] if len(both) > self._k else np.arange(len(both))
            self._rows[i] = np.concatenate([self._rows[i], start + better])[best]
            self._scores[i] = both[best]

    def rows(self) -> Integers:
        """Their rows, (queries, k), best first."""
        order = np.argsort(-np.stack(self._scores), axis=1, kind="stable")
        return np.take_along_axis(np.stack(self._rows), order, 1)


def parameters(nprobe: int, among: Subset | None) -> Any:
    """What FAISS is told for a search: the lists to probe, and which of the vectors count."""
    if among is None:
        return _unfiltered(nprobe)
    faiss = faiss_module()
    return faiss.SearchParametersIVF(sel=faiss.IDSelectorBitmap(among.bits), nprobe=nprobe)


@lru_cache(64)
def _unfiltered(nprobe: int) -> Any:
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


def _unit(vectors: Floats, norms: Floats) -> Floats:
    return np.ascontiguousarray(vectors / np.maximum(norms, np.float32(1e-30))[:, None], np.float32)
