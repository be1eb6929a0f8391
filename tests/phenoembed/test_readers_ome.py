"""OME-Zarr and OME-TIFF plates: each plane of a file is found, read, hashed and shown by itself."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from phenoembed.encoding import read_image
from phenoembed.pixels import peek_shape, read_pixels
from phenoembed.planes import content_hash, plane_of, size_and_time
from phenoembed.readers import preview, read_screen
from phenoembed.screen import Screen
from phenoembed.thumbnails import Picture, render

from phenoembed_store.errors import ImageError, ManifestError

SHAPE = (2, 3, 2, 40, 48)  # t, c, z, y, x


def stack(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 60000, SHAPE, dtype=np.uint16)


def zarr_plate(folder: Path, version: int, wells: dict[str, np.ndarray], **options: Any) -> Path:
    """A plate of NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3) with one field a well."""
    plate = folder / "MyPlate.ome.zarr"

    def group(path: Path, said: dict[str, Any]) -> None:
        made = zarr.open_group(str(path), mode="a", zarr_format=version)
        made.attrs.update({"ome": {"version": "0.5", **said}} if version == 3 else said)

    group(plate, {"plate": {"name": "P7", "wells": [{"path": path} for path in wells]}})
    axes = [{"name": "t", "type": "time", "unit": "hour"}, *({"name": name} for name in "czyx")]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [24, 1, 1, 1, 1]}]}]
    for path, pixels in wells.items():
        group(plate / path, {"well": {"images": [{"path": "0"}]}})
        multiscales = {"multiscales": [{"axes": axes, "datasets": datasets}]}
        group(plate / path / "0", multiscales | {"omero": {"channels": [{"label": "DAPI"}, {"label": "Phase"}, {}]}})
        keys = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == 2 else {}
        array = zarr.create_array(
            str(plate / path / "0" / "0"), shape=pixels.shape, dtype=pixels.dtype,
            chunks=(1, 1, 1, 32, 32), zarr_format=version, **keys, **options,
        )  # fmt: skip
        array[:] = pixels
    return plate


def rows(screen: Screen, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in screen.table.select(list(names)).to_pylist()]


@pytest.mark.parametrize(("version", "options"), [(2, {}), (3, {}), (3, {"shards": (1, 1, 2, 64, 64)})])
def test_zarr_plates_are_read_plane_by_plane(
    tmp_path: Path, version: int, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Wells, channels, hours and planes as the attributes say, and the pixels that were written."""
    wells = {"A/1": stack(1), "P/24": stack(2)}
    zarr_plate(tmp_path, version, wells, **options)
    screen = read_screen(tmp_path, channel="2", dry_run=True)
    assert screen.reader == "ome-zarr"
    assert rows(screen, "plate", "well", "field", "time_h", "channel") == [
        ("P7", well, 0, hours, "2") for well in ("A01", "P24") for hours in (0.0, 24.0)
    ]
    assert "channels: 1 is DAPI, 2 is Phase" in screen.notes
    for row, (well, time) in enumerate([("A/1", 0), ("A/1", 1), ("P/24", 0), ("P/24", 1)]):
        planes = screen.plane_paths(row)
        np.testing.assert_array_equal(read_pixels(planes[0], planes[1:]), wells[well][time, 1].max(axis=0))
        assert peek_shape(planes[0]) == (40, 48)
    assert preview(tmp_path)["images"] == 24
    assert "3 channels (1, 2, 3), of which index takes one: --channel 1" in caplog.text


def test_zarr_times_are_scaled_twice_and_acquisitions_told(tmp_path: Path) -> None:
    """NGFF scales an axis by the dataset's transformation, then by that of all datasets."""
    plate = zarr_plate(tmp_path, 2, {"A/1": stack(1)})
    image = zarr.open_group(str(plate / "A/1/0"))
    scales = dict(image.attrs)["multiscales"]
    scales[0]["coordinateTransformations"] = [{"type": "scale", "scale": [2, 1, 1, 1, 1]}]
    image.attrs["multiscales"] = scales
    whole = zarr.open_group(str(plate))
    whole.attrs["plate"] = dict(whole.attrs)["plate"] | {"acquisitions": [{"id": 0}, {"id": 1}]}
    screen = read_screen(tmp_path, channel="2", dry_run=True)
    assert rows(screen, "time_h") == [(0.0,), (48.0,)]
    assert "plate 'P7' has 2 acquisitions, taken as fields of one time point" in screen.notes


