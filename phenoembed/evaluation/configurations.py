"""Table 3 and Fig. 8: at which dose and time is each compound recognised best?"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phenoembed.evaluation.held_out import HeldOut, Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of
from phenoembed.evaluation.paper import TABLE_3
from phenoembed.metrics import f1_by_class
from phenoembed.progress import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Configuration = tuple[float, float]  # micromolar, hours
F1 = dict[Configuration | None, NDArray[np.float64]]  # of every compound by configuration; None: whole groups
Test = tuple[str, str]  # split, test


def compare_configurations(trials: Trials, progress: Progress) -> Outcome:
    """F1 of every compound from single images of each dose and time (Eq. 1), and from whole groups (Eq. 2)."""
    method = trials.best_method()
    named: dict[Test, dict[Configuration | None, list[tuple[Any, Any]]]] = defaultdict(lambda: defaultdict(list))
    for held in trials.held_out(progress, [method]):
        for configuration, names in _named(held):
            named[held.cell[1:]][configuration].append(names)
    compounds, f1 = dict[Test, list[str]](), dict[Test, F1]()
    for test, of_test in named.items():
        by_name = {configuration: f1_by_class(found) for configuration, found in of_test.items()}
        compounds[test] = sorted(by_name[None])
        f1[test] = {c: np.array([found.get(name, 0.0) for name in compounds[test]]) for c, found in by_name.items()}
    tables = tuple(_table(method, test, found) for test, found in f1.items())
    document = [
        {
            "split": test[0],
            "test": test[1],
            "share_best": [
                {"concentration_um": dose, "time_h": time, "share": share}
                for (dose, time), share in best_shares(found).items()
            ],
            "f1": [_f1_row(name, i, found) for i, name in enumerate(compounds[test])],
        }
        for test, found in f1.items()
    ]  # fmt: skip
    return Outcome(
        "configurations",
        data_of(trials.screens),
        tables,
        {"method": method, "configurations": document},
        lambda figure: _draw(figure, f1[_honest(list(f1))], _honest(list(f1))),
        trials.notes,
    )


def best_shares(f1: F1) -> dict[Configuration, float]:
    """Share of the compounds that each configuration recognises best; several equally good ones share a compound.

    Compounds that no configuration recognises (F1 = 0) have none.
    """
    configurations = sorted(one for one in f1 if one is not None)
    table = np.array([f1[one] for one in configurations])  # (configurations, classes)
    table = table[:, table.max(axis=0) > 0]
    best = table == table.max(axis=0)
    shares = (best / best.sum(axis=0)).sum(axis=1) / max(table.shape[1], 1)
    return dict(zip(configurations, map(float, shares), strict=True))


def _named(held: HeldOut) -> list[tuple[Configuration | None, tuple[Any, Any]]]:
    """True and predicted compounds of whole groups, and of single images of each dose and time."""
    dose, time = held.column("concentration_um"), held.column("time_h")
    found: list[tuple[Configuration | None, tuple[Any, Any]]] = [(None, held.named(held.scores()))]
    for configuration in sorted(set(zip(dose.tolist(), time.tolist(), strict=True))):
        part = held.chosen((dose == configuration[0]) & (time == configuration[1])).single_images()
        found.append((configuration, part.named(part.scores())))
    return found


def _table(method: str, test: Test, f1: F1) -> Table:
    shares = best_shares(f1)
    doses, times = (sorted({one[i] for one in shares}) for i in range(2))
    rows = []
    for time in times:
        ours = [shares.get((dose, time), 0.0) for dose in doses]
        paper = [TABLE_3.get((dose, time), "") if test[0] == "field" else "" for dose in doses]
        rows.append((f"{time:g} h", *(f"{share:.0%}" for share in ours), f"{sum(ours):.0%}", *paper))
    totals = [sum(shares.get((dose, time), 0.0) for time in times) for dose in doses]
    rows.append(("total", *(f"{share:.0%}" for share in totals), f"{sum(totals):.0%}", *[""] * len(doses)))
    return Table(
        f"Compounds best recognised at each dose and time ({method}; {test[0]} split, {test[1]})",
        ("time", *(f"{dose:g} µM" for dose in doses), "total", *(f"paper {dose:g} µM" for dose in doses)),
        tuple(rows),
    )


def _f1_row(name: str, place: int, f1: F1) -> dict[str, Any]:
    of = [{"concentration_um": c[0], "time_h": c[1], "f1": float(v[place])} for c, v in f1.items() if c is not None]
    return {"compound": name, "group": float(f1[None][place]), "configurations": of}


def _honest(tests: list[Test]) -> Test:
    return ("replicate", "new replicate") if ("replicate", "new replicate") in tests else tests[0]


def _draw(figure: "Figure", f1: F1, test: Test) -> None:
    """Fig. 8: F1 at each concentration (best over times), at each time, and of the whole group; a line a compound."""
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, part, unit in ((left, 0, "µM"), (right, 1, "h")):
        _lines(axis, f1, part, unit)
    left.set_ylabel("F1 of a compound")
    figure.supxlabel(f"{test[0]} split, {test[1]}; compounds with F1 of 0.5 or more that differ by 0.1", fontsize=8)


def _lines(axis: "Axes", f1: F1, part: int, unit: str) -> None:
    values = sorted({one[part] for one in f1 if one is not None})
    columns = [np.max([v for c, v in f1.items() if c is not None and c[part] == value], axis=0) for value in values]
    table = np.array([*columns, f1[None]])  # (values and whole group, classes)
    single = table[:-1]
    shown = (single.max(axis=0) >= 0.5) & (np.ptp(table, axis=0) >= 0.1)
    axis.plot(range(len(table)), table[:, shown], color="0.4", lw=0.8, alpha=0.6)
    axis.set(ylim=(-0.02, 1.02), xlim=(-0.2, len(table) - 0.8), title=f"{shown.sum()} compounds")
    axis.set_xticks(range(len(table)), [*(f"{value:g} {unit}" for value in values), "group"])
