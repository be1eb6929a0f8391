"""Two of a kind: images or groups of one treatment, of two replicates as far as there are such."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Origins:
    """Of every image of a screen, as numbers: its treatment (compound, dose, time) and its replicate, (images,)."""

    treatment: Numbers
    replicate: Numbers


def origins_of(images: pa.Table) -> Origins:
    """Of the images of a screen's table. Controls of a time are of one treatment."""
    return Origins(
        _numbered(images, ("screen", "compound", "concentration_um", "time_h")),
        _numbered(images, ("screen", "replicate")),
    )


def _numbered(images: pa.Table, columns: Sequence[str]) -> Numbers:
    keys = list(zip(*(images.column(name).to_pylist() for name in columns), strict=True))
    numbers = {key: number for number, key in enumerate(sorted(set(keys), key=str))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def pair_up(kinds: Numbers, origins: Numbers, rng: np.random.Generator) -> Numbers:
    """Random pairs (pairs, 2) of places of the same kind; an odd one is left out.

    ``kinds``, ``origins``: (n,). As many pairs as possible are of two origins: sorted by origin, a place and the one
    half of its kind further are of one only where that origin has more than half.
    """
    shuffled = rng.permutation(len(kinds))
    rank = rng.permutation(int(origins.max(initial=0)) + 1)
    order = shuffled[np.lexsort((rank[origins[shuffled]], kinds[shuffled]))]
    _, starts = np.unique(kinds[order], return_index=True)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for members in np.split(order, starts[1:]):
        even = np.delete(members, rng.integers(len(members))) if len(members) % 2 else members
        pairs.append(even.reshape(2, -1).T)
    return np.concatenate(pairs)


def in_pairs(kinds: Numbers, origins: Numbers, rng: np.random.Generator) -> Numbers:
    """All places (n,) in random order, but those that ``pair_up`` pairs stand side by side."""
    pairs = pair_up(kinds, origins, rng)
    alone = np.setdiff1d(np.arange(len(kinds)), pairs)
    units = [*pairs, *alone[:, None]]
    return np.concatenate([units[i] for i in rng.permutation(len(units))])
