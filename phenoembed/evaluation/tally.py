"""Figures of every method, split and test, a fold at a time, and the table they make."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from phenoembed.evaluation.held_out import Cell, Trials
from phenoembed.evaluation.outcome import NOT_TRAINED, percent, summary

TOPS = ("top1", "top5", "top10")
TOP_NAMES = ("top-1 %", "top-5 %", "top-10 %")
PAPER = "paper (LOPAC), known wells"
"""What stands before the paper's figures."""


class Tally:
    """Figures by (cell, variant): a variant is what an experiment varies (a dose, a number of copies)."""

    def __init__(self) -> None:
        self.figures: dict[tuple[Cell, Any], list[dict[str, float]]] = defaultdict(list)

    def add(self, cell: Cell, variant: Any, fold: int, figures: dict[str, float]) -> None:
        self.figures[cell, variant].append({"fold": fold, **figures})

    def folds(self, cell: Cell, variant: Any = None) -> list[dict[str, float]]:
        """The folds of a cell; none where it was not trained."""
        return self.figures.get((cell, variant), [])

    def cell(self, cell: Cell, variant: Any, figure: str) -> str:
        """Mean ± sd in percent."""
        return percent(self.folds(cell, variant), figure)

    def document(self) -> list[dict[str, Any]]:
        """A row a cell and variant, for machines."""
        return [
            {"method": method, "split": split, "test": test, "variant": variant, **summary(folds)}
            for ((method, split, test), variant), folds in self.figures.items()
        ]


def method_rows(
    trials: Trials,
    methods: Sequence[str],
    row: Callable[[Cell], tuple[Any, ...]],
    paper: Callable[[str], tuple[Any, ...] | None],
) -> tuple[tuple[Any, ...], ...]:
    """For each method a row a test: method, test groups, ``row(cell)``, 'not trained' where that is empty.

    Below them stands what the paper has of the method, ``paper(method)``, if anything.
    """
    rows = []
    for method in methods:
        for cell, trained in trials.cells(method):
            said = row(cell)
            rows.append((method, spoken(cell), said[0] if trained else NOT_TRAINED, *said[1:]))
        theirs = paper(method)
        if theirs:
            rows.append((method, PAPER, *theirs))
    return tuple(rows)


def spoken(cell: Cell) -> str:
    """Which groups a cell tests, for a table's row."""
    return f"{cell[1]} split: {cell[2]}"
