"""Nearest neighbours by cosine, exactly: at any level, among any images, best first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import StoreError
from phenoembed_store.hits import hit_table
from phenoembed_store.images import Images
from phenoembed_store.indexes import Index
from phenoembed_store.levels import Level, Unit, bare_unit, build_level, unit_of
from phenoembed_store.parts import Part
from phenoembed_store.queries import Query, closest
from phenoembed_store.subset import Flags, Subset
from phenoembed_store.transforms import POOLED


@dataclass(frozen=True)
class Asked:
    """How to search: the level, how many hits, among which images, and which neighbours do not count."""

    level: str = "compound"
    k: int = 10
    where: str | None = None
    not_same: tuple[str, ...] = ()
    include_self: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise StoreError(f"k is {self.k}: at least one hit is wanted")


@dataclass(frozen=True)
class Ranked:
    """The best units (or image rows), their scores, and how they were found: ``exact`` or ``index``."""

    units: Integers
    scores: Floats
    path: str = "exact"


def search(images: Images, query: Query, asked: Asked, whole: Level | None = None) -> pa.Table:
    """The hits of a query as a table. ``whole``: the level of all images, where the caller keeps it at hand."""
    _check_not_same(images, query, asked)
    passing = images.passing(asked.where)
    if asked.level == "image":
        whole_query = False  # it asks with one vector, whatever the filter lets pass
        ranked = nearest_images(images, query, asked, passing)
        table = hit_table(images, ranked.units, None, ranked.scores, query.rows)
    else:
        level = whole if passing is None and whole is not None else build_level(images, asked.level, _rows(passing))
        unit, whole_query = _query_unit(images, query, passing, asked)
        ranked = nearest_units(images, level, unit, asked)
        apart = "plate" in asked.not_same  # then pairs of groups that share a plate did not count
        shown = None if query.rows is None else unit.rows[:0] if apart else unit.rows
        table = hit_table(images, ranked.units, level, ranked.scores, shown)
    transform = images.transform.id if images.transform else None
    return table.replace_schema_metadata(
        _how_found(tuple(query.asked.items()), asked, images.encoder, ranked.path, transform, whole_query)
    )


@lru_cache(64)
def _how_found(
    query: tuple[tuple[str, Any], ...], asked: Asked, encoder: str, path: str, transform: str | None, whole: bool
) -> dict[bytes, bytes]:
    """What a result says of itself, as the schema's metadata."""
    described = {
        **dict(query),
        "level": asked.level,
        "k": asked.k,
        "where": asked.where,
        "not_same": list(asked.not_same),
        "include_self": asked.include_self,
        "encoder": encoder,
        "query_not_filtered": whole,
    }
    return {b"phenoembed": json.dumps({"query": described, "path": path, "transform": transform}).encode()}


def nearest_images(images: Images, query: Query, asked: Asked, passing: Subset | None) -> Ranked:
    """The nearest single images to the query's embedding: through the index where there is one, unless ``exact``."""
    vector = (
        _scaled(images, query.vector) if query.vector is not None else unit_of(images, _present(query.rows)).embedding
    )
    allowed = _allowed(images, query, asked, passing)
    if images.index is None or asked.exact:
        return _exactly(images, vector, asked.k, allowed)
    return _by_index(images, images.index, vector, asked.k, allowed)


def _allowed(images: Images, query: Query, asked: Asked, passing: Subset | None) -> Subset | None:
    """Which images may be hits; None for all of them."""
    shared = (*asked.not_same, *(() if asked.include_self else ("compound",))) if query.rows is not None else ()
    if not shared:
        return passing
    flags = np.ones(len(images), np.bool_) if passing is None else passing.flags.copy()
    for column in shared:
        codes = images.places(column)
        theirs = np.zeros(int(codes.max()) + 1, np.bool_)
        theirs[codes[query.rows]] = True
        flags &= ~theirs[codes]
    return Subset(flags)


def _exactly(images: Images, vector: Floats, k: int, allowed: Subset | None) -> Ranked:
    """Compare with every image that is allowed."""
    rows, scores, start = [], [], 0
    for part in images.parts:
        stop = start + len(part.rows)
        here = None if allowed is None else allowed.between(start, stop)
        if images.index is not None and here is not None and start == 0:
            scores.append(images.index.cosines(vector, here))
        else:
            scores.append(_cosines(part, vector, here))
        rows.append(np.arange(start, stop) if here is None else start + here)
        start = stop
    return _best(rows, scores, k, "exact")


