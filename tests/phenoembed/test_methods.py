"""One contract for every method, and the paper's own rule against plain arithmetic."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from phenoembed.methods import (
    METHODS,
    Attention,
    Balanced,
    Baseline,
    EmbeddingMean,
    GroupClassifier,
    InstanceLogSumExp,
    Members,
    Product,
    build_method,
    segment_max,
    segment_mean,
    segment_sum,
)
from torch import Tensor

from phenoembed_store.errors import TrainingError

CLASSES, DIM = 5, 16


@pytest.fixture(params=sorted(METHODS))
def head(request: pytest.FixtureRequest) -> GroupClassifier:
    """A method with random weights, its batch normalisation away from its start, in eval mode."""
    torch.manual_seed(0)
    built = build_method(request.param, CLASSES, DIM)
    for _ in range(3):
        built.loss(torch.randn(8, DIM), Members(torch.arange(8) // 2, torch.arange(8) % 2, 4), torch.arange(4))
    return built.eval()


def ragged(sizes: list[int]) -> tuple[Tensor, Members]:
    """Features of groups of these sizes, every image a configuration of its own."""
    torch.manual_seed(1)
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    configuration = torch.cat([torch.arange(size) for size in sizes])
    return torch.randn(len(group), DIM), Members(group, configuration, len(sizes))


def scores_of(head: GroupClassifier, features: Tensor, members: Members) -> Tensor:
    with torch.inference_mode():
        found: Tensor = head(features, members)
    return found


def test_probabilities_sum_to_one(head: GroupClassifier) -> None:
    """Q(y | X) of groups of any size is a distribution over the classes."""
    scores = scores_of(head, *ragged([1, 4, 2, 30]))
    assert scores.shape == (4, CLASSES)
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores.softmax(1).sum(1), torch.ones(4))


def test_the_order_of_images_does_not_matter(head: GroupClassifier) -> None:
    """A batch whose images are shuffled, groups mixed with each other, scores the same."""
    features, members = ragged([3, 1, 5])
    order = torch.randperm(9)
    shuffled = Members(members.group[order], members.configuration[order], 3)
    torch.testing.assert_close(scores_of(head, features[order], shuffled), scores_of(head, features, members))


def test_a_group_of_one_equals_the_per_image_model(head: GroupClassifier) -> None:
    """Of one image there is nothing to bring together."""
    features, members = ragged([1, 1, 1])
    with torch.inference_mode():
        per_image = head.classifier(features)
    torch.testing.assert_close(scores_of(head, features, members).softmax(1), per_image.softmax(1))


def test_other_groups_of_the_batch_do_not_matter(head: GroupClassifier) -> None:
    """In eval mode a group scores the same alone, and beside groups of other sizes."""
    features, members = ragged([3, 1, 5])
    together = scores_of(head, features, members)
    for number in range(3):
        own = members.group == number
        alone = Members(torch.zeros(int(own.sum()), dtype=torch.int64), members.configuration[own], 1)
        torch.testing.assert_close(scores_of(head, features[own], alone), together[number : number + 1])


def test_a_method_learns(head: GroupClassifier) -> None:
    """A few steps on its own loss tell two kinds of ragged groups apart, and every weight has a gradient."""
    torch.manual_seed(2)
    features, members = ragged([3, 1, 5, 2])
    labels = torch.tensor([0, 1, 0, 1])
    features += 2 * (labels[members.group] * 2 - 1)[:, None]
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    head.train()
    for _ in range(40):
        optimizer.zero_grad()
        head.loss(features, members, labels).backward()
        assert all(weight.grad is not None for weight in head.parameters())
        optimizer.step()
    assert scores_of(head.eval(), features, members).argmax(1).tolist() == labels.tolist()


def test_an_unknown_method_is_named() -> None:
    """And so are the known ones."""
    with pytest.raises(TrainingError, match="method 'mean' is not one of product"):
        build_method("mean", 2, 4)


def test_equation_3_is_the_normalised_product_of_equation_2() -> None:
    """Softmax of summed scores equals the product of the images' probabilities, divided by its sum over classes."""
    torch.manual_seed(0)
    head = build_method("product", CLASSES, DIM).eval()
    features, members = ragged([4, 1, 7])
    with torch.inference_mode():
        logits = head.classifier(features).tolist()
    ours = scores_of(head, features, members).softmax(1)
    for number in range(3):
        images = [row for row, group in zip(logits, members.group.tolist(), strict=True) if group == number]
        per_image = [[math.exp(z) / sum(map(math.exp, row)) for z in row] for row in images]  # Eq. (1)
        products = [math.prod(p[y] for p in per_image) for y in range(CLASSES)]  # Eq. (2)
        expected = [product / sum(products) for product in products]
        assert ours[number].tolist() == pytest.approx(expected, rel=1e-5)


