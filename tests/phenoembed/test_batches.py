"""Batches of whole groups."""

import numpy as np
import pytest
from phenoembed.batches import GroupBatches, members_of
from phenoembed.groups import Groups, group_images
from tests.phenoembed.screens import layout, table_of


@pytest.fixture
def groups() -> Groups:
    rows = layout(compounds=5, controls=0)
    return group_images(table_of([row for i, row in enumerate(rows) if i % 7]))  # ragged


def pixels_of(groups: Groups) -> np.ndarray:
    """Images that carry the number of their row."""
    n_images = 1 + max(int(rows.max()) for rows in groups.rows)
    return np.broadcast_to(np.arange(n_images, dtype=np.uint16)[:, None, None], (n_images, 2, 3)).copy()


def batches(groups: Groups, batch_groups: int, seed: int | None = None) -> GroupBatches:
    places = np.arange(len(groups.rows))
    return GroupBatches(pixels_of(groups), groups, places, places.astype(np.int64), batch_groups, seed)


@pytest.mark.parametrize("batch_groups", [2, 4, 7, 29, 30, 1000])
@pytest.mark.parametrize("seed", [None, 3])
def test_an_epoch_shows_every_group_once_and_whole(groups: Groups, batch_groups: int, seed: int | None) -> None:
    """Every image of every group comes once, beside the images of its group, with that group's label."""
    seen: dict[int, list[int]] = {}
    found = batches(groups, batch_groups, seed)
    sizes = []
    for batch in found:
        sizes.append(batch.members.n_groups)
        rows = batch.pixels[:, 0, 0].numpy()
        for number, label in enumerate(batch.labels.tolist()):
            own = batch.members.group.numpy() == number
            seen[label] = rows[own].tolist()
            assert batch.members.configuration.numpy()[own].tolist() == groups.configurations[label].tolist()
    assert {label: tuple(rows) for label, rows in seen.items()} == dict(enumerate(map(tuple, groups.rows)))
    assert len(sizes) == len(found)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2, "batch normalisation cannot train on one image"
    assert found.n_images == sum(map(len, groups.rows))


def test_the_order_of_an_epoch_follows_from_seed_and_epoch(groups: Groups) -> None:
    """Epoch 5 is the same whether or not epochs 0 to 4 were run; other epochs and seeds differ."""

    def order(seed: int, epoch: int) -> list[int]:
        found = batches(groups, 4, seed)
        found.epoch = epoch
        return [label for batch in found for label in batch.labels.tolist()]

    assert order(0, 5) == order(0, 5)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 5)}) == 4


def test_one_group_is_one_batch(groups: Groups) -> None:
    """Testing a single group works too."""
    one = GroupBatches(pixels_of(groups), groups, np.array([3]), np.array([0]), 24)
    assert [batch.members.n_groups for batch in one] == [1]


def test_members_say_where_images_belong(groups: Groups) -> None:
    """Groups are numbered as asked, not as they are stored."""
    members = members_of(groups, [4, 1])
    assert members.n_groups == 2
    assert members.group.tolist() == [0] * len(groups.rows[4]) + [1] * len(groups.rows[1])
