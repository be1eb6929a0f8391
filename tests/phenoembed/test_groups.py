"""A table of images as rows of groups."""

import numpy as np
import pyarrow as pa
from phenoembed.groups import group_images
from tests.phenoembed.screens import layout, table_of

from phenoembed_store.grouping import assign_groups


def test_rows_point_at_the_images_of_their_group() -> None:
    """``rows[g]`` are the rows whose group_id is that of line g, by configuration; ids are sorted."""
    table = assign_groups(table_of(layout(wells=2, controls=5)))
    groups = group_images(table)
    ids, numbers = table.column("group_id").to_pylist(), table.column("configuration").to_pylist()
    names = groups.table.column("group_id").to_pylist()
    assert names == sorted(set(ids) - {None})
    for name, rows, configurations in zip(names, groups.rows, groups.configurations, strict=True):
        assert sorted(rows) == [row for row, key in enumerate(ids) if key == name]
        assert configurations.tolist() == sorted(numbers[row] for row in rows) == [numbers[row] for row in rows]


def test_images_that_cannot_be_used_leave_their_group_in_its_place() -> None:
    """Leaving images out makes groups smaller or empty, but moves no image to another group."""
    table = table_of(layout(compounds=2, wells=2))
    whole = group_images(table)
    usable = np.random.default_rng(0).random(table.num_rows) < 0.4
    some = group_images(table, usable)
    for name, rows in zip(some.table.column("group_id").to_pylist(), some.rows, strict=True):
        assert rows.tolist() == [row for row in whole.rows[whole.number[name]] if usable[row]]
    assert sum(map(len, some.rows)) == sum(usable[row] for rows in whole.rows for row in rows)


def test_places_leaves_out_groups_without_images() -> None:
    """A fold's group of which every image was rejected is passed over."""
    table = table_of(layout(compounds=2))
    whole = group_images(table)
    usable = np.ones(table.num_rows, bool)
    usable[whole.rows[0]] = False
    names = whole.table.column("group_id").to_pylist()
    assert len(group_images(table, usable).places(names)) == len(names) - 1


def test_groups_that_a_table_brings_are_kept() -> None:
    """A part of a table that was grouped whole keeps the groups of the whole."""
    table = assign_groups(table_of(layout(controls=5)))
    part = table.take(pa.array(np.flatnonzero(np.arange(table.num_rows) % 3 == 0)))
    kept = {key for key in part.column("group_id").to_pylist() if key}
    assert set(group_images(part).table.column("group_id").to_pylist()) == kept


def test_no_images_are_no_groups() -> None:
    """An empty table, and one of which nothing can be used."""
    assert group_images(table_of([])).rows == ()
    table = table_of(layout(compounds=1))
    assert repr(group_images(table, np.zeros(table.num_rows, bool))) == "Groups(0 groups, 0 images)"
