"""The reader of CellProfiler's LoadData tables: ``load_data.csv``, a row a field, a pair of columns a channel.

``FileName_<channel>`` and ``PathName_<channel>`` say where the image of a channel lies, ``Metadata_`` columns where it
stands. Paths of the machine that wrote the table are looked for below the folder when they are not there.
"""

import os
from pathlib import Path

import pyarrow as pa

from phenoembed.readers.manifest import screen_of_sheet
from phenoembed.readers.options import Options
from phenoembed.readers.sheet import Sheet, as_text, read_sheet
from phenoembed.readers.tree import Tree
from phenoembed.screen import Screen
from phenoembed_store.errors import ManifestError

NAMES = ("load_data.csv", "load_data.parquet")
FILE, FOLDER, URL = "FileName_", "PathName_", "URL_"


def is_loaddata(tree: Tree) -> bool:
    return any(name in NAMES for name in tree[0].files)


def read_loaddata(folder: Path, tree: Tree, options: Options) -> Screen:
    """Read the folder's LoadData table. Raises ``ManifestError`` with all of its faults."""
    path = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if path is None:
        raise ManifestError(str(folder), [f"there is no {' or '.join(NAMES)}"])
    sheet = read_sheet(path)
    channels = [name.removeprefix(FILE) for name in sheet.columns if name.startswith(FILE)]
    if not channels:
        sheet.faults.add(f"no column is named {FILE}<channel>; this is no LoadData table")
    sheet.faults.raise_any()
    return screen_of_sheet(folder, path, "loaddata", _row_a_channel(sheet, channels, folder, tree), options)


def _row_a_channel(sheet: Sheet, channels: list[str], folder: Path, tree: Tree) -> Sheet:
    """The rows once for each channel, with ``path`` and ``channel``; what is of one channel only is left out."""
    n = len(sheet.rows)
    of_channels = tuple(f"{kind}{name}" for name in channels for kind in (FILE, FOLDER, URL))
    shared = [name for name in sheet.columns if name not in of_channels]
    known = {each.folder for each in tree}
    paths: list[str | None] = []
    for name in channels:
        files = as_text(sheet.columns[f"{FILE}{name}"]).to_pylist()
        folders = (
            as_text(sheet.columns[f"{FOLDER}{name}"]).to_pylist() if f"{FOLDER}{name}" in sheet.columns else [""] * n
        )
        paths += [
            None if file is None else _path(above or "", file, folder, known)
            for above, file in zip(folders, files, strict=True)
        ]
    columns = {name: pa.concat_arrays([sheet.columns[name]] * len(channels)) for name in shared}
    columns["path"] = pa.array(paths, pa.string())
    columns["channel"] = pa.array([name for name in channels for _ in range(n)], pa.string())
    if "field" not in columns and not any(name.casefold() in ("metadata_site", "metadata_field") for name in columns):
        columns["field"] = pa.repeat(pa.scalar("1"), n * len(channels))
    return Sheet(columns, sheet.rows * len(channels), sheet.faults, sheet.notes)


def _path(above: str, file: str, folder: Path, known: set[Path]) -> str:
    """Where the table says, or in the longest end of that path that is a folder below ours."""
    above = above.replace("\\", "/")
    if os.path.isabs(above) and os.path.isdir(above):
        return f"{above}/{file}"
    parts = [part for part in above.split("/") if part]
    for start in range(len(parts) + 1):
        if folder.joinpath(*parts[start:]) in known:
            return "/".join([*parts[start:], file])
    return file
