"""A folder of plates as an argument, and the options that say how it is to be read."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phenoembed_cli.options import folder
from phenoembed_cli.output import note
from phenoembed_store.errors import PhenoembedError

READERS = "manifest, loaddata, cv8000, phenix, imagexpress, ome-zarr, ome-tiff or pattern"

if TYPE_CHECKING:
    from phenoembed.preparation import Preparation
    from phenoembed.screen import Screen

Plates = Annotated[
    Path, typer.Argument(help="A folder of plates: a manifest, or an instrument's export.", parser=folder)
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="OURS=THEIRS",
        help="A foreign name (a dose's unit in it is read), or what all rows have: 'time_h=48 h'; repeatable.",
    ),
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

ZPlane = Annotated[
    str | None,
    typer.Option("--z", metavar="max|mean|N", help="What is taken of a z-stack: a projection, or plane N; max."),
]
FlatField = Annotated[
    str | None,
    typer.Option(
        "--flat-field",
        metavar="none|plate|FILE",
        help="Divide by the light, as each plate's images or an image's file tell it; none.",
    ),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise", metavar="none|image|plate", help="Bring each image's, or plate's, mean and sd to the same; none."
    ),
]
_PREPARING: dict[str, Any] = {"z": ZPlane, "flat_field": FlatField, "normalise": Normalise}

DEFAULT_PLATES = Path("plates")


def reads_plates(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options that say how plates are read, brought together in its parameter ``reading``.

    ``reading`` holds them as keywords of ``phenoembed.readers.read_screen``; a parameter ``preparing`` holds how pixels
    are prepared, as fields of ``phenoembed.preparation.Preparation``, None where nothing is said.
    """

    @wraps(command)
    def with_options(**given: Any) -> None:
        said = {name: given.pop(name) for name in _READING}
        said["mapping"], said["times"] = parse_map(said["mapping"]), parse_times(said["times"])
        preparing = {name: given.pop(name) for name in _PREPARING}
        _check_preparing(preparing)
        command(reading=said, preparing=preparing, **given)

    known = inspect.signature(command).parameters
    parameters: list[inspect.Parameter] = []
    bundles = {"reading": _READING, "preparing": _PREPARING}
    for name, parameter in known.items():
        options = bundles.get(name, {})
        added = [parameter.replace(name=each, annotation=kind, default=None) for each, kind in options.items()]
        parameters += added or [parameter]
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


def choose_preparation(preparing: Mapping[str, str | None], store: Path) -> "Preparation":
    """What is to be done to pixels; a flat field's image is kept in the store."""
    from phenoembed.plate_light import keep_flat_field
    from phenoembed.preparation import Preparation

    said = {name: value for name, value in preparing.items() if value is not None}
    return Preparation(**said | {"flat_field": keep_flat_field(store, said.get("flat_field", "none"))})


def _check_preparing(preparing: Mapping[str, str | None]) -> None:
    """Raise typer.BadParameter, wrong usage, on a choice that is none."""
    from phenoembed.preparation import Preparation

    said = {name: value for name, value in preparing.items() if value is not None and name != "flat_field"}
    try:
        Preparation(**said).check()
    except PhenoembedError as error:
        raise typer.BadParameter(str(error)) from None


def as_typed(reading: Mapping[str, Any]) -> list[str]:
    """The options that say how plates are read, as words to be typed after the folder."""
    words: list[str] = []
    for ours, theirs in reading["mapping"].items():
        words += ["--map", f"{ours}={theirs}"]
    if reading["times"]:
        words += ["--times", ",".join(f"{hours:g}" for hours in reading["times"].values())]
    for name in ("channel", "reader", "layout", "pattern"):
        words += [f"--{name}", str(reading[name])] if reading[name] is not None else []
    return words


def parse_map(pairs: Sequence[str] | None) -> dict[str, str]:
    """``["concentration_um=dose_um"]`` -> ``{"concentration_um": "dose_um"}``."""
    mapping = dict[str, str]()
    for pair in pairs or []:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise typer.BadParameter(f"'{pair}' is not OURS=THEIRS, e.g. --map concentration_um=dose_um")
        earlier = mapping.setdefault(ours.strip(), theirs.strip())
        if earlier != theirs.strip():
            raise typer.BadParameter(f"--map {ours.strip()} is given twice: '{earlier}' and '{theirs.strip()}'")
    return mapping


def parse_times(times: str | None) -> dict[int, float] | None:
    """``"24,72"`` -> ``{1: 24.0, 2: 72.0}``: time points are numbered from 1."""
    if times is None:
        return None
    try:
        hours = [float(each) for each in times.split(",")]
    except ValueError:
        hours = []
    if not hours or not all(map(math.isfinite, hours)):
        raise typer.BadParameter(f"'{times}' is no list of hours, e.g. --times 24,72")
    return dict(enumerate(hours, start=1))
