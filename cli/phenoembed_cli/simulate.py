"""`phenoembed simulate`: a screen whose truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from phenoembed_cli.options import Json, folder
from phenoembed_cli.output import note, print_json, progress_bar
from phenoembed_store.remote import check_written_here


def simulate(
    out: Annotated[Path, typer.Argument(help="A new folder for the plates, their manifest and truth.", parser=folder)],
    compounds: Annotated[int, typer.Option(help="Compounds, inactive ones among them.")] = 24,
    replicates: Annotated[int, typer.Option(help="Replicates, each on plates of its own.")] = 3,
    fields: Annotated[int, typer.Option(help="Fields of view a well.")] = 4,
    size: Annotated[int, typer.Option(min=1, help="Pixels of an image's side.")] = 96,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    as_json: Json = False,
) -> None:
    """Simulate a phase-contrast screen: compounds over dose and time, DMSO wells, plate effects."""
    from phenoembed.simulate import simulate_screen

    check_written_here(out)
    with progress_bar("simulating", unit="images") as advance:
        manifest = simulate_screen(
            out, compounds=compounds, replicates=replicates, fields=fields, size=size, seed=seed, progress=advance
        )
    n_images = len(manifest.read_text().splitlines()) - 1
    if as_json:
        print_json({"plates": str(out), "manifest": str(manifest), "images": n_images})
    else:
        note(f"{n_images:,} simulated images in {out}; next: phenoembed train {out}")
