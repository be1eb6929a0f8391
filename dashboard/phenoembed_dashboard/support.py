"""How sure is a neighbour? Whether it comes out again when each replicate is asked by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.neighbours import Filters
from phenoembed_store import Store
from phenoembed_store.aggregate import Floats, group_means, l2_normalise, number
from phenoembed_store.parts import embedding_matrix

Doubles = npt.NDArray[np.float64]
NEAREST = 5
KEYS = ["compound", "screen", "replicate"]


@dataclass(frozen=True, eq=False)
class Replicates:
    """Sums of group embeddings by compound and replicate: (compounds, replicates, dim), and how many there are."""

    compounds: tuple[str, ...]
    sums: Doubles
    counts: npt.NDArray[np.int64]  # (compounds, replicates)


@dataclass(frozen=True)
class Support:
    """Of each compound in how many of the query's replicates it is among the ``nearest``; ``typical``: the median
    similarity of all compounds to the query."""

    found_in: Mapping[str, int]
    replicates: int
    nearest: int
    typical: float | None


def replicates(store: Store, catalogue: Catalogue, filters: Filters) -> Replicates:
    """Of every compound and replicate, from the images that pass the filters on dose, time and plate."""
    if not filters:
        groups = store.groups(catalogue.encoder)
        vectors = embedding_matrix(groups.column("embedding"), catalogue.encoder)
        return _dealt(vectors, groups.select(KEYS).to_pylist())
    rows = np.flatnonzero(catalogue.table.column("group_id").is_valid().to_numpy(zero_copy_only=False))
    rows = rows[filters.passes(catalogue, rows)]
    group, first = number(catalogue.codes("group_id")[rows])
    configuration = np.asarray(catalogue.column("configuration")[rows], np.int64)
    means = l2_normalise(group_means(catalogue.compared[rows], configuration, group))
    return _dealt(means, catalogue.records(rows[first], KEYS))


def _dealt(vectors: Floats, groups: Sequence[dict[str, Any]]) -> Replicates:
    """Vectors of groups, summed by compound and replicate; replicates of one name in two screens are two."""
    names, compound = np.unique(np.array([group["compound"] for group in groups], np.str_), return_inverse=True)
    places = [(group["screen"], group["replicate"]) for group in groups]
    number_of = {place: i for i, place in enumerate(dict.fromkeys(places))}
    replicate = np.array([number_of[place] for place in places], np.int64)
    shape = (len(names), len(number_of))
    sums, counts = np.zeros((*shape, vectors.shape[1])), np.zeros(shape, np.int64)
    np.add.at(sums, (compound, replicate), vectors)
    np.add.at(counts, (compound, replicate), 1)
    return Replicates(tuple(names.tolist()), sums, counts)


def support(found: Replicates, compound: str, candidates: set[str] | None = None) -> Support:
    """How often each compound is among the nearest of one: a replicate of it against the others' other replicates.

    candidates: the compounds that count, None for all.
    """
    if compound not in found.compounds:
        return Support({}, 0, 0, None)
    me = found.compounds.index(compound)
    allowed = np.array([name != compound and (candidates is None or name in candidates) for name in found.compounds])
    nearest = max(1, min(NEAREST, int(allowed.sum()) // 4))
    total, counts = found.sums.sum(axis=1), found.counts.sum(axis=1)
    typical = float(np.median(_cosines(total[allowed], total[me]))) if allowed.any() else None
    times = np.zeros(len(found.compounds), np.int64)
    asked = 0
    for replicate in np.flatnonzero(found.counts[me]):
        there = np.flatnonzero(allowed & (counts - found.counts[:, replicate] > 0))
        if not len(there):
            continue
        scores = _cosines(total[there] - found.sums[there, replicate], found.sums[me, replicate])
        times[there[np.argsort(-scores, kind="stable")[:nearest]]] += 1
        asked += 1
    return Support(dict(zip(found.compounds, times.tolist(), strict=True)), asked, nearest, typical)


def _cosines(vectors: Doubles, one: Doubles) -> Doubles:
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(one)
    found: Doubles = np.divide(vectors @ one, norms, out=np.zeros(len(vectors)), where=norms > 0)
    return found
