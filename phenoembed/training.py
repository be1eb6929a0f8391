"""Training an encoder end to end with groups of images: from a screen to ``encoders/<id>/``.

The loop, devices, precision and checkpoints are Lightning's. Every epoch draws its batches, augmentations and dropout
from (seed, epoch) alone, and a checkpoint is written after each: a resumed training ends with the same weights.
"""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from phenoembed.batches import GroupBatches
from phenoembed.cache import PixelCache, open_cache, sources_of
from phenoembed.calibration import fit_temperature
from phenoembed.controls import Labelled, with_controls
from phenoembed.distributed import first_before_others, joined, only_first, rank, world_size
from phenoembed.encoders import save_encoder
from phenoembed.folds import Fold, count_folds, keep_back, make_fold
from phenoembed.groups import Groups, group_images
from phenoembed.heads import Features, head_scores, own_head, save_own_head
from phenoembed.logs import EpochLog, epoch_log
from phenoembed.loop import fit, run_loop
from phenoembed.methods import GroupClassifier, build_method
from phenoembed.metrics import calibrated_metrics
from phenoembed.model import EMBEDDING_DIM, Encoder, pick_device, to_network
from phenoembed.pairs import Origins, origins_of
from phenoembed.plate_light import preparer_for
from phenoembed.progress import Progress, Stage, silent
from phenoembed.screen import Screen
from phenoembed.settings import Settings, family, run_name, with_plane
from phenoembed.warm_start import PairBatches, WarmStart
from phenoembed_store import Head
from phenoembed_store.encoders import read_encoders
from phenoembed_store.errors import TrainingError


@dataclass(frozen=True)
class Trained:
    """What a training gave; ``test`` and ``test_known_wells`` are top-k accuracies, None where the split has none."""

    encoder: str
    settings: Settings
    fold: Fold
    images_per_second: float | None
    test: dict[str, float] | None
    test_known_wells: dict[str, float] | None
    rejected: dict[str, str]  # path -> reason

    def document(self) -> dict[str, Any]:
        """What ``train --json`` prints."""
        return {
            "encoder": self.encoder,
            "method": self.settings.method,
            "split": self.settings.split,
            "fold": self.settings.fold,
            "n_folds": self.fold.n_folds,
            "epochs": self.settings.epochs,
            "images_per_second": self.images_per_second and round(self.images_per_second, 1),
            "test": self.test,
            "test_known_wells": self.test_known_wells,
            "rejected": len(self.rejected),
        }


@dataclass(frozen=True)
class _Prepared:
    """Everything a loop needs, made from a screen and settings."""

    cache: PixelCache
    groups: Groups
    fold: Fold
    classes: tuple[str, ...]
    mean: float
    sd: float
    origins: Origins


def train(
    screen: Screen,
    store: Path,
    settings: Settings,
    *,
    resume: bool | None = False,
    stage: Stage = silent,
    log: str = "none",
) -> Trained:
    """Train one encoder on one fold of ``screen`` and put it, with its own head, into ``store``.

    ``stage`` is entered for "reading" (images), "warm start" where one is asked for, and "training" (batches).
    ``resume`` goes on with an interrupted training of the same screen and settings; None does so where there is one,
    and starts anew otherwise. ``log``: see ``epoch_log``; it keeps the loss of every epoch below the store's ``logs/``.
    Raises TrainingError where the screen or settings do not allow it; KeyboardInterrupt, after saving, on Ctrl-C.
    """
    settings.check()
    with joined(settings.devices, settings.nodes):
        return _train(with_plane(screen, settings), store, settings, resume, stage, log)


def _train(screen: Screen, store: Path, settings: Settings, resume: bool | None, stage: Stage, log: str) -> Trained:
    with stage("reading") as progress:
        prepared = first_before_others(lambda: _prepare(screen, store, settings, progress))
    run = store / "runs" / run_name(screen, settings)
    logs = [epoch_log(log, store / "logs" / f"{run.name}{part}") for part in ("-warm-start", "")]
    only_first(lambda: _open_run(run, resume))

    torch.manual_seed(settings.seed)
    encoder = Encoder()
    controls = _labelled(prepared, settings, prepared.fold.train, controls=True).controls
    head = build_method(settings.method, len(prepared.classes), EMBEDDING_DIM, controls=controls)
    bare = _config(screen, settings, prepared, untrained=True)
    untrained = only_first(lambda: save_encoder(store, encoder, None, bare, None))
    images_per_second = _learn(encoder, head, prepared, settings, run, stage, logs)
    encoder.eval()
    head.eval()
    config = _config(screen, settings, prepared, untrained=False)
    fold, features = prepared.fold, _embed(encoder, prepared, settings)
    score = partial(_score, own_head(head, config), screen.table, features, prepared, settings)
    temperature = fit_temperature(*score(fold.calibration))
    test, known = (_judge(*score(ids), temperature) for ids in (fold.test, fold.known_wells))
    config |= {
        "untrained_encoder": untrained,
        "temperature": temperature,
        "images_per_second": images_per_second,
        "test": test,
        "test_known_wells": known,
    }
    identifier = only_first(lambda: _save(store, encoder, head, config, prepared.fold, run))
    paths = screen.table.column("path").to_pylist()
    rejected = {paths[row]: reason for row, reason in prepared.cache.rejected.items()}
    return Trained(identifier, settings, prepared.fold, images_per_second, test, known, rejected)


