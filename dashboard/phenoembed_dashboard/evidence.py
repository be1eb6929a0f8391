"""Which images made the call? Evidence adds over a group's images, so each one's share can be read off and taken away.

Everything follows from the stored embeddings and a head's two matrices: no image is read, no network runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.strips import COLUMNS, Record
from phenoembed_store import Head, Store

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
ADDING = ("product", "baseline", "balanced")


@dataclass(frozen=True, eq=False)
class GroupEvidence:
    """A group's images under a head. logits: (images, classes); weight: (images,) what its dose and time weighs in a
    balanced head."""

    records: tuple[Record, ...]
    classes: tuple[str, ...]
    logits: Doubles
    weight: Doubles
    balanced: bool
    temperature: float

    def posterior(self, kept: Flags | None = None) -> Doubles:
        """Class probabilities (classes,) from the images that are kept; uniform where none is."""
        kept = np.ones(len(self.records), np.bool_) if kept is None else kept
        if not kept.any():
            return np.full(len(self.classes), 1 / len(self.classes))
        raised = self.shares(kept).sum(axis=0) / self.temperature
        raised = np.exp(raised - raised.max())
        found: Doubles = raised / raised.sum()
        return found

    def shares(self, kept: Flags) -> Doubles:
        """(kept images, classes): what each image adds to the group's score; a balanced head averages within a dose
        and time first."""
        logits = self.logits[kept]
        if not self.balanced:
            return logits
        places = self.places()[kept]
        counts = np.bincount(places, minlength=int(places.max(initial=0)) + 1)
        return logits * (self.weight[kept] / counts[places])[:, None]

    def places(self) -> npt.NDArray[np.int64]:
        """A number for each image's dose and time; a control's wells stand where doses would."""
        keys = [(r["well"] if r["role"] == "control" else r["concentration_um"], r["time_h"]) for r in self.records]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        return np.array([number[key] for key in keys], np.int64)

    def log_odds(self, called: int, rival: int, kept: Flags | None = None) -> Doubles:
        """(images,) what each image adds to the log-odds of one class against another; 0 for those switched off."""
        kept = np.ones(len(self.records), np.bool_) if kept is None else kept
        found = np.zeros(len(self.records))
        shares = self.shares(kept)
        found[kept] = (shares[:, called] - shares[:, rival]) / self.temperature
        return found

    def without(self, called: int, column: str) -> list[dict[str, Any]]:
        """For each value of a column: the probability of the call without its images, and from them alone."""
        values = [record[column] for record in self.records]
        rows = []
        for value in sorted({v for v in values if v is not None}):
            mine = np.array([v == value for v in values])
            rows.append(
                {
                    column: value,
                    "n_images": int(mine.sum()),
                    "p_without": float(self.posterior(~mine)[called]),
                    "p_alone": float(self.posterior(mine)[called]),
                }
            )
        return rows


@dataclass(frozen=True)
class GroupChoice:
    """One group of a compound. ``unseen``: the test that held it out of the encoder's training, None if unknown."""

    group_id: str
    replicate: str
    set: int
    field: int
    unseen: str | None


def group_choices(store: Store, catalogue: Catalogue, compound: str) -> list[GroupChoice]:
    """The groups of a compound, those that the encoder never saw first."""
    rows = catalogue.rows_of(compound)
    held_out = held_out_groups(store, catalogue)
    seen: dict[str, GroupChoice] = {}
    for record in catalogue.records(rows, ("group_id", "replicate", "set", "field")):
        name = record["group_id"]
        if name is not None and name not in seen:
            seen[name] = GroupChoice(name, record["replicate"], record["set"], record["field"], held_out.get(name))
    rank = {"new replicate": 0, "new compound": 0, "known wells": 1, None: 2}
    return sorted(seen.values(), key=lambda one: (rank.get(one.unseen, 1), one.replicate, one.set, one.field))


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
    return GroupEvidence(
        tuple(catalogue.records(rows, COLUMNS)),
        head.classes,
        head.logits(catalogue.vectors[rows]).astype(np.float64),
        head.weights(*(catalogue.column(name)[rows].astype(np.float64) for name in ("concentration_um", "time_h"))),
        str(head.config.get("method", "product")) == "balanced",
        head.temperature,
    )


def adds(head: Head) -> bool:
    """Whether a head's evidence adds over images."""
    return str(head.config.get("method", "product")) in ADDING


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
            parts.append(f"{info.config['split']} split, fold {info.config.get('fold')}")
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
