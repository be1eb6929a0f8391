"""Readers: from what describes a screen (a manifest, an instrument's export) to a ``Screen``. One file a source."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from phenoembed.planes import file_of
from phenoembed.readers.cv8000 import is_cv8000, read_cv8000
from phenoembed.readers.imagexpress import is_imagexpress, read_imagexpress
from phenoembed.readers.loaddata import is_loaddata, read_loaddata
from phenoembed.readers.manifest import is_manifest, read_manifest
from phenoembed.readers.ome_tiff import is_ome_tiff, read_ome_tiff
from phenoembed.readers.ome_zarr import is_ome_zarr, read_ome_zarr
from phenoembed.readers.options import Options
from phenoembed.readers.pattern import read_pattern
from phenoembed.readers.phenix import is_phenix, read_phenix
from phenoembed.readers.remote import brought, where_it_lies
from phenoembed.readers.tree import Tree, walk
from phenoembed.screen import STACK_COLUMN, Screen
from phenoembed_store.errors import ManifestError, PhenoembedError
from phenoembed_store.remote import url_of

log = logging.getLogger("phenoembed")


class Reader(NamedTuple):
    """How one kind of source is recognised and read."""

    looks_for: str
    recognises: Callable[[Tree], bool]
    read: Callable[[Path, Tree, Options], Screen]


READERS = {
    "manifest": Reader("manifest.csv or manifest.parquet", is_manifest, read_manifest),
    "loaddata": Reader("CellProfiler's load_data.csv", is_loaddata, read_loaddata),
    "cv8000": Reader("MeasurementData.mlf of Yokogawa CV7000 and CV8000 exports", is_cv8000, read_cv8000),
    "phenix": Reader("Index.idx.xml or r01c01f01p01-ch1sk1fk1fl1.tiff of an Opera Phenix", is_phenix, read_phenix),
    "imagexpress": Reader(".HTD or Plate_A01_s1_w1.tif of an ImageXpress", is_imagexpress, read_imagexpress),
    "ome-zarr": Reader("OME-Zarr plates", is_ome_zarr, read_ome_zarr),
    "ome-tiff": Reader(".ome.tif of OME-TIFF plates", is_ome_tiff, read_ome_tiff),
    "pattern": Reader("files that match --pattern", lambda _tree: False, read_pattern),
}
"""In the order in which they are tried."""


def read_screen(
    folder: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    channel: str | None = None,
    reader: str | None = None,
    check_files: bool = True,
    times: Mapping[int, float] | None = None,
    dry_run: bool = False,
    layout: Path | str | None = None,
    pattern: str | None = None,
) -> Screen:
    """Read the screen in a folder: its manifest if it has one, else the first source that is recognised.

    ``mapping`` is ours -> theirs (``--map concentration_um=dose_um``); ``channel`` is needed where there are several;
    ``reader`` forces a reader by name; ``times`` is time point -> hours (see ``exports``); ``layout`` is the file that
    says what is in the wells (see ``layout``); ``pattern`` is what files' names match (see ``pattern``). ``dry_run``
    reads what is there in order to count it: every channel, with or without a layout.

    Raises ``ManifestError`` with every fault of the source, ``PhenoembedError`` when there is nothing to read.
    """
    url = url_of(folder)
    if url is not None:
        said = {"mapping": mapping, "channel": channel, "reader": reader, "check_files": check_files, "times": times}
        with brought(url) as brought_here:
            screen = read_screen(brought_here, **said, dry_run=dry_run, layout=layout, pattern=pattern)  # type: ignore[arg-type]
            return where_it_lies(screen, brought_here, url)
    root = Path(os.path.abspath(folder))
    if not os.path.isdir(root):
        raise PhenoembedError(f"'{folder}' is {'a file; name its folder' if os.path.exists(root) else 'no folder'}")
    if layout is not None and not os.path.isfile(layout):
        wrong = "a folder; name the file in it" if os.path.isdir(layout) else "no file"
        raise PhenoembedError(f"--layout {layout} is {wrong}")
    if (reader == "pattern") != (pattern is not None) and (reader is not None or pattern is None):
        raise PhenoembedError("--reader pattern and --pattern go together; leave out --reader, or name the pattern")
    tree = walk(root)
    name = reader or ("pattern" if pattern is not None else _recognise(root, tree))
    if name not in READERS:
        raise PhenoembedError(f"no reader '{name}'; there is {', '.join(READERS)}")
    placed = None if layout is None else Path(os.path.abspath(layout))
    options = Options(mapping or {}, channel, check_files, times or {}, dry_run, placed, pattern)
    return READERS[name].read(root, tree, options)


def _recognise(root: Path, tree: Tree) -> str:
    for name, reader in READERS.items():
        if reader.recognises(tree):
            return name
    looked_for = "; ".join(reader.looks_for for reader in READERS.values())
    raise PhenoembedError(f"'{root}' holds no screen; looked for: {looked_for}")


def summary(screen: Screen, reader: str) -> dict[str, object]:
    """What ``index --dry-run --json`` prints of a screen: counts of files and images (a plane of a z-stack is one)."""
    planes = [screen.table.column("path").to_pylist()]
    if STACK_COLUMN in screen.table.column_names:
        stacks = screen.table.column(STACK_COLUMN).to_pylist()
        planes = [stack or [path] for stack, path in zip(stacks, planes[0], strict=True)]
    usable = [path for stack in planes for path in stack]
    rejected = [path for path in screen.rejected.column("path").to_pylist() if path is not None]
    return {
        "reader": reader,
        "files": len({file_of(path) for path in (*usable, *rejected)}),
        "images": len(usable),
        "plates": screen.n_plates,
        "rejected": screen.rejected.num_rows,
        "faults": [],
    }


def preview(folder: Path | str, **options: Any) -> dict[str, object]:
    """``summary`` of what ``read_screen`` (same options) finds, read as a dry run, with the faults if it has any.

    Raises ``PhenoembedError`` when there is nothing to read.
    """
    url = url_of(folder)
    if url is not None:
        with brought(url) as brought_here:
            return preview(brought_here, **options)
    try:
        screen = read_screen(folder, dry_run=True, **options)
    except ManifestError as error:
        root = Path(os.path.abspath(folder))
        reader = options.get("reader") or ("pattern" if options.get("pattern") else _recognise(root, walk(root)))
        nothing = {"files": 0, "images": 0, "plates": 0, "rejected": 0}
        return {"reader": reader, **nothing, "faults": list(error.faults)}
    for note in screen.notes:
        log.warning("%s", note)
    channels = sorted(screen.table.column("channel").unique().to_pylist(), key=lambda name: (len(name), name))
    if len(channels) > 1:
        listed = ", ".join(channels)
        log.warning("%d channels (%s), of which index takes one: --channel %s", len(channels), listed, channels[0])
    return summary(screen, screen.reader)
