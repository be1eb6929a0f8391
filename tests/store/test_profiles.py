"""Import, export and transforms: columns recognised, values kept to the bit, controls scaled."""

import csv
import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import phenoembed_store
from phenoembed_store import Store, reading
from phenoembed_store.columns import match_columns, plain_name, recognise, role_of
from phenoembed_store.errors import StoreError
from phenoembed_store.schema import SCREEN_SCHEMA


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.csv.gz", "out.h5ad"])
@pytest.mark.filterwarnings("ignore")  # anndata's own
def test_a_round_trip_keeps_every_bit(store: Store, tmp_path: Path, name: str) -> None:
    """Exported and imported again: the same images, the same metadata, the same embeddings to the last bit."""
    if name.endswith("h5ad"):
        pytest.importorskip("anndata")
    assert store.export(tmp_path / name)["images"] == 72
    other = phenoembed_store.open(tmp_path / "other", create=True)
    report = other.import_profiles(tmp_path / name)
    assert (report["added"], report["encoder"], report["features"]) == (72, "out", 8)
    (rows, vectors), (rows_again, vectors_again) = store.vectors(), other.vectors()
    columns = [*SCREEN_SCHEMA.names, "moa", "group_id"]
    assert rows.select(columns).to_pylist() == rows_again.select(columns).to_pylist()
    assert vectors.tobytes() == vectors_again.tobytes()
    assert other.import_profiles(tmp_path / name)["added"] == 0


def test_the_projector_gets_its_two_files(store: Store, tmp_path: Path) -> None:
    store.export(tmp_path / "projector", where="compound = 'taxol'")
    vectors = np.loadtxt(tmp_path / "projector" / "vectors.tsv", dtype=np.float32)
    np.testing.assert_array_equal(vectors, store.vectors("compound = 'taxol'")[1])
    assert len((tmp_path / "projector" / "metadata.tsv").read_text().splitlines()) == 13
    with pytest.raises(StoreError, match=r"'x\.xlsx': write \.parquet"):
        store.export(tmp_path / "x.xlsx")


@pytest.mark.parametrize(
    ("theirs", "plain"),
    [
        ("Image_Metadata_Plate", "plate"),
        ("Metadata_pert_iname", "pert_iname"),
        ("Experimental Condition [Treatment time (h)]", "treatment_time_h"),
        ("Compound Concentration (microMolar)", "compound_concentration_micromolar"),
    ],
)
def test_names_are_stripped_of_prefixes_and_brackets(theirs: str, plain: str) -> None:
    assert plain_name(theirs) == plain


def test_foreign_names_are_recognised() -> None:
    assert recognise(["Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI", "Metadata_broad_sample"]) == {
        "plate": "Image_Metadata_Plate_DAPI",
        "well": "Image_Metadata_Well_DAPI",
        "compound": "Metadata_broad_sample",
    }
    names = ["Metadata_Plate", "Metadata_Count", "Cells_Area", "Nuclei_Area", "density"]
    matched = match_columns(names, frozenset(names[1:]), {})
    assert matched.features == ("Cells_Area", "Nuclei_Area")
    assert matched.others == ("Metadata_Count", "density")


@pytest.mark.parametrize(
    ("compound", "word", "role"),
    [
        ("DMSO", None, "control"),
        (None, None, "control"),
        ("taxol", "Negative", "control"),
        ("taxol", "positive", "treated"),
        ("taxol", None, "treated"),
        ("", "empty", "empty"),
        ("DMSO", "treated", "treated"),
    ],
)
def test_roles_are_told_from_words_and_names(compound: str | None, word: str | None, role: str) -> None:
    assert role_of(compound, word) == role


PLAIN = pa.table(
    {
        "plate": ["007", "007", "007"],
        "well": ["A1", "a02", "B03"],
        "drug": ["DMSO", "x", "y"],
        "dose": [0.0, 1.0, 2.0],
        "f1": [1.0, 2.0, float("nan")],
        "f2": [4.0, 5.0, 6.0],
        "f3": [None] * 3,
    }
)


