"""Which groups train and which test. Pure functions over the columns of a group table; order of rows does not matter.

Three splits, each answering another question:

- ``field`` (the paper, Section 5.1): groups are drawn at random within each compound. Other fields of a tested group's
  wells stand in training, so this measures recognition within *known wells*.
- ``replicate``: one replicate is held out whole (*new replicate*); a sixth of the other groups is set aside too
  (*known wells*), so that one training gives both figures.
- ``compound``: whole compounds are held out (*new compound*), spread over the folds within each mechanism of action.

Of the training groups a part may be kept back to calibrate on (``keep_back``).

Control groups are split as the compound ``DMSO`` would be; with ``compound``, whole sets of control wells are held out.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from phenoembed_store.errors import TrainingError

Split = Literal["replicate", "field", "compound"]
SPLITS: tuple[Split, ...] = get_args(Split)
N_FOLDS = 6  # the paper, Section 5.1
CALIBRATION_SHARE = 12  # one training group in so many fits the temperature: one number needs few groups

TEST_NAMES: dict[Split, str] = {"replicate": "new replicate", "field": "known wells", "compound": "new compound"}
"""What the test groups of a split are, in the words of reports."""


_PARTS = ("train", "test", "known_wells", "calibration")


@dataclass(frozen=True)
class Fold:
    """Group ids, disjoint: ``train``, ``test``, ``known_wells`` (the second test of the replicate split) and
    ``calibration`` (an inner hold-out of the training groups)."""

    split: Split
    index: int
    n_folds: int
    held_out: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    known_wells: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = [getattr(self, name) for name in _PARTS]
        assert len(set().union(*parts)) == sum(map(len, parts)), "parts overlap"

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Fold":
        fields: dict[str, Any] = json.loads(path.read_text())
        for name in _PARTS:
            fields[name] = tuple(fields.get(name, ()))
        return cls(**fields)

    def __repr__(self) -> str:
        known = f", {len(self.known_wells)} in known wells" if self.known_wells else ""
        return (
            f"Fold({self.split} {self.index + 1}/{self.n_folds}: {len(self.train)} train, {len(self.test)} test{known})"
        )


@dataclass(frozen=True)
class _Groups:
    """The columns a split needs, sorted by group id."""

    ids: np.ndarray  # (groups,) str
    compound: np.ndarray  # (groups,) str
    replicate: np.ndarray  # (groups,) str, "screen/replicate"
    control_set: np.ndarray  # (groups,) str, "" for treated groups
    moa: np.ndarray  # (groups,) str, "" where not annotated


def count_folds(groups: pa.Table, split: Split) -> int:
    """How many folds a split has on these groups (columns of ``make_fold``)."""
    return _count_folds(_columns(groups), split)


def make_fold(groups: pa.Table, split: Split, index: int, *, seed: int = 0) -> Fold:
    """Fold ``index`` of a split.

    ``groups`` has a row a group: ``group_id, screen, compound, replicate, set, role`` and, if known, ``moa``.
    Raises TrainingError where the screen cannot be split so, with the reason.
    """
    columns = _columns(groups)
    n_folds = _count_folds(columns, split)
    if not 0 <= index < n_folds:
        raise TrainingError(f"fold {index} of the {split} split does not exist: it has folds 0 to {n_folds - 1}")
    if split == "replicate":
        return _replicate_fold(columns, index, n_folds, seed)
    if split == "field":
        test = _stratified(columns.compound, n_folds, seed) == index
        held_out = f"a random 1/{n_folds} of each compound's groups"
    else:
        test = _compound_fold_numbers(columns, n_folds, seed) == index
        held_out = f"{len(set(columns.compound[test]))} compounds"
    ids = columns.ids
    return Fold(split, index, n_folds, held_out, tuple(ids[~test]), tuple(ids[test]))


def keep_back(fold: Fold, groups: pa.Table, *, seed: int = 0) -> Fold:
    """The fold with a part of its training groups, stratified by compound, moved to ``calibration``.

    A compound's only training group stays. ``groups``: as for ``make_fold``.
    """
    columns = _columns(groups)
    train = np.flatnonzero(np.isin(columns.ids.astype(str), np.array(fold.train, dtype=str)))
    names, counts = np.unique(columns.compound[train].astype(str), return_counts=True)
    drawn = _stratified(columns.compound[train], CALIBRATION_SHARE, seed) == 0
    back = drawn & ~np.isin(columns.compound[train].astype(str), names[counts == 1])
    return replace(fold, train=tuple(columns.ids[train[~back]]), calibration=tuple(columns.ids[train[back]]))


def _columns(groups: pa.Table) -> _Groups:
    table = groups.sort_by("group_id")

    def column(name: str) -> list[str]:
        return ["" if value is None else str(value) for value in table.column(name).to_pylist()]

    replicate = [f"{screen}/{value}" for screen, value in zip(column("screen"), column("replicate"), strict=True)]
    control_set = [
        f"{place}/{number}" if role == "control" else ""
        for place, number, role in zip(replicate, column("set"), column("role"), strict=True)
    ]
    moa = column("moa") if "moa" in table.column_names else [""] * table.num_rows
    return _Groups(
        *(
            np.array(values, dtype=object)
            for values in (column("group_id"), column("compound"), replicate, control_set, moa)
        )
    )


def _count_folds(columns: _Groups, split: Split) -> int:
    if split not in SPLITS:
        raise TrainingError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    treated = columns.control_set == ""
    if split == "replicate":
        n = len(set(columns.replicate))
        if n < 2:
            raise TrainingError(
                "the replicate split needs two replicates or more; this screen has one (try --split field)"
            )
        return n
    names, counts = np.unique(columns.compound[treated].astype(str), return_counts=True)
    if split == "field":
        n = min(N_FOLDS, int(counts.min(initial=N_FOLDS)))
        if n < 2:
            raise TrainingError(
                f"the field split needs two groups of every compound; {str(names[counts.argmin()])!r} has one"
            )
        return n
    n = min(N_FOLDS, len(names))
    if n < 2:
        raise TrainingError("the compound split needs two compounds or more")
    return n


def _replicate_fold(columns: _Groups, index: int, n_folds: int, seed: int) -> Fold:
    held_out = sorted(set(columns.replicate))[index]
    test = columns.replicate == held_out
    rest = np.flatnonzero(~test)
    aside = rest[_stratified(columns.compound[rest], N_FOLDS, seed) == 0]
    train = np.setdiff1d(rest, aside)
    only_there = sorted(set(columns.compound[test]) - set(columns.compound[train]))
    if len(only_there) == len(set(columns.compound[test])):
        raise TrainingError(f"no compound of replicate {held_out!r} is in another replicate (try --split field)")
    ids = columns.ids
    return Fold("replicate", index, n_folds, held_out, tuple(ids[train]), tuple(ids[test]), tuple(ids[aside]))


def _stratified(labels: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Fold number of each row, (n,) int; rows of one label are dealt out as evenly as their number allows.

    A label with fewer rows than folds is dealt out too, to as many folds as it has rows.
    """
    from sklearn.model_selection import StratifiedKFold  # a second to load, which encoding an image can do without

    numbers = np.empty(len(labels), dtype=int)
    names, counts = np.unique(labels.astype(str), return_counts=True)
    few = np.isin(labels.astype(str), names[counts < n_folds])
    if (~few).any():
        chosen = np.flatnonzero(~few)
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(chosen, labels[chosen].astype(str))
        for number, (_, test) in enumerate(folds):
            numbers[chosen[test]] = number
    rng = np.random.default_rng(seed)
    for name in names[counts < n_folds]:
        rows = np.flatnonzero(labels == name)
        numbers[rows] = rng.permutation(n_folds)[: len(rows)]
    return numbers


def _compound_fold_numbers(columns: _Groups, n_folds: int, seed: int) -> np.ndarray:
    """Fold number of each group, (n,) int: compounds dealt out within each mechanism, control sets apart."""
    units: dict[str, set[str]] = defaultdict(set)  # mechanism -> compounds (or control sets)
    unit_of = np.where(columns.control_set == "", columns.compound, columns.control_set)
    for unit, moa, control_set in zip(unit_of, columns.moa, columns.control_set, strict=True):
        units["control" if control_set else f"moa {moa}"].add(unit)
    rng = np.random.default_rng(seed)
    number: dict[str, int] = {}
    start = 0  # goes on from mechanism to mechanism, so that folds stay of one size
    for mechanism in sorted(units):
        dealt: Sequence[str] = rng.permutation(sorted(units[mechanism])).tolist()
        number |= {unit: (start + i) % n_folds for i, unit in enumerate(dealt)}
        start += len(dealt)
    return np.array([number[unit] for unit in unit_of])
