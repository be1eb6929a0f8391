"""Agreement among nearest neighbours."""

from pathlib import Path

import numpy as np
import pytest
from phenoembed.retrieval import Neighbours, agreement, nearest_compounds
from tests.store.fakes import MOA, fake_rows

import phenoembed_store
from phenoembed_store.errors import NotInStore


def neighbours(labels: list[str], nearest: list[list[int]]) -> Neighbours:
    names = tuple(f"c{i}" for i in range(len(labels)))
    return Neighbours(names, np.array(labels, dtype=object), np.array(nearest))


def test_share_and_chance_are_those_of_a_loop() -> None:
    """Share of neighbours with the query's label; chance is what permuted labels give on average."""
    labels = ["a", "a", "a", "b", "b", "c"]
    nearest = [[1, 3], [0, 2], [5, 1], [4, 0], [3, 5], [0, 1]]
    found = agreement([neighbours(labels, nearest)], n_permutations=4000)
    pairs = [labels[i] == labels[j] for i, row in enumerate(nearest) for j in row]
    assert found.share == pytest.approx(sum(pairs) / len(pairs))
    same = [labels[i] == labels[j] for i in range(6) for j in range(6) if i != j]
    assert found.chance == pytest.approx(sum(same) / len(same), abs=0.01)
    assert found.n_compounds == 6


def test_perfect_neighbours_are_significant_and_random_ones_are_not() -> None:
    """One-sided p by permutation, never zero."""
    labels = [name for name in "abcd" for _ in range(4)]
    perfect = [[j for j in range(16) if labels[j] == labels[i] and j != i] for i in range(16)]
    assert agreement([neighbours(labels, perfect)], n_permutations=999).p_value == pytest.approx(0.001)
    rng = np.random.default_rng(0)
    anyone = [rng.choice([j for j in range(16) if j != i], 3, replace=False).tolist() for i in range(16)]
    assert agreement([neighbours(labels, anyone)], n_permutations=999).p_value > 0.05


def test_screens_are_pooled() -> None:
    """Weak evidence of several screens adds up; labels are permuted within each."""
    one = neighbours(["a", "a", "b", "b"], [[1], [0], [3], [2]])
    single, pooled = agreement([one], 999), agreement([one] * 3, 999)
    assert pooled.share == single.share == 1
    assert pooled.p_value < single.p_value
    assert pooled.n_compounds == 12


def test_neighbours_are_those_of_the_search(tmp_path: Path) -> None:
    """Only compounds with a mechanism ask and count; controls are none of them."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(fake_rows())
    found = nearest_compounds(store, k=2)
    assert found.compounds == tuple(sorted(MOA))
    assert found.labels.tolist() == [MOA[name] for name in found.compounds]
    for name, nearest in zip(found.compounds, found.nearest, strict=True):
        hits = store.search(compound=name, k=100).column("compound").to_pylist()
        assert [found.compounds[i] for i in nearest] == [hit for hit in hits if hit in MOA][:2]


def test_neighbours_need_two_compounds_with_a_mechanism(tmp_path: Path) -> None:
    """One line says how many there are and how to add them."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(fake_rows())
    store.delete_images(f"role = 'treated' AND compound <> '{min(MOA)}'")
    with pytest.raises(NotInStore, match=r"^1 of the store's compounds have a 'moa'.*annotate"):
        nearest_compounds(store)
