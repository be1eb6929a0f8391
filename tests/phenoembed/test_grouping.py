"""Who stands together: groups, sets and configurations."""

from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.phenoembed.screens import image, layout, table_of

from phenoembed_store.grouping import assign_groups, group_id


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group id -> its rows, as ``assign_groups`` deals them."""
    found = defaultdict(list)
    for row in assign_groups(table_of(rows)).to_pylist():
        found[row["group_id"]].append(row)
    return found


def test_a_group_is_one_field_of_every_dose_and_time_of_a_compound_in_a_replicate() -> None:
    """Treated groups are exactly the rows that agree in compound, replicate and field."""
    rows = layout(compounds=3)
    expected = defaultdict(set)
    for row in rows:
        if row["role"] == "treated":
            expected[f"s/{row['compound']}/{row['replicate']}/0/{row['field']}"].add(row["path"])
    found = {key: {row["path"] for row in members} for key, members in grouped(rows).items() if "DMSO" not in key}
    assert found == expected


def test_configurations_count_from_0_by_dose_then_time() -> None:
    """Within a group, configuration k is the k-th (dose, time)."""
    for members in grouped(layout(doses=(20.0, 3.0, 100.0))).values():
        order = sorted(members, key=lambda row: row["configuration"])
        assert [row["configuration"] for row in order] == list(range(6))
        if order[0]["role"] == "treated":
            assert [(row["concentration_um"], row["time_h"]) for row in order] == [
                (dose, time) for dose in (3.0, 20.0, 100.0) for time in (24.0, 48.0)
            ]


def test_several_wells_of_a_dose_form_sets() -> None:
    """With two wells a dose there are two sets of each group, and no well is in both."""
    found = grouped(layout(compounds=2, wells=2, controls=0))
    assert len(found) == 2 * 3 * 2 * 2
    for key, members in found.items():
        assert len(members) == 4
        assert {row["set"] for row in members} == {int(key.split("/")[3])}
    wells = {k: {row["well"] for row in rows} for k, rows in found.items()}
    assert not wells["s/c0/1/0/1"] & wells["s/c0/1/1/1"]


def test_a_control_group_looks_like_a_treated_one() -> None:
    """Control groups have as many wells, images, times and configurations as treated groups, whatever their number."""
    for controls in (2, 5, 6, 7, 12):
        found = grouped(layout(compounds=4, controls=controls))
        shapes = {
            role: {
                (len(rows), len({r["well"] for r in rows}), len({r["configuration"] for r in rows}))
                for key, rows in found.items()
                if key and rows[0]["role"] == role
            }
            for role in ("treated", "control")
        }
        assert shapes["treated"] == shapes["control"] == {(4, 2, 4)}


def test_a_well_of_controls_stands_in_one_set_only() -> None:
    """No control well is used twice, and the wells left over are fewer than a whole group needs."""
    rows = assign_groups(table_of(layout(compounds=4, controls=7))).to_pylist()
    sets = defaultdict(set)
    for row in rows:
        if row["role"] == "control":
            sets[row["plate"], row["well"]].add(row["set"])
    assert all(len(found) == 1 for found in sets.values())
    left = Counter(plate for (plate, _), found in sets.items() if found == {None})
    assert left == {"P1": 1, "P2": 1, "P3": 1}


def test_too_few_controls_still_make_a_group() -> None:
    """One control well, where treated groups have two, is a ragged group rather than nothing."""
    found = grouped(layout(compounds=4, controls=1))
    assert {len(rows) for key, rows in found.items() if "DMSO" in key} == {2}


def test_neighbouring_control_wells_are_not_one_group() -> None:
    """Control wells are dealt at random, so that a control group is no patch of the plate."""
    found = grouped(layout(compounds=12, controls=24, replicates=1, times=(24.0,), fields=1))
    pairs = [sorted(int(row["well"][1:]) for row in rows) for key, rows in found.items() if "DMSO" in key]
    assert len(pairs) == 12
    assert sum(second - first == 1 for first, second in pairs) < 6


def test_groups_are_ragged_where_images_are_missing() -> None:
    """A missing image makes its own group smaller, and no other."""
    rows = layout(compounds=2)
    gone = next(row for row in rows if row["role"] == "treated" and row["field"] == 2)
    before, after = grouped(rows), grouped([row for row in rows if row is not gone])
    changed = {key for key in before if len(after[key]) != len(before[key])}
    assert changed == {f"s/{gone['compound']}/{gone['replicate']}/0/2"}


def test_a_field_missing_in_one_well_leaves_the_others_where_they_are() -> None:
    """Field 3 of one dose without its image still groups the other dose's field 3."""
    rows = [image(well="A01", field=f, concentration_um=1.0) for f in (1, 2)]
    rows += [image(well="A02", field=f, concentration_um=9.0) for f in (1, 2, 3)]
    assert {key: len(members) for key, members in grouped(rows).items()} == {
        "s/x/1/0/1": 2,
        "s/x/1/0/2": 2,
        "s/x/1/0/3": 1,
    }


