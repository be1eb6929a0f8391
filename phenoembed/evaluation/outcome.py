"""What an experiment found: tables beside the paper's figures, a document for machines, a figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phenoembed.metrics import mean_and_sd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_TRAINED = "not trained"


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and the rows; accuracies are texts in percent, as the paper prints them.

    ``of_folds``: the figures are means ± sd over folds.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    of_folds: bool = True


@dataclass(frozen=True)
class Outcome:
    """``data`` says whose images these were; ``figures`` is what ``--json`` prints of the experiment."""

    experiment: str
    data: str
    tables: tuple[Table, ...]
    figures: Mapping[str, Any]
    draw: "Callable[[Figure], None]"
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """What ``evaluate --json`` prints."""
        return {"experiment": self.experiment, "data": self.data, **self.figures, "notes": list(self.notes)}

    def save_figure(self, path: Path) -> None:
        """Draw the figure to a file whose ending says its kind. Raises ValueError on one that is not known."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4.6), dpi=130, layout="constrained")
        self.draw(figure)
        figure.suptitle(f"{self.experiment}: {self.data}", fontsize=10)
        figure.savefig(path)


def data_of(screens: Sequence[str]) -> str:
    """Whose images: "LOPAC", "simulated" or "other", with the screens' names."""
    names = sorted(set(screens))
    kinds = {_kind(name) for name in names}
    return f"{' and '.join(sorted(kinds))} data ({', '.join(names)})"


def _kind(screen: str) -> str:
    name = screen.lower()
    return "simulated" if "simulated" in name else "LOPAC" if "lopac" in name else "other"


def percent(folds: Sequence[Mapping[str, float]], figure: str) -> str:
    """Mean ± sd over folds of a share, in percent; empty where no fold has the figure."""
    found = [{figure: one[figure]} for one in folds if figure in one]
    mean, sd = mean_and_sd(found)
    if figure not in mean:
        return ""
    spread = sd[figure]
    return f"{100 * mean[figure]:.2f}" + (f" ± {100 * spread:.2f}" if spread is not None else "")


def summary(folds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Folds, mean and sd, as probes print them."""
    mean, sd = mean_and_sd([dict(one) for one in folds])
    return {"folds": [dict(one) for one in folds], "mean": mean, "sd": sd}
