"""What a probe found: figures a fold, and their mean ± sd over folds, for every split, test and kind of features."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from phenoembed.folds import SPLITS, TEST_NAMES, Split
from phenoembed.metrics import mean_and_sd
from phenoembed_store.errors import NotInStore, TrainingError

KNOWN_WELLS = "known wells"
FEATURES = ("encoder", "untrained", "intensity")


@dataclass(frozen=True)
class Tested:
    """What one set of features did on the test groups of one fold: figures by name, ``n_test`` among them."""

    split: Split
    fold: int
    test: str  # "new replicate", "known wells", "new compound"
    features: str  # "encoder", "untrained", "intensity", "compound head"
    figures: dict[str, float]
    classes: int
    majority: float


@dataclass(frozen=True)
class Report:
    """A probe's outcome over all splits that have an encoder in the store."""

    task: str
    where: str | None
    simulated: bool
    tested: tuple[Tested, ...]
    notes: tuple[str, ...] = ()

    def select(self, split: Split, test: str, features: str) -> list[Tested]:
        """The folds of one cell of the table."""
        return [one for one in self.tested if (one.split, one.test, one.features) == (split, test, features)]

    def summary(self, split: Split, test: str, features: str) -> dict[str, Any] | None:
        """Folds, mean and sd of one cell; None where nothing was tested."""
        found = self.select(split, test, features)
        if not found:
            return None
        mean, sd = mean_and_sd([one.figures for one in found])
        return {"folds": [{"fold": one.fold, **one.figures} for one in found], "mean": mean, "sd": sd}

    def rows(self) -> Iterator[tuple[Split, str]]:
        """Every (split, test) that was tested, the honest ones first."""
        seen = {(one.split, one.test) for one in self.tested}
        for split in SPLITS:
            for test in (TEST_NAMES[split], KNOWN_WELLS):
                if (split, test) in seen:
                    yield split, test
                    seen.discard((split, test))

    def missing_splits(self) -> list[str]:
        """Splits for which no encoder of the family was trained and indexed."""
        return [split for split in SPLITS if not any(one.split == split for one in self.tested)]

    def document(self, split: Split) -> dict[str, Any]:
        """What ``probe --json`` prints. Raises NotInStore where the split has no encoder."""
        if split not in SPLITS:
            raise TrainingError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        main = self.select(split, TEST_NAMES[split], "encoder")
        if not main:
            raise NotInStore(_not_trained(split))
        summary = self.summary(split, TEST_NAMES[split], "encoder") or {}
        return {
            "task": self.task,
            "split": split,
            "test": TEST_NAMES[split],
            "simulated": self.simulated,
            "classes": main[0].classes,
            "chance": 1 / main[0].classes,
            "majority": float(np.mean([one.majority for one in main])),
            **summary,
            "known_wells": self.summary(split, KNOWN_WELLS, "encoder") if split == "replicate" else None,
            "baselines": {name: self.summary(split, TEST_NAMES[split], name) for name in FEATURES[1:]},
            "compound_head": self.summary(split, TEST_NAMES[split], "compound head"),
            "not_trained": self.missing_splits(),
            "notes": list(self.notes),
        }


def _not_trained(split: str) -> str:
    return (
        f"no encoder of the {split} split is trained and indexed: phenoembed train PLATES --split {split}, then index"
    )
