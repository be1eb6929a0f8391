"""Exports of the CV7000/CV8000: where an image stands is in its record, and nothing is left out in silence."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phenoembed.readers import preview, read_screen, summary
from phenoembed.readers.bts import stray_record
from phenoembed.screen import SCREEN_REJECTED_SCHEMA, Screen

from phenoembed_store.errors import ManifestError
from phenoembed_store.schema import SCREEN_SCHEMA

PLATE = "Assay_2C-3W-4S-FP2_B02"  # its name ends in what looks like a well
BEGAN = datetime.fromisoformat("2024-03-01T10:00:00.0000000+01:00")
NAMESPACE = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
LAYOUT = "plate,well,compound,concentration_um"


def image_name(well: str, time: int = 1, field: int = 1, z: int = 1, channel: int = 1, plate: str = PLATE) -> str:
    return f"{plate}_{well}_T{time:04d}F{field:03d}L01A01Z{z:02d}C{channel:02d}.tif"


def record(
    well: str, time: int = 1, field: int = 1, z: int = 1, channel: int = 1, hours: float = 0.01, **changed: str | None
) -> str:
    """A record of an image; ``changed`` sets an attribute, or takes it away (None); ``text`` is the file's name."""
    known: dict[str, str | None] = {
        "Type": "IMG",
        "Time": (BEGAN + timedelta(hours=hours)).isoformat(),
        "Column": str(int(well[1:])),
        "Row": str(ord(well[0]) - 64),
        "TimePoint": str(time),
        "FieldIndex": str(field),
        "ZIndex": str(z),
        "Ch": str(channel),
        "text": image_name(well, time, field, z, channel),
    } | changed
    text = known.pop("text") or ""
    attributes = " ".join(f"bts:{name}={quoteattr(value)}" for name, value in known.items() if value is not None)
    return f"<bts:MeasurementRecord {attributes}>{escape(text)}</bts:MeasurementRecord>"


def export(
    folder: Path, *records: str, plate: str = PLATE, began: datetime | None = BEGAN, files: list[str] | None = None
) -> Path:
    """An export of these records; the files they name are there, or only ``files``."""
    folder.mkdir(parents=True, exist_ok=True)
    body = "\n".join(records)
    (folder / "MeasurementData.mlf").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<bts:MeasurementData {NAMESPACE}>\n{body}\n</bts:MeasurementData>'
    )
    (folder / "p.wpi").write_text(f"\ufeff<bts:WellPlate bts:Name={quoteattr(plate)} {NAMESPACE}/>", encoding="utf-8")
    if began is not None:
        (folder / "MeasurementDetail.mrf").write_text(
            f'<bts:MeasurementDetail bts:BeginTime="{began.isoformat()}" bts:Title="t" {NAMESPACE}/>'
        )
    named = [each.split(">")[1].split("<")[0] for each in records if 'Type="IMG"' in each]
    for name in named if files is None else files:
        if name:
            (folder / name).write_bytes(b"x")
    return folder


def lay_out(folder: Path, *lines: str, header: str = LAYOUT) -> Path:
    (folder / "layout.csv").write_text("\n".join([header, *lines]))
    return folder


def rows(screen: Screen, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in screen.table.select(list(names)).to_pylist()]


def rejected(screen: Screen) -> list[tuple[object, ...]]:
    assert screen.rejected.schema.equals(SCREEN_REJECTED_SCHEMA)
    return [tuple(row.values()) for row in screen.rejected.select(["well", "path", "reason"]).to_pylist()]


def faults(folder: Path, **options: object) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as raised:
        read_screen(folder, **options)  # type: ignore[arg-type]
    return raised.value.faults


