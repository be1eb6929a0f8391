"""The training loop, on Lightning: devices, precision, optimiser, checkpoint after every epoch, a stop that saves."""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from phenoembed.augment import Augmentation
from phenoembed.averaging import WeightAverage
from phenoembed.batches import Batch, GroupBatches
from phenoembed.distributed import share_buffers
from phenoembed.methods import GroupClassifier
from phenoembed.model import Encoder, pick_device, to_network
from phenoembed.progress import Progress
from phenoembed.refinements import Refinements
from phenoembed.schedule import warm_restarts

log = logging.getLogger("phenoembed")


class LoopSettings(Protocol):
    """What the loop needs of a training's settings."""

    @property
    def epochs(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def devices(self) -> int: ...
    @property
    def nodes(self) -> int: ...
    @property
    def augmentation(self) -> Augmentation: ...
    @property
    def refinements(self) -> Refinements: ...


class GroupTraining(LightningModule):
    """Encoder and group classifier, trained on Eq. (4) with AdamW and warm restarts."""

    def __init__(
        self,
        encoder: Encoder,
        head: GroupClassifier,
        batches: GroupBatches,
        settings: LoopSettings,
        mean: float,
        sd: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder.to(memory_format=torch.channels_last), head
        self.batches, self.settings = batches, settings
        self.mean, self.sd, self.scale = mean, sd, scale

    def on_train_epoch_start(self) -> None:
        self.begin(self.current_epoch)

    def begin(self, epoch: int) -> None:
        """Batches, augmentations and dropout of an epoch follow from (seed, epoch, rank) alone."""
        self.batches.epoch = epoch
        torch.manual_seed((self.settings.seed * 100_003 + epoch) * 1_009 + self.global_rank)

    def training_step(self, batch: Batch, _number: int) -> Tensor:
        images = to_network(batch.pixels, self.mean, self.sd, self.scale)
        features = self.encoder(self.settings.augmentation(images))
        return self.head.loss(features, batch.members, batch.labels, self.settings.refinements.label_smoothing)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,  # a fifth of the time of the plain loop on CPU: 11 ms instead of 65 a step
        )
        steps = len(self.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warm_restarts(step / steps, self.settings.epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Checkpoint(Callback):
    """Writes ``last.ckpt`` beside and renames it, after every epoch: a kill at any moment leaves a whole one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, _module: LightningModule) -> None:
        beside = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(beside)
        if trainer.is_global_zero:
            beside.replace(self.path)
        log.debug("checkpoint after epoch %d of %s", trainer.current_epoch + 1, trainer.max_epochs)


class _Told(Callback):
    """Tells how many batches are done, and keeps the time per image (the first batch, a warm-up, apart)."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.images, self.started = 0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, _module: LightningModule, _outputs: Any, batch: Batch, _number: int
    ) -> None:
        if self.started:
            self.images += len(batch.pixels)
        else:
            self.started = time.perf_counter()
        self.progress(trainer.global_step, int(trainer.estimated_stepping_batches))

    @property
    def images_per_second(self) -> float | None:
        return self.images / (time.perf_counter() - self.started) if self.images else None


class _StopNowError(BaseException):
    """Ctrl-C or a terminating signal. Not KeyboardInterrupt: Lightning would end the process on that."""


def run_loop(
    encoder: Encoder,
    head: GroupClassifier,
    batches: GroupBatches,
    settings: LoopSettings,
    mean: float,
    sd: float,
    scale: float,
    checkpoint: Path,
    progress: Progress,
) -> float | None:
    """Train in place; go on from ``checkpoint`` where it exists. Returns images a second, None when nothing was left.

    Raises KeyboardInterrupt on Ctrl-C; ``checkpoint`` then holds the last whole epoch.
    """
    module = GroupTraining(encoder, head, batches, settings, mean, sd, scale)
    kind = settings.refinements.average
    averages = [WeightAverage(nn.ModuleList([encoder, head]), kind, settings.epochs)] if kind != "none" else []
    rate = _fit(module, settings, checkpoint, progress, averages)
    for average in averages:
        _take_average(average, module, settings.epochs)
    share_buffers(module)
    return rate and rate * settings.devices * settings.nodes


def _fit(
    module: GroupTraining,
    settings: LoopSettings,
    checkpoint: Path,
    progress: Progress,
    callbacks: Sequence[Callback],
) -> float | None:
    """Lightning's loop; images a second of this process."""
    told = _Told(progress)
    on_gpu = torch.cuda.is_available()
    with _quiet():
        trainer = Trainer(
            max_epochs=settings.epochs,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy="ddp" if settings.devices * settings.nodes > 1 else "auto",
            precision="bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true",
            callbacks=[told, *callbacks, _Checkpoint(checkpoint)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=checkpoint.parent,
        )
        # A loader draws a number when an epoch begins; from the global generator, that would be before the epoch's seed
        # in the first epoch of a run and after it in the others, and a resumed training would go another way.
        loader = DataLoader(module.batches, batch_size=None, pin_memory=on_gpu, generator=torch.Generator())
        resumed = checkpoint if checkpoint.exists() else None
        with _stoppable():
            try:
                trainer.fit(module, loader, ckpt_path=resumed, weights_only=False if resumed else None)
            except _StopNowError as stop:
                raise KeyboardInterrupt(_how_to_go_on(trainer, settings, checkpoint)) from stop
    return told.images_per_second


def _take_average(average: WeightAverage, module: GroupTraining, epoch: int) -> None:
    """Let the module's networks be the average of themselves; ``epoch`` says which batches are drawn for it."""
    device = pick_device()
    module.to(device)
    module.begin(epoch)
    batches = (module.transfer_batch_to_device(batch, device, 0) for batch in module.batches)
    average.take(batches, lambda batch: module.training_step(batch, 0))


def _how_to_go_on(trainer: Trainer, settings: LoopSettings, checkpoint: Path) -> str:
    if not checkpoint.exists():
        return "interrupted in the first epoch: nothing to keep yet"
    saved = f"{trainer.current_epoch} of {settings.epochs} epochs are saved"
    return f"interrupted; {saved}: the same command with --resume goes on"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into _StopNowError. Python allows that in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _StopNowError

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning advertises and advises on standard error; what matters to a screener is said by us."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*num_workers.*|.*IterableDataset.*|.*LeafSpec.*|.*_pytree.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
