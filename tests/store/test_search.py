"""Search against brute force: every level, filters, neighbours that do not count."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.errors import NotInStore, StoreError


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def compound_oracle(
    rows: list[dict], vectors: np.ndarray, keys: tuple[str, ...], *, median: bool = False
) -> dict[tuple, np.ndarray]:
    """The design's words in plain Python: images -> configuration -> group -> unit (a treatment: by the median)."""
    groups: dict[tuple, dict[tuple, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for row, vector in zip(rows, vectors.astype(np.float64), strict=True):
        if row["group_id"] is not None:
            part = tuple(row[key] for key in keys)
            groups[part, row["group_id"]][row["configuration"]].append(vector)
    means = defaultdict(list)
    for (part, _), configurations in groups.items():
        means[part].append(np.mean([np.mean(images, axis=0) for images in configurations.values()], axis=0))
    if median:
        return {part: unit(np.median(found, axis=0)) for part, found in means.items()}
    return {part: unit(np.mean([unit(mean) for mean in found], axis=0)) for part, found in means.items()}


LEVEL_KEYS = {
    "group": ("compound", "group_id"),
    "treatment": ("compound", "concentration_um"),
    "compound": ("compound",),
}


@pytest.mark.parametrize("level", sorted(LEVEL_KEYS))
@pytest.mark.parametrize("where", [None, "concentration_um >= 5 OR role = 'control'"])
def test_aggregated_levels_equal_the_design_in_plain_python(store: Store, level: str, where: str | None) -> None:
    """Query and candidates are means of means over the images that pass, and cosines order them."""
    table, vectors = store.vectors(where)
    rows = table.to_pylist()
    keys = LEVEL_KEYS[level]
    median = level == "treatment"
    candidates = compound_oracle(rows, vectors, keys, median=median)
    query = compound_oracle(rows, vectors, ("compound",), median=median)[("taxol",)]
    expected = sorted(
        ((float(vector @ query), key) for key, vector in candidates.items() if key[0] != "taxol"), reverse=True
    )
    hits = store.search(compound="taxol", level=level, k=1000, where=where)
    assert len(hits) == len(expected)
    for hit, (score, key) in zip(hits.to_pylist(), expected, strict=True):
        assert hit["score"] == pytest.approx(score, abs=1e-5)
        assert tuple(hit[name] for name in keys) == key
    assert hits.column("rank").to_pylist() == list(range(1, len(expected) + 1))


def test_image_level_equals_a_matrix_product(store: Store) -> None:
    """At image level every image of another compound is a candidate, by cosine."""
    table, vectors = store.vectors()
    query = np.linspace(-1, 1, vectors.shape[1])
    scores = np.array([unit(v) @ unit(query) for v in vectors.astype(np.float64)])
    hits = store.search(vector=query, level="image", k=15)
    best = np.argsort(-scores)[:15]
    assert hits.column("path").to_pylist() == table.column("path").take(pa.array(best)).to_pylist()
    np.testing.assert_allclose(hits.column("score").to_numpy(), scores[best], atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    dose=st.sampled_from([0.0, 1.0, 5.0, 20.0, 99.0]),
    plate=st.sampled_from(["P1", "P2", "P9"]),
    k=st.integers(1, 80),
    either=st.booleans(),
)
def test_a_filtered_search_returns_min_k_matches(
    shared_store: Store, dose: float, plate: str, k: int, either: bool
) -> None:
    """A filter is a Python predicate over the rows, and every match is returned when k exceeds them."""
    word = "OR" if either else "AND"
    where = f"concentration_um = {dose} {word} plate = '{plate}'"
    rows = shared_store.vectors()[0].to_pylist()
    passing = [
        row for row in rows if (any if either else all)((row["concentration_um"] == dose, row["plate"] == plate))
    ]
    hits = shared_store.search(vector=np.ones(8), level="image", k=k, where=where)
    assert len(hits) == min(k, len(passing))
    assert set(hits.column("path").to_pylist()) <= {row["path"] for row in passing}


def test_the_query_and_its_compound_are_no_hits_unless_asked_for(store: Store) -> None:
    for query in ({"compound": "taxol"}, {"well": "P1:A07"}, {"group": "fake/taxol/P1/0/1"}):
        assert "taxol" not in store.search(**query, k=50).column("compound").to_pylist()
        first = store.search(**query, k=50, include_self=True).to_pylist()[0]
        assert first["compound"] == "taxol"


def test_not_same_plate_drops_the_images_and_pairs_that_share_it(store: Store) -> None:
    """At image level the plate's images go; above it, pairs of groups on one plate do not count."""
    images = store.search(well="P1:A07", level="image", k=100, not_same="plate")
    assert set(images.column("plate").to_pylist()) == {"P2"}
    groups = store.groups().to_pylist()
    query = [g for g in groups if g["compound"] == "taxol"]
    for hit in store.search(compound="taxol", not_same=["plate"]).to_pylist():
        cosines = [
            np.dot(q["embedding"], g["embedding"])
            for q in query
            for g in groups
            if g["compound"] == hit["compound"] and not set(q["plates"]) & set(g["plates"])
        ]
        assert hit["score"] == pytest.approx(np.mean(cosines), abs=1e-5)
        assert hit["same_plate"] is False


def test_same_plate_says_whether_a_hit_shares_a_plate_with_the_query(store: Store) -> None:
    hits = store.search(well="P1:A07", level="group", k=100).to_pylist()
    assert {hit["same_plate"] for hit in hits if hit["replicate"] == "P1"} == {True}
    assert {hit["same_plate"] for hit in hits if hit["replicate"] == "P2"} == {False}


def test_a_filter_that_leaves_nothing_of_the_query_speaks_of_the_candidates(store: Store) -> None:
    hits = store.search(compound="taxol", where="moa = 'actin'")
    assert hits.column("compound").to_pylist() == ["cytochalasin D"]


def test_hits_say_how_they_were_found(store: Store) -> None:
    found = json.loads(store.search(compound="taxol", k=2).schema.metadata[b"phenoembed"])
    assert found["path"] == "exact"
    assert found["query"]["compound"] == "taxol"
    assert found["transform"] is None


def test_annotations_of_a_hit_are_those_its_images_agree_on(store: Store) -> None:
    hits = {hit["compound"]: hit for hit in store.search(compound="taxol").to_pylist()}
    assert hits["nocodazole"]["moa"] == "tubulin"
    assert hits["DMSO"]["moa"] is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"compound": "nocodazol"}, "no compound 'nocodazol'; did you mean 'nocodazole'?"),
        ({"compound": "zzz"}, "no compound 'zzz'; the store has DMSO, aspirin"),
        ({"well": "P1:Z99"}, "plate 'P1' has no well 'Z99'; it has A01, A02, A03 .. A18"),
        ({"well": "P7:A01"}, "no plate 'P7'; the store has P1, P2"),
        ({"group": "fake/taxol/P1/0/9"}, "no group 'fake/taxol/P1/0/9'; did you mean 'fake/taxol/P1/0/"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(store: Store, asked: dict[str, str], message: str) -> None:
    with pytest.raises(NotInStore) as caught:
        store.search(**asked)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "asked",
    [
        {"vector": np.zeros(8)},
        {"vector": np.full(8, np.nan)},
        {"vector": np.full(8, np.inf)},
        {"vector": np.ones(7)},
        {"vector": ["a"] * 8},
        {"well": "A01"},
        {"compound": "taxol", "k": 0},
        {"compound": "taxol", "level": "plate"},
        {"compound": "taxol", "not_same": ["plat"]},
        {"vector": np.ones(8), "not_same": ["plate"]},
        {"compound": "taxol", "well": "P1:A01"},
        {},
    ],
)
def test_a_query_that_makes_no_sense_is_refused_in_one_line(store: Store, asked: dict[str, object]) -> None:
    with pytest.raises(StoreError) as caught:
        store.search(**asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [1e-44, 1e-30, 1e37])
