"""ImageXpress and Opera Phenix: an image stands where the instrument says, and nothing is left out in silence."""

from pathlib import Path

import pytest
from phenoembed.readers import preview, read_screen
from phenoembed.screen import Screen

from phenoembed_store.errors import ManifestError, PhenoembedError

GUID = "BEDC2073-A983-4B98-95E9-84466707A25D"


def rows(screen: Screen, *names: str) -> list[tuple[object, ...]]:
    return sorted((tuple(row.values()) for row in screen.table.select(list(names)).to_pylist()), key=str)


def rejected(screen: Screen) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in screen.rejected.select(["well", "path", "reason"]).to_pylist()]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def lay_out(folder: Path, *lines: str) -> Path:
    (folder / "layout.csv").write_text("\n".join(["well,compound,concentration_um", *lines]))
    return folder


def faults(folder: Path, **options: object) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as raised:
        read_screen(folder, **options)  # type: ignore[arg-type]
    assert all("\n" not in fault for fault in raised.value.faults)
    return raised.value.faults


# Opera Phenix


def entry(**said: object) -> str:
    known = {
        "id": "0102K1F3P1R1",
        "State": "Ok",
        "URL": "r01c02f03p01-ch1sk1fk1fl1.tiff",
        "Row": 1,
        "Col": 2,
        "FieldID": 3,
        "PlaneID": 1,
        "TimepointID": 0,
        "ChannelID": 1,
        "ChannelName": "Brightfield",
        "AbsTime": "2024-03-01T10:00:00.1234567+01:00",
    } | said
    return "".join(["<Image Version='1'>", *(f"<{n}>{v}</{n}>" for n, v in known.items() if v is not None), "</Image>"])


def index_file(folder: Path, *entries: str, name: str = "Index.idx.xml", plate: str = "Plate7") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(
        "<?xml version='1.0' encoding='utf-8'?><EvaluationInputData xmlns='http://www.perkinelmer.com/PEHH/HarmonyV5'>"
        f"<Plates><Plate><PlateID>id</PlateID><Name>{plate}</Name></Plate></Plates>"
        f"<Wells><Well><Image id='0102K1F3P1R1'/></Well></Wells><Images>{''.join(entries)}</Images>"
        "</EvaluationInputData>"
    )
    return folder


def test_phenix_names(tmp_path: Path) -> None:
    """Without an index the names say everything, and the folder is the plate; a measurement's suffix is none of it."""
    touch(tmp_path / "P9__2024-03-01T10_00_00-Measurement 1" / "Images", "r16c24f03p02-ch4sk1fk1fl1.tiff", "Thumbs.db")
    touch(tmp_path / "Q1", "r01c02f09p01-ch4sk1fk1fl1.png", "r99c01f01p01-ch4sk1fk1fl1.png")
    screen = read_screen(tmp_path, dry_run=True)
    assert screen.reader == "phenix"
    assert rows(screen, "plate", "well", "field", "channel", "time_h") == [
        ("P9", "P24", 3, "4", 0.0),
        ("Q1", "A02", 9, "4", 0.0),
    ]
    reason = "row 99, column 1 is no well (rows 1-32, columns 1-48)"
    assert rejected(screen) == [(None, "Q1/r99c01f01p01-ch4sk1fk1fl1.png", reason)]


def test_phenix_index(tmp_path: Path) -> None:
    """The index says where an image stands, which plate it is, and what its channel is called."""
    images = index_file(tmp_path / "x" / "Images", entry(), entry(PlaneID=2, URL="second.tiff"))
    touch(images, "r01c02f03p01-ch1sk1fk1fl1.tiff", "second.tiff", "third.png")
    screen = read_screen(lay_out(tmp_path, "A02,taxol,1"))
    assert rows(screen, "plate", "well", "field", "compound") == [("Plate7", "A02", 3, "taxol")]
    first, second = screen.table.column("z_paths")[0].as_py()
    assert (first, second) == ("x/Images/r01c02f03p01-ch1sk1fk1fl1.tiff", "x/Images/second.tiff")
    assert {"channels: 1 is Brightfield", "images of other names, left out: 1 ('x/Images/third.png')"} <= {
        *screen.notes
    }
    assert preview(tmp_path) == {
        "reader": "phenix",
        "files": 2,
        "images": 2,
        "plates": 1,
        "rejected": 0,
        "faults": [],
    }


