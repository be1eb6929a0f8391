"""Manifests: what their cells mean, and the one line that each fault is told in."""

from pathlib import Path

import pytest
from phenoembed.readers import read_screen, summary
from tests.phenoembed.manifests import HEADER, ROWS, column, faults, write

from phenoembed_store.errors import ManifestError
from phenoembed_store.schema import SCREEN_SCHEMA


def test_a_manifest_of_the_required_columns(tmp_path: Path) -> None:
    """What is left out has its default: the folder's name, channel 1, plane 0, the plate as replicate."""
    screen = read_screen(write(tmp_path, HEADER, *ROWS))
    assert screen.table.schema.equals(SCREEN_SCHEMA)
    assert screen.table.to_pylist()[1] == {
        "path": "b.tif",
        "screen": tmp_path.name,
        "plate": "P1",
        "well": "A02",
        "field": 1,
        "time_h": 24.0,
        "channel": "1",
        "z": 0,
        "replicate": "P1",
        "compound": "taxol",
        "concentration_um": 0.5,
        "role": "treated",
    }
    assert screen.image_path(1).read_bytes() == b"x"
    assert screen.rejected.num_rows == 0
    assert summary(screen, "manifest") == {
        "reader": "manifest",
        "files": 3,
        "images": 3,
        "plates": 1,
        "rejected": 0,
        "faults": [],
    }


@pytest.mark.parametrize(
    ("compound", "dose", "role", "expected"),
    [
        ("DMSO", "", "", ("DMSO", 0.0, "control")),
        ("dmso", "0.1", "", ("DMSO", 0.0, "control")),
        ("vehicle", "n/a", "control", ("DMSO", 0.0, "control")),
        ("", "", "", ("DMSO", 0.0, "control")),
        ("water", "0", "Control", ("DMSO", 0.0, "control")),
        ("", "", "empty", ("", 0.0, "empty")),
        ("taxol", "2", "empty", ("taxol", 2.0, "empty")),
        ("taxol", "1e-3", "treated", ("taxol", 0.001, "treated")),
        ("taxol", "-0", "", ("taxol", 0.0, "treated")),
    ],
)
def test_roles(tmp_path: Path, compound: str, dose: str, role: str, expected: tuple[str, float, str]) -> None:
    """Controls are told by their role or compound; an empty well stays empty."""
    screen = read_screen(write(tmp_path, f"{HEADER},role", f"a.tif,P1,A01,1,24,{compound},{dose},{role}"))
    assert tuple(screen.table.select(["compound", "concentration_um", "role"]).to_pylist()[0].values()) == expected


def test_a_missing_time_says_how_all_rows_get_one(tmp_path: Path) -> None:
    write(tmp_path, HEADER.replace("time_h", "x"), "a.tif,P1,A01,1,24,DMSO,")
    with pytest.raises(ManifestError) as raised:
        read_screen(tmp_path)
    assert raised.value.faults[0].endswith('; --map "time_h=48 h" gives all rows one')


@pytest.mark.parametrize("written", ["A02", "a2", "A002", "A-2", "A 02", "A:2", "a_02", "R01C02", "r1c2"])
def test_wells_however_they_are_written(tmp_path: Path, written: str) -> None:
    screen = read_screen(write(tmp_path, HEADER, f"a.tif,P1,{written},1,24,DMSO,"))
    assert screen.table.column("well").to_pylist() == ["A02"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.tif,P1,Z99,1,24,DMSO,", "row 2: well 'Z99' is no well (rows A-AF, columns 1-48)"),
        ("a.tif,P1,AG01,1,24,DMSO,", "row 2: well 'AG01' is no well (rows A-AF, columns 1-48)"),
        ("a.tif,P1,A0,1,24,DMSO,", "row 2: well 'A0' is no well (rows A-AF, columns 1-48)"),
        ("a.tif,P1,,1,24,DMSO,", "row 2: well is empty"),
        ("a.tif,,A01,1,24,DMSO,", "row 2: plate is empty"),
        (",P1,A01,1,24,DMSO,", "row 2: path is empty"),
        ("a.tif,P1,A01,one,24,DMSO,", "row 2: field 'one' is not a whole number from 0"),
        ("a.tif,P1,A01,1.5,24,DMSO,", "row 2: field '1.5' is not a whole number from 0"),
        ("a.tif,P1,A01,9e99,24,DMSO,", "row 2: field '9e99' is not a whole number from 0"),
        ("a.tif,P1,A01,1,24h,DMSO,", "row 2: time_h '24h' is not a number; write hours, without a unit"),
        ("a.tif,P1,A01,1,,DMSO,", "row 2: time_h is empty"),
        ("a.tif,P1,A01,1,inf,DMSO,", "row 2: time_h 'inf' is not a number; write hours, without a unit"),
        (
            "a.tif,P1,A01,1,24,taxol,5 uM",
            "row 2: concentration_um '5 uM' is not a number; write micromolar, without a unit",
        ),
        (
            'a.tif,P1,A01,1,24,taxol,"0,5"',
            "row 2: concentration_um '0,5' is not a number; write micromolar with a decimal point, without a unit",
        ),
        ("a.tif,P1,A01,1,24,taxol,-1", "row 2: concentration_um '-1' is negative"),
        ("a.tif,P1,A01,1,24,taxol,", "row 2: concentration_um is empty; a treated well needs micromolar"),
        (
            "a.tif,P1,A01,1,24,taxol,1_0",
            "row 2: concentration_um '1_0' is not a number; write micromolar, without a unit",
        ),
        ("z.tif,P1,A01,1,24,DMSO,", "row 2: file 'z.tif' is missing"),
        ("A.tif,P1,A01,1,24,DMSO,", "row 2: file 'A.tif' is missing; the folder has 'a.tif'"),
        (
            "no/z.tif,P1,A01,1,24,DMSO,",
            "row 2: file 'no/z.tif' is missing: folder 'no' cannot be read (No such file or directory)",
        ),
        ("a.tif,P1,A01,1,24", "row 2: 5 cells, but the header has 7"),
        ("a.tif,P1,A01,1,24,DMSO,,,x", "row 2: 9 cells, but the header has 7"),
    ],
)
def test_a_fault_is_one_line_with_row_and_value(tmp_path: Path, line: str, fault: str) -> None:
    assert faults(write(tmp_path, HEADER, line, "b.tif,P9,A09,1,24,DMSO,")) == (fault,)


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ("taxol,1,hot", "row 2: role 'hot' is none of treated, control, empty"),
        ("DMSO,1,treated", "row 2: role is 'treated' but compound is 'DMSO', a control"),
        (",1,treated", "row 2: role is 'treated' but compound is empty, a control"),
        (
            "taxol,1,control",
            "row 2: role is 'control' but compound is 'taxol' at 1 micromolar; a positive control is 'treated'",
        ),
    ],
)
def test_faults_of_roles(tmp_path: Path, cells: str, fault: str) -> None:
    assert faults(write(tmp_path, f"{HEADER},role", f"a.tif,P1,A01,1,24,{cells}")) == (fault,)


