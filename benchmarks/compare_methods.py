"""Which method recognises compounds best? Every method of ``--method`` on simulated screens, over seeds.

    python benchmarks/compare_methods.py [FOLDER] [--seeds 1 2 3] [--methods product balanced ...] [--kind epithelial]

A seed is a screen (16 compounds, 3 replicates, 4 fields, 64 px) and a training (12 epochs, one fold of the replicate
split) of its own; learning rate and batch size are the demo's, since the paper's make too few steps here. Each finished
training is a line of FOLDER/results.jsonl and is not repeated: interrupted, the same command goes on. Prints the table
of docs/methods.md. Half an hour of two quiet cores.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from phenoembed.demo import Scale
from phenoembed.indexing import index_screen
from phenoembed.methods import METHODS
from phenoembed.metrics import mean_and_sd
from phenoembed.readers import read_screen
from phenoembed.screen import Screen
from phenoembed.settings import Settings
from phenoembed.simulate import simulate_screen
from phenoembed.training import train

from phenoembed_store import Store
from phenoembed_store import open as open_store

THREADS = 2
COMPOUNDS, REPLICATES, FIELDS, SIZE, EPOCHS = 16, 3, 4, 64, 12
TESTS = {"test": "new replicate", "test_known_wells": "known wells"}


def main() -> None:
    """Train what is not trained yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("compare-methods"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--kind", default="epithelial", help="of simulated cells")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    results = options.folder / "results.jsonl"
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for method in options.methods:
            key = {"kind": options.kind, "seed": seed, "method": method}
            once(results, key, lambda key=key: run(options.folder, **key))
    rows = [row for row in read(results) if row["kind"] == options.kind and row["seed"] in options.seeds]
    print(table(rows, options.methods))


def read(results: Path) -> list[dict[str, Any]]:
    """The trainings that are done."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def once(results: Path, key: dict[str, Any], work: Callable[[], dict[str, Any]]) -> None:
    """Add the row of this training to the results, unless it is there."""
    if not any(row.items() >= key.items() for row in read(results)):
        row = key | work()
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), file=sys.stderr, flush=True)


def run(folder: Path, seed: int, method: str, kind: str) -> dict[str, Any]:
    """Simulate (once a seed), train and index one encoder."""
    screen = screen_of(folder, seed, kind)
    store = store_of(folder, seed, kind)
    row = train_one(screen, store, settings_of(seed, method=method))
    index_screen(screen, store, row["encoder"], baseline=False)
    return row


def screen_of(folder: Path, seed: int, kind: str) -> Screen:
    """The screen of a seed, simulated where it is not there yet."""
    plates = folder / f"{kind}-{seed}" / "plates"
    simulate_screen(plates, compounds=COMPOUNDS, replicates=REPLICATES, fields=FIELDS, size=SIZE, seed=seed, kind=kind)
    return read_screen(plates)


def store_of(folder: Path, seed: int, kind: str) -> Store:
    """Where the encoders of a screen are put."""
    return open_store(folder / f"{kind}-{seed}" / "store", create=True)


def settings_of(seed: int, **changed: Any) -> Settings:
    """What all trainings here have in common: the demo's learning rate and batches, EPOCHS epochs."""
    scale = Scale()
    plain = Settings(epochs=EPOCHS, batch_groups=scale.batch_groups, learning_rate=scale.learning_rate, seed=seed)
    return replace(plain, **changed)


def train_one(screen: Screen, store: Store, settings: Settings) -> dict[str, Any]:
    """One training: its encoder, seconds and figures."""
    started = time.perf_counter()
    trained = train(screen, store.path, settings, resume=None)
    seconds = time.perf_counter() - started
    return {"encoder": trained.encoder, "seconds": seconds, **{name: getattr(trained, name) for name in TESTS}}


def table(rows: list[dict[str, Any]], methods: list[str]) -> str:
    """Mean ± sd over seeds, as Markdown."""
    figures = ("top1", "top5", "f1_macro", "ece_uncalibrated", "ece")
    lines = [
        f"Simulated, {COMPOUNDS} compounds, {EPOCHS} epochs; mean ± sd over seeds; chance {1 / COMPOUNDS:.3f}",
        "",
        f"| method | test groups | {' | '.join(figures)} | seeds |",
        "| --- " * (3 + len(figures)) + "|",
    ]
    for method in methods:
        for name, spoken in TESTS.items():
            found = [row[name] for row in rows if row["method"] == method]
            if not found:
                continue
            mean, sd = mean_and_sd(found)
            cells = [f"{mean[f]:.3f}" + (f" ± {sd[f]:.3f}" if sd[f] is not None else "") for f in figures if f in mean]
            lines.append(f"| {method} | {spoken} | {' | '.join(cells)} | {len(found)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
