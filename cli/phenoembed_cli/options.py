"""Options that every command shares, and where their values go."""

from pathlib import Path
from typing import Annotated

import typer


def folder(text: str | Path) -> Path:
    """A path as it is typed; nothing at all, as of a variable that is not set, is not this folder."""
    if text == "":
        raise typer.BadParameter("an empty path names no folder (this one is '.')")
    return Path(text)


Store = Annotated[
    Path,
    typer.Option(
        "--store",
        metavar="PATH",
        envvar="PHENOEMBED_STORE",
        help="The store: a folder, or s3://bucket/prefix.",
        show_default=True,
        parser=folder,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
Encoder = Annotated[str | None, typer.Option("--encoder", help="An encoder's id; the last trained when not given.")]
Where = Annotated[str | None, typer.Option("--where", help='SQL over the columns, e.g. "concentration_um >= 5".')]
Transform = Annotated[
    str | None, typer.Option("--transform", help="Compare scaled to each plate's controls: none, robust or percentile.")
]

DEFAULT_STORE = Path("phenoembed-store")