def _learn(
    encoder: Encoder,
    head: GroupClassifier,
    prepared: _Prepared,
    settings: Settings,
    run: Path,
    stage: Stage,
    logs: Sequence[Sequence[EpochLog]],
) -> float | None:
    """The warm start, where one is asked for and not done, and the training; images a second of the latter.

    ``logs``: of the one and of the other.
    """
    pixels = (prepared.mean, prepared.sd, prepared.cache.scale)
    checkpoint = run / "last.ckpt"
    if settings.refinements.warm_start and not checkpoint.exists():
        with stage("warm start") as progress:
            module = WarmStart(encoder, _pair_batches(prepared, settings), settings, *pixels)
            fit(module, run / "warm-start.ckpt", progress, logs[0])
    batches = _batches(prepared, settings, prepared.fold.train, shuffle_seed=settings.seed)
    with stage("training") as progress:
        return run_loop(encoder, head, batches, settings, *pixels, checkpoint, progress, logs[1])


def _open_run(run: Path, resume: bool | None) -> None:
    """Make the folder of a training, with the checkpoints of an interrupted one or none."""
    if resume and not any(run.glob("*.ckpt")):
        raise TrainingError(
            f"nothing to resume in {run.parent}: no interrupted training of this screen and these settings"
        )
    if resume is False:
        shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)


def _save(store: Path, encoder: Encoder, head: GroupClassifier, config: dict[str, Any], fold: Fold, run: Path) -> str:
    identifier = save_encoder(store, encoder, head, config, fold)
    save_own_head(store, identifier, own_head(head, config))
    shutil.rmtree(run)
    return identifier


def train_folds(
    screen: Screen,
    store: Path,
    settings: Settings,
    folds: str,
    *,
    resume: bool = False,
    stage: Stage = silent,
    log: str = "none",
) -> list[Trained]:
    """Train fold number ``folds``, or one encoder for each fold where it is "all".

    With ``resume``, folds of "all" that are done already are kept, and the interrupted one goes on. The stages of
    "all" say their fold: "training, fold 2 of 6".
    """
    if folds != "all" and not folds.isdecimal():
        raise TrainingError(f"fold {folds!r} is neither a number from 0 nor 'all'")
    if folds != "all":
        return [train(screen, store, replace(settings, fold=int(folds)), resume=resume, stage=stage, log=log)]
    settings.check()
    n_folds = count_folds(group_images(with_plane(screen, settings).table).table, settings.split)
    trained = []
    for number in range(n_folds):
        one = replace(settings, fold=number)
        if not (resume and find_trained(store, screen, one)):
            named = partial(_stage_of_fold, stage, number, n_folds)
            trained.append(train(screen, store, one, resume=None if resume else False, stage=named, log=log))
    if not trained:
        raise TrainingError(
            f"all {n_folds} folds of the {settings.split} split are trained already with these settings"
        )
    return trained


def _stage_of_fold(stage: Stage, number: int, n_folds: int, name: str) -> AbstractContextManager[Progress]:
    return stage(f"{name}, fold {number} of {n_folds}")


def find_trained(store: Path, screen: Screen, settings: Settings) -> str | None:
    """The encoder last trained on this screen with these settings, if there is one."""
    alike = (family(with_plane(screen, settings), settings), settings.split, settings.fold, False)
    found = [
        info.id
        for info in read_encoders(store / "encoders", {})
        if (info.config.get("family"), info.split, info.fold, info.untrained) == alike
    ]
    return found[-1] if found else None


