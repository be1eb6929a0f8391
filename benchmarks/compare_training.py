"""Which training option helps on a new replicate? Each one switched on alone, `product`, on simulated screens.

    python benchmarks/compare_training.py [FOLDER] [--seeds 1 2 3] [--options none ema ...] [--kinds epithelial spindle]

Screens and the rest of the training are those of compare_methods.py. Options that differ share screen, fold, first
weights and batches, so what is compared is the difference to `none` on the same screen: by the head of the training
itself, and by heads fitted anew on the frozen embeddings of the training groups (mean of HEADS of them), which say what
the embeddings hold. Each finished training is a line of FOLDER/results.jsonl and of FOLDER/heads.jsonl and is not
repeated: interrupted, the same command goes on. Prints the tables of docs/methods.md. One and a half minutes of two
quiet cores a training.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_methods import EPOCHS, TESTS, THREADS, once, read, screen_of, settings_of, store_of, train_one
from phenoembed.encoders import load_fold
from phenoembed.groups import group_images
from phenoembed.heads import FitSettings, fit_head, head_scores, to_store_head
from phenoembed.indexing import index_screen
from phenoembed.metrics import mean_and_sd, multiclass_metrics
from phenoembed.preparation import Preparation
from phenoembed.refinements import Refinements

PLAIN, HEADS = "none", 3
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "ema": {"refinements": Refinements(average="ema")},
    "swa": {"refinements": Refinements(average="swa")},
    "label-smoothing": {"refinements": Refinements(label_smoothing=0.1)},
    "consistency": {"refinements": Refinements(consistency=1.0)},
    "warm-start": {"refinements": Refinements(warm_start=EPOCHS // 2)},
    "longer": {"epochs": EPOCHS + EPOCHS // 2},  # what the warm start costs, spent on plain training
    "plate-normalise": {"preparation": Preparation(normalise="plate")},
}
"""What of the settings each option changes."""


def main() -> None:
    """Train what is not trained yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("compare-training"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--kinds", nargs="+", default=["epithelial", "spindle"], help="of simulated cells")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    results, heads = asked.folder / "results.jsonl", asked.folder / "heads.jsonl"
    asked.folder.mkdir(parents=True, exist_ok=True)
    for option in asked.options:
        for seed in asked.seeds:
            for kind in asked.kinds:
                key = {"kind": kind, "seed": seed, "option": option}
                once(results, key, lambda key=key: run(asked.folder, **key))
                (row,) = (row for row in read(results) if row.items() >= key.items())
                once(
                    heads,
                    key,
                    lambda key=key, row=row: fit_heads(asked.folder, key["kind"], key["seed"], row["encoder"]),
                )
    for said, file in (("the training's own head", results), ("heads fitted anew", heads)):
        rows = [row for row in read(file) if row["seed"] in asked.seeds and row["kind"] in asked.kinds]
        for kind in asked.kinds:
            print(f"\n{said}, {kind}\n\n{table([row for row in rows if row['kind'] == kind])}")
        print(f"\n{said}, all kinds\n\n{table(rows)}")


def run(folder: Path, kind: str, seed: int, option: str) -> dict[str, Any]:
    """One training."""
    return train_one(screen_of(folder, seed, kind), store_of(folder, seed, kind), settings_of(seed, **OPTIONS[option]))


def fit_heads(folder: Path, kind: str, seed: int, encoder: str) -> dict[str, Any]:
    """Figures of heads on the encoder's frozen embeddings, each from a seed of its own: their mean."""
    store = store_of(folder, seed, kind)
    index_screen(screen_of(folder, seed, kind), store, encoder, baseline=False)
    images, features = store.vectors(encoder=encoder)
    groups, fold = group_images(images), load_fold(store.path, encoder)

    def treated(ids: tuple[str, ...]) -> np.ndarray:
        places = groups.places(ids)
        return places[groups.roles[places] == "treated"]

    train = treated(fold.train)
    classes = sorted(set(groups.compounds[train]))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in TESTS}
    for number in range(HEADS):
        labels = np.searchsorted(classes, groups.compounds[train])
        fitted = fit_head(features, groups, train, labels, len(classes), settings=FitSettings(seed=number))
        head = to_store_head("compound", tuple(classes), fitted, {"method": "product"})
        for name, ids in zip(TESTS, (fold.test, fold.known_wells), strict=True):
            scores = head_scores(head, images, features, groups, treated(ids))
            found[name].append(multiclass_metrics(scores, np.searchsorted(classes, groups.compounds[treated(ids)])))
    return {"encoder": encoder, **{name: mean_and_sd(figures)[0] for name, figures in found.items()}}


def table(rows: list[dict[str, Any]]) -> str:
    """Top-1 and top-5 (mean ± sd over screens), and their differences to the plain training on the same screen.

    In brackets how often the option was ahead, equal, behind. Markdown.
    """
    plain = {(row["kind"], row["seed"]): row for row in rows if row["option"] == PLAIN}
    lines = ["| option | test groups | screens | top-1 | minus none | top-5 | minus none |", "| --- " * 7 + "|"]
    for option in OPTIONS:
        own = [row for row in rows if row["option"] == option and (row["kind"], row["seed"]) in plain]
        for name, spoken in TESTS.items() if own else ():
            cells = [option, spoken, str(len(own))]
            for figure in ("top1", "top5"):
                found = np.array([row[name][figure] for row in own])
                gains = found - np.array([plain[row["kind"], row["seed"]][name][figure] for row in own])
                cells += [_spread(found), "" if option == PLAIN else f"{_spread(gains, '+')} ({_counts(gains)})"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _counts(gains: np.ndarray) -> str:
    return ", ".join(str(int(found.sum())) for found in (gains > 0, gains == 0, gains < 0))


def _spread(values: np.ndarray, sign: str = "") -> str:
    return f"{values.mean():{sign}.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
