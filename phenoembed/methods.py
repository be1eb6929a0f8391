"""How a group is classified from its images: one small module a method, behind one contract.

A method takes features of all images of a batch of groups, (images, dim), and says which group each belongs to
(``Members``); it returns group scores (groups, classes) whose softmax is Q(y | X), and the loss it is trained with.
Groups may be of any size: sums run over segments, nothing is padded.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phenoembed.model import Classifier
from phenoembed_store.errors import TrainingError


class Members(NamedTuple):
    """Where the images of a batch belong."""

    group: Tensor  # (images,) int64: which group of the batch
    configuration: Tensor  # (images,) int64: which (dose, time) within the group
    n_groups: int


class GroupClassifier(nn.Module):
    """The contract: scores of groups from features of images.

    ``additive``: a group's score is a sum over its images.
    """

    additive: bool

    def __init__(self, n_classes: int, dim: int) -> None:
        super().__init__()
        self.classifier = Classifier(n_classes, dim)

    def forward(self, features: Tensor, members: Members) -> Tensor:
        """(images, dim) -> (groups, classes)."""
        raise TypeError(f"{type(self).__name__} does not say how a group's score follows from its images")

    def loss(self, features: Tensor, members: Members, labels: Tensor) -> Tensor:
        """Mean over groups of -log Q(y | X), Eq. (4). ``labels``: (groups,) class numbers."""
        return F.cross_entropy(self(features, members), labels)


class Product(GroupClassifier):
    """The paper's: the normalised product of the images' class probabilities, a softmax of summed scores (Eq. 3)."""

    additive = True

    def forward(self, features: Tensor, members: Members) -> Tensor:
        return segment_sum(self.classifier(features), members.group, members.n_groups)


def segment_sum(values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(rows, columns) summed within segments -> (n_segments, columns)."""
    return torch.zeros(n_segments, values.shape[1], dtype=values.dtype, device=values.device).index_add_(
        0, segment, values
    )


METHODS: dict[str, type[GroupClassifier]] = {"product": Product}


def build_method(name: str, n_classes: int, dim: int) -> GroupClassifier:
    """The group classifier called ``name``. Raises TrainingError naming the known ones."""
    if name not in METHODS:
        raise TrainingError(f"method {name!r} is not one of {', '.join(METHODS)}")
    return METHODS[name](n_classes, dim)