def test_rows_with_missing_numbers_are_rejected_and_empty_features_left_out(tmp_path: Path) -> None:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    table = PLAIN.set_column(6, "f3", pa.array([None] * 3, pa.float64()))
    report = store.import_profiles(table, name="mine")
    assert (report["added"], report["rejected"], report["dropped_features"]) == (2, 1, ["f3"])
    assert store.rejected().column("reason").to_pylist() == ["1 of its features are no finite number of 32 bits"]
    assert store.vectors()[0].column("well").to_pylist() == ["A01", "A02"]


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("plate,well,compound,f1,f2\n007,A01,0123,1,2\n007,A02,DMSO,2,2\n")
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.import_profiles(path)
    assert store.sql("SELECT plate, compound FROM images ORDER BY well").fetchall() == [
        ("007", "0123"),
        ("007", "DMSO"),
    ]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (PLAIN.drop_columns(["plate"]), {}, "no column for the plate was recognised; say which: --map plate=THEIRS"),
        (PLAIN, {"metadata": {"plate": "barcod"}}, "--map plate=barcod: the table has no column 'barcod'"),
        (PLAIN, {"embedding": ["f9"]}, "no feature column 'f9'"),
        (PLAIN.select(["plate", "well"]), {}, "no numeric feature columns"),
        (PLAIN, {"transform": "log"}, "no transform 'log'; one of: none, robust, percentile"),
        (pa.concat_tables([PLAIN, PLAIN]).slice(0, 5), {"embedding": ["f2"]}, "are the same image"),
    ],
)
def test_a_table_that_cannot_be_imported_says_why(
    tmp_path: Path, table: pa.Table, options: dict[str, object], message: str
) -> None:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    with pytest.raises(StoreError, match=message):
        store.import_profiles(table, name="mine", **options)
    assert store.version == -1


def test_a_second_plate_is_aligned_by_feature_name(store: Store, tmp_path: Path) -> None:
    """Columns in another order are put in the first import's; a missing one is refused."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    first = PLAIN.drop_columns(["f3"]).slice(0, 2)
    store.import_profiles(first, name="mine")
    swapped = first.select(["f2", "f1", "drug", "dose", "well", "plate"])
    assert store.import_profiles(swapped, name="mine")["added"] == 0
    with pytest.raises(StoreError, match=r"lacks 1 of the features that are stored, e\.g\. 'f2'"):
        store.import_profiles(first.drop_columns(["f2"]), name="mine")


def test_a_large_table_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces or at once, from CSV, Parquet or memory: the same images, features and report."""
    draw = np.random.default_rng(0)
    n = 1200
    columns = {
        "plate": [f"P{i // 384}" for i in range(n)],
        "well": [f"{chr(65 + i % 384 // 24)}{i % 384 % 24 + 1:02d}" for i in range(n)],
        "compound": ["DMSO" if i % 24 == 0 else f"c{i % 50}" for i in range(n)],
        "dose": draw.random(n),
        "f1": draw.random(n),
        "late": [None] * 1100 + [1.0] * 100,
        "never": pa.nulls(n, pa.float64()),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "t.parquet")
    pacsv.write_csv(table, tmp_path / "t.csv")
    found = []
    for values, source in [(1 << 23, table), (1, table), (1, tmp_path / "t.parquet"), (1, tmp_path / "t.csv")]:
        monkeypatch.setattr(reading, "PIECE_VALUES", values)
        store = phenoembed_store.open(tmp_path / f"s{len(found)}", create=True)
        report = store.import_profiles(source, name="mine", screen="s", transform="robust")
        rows, vectors = store.vectors(columns=["plate", "well", "compound", "concentration_um"])
        rejected = sorted(store.rejected().column("well").to_pylist())
        found.append((report, rows.to_pylist(), vectors.tolist(), rejected))
        path = store.sql("SELECT path FROM images WHERE plate = 'P3' AND well = 'B24'").fetchall()[0]
        assert path is not None
        assert path[0].endswith(":1201")  # the table's last row but for its heading
    assert (found[0][0]["added"], found[0][0]["rejected"], found[0][0]["dropped_features"]) == (100, 1100, ["never"])
    for report, *held in found[1:]:
        assert held == list(found[0][1:])
        assert report["features"] == 2
    # of a column without a value a CSV does not say that it would have been a number
    assert [report["dropped_features"] for report, *_ in found] == [["never"]] * 3 + [[]]


def test_a_plate_without_controls_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    table = PLAIN.select(["plate", "well", "drug", "dose", "f2"])
    with pytest.raises(StoreError, match="fitted to the control wells of each plate, and 007 has none"):
        store.import_profiles(table.slice(1), name="mine", transform="robust")
    assert store.version == -1
    store.import_profiles(table.slice(0, 2), name="mine", transform="robust")
    store.import_profiles(table.slice(2), name="mine")  # the plate's controls are in the store