def test_all_faults_are_told_at_once_in_the_order_of_rows(tmp_path: Path) -> None:
    """A column that is missing does not hide the faults of the others."""
    told = faults(
        write(
            tmp_path,
            "path,plate,well,site,time_h,compound,dose",
            "a.tif,P1,A01,1,24,DMSO,",
            "gone.tif,P1,Q99,1,x,taxol,5",
            "b.tif,,A03,1,24,taxol,5",
        )
    )
    assert told == (
        "column 'field' is missing; the file has 'site': --map field=site",
        "column 'concentration_um' is missing; the file has 'dose': --map concentration_um=dose",
        "row 3: well 'Q99' is no well (rows A-AF, columns 1-48)",
        "row 3: time_h 'x' is not a number; write hours, without a unit",
        "row 3: file 'gone.tif' is missing",
        "row 4: plate is empty",
    )


def test_one_image_twice(tmp_path: Path) -> None:
    """Two rows of one key, and two rows of one file, name each other."""
    told = faults(
        write(
            tmp_path,
            HEADER,
            "a.tif,P1,A01,1,24,DMSO,",
            "b.tif,P1,a1,1,24,DMSO,",
            "a.tif,P1,A02,1,24,DMSO,",
        )
    )
    assert told == (
        f"row 3: the same image as row 2: screen '{tmp_path.name}', plate 'P1', well 'A01', field 1, time_h 24.0, "
        "channel '1', z 0",
        "row 4: path 'a.tif' is the file of row 2 too",
    )


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ("taxol,2,R1", "row 3: well A01 of plate 'P1' has concentration_um 2.0, but 1.0 in row 2"),
        ("nocodazole,1,R1", "row 3: well A01 of plate 'P1' has compound 'nocodazole', but 'taxol' in row 2"),
        ("DMSO,1,R1", "row 3: well A01 of plate 'P1' has role 'control', but 'treated' in row 2"),
        ("taxol,1,R2", "row 3: well A01 of plate 'P1' has replicate 'R2', but 'R1' in row 2"),
        ("taxol,1,", "row 3: replicate is empty"),
    ],
)
def test_a_well_is_one_thing(tmp_path: Path, second: str, fault: str) -> None:
    """One well of one plate with two contents is an error of the layout."""
    lines = ("a.tif,P1,A01,1,24,taxol,1,R1", f"b.tif,P1,A01,2,24,{second}", "c.tif,P1,A01,3,24,taxol,1,R1")
    assert faults(write(tmp_path, f"{HEADER},replicate", *lines)) == (fault,)


def test_names_of_the_field_need_no_map(tmp_path: Path) -> None:
    """Metadata_ columns, and ours in any case, are read; others are kept."""
    header = (
        "path,Metadata_Plate,Metadata_Well,Metadata_Site,TIME_H,Metadata_Compound,Metadata_Concentration,Metadata_moa"
    )
    screen = read_screen(write(tmp_path, header, "a.tif,P1,a1,1.0,24,taxol,5,x"))
    assert screen.table.column_names == [*SCREEN_SCHEMA.names, "Metadata_moa"]
    assert (column(screen, "well"), column(screen, "field"), column(screen, "concentration_um")) == (
        ["A01"],
        [1],
        [5.0],
    )


