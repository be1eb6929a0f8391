"""`phenoembed probe`: how much of a task the frozen features hold."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from phenoembed_cli.options import DEFAULT_STORE, Encoder, Json, Store, Where
from phenoembed_cli.output import check_choice, note, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from phenoembed.outcomes import Report


def probe(
    task: Annotated[str, typer.Option(help="compound, moa, treatment or jump (a screen the encoder never saw).")],
    split: Annotated[
        str, typer.Option(help="The split that --json prints: replicate, field or compound.")
    ] = "replicate",
    encoder: Encoder = None,
    where: Where = None,
    head: Annotated[
        str,
        typer.Option(help="paper (its classifier of two layers), or linear (logistic regression: sooner done)."),
    ] = "paper",
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Fit a head on frozen features and test it on groups that the encoder never saw, beside two baselines."""
    from phenoembed.folds import SPLITS
    from phenoembed.tasks import HEADS, TASKS

    from phenoembed_store import open as open_store

    check_choice("--task", task, TASKS)
    check_choice("--split", split, SPLITS)
    check_choice("--head", head, HEADS)
    opened = open_store(store)
    from phenoembed.probes import probe as run_probe  # takes seconds: a store that is not there is said first

    with progress_bar(f"probing {task}", unit="epochs") as advance:
        report = run_probe(opened, task, encoder=encoder, where=where, head=head, progress=advance)
    if as_json:
        print_json(report.document(split))  # type: ignore[arg-type]  # checked by the report
        return
    _print(report)


def _print(report: "Report") -> None:
    figure = "balanced_accuracy" if report.task == "treatment" else "top1"
    columns = {"encoder": "encoder", "untrained": "untrained encoder", "intensity": "intensity statistics"}
    if report.task == "moa":
        columns |= {"compound head": "compound head, same groups"}
    rows = []
    for split, test in report.rows():
        cells = [_cell(report.summary(split, test, name), figure) for name in columns]
        (one, *_) = report.select(split, test, "encoder")
        chance = f"{1 / one.classes:.3f}"
        rows.append([f"{split}: {test}", *cells, chance, f"{one.majority:.3f}", _folds(report, split, test)])
    name = {"top1": "top-1 accuracy", "balanced_accuracy": "balanced accuracy"}[figure]
    kind = "simulated data" if report.simulated else "real data"
    print_table(
        ["split: test groups", *columns.values(), "chance", "majority", "folds"],
        rows,
        title=f"{report.task}: {name}, mean ± sd over folds ({kind})",
    )
    for missing in report.missing_splits():
        note(f"{missing} split: not trained")
    for line in report.notes:
        note(line)


def _cell(summary: dict[str, Any] | None, figure: str) -> str:
    if summary is None:
        return "-"
    sd = summary["sd"][figure]
    return f"{summary['mean'][figure]:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")


def _folds(report: "Report", split: Any, test: str) -> int:
    return len(report.select(split, test, "encoder"))