def test_records_and_layout_make_a_screen(tmp_path: Path) -> None:
    """The record says where an image stands, the layout what is there; annotations of the layout are kept."""
    export(tmp_path / "a", record("A01", hours=0.1), record("P24", field=3, hours=0.2))
    lines = (f"{PLATE},A01,DMSO,,x,R1", f"{PLATE},P24,taxol,0.5,y,R2", f"{PLATE},C03,unused,1,z,R1")
    screen = read_screen(lay_out(tmp_path, *lines, header=f"{LAYOUT},moa,replicate"))
    second = image_name("P24", field=3)
    assert screen.table.column_names == [*SCREEN_SCHEMA.names, "moa", "z_planes"]
    assert rows(screen, *SCREEN_SCHEMA.names, "moa") == [
        (f"a/{image_name('A01')}", tmp_path.name, PLATE, "A01", 1, 0.0, "1", 0, "R1", "DMSO", 0.0, "control", "x"),
        (f"a/{second}", tmp_path.name, PLATE, "P24", 3, 0.0, "1", 0, "R2", "taxol", 0.5, "treated", "y"),
    ]
    assert screen.image_path(1).is_file()
    assert screen.reader == "cv8000"
    assert not screen.rejected.num_rows


def test_the_record_is_trusted_not_the_name(tmp_path: Path) -> None:
    """A well, field or time in a file's name is no argument against its record."""
    export(tmp_path, record("C05", field=7, text=image_name("D11", field=2)))
    screen = read_screen(tmp_path, dry_run=True)
    assert rows(screen, "plate", "well", "field") == [(PLATE, "C05", 7)]


def test_rows_beyond_z(tmp_path: Path) -> None:
    """1536-well plates have rows AA to AF."""
    export(tmp_path, record("A01", Row="27"), record("A48", Row="32", field=2, text="x.tif"))
    assert rows(read_screen(tmp_path, dry_run=True), "well") == [("AA01",), ("AF48",)]


def test_without_a_layout_only_a_dry_run_reads(tmp_path: Path) -> None:
    """A dry run counts what nobody has laid out yet; anything else asks for the layout."""
    export(tmp_path, record("A01"), record("A01", channel=2))
    assert faults(tmp_path) == (
        f"no layout for plate '{PLATE}': --layout FILE, or write {tmp_path / 'layout.csv'} with the columns "
        "plate, well, compound, concentration_um",
        "2 channels (1, 2); choose one: --channel 1",
    )
    screen = read_screen(tmp_path, dry_run=True)
    assert rows(screen, "compound", "concentration_um", "role") == [("", 0.0, "empty")] * 2
    assert "no layout.csv: what is in the wells is not known" in screen.notes
    expected = {"reader": "cv8000", "files": 2, "images": 2, "plates": 1, "rejected": 0, "faults": []}
    assert preview(tmp_path) == summary(screen, "cv8000") == expected


def test_a_layout_for_every_plate(tmp_path: Path) -> None:
    """Without a column 'plate' all exports of a tree are laid out alike; each is a plate, and its own replicate."""
    for name in ("P1", "P2"):
        export(tmp_path / name, record("A01"), plate=name)
    screen = read_screen(lay_out(tmp_path, "a1,taxol,1", header="Well,compound,concentration_um"))
    assert rows(screen, "plate", "replicate", "compound") == [("P1", "P1", "taxol"), ("P2", "P2", "taxol")]


def test_the_nearest_layout_counts(tmp_path: Path) -> None:
    export(tmp_path / "x" / "P1", record("A01"), plate="P1")
    export(tmp_path / "y" / "P2", record("A01"), plate="P2")
    lay_out(tmp_path, "P1,A01,taxol,1", "P2,A01,taxol,1")
    lay_out(tmp_path / "y" / "P2", "P2,A01,nocodazole,1")
    assert rows(read_screen(tmp_path), "compound") == [("taxol",), ("nocodazole",)]