def plate_oracle(kind: str, vectors: np.ndarray, control: np.ndarray) -> np.ndarray:
    held = vectors[control].astype(np.float64)
    if kind == "percentile":
        low, high = np.percentile(held, 1, axis=0), np.percentile(held, 99, axis=0)
        return (vectors - low) / (high - low)
    median = np.median(held, axis=0)
    return (vectors - median) / (1.4826 * np.median(np.abs(held - median), axis=0))


@pytest.mark.parametrize("kind", ["robust", "percentile"])
def test_a_transform_scales_each_plate_to_its_controls(store: Store, kind: str) -> None:
    """Query and candidates alike are scaled plate by plate; the id is named in the answer."""
    rows, vectors = store.vectors()
    plates, roles = rows.column("plate").to_numpy(False), rows.column("role").to_numpy(False)
    scaled = np.empty_like(vectors)
    for plate in ("P1", "P2"):
        mine = plates == plate
        scaled[mine] = plate_oracle(kind, vectors[mine], roles[mine] == "control")
    name = store.set_transform(kind)
    assert name is not None
    assert name.startswith(kind)
    assert (store.path / "transforms" / name / "parameters.safetensors").is_file()
    images = store._images_of(None)
    np.testing.assert_allclose(images.scaled, scaled, rtol=1e-3, atol=1e-4)
    hits = store.search(well="P1:A07", level="image", k=3)
    assert f'"transform": "{name}"' in hits.schema.metadata[b"phenoembed"].decode()
    np.testing.assert_array_equal(store.vectors()[1], vectors)  # what is stored stays as it came
    assert store.set_transform("none") is None


def test_a_transform_follows_its_controls_and_needs_them(store: Store) -> None:
    first = store.set_transform("robust")
    store.delete_images("role = 'control' AND field = 1 AND plate = 'P1'")
    images = store._images_of(None)
    assert images.transform is not None
    assert images.transform.id != first
    store.delete_images("role = 'control' AND plate = 'P2'")
    with pytest.raises(StoreError, match="fitted to the control wells of each plate, and P2 has none"):
        store.search(compound="taxol")


def test_mixing_two_transforms_is_refused(tmp_path: Path) -> None:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    table = PLAIN.select(["plate", "well", "drug", "dose", "f2"])
    store.import_profiles(table, name="mine", transform="percentile")
    with pytest.raises(StoreError, match=r"'mine' are compared under 'percentile'.*cannot be mixed"):
        store.import_profiles(table, name="mine", transform="robust")


HEAD = "plate,well,compound,concentration_um,f0,f1\n"
ROWS = "P1,A01,a,1,0.5,1.5\nP1,A02,b,2,2.5,3.5\nP1,A03,DMSO,0,1,1\n"


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"", {}, "is empty"),
        ((HEAD + ROWS + "P9,A04\n").encode(), {}, "line 5 of .* has 2 cells, its header 6"),
        ((HEAD + ROWS + "P9,A04,c,1,2,3,4\n").encode(), {}, "line 5 of .* has 7 cells, its header 6"),
        ((HEAD + ROWS).replace("P1,A01,a", "P1,A01,caf\xe9").encode("latin-1"), {}, "is not in UTF-8"),
        ((HEAD + ROWS).encode("utf-16"), {}, "is not in UTF-8"),
        (b"PK\x03\x04\x14\x00", {}, "is a workbook: save its sheet as CSV"),
        ((HEAD + ROWS).replace("a,1,", "a,1 uM,").encode(), {}, "concentration_um is '1 uM' in line 2"),
        ((HEAD + ROWS).replace("b,2,", "b,-2,").encode(), {}, "concentration_um is '-2' in line 3"),
        ((HEAD + ROWS).replace("A02", "A01").encode(), {}, "lines 2 and 3 of 'profiles.csv' are the same image"),
        ((HEAD + ROWS).encode(), {"embedding": ["compound"]}, "--embedding compound: the column holds string"),
        ((HEAD + ROWS).encode(), {"embedding": ["f0", "f0"]}, "--embedding f0: named twice"),
        ((HEAD + "P1,A01,a,inf,1,2\nP1,A02,b,inf,3,4\n").encode(), {}, "concentration_um"),
        ((HEAD + ROWS).replace("P1,A02", "P1,").encode(), {}, "well is empty in line 3, .*--map well=THEIRS"),
        ((HEAD + ROWS).replace("P1,A02", " ,A02").encode(), {}, "plate is empty in line 3"),
        ((HEAD + ROWS).replace("f1", "f0").encode(), {}, "columns 5 and 6 of .* are named 'f0': leave one out"),
        ((HEAD + ROWS).replace("A02,b", 'A02,"b').encode(), {}, r'line 3 of .* quote \("\) not closed'),
        ((HEAD + ROWS).replace("1.5", '1.5"').replace(",0.5", ',"0.5').encode(), {}, "line 2 of .* has 5 cells"),
        (
            (HEAD + ROWS).replace(",a,", ',"a,').replace(",b,", ',b",').encode(),
            {},
            "compound is .* on several lines",
        ),
        ((HEAD + ROWS).replace(",a,", ',"a" x,').encode(), {}, "line 2 of .* cannot be read"),
        ((HEAD + ROWS).replace(",", ";").replace(".", ",").encode(), {}, "no numeric feature columns"),
    ],
)
def test_a_file_that_cannot_be_imported_says_where(
    tmp_path: Path, content: bytes, options: dict[str, Any], says: str
) -> None:
    (tmp_path / "profiles.csv").write_bytes(content)
    store = phenoembed_store.open(tmp_path / "s", create=True)
    with pytest.raises(StoreError, match=says):
        store.import_profiles(tmp_path / "profiles.csv", **options)
    assert store.status()["images"] == 0