@pytest.mark.parametrize("step", [1e306, float("nan"), float("inf")])
def test_a_zarr_time_scale_that_is_none_is_a_fault(tmp_path: Path, step: float) -> None:
    image = zarr.open_group(str(zarr_plate(tmp_path, 2, {"A/1": stack(1)}) / "A/1/0"))
    scales = dict(image.attrs)["multiscales"]
    scales[0]["coordinateTransformations"] = [{"type": "scale", "scale": [step, 1, 1, 1, 1]}]
    image.attrs["multiscales"] = scales
    assert "time point 1 has no time stamp; give its hours with --times" in str(preview(tmp_path)["faults"])


def test_a_zarr_plane_changes_with_its_own_chunks_only(tmp_path: Path) -> None:
    """Size, time and hash are of the plane's chunk files: writing another plane changes none of them."""
    plate = zarr_plate(tmp_path, 3, {"A/1": stack(1)})
    screen = read_screen(tmp_path, channel="1", dry_run=True)
    mine, other = screen.plane_paths(0), screen.plane_paths(1)
    before = [(size_and_time((*planes,)), content_hash((*planes,))) for planes in (mine, other)]
    zarr.open_array(str(plate / "A/1/0/0"), mode="a")[1, 0, 1] = 7
    after = [(size_and_time((*planes,)), content_hash((*planes,))) for planes in (mine, other)]
    assert before[0] == after[0]
    assert before[1][1] != after[1][1]


def test_a_zarr_plane_that_is_not_there(tmp_path: Path) -> None:
    """A damaged array's images are rejected with the reason; damaged attributes of a plate are faults."""
    plate = zarr_plate(tmp_path, 3, {"A/1": stack(1), "A/2": stack(2)})
    (plate / "A/2/0/0/zarr.json").unlink()
    screen = read_screen(tmp_path, dry_run=True)
    assert screen.rejected.select(["well", "reason"]).to_pylist() == [
        {"well": "A02", "reason": "cannot be read: there is no Zarr array"}
    ]
    with pytest.raises(ImageError, match=r"no plane at \[9, 0, 0\]"):
        read_pixels(plate / "A/1/0/0#index=9,0,0")
    for text in ("{}", "[", '{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"plate": {"wells": 3}}}}'):
        (plate / "zarr.json").write_text(text)
        with pytest.raises(ManifestError) as raised:
            read_screen(tmp_path, dry_run=True)
        assert str(plate) in raised.value.faults[0]


def ome_tiff(path: Path, pixels: np.ndarray, plate: str, **options: Any) -> Path:
    """An OME-TIFF whose OME-XML has a plate."""
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "TCZYX", **options}, photometric="minisblack")
    text = tifffile.tiffcomment(path)
    assert isinstance(text, str)
    tifffile.tiffcomment(path, re.sub(r"(?=<Image )", plate, text, count=1).encode())
    return path


PLATE = (
    '<Plate ID="Plate:0" Name="P3"><Well ID="W:0" Row="1" Column="2">'
    '<WellSample ID="S:0" Index="0"><ImageRef ID="Image:0"/></WellSample></Well></Plate>'
)


