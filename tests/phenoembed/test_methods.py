"""One contract for every method, and the paper's own rule against plain arithmetic."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from phenoembed.methods import METHODS, GroupClassifier, Members, build_method, segment_sum
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
    """Eq. (4), averaged over groups: by hand from the scores."""
    features, members = ragged([2, 3])
    labels = torch.tensor([1, 4])
    with torch.inference_mode():
        scores = head(features, members).double()
        loss = float(head.loss(features, members, labels))
    by_hand = [
        math.log(sum(math.exp(s) for s in row)) - row[label]
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    assert loss == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_segments_are_summed_like_a_loop() -> None:
    """Empty segments are zero."""
    values, segment = torch.randn(6, 2), torch.tensor([2, 0, 2, 2, 0, 4])
    found = segment_sum(values, segment, 5)
    for number, column in itertools.product(range(5), range(2)):
        expected = sum(float(v[column]) for v, s in zip(values, segment, strict=True) if s == number)
        assert float(found[number, column]) == pytest.approx(expected, abs=1e-6)
