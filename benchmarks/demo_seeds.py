"""Does the encoder beat its baselines on a new replicate? The demo over several seeds (simulated, minutes each).

    python benchmarks/demo_seeds.py [FOLDER] [SEED ...]

Each seed is another screen and another training. Interrupted, the same command goes on. Not part of `make bench`,
which measures speed.
"""

import sys
from pathlib import Path

import numpy as np
from phenoembed.demo import Demo, run_demo
from phenoembed.retrieval import agreement, nearest_compounds

FEATURES = ("encoder", "untrained", "intensity")


def main(folder: Path, seeds: list[int]) -> None:
    """Run the demo for every seed and print the pooled figures as Markdown."""
    demos = []
    for seed in seeds:
        demo = run_demo(folder / f"seed{seed}", seed=seed)
        demos.append(demo)
        print(f"seed {seed}: {sum(demo.seconds.values()):.0f} s ({demo.seconds})", file=sys.stderr)
    for task in demos[0].probes:
        print_task(task, demos)
    pooled = agreement([nearest_compounds(demo.store, encoder=demo.encoder) for demo in demos])
    print(
        f"Five nearest compounds share the mechanism: {pooled.share:.3f}, chance {pooled.chance:.3f}, "
        f"permutation p = {pooled.p_value:.4f} ({pooled.n_compounds} compounds, {len(demos)} seeds pooled)"
    )


def print_task(task: str, demos: list[Demo]) -> None:
    """Mean ± sd over seeds of every kind of features, and of the paired differences."""
    figure = "balanced_accuracy" if task == "treatment" else "top1"
    print(f"\n{task}: {figure}, mean ± sd over {len(demos)} seeds (simulated)\n")
    print("| test groups | " + " | ".join(FEATURES) + " | encoder - untrained | encoder - intensity | chance |")
    print("| --- " * 7 + "|")
    for split, test in demos[0].probes[task].rows():
        values = {
            name: np.array([_figure(demo, task, split, test, name, figure) for demo in demos]) for name in FEATURES
        }
        gains = [values["encoder"] - values[name] for name in FEATURES[1:]]
        chance = 1 / demos[0].probes[task].select(split, test, "encoder")[0].classes
        cells = [_mean_sd(found) for found in (*values.values(), *gains)]
        print(f"| {test} | " + " | ".join(cells) + f" | {chance:.3f} |")
    print()


def _figure(demo: Demo, task: str, split: object, test: str, features: str, figure: str) -> float:
    summary = demo.probes[task].summary(split, test, features)  # type: ignore[arg-type]
    return float("nan") if summary is None else float(summary["mean"][figure])


def _mean_sd(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-seeds"), [int(seed) for seed in sys.argv[2:]] or [0, 1, 2])