def _prepare(screen: Screen, store: Path, settings: Settings, progress: Progress) -> _Prepared:
    groups = group_images(screen.table)
    fold = make_fold(groups.table, settings.split, settings.fold, seed=settings.seed)
    if settings.calibrate:
        fold = keep_back(fold, groups.table, seed=settings.seed)
    sources = sources_of(screen)
    preparer = preparer_for(screen.table, sources, settings.preparation, store)
    cache = open_cache(store / "cache", sources, settings.size, preparer=preparer, progress=progress)
    usable = np.ones(screen.table.num_rows, dtype=bool)
    usable[list(cache.rejected)] = False
    groups = group_images(screen.table, usable)
    train = groups.places(fold.train)
    treated = train[groups.roles[train] == "treated"]
    classes = tuple(sorted(set(groups.compounds[treated])))
    if len(classes) < 2:
        raise TrainingError(f"{len(classes)} treated compound(s) in the training groups; two or more are needed")
    mean, sd = cache.mean_and_sd(np.concatenate([groups.rows[place] for place in treated]))
    origins = origins_of(screen.table)
    if settings.refinements.consistency and len({origins.replicate[groups.rows[place][0]] for place in treated}) < 2:
        raise TrainingError("--consistency compares replicates, and the training groups are of one; leave it out")
    return _Prepared(cache, groups, fold, classes, mean, sd, origins)


def _batches(
    prepared: _Prepared, settings: Settings, ids: tuple[str, ...], shuffle_seed: int | None = None
) -> GroupBatches:
    """Batches of the treated groups among ``ids`` whose compound is a class; in training of controls too, where the
    method learns them."""
    training = shuffle_seed is not None
    labelled = _labelled(prepared, settings, ids, controls=training)
    share = (rank(), world_size()) if training else (0, 1)  # every process tests all groups
    origins = prepared.origins if training and settings.refinements.consistency else None
    return GroupBatches(
        prepared.cache.pixels,
        prepared.groups,
        labelled.places,
        labelled.labels,
        settings.batch_groups,
        shuffle_seed,
        share,
        origins,
    )


def _labelled(prepared: _Prepared, settings: Settings, ids: tuple[str, ...], *, controls: bool) -> Labelled:
    """The treated groups among ``ids`` whose compound is a class, and the controls where they are learned."""
    number = {name: i for i, name in enumerate(prepared.classes)}
    groups = prepared.groups
    found = groups.places(ids)
    places = np.array(
        [place for place in found if groups.compounds[place] in number and groups.roles[place] == "treated"], dtype=int
    )
    labels = np.array([number[name] for name in groups.compounds[places]], dtype=np.int64)
    if not controls:
        return Labelled(places, labels, len(number))
    return with_controls(settings.method, groups, found, places, labels, len(number))


def _pair_batches(prepared: _Prepared, settings: Settings) -> PairBatches:
    """Pairs of the images of all training groups, controls too."""
    places = prepared.groups.places(prepared.fold.train)
    rows = np.concatenate([prepared.groups.rows[place] for place in places])
    return PairBatches(prepared.cache.pixels, prepared.origins, rows, settings.seed, (rank(), world_size()))


@torch.inference_mode()
def _embed(encoder: Encoder, prepared: _Prepared, settings: Settings) -> Features:
    """Embeddings (images, dim) of the groups that trained nothing and whose compound is a class; 0 for other images."""
    fold, cache, device = prepared.fold, prepared.cache, pick_device()
    features = np.zeros((len(cache.pixels), EMBEDDING_DIM), np.float32)
    batches = _batches(prepared, settings, (*fold.calibration, *fold.test, *fold.known_wells))
    encoder.to(device)
    if len(batches.places):
        rows = np.concatenate([prepared.groups.rows[place] for place in batches.places])
        pixels = (to_network(batch.pixels.to(device), prepared.mean, prepared.sd, cache.scale) for batch in batches)
        features[rows] = np.concatenate([encoder(images).cpu().numpy() for images in pixels])
    return features


def _score(
    head: Head, images: pa.Table, features: Features, prepared: _Prepared, settings: Settings, ids: tuple[str, ...]
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Scores (groups, classes) of the groups ``ids`` whose compound is a class, and their labels."""
    found = _labelled(prepared, settings, ids, controls=False)
    return head_scores(head, images, features, prepared.groups, found.places), found.labels


def _judge(scores: NDArray[np.floating], labels: NDArray[np.integer], temperature: float) -> dict[str, float] | None:
    """Figures of these scores; None where there is no group."""
    if not len(labels):
        return None
    return calibrated_metrics(scores, labels, temperature) | {"n_test": len(labels)}


def _config(screen: Screen, settings: Settings, prepared: _Prepared, *, untrained: bool) -> dict[str, Any]:
    trained_on = _labelled(prepared, settings, prepared.fold.train, controls=True)
    return {
        "untrained": untrained,
        **asdict(settings),
        **({} if untrained else trained_on.knowledge(screen.table, prepared.groups)),
        "method": "untrained" if untrained else settings.method,
        "family": family(screen, settings),
        "screens": sorted(set(screen.table.column("screen").to_pylist())),
        "classes": [] if untrained else list(prepared.classes),
        "pixel_mean": prepared.mean,
        "pixel_sd": prepared.sd,
        "pixel_dtype": str(prepared.cache.pixels.dtype),
        "native_shape": list(prepared.cache.native_shape),
        "trained_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
