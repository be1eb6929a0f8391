"""Before the training proper: the encoder learns without classes what two replicates of a treatment have in common.

VICReg (Bardes, Ponce & LeCun, 2022) on pairs of images of the same compound, dose and time, of two replicates as far
as there are such; DMSO too. Only images of the fold's training groups are seen.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from phenoembed.loop import LoopSettings, Training
from phenoembed.model import EMBEDDING_DIM, Encoder, to_network
from phenoembed.pairs import Numbers, Origins, pair_up
from phenoembed.pixel_rows import read_rows
from phenoembed.pixels import Pixels
from phenoembed.schedule import cosine

PAIRS = 64  # a batch; with its 128 images about as large as the paper's of 24 groups of six
EXPANDED_DIM = 1024
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # Bardes et al. (2022), Section 4.2
EPSILON = 1e-4  # Bardes et al. (2022), Algorithm 1


class PairBatch(NamedTuple):
    """``pixels``: (images, height, width) as stored; the second half are the partners of the first."""

    pixels: Tensor


class PairBatches(IterableDataset[PairBatch]):
    """The images at ``rows`` in pairs, each image once an epoch (an odd one of a treatment never in that epoch).

    ``share``: (r, n) deals the pairs of every batch to n processes, and gives the r-th its own.
    """

    def __init__(
        self, pixels: Pixels, origins: Origins, rows: Numbers, seed: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        self.pixels, self.rows, self.seed = pixels, np.sort(rows), seed
        self.treatment, self.replicate = origins.treatment[self.rows], origins.replicate[self.rows]
        self.rank, self.n_shares = share
        _, counts = np.unique(self.treatment, return_counts=True)
        self.n_pairs = int((counts // 2).sum())
        self.epoch = 0

    def __len__(self) -> int:
        # two pairs a process or more: variances are taken over them
        return max(1, min(-(-self.n_pairs // PAIRS), self.n_pairs // (2 * self.n_shares)))

    def draw(self) -> Iterator[Numbers]:
        """Rows (pairs, 2) of each batch of this epoch; they follow from (seed, epoch) alone."""
        rng = np.random.default_rng((self.seed, 1, abs(self.epoch)))
        pairs = rng.permutation(self.rows[pair_up(self.treatment, self.replicate, rng)])
        for batch in np.array_split(pairs, len(self)):
            yield np.array_split(batch, self.n_shares)[self.rank]

    def __iter__(self) -> Iterator[PairBatch]:
        for pairs in self.draw():
            yield PairBatch(torch.from_numpy(read_rows(self.pixels, pairs.T.ravel())))


class WarmStart(Training):
    """An encoder and its expander, trained on ``vicreg_loss``. Its epochs count -n to -1, so all draws are its own."""

    called = "epochs of the warm start"

    def __init__(
        self, encoder: Encoder, batches: PairBatches, settings: LoopSettings, mean: float, sd: float, scale: float
    ) -> None:
        epochs = settings.refinements.warm_start
        super().__init__(batches, settings, epochs, first_epoch=-epochs)
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.expander = nn.Sequential(
            nn.Linear(EMBEDDING_DIM, EXPANDED_DIM),
            nn.BatchNorm1d(EXPANDED_DIM),
            nn.ReLU(),
            nn.Linear(EXPANDED_DIM, EXPANDED_DIM),
            nn.BatchNorm1d(EXPANDED_DIM),
            nn.ReLU(),
            nn.Linear(EXPANDED_DIM, EXPANDED_DIM),
        )
        self.mean, self.sd, self.scale = mean, sd, scale

    def rate(self, epoch: float) -> float:
        return cosine(epoch / self.epochs)

    def training_step(self, batch: PairBatch, _number: int) -> Tensor:
        images = to_network(batch.pixels, self.mean, self.sd, self.scale)
        expanded = self.expander(self.encoder(self.settings.augmentation(images))).float()
        first, second = expanded.chunk(2)
        return vicreg_loss(first, second)


def vicreg_loss(first: Tensor, second: Tensor) -> Tensor:
    """Pairs are alike, features vary, and no two of them together: Bardes et al. (2022), Eq. (6). (pairs, dim) each.

    The variance term is halved as in the authors' code.
    """
    invariance = F.mse_loss(first, second)
    variance, covariance = (sum(term(view) for view in (first, second)) for term in (_variance, _covariance))
    return INVARIANCE * invariance + VARIANCE * variance / 2 + COVARIANCE * covariance


def _variance(view: Tensor) -> Tensor:
    return F.relu(1 - torch.sqrt(view.var(0) + EPSILON)).mean()


def _covariance(view: Tensor) -> Tensor:
    covariances = view.T.cov()
    return (covariances.square().sum() - covariances.diagonal().square().sum()) / view.shape[1]
