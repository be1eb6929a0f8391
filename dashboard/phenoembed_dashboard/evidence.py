"""Which images made the call? A group's posterior with some of its images taken away, for a head of any method.

Everything follows from the stored embeddings and the head's matrices: no image is read, no network runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.strips import COLUMNS, Record
from phenoembed_store import Head, Store
from phenoembed_store.doubt import new_configurations
from phenoembed_store.posterior import group_posteriors

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
ADDING = ("product", "baseline", "balanced")
FLOOR = 1e-12  # of a probability, where its logarithm is taken


@dataclass(frozen=True, eq=False)
class GroupEvidence:
    """A group's images and a head. vectors: (images, dim); configuration: (images,) numbers of dose and time."""

    records: tuple[Record, ...]
    vectors: Floats
    configuration: npt.NDArray[np.int64]
    head: Head

    @property
    def classes(self) -> tuple[str, ...]:
        return self.head.classes

    @property
    def adds(self) -> bool:
        """Whether the evidence of single images adds up to that of the group."""
        return self.head.method in ADDING

    def posterior(self, kept: Flags | None = None) -> Doubles:
        """Class probabilities (classes,) from the images that are kept; uniform where none is."""
        kept = np.ones(len(self.records), np.bool_) if kept is None else kept
        found: Doubles = self.posteriors(kept[None])[0]
        return found

    def posteriors(self, kept: Flags) -> Doubles:
        """The same of several choices of images at once: (choices, images) -> (choices, classes)."""
        found = np.full((len(kept), len(self.classes)), 1 / len(self.classes))
        some = np.flatnonzero(kept.any(axis=1))
        if len(some):
            choice, image = np.nonzero(kept[some])
            places, new = self.configuration[image], self.new[image]
            found[some] = group_posteriors(self.head, self.vectors[image], choice, places, new)
        return found

    @cached_property
    def new(self) -> Flags:
        """(images,) which are of doses and times that the head was not fitted on."""
        dose, time = (np.array([one[name] for one in self.records], float) for name in ("concentration_um", "time_h"))
        return new_configurations(self.head, dose, time, np.array([one["role"] == "control" for one in self.records]))

    def log_odds(self, called: int, rival: int, kept: Flags | None = None) -> Doubles:
        """(images,) what each image does for one class against another: the log-odds of the kept images, less their
        log-odds without it; 0 for those switched off. These add up to the whole for ``product`` and ``baseline``."""
        kept = np.ones(len(self.records), np.bool_) if kept is None else kept
        own = np.flatnonzero(kept)
        choices = np.repeat(kept[None], len(own) + 1, axis=0)
        choices[np.arange(len(own)), own] = False  # the last choice leaves all of them in
        probabilities = np.log(np.maximum(self.posteriors(choices)[:, [called, rival]], FLOOR))
        odds = probabilities[:, 0] - probabilities[:, 1]
        found = np.zeros(len(self.records))
        found[own] = odds[-1] - odds[:-1]
        return found

    def without(self, called: int, column: str) -> list[dict[str, Any]]:
        """For each value of a column: the probability of the call without its images, and from them alone."""
        values = [record[column] for record in self.records]
        there = sorted({value for value in values if value is not None})
        mine = np.array([[value == one for value in values] for one in there], np.bool_).reshape(len(there), -1)
        alone, without = self.posteriors(mine)[:, called], self.posteriors(~mine)[:, called]
        return [
            {column: one, "n_images": int(mine[i].sum()), "p_without": float(without[i]), "p_alone": float(alone[i])}
            for i, one in enumerate(there)
        ]


@dataclass(frozen=True)
class GroupChoice:
    """One group of a compound. ``unseen``: the test that held it out of the encoder's training, None if unknown.

    screen: empty where the store has but one.
    """

    group_id: str
    screen: str
    replicate: str
    set: int
    field: int
    unseen: str | None


def group_choices(store: Store, catalogue: Catalogue, compound: str) -> list[GroupChoice]:
    """The groups of a compound, those that the encoder never saw first."""
    rows = catalogue.rows_of(compound)
    held_out = held_out_groups(store, catalogue)
    seen: dict[str, GroupChoice] = {}
    several = len(catalogue.values("screen")) > 1
    for record in catalogue.records(rows, ("group_id", "screen", "replicate", "set", "field")):
        name = record["group_id"]
        if name is not None and name not in seen:
            place = (record["screen"] if several else "", record["replicate"], record["set"], record["field"])
            seen[name] = GroupChoice(name, *place, held_out.get(name))
    rank = {"new replicate": 0, "new compound": 0, "known wells": 1, None: 2}
    order = attrgetter("screen", "replicate", "set", "field")
    return sorted(seen.values(), key=lambda one: (rank.get(one.unseen, 1), order(one)))


def held_out_groups(store: Store, catalogue: Catalogue) -> dict[str, str]:
    """Groups that probes tested this encoder on: by id, the name of the test."""
    import pyarrow.compute as pc

    predictions = store.predictions()
    mine = predictions.filter(
        pc.and_(
            pc.equal(predictions.column("encoder"), catalogue.encoder),
            pc.equal(predictions.column("features"), "encoder"),
        )
    )
    return dict(zip(mine.column("group_id").to_pylist(), mine.column("test").to_pylist(), strict=True))


def group_evidence(catalogue: Catalogue, head: Head, group_id: str, compound: str) -> GroupEvidence:
    """The evidence of one group of a compound under a head."""
    rows = catalogue.rows_of(compound)
    rows = rows[catalogue.column("group_id")[rows] == group_id]
    rows = rows[np.lexsort((catalogue.column("time_h")[rows], catalogue.column("concentration_um")[rows]))]
    places = np.asarray(catalogue.column("configuration")[rows], np.int64)
    return GroupEvidence(tuple(catalogue.records(rows, COLUMNS)), catalogue.vectors[rows], places, head)


def usable_heads(store: Store, catalogue: Catalogue) -> dict[str, str]:
    """Heads of this encoder by id, each with a line that describes it: the newest of a task first."""
    found: dict[str, str] = {}
    counted: dict[str, int] = {}
    for info in reversed(store.heads()):
        if info.encoder != catalogue.encoder:
            continue
        counted[info.task] = counted.get(info.task, 0) + 1
        parts = [info.task, f"{info.n_classes} classes"]
        if info.config.get("split"):
            parts.append(f"{info.config['split']} fold {info.config.get('fold')}")
        if counted[info.task] > 1:
            parts.append(f"earlier, {info.id[:6]}")
        found[info.id] = " · ".join(parts)
    order = {"compound": 0, "moa": 1, "treatment": 2}
    return dict(sorted(found.items(), key=lambda pair: order.get(pair[1].split(" ")[0], 3)))


def top_classes(before: Doubles, after: Doubles, n: int = 6) -> list[int]:
    """The most probable classes, by the larger of two posteriors."""
    found: Sequence[int] = np.argsort(-np.maximum(before, after), kind="stable")[:n].tolist()
    return list(found)


def group_compound(evidence: GroupEvidence) -> str:
    """The compound that the group really is of."""
    return str(evidence.records[0]["compound"])


def dose_of(record: Record) -> Any:
    """What stands in a group where a dose would: the well, for a control."""
    return record["well"] if record["role"] == "control" else record["concentration_um"]