def test_faults_of_the_layout(tmp_path: Path) -> None:
    """They are told with the layout's name and row, and so is each well or plate it leaves out, once."""
    export(tmp_path / "P1", record("A01"), record("A02"), record("A02", field=2), plate="P1")
    export(tmp_path / "P2", record("A01"), record("A02"), plate="P2")
    path = tmp_path / "layout.csv"
    assert faults(lay_out(tmp_path, "P1,A01,taxol,1")) == (
        f"{path}: well A02 of plate 'P1' has images but no row (role 'empty': without cells)",
        f"{path}: plate 'P2' has images but no row; the layout has 'P1'",
    )
    assert faults(lay_out(tmp_path, "P1,A01,taxol,5 uM", "P1,A2,x,1", "P1,A02,x,1,", ",A77,x,1")) == (
        f"{path}: row 2: concentration_um '5 uM' is not a number; write micromolar, without a unit",
        f"{path}: row 4: well A02 of plate 'P1' is in row 3 too",
        f"{path}: row 5: plate is empty",
        f"{path}: row 5: well 'A77' is no well (rows A-AF, columns 1-48)",
    )
    assert faults(lay_out(tmp_path, "A01,taxol,1,3", header="well,drug,dose,field")) == (
        f"{path}: column 'compound' is missing; the file has 'drug': --map compound=drug",
        f"{path}: column 'field' is of an image, not of a well; a layout has "
        "well, compound, concentration_um, plate, replicate, role, time_h",
        f"{path}: row 2: column 'dose': concentration '1' has no unit; write '1 uM', or name the column "
        "concentration_um (--map) if it is micromolar",
    )


def test_what_cannot_be_used_is_rejected_with_its_reason(tmp_path: Path) -> None:
    """Errors of the instrument, missing files, second files of an image, senseless records, files without a record."""
    records = (
        record("A01"),
        record("A02", text="gone.tif"),
        record("A03", Type="ERR", FieldIndex=None, ZIndex=None, Ch=None, text="Autofocus\n failed"),
        record("A04", Type="ERR", text=""),
        record("A01", text="again.tif"),
        record("A05", Row="40", text="row.tif"),
        record("A06", FieldIndex=None, text="field.tif"),
        record("A07", TimePoint="-1", text="time.tif"),
        record("A08", text=""),
        record("A09", Type="CAL", text="cal.tif"),
    )
    export(tmp_path, *records)
    (tmp_path / "gone.tif").unlink()
    stray = image_name("B07", field=12, z=3, channel=4)
    for name in (stray, "SC_BP445-45_20x v2_M01_CH01.tif", "DC_DCAM#1_CAM3.tif", "cal.tif"):
        (tmp_path / name).touch()
    screen = read_screen(tmp_path, dry_run=True)
    assert rows(screen, "well", "path") == [("A01", image_name("A01"))]
    assert rejected(screen) == [
        ("A02", "gone.tif", "file 'gone.tif' is missing"),
        ("A03", None, "the instrument reports: Autofocus failed"),
        ("A04", None, "the instrument reports: an error"),
        ("A01", "again.tif", f"the same image as '{image_name('A01')}'"),
        (None, "row.tif", "row 40, column 5 is no well (rows 1-32, columns 1-48)"),
        ("A06", "field.tif", "the record has no bts:FieldIndex"),
        ("A07", "time.tif", "bts:TimePoint '-1' is not a whole number from 0"),
        ("A08", None, "the record names no file"),
        ("A09", None, "a record of type 'CAL'"),
        ("B07", stray, "MeasurementData.mlf does not list the file"),
    ]
    last = screen.rejected.to_pylist()[-1]
    assert (last["plate"], last["field"], last["z"], last["channel"], last["role"]) == (PLATE, 12, 3, "4", None)
    assert (preview(tmp_path)["images"], preview(tmp_path)["rejected"], preview(tmp_path)["files"]) == (1, 10, 7)
    assert read_screen(tmp_path, dry_run=True, channel="1").rejected.num_rows == 9  # the stray is of channel 4


def test_a_record_listed_twice_is_read_once(tmp_path: Path) -> None:
    export(tmp_path, record("A01"), record("A01"), record("A01", Type="ERR", text="x"), record("A02"))
    screen = read_screen(tmp_path, dry_run=True)
    assert (screen.n_images, screen.rejected.num_rows) == (2, 1)
    assert "records listed twice, each read once: 1" in screen.notes


