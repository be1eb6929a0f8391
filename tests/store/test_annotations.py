"""Annotations: joined on compound, InChIKey, well or dose; reported; shown by hits and usable in filters."""

import gzip
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from tests.store.fakes import fake_rows

from phenoembed_store import Store
from phenoembed_store.errors import StoreError
from phenoembed_store.schema import RESERVED


def test_columns_joined_on_compound_are_in_hits_filters_and_sql(store: Store) -> None:
    report = store.annotate(pa.table({"compound": ["taxol", "nocodazol"], "target": ["TUBB", "?"]}), "compound")
    assert (report["matched"], report["unmatched"], report["without_annotation"]) == (1, ["nocodazol"], 5)
    assert store.sql("SELECT DISTINCT compound FROM images WHERE target = 'TUBB'").fetchall() == [("taxol",)]
    assert len(store.vectors("target IS NOT NULL")[0]) == 12
    hits = {hit["compound"]: hit["target"] for hit in store.search(compound="nocodazole").to_pylist()}
    assert hits["taxol"] == "TUBB"
    assert hits["aspirin"] is None


def test_an_annotation_wins_over_the_manifest_unless_it_is_null(store: Store) -> None:
    store.annotate(pa.table({"compound": ["taxol", "nocodazole"], "moa": ["microtubule", None]}))
    found = dict(store.sql("SELECT DISTINCT compound, moa FROM images WHERE moa IS NOT NULL").fetchall())
    assert found["taxol"] == "microtubule"
    assert found["nocodazole"] == "tubulin"


def test_the_more_particular_annotation_wins(store: Store) -> None:
    """compound, then InChIKey (which may have come with the compound), then dose, then well."""
    store.annotate(pa.table({"compound": ["taxol"], "inchikey": ["KEY"], "note": ["of the compound"]}))
    store.annotate(pa.table({"InChIKey": ["KEY"], "pathway": ["spindle"]}), "inchikey")
    store.annotate(
        pa.table({"Metadata_Compound": ["taxol"], "concentration": [20.0], "note": ["of the dose"]}),
        "compound,concentration_um",
    )
    store.annotate(pa.table({"plate": ["P1"], "well": ["A07"], "note": ["of the well"]}), "plate,well")
    rows = store.sql("SELECT DISTINCT plate, well, note, pathway FROM images WHERE compound = 'taxol' ORDER BY ALL")
    assert rows.fetchall() == [
        ("P1", "A07", "of the well", "spindle"),
        ("P1", "A08", "of the compound", "spindle"),
        ("P1", "A09", "of the dose", "spindle"),
        ("P2", "A07", "of the compound", "spindle"),
        ("P2", "A08", "of the compound", "spindle"),
        ("P2", "A09", "of the dose", "spindle"),
    ]


def test_wells_are_matched_however_they_are_written(store: Store) -> None:
    """Measurements of others name wells A7, A07, a007, A-7 or R01C07, columns well_position or Metadata_Well."""
    for name, well in (
        ("well_position", "A7"),
        ("Metadata_Well", "a007"),
        ("Well ID", "A07"),
        ("Well", "A-7"),
        ("well", "R01C07"),
    ):
        table = pa.table({"Assay_Plate_Barcode": ["P1", "P1"], name: [well, "Q99"], "nuclei": [412, 1]})
        report = store.annotate(table, "plate,well")
        assert (report["matched"], report["unmatched"]) == (1, ["P1, Q99"])
    assert store.sql("SELECT DISTINCT plate, well FROM images WHERE nuclei = 412").fetchall() == [("P1", "A07")]


