"""What a network itself says of groups: against it the store's arithmetic is checked."""

import numpy as np
import torch
from phenoembed.batches import Batch, members_of
from phenoembed.groups import Groups
from phenoembed.methods import GroupClassifier
from phenoembed.model import Encoder, to_network
from torch import Tensor


@torch.inference_mode()
def network_scores(head: GroupClassifier, features: np.ndarray, groups: Groups, places: np.ndarray) -> np.ndarray:
    """(groups at ``places``, classes) of a classifier on features (images, dim); nothing is doubted."""
    rows = np.concatenate([groups.rows[place] for place in places])
    scores: np.ndarray = head(torch.from_numpy(features[rows]), members_of(groups, places)).numpy()
    return scores


@torch.inference_mode()
def batch_scores(encoder: Encoder, head: GroupClassifier, batch: Batch, *pixels: float) -> Tensor:
    """(groups, classes) of encoder and classifier on a batch; ``pixels``: mean, sd and scale."""
    scores: Tensor = head(encoder(to_network(batch.pixels, *pixels)), batch.members)
    return scores