def _by_index(images: Images, index: Index, vector: Floats, k: int, allowed: Subset | None) -> Ranked:
    """The index's neighbours, and those among the images that came after it was made, compared exactly."""
    size = len(index)
    covers_all = len(images.parts) == 1
    within = allowed if allowed is None or covers_all else Subset(allowed.flags[:size])
    found, path = index.nearest(vector, k, within), "index"
    if found is None and allowed is not None:
        found, path = images.gathers.nearest(index, vector, k, allowed), "exact"
    if found is None:
        return _exactly(images, vector, k, allowed)
    if covers_all:
        return Ranked(*found, path)
    late = images.parts[1]
    rows = None if allowed is None else allowed.between(size, len(images))
    places = size + (np.arange(len(late.rows)) if rows is None else rows)
    return _best([found[0], places], [found[1], _cosines(late, vector, rows)], k, path)


def _best(rows: Sequence[Integers], scores: Sequence[Floats], k: int, path: str) -> Ranked:
    all_rows, all_scores = np.concatenate(rows), np.concatenate(scores)
    best = top(all_scores, k)
    return Ranked(all_rows[best], all_scores[best], path)


def _cosines(part: Part, vector: Floats, rows: Integers | None) -> Floats:
    """Cosines of a part's images, or of these of them."""
    scaled, norms = (part.scaled, part.norms) if rows is None else (part.scaled[rows], part.norms[rows])
    found: Floats = np.divide(scaled @ vector, np.maximum(norms, np.float32(1e-30)))
    return found


def nearest_units(images: Images, level: Level, query: Unit, asked: Asked) -> Ranked:
    """The nearest units of a level. With ``not_same`` the score is the mean cosine of the pairs of groups left."""
    if asked.not_same and len(level):
        scores, allowed = _paired(images, level, query, asked.not_same)
    else:
        scores, allowed = level.embeddings @ query.embedding, np.ones(len(level), np.bool_)
    if len(query.rows) and not asked.include_self:
        compounds = images.codes("compound")
        allowed &= ~np.isin(compounds[level.units.rows[level.units.starts[:-1]]], np.unique(compounds[query.rows]))
    candidates = np.flatnonzero(allowed)
    best = candidates[top(scores[candidates], asked.k)]
    return Ranked(best, scores[best])


def top(scores: Floats, k: int) -> Integers:
    """Places of the k highest scores, best first; equal scores in the order they stand in."""
    if k < len(scores):
        bound = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= bound)
    else:
        places = np.arange(len(scores))
    found: Integers = places[np.argsort(-scores[places], kind="stable")[:k]]
    return found


def _paired(images: Images, level: Level, query: Unit, not_same: Sequence[str]) -> tuple[Floats, Flags]:
    """Mean cosine over the pairs of groups (query's, candidate's) that share none of the columns; which have any."""
    cosines = query.parts @ level.parts.T  # (query's groups, candidates' groups)
    apart = np.ones(cosines.shape, np.bool_)
    part_of_row = np.repeat(np.arange(len(level.part_units)), level.part_units.counts())
    for column in not_same:
        codes = images.places(column)
        candidate_codes = codes[level.part_units.rows]
        for i in range(len(query.parts)):
            shared = np.isin(candidate_codes, np.unique(codes[query.part_units.of(i)]))
            apart[i, np.unique(part_of_row[shared])] = False
    sums = np.bincount(level.part_unit, (cosines * apart).sum(axis=0, dtype=np.float64), len(level))
    pairs = np.bincount(level.part_unit, apart.sum(axis=0), len(level))
    scores = np.divide(sums, pairs, out=np.zeros(len(level)), where=pairs > 0)
    return scores.astype(np.float32), pairs > 0


def _query_unit(images: Images, query: Query, passing: Subset | None, asked: Asked) -> tuple[Unit, bool]:
    """What is asked with, and whether that is all of the query though the filter lets none of it pass."""
    if query.vector is not None:
        return bare_unit(_scaled(images, query.vector)), False
    rows = _present(query.rows)
    within = rows if passing is None else rows[passing.flags[rows]]
    # "moa = 'kinase'" asked of a compound of another mechanism speaks of the candidates alone
    return unit_of(images, within if len(within) else rows, asked.level), not len(within)


def _scaled(images: Images, vector: Floats) -> Floats:
    """A vector from outside as the store's are compared; it stands on no plate, so all plates' controls scale it."""
    if images.transform is not None:
        vector = images.transform.apply(vector[None], [POOLED])[0]
    wide = vector.astype(np.float64)  # no square of a float32 is too large or small for it
    found: Floats = (wide / max(float(np.sqrt(wide @ wide)), 1e-300)).astype(np.float32)
    return found


def _check_not_same(images: Images, query: Query, asked: Asked) -> None:
    for column in asked.not_same:
        if column not in images.column_names:
            raise StoreError(f"--not-same: no column '{column}'{closest(column, images.column_names)}")
    if asked.not_same and query.rows is None:
        raise StoreError("--not-same needs a query from the store: a bare vector has no plate, well or compound")


def _present(rows: Integers | None) -> Integers:
    assert rows is not None, "a query has rows or a vector"
    return rows


def _rows(passing: Subset | None) -> Integers | None:
    return None if passing is None else passing.rows