def test_equation_3_in_exact_fractions() -> None:
    """Scores that are logarithms of integers make the product a fraction without rounding."""
    weights = [[2, 3, 5], [7, 1, 1], [1, 4, 2]]  # exp of the scores of three images
    products = [math.prod(Fraction(w[y], sum(w)) for w in weights) for y in range(3)]
    exact = [product / sum(products) for product in products]
    scores = segment_sum(torch.log(torch.tensor(weights, dtype=torch.float64)), torch.zeros(3, dtype=torch.int64), 1)
    assert scores.softmax(1)[0].tolist() == pytest.approx([float(value) for value in exact], rel=1e-12)


def test_the_loss_is_minus_log_q(head: GroupClassifier) -> None:
    """Eq. (4), averaged over groups, by hand from the scores; the baseline's, Eq. (1), over single images."""
    features, members = ragged([2, 3])
    labels = torch.tensor([1, 4])
    with torch.inference_mode():
        loss = float(head.loss(features, members, labels))
        per_image = isinstance(head, Baseline)
        scores = (head.classifier(features) if per_image else head(features, members)).double()
    targets = [1, 1, 4, 4, 4] if per_image else [1, 4]
    by_hand = [
        math.log(sum(math.exp(s) for s in row)) - row[label]
        for row, label in zip(scores.tolist(), targets, strict=True)
    ]
    assert loss == pytest.approx(np.mean(by_hand), rel=1e-5)


# What each method does with a group, in plain Python floats


def twin(head: GroupClassifier, features: Tensor, configuration: list[int]) -> list[float]:
    """Scores of one group, an image at a time."""

    def g(rows: Tensor) -> list[list[float]]:
        with torch.inference_mode():
            found: list[list[float]] = head.classifier(rows).double().tolist()
        return found

    def columns(rows: list[list[float]]) -> list[tuple[float, ...]]:
        return list(zip(*rows, strict=True))

    if isinstance(head, Product):
        return [sum(column) for column in columns(g(features))]
    if isinstance(head, InstanceLogSumExp):
        return [math.log(sum(map(math.exp, column)) / len(column)) for column in columns(g(features))]
    if isinstance(head, Balanced):
        logits = g(features)
        means = []
        for kind in set(configuration):
            own = [row for row, found in zip(logits, configuration, strict=True) if found == kind]
            means.append([sum(column) / len(own) for column in columns(own)])
        return [sum(column) for column in columns(means)]
    if isinstance(head, Attention):
        w = head.w.weight[0].tolist()
        energy = []
        for image in features.double().tolist():
            dots = [
                [
                    bias + sum(a * b for a, b in zip(row, image, strict=True))
                    for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
                ]
                for layer in (head.v, head.u)
            ]
            gated = [math.tanh(a) / (1 + math.exp(-b)) for a, b in zip(*dots, strict=True)]
            energy.append(sum(a * b for a, b in zip(w, gated, strict=True)))
        weights = torch.tensor([math.exp(e) / sum(map(math.exp, energy)) for e in energy])
        return g((weights[:, None] * features).sum(0, keepdim=True))[0]
    assert isinstance(head, EmbeddingMean)
    return g(features.mean(0, keepdim=True))[0]


def test_a_method_does_what_its_formula_says(head: GroupClassifier) -> None:
    """Ragged groups, several images a configuration, in a mixed order: as one group at a time in plain floats."""
    features, members = ragged([3, 1, 6])
    configuration = torch.tensor([0, 1, 0, 7, 2, 2, 2, 0, 1, 1])
    order = torch.randperm(10)
    mixed = Members(members.group[order], configuration[order], 3)
    found = scores_of(head, features[order], mixed)
    for number in range(3):
        own = members.group == number
        expected = twin(head, features[own], configuration[own].tolist())
        assert found[number].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["product", "balanced"])
