"""Inverted lists: which a query probes, what was measured, and neighbours under filters that go with the vectors."""

import numpy as np
import pyarrow as pa
import pytest

from phenoembed_store import indexes, ivf
from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.indexes import Index
from phenoembed_store.parts import Part, make_part
from phenoembed_store.subset import Subset

pytest.importorskip("faiss")

N, DIM, CLUSTERS = 12_000, 48, 100
DRAW = np.random.default_rng(3)
CLUSTER = DRAW.integers(0, CLUSTERS, N)
CENTRES = DRAW.normal(size=(CLUSTERS, DIM))
VECTORS = (CENTRES[CLUSTER] + 0.7 * DRAW.normal(size=(N, DIM))).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


def unit_queries(count: int) -> Floats:
    """Vectors near stored ones."""
    draw = np.random.default_rng(8)
    near = VECTORS[draw.integers(0, N, count)] + 0.2 * draw.normal(size=(count, DIM))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def part() -> Part:
    return make_part(pa.table({"n": np.arange(N)}), VECTORS, None)


@pytest.fixture(scope="module")
def index(part: Part, tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("indexes")
    with indexes.beside(folder, "e") as making:
        np.save(making / indexes.VECTORS, part.vectors)
        made = indexes.build(making, "e", 0, ["f"], part, "none")
    ((_, manifest),) = indexes.manifests(folder)
    assert manifest is not None
    opened = indexes.open_index(made, manifest)
    assert opened is not None
    return opened


def nearest_exactly(query: Floats, k: int, passing: np.ndarray) -> set[int]:
    cosines = np.where(passing, UNIT @ query, -2)
    return set(np.argsort(-cosines, kind="stable")[: min(k, int(passing.sum()))].tolist())


def list_of_each(index: Index) -> Integers:
    """The list that each row is in, read from FAISS's own lists."""
    import faiss

    found, lists = np.full(N, -1), index.lists.index.invlists
    for one in range(len(index.lists)):
        size = lists.list_size(one)
        if size:
            found[faiss.rev_swig_ptr(lists.get_ids(one), size)] = one
    assert (found >= 0).all()
    return found


def test_the_lists_within_reach_hold_the_nearest_as_measured(index: Index) -> None:
    """Of queries that were not measured by, at every depth: at most a few in a thousand lie in other lists."""
    where = list_of_each(index)
    queries = unit_queries(60)
    order = np.argsort(-(queries @ UNIT.T), axis=1)
    for depth, reach in index.manifest.reach.items():
        held = [
            np.isin(where[order[i, : int(depth)]], index.lists.within(query, reach).lists)
            for i, query in enumerate(queries)
        ]
        assert np.mean(held) >= 0.997, depth


def test_neighbours_to_measure_by_are_the_true_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found block by block, of vectors of any length."""
    monkeypatch.setattr(ivf, "BLOCK", 1000)
    norms = np.random.default_rng(6).uniform(0.1, 9, N).astype(np.float32)
    queries, nearest = ivf.neighbours(UNIT * norms[:, None], norms)
    assert nearest.shape == (max(ivf.SAMPLE), ivf.DEPTHS[-1])
    for query, rows in zip(queries, nearest, strict=True):
        cosines = UNIT @ query
        np.testing.assert_allclose(cosines[rows], np.sort(cosines)[::-1][: len(rows)], atol=1e-5)


def test_reach_grows_with_depth(index: Index) -> None:
    reach = [index.manifest.reach[str(depth)] for depth in ivf.DEPTHS]
    assert reach == sorted(reach)


def test_a_query_between_two_lists_probes_both(index: Index) -> None:
    centres = index.lists.centres[:2]
    between = centres.sum(axis=0) / np.linalg.norm(centres.sum(axis=0))
    assert {0, 1} <= set(index.lists.within(between, 1.0).lists.tolist())
    cosines = index.lists.centres @ between
    behind = float(cosines.max() - min(cosines[:2])) + 1e-6
    assert {0, 1} <= set(index.lists.within(between, behind).lists.tolist())
    at_one = index.lists.within(centres[0] / np.linalg.norm(centres[0]), 0.0)
    assert at_one.lists.tolist() == [0]


def test_candidates_are_the_best_of_the_lists_probed(index: Index) -> None:
    """Against the same lists compared exactly: 8-bit vectors put the ten best among the first twenty."""
    where, (query,) = list_of_each(index), unit_queries(1)
    probe = index.lists.within(query, 0.3)
    inside = np.flatnonzero(np.isin(where, probe.lists))
    best = inside[np.argsort(-(UNIT[inside] @ query))[:10]]
    assert set(best.tolist()) <= set(index.lists.candidates(query, probe, 20).tolist())
    everything = index.lists.candidates(query, probe, N)
    assert sorted(everything.tolist()) == inside.tolist()


@pytest.mark.parametrize("k", [1, 10, 100, 320])
def test_unfiltered_neighbours_are_the_exact_ones(index: Index, k: int) -> None:
    found = [index.nearest(query, k) for query in unit_queries(30)]
    right = [
        len(set(hits[0].tolist()) & nearest_exactly(query, k, np.ones(N, np.bool_))) / k
        for hits, query in zip(found, unit_queries(30), strict=True)
        if hits is not None
    ]
    assert len(right) == 30
    assert np.mean(right) >= 0.997


def test_more_neighbours_than_were_measured_are_compared_one_by_one(index: Index) -> None:
    assert index.nearest(unit_queries(1)[0], ivf.DEPTHS[-1] + 1) is None


@pytest.mark.parametrize(
    ("inside", "outside", "share"), [(0.5, 0.1, 0.5), (0.9, 0.05, 0.3), (0.6, 0.1, 0.5), (1, 0.1, 0.2)]
)
def test_filters_that_go_with_the_vectors_lose_nothing(
    index: Index, monkeypatch: pytest.MonkeyPatch, inside: float, outside: float, share: float
) -> None:
    """Most of some clusters passes, little of the others: around a query, other shares pass than of all."""
    monkeypatch.setattr(indexes, "FEW", 50)
    draw = np.random.default_rng(5)
    chosen = draw.random(CLUSTERS) < share
    passing = Subset(draw.random(N) < np.where(chosen[CLUSTER], inside, outside))
    through, right = 0, []
    for query in unit_queries(80):
        hits = index.nearest(query, 10, passing)
        if hits is not None:
            through += 1
            assert passing.flags[hits[0]].all()
            right.append(len(set(hits[0].tolist()) & nearest_exactly(query, 10, passing.flags)))
    assert through >= 5
    assert sum(right) >= 0.995 * 10 * through


def test_a_filter_that_passes_nothing_near_the_query_is_compared_one_by_one(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "FEW", 50)
    (query,) = unit_queries(1)
    near = np.argsort(-(UNIT @ query))[: N // 2]
    flags = np.ones(N, np.bool_)
    flags[near] = False
    assert index.nearest(query, 10, Subset(flags)) is None
