"""Heads whose scores are linear in the features: logistic regression on whole groups, found in one go by L-BFGS.

The sums and means that a method makes of a group's images are taken once, before fitting, and then there is a row a
group. The result is a classifier like any other (two hidden units a feature, relu(x) - relu(-x) = x), so stores,
posteriors and temperatures take it as they are.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from phenoembed.batches import members_of
from phenoembed.groups import Groups
from phenoembed.heads import Features, mean_and_scale
from phenoembed.methods import GroupClassifier, build_method
from phenoembed.model import Classifier
from phenoembed_store.errors import TrainingError

METHODS = ("product", "balanced", "embedding-mean")
"""Whose scores of a group are the last layer on a sum or mean over its images, and that train on groups."""

C = 0.1
"""scikit-learn's: inverse of the penalty, of features whose sd over groups is 1. From 0.03 to 3 made no difference."""
TOLERANCE = 1e-5  # of the gradient; scikit-learn's 1e-4 stops too early with 1,000 classes
CHUNK = 2048  # groups brought together at once


def fit_linear_head(
    features: Features,
    groups: Groups,
    places: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    method: str = "product",
) -> GroupClassifier:
    """Fit a linear group classifier on the groups at ``places``; as ``fit_head``, in eval mode.

    ``features``: (images, dim); ``labels``: (len(places),) class numbers, each of ``n_classes`` among them, and
    ``n_classes`` for controls where they are learned. Raises TrainingError for a method that is not linear.
    """
    if method not in METHODS:
        raise TrainingError(
            f"a linear head needs a method that adds or averages ({', '.join(METHODS)}), not '{method}'"
        )
    mean, sd = mean_and_scale(features[np.concatenate([groups.rows[place] for place in places])])
    together = _bring_together(method, features, groups, places)
    counts = together[:, -1:]
    standard = np.hstack([(together[:, :-1] - counts * mean) / sd, counts])  # (groups, dim + 1)
    spread = standard[:, :-1].std()
    model = LogisticRegression(C=C, tol=TOLERANCE, fit_intercept=False, max_iter=1000)
    model.fit(standard / spread, labels)
    both = model.coef_ if len(model.classes_) > 2 else np.vstack([-model.coef_, model.coef_]) / 2
    weight = both[:, :-1] / (spread * sd)  # (classes, dim), of raw features
    bias = both[:, -1] / spread - weight @ mean
    return _linear(method, torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), n_classes)


@torch.inference_mode()
def _bring_together(method: str, features: Features, groups: Groups, places: np.ndarray) -> NDArray[np.float32]:
    """(groups, dim + 1): what the method makes of a group's features, and of as many ones.

    A head that gives its features back, beside a bias of 1, says both.
    """
    dim = features.shape[1]
    same = _linear(method, torch.eye(dim + 1, dim), torch.eye(dim + 1)[dim], dim + 1)
    parts = []
    for chosen in np.array_split(places, -(-len(places) // CHUNK)):
        rows = np.concatenate([groups.rows[place] for place in chosen])
        parts.append(same(torch.from_numpy(features[rows]), members_of(groups, chosen)).numpy())
    return np.concatenate(parts)


@torch.no_grad()
def _linear(method: str, weight: torch.Tensor, bias: torch.Tensor, n_classes: int) -> GroupClassifier:
    """The classifier whose scores of an image are ``weight`` x + ``bias``; (classes, dim), (classes,).

    Beyond ``n_classes`` there may be a row for controls.
    """
    n_rows, dim = weight.shape
    head = build_method(method, n_classes, dim, controls=n_rows > n_classes)
    head.classifier = Classifier(n_rows, dim, hidden=2 * dim)
    _, first, norm, _, _, last = head.classifier
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert isinstance(last, torch.nn.Linear)
    assert norm.running_var is not None
    norm.running_var.fill_(1 - norm.eps)  # what is normalised stays as it is
    first.weight.copy_(torch.cat([torch.eye(dim), -torch.eye(dim)]))
    first.bias.zero_()
    last.weight.copy_(torch.cat([weight, -weight], 1))
    last.bias.copy_(bias)
    return head.eval()
