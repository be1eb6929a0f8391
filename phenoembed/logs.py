"""A training's curve, epoch by epoch, for people: a CSV file or TensorBoard's events, by Lightning's own loggers."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor

from phenoembed_store.errors import MissingExtra, TrainingError

LOGS = ("csv", "tensorboard", "none")


class EpochLog(Callback):
    """Writes the mean loss and the learning rate of every epoch; of several processes the first writes its share's."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        self.losses: list[Tensor] = []

    def on_train_epoch_start(self, _trainer: Trainer, _module: LightningModule) -> None:
        self.losses.clear()

    def on_train_batch_end(
        self, _trainer: Trainer, _module: LightningModule, outputs: Any, _batch: Any, _number: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: Trainer, _module: LightningModule) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        figures = {"loss": float(torch.stack(self.losses).mean()), "learning_rate": rate}
        self.logger.log_metrics(figures, step=trainer.current_epoch + 1)
        self.logger.save()


def epoch_log(kind: str, folder: Path) -> list[EpochLog]:
    """The callback that logs to a new ``version_N`` of ``folder``; none for "none". Raises TrainingError, MissingExtra.

    A training that is resumed writes a version of its own, which begins with the first epoch that it does.
    """
    if kind not in LOGS:
        raise TrainingError(f"--log '{kind}' is not one of {', '.join(LOGS)}")
    if kind == "none":
        return []
    if kind == "csv":
        return [EpochLog(CSVLogger(folder.parent, folder.name))]
    try:
        return [EpochLog(TensorBoardLogger(folder.parent, folder.name))]
    except ModuleNotFoundError as error:
        raise MissingExtra("tensorboard", "tensorboard") from error
