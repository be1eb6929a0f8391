"""What a probe asks of a group: its compound, its mechanism, whether it was treated, its compound on another screen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from phenoembed.groups import Groups


@dataclass(frozen=True)
class Task:
    """``labels(groups)``: (groups,) the class of each group, None where the task has none for it."""

    name: str
    labels: Callable[[Groups], np.ndarray]
    binary_positive: str | None = None  # the positive class of a two-class task


def _of_treated(groups: Groups, values: list[Any]) -> np.ndarray:
    """(groups,) these values for treated groups, None for controls and where the value is empty."""
    return np.array(
        [
            str(value) if role == "treated" and value not in (None, "") else None
            for value, role in zip(values, groups.roles, strict=True)
        ],
        dtype=object,
    )


def _compound(groups: Groups) -> np.ndarray:
    return _of_treated(groups, groups.compounds.tolist())


def _moa(groups: Groups) -> np.ndarray:
    known = "moa" in groups.table.column_names
    return _of_treated(groups, groups.table.column("moa").to_pylist() if known else [None] * len(groups.rows))


def _treatment(groups: Groups) -> np.ndarray:
    labels: np.ndarray = groups.roles.copy()
    return labels


def _jump(groups: Groups) -> np.ndarray:
    return np.array([str(name) for name in groups.compounds], dtype=object)


HEADS = ("paper", "linear")
"""Kinds of heads: the paper's classifier g (heads.py), and logistic regression on whole groups (linear_heads.py)."""

JUMP_SCREEN = "screen = 'JUMP-Target'"
"""The images of the jump task, unless others are asked for."""

TASKS: dict[str, Task] = {
    "compound": Task("compound", _compound),
    "moa": Task("moa", _moa),
    "treatment": Task("treatment", _treatment, binary_positive="treated"),
    # compounds of a screen that the encoder never saw; DMSO is one of them (the paper, Section 5.7)
    "jump": Task("jump", _jump),
}


def with_two_compounds(labels: np.ndarray, compounds: np.ndarray) -> np.ndarray:
    """Labels of classes with two compounds or more; the others become None: they cannot be held out and learned."""
    kept = {label for label in set(labels) - {None} if len(set(compounds[labels == label])) > 1}
    return np.array([label if label in kept else None for label in labels], dtype=object)
