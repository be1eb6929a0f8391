"""The training loop, on Lightning: devices, precision, optimiser, checkpoint after every epoch, a stop that saves."""

import logging
import os
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

from phenoembed.allocation import kept_memory
from phenoembed.augment import Augmentation
from phenoembed.averaging import WeightAverage
from phenoembed.batches import Batch, GroupBatches
from phenoembed.consistency import replicate_spread
from phenoembed.distributed import share_buffers
from phenoembed.methods import GroupClassifier
from phenoembed.model import Encoder, pick_device, to_network
from phenoembed.progress import Progress
from phenoembed.refinements import Refinements
from phenoembed.schedule import warm_restarts
from phenoembed_store.errors import TrainingError

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


class Batches(Protocol):
    """What the loop needs of batches; what is drawn in an epoch follows from its number."""

    epoch: int

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Training(LightningModule):
    """What all trainings share: epochs that follow from seed and number, AdamW, the rate at each step."""

    called = "epochs"

    def __init__(self, batches: Batches, settings: LoopSettings, epochs: int, first_epoch: int = 0) -> None:
        super().__init__()
        self.batches, self.settings, self.epochs, self.first_epoch = batches, settings, epochs, first_epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["threads"] = torch.get_num_threads()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with as many threads: sums of more or fewer parts are others in their last bits, and soon in all.

        Raises TrainingError on a checkpoint of another network, as an earlier version may have left one.
        """
        saved, own = ({n: v.shape for n, v in d.items()} for d in (checkpoint["state_dict"], self.state_dict()))
        if saved != own:
            other = min(name for name in saved | own if saved.get(name) != own.get(name))
            raise TrainingError(
                f"the interrupted training was of another network ({other}), by another version of phenoembed: start "
                f"it anew without --resume, or remove {Path(str(self.trainer.ckpt_path)).parent}"
            )
        if (threads := checkpoint.get("threads", torch.get_num_threads())) <= (os.cpu_count() or 1):
            torch.set_num_threads(threads)
        else:
            log.warning("begun with %d threads on another machine: the weights will not be the same bits", threads)

    def on_train_epoch_start(self) -> None:
        self.begin(self.first_epoch + self.current_epoch)

    def begin(self, epoch: int) -> None:
        """Batches, augmentations and dropout of an epoch follow from (seed, epoch, rank) alone."""
        self.batches.epoch = epoch
        torch.manual_seed((self.settings.seed * 100_003 + epoch) * 1_009 + self.global_rank)

    def rate(self, epoch: float) -> float:
        """Factor of the learning rate at ``epoch``, which may lie between two."""
        return warm_restarts(epoch, self.epochs)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,  # a fifth of the time of the plain loop on CPU: 11 ms instead of 65 a step
        )
        steps = len(self.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class GroupTraining(Training):
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
        super().__init__(batches, settings, settings.epochs)
        self.encoder, self.head = encoder.to(memory_format=torch.channels_last), head
        self.mean, self.sd, self.scale = mean, sd, scale

    def training_step(self, batch: Batch, _number: int) -> Tensor:
        images = to_network(batch.pixels, self.mean, self.sd, self.scale)
        features = self.encoder(self.settings.augmentation(images))
        chosen = self.settings.refinements
        loss = self.head.loss(features, batch.members, batch.labels, chosen.label_smoothing)
        if batch.origins is not None:
            loss = loss + chosen.consistency * replicate_spread(features, *batch.origins)
        return loss


class _Checkpoint(Callback):
    """Writes a checkpoint beside and renames it, after every epoch: a kill at any moment leaves a whole one."""

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
    callbacks: Sequence[Callback] = (),
) -> float | None:
    """Train in place; go on from ``checkpoint`` where it exists. Returns images a second, None when nothing was left.

    Raises KeyboardInterrupt on Ctrl-C; ``checkpoint`` then holds the last whole epoch.
    """
    module = GroupTraining(encoder, head, batches, settings, mean, sd, scale)
    kind = settings.refinements.average
    averages = [WeightAverage(nn.ModuleList([encoder, head]), kind, settings.epochs)] if kind != "none" else []
    rate = fit(module, checkpoint, progress, [*averages, *callbacks])
    for average in averages:
        _take_average(average, module, settings.epochs)
        share_buffers(module)
    return rate


def fit(module: Training, checkpoint: Path, progress: Progress, callbacks: Sequence[Callback] = ()) -> float | None:
    """Lightning's loop over the module's epochs, as ``run_loop``: going on, images a second, KeyboardInterrupt."""
    settings, told = module.settings, _Told(progress)
    on_gpu = torch.cuda.is_available()
    with _quiet():
        trainer = Trainer(
            max_epochs=module.epochs,
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
        loader = DataLoader[Any](
            module.batches,  # type: ignore[arg-type]  # an IterableDataset
            batch_size=None,
            pin_memory=on_gpu,
            generator=torch.Generator(),
        )
        resumed = checkpoint if checkpoint.exists() else None
        with _stoppable(), kept_memory():
            try:
                trainer.fit(module, loader, ckpt_path=resumed, weights_only=False if resumed else None)
            except _StopNowError as stop:
                raise KeyboardInterrupt(_how_to_go_on(trainer, module, checkpoint)) from stop
    share_buffers(module)
    rate = told.images_per_second
    return rate and rate * settings.devices * settings.nodes


def _take_average(average: WeightAverage, module: Training, epoch: int) -> None:
    """Let the module's networks be the average of themselves; ``epoch`` says which batches are drawn for it."""
    device = pick_device()
    module.to(device)
    module.begin(epoch)
    batches = (module.transfer_batch_to_device(batch, device, 0) for batch in module.batches)
    average.take(batches, lambda batch: module.training_step(batch, 0))


def _how_to_go_on(trainer: Trainer, module: Training, checkpoint: Path) -> str:
    if checkpoint.exists():
        saved = f"{trainer.current_epoch} of {module.epochs} {module.called} are saved"
    elif any(checkpoint.parent.glob("*.ckpt")):
        saved = "the warm start is saved"
    else:
        return "interrupted in the first epoch: nothing to keep yet"
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
