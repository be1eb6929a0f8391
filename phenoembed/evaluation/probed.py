"""What experiments on probes share: the encoders that were probed, what was stored of them, and a table's rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phenoembed.evaluation.held_out import Trials
from phenoembed.evaluation.outcome import NOT_TRAINED
from phenoembed.families import family
from phenoembed.folds import Split
from phenoembed.outcomes import Report


def predictions_of(trials: Trials, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """What probes of these tasks stored of the encoder and those of its family; not of those of another method."""
    ours = {one.encoder for one in family(trials.store, trials.encoder)[0]}
    return [
        row
        for row in trials.store.predictions().to_pylist()
        if row["task"] in tasks and row["features"] == "encoder" and row["encoder"] in ours
    ]


def probe_rows(
    report: Report, row: Callable[[Split, str], tuple[Any, ...]], paper: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """A row for each split and test of a report: split, test, ``row(split, test)``; then what is not trained.

    ``paper``: its figures, which are of the field split, for the last columns, whether we trained one or not.
    """
    beside = {"field": tuple(paper)}
    empty = ("",) * len(paper)
    for split, test in report.rows():
        found = row(split, test)
        yield (split, test, *found, *beside.get(split, empty))
    for missing in report.missing_splits():
        yield (missing, "", NOT_TRAINED, *[""] * (len(found) - 1), *beside.get(missing, empty))
