"""Do similar compounds share a mechanism? Agreement among nearest neighbours, against permuted labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phenoembed_store import Store
from phenoembed_store.errors import NotInStore

N_PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Neighbours:
    """``nearest``: (compounds, k) numbers of each compound's nearest; ``labels``: (compounds,) its mechanism."""

    compounds: tuple[str, ...]
    labels: NDArray[np.object_]
    nearest: NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """``share`` of neighbours with the query's label, ``chance`` the mean over permutations, one-sided ``p_value``."""

    share: float
    chance: float
    p_value: float
    n_compounds: int


def nearest_compounds(store: Store, label: str = "moa", k: int = 5, encoder: str | None = None) -> Neighbours:
    """The k nearest compounds of every compound that has a label, among those that have one, by ``store.search``.

    Raises NotInStore where fewer than two compounds have one.
    """
    images, _ = store.vectors("role = 'treated'", encoder=encoder, columns=["compound", label])
    annotated = {
        compound: value
        for compound, value in zip(*(column.to_pylist() for column in images.columns), strict=True)
        if value
    }
    names = tuple(sorted(annotated))
    if len(names) < 2:
        raise NotInStore(
            f"{len(names)} of the store's compounds have a '{label}', and neighbours need two; "
            "add them with `phenoembed annotate`"
        )
    number = {name: i for i, name in enumerate(names)}
    k = min(k, len(names) - 1)
    nearest = np.empty((len(names), k), np.int64)
    for i, name in enumerate(names):
        hits = store.search(compound=name, level="compound", k=10_000, encoder=encoder).column("compound").to_pylist()
        nearest[i] = [number[hit] for hit in hits if hit in number][:k]
    return Neighbours(names, np.array([annotated[name] for name in names], dtype=object), nearest)


def agreement(screens: Sequence[Neighbours], n_permutations: int = N_PERMUTATIONS, seed: int = 0) -> Agreement:
    """Share of nearest neighbours with the same label, pooled over screens; labels are permuted within each."""
    rng = np.random.default_rng(seed)
    observed, permuted, total = 0.0, np.zeros(n_permutations), 0
    for screen in screens:
        _, labels = np.unique(screen.labels.astype(str), return_inverse=True)
        observed += float((labels[screen.nearest] == labels[:, None]).sum())
        total += screen.nearest.size
        for i in range(n_permutations):
            shuffled = rng.permutation(labels)
            permuted[i] += (shuffled[screen.nearest] == shuffled[:, None]).sum()
    p_value = (1 + int((permuted >= observed).sum())) / (1 + n_permutations)
    n_compounds = sum(len(screen.compounds) for screen in screens)
    return Agreement(observed / total, float(permuted.mean()) / total, p_value, n_compounds)
