"""Section 5.5 and Fig. 9: mechanisms of action from a frozen encoder, and a compound head on the same groups."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from phenoembed.evaluation.held_out import Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of, percent
from phenoembed.evaluation.paper import MOA
from phenoembed.evaluation.probed import probe_rows
from phenoembed.outcomes import Report
from phenoembed.probes import probe
from phenoembed.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare_moa(trials: Trials, progress: Progress) -> Outcome:
    """Top-1 accuracy of a mechanism head and of a compound head; whole compounds held out too, where trained."""
    report = probe(trials.store, "moa", encoder=trials.encoder, where=trials.where, progress=progress)
    sizes = class_sizes(trials)
    singles = list(sizes.values()).count(1)
    table = Table(
        f"Mechanism of action: top-1 accuracy [%]; {len(sizes)} mechanisms, {singles} of one compound",
        ("split", "test groups", "MoA head", "macro F1", "compound head", "intensity", "chance", "majority", "folds",
         "paper: MoA", "paper: compound"),
        tuple(probe_rows(report, lambda split, test: _row(report, split, test), (MOA["moa"], MOA["compound"]))),
    )  # fmt: skip
    document = {
        "moa": {split: report.document(split) for split in dict.fromkeys(one.split for one in report.tested)},
        "compounds_a_mechanism": sizes,
    }
    return Outcome("moa", data_of(trials.screens), (table,), document, lambda f: _draw(f, sizes), report.notes)


def class_sizes(trials: Trials) -> dict[str, int]:
    """Compounds of each mechanism, the largest first."""
    table, _ = trials.store.vectors(trials.where, encoder=trials.encoder, columns=("compound", "moa", "role"))
    rows = zip(*(table.column(name).to_pylist() for name in ("compound", "moa", "role")), strict=True)
    pairs = {(str(moa), compound) for compound, moa, role in rows if role == "treated" and moa}
    return dict(Counter(moa for moa, _ in sorted(pairs)).most_common())


def _row(report: Report, split: Any, test: str) -> tuple[Any, ...]:
    cells = {name: [one.figures for one in report.select(split, test, name)] for name in _FEATURES}
    found = report.select(split, test, "encoder")
    return (
        percent(cells["encoder"], "top1"),
        percent(cells["encoder"], "f1_macro"),
        percent(cells["compound head"], "top1"),
        percent(cells["intensity"], "top1"),
        f"{100 / found[0].classes:.2f}",
        f"{100 * np.mean([one.majority for one in found]):.2f}",
        len(found),
    )


_FEATURES = ("encoder", "compound head", "intensity")


def _draw(figure: "Figure", sizes: dict[str, int]) -> None:
    """Fig. 9: how many mechanisms have how many compounds."""
    from matplotlib.ticker import MaxNLocator

    axis = figure.subplots()
    counts = Counter(sizes.values())
    drawn = axis.bar([str(size) for size in sorted(counts)], [counts[size] for size in sorted(counts)])
    axis.bar_label(drawn)
    axis.set(xlabel="compounds of a mechanism", ylabel="mechanisms")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
