"""Probes: how much of a task do frozen features hold? A head is fitted per fold and tested on groups never seen.

Features come from the store with one query a fold; no image is opened. Beside the encoder stand two baselines on the
same folds: an untrained encoder, and logistic regression on eight intensity statistics.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phenoembed.baselines import Scorer, fit_intensity
from phenoembed.calibration import fit_temperature
from phenoembed.controls import Labelled, with_controls
from phenoembed.families import TrainedFold, family, foreign_folds
from phenoembed.folds import TEST_NAMES
from phenoembed.groups import Groups, group_images
from phenoembed.heads import Features, fit_head, head_scores, to_store_head
from phenoembed.linear_heads import fit_linear_head
from phenoembed.metrics import binary_metrics, majority_share, multiclass_metrics, rank_of_label, softmax
from phenoembed.outcomes import KNOWN_WELLS, Report, Tested
from phenoembed.progress import Progress
from phenoembed.tasks import HEADS, JUMP_SCREEN, TASKS, Task, with_two_compounds
from phenoembed_store import Head, Store
from phenoembed_store.errors import TrainingError
from phenoembed_store.schema import IMAGE_KEY, INTENSITY_STATISTICS, PREDICTIONS_SCHEMA

N_TOP = 5  # classes kept with each prediction


@dataclass
class _Setting:
    """Everything one fold's tests share."""

    head: str  # one of HEADS
    task: Task
    fold: TrainedFold
    groups: Groups
    labels: np.ndarray  # (groups,) class names, None outside the task
    classes: tuple[str, ...]
    train: np.ndarray  # places
    tests: dict[str, np.ndarray]  # name -> places
    calibration: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))  # places
    notes: list[str] = field(default_factory=list)

    def numbers(self, places: np.ndarray) -> np.ndarray:
        """(places,) class numbers."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[name] for name in self.labels[places]], dtype=np.int64)

    @property
    def labelled(self) -> Labelled:
        """What heads are fitted on: the training groups, and controls where the method learns them."""
        every, method = self.groups.places(self.fold.fold.train), self.fold.config["method"]
        return with_controls(method, self.groups, every, self.train, self.numbers(self.train), len(self.classes))


def probe(
    store: Store,
    task: str,
    *,
    encoder: str | None = None,
    where: str | None = None,
    head: str = "paper",
    progress: Progress = lambda _done, _total: None,
) -> Report:
    """Probe the family of ``encoder`` (the last trained): every fold and split trained with the same settings.

    ``where`` restricts the images. Task ``jump`` instead takes one frozen encoder to a screen that it never saw (the
    one that ``where`` names, ``JUMP-Target`` otherwise), every fold of it. Heads and out-of-fold predictions go into
    the store. ``head``: one of HEADS. Raises NotInStore where nothing is trained or indexed, TrainingError where the
    task has too few classes or the method no linear head.
    """
    for name, value, known in (("task", task, tuple(TASKS)), ("head", head, HEADS)):
        if value not in known:
            raise TrainingError(f"{name} {value!r} is not one of {', '.join(known)}")
    if task == "jump":
        where = where or JUMP_SCREEN
        folds, notes = foreign_folds(store, encoder, where)
    else:
        folds, notes = family(store, encoder)
    tested: list[Tested] = []
    predictions: list[pa.Table] = []
    of_folds: dict[tuple[str, str], list[int]] = {}
    for i, fold in enumerate(folds):
        advance = partial(_advance, progress, i, len(folds))
        found, rows, said = _probe_fold(store, TASKS[task], fold, where, head, advance)
        tested += found
        predictions += rows
        for note in said:
            of_folds.setdefault((fold.fold.split, note), []).append(fold.fold.index)
    notes += [_with_folds(split, numbers, note) for (split, note), numbers in of_folds.items()]
    if not tested:
        raise TrainingError("; ".join(dict.fromkeys(notes)) or f"nothing to test for task {task}")
    if predictions:
        store.write_predictions(pa.concat_tables(predictions))
    simulated = any("simulated" in name.lower() for one in folds for name in one.config["screens"])
    return Report(task, where, simulated, tuple(tested), tuple(dict.fromkeys(notes)))


def _with_folds(split: str, numbers: list[int], note: str) -> str:
    """What several folds have to say is said once."""
    listed = ", ".join(map(str, sorted(set(numbers))))
    return f"{split} {'folds' if len(set(numbers)) > 1 else 'fold'} {listed}: {note}"


def _advance(progress: Progress, fold: int, n_folds: int, done: int, total: int) -> None:
    """Tell of epochs of a fold's head as epochs of all of them."""
    progress(fold * total + done, n_folds * total)


