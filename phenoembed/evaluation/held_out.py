"""Groups that an encoder never saw, under the classifier it was trained with: what most experiments look at.

Everything follows from stored embeddings: whatever images of a group are kept, left out or repeated, its scores are
computed anew without opening one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phenoembed.encoders import load_classifier
from phenoembed.families import TrainedFold, siblings
from phenoembed.folds import SPLITS, TEST_NAMES, Split
from phenoembed.groups import group_images
from phenoembed.heads import own_head
from phenoembed.outcomes import KNOWN_WELLS
from phenoembed.progress import Progress
from phenoembed_store import Head, Store
from phenoembed_store.errors import NotInStore
from phenoembed_store.posterior import image_scores

Rows = NDArray[np.int64]
Cell = tuple[str, Split, str]  # method, split, test
READ_AS = " read as "  # between the method of a training and another by which its scores are brought together


@dataclass(frozen=True)
class HeldOut:
    """One encoder's test groups of one kind. ``rows``, ``group``: which images, and whose; the groups are 0..n-1."""

    encoder: str
    method: str
    split: Split
    fold: int
    test: str
    head: Head
    images: pa.Table  # of every image of the encoder: its columns, annotations and places
    vectors: NDArray[np.float32]
    rows: Rows  # (test images,) into ``images`` and ``vectors``
    group: Rows  # (test images,) 0..n-1
    configuration: Rows  # (test images,) by rising dose, then time, within a group
    group_ids: tuple[str, ...]
    labels: Rows  # (groups,) class numbers

    @property
    def cell(self) -> Cell:
        """Method, split and test: folds of one cell are averaged."""
        return self.method, self.split, self.test

    @property
    def compounds(self) -> NDArray[np.object_]:
        """(groups,) the true compound's name."""
        return np.array(self.head.classes, dtype=object)[self.labels]

    def column(self, name: str) -> NDArray[Any]:
        """(test images,) a column of the images."""
        return np.asarray(self.images.column(name).to_numpy(zero_copy_only=False)[self.rows])

    def scores(self) -> NDArray[np.float64]:
        """(groups, classes) from all of a group's images."""
        embeddings = self.vectors[self.rows]
        return image_scores(self.head, self.images, self.rows, embeddings, self.group, self.configuration)

    def named(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """(groups,) the true compound's name, and that of the highest score."""
        return self.compounds, np.array(self.head.classes, dtype=object)[scores.argmax(axis=1)]

    def chosen(self, kept: NDArray[np.bool_]) -> "HeldOut":
        """The same with only the images that are kept; groups that lose all are gone."""
        left, group = np.unique(self.group[kept], return_inverse=True)
        return replace(
            self,
            rows=self.rows[kept],
            group=group.astype(np.int64),
            configuration=self.configuration[kept],
            group_ids=tuple(self.group_ids[i] for i in left),
            labels=self.labels[left],
        )

    def with_images(self, rows: Rows, group: Rows, configuration: Rows) -> "HeldOut":
        """The same groups with further images (rows of ``images``) in these groups and configurations."""
        return replace(
            self,
            rows=np.concatenate([self.rows, rows]),
            group=np.concatenate([self.group, group]),
            configuration=np.concatenate([self.configuration, configuration]),
        )

    def single_images(self) -> "HeldOut":
        """Every image a group of its own: the per-image model, Eq. (1)."""
        return replace(
            self,
            group=np.arange(len(self.rows)),
            group_ids=tuple(self.group_ids[i] for i in self.group),
            labels=self.labels[self.group],
        )


@dataclass(frozen=True)
class Trials:
    """The encoders of an evaluation: trained alike but for method, split and fold."""

    store: Store
    encoder: str  # the one asked for; else one of ``best_method``
    folds: tuple[TrainedFold, ...]
    notes: tuple[str, ...]
    where: str | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of METHODS."""
        return tuple(dict.fromkeys(str(one.config["method"]) for one in self.folds))

    @property
    def screens(self) -> list[str]:
        return sorted({str(name) for one in self.folds for name in one.config["screens"]})

    def cells(self, method: str) -> list[tuple[Cell, bool]]:
        """The tests of a method, the paper's split first, and whether there is an encoder for it."""
        trained_as = method.split(READ_AS)[0]
        there = {one.fold.split for one in self.folds if one.config["method"] == trained_as}
        tests: list[tuple[Split, str]] = [("field", KNOWN_WELLS), ("replicate", TEST_NAMES["replicate"])]
        tests.append(("replicate", KNOWN_WELLS))
        return [((method, split, test), split in there) for split, test in tests]

    def held_out(self, progress: Progress | None = None, methods: Sequence[str] | None = None) -> Iterator[HeldOut]:
        """Every test of every encoder, one encoder's embeddings in memory at a time.

        Raises NotInStore where there is not one.
        """
        found = False
        chosen = [one for one in self.folds if methods is None or one.config["method"] in methods]
        for number, one in enumerate(chosen):
            if one.fold.split != "compound":  # compounds that were held out are no classes
                for test in held_out(self.store, one, self.where):
                    found = True
                    yield test
            if progress:
                progress(number + 1, len(chosen))
        if not found:
            among = f" where {self.where}" if self.where else ""
            raise NotInStore(f"no treated group{among} is among those that the encoders were not trained on")

    def best_method(self) -> str:
        """``product``, the paper's, where it is there."""
        return _best(self.methods)


def find_trials(store: Store, encoder: str | None, where: str | None = None) -> Trials:
    """The encoders to evaluate: ``encoder`` (the last trained) and those trained alike. Raises NotInStore."""
    folds, notes = siblings(store, encoder)
    if not any(one.fold.split in ("field", "replicate") for one in folds):
        raise NotInStore(f"of the splits {', '.join(SPLITS[:2])} no encoder is trained and indexed")
    methods = [str(one.config["method"]) for one in folds]
    chosen = store.resolve_encoder(encoder) if encoder else folds[methods.index(_best(methods))].encoder
    return Trials(store, chosen, tuple(folds), tuple(notes), where)


def _best(methods: Sequence[str]) -> str:
    return "product" if "product" in methods else methods[0]


def held_out(store: Store, trained: TrainedFold, where: str | None) -> Iterator[HeldOut]:
    """The tests of one encoder: of the replicate split two, of the field split one."""
    images, vectors = store.vectors(where, encoder=trained.encoder)
    groups = group_images(images)
    head = own_head(load_classifier(store.path, trained.encoder), trained.config)
    number = {name: i for i, name in enumerate(head.classes)}
    split = trained.fold.split
    for test, ids in ((TEST_NAMES[split], trained.fold.test), (KNOWN_WELLS, trained.fold.known_wells)):
        places = groups.places(ids)
        treated = [p for p in places if groups.roles[p] == "treated" and groups.compounds[p] in number]
        if not treated:
            continue
        sizes = [len(groups.rows[place]) for place in treated]
        yield HeldOut(
            trained.encoder,
            str(trained.config["method"]),
            split,
            trained.fold.index,
            test,
            head,
            images,
            vectors,
            np.concatenate([groups.rows[place] for place in treated]).astype(np.int64),
            np.repeat(np.arange(len(treated)), sizes),
            np.concatenate([groups.configurations[place] for place in treated]).astype(np.int64),
            tuple(groups.table.column("group_id").take(pa.array(treated)).to_pylist()),
            np.array([number[groups.compounds[place]] for place in treated], dtype=np.int64),
        )


def annotation(held: HeldOut, name: str, hint: str) -> Mapping[str, Any]:
    """A compound's value of an annotation column; compounds without one are left out. Raises NotInStore."""
    if name not in held.images.column_names:
        raise NotInStore(f"no column {name!r} ({hint}); bring it: phenoembed annotate TABLE --on compound")
    pairs = zip(held.images.column("compound").to_pylist(), held.images.column(name).to_pylist(), strict=True)
    return {compound: value for compound, value in pairs if value not in (None, "")}