def test_z_stacks_are_gathered(tmp_path: Path) -> None:
    export(tmp_path, record("A01", z=2), record("A01", z=1), record("A02", z=1))
    screen = read_screen(tmp_path, dry_run=True)
    assert rows(screen, "z_paths") == [([image_name("A01", z=1), image_name("A01", z=2)],), (None,)]
    assert (summary(screen, "cv8000")["images"], screen.n_images) == (3, 2)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ({1: 0.01, 2: 23.9, 3: 72.4}, [0.0, 24.0, 72.0]),
        ({2: 24.02, 3: 48.0}, [24.0, 48.0]),
        ({1: 0.01, 2: 0.51}, [round(1 / 60, 6), round(31 / 60, 6)]),
        ({1: 0.0, 2: 0.005}, [0.0, 0.005]),
    ],
)
def test_hours_are_elapsed_since_the_measurement_began(
    tmp_path: Path, hours: dict[int, float], expected: list[float]
) -> None:
    """A time point's index is not its hour, and the first may be 2. Late wells share their time point's hours."""
    early = [record("A01", point, hours=hour) for point, hour in hours.items()]
    late = [record("A02", point, hours=hour + 0.001) for point, hour in hours.items()]
    screen = read_screen(export(tmp_path, *early, *late), dry_run=True)
    assert [time for (time,) in rows(screen, "time_h")] == pytest.approx(expected * 2, abs=1e-6)


def test_hours_as_the_user_gives_them(tmp_path: Path) -> None:
    """``times`` names time points; one that it leaves out is a fault. A layout may give the hours of the first."""
    export(tmp_path, record("A01", 2), record("A01", 3, hours=48))
    assert rows(read_screen(tmp_path, dry_run=True, times={1: 4, 2: 24, 3: 72}), "time_h") == [(24.0,), (72.0,)]
    assert faults(tmp_path, dry_run=True, times={1: 4, 2: 24}) == (
        "time point 3 has no hours; --times has those of 1, 2 and counts from 1; here the first is 2",
    )
    assert faults(tmp_path, dry_run=True, times={2: 4, 3: 4}) == ("--times gives two time points the same hours: 4, 4",)
    lay_out(tmp_path, f"{PLATE},A01,taxol,1,24", header=f"{LAYOUT},time_h")
    assert rows(read_screen(tmp_path), "time_h") == [(24.0,), (72.0,)]
    assert "leave out --times" in faults(tmp_path, times={2: 24, 3: 72})[0]


def test_time_points_without_a_time(tmp_path: Path) -> None:
    """One time point needs no stamp; of several, each does."""
    export(tmp_path, record("A01", Time=None), began=None)
    assert rows(read_screen(tmp_path, dry_run=True), "time_h") == [(0.0,)]
    export(tmp_path, record("A01", Time=None), record("A01", 2, Time="yesterday"), began=None)
    assert len(faults(tmp_path, dry_run=True)) == 2
    assert rows(read_screen(tmp_path, dry_run=True, times={1: 2, 2: 4}), "time_h") == [(2.0,), (4.0,)]


def test_one_plate_in_two_exports(tmp_path: Path) -> None:
    """Measured again later it is a time course; wells measured apart are one plate; one image twice is a fault."""
    export(tmp_path / "day1", record("A01"))
    export(tmp_path / "day2", record("A01", hours=24.01), began=BEGAN + timedelta(hours=24))
    screen = read_screen(tmp_path, dry_run=True)
    assert (rows(screen, "time_h"), screen.n_plates) == ([(0.0,), (24.0,)], 1)
    assert f"plate '{PLATE}' is in 2 exports, taken as its time points" in screen.notes
    soon = BEGAN + timedelta(minutes=5)
    export(tmp_path / "day2", record("A02"), began=soon)
    assert rows(read_screen(tmp_path, dry_run=True), "well", "time_h") == [("A01", 0.0), ("A02", 0.0)]
    export(tmp_path / "day2", record("A02"), record("A01"), began=soon)
    assert faults(tmp_path, dry_run=True) == (
        f"'{tmp_path / 'day1'}' and '{tmp_path / 'day2'}' are both plate '{PLATE}' at 0.0 h; "
        "give the plates names of their own",
    )