def _probe_fold(
    store: Store, task: Task, fold: TrainedFold, where: str | None, kind: str, progress: Progress
) -> tuple[list[Tested], list[pa.Table], list[str]]:
    table, features = store.vectors(where, encoder=fold.encoder)
    setting = _settle(kind, task, fold, group_images(table))
    if setting is None:
        return [], [], [f"fewer than two classes of task {task.name} are in training and test groups"]
    head, score = _fit(setting, table, features, progress)
    temperature = fit_temperature(score(setting.calibration), setting.numbers(setting.calibration))
    if not len(setting.calibration):
        setting.notes.append("no groups were kept back to calibrate on")
    said = {
        "encoder": fold.encoder,
        "head": kind,
        "split": fold.fold.split,
        "fold": fold.fold.index,
        "temperature": temperature,
        "where": where,
    }
    stored = store.save_head(replace(head, config={**head.config, **said}))
    tested, predictions = [], []
    for name, scorer in [("encoder", score), *_baselines(store, setting, table, where)]:
        for test, places in setting.tests.items():
            raw = scorer(places)
            scores = raw / temperature if name == "encoder" else raw
            tested.append(_judge(setting, test, name, scores, places))
            if name == "encoder":
                tested[-1].figures["ece_uncalibrated"] = _judge(setting, test, name, raw, places).figures["ece"]
            predictions.append(
                _prediction_rows(setting, test, name, scores, places, stored if name == "encoder" else None)
            )
    if task.name == "moa":
        tested += _compound_head(setting, table, features)
    return tested, predictions, setting.notes


def _settle(kind: str, task: Task, fold: TrainedFold, groups: Groups) -> _Setting | None:
    labels = task.labels(groups)
    if task.name == "moa" and fold.fold.split == "compound":
        labels = with_two_compounds(labels, groups.compounds)
    train = _labelled(groups.places(fold.fold.train), labels)
    classes = tuple(sorted(set(labels[train])))
    if len(classes) < 2:
        return None
    known, tests, notes = set(classes), {}, []
    for name, ids in ((TEST_NAMES[fold.fold.split], fold.fold.test), (KNOWN_WELLS, fold.fold.known_wells)):
        places = _labelled(groups.places(ids), labels)
        learnable = np.array([place for place in places if labels[place] in known], dtype=int)
        if len(learnable) < len(places):
            notes.append(
                f"{name}: {len(places) - len(learnable)} groups of classes without training groups are left out"
            )
        if len(learnable):
            tests[name] = learnable
    back = [place for place in _labelled(groups.places(fold.fold.calibration), labels) if labels[place] in known]
    calibration = np.array(back, dtype=int)
    return _Setting(kind, task, fold, groups, labels, classes, train, tests, calibration, notes) if tests else None


