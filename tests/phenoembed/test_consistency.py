"""The spread between replicates, against numpy and against what it has to be."""

import numpy as np
import pytest
import torch
from phenoembed.consistency import replicate_spread


def by_hand(features: np.ndarray, treatment: np.ndarray, replicate: np.ndarray) -> float:
    """Variance between a treatment's replicates (n - 1), averaged over features and treatments of two or more."""
    standard = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
    spreads = []
    for kind in set(treatment.tolist()):
        own = treatment == kind
        means = [standard[own & (replicate == r)].mean(0) for r in sorted(set(replicate[own].tolist()))]
        if len(means) > 1:
            spreads.append(np.var(means, axis=0, ddof=1).mean())
    return float(np.mean(spreads))


def drawn(seed: int, n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(n, 7)).astype(np.float32) * np.arange(1, 8, dtype=np.float32))
    return features, torch.from_numpy(rng.integers(0, 9, n)), torch.from_numpy(rng.integers(0, 3, n))


@pytest.mark.parametrize("seed", range(5))
def test_the_spread_is_that_by_hand_in_any_order(seed: int) -> None:
    """Ragged: one to several images of a treatment and replicate. Scale and order of the features do not matter."""
    features, treatment, replicate = drawn(seed)
    found = replicate_spread(features, treatment, replicate)
    assert float(found) == pytest.approx(by_hand(features.numpy(), treatment.numpy(), replicate.numpy()), rel=1e-4)
    order = torch.randperm(len(features))
    torch.testing.assert_close(replicate_spread(features[order], treatment[order], replicate[order]), found)
    torch.testing.assert_close(replicate_spread(3 * features + 1, treatment, replicate), found, rtol=1e-3, atol=0)


def test_equal_replicates_have_none_and_chance_has_one() -> None:
    """0 for the same features in every replicate; 1, on average, where replicates share nothing."""
    features = torch.randn(50, 16)
    treatment, replicate = torch.arange(50).repeat(3), torch.arange(3).repeat_interleave(50)
    assert float(replicate_spread(features.repeat(3, 1), treatment, replicate)) == pytest.approx(0, abs=1e-10)
    assert float(replicate_spread(torch.randn(150, 500), treatment, replicate)) == pytest.approx(1, abs=0.05)


def test_without_two_replicates_there_is_none_to_lessen() -> None:
    """0, and a gradient of 0, not NaN."""
    features = torch.randn(6, 4, requires_grad=True)
    spread = replicate_spread(features, torch.arange(6), torch.zeros(6, dtype=torch.int64))
    spread.backward()
    assert float(spread.detach()) == 0
    assert features.grad is not None
    assert float(features.grad.abs().max()) == 0
