"""Batches of whole groups, of any size, without padding: pixels side by side and a note of who belongs where."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from phenoembed.groups import Groups
from phenoembed.methods import Members
from phenoembed.pixels import Pixels


class Batch(NamedTuple):
    """``pixels``: (images, height, width) as stored; ``labels``: (groups,) class numbers."""

    pixels: Tensor
    members: Members
    labels: Tensor


class GroupBatches(IterableDataset[Batch]):
    """The groups at ``places``, in batches of about ``batch_groups``; the sizes of batches differ by one at the most.

    ``shuffle_seed``: the order of epoch e follows from (seed, e) alone, so a resumed training sees the same batches.
    ``share``: (r, n) deals the groups of every batch to n processes, as evenly as can be, and gives the r-th its own.
    """

    def __init__(
        self,
        pixels: Pixels,
        groups: Groups,
        places: np.ndarray,
        labels: np.ndarray,
        batch_groups: int,
        shuffle_seed: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.pixels, self.groups, self.places, self.labels = pixels, groups, places, labels
        self.rank, self.n_shares = share
        # at least two groups a batch, where there are two: batch normalisation cannot train on one image
        self.n_batches = max(1, min(-(-len(places) // batch_groups), len(places) // (2 * self.n_shares)))
        self.shuffle_seed = shuffle_seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.n_batches

    @property
    def n_images(self) -> int:
        """Images of one pass."""
        return sum(len(self.groups.rows[place]) for place in self.places)

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self.places))
        if self.shuffle_seed is not None:
            order = np.random.default_rng((self.shuffle_seed, self.epoch)).permutation(order)
        for chosen in np.array_split(order, self.n_batches):
            chosen = np.array_split(chosen, self.n_shares)[self.rank]
            places = self.places[chosen]
            rows = np.concatenate([self.groups.rows[place] for place in places])
            pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[rows]))
            yield Batch(pixels, members_of(self.groups, places), torch.from_numpy(self.labels[chosen]))


def members_of(groups: Groups, places: Sequence[int] | np.ndarray) -> Members:
    """Where the images of these groups belong, when their rows stand one group after the other."""
    sizes = np.array([len(groups.rows[place]) for place in places])
    configuration = np.concatenate([groups.configurations[place] for place in places])
    return Members(
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        torch.from_numpy(configuration.astype(np.int64)),
        len(sizes),
    )
