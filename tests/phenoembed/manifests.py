"""Manifests to be read: written in lines, their faults, their columns."""

from pathlib import Path

import pytest
from phenoembed.readers import read_screen
from phenoembed.screen import Screen

from phenoembed_store.errors import ManifestError

HEADER = "path,plate,well,field,time_h,compound,concentration_um"
ROWS = (
    "a.tif,P1,A01,1,24,DMSO,",
    "b.tif,P1,A02,1,24,taxol,0.5",
    "c.tif,P1,A02,2,24,taxol,0.5",
)


def write(folder: Path, *lines: str, files: str = "a b c", encoding: str = "utf-8") -> Path:
    """A manifest of these lines, and one-byte images a.tif, b.tif, ..."""
    for name in files.split():
        (folder / f"{name}.tif").write_bytes(b"x")
    (folder / "manifest.csv").write_bytes("\n".join(lines).encode(encoding))
    return folder


def faults(folder: Path, **options: object) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as raised:
        read_screen(folder, **options)  # type: ignore[arg-type]
    assert all("\n" not in fault for fault in raised.value.faults)
    return raised.value.faults


def column(screen: Screen, name: str) -> list[object]:
    return list(screen.table.column(name).to_pylist())
