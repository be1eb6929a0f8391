"""Controls as one more class, and what a head keeps of its training to doubt the doses and times that it never saw."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from phenoembed.groups import Groups
from phenoembed.methods import method_called
from phenoembed_store.aggregate import number


class Labelled(NamedTuple):
    """Groups to train on: their places, and class numbers, (groups,) each; a control's number is ``n_classes``."""

    places: np.ndarray
    labels: np.ndarray
    n_classes: int

    @property
    def controls(self) -> bool:
        """Whether controls are a class."""
        return bool((self.labels == self.n_classes).any())

    def knowledge(self, images: pa.Table, groups: Groups) -> dict[str, Any]:
        """For a head's config, where controls are a class: see ``phenoembed_store.doubt``.

        ``configurations``: the (concentration_um, time_h) of the treated training images. ``control_odds``: how many
        times more training groups the controls have than a class has on average.
        """
        if not self.controls:
            return {}
        treated = self.places[self.labels < self.n_classes]
        rows = np.concatenate([groups.rows[place] for place in treated])
        dose, time = (images.column(name).to_numpy()[rows] for name in ("concentration_um", "time_h"))
        _, first = number(dose, time)
        per_class = len(treated) / self.n_classes
        return {
            "configurations": np.column_stack([dose, time])[first].tolist(),
            "control_odds": (len(self.places) - len(treated)) / per_class,
        }


def with_controls(
    method: str, groups: Groups, train: np.ndarray, places: np.ndarray, labels: np.ndarray, n_classes: int
) -> Labelled:
    """The groups at ``places``, and for a method that learns controls those among ``train`` that have no class yet.

    Raises TrainingError for a method that is not known.
    """
    if method_called(method).learns_controls:
        controls = np.setdiff1d(train[groups.roles[train] == "control"], places)
        places = np.concatenate([places, controls])
        labels = np.concatenate([labels, np.full(len(controls), n_classes, dtype=np.int64)])
    return Labelled(places, labels, n_classes)
