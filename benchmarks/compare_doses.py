"""What should a head make of doses that it was not fitted on? Believe, doubt or leave them out, on simulated screens.

    python benchmarks/compare_doses.py FOLDER [--seeds 1 2 3] [--kinds epithelial spindle]

FOLDER is one of compare_methods.py with `product` trainings. Heads by `balanced` are fitted on their frozen embeddings:
on all doses, then without the lowest, the middle and the highest dose of each compound, which test groups have all the
same. Test groups as they are, and with as many doses of DMSO again. Prints the tables of docs/methods.md, top-1, mean
± sd over screens. A minute a screen.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from compare_methods import read, store_of
from phenoembed.controls import with_controls
from phenoembed.evaluation.duplicates import with_dmso_doses
from phenoembed.evaluation.held_out import HeldOut, held_out
from phenoembed.families import TrainedFold, family
from phenoembed.groups import Groups, group_images
from phenoembed.heads import FitSettings, fit_head, to_store_head
from phenoembed.metrics import multiclass_metrics

from phenoembed_store import Head, Store, doubt

HEADS, DRAWS = 3, 5
LEFT_OUT = {"none": None, "the lowest": 0, "the middle": 1, "the highest": 2}
SHOWS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""How probable it is that a new dose does something: from leaving it out to believing it, less or more."""


@dataclass(frozen=True)
class Screen:
    """One screen's embeddings under its plain training, and each image's dose by rank within its compound."""

    store: Store
    trained: TrainedFold
    groups: Groups
    features: np.ndarray
    dose: np.ndarray  # (images,) 0 for a compound's lowest; -1 for controls
    images: pa.Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", default=["epithelial", "spindle"])
    asked = parser.parse_args()
    torch.set_num_threads(1)  # heads are small: threads would wait for each other
    found: dict[tuple[str, str, float, str], list[float]] = defaultdict(list)
    for row in read(asked.folder / "results.jsonl"):
        if row["method"] == "product" and row["seed"] in asked.seeds and row["kind"] in asked.kinds:
            print(row["kind"], row["seed"], file=sys.stderr, flush=True)
            screen = screen_of(store_of(asked.folder, row["seed"], row["kind"]), row["encoder"])
            for name, number in LEFT_OUT.items():
                for key, figures in judge(screen, number).items():
                    found[(name, *key)].append(float(np.mean(figures)))
    print("| test groups | left out | with | " + " | ".join(f"{shows:g}" for shows in SHOWS) + " |")
    print("| --- " * (3 + len(SHOWS)) + "|")
    for test in ("new replicate", "known wells"):
        for name in LEFT_OUT:
            for put_in in ("nothing", "DMSO"):
                values = [np.array(found[name, test, shows, put_in]) for shows in SHOWS]
                cells = [f"{one.mean():.3f} ± {one.std(ddof=1):.3f}" for one in values]
                print(f"| {test} | {name} | {put_in} | {' | '.join(cells)} |")


def screen_of(store: Store, encoder: str) -> Screen:
    (trained,) = (one for one in family(store, encoder)[0] if one.encoder == encoder)
    images, features = store.vectors(encoder=encoder)
    groups = group_images(images)
    concentration, compound = (images.column(name).to_numpy() for name in ("concentration_um", "compound"))
    dose = np.full(len(compound), -1)
    for name in set(groups.compounds[groups.roles == "treated"]):
        mine = compound == name
        dose[mine] = np.searchsorted(np.unique(concentration[mine]), concentration[mine])
    return Screen(store, trained, groups, features, dose, images)


def judge(screen: Screen, left_out: int | None) -> dict[tuple[str, float, str], list[float]]:
    """Top-1 of heads fitted without a dose, by test, belief in new doses, and what is put into the groups."""
    found: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    tests = [(held.test, *one) for held in held_out(screen.store, screen.trained, None) for one in changed(held)]
    for seed in range(HEADS):
        head = fitted(screen, left_out, seed)
        for test, put_in, groups in tests:
            for shows in SHOWS:
                doubt.SHOWS = shows
                with np.errstate(divide="ignore"):  # the logarithm of no belief, or of no doubt
                    scores = replace(groups, head=head).scores()
                found[test, shows, put_in].append(multiclass_metrics(scores, groups.labels)["top1"])
    return found


def changed(held: HeldOut) -> Iterator[tuple[str, HeldOut]]:
    yield "nothing", held
    for draw in range(DRAWS):
        yield "DMSO", with_dmso_doses(held, seed=draw)


def fitted(screen: Screen, left_out: int | None, seed: int) -> Head:
    """A head on the training groups, which have lost a dose."""
    kept = [np.flatnonzero(screen.dose[rows] != left_out) for rows in screen.groups.rows]
    rows = tuple(own[some] for own, some in zip(screen.groups.rows, kept, strict=True))
    places = tuple(own[some] for own, some in zip(screen.groups.configurations, kept, strict=True))
    groups = replace(screen.groups, rows=rows, configurations=places)
    train = groups.places(screen.trained.fold.train)
    treated = train[groups.roles[train] == "treated"]
    classes = tuple(screen.trained.config["classes"])
    labels = np.searchsorted(classes, groups.compounds[treated]).astype(np.int64)
    labelled = with_controls("balanced", groups, train, treated, labels, len(classes))
    head = fit_head(screen.features, groups, *labelled, "balanced", FitSettings(seed=seed))
    knowledge = labelled.knowledge(screen.images, groups)
    return to_store_head("compound", classes, head, {"method": "balanced", **knowledge})


if __name__ == "__main__":
    main()
