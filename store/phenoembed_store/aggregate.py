"""From image embeddings to the embeddings of wells, groups, treatments and compounds. Pure functions over arrays.

Every level is a mean of means, so that what was imaged more often does not weigh more: images are averaged within
a configuration, configurations within a group, groups within a compound (or a compound at one concentration).

The mean was chosen among four ways by benchmarks/compare_aggregates.py (docs/benchmarks.md has the table): of seven
real and simulated tables none wins throughout, and the mean is best on average at finding mechanisms, second at finding
replicates. It adds, too, so that a store need not keep more of a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ROWS_AT_ONCE = 16_384
"""So many vectors are summed at a time, in double precision: 64 MB at 512 dimensions."""


@dataclass(frozen=True, eq=False)
class Units:
    """Images dealt into units: ``rows[starts[u]:starts[u + 1]]`` are the images of unit u."""

    rows: Integers
    starts: Integers

    def __len__(self) -> int:
        return len(self.starts) - 1

    def counts(self) -> Integers:
        return np.diff(self.starts)

    def of(self, unit: int) -> Integers:
        return self.rows[self.starts[unit] : self.starts[unit + 1]]


def deal(unit: Integers) -> Units:
    """Deal rows into units by number (0..n-1, every one present); rows with a negative number are left out."""
    order = np.argsort(unit, kind="stable")
    order = order[np.searchsorted(unit[order], 0) :]
    starts = np.searchsorted(unit[order], np.arange(int(unit.max(initial=-1)) + 2))
    return Units(order.astype(np.int64), starts.astype(np.int64))


def blocks(units: Units) -> Iterator[tuple[int, int]]:
    """Ranges of whole units, of ROWS_AT_ONCE rows or so."""
    first = 0
    while first < len(units):
        last = int(np.searchsorted(units.starts, units.starts[first] + ROWS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), len(units))
        yield first, last
        first = last


def number(*keys: npt.NDArray[np.generic]) -> tuple[Integers, Integers]:
    """Number the distinct combinations of the keys, in their order: the number of every row, a first row of each."""
    codes = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        _, inverse = np.unique(key, return_inverse=True)
        _, codes = np.unique(codes * (int(inverse.max(initial=0)) + 1) + inverse, return_inverse=True)
    _, first = np.unique(codes, return_index=True)
    return codes.astype(np.int64), first.astype(np.int64)


def mean_by(vectors: Floats, unit: Integers) -> Floats:
    """Mean of the vectors of each unit, (units, dim). Units are numbered 0..n-1 and none is empty."""
    units = deal(unit)
    if len(units) == len(units.rows):  # each vector is its own mean
        return np.asarray(vectors[units.rows], np.float32)
    means = np.empty((len(units), vectors.shape[1]), np.float32)
    for first, last in blocks(units):
        starts = units.starts[first : last + 1]
        block = vectors[units.rows[starts[0] : starts[-1]]]
        sums = np.add.reduceat(block, starts[:-1] - starts[0], axis=0, dtype=np.float64)
        means[first:last] = sums / np.diff(starts)[:, None]
    return means


def l2_normalise(vectors: Floats) -> Floats:
    """Vectors of length one; a vector of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return found


def median_by(vectors: Floats, unit: Integers) -> Floats:
    """Median of the vectors of each unit, feature by feature, (units, dim)."""
    units = deal(unit)
    medians = [np.median(vectors[units.of(u)], axis=0) for u in range(len(units))]
    return np.asarray(medians, np.float32).reshape(len(units), vectors.shape[1])


def group_means(vectors: Floats, configuration: Integers, group: Integers) -> Floats:
    """Mean within each configuration, then over the group's configurations: (groups, dim).

    vectors: (images, dim); group: the number of each image's group, 0..n-1; configuration: a number within the group.
    """
    units = deal(group)
    means = np.empty((len(units), vectors.shape[1]), np.float32)
    for first, last in blocks(units):  # the means of all configurations would be as many as the images
        rows = units.rows[units.starts[first] : units.starts[last]]
        part, lead = number(group[rows], configuration[rows])
        means[first:last] = mean_by(mean_by(vectors[rows], part), group[rows][lead] - first)
    return means


def compound_embeddings(groups: Floats, compound: Integers) -> Floats:
    """Mean over the groups (of length one) of each compound, of length one: (compounds, dim)."""
    return l2_normalise(mean_by(groups, compound))


def treatment_embeddings(means: Floats, treatment: Integers) -> Floats:
    """Median over the group means of each compound at one concentration, of length one: (treatments, dim).

    The median is what the field reports for treatments; a well that went wrong does not move it.
    """
    return l2_normalise(median_by(means, treatment))
