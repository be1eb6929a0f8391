"""Plates: their shape, rims and calls, and plates of one name in two screens; without a browser."""

import numpy as np
import pyarrow as pa
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_dashboard.catalogue import open_catalogue
from phenoembed_dashboard.effect import effects
from phenoembed_dashboard.evidence import group_choices
from phenoembed_dashboard.maps import make_map
from phenoembed_dashboard.neighbours import Filters, Query, control_similarity, find_neighbours, query_rows
from phenoembed_dashboard.plates import calls, plate_grid, rim_effect, split_well, well_rows
from phenoembed_dashboard.strips import compound_strip, control_strip
from phenoembed_dashboard.support import replicates, support
from phenoembed_store import Store
from phenoembed_store.plate_layout import EdgeEffect, well_order


def test_a_plate_has_its_true_shape_and_its_rim(shared_store: Store) -> None:
    catalogue = open_catalogue(shared_store.path)
    rows = well_rows(catalogue, "P1", 24.0, "intensity_mean")
    assert len(rows) == 18
    mask = (
        (catalogue.column("plate") == "P1") & (catalogue.column("well") == "A04") & (catalogue.column("time_h") == 24)
    )
    expected = catalogue.column("intensity_mean")[mask].mean()
    assert next(row for row in rows if row["well"] == "A04")["value"] == pytest.approx(expected)
    letters, numbers = plate_grid(rows)
    assert (len(letters), len(numbers)) == (16, 24)
    assert split_well("AF48") == ("AF", 48)


def test_wells_are_sorted_row_by_row() -> None:
    assert sorted(["AA01", "B02", "A10", "x", "A02", "Z48"], key=well_order) == [
        "x",
        "A02",
        "A10",
        "B02",
        "Z48",
        "AA01",
    ]


def test_an_edge_effect_is_measured_on_controls() -> None:
    def well(letter: str, number: int, value: float, role: str) -> dict[str, object]:
        return {"row": letter, "column": number, "value": value, "role": role}

    rim = [well("A", i, 10.0 + i % 2, "control") for i in range(1, 6)]
    inside = [well("D", i, 1.0 + i % 2, "control") for i in range(2, 7)]
    treated = [well("E", i, 99.0, "treated") for i in range(2, 12)]
    rows = [*rim, *inside, *treated]
    found = rim_effect(rows, plate_grid([*rows, well("H", 12, 0.0, "treated")]))
    assert found is not None
    assert (found.of, found.n_rim, found.n_inside, found.clear) == ("control wells", 5, 5, True)
    assert found.apart > 1.5


def test_few_wells_that_differ_by_chance_are_no_edge_effect() -> None:
    """Six wells at the rim and 24 inside differ by 0.9 sd in one case of twenty where there is nothing."""
    assert not EdgeEffect(rim=1.64, inside=1.25, apart=0.55, n_rim=6, n_inside=24, of="wells").clear
    assert EdgeEffect(rim=1.64, inside=1.25, apart=0.55, n_rim=76, n_inside=308, of="wells").clear
    assert not EdgeEffect(rim=1.64, inside=1.6, apart=0.3, n_rim=760, n_inside=3080, of="wells").clear


def test_distance_to_dmso_is_smallest_for_dmso(shared_store: Store) -> None:
    rows = well_rows(open_catalogue(shared_store.path), "P1", None, "distance to DMSO")
    controls = [row["value"] for row in rows if row["role"] == "control"]
    assert max(controls) < min(row["value"] for row in rows if row["role"] == "treated")


@pytest.fixture(scope="module")
def two_screens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Store]]:
    """A store of two screens with plates of one name, other compounds on them; each screen in its own store too."""
    folder = tmp_path_factory.mktemp("screens")
    both, alone = phenoembed_store.open(folder / "both", create=True), {}
    for number, name in enumerate(("first", "second")):
        rows = fake_rows(["DMSO", f"drug {number}", f"other {number}"], seed=number)
        rows = rows.set_column(rows.column_names.index("screen"), "screen", pa.array([name] * len(rows)))
        alone[name] = phenoembed_store.open(folder / name, create=True)
        for store in (both, alone[name]):
            store.write_images(rows)
    return both, alone


