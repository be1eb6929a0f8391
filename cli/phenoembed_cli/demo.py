"""`phenoembed demo`: the main job on a simulated screen."""

from pathlib import Path
from typing import Annotated

import typer

from phenoembed_cli.options import Json, folder
from phenoembed_cli.output import note, print_json, progress_bar
from phenoembed_store.remote import check_written_here

_UNITS = {"training": "batches", "probing": "tasks"}  # the other stages count images


def demo(
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder for plates, store and report.", parser=folder)
    ] = Path("phenoembed-demo"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the screen and the training.")] = 0,
    as_json: Json = False,
) -> None:
    """Simulate a screen, train on it, index, probe and search it; ends in a report. Minutes on a laptop."""
    from phenoembed.demo import run_demo
    from phenoembed.report import draw, write_text

    check_written_here(out)
    done = run_demo(out, seed=seed, stage=lambda name: progress_bar(name, unit=_UNITS.get(name, "images")))
    text = write_text(done, out / "report.txt")
    draw(done, out / "report.png")
    if as_json:
        print_json(done.document())
    else:
        typer.echo(text)
    note(f"\nreport: {out / 'report.png'} and {out / 'report.txt'}")
    note(f"look around: phenoembed search --store {done.store.path} --compound NAME")