def test_map_renames_and_keeps(tmp_path: Path) -> None:
    """A mapped column wins over one of our name, which is kept; an annotation can be renamed; a column serves twice."""
    lines = (f"{HEADER},broad_sample,target,n,code", "a.tif,P1,A01,1,24,taxol,1,BRD-1,TUBB,3,007")
    screen = read_screen(
        write(tmp_path, *lines), mapping={"compound": "broad_sample", "targets": "target", "replicate": "plate"}
    )
    assert screen.table.column_names[len(SCREEN_SCHEMA) :] == ["targets", "original_compound", "n", "code"]
    known = screen.table.to_pylist()[0]
    assert (known["compound"], known["original_compound"], known["replicate"]) == ("BRD-1", "taxol", "P1")
    assert (known["targets"], known["n"], known["code"]) == ("TUBB", 3, "007")


@pytest.mark.parametrize(("name", "expected"), [("dose_nM", 0.005), ("dose_um", 5.0), ("Dose (mM)", 5000.0)])
def test_a_mapped_dose_is_read_in_its_columns_unit(tmp_path: Path, name: str, expected: float) -> None:
    header = HEADER.replace("concentration_um", name)
    screen = read_screen(write(tmp_path, header, "a.tif,P1,A01,1,24,taxol,5"), mapping={"concentration_um": name})
    assert screen.table.column("concentration_um").to_pylist() == [expected]


def test_map_from_a_missing_column_suggests(tmp_path: Path) -> None:
    lines = ("path,plate,well,field,time_h,compound,dose_uM", "a.tif,P1,A01,1,24,taxol,1")
    assert faults(write(tmp_path, *lines), mapping={"concentration_um": "dose_um"}) == (
        "--map concentration_um=dose_um: the file has no column 'dose_um'; did you mean 'dose_uM'?",
    )


def test_names_the_store_needs_are_refused(tmp_path: Path) -> None:
    lines = (f"{HEADER},set,moa,MOA", "a.tif,P1,A01,1,24,taxol,1,1,x,y")
    assert faults(write(tmp_path, *lines)) == (
        "column 'set' has a name the store gives a column of its own: --map my_set=set",
        "columns 'moa' and 'MOA' differ only in case",
    )
    (fault,) = faults(write(tmp_path, f'{HEADER},"we""ird"', "a.tif,P1,A01,1,24,taxol,1,1"))
    assert fault.startswith("a column cannot be called 'we\"ird'")


def test_channels(tmp_path: Path) -> None:
    """Of several channels one is chosen by name; only its files need be there."""
    lines = [f"{HEADER},channel", "a.tif,P1,A01,1,24,taxol,1,phase", "b.tif,P1,A01,1,24,taxol,1,4.0"]
    folder = write(tmp_path, *lines, files="a")
    assert faults(folder, check_files=False) == ("2 channels (4, phase); choose one: --channel 4",)
    assert faults(folder, channel="gfp", check_files=False) == (
        "no image has channel 'gfp'; there is '4', 'phase': --channel 4",
    )
    assert column(read_screen(folder, channel="phase"), "path") == ["a.tif"]
    assert summary(read_screen(folder, check_files=False, dry_run=True), "manifest")["images"] == 2


def test_z_stack(tmp_path: Path) -> None:
    """Planes of one image are one row; the summary counts the files."""
    lines = ("b.tif,P1,A01,1,24,taxol,1,2", "a.tif,P1,A01,1,24,taxol,1,1", "c.tif,P1,A02,1,24,taxol,1,1")
    screen = read_screen(write(tmp_path, f"{HEADER},z", *lines))
    assert column(screen, "z_paths") == [["a.tif", "b.tif"], None]
    assert (column(screen, "path"), column(screen, "z")) == (["a.tif", "c.tif"], [0, 0])
    assert (summary(screen, "manifest")["files"], summary(screen, "manifest")["images"]) == (3, 3)


def test_one_fault_is_one_line(tmp_path: Path) -> None:
    """A single fault follows the file's name on its line; several follow a line that counts them."""
    with pytest.raises(ManifestError) as raised:
        read_screen(write(tmp_path, HEADER, "a.tif,P1,Z99,1,24,DMSO,"))
    fault = "row 2: well 'Z99' is no well (rows A-AF, columns 1-48)"
    assert str(raised.value) == f"{tmp_path / 'manifest.csv'}: {fault}"
    with pytest.raises(ManifestError) as raised:
        read_screen(write(tmp_path, HEADER, "a.tif,P1,Z99,1,24,DMSO,", ",P1,A01,1,24,DMSO,"))
    assert str(raised.value).splitlines()[0] == f"{tmp_path / 'manifest.csv'}: 2 faults, nothing was read"
    assert str(raised.value).splitlines()[1:] == [f"  {fault}", "  row 3: path is empty"]
