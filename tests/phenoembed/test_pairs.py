"""Pairs of one treatment and two replicates."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from phenoembed.pairs import in_pairs, origins_of, pair_up
from tests.phenoembed.screens import layout, table_of


@pytest.mark.parametrize("seed", range(20))
def test_as_many_pairs_as_can_be_are_of_two_origins(seed: int) -> None:
    """Every place at most once, all but an odd one of each kind, and no more pairs of one origin than must be."""
    rng = np.random.default_rng(seed)
    kinds, origins = rng.integers(0, 5, 60), rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    pairs = pair_up(kinds, origins, rng)
    assert len(set(pairs.ravel().tolist())) == pairs.size
    assert (kinds[pairs[:, 0]] == kinds[pairs[:, 1]]).all()
    for kind in range(5):
        own = pairs[kinds[pairs[:, 0]] == kind]
        counts = Counter(origins[kinds == kind].tolist())
        n, most = sum(counts.values()), max(counts.values(), default=0)
        assert len(own) == n // 2
        same = (origins[own[:, 0]] == origins[own[:, 1]]).sum()
        # what the largest origin has beyond all others can only be paired within it; leaving an odd one out shifts by 1
        assert same <= max(0, (2 * most - n + 1) // 2)


def test_who_meets_whom_follows_from_the_generator() -> None:
    """The same draws, the same pairs; other draws, other ones; over many, every two replicates meet."""
    kinds, origins = np.zeros(12, dtype=np.int64), np.repeat(np.arange(3), 4)
    first, again, other = (pair_up(kinds, origins, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    met = {tuple(sorted(origins[pair])) for s in range(5) for pair in pair_up(kinds, origins, np.random.default_rng(s))}
    assert met == {(0, 1), (0, 2), (1, 2)}
    assert pair_up(kinds[:1], origins[:1], np.random.default_rng(0)).shape == (0, 2)


def test_everything_comes_once_and_pairs_stand_side_by_side() -> None:
    """Five of each kind: four in pairs of two origins, one alone."""
    kinds, origins = np.repeat(np.arange(6), 5), np.tile([0, 0, 1, 1, 2], 6)
    order = in_pairs(kinds, origins, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(30))
    beside = [(a, b) for a, b in pairwise(order) if kinds[a] == kinds[b] and origins[a] != origins[b]]
    assert len(beside) >= 12


def test_a_treatment_is_a_compound_at_a_dose_and_time() -> None:
    """Whatever the configurations' numbers are: a compound that lacks a dose keeps its others."""
    rows = [row for row in layout(compounds=2) if (row["compound"], row["concentration_um"]) != ("c0", 1.0)]
    origins = origins_of(table_of(rows))
    names = [(row["compound"], row["concentration_um"], row["time_h"]) for row in rows]
    assert len(set(origins.treatment.tolist())) == len(set(names)) == 8  # c0: 2, c1: 4, DMSO: 2
    assert len(set(zip(names, origins.treatment.tolist(), strict=True))) == 8
    replicates = [row["replicate"] for row in rows]
    assert len(set(zip(replicates, origins.replicate.tolist(), strict=True))) == 3
