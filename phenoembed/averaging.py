"""Averages of a network's weights along its training; the average is what is kept.

``ema``: after every step, an exponential average; early steps are forgotten sooner, so that a short training's average
is of its last tenth. ``swa``: the mean of the weights at the ends of the epochs of the last quarter (Izmailov et al.,
2018; the learning rate goes down as ever). Statistics of batch normalisation cannot be averaged so: they are taken
anew, over one pass through the training batches, augmented and with dropout as in training.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

EMA_DECAY = 0.999  # a step, at the most: an average of the last thousand
SWA_START = 0.75  # of the epochs; Izmailov et al. (2018), Section 5.1


def ema_decay(n_averaged: int) -> float:
    """The weight of an average of ``n_averaged`` steps when the next one comes: 2/11, 3/12, ... up to EMA_DECAY."""
    return min(EMA_DECAY, (1 + n_averaged) / (10 + n_averaged))


def _ema(averages: Any, weights: Any, n_averaged: Tensor | int) -> None:
    update = get_ema_multi_avg_fn(ema_decay(int(n_averaged)))  # type: ignore[no-untyped-call]
    update(averages, weights, n_averaged)


class WeightAverage(Callback):
    """Averages the weights of ``network`` and carries the average through checkpoints.

    Lightning's own (from 2.6) neither takes batch-norm statistics anew nor ends with the average when a training is
    resumed that had nothing left to do.
    """

    def __init__(self, network: nn.Module, kind: str, epochs: int) -> None:
        self.network, self.kind = network, kind
        self.first_epoch = min(math.ceil(SWA_START * epochs), epochs - 1)
        self.average = AveragedModel(network, multi_avg_fn=_ema if kind == "ema" else None)

    def on_train_start(self, _trainer: Trainer, _module: LightningModule) -> None:
        self.average.to(next(self.network.parameters()).device)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.kind == "ema":
            self.average.update_parameters(self.network)

    def on_train_epoch_end(self, trainer: Trainer, _module: LightningModule) -> None:
        if self.kind == "swa" and trainer.current_epoch >= self.first_epoch:
            self.average.update_parameters(self.network)

    def state_dict(self) -> dict[str, Any]:
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average.load_state_dict(state_dict)

    def take(self, batches: Iterable[Any], step: Callable[[Any], Any]) -> None:
        """Put the average into the network. ``step`` passes a batch through it, for the batch-norm statistics."""
        self.network.load_state_dict(self.average.module.state_dict())
        update_bn(((batch,) for batch in batches), _Step(self.network, step))


class _Step(nn.Module):
    """What ``update_bn`` takes: a module that holds the network's layers and is called with a batch."""

    def __init__(self, network: nn.Module, step: Callable[[Any], Any]) -> None:
        super().__init__()
        self.network, self.step = network, step

    def forward(self, batch: Any) -> Any:
        return self.step(batch)
