"""Averages of weights along a training, against averages taken by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from phenoembed.averaging import EMA_DECAY, WeightAverage, ema_decay
from torch import nn


def walk(kind: str, epochs: int, steps: int = 3) -> tuple[WeightAverage, nn.Linear, list[np.ndarray]]:
    """A network whose weights are moved at random; what they were after each step."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average, seen = WeightAverage(network, kind, epochs), []
    for epoch in range(epochs):
        for _ in range(steps):
            with torch.no_grad():
                network.weight += torch.randn(2, 3)
            seen.append(network.weight.detach().numpy().copy())
            average.on_train_batch_end()
        trainer: Any = SimpleNamespace(current_epoch=epoch)
        average.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    return average, network, seen


def test_ema_is_the_average_by_hand() -> None:
    """Each step's weights enter with what the decay leaves; the decay rises as (1 + n) / (10 + n), up to its limit."""
    average, network, seen = walk("ema", epochs=4)
    expected = seen[0]
    for n, weights in enumerate(seen[1:], start=1):
        decay = min(0.999, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weights
    average.take([], lambda batch: batch)
    np.testing.assert_allclose(network.weight.detach().numpy(), expected, rtol=1e-5)
    assert ema_decay(10**6) == EMA_DECAY


@pytest.mark.parametrize(("epochs", "first"), [(1, 0), (2, 1), (8, 6), (12, 9)])
def test_swa_is_the_mean_of_the_last_quarters_epochs(epochs: int, first: int) -> None:
    """Ends of epochs count the same; a training of one epoch is its own average."""
    average, network, seen = walk("swa", epochs)
    average.take([], lambda batch: batch)
    np.testing.assert_allclose(network.weight.detach().numpy(), np.mean(seen[2::3][first:], axis=0), rtol=1e-5)


def test_batch_norm_statistics_are_those_of_the_averaged_weights() -> None:
    """Mean and variance of what the averaged layer gives, over the batches; neither averaged nor left as they were."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(network, "ema", epochs=1)
    batches = [torch.randn(5, 3) for _ in range(4)]
    for batch in batches:
        network(batch)
        with torch.no_grad():
            network[0].weight += torch.randn(2, 3)
        average.on_train_batch_end()
    average.take(batches, network)
    with torch.no_grad():
        hidden = [network[0](batch) for batch in batches]
    assert isinstance(network[1], nn.BatchNorm1d)
    expected = (torch.stack([h.mean(0) for h in hidden]).mean(0), torch.stack([h.var(0) for h in hidden]).mean(0))
    torch.testing.assert_close((network[1].running_mean, network[1].running_var), expected)


def test_the_average_goes_through_a_checkpoint() -> None:
    """The count of averaged steps too: the next step weighs what it would have."""
    average, network, _ = walk("ema", epochs=2)
    other = WeightAverage(nn.Linear(3, 2), "ema", epochs=2)
    other.load_state_dict(average.state_dict())
    for one in (average, other):
        one.average.update_parameters(network)
    for a, b in zip(average.average.state_dict().values(), other.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
