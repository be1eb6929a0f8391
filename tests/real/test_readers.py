"""The readers against data that nobody here made; what is expected is worked out from the files without them."""

import csv
from pathlib import Path

import pytest
from phenoembed.readers import read_screen, summary

from phenoembed_store.errors import ManifestError
from phenoembed_store.schema import SCREEN_SCHEMA

MAPPING = {"concentration_um": "dose_um", "channel": "channel_index"}


@pytest.fixture
def manifest(real_data: Path) -> list[dict[str, str]]:
    with (real_data / "lincs-a549-images" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_real_manifest_is_read_whole(real_data: Path, manifest: list[dict[str, str]]) -> None:
    """Every row of a real manifest becomes an image, with its cells where our columns say."""
    screen = read_screen(real_data / "lincs-a549-images", mapping=MAPPING)
    assert repr(screen) == "Screen(3 plates, 2 compounds, 1 configuration, 108 images)"
    assert summary(screen, screen.reader)["files"] == len(manifest)
    for row, cells in zip(screen.table.to_pylist(), manifest, strict=True):
        assert row["path"] == cells["path"]
        assert (row["plate"], row["replicate"], row["well"]) == (cells["plate"], cells["plate"], cells["well"])
        assert (row["field"], row["time_h"]) == (int(cells["field"]), float(cells["time_h"]))
        assert (row["channel"], row["z"], row["screen"]) == (cells["channel_index"], 0, "lincs-a549-images")
        assert (row["compound"], row["concentration_um"]) == (cells["compound"], float(cells["dose_um"]))
        assert row["role"] == ("treated" if cells["treated"] == "1" else "control")


def test_real_annotations_are_kept(real_data: Path, manifest: list[dict[str, str]]) -> None:
    """Columns that are none of ours follow ours, in the file's order."""
    table = read_screen(real_data / "lincs-a549-images", mapping=MAPPING).table
    kept = [name for name in manifest[0] if name not in SCREEN_SCHEMA.names and name not in MAPPING.values()]
    assert table.column_names == [*SCREEN_SCHEMA.names, *kept]
    assert table.column("moa").to_pylist() == [row["moa"] or None for row in manifest]


def test_real_manifest_without_a_map_names_the_map(real_data: Path) -> None:
    """The fault of a foreign column name is the option that mends it."""
    with pytest.raises(ManifestError) as raised:
        read_screen(real_data / "lincs-a549-images")
    assert raised.value.faults == (
        "column 'concentration_um' is missing; the file has 'dose_um': --map concentration_um=dose_um",
    )
