"""How a group is classified from its images: one small module a method, behind one contract.

A method takes features of all images of a batch of groups, (images, dim), and says which group each belongs to
(``Members``); it returns group scores (groups, classes) whose softmax is Q(y | X), and the loss it is trained with.
Groups may be of any size: sums run over segments, nothing is padded. All methods share encoder and classifier g.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phenoembed.model import Classifier
from phenoembed_store.errors import TrainingError

ATTENTION_DIM = 128  # Ilse et al. (2018), Section 4


class Members(NamedTuple):
    """Where the images of a batch belong."""

    group: Tensor  # (images,) int64: which group of the batch
    configuration: Tensor  # (images,) int64: which (dose, time) within the group
    n_groups: int


class GroupClassifier(nn.Module):
    """The contract: scores of groups from features of images.

    ``additive``: a group's score is a sum over its images (over its configurations, for ``balanced``).
    ``learns_controls``: trained on control groups too, where there are any (``controls``), as one more class, whose
    number is ``n_classes``; it has no column among the scores.
    """

    additive: bool
    learns_controls = False

    def __init__(self, n_classes: int, dim: int, *, controls: bool = False) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.classifier = Classifier(n_classes + controls, dim)

    def forward(self, features: Tensor, members: Members) -> Tensor:
        """(images, dim) -> (groups, classes)."""
        raise TypeError(f"{type(self).__name__} does not say how a group's score follows from its images")

    def loss(self, features: Tensor, members: Members, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean over groups of -log Q(y | X), Eq. (4). ``labels``: (groups,) class numbers.

        ``smoothing``: this share of each label is spread evenly over all classes (Szegedy et al., 2016, Section 7).
        """
        return F.cross_entropy(self(features, members), labels, label_smoothing=smoothing)


class Product(GroupClassifier):
    """The paper's: the normalised product of the images' class probabilities, a softmax of summed scores (Eq. 3).

    The last layer is linear, so the sum of the images' scores is that layer on the sum of their hidden activations:
    the product with all classes is computed once a group, in training (after each image's own dropout) as in use.
    """

    additive = True

    def forward(self, features: Tensor, members: Members) -> Tensor:
        hidden = segment_sum(self.classifier.hidden(features), members.group, members.n_groups)  # (groups, 256)
        return self.classifier.scores_of_sums(hidden, torch.bincount(members.group, minlength=members.n_groups))


class Baseline(Product):
    """The paper's naive classifier (Section 5.2): trained on single images, the product only at inference."""

    def loss(self, features: Tensor, members: Members, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean over images of -log P(y | x), Eq. (1)."""
        return F.cross_entropy(self.classifier(features), labels[members.group], label_smoothing=smoothing)


class Balanced(GroupClassifier):
    """Ours: scores averaged within each configuration, then summed over configurations.

    A configuration speaks once however many images it has. With one image each it is ``product``, and like there the
    last layer is applied to sums of hidden activations. That it knows controls is for doses and times that no training
    group had: a posterior doubts them (``phenoembed_store.doubt``).
    """

    additive = True
    learns_controls = True

    def forward(self, features: Tensor, members: Members) -> Tensor:
        return self._with_controls(features, members)[:, : self.n_classes]

    def loss(self, features: Tensor, members: Members, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """As of every method; a control group is labelled ``n_classes``."""
        return F.cross_entropy(self._with_controls(features, members), labels, label_smoothing=smoothing)

    def _with_controls(self, features: Tensor, members: Members) -> Tensor:
        """(images, dim) -> (groups, classes), and one class more where controls are learned."""
        within = members.group * (int(members.configuration.max()) + 1) + members.configuration
        parts, part = torch.unique(within, return_inverse=True)  # (configurations,), (images,)
        owner = torch.empty_like(parts).scatter_(0, part, members.group)  # (configurations,)
        means = segment_mean(self.classifier.hidden(features), part, len(parts))  # (configurations, 256)
        hidden = segment_sum(means, owner, members.n_groups)  # (groups, 256)
        return self.classifier.scores_of_sums(hidden, torch.bincount(owner, minlength=members.n_groups))


class EmbeddingMean(GroupClassifier):
    """MI-Net with mean pooling (Wang et al., 2018): the mean feature of a group is classified."""

    additive = False

    def forward(self, features: Tensor, members: Members) -> Tensor:
        scores: Tensor = self.classifier(segment_mean(features, members.group, members.n_groups))
        return scores


class Attention(GroupClassifier):
    """AMIL (Ilse et al., 2018), gated: a mean of the features, weighted by softmax(w . (tanh(V f) * sigmoid(U f)))."""

    additive = False

    def __init__(self, n_classes: int, dim: int, *, controls: bool = False) -> None:
        super().__init__(n_classes, dim, controls=controls)
        self.v, self.u = (nn.Linear(dim, ATTENTION_DIM) for _ in range(2))
        self.w = nn.Linear(ATTENTION_DIM, 1, bias=False)

    def forward(self, features: Tensor, members: Members) -> Tensor:
        logits = self.w(torch.tanh(self.v(features)) * torch.sigmoid(self.u(features)))  # (images, 1)
        top = segment_max(logits, members.group, members.n_groups)
        raised = torch.exp(logits - top[members.group])
        weights = raised / segment_sum(raised, members.group, members.n_groups)[members.group]
        scores: Tensor = self.classifier(segment_sum(weights * features, members.group, members.n_groups))
        return scores


class InstanceLogSumExp(GroupClassifier):
    """mi-Net with LogSumExp (Wang et al., 2018): a soft maximum of the images' scores, class by class."""

    additive = False

    def forward(self, features: Tensor, members: Members) -> Tensor:
        logits = self.classifier(features)  # (images, classes)
        top = segment_max(logits, members.group, members.n_groups)
        raised = torch.exp(logits - top[members.group])
        # the log of the mean, not of the sum: a group of one keeps its scores, and Q(y | X) is the same
        return top + torch.log(segment_mean(raised, members.group, members.n_groups))


def segment_sum(values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(rows, columns) summed within segments -> (n_segments, columns)."""
    return torch.zeros(n_segments, values.shape[1], dtype=values.dtype, device=values.device).index_add_(
        0, segment, values
    )


def segment_mean(values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(rows, columns) averaged within segments, none of them empty -> (n_segments, columns)."""
    return segment_sum(values, segment, n_segments) / torch.bincount(segment, minlength=n_segments)[:, None]


def segment_max(values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(rows, columns) -> the largest of each segment, (n_segments, columns); a constant to the gradient."""
    values = values.detach()
    start = values.new_full((n_segments, values.shape[1]), -torch.inf)
    return start.scatter_reduce_(0, segment[:, None].expand_as(values), values, "amax")


METHODS: dict[str, type[GroupClassifier]] = {
    "product": Product,
    "baseline": Baseline,
    "attention": Attention,
    "embedding-mean": EmbeddingMean,
    "instance-lse": InstanceLogSumExp,
    "balanced": Balanced,
}
"""In the order of tables: the paper's method, those it compares with, and ours."""


def method_called(name: str) -> type[GroupClassifier]:
    """The method of this name. Raises TrainingError naming the known ones."""
    if name not in METHODS:
        raise TrainingError(f"method {name!r} is not one of {', '.join(METHODS)}")
    return METHODS[name]


def build_method(name: str, n_classes: int, dim: int, *, controls: bool = False) -> GroupClassifier:
    """The group classifier called ``name``, with ``controls`` as one more class. Raises TrainingError."""
    return method_called(name)(n_classes, dim, controls=controls)
