"""Section 5.7: compounds of a screen that the encoder never saw; only a head is trained, and DMSO is a class."""

from typing import TYPE_CHECKING, Any

import numpy as np

from phenoembed.evaluation.held_out import Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of, percent
from phenoembed.evaluation.paper import JUMP
from phenoembed.evaluation.probed import probe_rows
from phenoembed.outcomes import Report
from phenoembed.probes import probe
from phenoembed.progress import Progress
from phenoembed.tasks import JUMP_SCREEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEATURES = {"encoder": "encoder", "untrained": "untrained encoder", "intensity": "intensity"}


def compare_jump(trials: Trials, progress: Progress) -> Outcome:
    """Top-k accuracy of a head on a frozen encoder of another screen, beside an untrained encoder and intensities."""
    where = trials.where or JUMP_SCREEN
    report = probe(trials.store, "jump", encoder=trials.encoder, where=where, progress=progress)
    screens, _ = trials.store.vectors(where, encoder=trials.encoder, columns=("screen",))
    table = Table(
        f"Compounds of another screen, frozen encoder {trials.encoder}: accuracy [%]",
        ("split", "test groups", *(f"{v} top-1" for v in FEATURES.values()), "top-5", "top-10", "classes", "folds",
         "paper top-1"),
        tuple(probe_rows(report, lambda split, test: _row(report, split, test), [JUMP])),
    )  # fmt: skip
    splits = dict.fromkeys(one.split for one in report.tested)
    return Outcome(
        "jump",
        data_of(screens.column("screen").unique().to_pylist()),
        (table,),
        {"jump": {split: report.document(split) for split in splits}},
        lambda figure: _draw(figure, report),
        (*report.notes, f"the encoder was trained on {data_of(trials.screens)}"),
    )


def _row(report: Report, split: Any, test: str) -> tuple[Any, ...]:
    folds = {name: [one.figures for one in report.select(split, test, name)] for name in FEATURES}
    found = report.select(split, test, "encoder")
    return (
        *(percent(folds[name], "top1") for name in FEATURES),
        percent(folds["encoder"], "top5"),
        percent(folds["encoder"], "top10"),
        found[0].classes,
        len(found),
    )


def _draw(figure: "Figure", report: Report) -> None:
    axis = figure.subplots()
    rows = list(report.rows())
    for number, (name, spoken) in enumerate(FEATURES.items()):
        found = [[one.figures["top1"] for one in report.select(split, test, name)] for split, test in rows]
        means = [100 * float(np.mean(values)) if values else 0.0 for values in found]
        sds = [100 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in found]
        axis.bar(np.arange(len(rows)) + 0.27 * number - 0.27, means, 0.25, yerr=sds, label=spoken)
    axis.set(xticks=range(len(rows)), xticklabels=[" split, ".join(row) for row in rows], ylabel="top-1 accuracy [%]")
    axis.legend(fontsize=8)
