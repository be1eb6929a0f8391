"""The readers against data that nobody here made; what is expected is worked out from the files without them."""

import csv
import re
from pathlib import Path

import pytest
from phenoembed.readers import preview, read_screen, summary
from phenoembed.readers.layout import read_layout

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


def attributes_of_records(mlf: Path) -> list[tuple[str, int, int, str, str]]:
    """(well, field, z, channel, file) of each record, by regular expression."""
    records = []
    for attributes, file in re.findall(r"<bts:MeasurementRecord ([^>]*)>([^<]*)<", mlf.read_text(encoding="utf-8")):
        value = dict(re.findall(r'bts:(\w+)="([^"]*)"', attributes))
        well = f"{'ABCDEFGHIJKLMNOP'[int(value['Row']) - 1]}{value['Column'].zfill(2)}"
        records.append((well, int(value["FieldIndex"]), int(value["ZIndex"]), value["Ch"], file))
    return records


@pytest.fixture
def mlf(real_data: Path) -> Path:
    return next((real_data / "cv8000-export").rglob("MeasurementData.mlf"))


def test_real_export_is_read_whole(real_data: Path, mlf: Path) -> None:
    """Every record of a real export is a plane of an image, where the record says, and its file is there."""
    screen = read_screen(real_data / "cv8000-export", dry_run=True)
    assert preview(real_data / "cv8000-export") == {
        "reader": "cv8000",
        "files": 96,
        "images": 96,
        "plates": 1,
        "rejected": 0,
        "faults": [],
    }
    planes = [
        (row["well"], row["field"], z, row["channel"], Path(path).name)
        for row in screen.table.to_pylist()
        for z, path in enumerate(row["z_paths"], start=1)
    ]
    assert sorted(planes) == sorted(attributes_of_records(mlf))
    assert set(screen.table.column("plate").to_pylist()) == {mlf.parent.name}
    assert set(screen.table.column("time_h").to_pylist()) == {0.0}
    assert all(path.is_file() for row in range(screen.n_images) for path in screen.plane_paths(row))


def test_real_export_with_a_layout_is_a_screen(real_data: Path, mlf: Path, tmp_path: Path) -> None:
    """A layout and a channel are all that a real export wants before it can be indexed."""
    (tmp_path / "export").symlink_to(mlf.parent)
    (tmp_path / "layout.csv").write_text("well,compound,concentration_um\nD08,DMSO,\nE03,taxol,1\nF08,taxol,5\n")
    screen = read_screen(tmp_path, channel="2", times={1: 24})
    assert repr(screen) == "Screen(1 plate, 1 compound, 2 configurations, 12 images)"
    assert set(screen.table.column("time_h").to_pylist()) == {24.0}
    files = {Path(path).name for paths in screen.table.column("z_paths").to_pylist() for path in paths}
    assert files == {file for *_, channel, file in attributes_of_records(mlf) if channel == "2"}


def test_real_phenix_names_place_what_their_manifest_places(
    real_data: Path, manifest: list[dict[str, str]], tmp_path: Path
) -> None:
    """Without its manifest, plates, wells, fields and channels of a real screen are read from its files' names."""
    (tmp_path / "images").symlink_to(real_data / "lincs-a549-images" / "images")
    said = {(row["plate"], row["well"], row["broad_sample"], row["dose_um"]) for row in manifest}
    lines = [f"{plate},{well},{'' if sample == 'DMSO' else sample},{dose}" for plate, well, sample, dose in said]
    (tmp_path / "map.csv").write_text("\n".join(["plate,well_position,broad_sample,mmoles_per_liter", *lines]))
    screen = read_screen(tmp_path, layout=tmp_path / "map.csv", times={1: 48})
    assert screen.reader == "phenix"
    found = {
        (row["path"], row["plate"], row["well"], row["field"], row["channel"], row["concentration_um"], row["role"])
        for row in screen.table.to_pylist()
    }
    assert found == {
        (
            *(row["path"], row["plate"], row["well"], int(row["field"]), row["channel_index"]),
            *(float(row["dose_um"]), "treated" if row["treated"] == "1" else "control"),
        )
        for row in manifest
    }


def test_real_plate_maps_of_jump(real_data: Path, tmp_path: Path) -> None:
    """JUMP's own tables lay out its plates: 64 wells of DMSO each, as in the maps; no concentration is invented."""
    for path in (real_data / "jump").glob("*.tsv"):
        (tmp_path / path.name).symlink_to(path)
    barcodes = tmp_path / "experiment-metadata.tsv"
    with pytest.raises(ManifestError, match="column 'concentration_um' is missing"):
        read_layout(barcodes, {})
    layout = read_layout(barcodes, {"concentration_um": "5 uM"})
    with (real_data / "jump" / "experiment-metadata.tsv").open() as file:
        plates = {
            row["Assay_Plate_Barcode"]: row["Plate_Map_Name"]
            for row in csv.DictReader(file, delimiter="\t")
            if (real_data / "jump" / f"{row['Plate_Map_Name']}.tsv").exists()
        }
    assert layout.plates == sorted(plates)
    roles = layout.table.column("role").to_pylist()
    for plate, name in plates.items():
        with (real_data / "jump" / f"{name}.tsv").open() as file:
            controls = {row["well_position"] for row in csv.DictReader(file, delimiter="\t") if not row["broad_sample"]}
        assert controls == {
            well for (of, well), row in layout.places.items() if of == plate and roles[row] == "control"
        }
