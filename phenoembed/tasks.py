"""What a probe asks of a group: its compound, its mechanism of action, or whether it was treated at all."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phenoembed.groups import Groups


@dataclass(frozen=True)
class Task:
    """``labels(groups)``: (groups,) the class of each group, None where the task has none for it."""

    name: str
    labels: Callable[[Groups], np.ndarray]
    binary_positive: str | None = None  # the positive class of a two-class task


def _compound(groups: Groups) -> np.ndarray:
    return np.where(groups.roles == "treated", groups.compounds, None)


def _moa(groups: Groups) -> np.ndarray:
    moa = np.array(groups.table.column("moa").to_pylist(), dtype=object) if "moa" in groups.table.column_names else None
    if moa is None:
        return np.full(len(groups.rows), None, dtype=object)
    return np.where((groups.roles == "treated") & np.array([bool(value) for value in moa]), moa, None)


def _treatment(groups: Groups) -> np.ndarray:
    return groups.roles.copy()


TASKS: dict[str, Task] = {
    "compound": Task("compound", _compound),
    "moa": Task("moa", _moa),
    "treatment": Task("treatment", _treatment, binary_positive="treated"),
}


def with_two_compounds(labels: np.ndarray, compounds: np.ndarray) -> np.ndarray:
    """Labels of classes that hold two compounds or more; the others become None (they cannot be held out and learned)."""
    kept = {
        label for label in set(labels) - {None} if len(set(compounds[labels == label])) > 1
    }
    return np.array([label if label in kept else None for label in labels], dtype=object)
