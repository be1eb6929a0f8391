"""A folder of plates as an argument, and the options that say how it is to be read."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phenoembed_cli.output import note

READERS = "manifest, loaddata, cv8000, phenix, imagexpress, ome-zarr, ome-tiff or pattern"

if TYPE_CHECKING:
    from phenoembed.screen import Screen

Plates = Annotated[Path, typer.Argument(help="A folder of plates: a manifest, or an instrument's export.")]
Map = Annotated[
    list[str] | None, typer.Option("--map", metavar="OURS=THEIRS", help="A foreign column name; may be repeated.")
]
Channel = Annotated[str | None, typer.Option("--channel", help="Which channel, where there are several.")]
Reader = Annotated[str | None, typer.Option("--reader", help=f"{READERS}; found out when not given.")]
Times = Annotated[
    str | None, typer.Option("--times", metavar="H1,H2,...", help="Hours of an export's time points, e.g. 24,72.")
]

Layout = Annotated[
    Path | None,
    typer.Option("--layout", help="What is in the wells: layout, plate map, picklist; layout.csv if there."),
]
Pattern = Annotated[
    str | None,
    typer.Option("--pattern", metavar="REGEX", help="Named groups over the files' paths, e.g. (?P<well>...)."),
]

_READING: dict[str, Any] = {
    "mapping": Map,
    "channel": Channel,
    "reader": Reader,
    "times": Times,
    "layout": Layout,
    "pattern": Pattern,
}

DEFAULT_PLATES = Path("plates")


def reads_plates(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options that say how plates are read, brought together in its parameter ``reading``.

    ``reading`` holds them as keywords of ``phenoembed.readers.read_screen``.
    """

    @wraps(command)
    def with_options(**given: Any) -> None:
        said = {name: given.pop(name) for name in _READING}
        said["mapping"], said["times"] = parse_map(said["mapping"]), parse_times(said["times"])
        command(reading=said, **given)

    known = inspect.signature(command).parameters
    parameters: list[inspect.Parameter] = []
    for name, parameter in known.items():
        added = [parameter.replace(name=each, annotation=kind, default=None) for each, kind in _READING.items()]
        parameters += added if name == "reading" else [parameter]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def read_plates(plates: Path, options: dict[str, Any]) -> "Screen":
    """Read a screen, and say on standard error what was read and what a person should know of it."""
    from phenoembed.readers import read_screen

    screen = read_screen(plates, **options)
    note(f"{screen!r}, read as {screen.reader}")
    for line in screen.notes:
        note(line)
    return screen


def parse_map(pairs: Sequence[str] | None) -> dict[str, str]:
    """``["concentration_um=dose_um"]`` -> ``{"concentration_um": "dose_um"}``."""
    mapping = {}
    for pair in pairs or []:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise typer.BadParameter(f"'{pair}' is not OURS=THEIRS, e.g. --map concentration_um=dose_um")
        mapping[ours.strip()] = theirs.strip()
    return mapping


def parse_times(times: str | None) -> dict[int, float] | None:
    """``"24,72"`` -> ``{1: 24.0, 2: 72.0}``: time points are numbered from 1."""
    if times is None:
        return None
    try:
        return {point: float(hours) for point, hours in enumerate(times.split(","), start=1)}
    except ValueError:
        raise typer.BadParameter(f"'{times}' is no list of hours, e.g. --times 24,72") from None