NAMED = ("plate", "well", "compound")
PADDED = """ plate,\twell , compound,concentration_um,f0, f1,note,
P1, A01 , a ,  1 , 0.5 ,1.5, x ,
 P1 ,A02,\u00a0b,2,\t2.5,3.5,,
P1,A03,"#4, r",0 , -1e2,1, y,
#P1,A04, DMSO , ,1,  ,z ,
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["profiles.csv", "profiles.csv.gz"])
def test_blanks_around_cells_do_not_count(tmp_path: Path, ends: str, name: str) -> None:
    """Names and numbers are those of Python's own reader, stripped; no row is taken for a comment."""
    content = PADDED.replace("\n", ends).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    header, *rows = ([cell.strip() for cell in row] for row in csv.reader(PADDED.splitlines(), skipinitialspace=True))
    said = [dict(zip(header, row, strict=True)) for row in rows]
    store = phenoembed_store.open(tmp_path / "s", create=True)
    report = store.import_profiles(tmp_path / name, name="mine")
    assert (report["rows"], report["rejected"], report["features"]) == (4, 1, 2)
    assert report["kept_metadata"] == ["note"]  # the column that the last comma makes is none
    assert not report["remarks"]
    table, vectors = store.vectors()
    for row, vector, want in zip(table.to_pylist(), vectors, said[:3], strict=True):
        assert [row[key] for key in ("plate", "well", "compound")] == [
            want[key] for key in ("plate", "well", "compound")
        ]
        assert (row["concentration_um"], row["note"] or "") == (float(want["concentration_um"]), want["note"])
        assert vector.tolist() == [float(want["f0"]), float(want["f1"])]
    assert store.rejected().select(["plate", "well"]).to_pylist() == [{"plate": "#P1", "well": "A04"}]


def test_the_numbers_of_rows_are_no_feature(tmp_path: Path) -> None:
    """A column without a name, which pandas writes, is kept, and said not to be a feature."""
    frame = pd.DataFrame({"plate": ["P1", "P1"], "well": ["A01", "A02"], "compound": ["a", "b"], "f0": [3.0, 4.0]})
    frame.to_csv(tmp_path / "t.csv")
    pd.read_csv(tmp_path / "t.csv").to_csv(tmp_path / "again.csv", index=False)
    for name, column in [("t", "unnamed_1"), ("again", "Unnamed: 0")]:
        store = phenoembed_store.open(tmp_path / f"s-{name}", create=True)
        report = store.import_profiles(tmp_path / f"{name}.csv")
        assert store.vectors()[1].tolist() == [[3.0], [4.0]]
        assert report["remarks"] == [f"column '{column}' has no name of its own, and was not taken for a feature"]
        assert len(report["kept_metadata"]) == 1