def test_the_last_layer_once_a_group_trains_as_once_an_image(method: str) -> None:
    """In training, the same dropout drawn: loss and gradients as from the scores of each image, added in a loop."""
    torch.manual_seed(0)
    head = build_method(method, CLASSES, DIM).double().train()
    features, members = ragged([3, 1, 6])
    features, labels = features.double().requires_grad_(), torch.tensor([4, 0, 2])
    configuration = torch.tensor([0, 1, 0, 7, 2, 2, 2, 0, 1, 1])

    def loop() -> Tensor:
        images = head.classifier(features)
        groups = []
        for number in range(3):
            own = [row for row in range(10) if members.group[row] == number]
            share = {row: sum(configuration[row] == configuration[other] for other in own) for row in own}
            groups.append(sum(images[row] / (share[row] if method == "balanced" else 1) for row in own))
        return torch.nn.functional.cross_entropy(torch.stack(groups), labels)

    found = []
    for loss_of in (lambda: head.loss(features, members._replace(configuration=configuration), labels), loop):
        torch.manual_seed(7)
        loss = loss_of()
        found.append((loss, *torch.autograd.grad(loss, [features, *head.parameters()])))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_scores_far_apart_stay_finite(head: GroupClassifier) -> None:
    """Features a thousand times larger overflow no exponential, forward or backward."""
    features, members = ragged([4, 2])
    features = (1e3 * features).requires_grad_()
    loss = head.loss(features, members, torch.tensor([0, 1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_exact_copies_leave_balanced_unchanged() -> None:
    """However often an image is repeated; the product counts it each time."""
    torch.manual_seed(0)
    balanced, product = (build_method(name, CLASSES, DIM).eval() for name in ("balanced", "product"))
    features, members = ragged([6, 3])
    copies = torch.tensor([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8])
    repeated = Members(members.group[copies], members.configuration[copies], 2)
    torch.testing.assert_close(scores_of(balanced, features[copies], repeated), scores_of(balanced, features, members))
    assert not torch.allclose(scores_of(product, features[copies], repeated), scores_of(product, features, members))


def test_with_one_image_a_configuration_balanced_is_the_product() -> None:
    """Scores and loss, from the same weights."""
    torch.manual_seed(0)
    balanced, product = (build_method(name, CLASSES, DIM).eval() for name in ("balanced", "product"))
    balanced.load_state_dict(product.state_dict())
    features, members = ragged([6, 1, 3])
    labels = torch.tensor([0, 3, 1])
    torch.testing.assert_close(scores_of(balanced, features, members), scores_of(product, features, members))
    torch.testing.assert_close(balanced.loss(features, members, labels), product.loss(features, members, labels))


def test_controls_are_one_more_class_in_training_alone() -> None:
    """The loss is the cross-entropy over classes and controls, added in a loop; scores have no column of controls."""
    torch.manual_seed(0)
    head = build_method("balanced", CLASSES, DIM, controls=True).eval()
    features, members = ragged([6, 1, 3])
    labels = torch.tensor([0, CLASSES, 1])
    with torch.inference_mode():
        images = head.classifier(features)
    assert images.shape[1] == CLASSES + 1
    groups = torch.stack([images[members.group == number].sum(0) for number in range(3)])
    expected = -sum(groups.log_softmax(1)[number, label] for number, label in enumerate(labels)) / 3
    torch.testing.assert_close(head.loss(features, members, labels), expected)
    torch.testing.assert_close(scores_of(head, features, members), groups[:, :CLASSES])


def test_segments_are_summed_like_a_loop() -> None:
    """Empty segments sum to zero; means and maxima of segments that are there."""
    values, segment = torch.randn(6, 2), torch.tensor([2, 0, 2, 2, 0, 4])
    found = segment_sum(values, segment, 5)
    for number, column in itertools.product(range(5), range(2)):
        expected = sum(float(v[column]) for v, s in zip(values, segment, strict=True) if s == number)
        assert float(found[number, column]) == pytest.approx(expected, abs=1e-6)
    full = torch.tensor([1, 0, 1, 1, 0, 2])
    means, tops = segment_mean(values, full, 3), segment_max(values, full, 3)
    for number, column in itertools.product(range(3), range(2)):
        own = [float(v[column]) for v, s in zip(values, full, strict=True) if s == number]
        assert float(means[number, column]) == pytest.approx(sum(own) / len(own), abs=1e-6)
        assert float(tops[number, column]) == max(own)
