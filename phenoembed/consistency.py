"""How far images of one treatment differ between replicates, as a term of a training's loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from phenoembed.methods import segment_mean, segment_sum


def replicate_spread(features: Tensor, treatment: Tensor, replicate: Tensor) -> Tensor:
    """The share of the features' variance over a batch that stays between replicates of one treatment; a scalar.

    ``features``: (images, dim), each feature standardised here over the batch, so that small ones gain nothing.
    ``treatment``, ``replicate``: (images,) numbers. 0: replicates of a treatment have the same mean; about 1: they are
    as far apart as treatments are (one minus the intraclass correlation). 0 too where no treatment of the batch has two
    replicates.
    """
    standard = F.batch_norm(features.float(), None, None, training=True)
    keys, of_image = torch.unique(torch.stack([treatment, replicate], 1), dim=0, return_inverse=True)
    means = segment_mean(standard, of_image, len(keys))  # (treatments and replicates, dim)
    _, owner, counts = torch.unique(keys[:, 0], return_inverse=True, return_counts=True)
    centres = segment_mean(means, owner, len(counts))  # (treatments, dim)
    squares = segment_sum((means - centres[owner]).square(), owner, len(counts)).mean(1)  # (treatments,)
    several = counts > 1
    spread: Tensor = (squares[several] / (counts[several] - 1)).sum() / several.sum().clamp_min(1)
    return spread
