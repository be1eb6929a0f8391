"""The groups table: what it says of each group is what the group's images say."""

from collections import defaultdict
from pathlib import Path

from tests.store.fakes import fake_rows

import phenoembed_store


def test_a_group_names_the_plates_and_wells_of_its_images(tmp_path: Path) -> None:
    """Distinct, in order, and as many configurations as its images have; against plain Python over the images."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    store.write_images(fake_rows(times=(24.0, 48.0), replicates=3, fields=3))
    store.delete_images("compound = 'taxol' AND concentration_um = 5 AND field = 2")
    images = defaultdict(list)
    for row in store.sql("SELECT group_id, plate, well, configuration FROM images").fetchall():
        images[row[0]].append(row[1:])
    groups = store.groups().to_pylist()
    assert {group["group_id"] for group in groups} == set(images)
    for group in groups:
        mine = images[group["group_id"]]
        assert group["plates"] == sorted({plate for plate, *_ in mine})
        assert group["wells"] == sorted({well for _, well, *_ in mine})
        assert group["n_configurations"] == len({configuration for *_, configuration in mine})
        assert group["n_images"] == len(mine)