def test_a_vector_s_length_does_not_count(store: Store, length: float) -> None:
    """Cosines are those of the direction, where a float32's square would be zero or infinite too."""
    direction = np.eye(8)[0] + np.eye(8)[3]
    expected = store.search(vector=direction, level="image", k=5)
    found = store.search(vector=direction * length, level="image", k=5)
    assert found.column("path").equals(expected.column("path"))
    np.testing.assert_allclose(found.column("score"), expected.column("score"), atol=1e-3)


def test_a_well_of_two_screens_is_asked_for_by_its_screen(tmp_path: Path) -> None:
    """Two screens have a plate P1, whose wells hold other compounds: one of them asks, never the mean of both."""
    both = phenoembed_store.open(tmp_path / "both", create=True)
    alone = phenoembed_store.open(tmp_path / "alone", create=True)
    rows = fake_rows()
    later = fake_rows(["aspirin", "taxol"], seed=1)
    later = later.set_column(later.column_names.index("screen"), "screen", pa.array(["later"] * len(later)))
    for store, tables in ((both, (rows, later)), (alone, (rows,))):
        for table in tables:
            store.write_images(table)
    assert alone.search(well="P1:A01").to_pylist() == alone.search(well="fake/P1:A01").to_pylist()
    with pytest.raises(
        StoreError, match=r"'P1:A01' is a well of 2 screens \(fake, later\): name one, e.g. fake/P1:A01"
    ):
        both.search(well="P1:A01")
    assert both.search(well="P1:A07").to_pylist() == both.search(well="fake/P1:A07").to_pylist()
    table, vectors = both.vectors(where="screen = 'later' AND plate = 'P1' AND well = 'A01'")
    assert len(table) == 2
    asked = both.search(well="later/P1:A01", level="image", k=5, include_self=True)
    expected = both.search(vector=np.mean([unit(vector) for vector in vectors], axis=0), level="image", k=5)
    assert asked.column("path").equals(expected.column("path"))
    np.testing.assert_allclose(asked.column("score"), expected.column("score"), atol=1e-6)
    with pytest.raises(NotInStore, match="no screen 'nowhere'"):
        both.search(well="nowhere/P1:A01")


def test_plates_of_one_name_in_two_screens_are_not_the_same_plate(tmp_path: Path) -> None:
    store = phenoembed_store.open(tmp_path / "both", create=True)
    later = fake_rows(["ibuprofen", "taxol"], seed=1)
    later = later.set_column(later.column_names.index("screen"), "screen", pa.array(["later"] * len(later)))
    for rows in (fake_rows(["aspirin", "nocodazole"]), later):
        store.write_images(rows)
    for level in ("image", "group", "compound"):
        asked = {"well": "fake/P1:A01", "level": level, "k": 100, "where": "role = 'treated'"}
        same = {hit["compound"]: hit["same_plate"] for hit in store.search(**asked).to_pylist()}
        assert not same["ibuprofen"]
        assert not same["taxol"]
        apart = store.search(**asked, not_same=["plate"]).column("compound").to_pylist()
        assert {"ibuprofen", "taxol"} <= set(apart)


def test_a_well_may_be_written_without_its_zero(store: Store) -> None:
    assert store.search(well="P1:a7").equals(
        store.search(well="P1:A07").replace_schema_metadata(store.search(well="P1:a7").schema.metadata)
    )