@pytest.mark.parametrize(
    ("name", "factor"), [("dose_nM", "1e-3"), ("Metadata_conc_mM", "1e3"), ("Final Conc. (pM)", "1e-6"), ("dose", "1")]
)
def test_the_unit_in_a_column_of_doses_is_read(tmp_path: Path, name: str, factor: str) -> None:
    """Of profiles and of a table of the wells alike: exact decimal arithmetic tells the micromolars."""
    doses = ["50", "2.5", "0.3"]
    profiles, wells = tmp_path / "profiles.csv", tmp_path / "wells.csv"
    bare = "".join(f"P1,A{i:02d},c{i}," + "{}" + f"{i}.5,1\n" for i in range(1, 4))
    profiles.write_text(f"plate,well,compound,{name},f0,f1\n" + bare.format(*(f"{dose}," for dose in doses)))
    wells.write_text(f"plate,well,{name}\n" + "".join(f"P1,A{i:02d},{dose}\n" for i, dose in enumerate(doses, 1)))
    (tmp_path / "bare.csv").write_text("plate,well,compound,f0,f1\n" + bare.format("", "", ""))
    expected = [(float(Decimal(dose) * Decimal(factor)),) for dose in doses]
    asked = "SELECT concentration_um FROM images ORDER BY well"
    for source, joined in [(profiles, []), (tmp_path / "bare.csv", [wells])]:
        store = phenoembed_store.open(tmp_path / f"s{len(joined)}", create=True)
        assert store.import_profiles(source, joined=joined)["features"] == 2
        assert store.sql(asked).fetchall() == expected
    if name != "dose":  # annotations too
        moas = pa.table({"compound": ["c1"], name: [50.0], "moa": ["m"]})
        store.annotate(moas, on="compound,concentration_um", mapping={"concentration_um": name})
        assert store.sql("SELECT compound FROM images WHERE moa = 'm'").fetchall() == [("c1",)]