def test_a_plate_a_time_point_is_one_group() -> None:
    """Where every time point has plates of its own, a replicate's groups still reach over all times."""
    rows = layout(compounds=3, plate_a_time=True)
    found = grouped(rows)
    assert None not in found
    assert {len(members) for members in found.values()} == {4}
    assert all({row["time_h"] for row in members} == {24.0, 48.0} for members in found.values())


def test_wells_keep_their_set_over_time() -> None:
    """On one plate, the second well of a dose is in set 1 at every time, even if the first is missing at one."""
    rows = [image(well=w, time_h=t) for w in ("A01", "A02") for t in (24.0, 48.0) if (w, t) != ("A01", 48.0)]
    sets = {(row["well"], row["time_h"]): row["set"] for row in assign_groups(table_of(rows)).to_pylist()}
    assert sets == {("A01", 24.0): 0, ("A02", 24.0): 1, ("A02", 48.0): 1}


def test_empty_wells_are_in_no_group() -> None:
    """Wells without cells get nulls."""
    table = assign_groups(table_of([image(), image(well="A02", compound="", role="empty")]))
    assert table.column("group_id").to_pylist() == ["s/x/1/0/1", None]
    assert table.column("configuration").to_pylist() == [0, None]


@pytest.mark.parametrize("name", ["a/b", "50% EtOH", "café", "it's", 'say "x"', "12345", "a/b%2Fc", "名前"])
def test_group_ids_of_odd_names_are_unique_and_readable(name: str) -> None:
    """Slashes within a name cannot be taken for the separator; other names stay as they are."""
    key = group_id("s", name, "1", 0, 1)
    assert key.count("/") == 4
    assert key.split("/")[1] == name or "%" in key
    assert group_id("s", "a", "b/c", 0, 1) != group_id("s", "a/b", "c", 0, 1)
    assert group_id("s", "a/b", "1", 0, 1) != group_id("s", "a%2Fb", "1", 0, 1)


@given(st.data())
@settings(max_examples=30)
def test_the_order_of_rows_does_not_matter(data: st.DataObject) -> None:
    """Any order of the manifest's rows, with any of them missing, gives every image the same group."""
    rows = layout(compounds=3, wells=2, controls=5, replicates=2, fields=1)
    kept = [
        row
        for row, keep in zip(
            rows, data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), strict=True
        )
        if keep
    ]
    if not kept:
        return
    place = {row["path"]: row for row in assign_groups(table_of(kept)).to_pylist()}
    shuffled = data.draw(st.permutations(kept))
    assert {row["path"]: row for row in assign_groups(table_of(shuffled)).to_pylist()} == place
    seen = Counter((row["group_id"], row["configuration"]) for row in place.values() if row["group_id"])
    assert set(seen.values()) <= {1}, "a group has one image a configuration"


def test_two_screens_do_not_mix() -> None:
    """The same compound and replicate in two screens are two groups."""
    found = grouped([image(screen="s"), image(screen="t")])
    assert set(found) == {"s/x/1/0/1", "t/x/1/0/1"}


def test_an_empty_table_has_no_groups() -> None:
    """Nothing in, nothing out, with the columns all the same."""
    table = assign_groups(table_of([]))
    assert table.num_rows == 0
    assert table.schema.field("group_id").type == pa.string()
