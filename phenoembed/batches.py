"""Batches of whole groups, of any size, without padding: pixels side by side and a note of who belongs where."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from phenoembed.groups import Groups
from phenoembed.methods import Members
from phenoembed.pairs import Origins, in_pairs
from phenoembed.pixel_rows import read_rows
from phenoembed.pixels import Pixels
from phenoembed.reading_ahead import ahead


class Batch(NamedTuple):
    """``pixels``: (images, height, width) as stored; ``labels``: (groups,) class numbers.

    ``origins``: treatment and replicate of the images, (images,) numbers each, where they are asked for.
    """

    pixels: Tensor
    members: Members
    labels: Tensor
    origins: tuple[Tensor, Tensor] | None = None


class GroupBatches(IterableDataset[Batch]):
    """The groups at ``places``, in batches of about ``batch_groups``; the sizes of batches differ by one at the most.

    ``shuffle_seed``: the order of epoch e follows from (seed, e) alone, so a resumed training sees the same batches.
    ``share``: (r, n) deals the groups of every batch to n processes, as evenly as can be, and gives the r-th its own.
    ``origins``: of all images; given, groups of one label come in pairs of two replicates (but for pairs that the
    border of a batch cuts), and batches say their images' origins.
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
        origins: Origins | None = None,
    ) -> None:
        self.pixels, self.groups, self.places, self.labels = pixels, groups, places, labels
        self.origins = origins
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
        order = np.array_split(self._order(), self.n_batches)
        shares = (np.array_split(chosen, self.n_shares)[self.rank] for chosen in order)
        yield from ahead(self._batch(share) for share in shares)

    def _order(self) -> np.ndarray:
        if self.shuffle_seed is None:
            return np.arange(len(self.places))
        rng = np.random.default_rng((self.shuffle_seed, self.epoch))
        if self.origins is None:
            return rng.permutation(len(self.places))
        firsts = np.array([self.groups.rows[place][0] for place in self.places])
        return in_pairs(self.labels, self.origins.replicate[firsts], rng)

    def _batch(self, chosen: np.ndarray) -> Batch:
        places = self.places[chosen]
        rows = np.concatenate([self.groups.rows[place] for place in places])
        pixels, labels = torch.from_numpy(read_rows(self.pixels, rows)), torch.from_numpy(self.labels[chosen])
        return Batch(pixels, members_of(self.groups, places), labels, self._origins_of(rows))

    def _origins_of(self, rows: np.ndarray) -> tuple[Tensor, Tensor] | None:
        if self.origins is None:
            return None
        return torch.from_numpy(self.origins.treatment[rows]), torch.from_numpy(self.origins.replicate[rows])


def members_of(groups: Groups, places: Sequence[int] | np.ndarray) -> Members:
    """Where the images of these groups belong, when their rows stand one group after the other."""
    sizes = np.array([len(groups.rows[place]) for place in places])
    configuration = np.concatenate([groups.configurations[place] for place in places])
    return Members(
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        torch.from_numpy(configuration.astype(np.int64)),
        len(sizes),
    )
