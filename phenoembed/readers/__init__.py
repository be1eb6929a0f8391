"""Readers: from what describes a screen (a manifest, an instrument's export) to a ``Screen``. One file a source."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from phenoembed.readers.bts import DATA, find_exports
from phenoembed.readers.cv8000 import read_cv8000
from phenoembed.readers.manifest import find_manifest, read_manifest
from phenoembed.readers.options import Options
from phenoembed.screen import STACK_COLUMN, Screen
from phenoembed_store.errors import ManifestError, PhenoembedError


class Reader(NamedTuple):
    """How one kind of source is recognised and read."""

    looks_for: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], Screen]


READERS = {
    "manifest": Reader(
        "manifest.csv or manifest.parquet", lambda folder: find_manifest(folder) is not None, read_manifest
    ),
    "cv8000": Reader(
        f"{DATA} of Yokogawa CV7000 and CV8000 exports", lambda folder: bool(find_exports(folder)), read_cv8000
    ),
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
) -> Screen:
    """Read the screen in a folder: its manifest if it has one, else the first source that is recognised.

    ``mapping`` is ours -> theirs (``--map concentration_um=dose_um``); ``channel`` is needed where there are several;
    ``reader`` forces a reader by name; ``times`` is time point -> hours (see ``cv8000``). ``dry_run`` reads what is
    there in order to count it: every channel, with or without a layout.

    Raises ``ManifestError`` with every fault of the source, ``PhenoembedError`` when there is nothing to read.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise PhenoembedError(f"'{folder}' is {'a file; name its folder' if root.exists() else 'no folder'}")
    name = reader or _recognise(root)
    if name not in READERS:
        raise PhenoembedError(f"no reader '{name}'; there is {', '.join(READERS)}")
    return READERS[name].read(root, Options(mapping or {}, channel, check_files, times or {}, dry_run))


def _recognise(root: Path) -> str:
    for name, reader in READERS.items():
        if reader.recognises(root):
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
        "files": len({*usable, *rejected}),
        "images": len(usable),
        "plates": screen.n_plates,
        "rejected": screen.rejected.num_rows,
        "faults": [],
    }


def preview(folder: Path | str, **options: Any) -> dict[str, object]:
    """``summary`` of what ``read_screen`` (same options) finds, read as a dry run, with the faults if it has any.

    Raises ``PhenoembedError`` when there is nothing to read.
    """
    try:
        screen = read_screen(folder, dry_run=True, **options)
    except ManifestError as error:
        reader = options.get("reader") or _recognise(Path(os.path.abspath(folder)))
        nothing = {"files": 0, "images": 0, "plates": 0, "rejected": 0}
        return {"reader": reader, **nothing, "faults": list(error.faults)}
    return summary(screen, screen.reader)
