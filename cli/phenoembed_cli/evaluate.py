"""`phenoembed evaluate`: the paper's experiments by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Encoder, Json, Store, Where
from phenoembed_cli.output import check_choice, note, print_json, print_table, progress_bar
from phenoembed_store.remote import check_written_here

if TYPE_CHECKING:
    from phenoembed.evaluation.outcome import Outcome


def evaluate(
    experiment: Annotated[
        str,
        typer.Argument(
            help="methods, cytotoxicity, doses, configurations, moa, treatment, jump, network, blur, noise or "
            "duplicates."
        ),
    ],
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Draw the paper's figure: .png, .pdf or .svg.")
    ] = None,
    links: Annotated[Path | None, typer.Option("--links", metavar="FILE", help="STRING's links, for network.")] = None,
    encoder: Encoder = None,
    where: Where = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Repeat an experiment of the paper on the store's encoders, its figures beside ours."""
    if figure is not None:
        check_written_here(figure)
        if figure.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise typer.BadParameter(f"'{figure}' ends in none of .png, .pdf, .svg", param_hint="--figure")
    from phenoembed_store import open as open_store

    opened = open_store(store)
    from phenoembed.evaluation import NAMES  # takes seconds: a store that is not there is said first
    from phenoembed.evaluation import evaluate as run

    check_choice("EXPERIMENT", experiment, NAMES)
    with progress_bar(experiment, unit="steps") as advance:
        outcome = run(opened, experiment, encoder=encoder, where=where, links=links, progress=advance)
    if as_json:
        print_json(outcome.document())
    else:
        _print(outcome)
    if figure is not None:
        outcome.save_figure(figure)
        note(f"figure: {figure}")


def _print(outcome: "Outcome") -> None:
    for table in outcome.tables:
        title = f"{table.title}; {outcome.data}" + ("; mean ± sd over folds" if table.of_folds else "")
        print_table(table.columns, table.rows, title=title)
    for line in outcome.notes:
        note(line)
