"""A screen counts what it holds, knows where its images are, and gathers z-stacks."""

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phenoembed.screen import Screen, gather_stacks, row_ids

from phenoembed_store.schema import SCREEN_SCHEMA


def row(**known: object) -> dict[str, object]:
    """One image; what a test does not care about is the same in every row."""
    return {
        "path": "a.tif",
        "screen": "S",
        "plate": "P1",
        "well": "A01",
        "field": 1,
        "time_h": 24.0,
        "channel": "1",
        "z": 0,
        "replicate": "R1",
        "compound": "taxol",
        "concentration_um": 1.0,
        "role": "treated",
    } | known


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCREEN_SCHEMA)


def test_repr_counts() -> None:
    """Compounds and configurations are those of treated wells; a plate of another screen is another plate."""
    rows = [
        row(),
        row(concentration_um=5.0),
        row(compound="nocodazole", screen="T"),
        row(compound="DMSO", concentration_um=0.0, role="control"),
    ]
    assert repr(Screen(table(*rows), Path("/s"), "x")) == "Screen(2 plates, 2 compounds, 2 configurations, 4 images)"
    assert repr(Screen(table(row()), Path("/s"), "x")) == "Screen(1 plate, 1 compound, 1 configuration, 1 image)"
    assert repr(Screen(table(*[row()] * 3240), Path("/s"), "x")).endswith("3,240 images)")


def test_paths_are_relative_to_the_root_or_absolute() -> None:
    screen = Screen(table(row(path="P1/a.tif"), row(path="/data/b.tif")), Path("/s"), "x")
    assert [screen.image_path(i) for i in range(2)] == [Path("/s/P1/a.tif"), Path("/data/b.tif")]
    assert screen.plane_paths(0) == [Path("/s/P1/a.tif")]


def test_a_table_without_the_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="SCREEN_SCHEMA"):
        Screen(table(row()).drop_columns(["z"]), Path("/s"), "x")


def test_planes_of_a_stack_become_one_row_in_the_order_of_z() -> None:
    """The other images keep their rows; a single plane that is not plane 0 becomes it."""
    rows = [row(path="top", z=9), row(path="other", well="B02", z=4), row(path="bottom", z=2)]
    gathered = gather_stacks(table(*rows).append_column("moa", pa.array(["m", "n", "m"])))
    assert gathered.column_names == [*SCREEN_SCHEMA.names, "z_paths", "moa", "z_planes"]
    assert gathered.column("z_planes").to_pylist() == [[2, 9], [4]]
    assert [(r["path"], r["well"], r["z"], r["z_paths"], r["moa"]) for r in gathered.to_pylist()] == [
        ("bottom", "A01", 0, ["bottom", "top"], "m"),
        ("other", "B02", 0, None, "n"),
    ]
    screen = Screen(gathered, Path("/s"), "x")
    assert screen.plane_paths(0) == [Path("/s/bottom"), Path("/s/top")]
    assert screen.plane_paths(1) == [Path("/s/other")]


def test_without_stacks_no_column_is_added() -> None:
    rows = table(row(), row(well="B02"))
    assert gather_stacks(rows).equals(rows)
    assert gather_stacks(SCREEN_SCHEMA.empty_table()).num_rows == 0


KEYS = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 3), st.integers(0, 5)), unique=True, max_size=30)


@given(KEYS, st.randoms(use_true_random=False))
def test_gathering_agrees_with_a_dictionary(keys: list[tuple[str, int, int]], shuffle: random.Random) -> None:
    """Any planes in any order give the stacks that a plain dictionary of lists gives."""
    shuffle.shuffle(keys)
    rows = [row(well=f"{w}01", field=f, z=z, path=f"{w}{f}z{z}") for w, f, z in keys]
    stacks: dict[tuple[str, int], list[int]] = defaultdict(list)
    for w, f, z in keys:
        stacks[w, f].append(z)
    expected = [[f"{w}{f}z{z}" for z in sorted(zs)] for (w, f), zs in stacks.items()]
    gathered = gather_stacks(table(*rows)).to_pylist()
    assert [r.get("z_paths") or [r["path"]] for r in gathered] == expected
    assert all(r["z"] == 0 for r in gathered)


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.sampled_from([0.0, 1.5, None])), max_size=20))
def test_row_ids_are_equal_exactly_when_rows_are(rows: list[tuple[str | None, float | None]]) -> None:
    ids = row_ids([pa.array([a for a, _ in rows], pa.string()), pa.array([b for _, b in rows], pa.float64())])
    assert np.array_equal(ids[:, None] == ids, [[a == b for b in rows] for a in rows] if rows else np.empty((0, 0)))
