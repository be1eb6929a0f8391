"""Encoders that belong together: the folds of one training, and trainings that differ in the method alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phenoembed.encoders import load_fold
from phenoembed.folds import Fold, Split, count_folds, keep_back, make_fold
from phenoembed.groups import group_images
from phenoembed.methods import METHODS
from phenoembed.refinements import refinements_of
from phenoembed_store import Store
from phenoembed_store.errors import NotInStore, TrainingError


@dataclass(frozen=True)
class TrainedFold:
    """One encoder, its config.json, and the fold it was trained on."""

    encoder: str
    config: Mapping[str, Any]
    fold: Fold


def family(store: Store, encoder: str | None) -> tuple[list[TrainedFold], list[str]]:
    """Every fold of every split trained as ``encoder`` (the last trained) was, and notes on those not indexed.

    Raises NotInStore where there is none.
    """
    known, chosen = _known(store), _choose(store, encoder)
    alike = {name: config for name, config in known.items() if config.get("family") == known[chosen]["family"]}
    return _indexed(store, alike)


def siblings(store: Store, encoder: str | None) -> tuple[list[TrainedFold], list[str]]:
    """As ``family``, of every method: the encoders whose training differs in method, split and fold alone.

    Sorted by method, in the order of METHODS.
    """
    known, chosen = _known(store), _choose(store, encoder)
    alike = {name: config for name, config in known.items() if _recipe(config) == _recipe(known[chosen])}
    folds, notes = _indexed(store, alike)
    order = {name: place for place, name in enumerate(METHODS)}
    return sorted(folds, key=lambda one: order[one.config["method"]]), notes


def foreign_folds(store: Store, encoder: str | None, where: str) -> tuple[list[TrainedFold], list[str]]:
    """Folds of a screen that the encoder never saw: all of the replicate and of the field split.

    Raises NotInStore where no image passes ``where``, TrainingError where the encoder was trained on one of them.
    """
    chosen = _choose(store, encoder)
    config = _known(store)[chosen]
    table, _ = store.vectors(where, encoder=chosen)
    if not table.num_rows:
        raise NotInStore(
            f"encoder {chosen} has no image where {where}: phenoembed index PLATES --encoder {chosen}, "
            "or name the screen: --where \"screen = '...'\""
        )
    seen = set(table.column("screen").to_pylist()) & set(config["screens"])
    if seen:
        raise TrainingError(f"encoder {chosen} was trained on screen {min(seen)!r}; choose another with --where")
    groups = group_images(table).table
    folds, notes = list[TrainedFold](), list[str]()
    splits: tuple[Split, ...] = ("replicate", "field")
    for split in splits:
        try:
            made = [make_fold(groups, split, i) for i in range(count_folds(groups, split))]
        except TrainingError as error:
            notes.append(f"{split} split: {error}")
            continue
        folds += [TrainedFold(chosen, config, keep_back(fold, groups)) for fold in made]
    return folds, notes


_RECIPE = ("screens", "epochs", "size", "batch_groups", "learning_rate", "weight_decay", "seed", "augmentation")


def _recipe(config: Mapping[str, Any]) -> list[Any]:
    return [*(config.get(name) for name in _RECIPE), config.get("calibrate", False), refinements_of(config).said()]


def _known(store: Store) -> dict[str, Mapping[str, Any]]:
    return {info.id: info.config for info in store.encoders()}


def _choose(store: Store, encoder: str | None) -> str:
    chosen = store.resolve_encoder(encoder)
    config = _known(store).get(chosen, {})
    if config.get("untrained"):
        raise NotInStore(f"encoder {chosen} is untrained: probe the encoder trained from it")
    if "family" not in config:
        raise NotInStore(f"encoder {chosen} was not trained here, so it has no folds to probe")
    return chosen


def _indexed(store: Store, alike: Mapping[str, Mapping[str, Any]]) -> tuple[list[TrainedFold], list[str]]:
    """The newest of each method, split and fold, as far as its images are indexed."""
    latest: dict[tuple[str, str, int], str] = {}
    for name, config in sorted(alike.items(), key=lambda pair: str(pair[1].get("trained_at", ""))):
        if not config["untrained"]:
            latest[config["method"], config["split"], config["fold"]] = name
    folds, notes = [], []
    for (_, split, number), name in sorted(latest.items()):
        if store.known_images(name).num_rows:
            folds.append(TrainedFold(name, alike[name], load_fold(store.path, name)))
        else:
            notes.append(
                f"{split} fold {number}: encoder {name} has no images yet: phenoembed index PLATES --encoder {name}"
            )
    if not folds:
        raise NotInStore("; ".join(notes))
    return folds, notes