def test_what_a_phenix_index_cannot_use_is_rejected(tmp_path: Path) -> None:
    """Failed images, missing files, entries without a place, and files without an entry, each with its reason."""
    index_file(
        tmp_path,
        entry(),
        entry(FieldID=4, URL="gone.tiff"),
        entry(FieldID=5, State="Failed", URL="failed.tiff"),
        entry(FieldID="five", URL="five.tiff"),
        entry(Row=40, URL="row.tiff"),
        entry(URL=None),
    )
    stray = "r02c02f03p01-ch1sk1fk1fl1.tiff"
    touch(tmp_path, "r01c02f03p01-ch1sk1fk1fl1.tiff", "failed.tiff", "five.tiff", "row.tiff", stray)
    screen = read_screen(tmp_path, dry_run=True)
    assert rows(screen, "well", "field") == [("A02", 3)]
    assert rejected(screen) == [
        ("A02", "gone.tiff", "file 'gone.tiff' is missing"),
        ("A02", "failed.tiff", "the instrument reports: Failed"),
        ("A02", "five.tiff", "FieldID 'five' is not a whole number from 0"),
        (None, "row.tiff", "row 40, column 2 is no well (rows 1-32, columns 1-48)"),
        ("A02", None, "the entry names no file"),
        ("B02", stray, "Index.idx.xml does not list the file"),
    ]


def test_phenix_time_points_have_the_hours_of_their_stamps(tmp_path: Path) -> None:
    """Time points are told by time stamps, or by --times; their numbers are no hours."""
    late = entry(TimepointID=1, URL="r01c02f03p01-ch1sk2fk1fl1.tiff", AbsTime="2024-03-02T10:00:05+01:00")
    touch(index_file(tmp_path, entry(), late), "r01c02f03p01-ch1sk1fk1fl1.tiff", "r01c02f03p01-ch1sk2fk1fl1.tiff")
    assert rows(read_screen(tmp_path, dry_run=True), "time_h") == [(0.0,), (24.0,)]
    assert rows(read_screen(tmp_path, dry_run=True, times={1: 4, 2: 28}), "time_h") == [(28.0,), (4.0,)]
    (tmp_path / "Index.idx.xml").unlink()
    told = faults(tmp_path, dry_run=True)
    assert told == tuple(f"{tmp_path}: time point {n} has no time stamp; give its hours with --times" for n in (1, 2))


@pytest.mark.parametrize("index", ["index/0d1e.xml", "index.idx.xml", "images/Index.xml", None])
def test_a_phenix_archive_has_a_folder_a_well(tmp_path: Path, index: str | None) -> None:
    """``hs/<measurement>/images/r01c02/``, since Harmony 5.1; its index names files without their folder."""
    home = tmp_path / "Plate 7" / "hs" / "0d1e"
    names = [
        f"r{row:02d}c02f03p01-ch{channel:02d}t{time:02d}.tiff"
        for row in (1, 2)
        for channel in (1, 2)
        for time in (1, 2)
    ]
    touch(home / "images", *(f"{name[:6]}/{name}" for name in names), "r02c02/r02c02f04p01-ch01t01.tiff")
    if index is not None:
        listed = [entry(Row=int(n[1:3]), ChannelID=n[16:17], TimepointID=n[18:19], URL=n, AbsTime=None) for n in names]
        named = (home / index).with_name("Index.xml")
        index_file(named.parent, *listed, name=named.name, plate="Plate 7").joinpath(named.name).rename(home / index)
    screen = read_screen(tmp_path, dry_run=True, times={1: 24, 2: 48})
    last = ("Plate 7", "B02", 3, "2", 48.0, f"Plate 7/hs/0d1e/images/r02c02/{names[-1]}")
    assert last in rows(screen, "plate", "well", "field", "channel", "time_h", "path")
    assert screen.n_plates == 1
    assert screen.n_images + screen.rejected.num_rows == 9
    stray = "Plate 7/hs/0d1e/images/r02c02/r02c02f04p01-ch01t01.tiff"
    assert rejected(screen) == ([] if index is None else [("B02", stray, f"{Path(index).name} does not list the file")])
    assert read_screen(home / "images" / "r01c02", dry_run=True, times={1: 24, 2: 48}).n_images == 4


