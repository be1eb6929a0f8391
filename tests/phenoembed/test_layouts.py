"""What is in the wells, as laboratories write it down: plate maps, picklists, units that are read and never guessed."""

from pathlib import Path

import pytest
from phenoembed.readers import read_screen
from phenoembed.readers.layout import read_layout

from phenoembed_store.errors import ManifestError, PhenoembedError
from phenoembed_store.units import micromolar, split_amount, unit_of_column


def contents(path: Path, **mapping: str) -> list[tuple[object, ...]]:
    """(plate, well, compound, concentration_um, role) of each place of a layout."""
    layout = read_layout(path, mapping)
    rows = layout.table.select(["compound", "concentration_um", "role"]).to_pylist()
    return [(*place, *rows[row].values()) for place, row in sorted(layout.places.items())]


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def faults(path: Path, **mapping: str) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as raised:
        read_layout(path, mapping)
    return raised.value.faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 uM", 5.0),
        ("5µM", 5.0),
        ("5 μM", 5.0),
        ("21 nM", 0.021),
        ("0.1mM", 100.0),
        ("1e-6 M", 1.0),
        ("3 umol/L", 3.0),
    ],
)
def test_units_are_read(text: str, expected: float) -> None:
    assert micromolar(text) == expected


@pytest.mark.parametrize("rows", [("B", "AF"), ("2", "32")])
def test_a_row_and_a_column_are_a_well(tmp_path: Path, rows: tuple[str, str]) -> None:
    lines = [f"{rows[0]},3,taxol,5", f"{rows[1]},48,DMSO,"]
    assert contents(write(tmp_path / "layout.csv", "Row,Col,Compound,Conc (uM)", *lines)) == [
        ("", "AF48", "DMSO", 0.0, "control"),
        ("", "B03", "taxol", 5.0, "treated"),
    ]
    told = faults(write(tmp_path / "layout.csv", "Row,Column,Compound,Conc (uM)", "B,,taxol,5", "33,1,taxol,5"))
    assert told == ("row 2: well is empty", "row 3: well '331' is no well (rows A-AF, columns 1-48)")


@pytest.mark.parametrize("text", ["5", "5 um", "5 MM", "uM", "5 uM or so", "-", "5 mg/ml", "1,5 uM"])
def test_units_are_not_guessed(text: str) -> None:
    """A number alone, metres, and weights are no concentration."""
    with pytest.raises(ValueError, match="concentration"):
        micromolar(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("21 nM bortezomib", ("bortezomib", 0.021)),
        ("bortezomib 21 nM", ("bortezomib", 0.021)),
        ("bortezomib (21 nM)", ("bortezomib", 0.021)),
        ("μ-conotoxin 5 µM", ("μ-conotoxin", 5.0)),
        ("taxol", ("taxol", None)),
        ("compound 5", ("compound 5", None)),
        ("5 Mystery", ("5 Mystery", None)),
    ],
)
def test_amounts_within_names(text: str, expected: tuple[str, float | None]) -> None:
    assert split_amount(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dose_uM", 1.0),
        ("Concentration (nM)", 1e-3),
        ("conc mM", 1e3),
        ("dose_nm", 1e-3),
        ("dose", None),
        ("doseM", None),
    ],
)
def test_units_of_columns(name: str, expected: float | None) -> None:
    said = unit_of_column(name)
    assert (said and said[1]) == expected


@pytest.mark.parametrize(
    ("header", "dose"),
    [
        ("well_position\tcompound\tdose_nM", "500"),
        ("Well\tcompound\tConcentration (mM)", "0.0005"),
        ("well\tcompound\tconcentration", "500 nM"),
        ("well_id\tcompound\tconcentration\tconcentration_unit", "0.5\tµM"),
        ("well\tbroad_sample\tmmoles_per_liter", "0.5"),
    ],
)
def test_plate_maps(tmp_path: Path, header: str, dose: str) -> None:
    """Wells and concentrations under the names and in the units people use; an empty compound is the vehicle."""
    path = write(tmp_path / "map.tsv", header, f"a1\ttaxol\t{dose}", "P24\t\t" + "\t" * dose.count("\t"))
    assert contents(path) == [("", "A01", "taxol", 0.5, "treated"), ("", "P24", "DMSO", 0.0, "control")]