def test_ome_tiff_planes(tmp_path: Path) -> None:
    """Well, channel, plane and hours of each page as the OME-XML says, with the page's pixels."""
    pixels = stack(3)
    planes = {"TheT": [0, 1], "DeltaT": [0.0, 86400.0], "DeltaTUnit": ["s", "s"]}
    offsets = {name: [value[t] for t in range(2) for _ in range(6)] for name, value in planes.items()}
    places = {"TheC": [c for _ in range(2) for c in range(3) for _ in range(2)], "TheZ": [0, 1] * 6}
    ome_tiff(tmp_path / "w.ome.tif", pixels, PLATE, Plane=offsets | places, Channel={"Name": ["a", "b", "c"]})
    screen = read_screen(tmp_path, channel="3", dry_run=True)
    assert screen.reader == "ome-tiff"
    assert rows(screen, "plate", "well", "field", "time_h") == [("P3", "B03", 1, 0.0), ("P3", "B03", 1, 24.0)]
    assert screen.plane_paths(0) == [tmp_path / "w.ome.tif#page=4", tmp_path / "w.ome.tif#page=5"]
    for time in range(2):
        found = screen.plane_paths(time)
        np.testing.assert_array_equal(read_pixels(found[0], found[1:]), pixels[time, 2].max(axis=0))
    assert preview(tmp_path, channel="3") == {
        "reader": "ome-tiff",
        "files": 1,
        "images": 4,
        "plates": 1,
        "rejected": 0,
        "faults": [],
    }


def test_a_page_is_hashed_and_shown_by_itself(tmp_path: Path) -> None:
    """Two pages of one file are two images; a page that is not there says so."""
    path = ome_tiff(tmp_path / "w.ome.tif", stack(3), PLATE)
    pages = [Path(f"{path}#page={n}") for n in range(2)]
    assert content_hash((pages[0],)) != content_hash((pages[1],))
    assert peek_shape(pages[1]) == (40, 48)
    _, facts = read_image((pages[1],))
    assert facts.file_bytes == path.stat().st_size
    first, second = (render(Picture((page,), "", (0, 0)), 32) for page in pages[:2])
    assert first != second
    for broken in (f"{path}#page=99", f"{tmp_path}/no.tif#page=1"):
        with pytest.raises(ImageError):
            read_image((Path(broken),))


def test_a_file_named_like_a_plane_is_that_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.eye(4, dtype=np.uint8))
    named = tmp_path / "a.tif#page=0"
    assert plane_of(named) is not None
    np.testing.assert_array_equal(read_pixels(named), np.eye(4))
    tifffile.imwrite(named, np.tri(4, dtype=np.uint8))
    assert plane_of(named) is None
    np.testing.assert_array_equal(read_pixels(named), np.tri(4))


def test_ome_tiff_without_a_place(tmp_path: Path) -> None:
    """A file whose OME-XML has no plate cannot be placed; one that is damaged is rejected, the others are read."""
    ome_tiff(tmp_path / "w.ome.tif", stack(3), "")
    with pytest.raises(ManifestError) as raised:
        read_screen(tmp_path, dry_run=True)
    assert "its OME-XML has no plate, so the well is not known; name it with --pattern" in raised.value.faults[0]
    ome_tiff(tmp_path / "w.ome.tif", stack(3), PLATE)
    (tmp_path / "x.ome.tif").write_bytes(b"II*\0" + b"\xff" * 50)
    screen = read_screen(tmp_path, dry_run=True, times={1: 24, 2: 48})
    assert screen.rejected.column("path").to_pylist() == ["x.ome.tif"]
    assert screen.n_images == 6


def test_a_manifest_may_name_planes(tmp_path: Path) -> None:
    """Pages of one file are images of a manifest; their file has to be there."""
    ome_tiff(tmp_path / "w.ome.tif", stack(3), PLATE)
    header = "path,plate,well,field,time_h,compound,concentration_um"
    lines = [f"w.ome.tif#page={n},P,A0{n},1,24,x,1" for n in (1, 2)]
    (tmp_path / "manifest.csv").write_text("\n".join([header, *lines]))
    screen = read_screen(tmp_path)
    assert (screen.n_images, screen.image_path(0)) == (2, tmp_path / "w.ome.tif#page=1")
    (tmp_path / "manifest.csv").write_text("\n".join([header, "no.ome.tif#page=1,P,A01,1,24,x,1"]))
    with pytest.raises(ManifestError, match=r"file 'no.ome.tif#page=1' is missing"):
        read_screen(tmp_path)
