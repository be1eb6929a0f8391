"""A file that is written beside and renamed is there whole, or as it was."""

from pathlib import Path

import pytest

from phenoembed_store.whole import whole


def test_what_was_there_stays_until_the_whole_is_written(tmp_path: Path) -> None:
    """Whatever is raised, nothing is left beside it; a long name is no obstacle, a suffix is kept."""
    target = tmp_path / f"{'x' * 250}.npz"
    with whole(target) as beside:
        assert beside.suffix == ".npz"
        assert not target.exists()
        beside.write_text("first")
    assert target.read_text() == "first"

    def interrupted() -> None:
        with whole(target) as beside:
            beside.write_text("half")
            assert target.read_text() == "first"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "first"