def test_doses_within_the_compounds(tmp_path: Path) -> None:
    path = write(tmp_path / "map.csv", "well,compound", "A01,21 nM bortezomib", "A02,DMSO", "A03,5 uM taxol")
    assert [row[2:4] for row in contents(path)] == [("bortezomib", 0.021), ("DMSO", 0.0), ("taxol", 5.0)]
    write(path, "well,compound", "A01,21 nM bortezomib", "A02,taxol")
    assert faults(path) == ("row 3: concentration_um is empty; a treated well needs micromolar",)


def test_one_concentration_for_all_wells(tmp_path: Path) -> None:
    """A map that has none is told by --map, with a unit; without one, the fault says how."""
    path = write(tmp_path / "map.csv", "well,compound", "A01,taxol", "A02,")
    (fault,) = faults(path)
    assert fault.startswith("column 'concentration_um' is missing; the file has 'well', 'compound'; --map ")
    assert fault.endswith('"concentration_um=5 uM" gives all rows one')
    assert [row[2:4] for row in contents(path, concentration_um="5000 nM")] == [("taxol", 5.0), ("DMSO", 0.0)]
    assert "the file has no column '5'" in faults(path, concentration_um="5")[0]


def test_a_unit_that_is_missing_is_a_fault_of_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "map.csv", "well,compound,concentration", "A01,taxol,5", "A02,taxol,5 uM", "A03,taxol,5 g")
    assert faults(path) == (
        "row 2: column 'concentration': concentration '5' has no unit; write '5 uM', or name the column "
        "concentration_um (--map) if it is micromolar",
        "row 4: column 'concentration': concentration '5 g' is not a number with a unit (M, mM, uM, nM, pM)",
    )


def test_a_plate_map_for_each_plate(tmp_path: Path) -> None:
    """barcode_platemap.csv says which map beside it, or in platemap/, is that of each plate."""
    path = write(
        tmp_path / "barcode_platemap.csv", "Assay_Plate_Barcode,Plate_Map_Name", "P1,m1", "P2,m1", "P3,m2", "P4,no"
    )
    write(tmp_path / "platemap" / "m1.txt", "well_position\tbroad_sample\tmmoles_per_liter", "A01\tBRD-1\t3.33")
    write(tmp_path / "m2.csv", "well,compound,concentration_um,moa", "A01,taxol,1,x")
    assert contents(path) == [
        ("P1", "A01", "BRD-1", 3.33, "treated"),
        ("P2", "A01", "BRD-1", 3.33, "treated"),
        ("P3", "A01", "taxol", 1.0, "treated"),
    ]
    layout = read_layout(path, {})
    assert "barcode_platemap.csv: there is no plate map 'no' beside it" in layout.notes
    assert layout.table.column("broad_sample").to_pylist() == ["BRD-1", None]
    (tmp_path / "m2.csv").write_text("well,compound,concentration_um\nQ99,taxol,1")
    assert faults(path) == ("m2.csv: row 2: well 'Q99' is no well (rows A-AF, columns 1-48)",)


PICKLIST = "Source Well,Destination Plate Barcode,Destination Well,Transfer Volume,Sample Name"