def _labelled(places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([place for place in places if labels[place] is not None], dtype=int)


def _fit(
    setting: _Setting, table: pa.Table, features: Features, progress: Progress = lambda _done, _total: None
) -> tuple[Head, Scorer]:
    """A head on these features of the training groups, and what turns places of groups into its scores."""
    labelled, method = setting.labelled, setting.fold.config["method"]
    asked = (features, setting.groups, *labelled, method)
    fitted = fit_linear_head(*asked) if setting.head == "linear" else fit_head(*asked, progress=progress)
    config = {"method": method, **labelled.knowledge(table, setting.groups)}
    head = to_store_head(setting.task.name, setting.classes, fitted, config)
    return head, lambda places: head_scores(head, table, features, setting.groups, places)


def _baselines(store: Store, setting: _Setting, table: pa.Table, where: str | None) -> Iterator[tuple[str, Scorer]]:
    """Other kinds of features with what scores groups by them, all fitted on the same training groups."""
    statistics = np.column_stack([table.column(name).to_numpy() for name in INTENSITY_STATISTICS])
    if np.isfinite(statistics).all():
        labels = setting.numbers(setting.train)
        yield "intensity", fit_intensity(statistics, setting.groups, setting.train, labels, len(setting.classes))
    else:
        setting.notes.append("intensity statistics are missing: index the images again")
    untrained = setting.fold.config.get("untrained_encoder")
    if untrained and store.known_images(untrained).num_rows:
        raw = _align(store, untrained, table, where)
        if raw is not None:
            _, score = _fit(setting, table, raw)
            yield "untrained", score
            return
    setting.notes.append(
        "the untrained encoder's embeddings are missing: phenoembed index PLATES (without --no-baseline)"
    )


def _align(store: Store, encoder: str, table: pa.Table, where: str | None) -> Features | None:
    """Another encoder's features in the order of ``table``; None where it lacks one of the images."""
    other, features = store.vectors(where, encoder=encoder)
    place = {key: row for row, key in enumerate(_keys(other))}
    rows = [place.get(key, -1) for key in _keys(table)]
    return None if -1 in rows else features[rows]


def _keys(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in IMAGE_KEY), strict=True))


def _judge(setting: _Setting, test: str, features: str, scores: NDArray[np.floating], places: np.ndarray) -> Tested:
    labels = setting.numbers(places)
    if setting.task.binary_positive is not None and len(setting.classes) == 2:
        positive = setting.classes.index(setting.task.binary_positive)
        figures = binary_metrics(softmax(scores)[:, positive], (labels == positive).astype(int))
    else:
        figures = multiclass_metrics(scores, labels)
    figures = {"n_test": len(places), **figures}
    fold = setting.fold.fold
    return Tested(fold.split, fold.index, test, features, figures, len(setting.classes), majority_share(labels))


def _compound_head(setting: _Setting, table: pa.Table, features: Features) -> list[Tested]:
    """The paper's comparison (Section 5.5): the same groups, classified into compounds instead of mechanisms."""
    if setting.fold.fold.split == "compound":
        return []  # a compound held out cannot be a class
    labelled = np.array([label is not None for label in setting.labels])
    compounds: np.ndarray = setting.groups.compounds.copy()
    compounds[~labelled] = None
    known = set(compounds[setting.train])
    classes = tuple(sorted(known))
    tests = {
        name: np.array([place for place in places if compounds[place] in known], dtype=int)
        for name, places in setting.tests.items()
    }
    other = _Setting(
        setting.head, TASKS["compound"], setting.fold, setting.groups, compounds, classes, setting.train, tests
    )
    _, score = _fit(other, table, features)
    return [
        _judge(other, name, "compound head", score(places), places) for name, places in tests.items() if len(places)
    ]


def _prediction_rows(
    setting: _Setting, test: str, features: str, scores: NDArray[np.floating], places: np.ndarray, head: str | None
) -> pa.Table:
    probability = softmax(scores)
    labels = setting.numbers(places)
    order = np.argsort(-probability, axis=1, kind="stable")[:, :N_TOP]
    groups = setting.groups.table.take(pa.array(places))
    fold, n = setting.fold.fold, len(places)
    names = np.array(setting.classes, dtype=object)
    rows: dict[str, Any] = {
        "task": [setting.task.name] * n,
        "split": [fold.split] * n,
        "fold": [fold.index] * n,
        "test": [test] * n,
        "features": [features] * n,
        "encoder": [setting.fold.encoder] * n,
        "head": [head] * n,
        "group_id": groups.column("group_id").to_pylist(),
        "compound": groups.column("compound").to_pylist(),
        "replicate": groups.column("replicate").to_pylist(),
        "label": names[labels].tolist(),
        "predicted": names[order[:, 0]].tolist(),
        "p_label": probability[np.arange(n), labels].tolist(),
        "p_predicted": probability[np.arange(n), order[:, 0]].tolist(),
        "rank_label": rank_of_label(scores, labels).tolist(),
        "top_classes": names[order].tolist(),
        "top_probabilities": np.take_along_axis(probability, order, axis=1).tolist(),
    }
    return pa.table(
        {name: pa.array(rows[name], PREDICTIONS_SCHEMA.field(name).type) for name in PREDICTIONS_SCHEMA.names}
    )
