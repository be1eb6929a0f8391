"""Which files are there. A folder is read once, however many of its files are asked for."""

import os
from collections.abc import Sequence
from pathlib import Path

from phenoembed.planes import file_of


def missing_files(root: Path, paths: Sequence[str]) -> dict[int, str]:
    """For each of ``paths`` (relative to ``root``, or absolute) that is no file: its place, and what is wrong."""
    folders: dict[str, set[str] | str] = {}
    missing: dict[int, str] = {}
    for place, path in enumerate(paths):
        folder, name = os.path.split(file_of(path))
        if folder not in folders:
            folders[folder] = _files(os.path.join(root, folder))
        files = folders[folder]
        if isinstance(files, str):
            missing[place] = f"file '{path}' is missing: folder '{folder}' {files}"
        elif name not in files:
            missing[place] = f"file '{path}' is missing{_other_case(name, files)}"
    return missing


def _files(folder: str) -> set[str] | str:
    """The names of a folder's files, or why they cannot be told."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "has no possible name"


def _other_case(name: str, files: set[str]) -> str:
    swapped = next((each for each in (name.lower(), name.upper()) if each in files), None)
    return f"; the folder has '{swapped}'" if swapped else ""
