"""What a training may do beyond the paper's, each thing switched on by itself; the default is none of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from phenoembed_store.errors import TrainingError

AVERAGES = ("none", "ema", "swa")


@dataclass(frozen=True)
class Refinements:
    """Of a training; kept in the encoder's config.json."""

    average: str = "none"  # of the weights over steps or epochs: see averaging.py
    label_smoothing: float = 0.0  # this share of a label is spread evenly over all classes
    consistency: float = 0.0  # weight of the spread between replicates of a treatment: see consistency.py
    warm_start: int = 0  # epochs without classes, before the others: see warm_start.py

    def check(self) -> None:
        """Raise TrainingError on a value that cannot be meant."""
        if self.average not in AVERAGES:
            raise TrainingError(f"--average '{self.average}' is not one of {', '.join(AVERAGES)}")
        if not 0 <= self.label_smoothing < 1:
            raise TrainingError(f"--label-smoothing {self.label_smoothing}: it lies between 0 and 1, usually at 0.1")
        if not 0 <= self.consistency < math.inf:
            raise TrainingError(f"--consistency {self.consistency}: it is 0 or more, and 1 weighs as much as the loss")
        if self.warm_start < 0:
            raise TrainingError(f"--warm-start {self.warm_start}: a number of epochs is 0 or more")

    def said(self) -> dict[str, Any]:
        """What differs from the default: a training's name is made of it."""
        plain = asdict(Refinements())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}


def refinements_of(config: Mapping[str, Any]) -> Refinements:
    """What an encoder's config.json says; none where it was trained before there was a choice."""
    return Refinements(**config.get("refinements", {}))