@pytest.mark.parametrize("content", ["", "<a><b></a>", "garbage", "\x00", "<a/>"])
def test_a_damaged_mlf_is_a_fault(tmp_path: Path, content: str) -> None:
    (tmp_path / "MeasurementData.mlf").write_text(content)
    told = faults(tmp_path, dry_run=True)
    assert any("is not readable as XML" in fault or "no record" in fault for fault in told)
    assert preview(tmp_path)["faults"] == list(told)


def test_a_truncated_mlf_is_a_fault(tmp_path: Path) -> None:
    """Half a copy is not half a screen."""
    path = export(tmp_path, record("A01"), record("A02")) / "MeasurementData.mlf"
    path.write_text(path.read_text()[:-60])
    assert "was it copied whole?" in faults(tmp_path, dry_run=True)[0]


def test_side_files_may_be_missing_or_damaged(tmp_path: Path) -> None:
    """Without a .wpi the .mrf names the plate, without both the folder does."""
    folder = export(tmp_path / "folder-name", record("A01"))
    (folder / "p.wpi").write_text("<")
    (folder / "MeasurementDetail.mrf").write_text(f'<bts:MeasurementDetail bts:Title="title" {NAMESPACE}/>')
    assert rows(read_screen(tmp_path, dry_run=True), "plate") == [("title",)]
    (folder / "MeasurementDetail.mrf").unlink()
    assert rows(read_screen(tmp_path, dry_run=True), "plate") == [("folder-name",)]


def test_a_folder_linked_to_itself_is_read_once(tmp_path: Path) -> None:
    export(tmp_path / "a", record("A01"))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert read_screen(tmp_path, dry_run=True).n_images == 1


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plate in it is not left out in silence, whatever else there is."""
    export(tmp_path / "a", record("A01"))
    export(tmp_path / "b", record("A01"))
    real = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ManifestError, match=f"folder '{tmp_path}/b' cannot be read: Permission denied"):
        read_screen(tmp_path, dry_run=True)


@given(st.text("AB0_-F2.Z", max_size=12), st.integers(1, 24), st.integers(1, 9999), st.integers(1, 999))
def test_a_name_is_read_from_its_end(plate: str, column: int, time: int, field: int) -> None:
    """Whatever the plate is called, the last well in the name is the well."""
    found = stray_record(image_name(f"C{column:02d}", time, field, plate=plate))
    assert found is not None
    assert (found.well, found.time_point, found.field, found.z, found.channel) == (
        f"C{column:02d}",
        time,
        field,
        1,
        "1",
    )


WORDS = st.sampled_from(["", "0", "1", "2", "33", "-1", "9" * 40, "x", "1.0", "٣", "IMG", "ERR", "a.tif", "../a.tif"])
STAMPS = st.sampled_from(["", "2024-03-01T10:00:00+01:00", "2024-03-02", "9999-12-31T23:59:59-23:00", "0001-01-01"])
MUTATIONS = st.dictionaries(
    st.sampled_from(["Type", "Row", "Column", "TimePoint", "FieldIndex", "ZIndex", "Ch", "text"]), WORDS | st.none()
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(MUTATIONS, STAMPS), max_size=5), st.integers(0, 400), st.binary(max_size=3), st.booleans())
def test_any_mlf_is_read_or_refused(
    tmp_path: Path, changes: list[tuple[dict[str, str | None], str]], cut: int, noise: bytes, damaged: bool
) -> None:
    """Whatever a .mlf holds, every record is an image, a rejected image with a reason, or the file is refused."""
    records = [record("A01", field=i + 1, Time=stamp, **changed) for i, (changed, stamp) in enumerate(changes)]
    path = export(tmp_path, *records, files=["a.tif"]) / "MeasurementData.mlf"
    if damaged:
        content = path.read_bytes()
        path.write_bytes(content[:cut] + noise + content[cut + len(noise) :])
    try:
        screen = read_screen(tmp_path, dry_run=True)
    except ManifestError as error:
        told = error.faults
    else:
        told = ("a screen",) * (screen.n_images > 0)
        assert all(screen.table.column(name).null_count == 0 for name in SCREEN_SCHEMA.names)
        assert all(screen.rejected.column("reason").to_pylist())
    assert told
    assert all("\n" not in fault for fault in told)
