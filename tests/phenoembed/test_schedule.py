"""The learning rate over a training."""

import pytest
import torch
from phenoembed.schedule import warm_restarts


def test_it_is_the_papers_schedule_at_350_epochs() -> None:
    """PyTorch's own warm restarts with a first cycle of 50 epochs, each twice as long, agree epoch by epoch."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=50, T_mult=2)
    for epoch in range(350):
        assert warm_restarts(epoch, 350) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 16, 350])
def test_it_ends_at_zero_whatever_the_length(epochs: int) -> None:
    """The last cycle reaches its end with the last epoch, not before; the factor stays between 0 and 1."""
    assert warm_restarts(0, epochs) == 1
    assert warm_restarts(epochs, epochs) == pytest.approx(0, abs=1e-12)
    assert all(0 < warm_restarts(step * epochs / 100, epochs) <= 1 for step in range(100))
    restarts = [epochs / 7, 3 * epochs / 7]
    assert all(warm_restarts(at + 1e-6, epochs) > 0.99 for at in restarts)