def test_a_picklist_with_final_concentrations(tmp_path: Path) -> None:
    """Each destination well has its compound; solvent beside one is no treatment, solvent alone is a control."""
    path = write(
        tmp_path / "echo.csv",
        f"{PICKLIST},Destination Concentration,Destination Concentration Units",
        "A1,P1,B2,25,taxol,500,nM",
        "A2,P1,B2,25,DMSO,0,",
        "A2,P1,B3,50,DMSO,0,",
        "A1,P2,B2,50,taxol,1,uM",
    )
    assert contents(path) == [
        ("P1", "B02", "taxol", 0.5, "treated"),
        ("P1", "B03", "DMSO", 0.0, "control"),
        ("P2", "B02", "taxol", 1.0, "treated"),
    ]


def test_a_picklist_with_volumes(tmp_path: Path) -> None:
    """Final = stock x transferred / final volume; transfers into one well add up."""
    path = write(
        tmp_path / "echo.csv",
        f"{PICKLIST},Source Concentration (mM),Final Volume (uL)",
        "A1,P1,B2,25,taxol,10,50",
        "A1,P1,B2,2.5,taxol,10,50",
        "A9,P1,C2,25,DMSO,,50",
    )
    assert contents(path) == [("P1", "B02", "taxol", 5.5, "treated"), ("P1", "C02", "DMSO", 0.0, "control")]


def test_what_a_picklist_does_not_say(tmp_path: Path) -> None:
    """Without volumes no concentration follows; two compounds in a well are a fault."""
    path = write(tmp_path / "echo.csv", PICKLIST, "A1,P1,B2,25,taxol", "A2,P1,B2,25,nocodazole")
    told = faults(path)
    assert "the picklist does not tell final concentrations" in told[0]
    assert told[1] == "row 2: well B2 gets 'taxol' and 'nocodazole'; a well has one compound"


def test_a_layout_for_a_manifest(tmp_path: Path) -> None:
    """--layout says what is in the wells of any source; annotations come along."""
    write(tmp_path / "manifest.csv", "path,plate,well,field,time_h", "a.tif,P1,A1,1,24", "b.tif,P1,A2,1,24")
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    layout = write(tmp_path / "x" / "map.csv", "well,compound,dose_nM,moa", "A01,taxol,500,tubulin", "A02,,,")
    table = read_screen(tmp_path, layout=layout).table
    assert table.select(["compound", "concentration_um", "role", "moa"]).to_pylist() == [
        {"compound": "taxol", "concentration_um": 0.5, "role": "treated", "moa": "tubulin"},
        {"compound": "DMSO", "concentration_um": 0.0, "role": "control", "moa": None},
    ]
    write(layout, "well,compound,dose_nM", "A01,taxol,500")
    with pytest.raises(ManifestError, match="well A02 of plate 'P1' has images but no row"):
        read_screen(tmp_path, layout=layout)


def test_a_layout_that_is_no_file_is_said(tmp_path: Path) -> None:
    """A folder of plate maps is none either."""
    for path, reason in ((tmp_path / "map.csv", "no file"), (tmp_path, "a folder; name the file in it")):
        with pytest.raises(PhenoembedError, match=f"--layout .* is {reason}"):
            read_screen(tmp_path, layout=path)


def test_two_doses_that_disagree_are_a_fault(tmp_path: Path) -> None:
    head = "well,compound,dose_nM,concentration_um"
    agreed = write(tmp_path / "agreed.csv", head, "A01,a,1000,1", "A02,b,,5", "A03,DMSO,0,0")
    assert [row[3] for row in contents(agreed)] == [1.0, 5.0, 0.0]
    (fault,) = faults(write(tmp_path / "layout.csv", head, "A01,a,1000,5", "A02,b,2000,2"))
    assert "row 2" in fault
    assert "concentration_um is 5, but dose_nM is 1000" in fault


def test_a_layout_without_rows_or_with_a_well_twice_says_so(tmp_path: Path) -> None:
    head = "well,compound,concentration_um"
    assert faults(write(tmp_path / "empty.csv", head)) == ("it has a header and no rows",)
    (fault,) = faults(write(tmp_path / "twice.csv", head, "A01,a,1", "A01,b,2"))
    assert fault == "row 3: well A01 is in row 2 too"
