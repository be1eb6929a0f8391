"""Files by a pattern, and CellProfiler's LoadData tables."""

import os
from pathlib import Path

import pytest
from phenoembed.pixels import read_pixels
from phenoembed.readers import preview, read_screen
from phenoembed.readers.layout import read_layout
from phenoembed.screen import Screen

from phenoembed_store.errors import ImageError, ManifestError, PhenoembedError

PATTERN = r"(?P<plate>[^/]+)/(?P<row>\d\d)(?P<column>\d\d)_f(?P<field>\d+)_t(?P<time_point>\d+)_(?P<stain>\w+)\.tif"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "layout.csv").write_text("well,compound,concentration_um\nB03,taxol,1\nA01,DMSO,")
    return folder


def rows(screen: Screen, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in screen.table.select(list(names)).to_pylist()]


def faults(folder: Path, **options: object) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as raised:
        read_screen(folder, **options)  # type: ignore[arg-type]
    return raised.value.faults


def test_named_groups_are_columns(tmp_path: Path) -> None:
    """Groups of our names are our columns, others annotations; files that do not match are none of the screen."""
    touch(tmp_path, "P1/0203_f1_t1_dapi.tif", "P1/0101_f2_t2_gfp.tif", "P1/readme.txt")
    screen = read_screen(tmp_path, pattern=PATTERN, times={1: 24, 2: 72})
    assert screen.reader == "pattern"
    assert rows(screen, "plate", "well", "field", "time_h", "compound", "stain") == [
        ("P1", "A01", 2, 72.0, "DMSO", "gfp"),
        ("P1", "B03", 1, 24.0, "taxol", "dapi"),
    ]
    assert preview(tmp_path, pattern=PATTERN)["images"] == 2
    (tmp_path / "layout.csv").unlink()
    assert preview(tmp_path, pattern=PATTERN)["images"] == 2
    told = "column 'compound' is missing; --layout FILE says what is in the wells, or --map compound=THEIRS"
    assert told in faults(tmp_path, pattern=PATTERN, times={1: 24, 2: 72})


