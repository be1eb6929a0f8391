"""The groups table: what it says of each group is what the group's images say."""

import shutil
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.store.fakes import fake_rows

import phenoembed_store
from phenoembed_store import Store
from phenoembed_store.groups import stored_groups


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


def rows_of(plates: tuple[str, ...]) -> pa.Table:
    rows = fake_rows(replicates=6, times=(24.0, 48.0))
    return rows.filter(pc.is_in(rows.column("plate"), pa.array(plates)))


def groups_files(store: Store) -> set[str]:
    return set(store._contents.groups.at().files)


def made_at_once(store: Store, folder: Path, encoder: str | None = None) -> pa.Table:
    """The groups of the same images, by a store that never made any before."""
    shutil.copytree(store.path, folder)
    shutil.rmtree(folder / "groups")
    return phenoembed_store.open(folder).groups(encoder)


def test_groups_of_new_replicates_are_appended_and_the_answers_are_the_same(tmp_path: Path) -> None:
    """A plate at a time, several encoders, both orders of names; what was written of earlier groups stays."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    for number, plate in enumerate(("P3", "P1", "P5", "P2")):
        before = groups_files(store)
        store.write_images(rows_of((plate,)))
        store.write_images(fake_rows(replicates=number + 1, encoder="other"))
        store.refresh("enc0")
        assert before < groups_files(store)
        assert stored_groups(store._contents.groups, store._images_of("enc0")) is not None
        assert store.groups("enc0").equals(made_at_once(store, tmp_path / plate, "enc0"))
    assert not store.verify()


@pytest.mark.parametrize("change", ["wells", "metadata", "fewer", "compact", "gone"])
def test_groups_that_change_are_made_anew(tmp_path: Path, change: str) -> None:
    """More wells of a replicate that is there, other doses, images deleted, files rewritten, that version gone."""
    store = phenoembed_store.open(tmp_path / "s", create=True)
    rows = rows_of(("P1", "P2"))
    late = pc.and_(pc.equal(rows.column("plate"), "P2"), pc.greater(rows.column("well"), "A09"))
    store.write_images(rows.filter(pc.invert(late)))
    store.refresh()
    store.write_images(rows.filter(late) if change == "wells" else rows_of(("P4",)))
    if change == "metadata":
        i = rows.column_names.index("concentration_um")
        store.write_images(rows.set_column(i, "concentration_um", pc.add(rows.column(i), 1.0)))
    elif change == "fewer":
        store.delete_images("plate = 'P1' AND field = 2")
    elif change in ("compact", "gone"):
        store.compact(keep_days=0)
    if change == "gone":
        (tmp_path / "s" / "images" / "_delta_log" / f"{0:020d}.json").unlink()
    store.refresh()
    assert store.groups().equals(made_at_once(store, tmp_path / "again"))
    assert stored_groups(store._contents.groups, store._images_of(None)) is not None


def test_a_kill_while_damaged_groups_are_removed_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of their files were gone by then: readers make the groups from the images, and so does a writer."""
    whole = phenoembed_store.open(tmp_path / "whole", create=True)
    for plate in ("P1", "P2"):
        whole.write_images(rows_of((plate,)))
        whole.refresh()
    expected = whole.groups()
    last = sorted((whole.path / "groups" / "_delta_log").glob("*.json"))[-1]
    last.write_text("{")  # damage that `refresh` finds
    remove, files = shutil.rmtree, [path for path in (whole.path / "groups").rglob("*") if path.is_file()]
    for left in range(len(files)):
        store = phenoembed_store.open(shutil.copytree(whole.path, tmp_path / "store"))

        def killed(folder: Path, *, ignore_errors: bool, left: int = left) -> None:
            for path in [path for path in folder.rglob("*") if path.is_file()][left:]:
                path.unlink()
            raise KeyboardInterrupt

        monkeypatch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.refresh()
        monkeypatch.setattr(shutil, "rmtree", remove)
        assert phenoembed_store.open(store.path).groups().equals(expected)
        phenoembed_store.open(store.path).refresh()
        assert phenoembed_store.open(store.path).groups().equals(expected)
        assert not store.verify()
        remove(store.path)