def test_a_key_under_another_name_is_mapped(store: Store) -> None:
    """--map names the column to join on, and InChIKeys that come along join other tables."""
    table = pa.table({"broad_sample": ["taxol"], "InChIKey": ["KEY"]})
    with pytest.raises(StoreError, match=r"no column 'compound' .* \(--map compound=THEIRS names one\)"):
        store.annotate(table)
    unknown = store.annotate(pa.table({"InChIKey": ["KEY"], "target": ["TUBB"]}), "inchikey")
    assert (unknown["matched"], unknown["in_store"], unknown["without_annotation"]) == (0, 0, 0)
    assert store.annotate(table, mapping={"compound": "broad_sample"})["matched"] == 1
    assert store.annotate(pa.table({"InChIKey": ["KEY"], "target": ["TUBB"]}), "inchikey")["matched"] == 1
    assert store.sql("SELECT DISTINCT compound FROM images WHERE target = 'TUBB'").fetchall() == [("taxol",)]
    with pytest.raises(StoreError, match="--map: the table has no column 'x'"):
        store.annotate(table, mapping={"compound": "x"})


def test_annotating_again_replaces_the_columns_that_come_again(store: Store) -> None:
    """Of the keys that come again; a table of other columns takes nothing away."""
    store.annotate(pa.table({"compound": ["taxol", "aspirin"], "target": ["a", "b"], "moa": ["m", "n"]}))
    store.annotate(pa.table({"compound": ["taxol"], "target": ["c"]}))
    store.annotate(pa.table({"compound": ["taxol", "aspirin"], "price": [1, 2], "moa": ["o", None]}))
    query = "SELECT DISTINCT compound, target, moa, price FROM images WHERE target IS NOT NULL ORDER BY 1"
    assert store.sql(query).fetchall() == [("aspirin", "b", None, 2), ("taxol", "c", "o", 1)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
def test_text_files_are_read_and_their_keys_stay_text(store: Store, tmp_path: Path, name: str) -> None:
    separator = "\t" if "tsv" in name else ","
    text = "\n".join(separator.join(row) for row in [("compound", "cas"), ("taxol", "007"), ("aspirin", "50-78-2")])
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert store.annotate(path)["matched"] == 2


@pytest.mark.parametrize(
    ("table", "on", "message"),
    [
        (pa.table({"name": ["taxol"]}), "compound", "no column 'compound' to join on; it has: name"),
        (pa.table({"compound": ["taxol"]}), "colour", "cannot join on 'colour'; one of"),
        (pa.table({"compound": ["taxol", "taxol"], "a": [1, 2]}), "compound", "1 keys have rows that disagree"),
        (pa.table({"compound": ["taxol"], "concentration_um": ["high"]}), "compound,concentration_um", "concentration"),
    ],
)
def test_a_table_that_cannot_be_joined_says_why(store: Store, table: pa.Table, on: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.annotate(table, on)


def test_a_file_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no file at 'nowhere\.csv'"):
        store.annotate("nowhere.csv")


def values_of(store: Store, column: str) -> dict[str, object]:
    """The column's value of each compound that has one."""
    query = f"SELECT DISTINCT compound, {column} FROM images WHERE {column} IS NOT NULL"
    return dict(store.sql(query).fetchall())


def test_numbers_keep_their_fractions_whatever_came_before(store: Store) -> None:
    store.annotate(pa.table({"compound": ["taxol", "aspirin"], "viability": [3, -2]}))
    store.annotate(pa.table({"compound": ["taxol", "nocodazole"], "viability": [3.7, 1e30]}))
    assert values_of(store, "viability") == {"taxol": 3.7, "aspirin": -2.0, "nocodazole": 1e30}


@pytest.mark.parametrize(
    ("first", "then"), [([3], ["high"]), ([True], ["maybe"]), (["high"], [3]), ([date(2026, 1, 2)], ["unknown"])]
)
def test_a_column_of_another_kind_is_refused(store: Store, first: list[object], then: list[object]) -> None:
    store.annotate(pa.table({"compound": ["taxol"], "via": first}))
    with pytest.raises(StoreError, match=f"column 'via' holds .* in the store, and .* \\('{then[0]}'\\) here"):
        store.annotate(pa.table({"compound": ["aspirin"], "via": then}))
    assert values_of(store, "via") == {"taxol": first[0]}
    store.annotate(pa.table({"compound": ["aspirin"], "via": pa.nulls(1, pa.string())}))
    assert values_of(store, "via") == {"taxol": first[0]}


@pytest.mark.parametrize("name", [*sorted(RESERVED), "Group_ID", '6" plate', "new\nline"])
def test_names_that_the_store_cannot_take_are_refused(shared_store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="--map" if name.isprintable() else "rename it"):
        shared_store.annotate(pa.table({"compound": ["taxol"], name: [1]}))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"compound": ["taxol"]}, "nothing to add beside compound"),
        ({"compound": ["taxol"], "role": ["control"]}, "role describe images"),
        ({"compound": pa.array([], pa.string()), "target": pa.array([], pa.string())}, "no row with a compound"),
        ({"compound": pa.nulls(2, pa.string()), "target": ["a", "b"]}, "no row with a compound"),
    ],
)
def test_a_table_that_adds_nothing_is_an_error(shared_store: Store, table: dict[str, object], says: str) -> None:
    with pytest.raises(StoreError, match=says):
        shared_store.annotate(pa.table(table))


