"""Options that say how a folder of plates is to be read."""

from pathlib import Path
from typing import Annotated

import typer

from phenoembed_store.errors import PhenoembedError

Plates = Annotated[Path, typer.Argument(help="A folder of plates: a manifest, or an instrument's export.")]
Map = Annotated[
    list[str] | None, typer.Option("--map", metavar="OURS=THEIRS", help="A foreign column name; may be repeated.")
]
Channel = Annotated[str | None, typer.Option("--channel", help="Which channel, where there are several.")]

DEFAULT_PLATES = Path("plates")


def parse_map(pairs: list[str] | None) -> dict[str, str]:
    """``["concentration_um=dose_um"]`` -> ``{"concentration_um": "dose_um"}``."""
    mapping = {}
    for pair in pairs or []:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise PhenoembedError(f"--map {pair!r} is not OURS=THEIRS, e.g. --map concentration_um=dose_um")
        mapping[ours.strip()] = theirs.strip()
    return mapping