def test_time_points_from_zero_and_images_of_other_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hours go to time points in order, whether they count from 0 or 1; an image that does not match is told."""
    touch(tmp_path, "P1/0203_f1_t0_dapi.tif", "P1/0101_f2_t1_gfp.tif", "P1/0101_f2.TIF", "P1/readme.txt")
    screen = read_screen(tmp_path, pattern=PATTERN, times={1: 24, 2: 72})
    assert rows(screen, "well", "time_h") == [("A01", 72.0), ("B03", 24.0)]
    note = "images of other names, left out: 1 ('P1/0101_f2.TIF')"
    assert note in screen.notes
    preview(tmp_path, pattern=PATTERN)
    assert note in caplog.messages


def test_a_pattern_s_faults_name_files(tmp_path: Path) -> None:
    touch(tmp_path, "P1/A01_1.tif", "P1/A01_2.tif", "P1/X00_1.tif")
    told = faults(tmp_path, pattern=r".*/(?P<well>\w\d\d)_.*", times={1: 48})
    assert told[0].startswith("'P1/A01_2.tif': the same image as 'P1/A01_1.tif': screen")
    assert told[1] == "'P1/X00_1.tif': well 'X00' is no well (rows A-AF, columns 1-48)"


def test_a_pattern_may_leave_things_out(tmp_path: Path) -> None:
    """The plate is the folder, the field 1, and --times with one value gives the hours."""
    touch(tmp_path, "P7/B03.tif")
    screen = read_screen(tmp_path, pattern=r".*/(?P<well>\w+)\.tif", times={1: 48})
    assert rows(screen, "plate", "well", "field", "time_h") == [("P7", "B03", 1, 48.0)]
    assert "no group says when the images were taken" in faults(tmp_path, pattern=r".*/(?P<well>\w+)\.tif")[0]
    mapped = read_screen(tmp_path, pattern=r".*/(?P<well>\w+)\.tif", mapping={"time_h": "48 h"})
    assert rows(mapped, "time_h") == [(48.0,)]


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("(", "--pattern '(' is no regular expression: missing ), unterminated subpattern at position 0"),
        ("x", "--pattern 'x' names no well: a group (?P<well>...), or (?P<row>...) and (?P<column>...)"),
        (
            r"(?P<well>\w+)\.png",
            "--pattern matches none of the 2 files, e.g. P7/B03.tif; it has to match the whole path",
        ),
        (r"(?P<plate>.*)/(?P<well>..).*", "'P7/B03.tif': well 'B0' is no well (rows A-AF, columns 1-48)"),
    ],
)
def test_faults_of_a_pattern(tmp_path: Path, pattern: str, fault: str) -> None:
    touch(tmp_path, "P7/B03.tif")
    assert fault in faults(tmp_path, pattern=pattern, times={1: 48})


def test_reader_and_pattern_go_together(tmp_path: Path) -> None:
    for options in ({"reader": "pattern"}, {"reader": "phenix", "pattern": "(?P<well>.*)"}):
        with pytest.raises(PhenoembedError, match="go together"):
            read_screen(tmp_path, **options)  # type: ignore[arg-type]


def test_loaddata(tmp_path: Path) -> None:
    """A row a field and a pair of columns a channel become a row an image; paths of another machine are found again."""
    touch(tmp_path, "P1/a_w1.tif", "P1/a_w2.tif", "P1/b_w1.tif", "P1/b_w2.tif")
    lines = [
        "FileName_OrigDNA,PathName_OrigDNA,FileName_OrigER,PathName_OrigER,Metadata_Plate,Metadata_Well,Metadata_Site,Metadata_Source",
        "a_w1.tif,/bucket/P1,a_w2.tif,/bucket/P1,P1,B03,1,s8",
        r"b_w1.tif,C:\data\P1,b_w2.tif,C:\data\P1,P1,A01,2,s8",
    ]
    (tmp_path / "load_data.csv").write_text("\n".join(lines))
    screen = read_screen(tmp_path, channel="OrigER", mapping={"time_h": "48 h"})
    assert screen.reader == "loaddata"
    assert rows(screen, "path", "plate", "well", "field", "time_h", "compound", "Metadata_Source") == [
        ("P1/a_w2.tif", "P1", "B03", 1, 48.0, "taxol", "s8"),
        ("P1/b_w2.tif", "P1", "A01", 2, 48.0, "DMSO", "s8"),
    ]
    assert "2 channels (OrigER, OrigDNA)" in faults(tmp_path, mapping={"time_h": "48 h"})[0]
    (tmp_path / "load_data.csv").write_text("Metadata_Plate\nP1")
    assert faults(tmp_path) == ("no column is named FileName_<channel>; this is no LoadData table",)


def test_names_too_long_for_a_file_system_are_files_that_are_not_there(tmp_path: Path) -> None:
    """In a LoadData table, a table of plate maps, a manifest's plane, an option: words, not a traceback."""
    long = "a" * 5000
    (tmp_path / "load_data.csv").write_text(
        f"FileName_DNA,PathName_DNA,Metadata_Plate,Metadata_Well\na.tif,/{long},P1,A01\n"
    )
    (tmp_path / "barcodes.csv").write_text(f"Assay_Plate_Barcode,Plate_Map_Name\nP1,{long}\n")
    assert "file 'a.tif' is missing" in preview(tmp_path)["faults"][-1]  # type: ignore[index]
    with pytest.raises(ManifestError, match="none of its plate maps is beside it"):
        read_layout(tmp_path / "barcodes.csv", {})
    for option in ({"layout": long}, {"folder": long}):
        with pytest.raises(PhenoembedError):
            read_screen(**{"folder": tmp_path, **option})  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        read_pixels(Path(f"{long}#page=1"))


def test_names_that_are_no_text_are_faults(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, in a file's or a folder's name; names of any language are read."""
    touch(tmp_path, "P1/B03.tif", "紫杉醇 µ/A01.tif")
    assert read_screen(tmp_path, pattern=r".*/(?P<well>\w+)\.tif", times={1: 48}).n_plates == 2
    (tmp_path / os.fsdecode(b"P\xff")).mkdir()
    touch(tmp_path, os.fsdecode(b"P1/B04\xe9.tif"), os.fsdecode(b"P\xff/A01.tif"))
    told = faults(tmp_path, pattern=r".*/(?P<well>\w+)\.tif", times={1: 48})
    assert [r"B04\udce9.tif' is no name in UTF-8" in told[0], r"P\udcff/A01.tif' is no name" in told[1]] == [True, True]