def test_names_that_differ_in_capitals_are_one_column_as_in_sql(store: Store) -> None:
    """MOA goes to the images' moa, Target to the target that was there; neither hides, moves or doubles the other."""
    before = store.sql("SELECT moa, count(*) FROM images WHERE compound <> 'taxol' GROUP BY 1 ORDER BY 1").fetchall()
    store.annotate(pa.table({"compound": ["taxol"], "MOA": ["stabiliser"], "target": ["TUBB"]}))
    store.annotate(pa.table({"compound": ["aspirin"], "Target": ["PTGS1"]}))
    assert (
        store.vectors(where="moa = 'stabiliser'")[0].num_rows == store.vectors(where="MOA = 'stabiliser'")[0].num_rows
    )
    assert store.vectors(where="compound = 'taxol' AND moa = 'stabiliser'")[0].num_rows == 12
    after = store.sql("SELECT moa, count(*) FROM images WHERE compound <> 'taxol' GROUP BY 1 ORDER BY 1").fetchall()
    assert after == before
    known = store.sql("SELECT compound, target FROM annotations ORDER BY 1").fetchall()
    assert known == [("aspirin", "PTGS1"), ("taxol", "TUBB")]
    names = [name.casefold() for name in store.search(compound="taxol", k=1).column_names]
    assert sorted(set(names)) == sorted(names)
    with pytest.raises(StoreError, match="two columns for 'Dose'"):
        store.annotate(pa.table({"compound": ["taxol"], "dose": ["a"], "Dose": ["b"]}))


@pytest.mark.parametrize(
    "column", [pa.array([["a"]]), pa.array([{"a": 1}]), pa.array([5], pa.duration("s")), pa.array([5], pa.time64("us"))]
)
def test_what_no_search_could_show_is_refused(store: Store, column: pa.Array) -> None:
    """Of annotations and of images: a column of lists would fail every search from then on."""
    with pytest.raises(StoreError, match=r"column 'extra' holds .*, which the store cannot keep: make it text"):
        store.annotate(pa.table({"compound": ["taxol"], "extra": column}))
    rows = fake_rows(["new"]).slice(0, 1)
    with pytest.raises(StoreError, match=r"column 'extra' holds .*, which the store cannot keep: make it text"):
        store.write_images(rows.append_column("extra", column))
    assert store.search(compound="taxol", k=1).num_rows == 1


def test_columns_of_images_have_one_name_whatever_their_capitals(store: Store) -> None:
    """A later manifest's MOA is the moa of the first; one with both is refused."""
    rows = fake_rows(["new"])
    rows = rows.set_column(rows.column_names.index("moa"), "MOA", pa.array(["late"] * len(rows)))
    rows = rows.set_column(rows.column_names.index("screen"), "screen", pa.array(["later"] * len(rows)))
    store.write_images(rows)
    assert store.sql("SELECT DISTINCT moa FROM images WHERE compound = 'new'").fetchall() == [("late",)]
    with pytest.raises(StoreError, match="two columns for 'moa'"):
        store.write_images(rows.append_column("moa", rows.column("MOA")))