def test_plates_of_one_name_in_two_screens_are_two(two_screens: tuple[Store, dict[str, Store]]) -> None:
    """Each screen's wells, and how far they lie from DMSO, are what they are in a store of that screen alone."""
    both, alone = two_screens
    catalogue = open_catalogue(both.path)
    assert list(catalogue.plates) == ["P1 (first)", "P1 (second)", "P2 (first)", "P2 (second)"]
    for name, store in alone.items():
        own = open_catalogue(store.path)
        assert list(own.plates) == ["P1", "P2"]
        for column in ("distance to DMSO", "compound", "concentration_um"):
            expected = well_rows(own, "P1", 24.0, column)
            found = well_rows(catalogue, f"P1 ({name})", 24.0, column)
            assert len(found) == len(expected) > 0
            for row, one in zip(found, expected, strict=True):
                assert row == {**one, "value": one["value"] if column == "compound" else pytest.approx(one["value"])}
        for compound in own.treated:
            mine, wanted = (effects(one, one.rows_of(compound)).of for one in (catalogue, own))
            assert wanted
            assert mine == pytest.approx(wanted)
            likenesses = [control_similarity(one, one.rows_of(compound)) for one in (catalogue, own)]
            assert likenesses[0] == pytest.approx(likenesses[1])
    assert {row["plate"] for row in make_map(both, catalogue, "PCA", "group").rows} == set(catalogue.plates)


def test_pictures_beside_a_compound_are_of_its_own_screen(two_screens: tuple[Store, dict[str, Store]]) -> None:
    """Its controls, and a compound of both screens on the plates that are asked for."""
    catalogue = open_catalogue(two_screens[0].path)
    for number, name in enumerate(("first", "second")):
        mine = compound_strip(catalogue, catalogue.rows_of(f"drug {number}"))
        controls = control_strip(catalogue, like=mine)
        assert {record["screen"] for record in controls.records()} == {name}
        everywhere = compound_strip(catalogue, catalogue.control_rows, plates=catalogue.plates_of(mine.records()))
        assert {record["screen"] for record in everywhere.records()} == {name}


def test_a_plate_filter_keeps_to_the_plate_s_screen(two_screens: tuple[Store, dict[str, Store]]) -> None:
    both, alone = two_screens
    catalogue = open_catalogue(both.path)
    filters, query = Filters(plates=("P1 (second)",)), Query(compound="drug 1")
    found = find_neighbours(both, catalogue, query, filters, 9)
    expected = alone["second"].search(compound="drug 1", where="plate = 'P1'", k=9).to_pylist()
    assert [(one.compound, one.n_images) for one in found.neighbours] == [
        (one["compound"], one["n_images"]) for one in expected
    ]
    passing = catalogue.table.filter(pa.array(filters.passes(catalogue, np.arange(len(catalogue.table)))))
    assert set(zip(*(passing.column(name).to_pylist() for name in ("screen", "plate")), strict=True)) == {
        ("second", "P1")
    }


def test_a_well_is_searched_by_the_images_of_its_own_screen(two_screens: tuple[Store, dict[str, Store]]) -> None:
    """As the mean of that well's groups finds them; the compound in the other screen's well may be a hit."""
    both, _ = two_screens
    catalogue = open_catalogue(both.path)
    query = Query(well=("P1 (second)", "A04"))
    found = find_neighbours(both, catalogue, query, Filters(), 9)
    rows = query_rows(catalogue, query)
    assert {record["compound"] for record in catalogue.records(rows)} == {"drug 1"}
    vectors = catalogue.vectors[rows]
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
    expected = [hit for hit in both.search(vector=mean, k=9).to_pylist() if hit["compound"] != "drug 1"]
    assert "drug 0" in {one.compound for one in found.neighbours}
    assert [one.compound for one in found.neighbours] == [hit["compound"] for hit in expected]
    assert [one.similarity for one in found.neighbours] == pytest.approx([hit["score"] for hit in expected])


def test_replicates_of_one_name_in_two_screens_are_two(two_screens: tuple[Store, dict[str, Store]]) -> None:
    both, _ = two_screens
    catalogue = open_catalogue(both.path)
    for filters in (Filters(), Filters(times=(24.0,))):
        assert support(replicates(both, catalogue, filters), "DMSO").replicates == 4
    assert {choice.screen for choice in group_choices(both, catalogue, "DMSO")} == {"first", "second"}


def test_wells_are_coloured_by_what_probes_called_them(shared_store: Store) -> None:
    """The held-out groups that a well's images belong to, by their most frequent call and mean probability."""
    catalogue = open_catalogue(shared_store.path)
    called = calls(shared_store, catalogue)
    by_group = {row["group_id"]: row for row in shared_store.predictions().to_pylist()}
    names = well_rows(catalogue, "P1", 24.0, "called:compound", called)
    shares = well_rows(catalogue, "P1", 24.0, "p_right:compound", called)
    table = shared_store.vectors("plate = 'P1' AND time_h = 24 AND role = 'treated'")[0].to_pylist()
    assert {row["well"] for row in names} == {row["well"] for row in table}
    for name, share in zip(names, shares, strict=True):
        mine = [by_group[row["group_id"]] for row in table if row["well"] == name["well"]]
        assert name["value"] in {row["predicted"] for row in mine}
        assert share["value"] == pytest.approx(np.mean([row["p_label"] for row in mine]))
