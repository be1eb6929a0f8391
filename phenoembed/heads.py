"""Heads: classifiers fitted on frozen features, and folded into the plain matrices that the store keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from phenoembed.batches import members_of
from phenoembed.groups import Groups
from phenoembed.methods import Attention, GroupClassifier, build_method
from phenoembed.progress import Progress
from phenoembed_store import open as open_store
from phenoembed_store.heads import ATTENTION, CONTROL, KNOWLEDGE, Head
from phenoembed_store.posterior import image_scores

Features = NDArray[np.float32]  # (images, dim)


@dataclass(frozen=True)
class FitSettings:
    """How a head is fitted. The paper does not say; chosen on simulated screens, the same for every task."""

    epochs: int = 60
    batch_groups: int = 24  # as in training
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0


def fit_head(
    features: Features,
    groups: Groups,
    places: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    method: str = "product",
    settings: FitSettings | None = None,
    progress: Progress = lambda _done, _total: None,
) -> GroupClassifier:
    """Fit a group classifier on the groups at ``places`` of frozen features; returned in eval mode.

    ``labels``: (len(places),) class numbers, ``n_classes`` for controls where they are learned. Features are
    standardised by the training images inside the classifier's first layer, so that the result takes raw features.
    ``progress`` is told of epochs.
    """
    settings = settings or FitSettings()
    torch.manual_seed(settings.seed)
    rows = np.concatenate([groups.rows[place] for place in places])
    mean, sd = mean_and_scale(features[rows])
    standard = torch.from_numpy(features - mean).div_(torch.from_numpy(sd))
    head = build_method(method, n_classes, features.shape[1], controls=bool((labels == n_classes).any()))
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    # two groups a batch or more: batch normalisation cannot train on one row
    n_batches = max(1, min(-(-len(places) // settings.batch_groups), len(places) // 2))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * n_batches)
    rng = np.random.default_rng(settings.seed)
    targets = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    head.train()
    for epoch in range(settings.epochs):
        for chosen in np.array_split(rng.permutation(len(places)), n_batches):
            batch_rows = torch.from_numpy(np.concatenate([groups.rows[place] for place in places[chosen]]))
            loss = head.loss(standard.index_select(0, batch_rows), members_of(groups, places[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        progress(epoch + 1, settings.epochs)
    _absorb_standardisation(head, torch.from_numpy(mean), torch.from_numpy(sd))
    return head.eval()


def mean_and_scale(features: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What standardises features of training images: (dim,) means and sds.

    A feature that hardly varies in training says nothing; divided by its sd, it would drown the others elsewhere.
    """
    sd = features.std(axis=0)
    return features.mean(axis=0), np.maximum(sd, 0.01 * np.sqrt((sd**2).mean()) + np.float32(1e-6))


@torch.no_grad()
def _absorb_standardisation(head: GroupClassifier, mean: Tensor, sd: Tensor) -> None:
    """Let the layers that see features take raw ones. Means of standardised features are standardised means."""
    layers = [head.classifier[1], *((head.v, head.u) if isinstance(head, Attention) else ())]
    for layer in layers:
        assert isinstance(layer, torch.nn.Linear)
        layer.weight /= sd
        layer.bias.sub_(layer.weight @ mean)


def to_store_head(task: str, classes: tuple[str, ...], head: GroupClassifier, config: dict[str, Any]) -> Head:
    """A fitted group classifier as plain matrices: batch normalisation folded into the first layer (eval mode).

    ``config``: with the knowledge of ``Labelled`` where the classifier learned controls.
    """
    _, first, norm, _, _, last = head.classifier
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert isinstance(last, torch.nn.Linear)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    with torch.no_grad():
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        layers = (
            first.weight.double() * gain[:, None],
            (first.bias.double() - norm.running_mean.double()) * gain + norm.bias.double(),
            last.weight[: head.n_classes],
            last.bias[: head.n_classes],
        )
        w1, b1, w2, b2 = (layer.cpu().numpy().astype(np.float32) for layer in layers)
    return Head(task, classes, w1, b1, w2, b2, config, _extra_arrays(head, config.get("control_odds")))


@torch.no_grad()
def _extra_arrays(head: GroupClassifier, control_odds: float | None) -> dict[str, NDArray[np.float32]]:
    """What a method's posterior needs besides the classifier's matrices."""
    last = head.classifier[5]
    assert isinstance(last, torch.nn.Linear)
    names: tuple[str, ...] = ()
    layers: tuple[Tensor, ...] = ()
    if isinstance(head, Attention):
        names, layers = ATTENTION, (head.v.weight, head.v.bias, head.u.weight, head.u.bias, head.w.weight[0])
    elif control_odds is not None:  # as if controls had been as frequent as any class
        names, layers = CONTROL, (last.weight[-1], last.bias[-1:] - np.log(control_odds))
    return {name: layer.cpu().numpy() for name, layer in zip(names, layers, strict=True)}


def head_scores(
    head: Head, images: pa.Table, features: Features, groups: Groups, places: np.ndarray
) -> NDArray[np.float64]:
    """Scores of the groups at ``places``, as a posterior has them but for its temperature: (groups, classes).

    ``features``: (images, dim).
    """
    if not len(places):
        return np.zeros((0, len(head.classes)))
    rows = np.concatenate([groups.rows[place] for place in places])
    members = members_of(groups, places)
    return image_scores(head, images, rows, features[rows], members.group.numpy(), members.configuration.numpy())


def own_head(head: GroupClassifier, config: Mapping[str, Any]) -> Head:
    """The classifier that an encoder was trained with, by what the encoder's ``config`` says of it."""
    names = ("method", "split", "fold", "temperature", "test", "test_known_wells", *KNOWLEDGE)
    kept = {name: config[name] for name in names if name in config}
    return to_store_head("compound", tuple(config["classes"]), head, kept)


def save_own_head(store: Path, encoder: str, head: Head) -> str:
    """The encoder's own classifier is simply its first head."""
    named = replace(head, config={**head.config, "encoder": encoder})
    return open_store(store, create=True).save_head(named)