def test_a_dose_and_a_time_of_every_row_are_said_with_their_units(tmp_path: Path) -> None:
    """They win over a column, which is kept; a number without a unit is no dose."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    table = PLAIN.drop_columns(["f3"]).slice(0, 2)
    report = store.import_profiles(table, metadata={"concentration_um": "50 nM", "time_h": "48 h"})
    assert (report["features"], report["kept_metadata"]) == (2, ["dose"])
    assert store.sql("SELECT compound, concentration_um, time_h, dose FROM images ORDER BY well").fetchall() == [
        ("DMSO", 0.0, 48.0, 0.0),
        ("x", 0.05, 48.0, 1.0),
    ]
    with pytest.raises(StoreError, match=r"no column '5' \(what all rows have is written with its unit"):
        store.import_profiles(table, metadata={"concentration_um": "5"}, name="other")


def test_decimal_commas_and_text_over_lines_are_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('plate;well;compound;f0;f1;seen\nP1;A01;a;0,5;2;"x\ny"\nP1;A02;b;1,5;3;z\n')
    store = phenoembed_store.open(tmp_path / "s", create=True)
    assert store.import_profiles(tmp_path / "t.csv")["remarks"] == [
        "column 'f0' was taken for text, not a feature: '0,5' in line 2 is no number (it wants a decimal point)",
        "'seen' has text on several lines in line 2: is a quote (\") not closed there?",
    ]


def test_a_table_is_joined_on_wells_and_doses_however_they_are_written(tmp_path: Path) -> None:
    """``a1``, ``R02C01`` and 100 nM are A01, B01 and 0.1 micromolar of the profiles."""
    profiles, wells, doses = (tmp_path / f"{name}.csv" for name in ("profiles", "wells", "doses"))
    profiles.write_text("plate,well,compound,concentration_um,f0\nP1,A01,a,0.1,1\nP1,B-1,a,2,2\nP1,C01,a,3,3\n")
    wells.write_text("plate,well,time_h\nP1,a1,24\nP1,R02C01,48\nP1,C001,72\n")
    doses.write_text("compound,dose_nM,moa\na,100,x\na,2000,y\n")
    store = phenoembed_store.open(tmp_path / "s", create=True)
    told = store.import_profiles(profiles, joined=[wells, doses])["joined"]
    assert [(one["matched"], one["unmatched"]) for one in told] == [(3, 0), (2, 1)]
    asked = "SELECT well, time_h, moa FROM images ORDER BY well"
    assert store.sql(asked).fetchall() == [("A01", 24.0, "x"), ("B01", 48.0, "y"), ("C01", 72.0, None)]
    wells.write_text("plate,well,time_h\nP1,a1,24\nP1,A01,48\n")
    with pytest.raises(StoreError, match=r"says two things of P1, A01: its time_h is '24' and '48'"):
        store.import_profiles(profiles, joined=[wells], name="other")


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    """Blank lines are no rows, and a cell in quotes may have several."""
    good = 'plate,well,f0,note\r\n\r\nP1,A01,1,"one\r\n\r\nthree"\r\n\r\nP1,A02,2,\r\n'
    path = tmp_path / "t.csv"
    path.write_bytes(good.encode())
    store = phenoembed_store.open(tmp_path / "s", create=True)
    assert store.import_profiles(path)["remarks"][1:] == [
        "'note' has text on several lines in line 3: is a quote (\") not closed there?"
    ]
    assert store.sql("SELECT path FROM images ORDER BY well").fetchall() == [("t.csv:3",), ("t.csv:7",)]
    path.write_bytes((good + "\r\n,A03,3,\r\n").encode())
    with pytest.raises(StoreError, match="plate is empty in line 9,"):
        store.import_profiles(path, name="other")
    path.write_bytes((good + "\r\nP1,A02,3,\r\n").encode())
    with pytest.raises(StoreError, match=r"lines 7 and 9 of 't\.csv' are the same image"):
        store.import_profiles(path, name="other")
    path.write_bytes(b"\r\n" + good.encode())
    with pytest.raises(StoreError, match=r"line 1 of '.*t\.csv' is blank, where the names of its columns are wanted"):
        store.import_profiles(path, name="other")


def test_a_file_that_is_no_anndata_says_so(tmp_path: Path) -> None:
    pytest.importorskip("anndata")
    (tmp_path / "profiles.h5ad").write_bytes(b"no HDF5")
    with pytest.raises(StoreError, match=r"profiles\.h5ad' as AnnData"):
        phenoembed_store.open(tmp_path / "s", create=True).import_profiles(tmp_path / "profiles.h5ad")


def test_metadata_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profiles.csv").write_text(HEAD + ROWS)
    (tmp_path / "moa.csv").write_text("compound,moa\na,x\nb,z\na,y\nb,\n")
    store = phenoembed_store.open(tmp_path / "s", create=True)
    with pytest.raises(StoreError, match=r"'moa\.csv' says two things of a: its moa is 'x' and 'y'"):
        store.import_profiles(tmp_path / "profiles.csv", joined=[tmp_path / "moa.csv"])


def test_what_was_not_taken_for_what_it_may_be_is_said(tmp_path: Path) -> None:
    """Text among numbers, rows without a dose, a table without compounds, features that are stored or are not."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    (tmp_path / "profiles.csv").write_text((HEAD + ROWS).replace("2.5", "x").replace("a,1,", "a,,"))
    remarks = store.import_profiles(tmp_path / "profiles.csv", name="mine")["remarks"]
    assert remarks == [
        "column 'f0' was taken for text, not a feature: 'x' in line 3 is no number",
        "1 treated rows have no concentration and stand at 0 micromolar",
    ]
    (tmp_path / "more.csv").write_text(HEAD + ROWS)
    assert store.import_profiles(tmp_path / "more.csv", name="mine")["remarks"] == [
        "'mine' is stored without these features, and were left out: f0"
    ]
    (tmp_path / "bare.csv").write_text("plate,well,f0\nP1,A01,1\nP1,A02,2\n")
    (remark,) = store.import_profiles(tmp_path / "bare.csv")["remarks"]
    assert "every row is taken for a DMSO control" in remark


def test_numbers_that_32_bits_cannot_hold_are_rejected_and_large_integers_are_not(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    table = pa.table(
        {
            "plate": ["P1"] * 4,
            "well": ["A01", "A02", "A03", "A04"],
            "compound": list("abcd"),
            "f0": [1e39, 1.0, 0.0, 2.0],
            "f1": [1, 1152921504606846976, 0, 3],
        }
    )
    report = phenoembed_store.open(tmp_path / "s", create=True).import_profiles(table)
    assert (report["added"], report["rejected"]) == (2, 2)
    assert [row["reason"] for row in report["rejections"]] == [
        "1 of its features are no finite number of 32 bits",
        "all its features are zero",
    ]
    assert not recwarn.list