@pytest.mark.parametrize(("file", "point"), [("001002-1-001001001.tif", 0), ("r01c02f03p01-ch1.tiff", 1)])
def test_phenix_files_of_other_names_have_their_entry_s_time(tmp_path: Path, file: str, point: int) -> None:
    """Entries count time points from 0 or 1, ``--times`` from 1."""
    touch(index_file(tmp_path, entry(URL=file, TimepointID=point)), file)
    assert rows(read_screen(tmp_path, dry_run=True, times={1: 24}), "time_h") == [(24.0,)]


def test_a_damaged_phenix_index_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path, "r01c02f03p01-ch1sk1fk1fl1.tiff")
    (tmp_path / "Index.idx.xml").write_text("<EvaluationInputData><Images>")
    assert "is not readable as XML" in faults(tmp_path, dry_run=True)[0]
    assert preview(tmp_path)["faults"]


# ImageXpress


def header(folder: Path, *lines: str, name: str = "Exp1.HTD") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    first = ('"HTSInfoFile", Version 1.0', '"Description", "caf\xe9, \x1f odd"', '"XWells", 3', '"YWells", 2')
    (folder / name).write_bytes("\r\n".join([*first, *lines, '"EndFile"']).encode("latin-1"))
    return folder


def test_imagexpress_names_and_header(tmp_path: Path) -> None:
    """Sites and waves are in the names, waves' names in the header; thumbnails are no images."""
    header(tmp_path / "p", '"WellsSelection1", TRUE, FALSE, TRUE', '"WaveName1", "Brightfield"', '"WaveName2", "GFP"')
    names = (f"Exp1_A01_s2_w1{GUID}.tif", f"Exp1_A01_s2_w2{GUID}.TIF", f"Exp1_A01_s2_w1_thumb{GUID}.tif")
    touch(tmp_path / "p", *names, "Exp1_B02_C03_s10_w1.tif", "Exp1_Z00_s1_w1.tif", "notes.tif")
    touch(tmp_path / "elsewhere", "notes.tif")
    screen = read_screen(tmp_path, dry_run=True)
    assert screen.reader == "imagexpress"
    assert rows(screen, "plate", "well", "field", "channel") == [
        ("Exp1", "A01", 2, "1"),
        ("Exp1", "A01", 2, "2"),
        ("Exp1", "C03", 10, "1"),
    ]
    assert rejected(screen) == [
        (None, "p/Exp1_Z00_s1_w1.tif", "its name's well 'Z00' is none (rows A-AF, columns 1-48)"),
        ("A03", None, "Exp1.HTD selects the well, but there is no image of it"),
    ]
    assert "channels: 1 is Brightfield, 2 is GFP" in screen.notes
    assert "images of other names, left out: 1 ('p/notes.tif')" in screen.notes
    assert rows(read_screen(lay_out(tmp_path, "A01,taxol,1", "C03,DMSO,"), channel="1"), "channel", "role") == [
        ("1", "control"),
        ("1", "treated"),
    ]


def test_imagexpress_without_sites_and_waves(tmp_path: Path) -> None:
    """A plate with one of each leaves them out of its names; only its header tells that it is one."""
    touch(tmp_path, "Exp1_A01.tif", "Exp1_B02.TIF")
    with pytest.raises(PhenoembedError, match="holds no screen"):
        read_screen(tmp_path)
    header(tmp_path)
    assert rows(read_screen(tmp_path, dry_run=True), "well", "field", "channel") == [("A01", 1, "1"), ("B02", 1, "1")]


