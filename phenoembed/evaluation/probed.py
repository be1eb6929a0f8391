"""What experiments on probes share."""

from collections.abc import Callable, Iterator
from typing import Any

from phenoembed.evaluation.outcome import NOT_TRAINED
from phenoembed.folds import Split
from phenoembed.outcomes import Report


def probe_rows(report: Report, row: Callable[[Split, str], tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """A row for each split and test of a report: split, test, ``row(split, test)``; then what is not trained."""
    for split, test in report.rows():
        found = (split, test, *row(split, test))
        yield found
    for missing in report.missing_splits():
        yield (missing, "", NOT_TRAINED, *[""] * (len(found) - 3))
