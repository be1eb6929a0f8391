"""What a training is: its settings, and the names that follow from them and from the screen."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from phenoembed.augment import Augmentation
from phenoembed.folds import SPLITS, Split
from phenoembed.preparation import Preparation
from phenoembed.refinements import Refinements
from phenoembed.screen import Screen, choose_plane
from phenoembed_store.errors import TrainingError
from phenoembed_store.schema import SCREEN_SCHEMA


@dataclass(frozen=True)
class Settings:
    """What a training is; kept in the encoder's config.json."""

    method: str = "product"
    split: Split = "replicate"
    fold: int = 0
    epochs: int = 350  # the paper, Section 5.1
    size: int | None = None  # pixels of the shorter side; None: as the images are (the paper)
    batch_groups: int = 24  # the paper, Section 5.1
    learning_rate: float = 1e-4  # the paper, Section 5.1
    weight_decay: float = 1e-4  # the paper, Section 5.1
    seed: int = 0
    devices: int = 1  # on each node; a batch is dealt out over all devices
    nodes: int = 1
    calibrate: bool = True  # keep a part of the training groups back for the temperature; the paper does not
    augmentation: Augmentation = field(default_factory=Augmentation)
    preparation: Preparation = field(default_factory=Preparation)
    refinements: Refinements = field(default_factory=Refinements)

    def check(self) -> None:
        """Raise TrainingError (of its preparation PhenoembedError) on a value that cannot be meant."""
        self.preparation.check()
        self.refinements.check()
        for name, least in (("epochs", 1), ("fold", 0), ("devices", 1), ("nodes", 1)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} is {getattr(self, name)}; {least} or more is needed")
        least = 2 * self.devices * self.nodes  # batch normalisation needs two groups on every device
        if self.batch_groups < least:
            raise TrainingError(f"batch_groups is {self.batch_groups}; {least} or more is needed")
        if self.split not in SPLITS:
            raise TrainingError(f"split {self.split!r} is not one of {', '.join(SPLITS)}")
        if self.size is not None and self.size < 32:
            raise TrainingError(f"size is {self.size} pixels; ResNet-18 needs 32 or more")
        if not 0 < self.learning_rate < 1:
            raise TrainingError(f"learning_rate is {self.learning_rate}; it lies between 0 and 1, the paper's is 1e-4")


def with_plane(screen: Screen, settings: Settings) -> Screen:
    """The screen as these settings see its z-stacks."""
    plane = settings.preparation.plane
    return screen if plane is None else choose_plane(screen, plane)


def family(screen: Screen, settings: Settings) -> str:
    """The same for the folds of one split trained alike on one screen."""
    alike = {name: value for name, value in _said(settings).items() if name not in ("fold", "split")}
    return _digest([alike, _content(screen)])


def run_name(screen: Screen, settings: Settings) -> str:
    """The same for one training, however often it is started."""
    return _digest([_said(settings), _content(screen)])


def _said(settings: Settings) -> dict[str, Any]:
    """The settings by name; a default preparation and refinements are left out, as before there was a choice."""
    said = asdict(settings) | {"refinements": settings.refinements.said()}
    kept = {"preparation": bool(settings.preparation.digest()), "refinements": bool(said["refinements"])}
    return {name: value for name, value in said.items() if kept.get(name, True)}


def _content(screen: Screen) -> list[Any]:
    columns = screen.table.select([name for name in SCREEN_SCHEMA.names if name != "path"])
    rows = sorted(zip(*(column.to_pylist() for column in columns.columns), strict=True), key=str)
    return [hashlib.sha256(json.dumps(rows).encode()).hexdigest()]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