def test_imagexpress_time_points_and_planes_are_folders(tmp_path: Path) -> None:
    """Planes are gathered, MetaXpress' own projection left out, and time points need their hours."""
    header(tmp_path / "p")
    for time in (1, 2):
        for z in (0, 1, 2):
            touch(tmp_path / "p" / f"TimePoint_{time}" / f"ZStep_{z}", f"Exp1_A01_s1_w1{GUID}.tif")
    assert len(faults(tmp_path, dry_run=True)) == 2
    screen = read_screen(tmp_path, dry_run=True, times={1: 24, 2: 72})
    assert rows(screen, "time_h") == [(24.0,), (72.0,)]
    assert [len(planes) for planes in screen.table.column("z_paths").to_pylist()] == [2, 2]
    assert preview(tmp_path, times={1: 24, 2: 72})["images"] == 4
    told = read_screen(tmp_path, dry_run=True, times={1: 24, 2: 72, 3: 96}).notes
    assert "--times: there is no time point for 96 h" in told
    assert not any("--times" in note for note in screen.notes)


@pytest.mark.parametrize("folder", ["", "ZStep_0"])
def test_imagexpress_projections_are_images_where_no_plane_is(tmp_path: Path, folder: str) -> None:
    """In an acquisition of stacks and single planes; a projection beside its stack is none of its planes."""
    stack = [f"ZStep_{z}/Exp1_A01_s1_w1.tif" for z in (1, 2)]
    others = [f"{folder}/Exp1_A01_s1_w{wave}.tif".lstrip("/") for wave in (1, 2)]
    touch(header(tmp_path) / "TimePoint_1", *stack, *others)
    screen = read_screen(tmp_path, dry_run=True)
    assert rows(screen, "channel", "path", "z_paths") == [
        ("1", f"TimePoint_1/{stack[0]}", [f"TimePoint_1/{each}" for each in stack]),
        ("2", f"TimePoint_1/{others[1]}", None),
    ]
    assert not screen.rejected.num_rows


def test_an_imagexpress_time_point_s_folder_alone(tmp_path: Path) -> None:
    """It says its plate and time point when the images of that folder only are asked for."""
    folder = touch(header(tmp_path / "p") / "TimePoint_2", f"ZStep_1/Exp1_A01_s1_w1{GUID}.tif")
    screen = read_screen(folder, dry_run=True, times={2: 72})
    assert rows(screen, "plate", "well", "time_h", "path") == [("p", "A01", 72.0, f"ZStep_1/Exp1_A01_s1_w1{GUID}.tif")]
    assert read_screen(folder / "ZStep_1", dry_run=True, times={2: 72}).n_images == 1


def test_imagexpress_plates_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("101", "102"):
        touch(header(tmp_path / folder), "Exp1_A01_s1_w1.tif")
    assert rows(read_screen(tmp_path, dry_run=True), "plate") == [("101_Exp1",), ("102_Exp1",)]


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"not,an,HTD", b'"HTSInfoFile"\n"WellsSelection1"'])
def test_a_damaged_header_is_no_traceback(tmp_path: Path, content: bytes) -> None:
    touch(tmp_path, "Exp1_A01_s1_w1.tif")
    (tmp_path / "Exp1.HTD").write_bytes(content)
    found = preview(tmp_path)
    assert found["images"] == (1 if content.startswith(b'"HTS') else 0)


def test_a_reader_can_be_forced(tmp_path: Path) -> None:
    """Files that two readers would take are read by the one that is asked for; one that finds nothing says so."""
    touch(tmp_path, "r01c02f03p01-ch1sk1fk1fl1.tiff", "Exp1_A01_s1_w1.tif")
    assert read_screen(tmp_path, dry_run=True).reader == "phenix"
    assert rows(read_screen(tmp_path, dry_run=True, reader="imagexpress"), "well") == [("A01",)]
    assert faults(tmp_path, reader="ome-zarr") == ("there is no Zarr group",)
