"""Annotations: joined on compound, InChIKey, well or dose; reported; shown by hits and usable in filters."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from phenoembed_store import Store
from phenoembed_store.errors import StoreError


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
    """Measurements of others name wells A7, A07 or a007, and the columns well_position or Metadata_Well."""
    for name, well in (("well_position", "A7"), ("Metadata_Well", "a007"), ("Well ID", "A07")):
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
