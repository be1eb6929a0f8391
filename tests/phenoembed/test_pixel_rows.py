"""Images of a cache larger than memory."""

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import open_memmap
from phenoembed.batches import GroupBatches
from phenoembed.groups import Groups
from phenoembed.pixel_rows import let_go, read_rows

LOPAC = (138_240, 1000, 1000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rows_are_those_of_the_array(dtype: type, tmp_path: Path) -> None:
    """Read from the file, of the whole mapping or a part of it, or of an array in memory: the same, and a copy."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 5, 7)).astype(dtype)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = open_memmap(tmp_path / "pixels.npy", mode="r")
    rows = np.array([8, 0, 3, 3])
    for source in (pixels, mapped, mapped[:, ::2], mapped[2:], mapped[::-1]):
        few = rows % len(source)
        np.testing.assert_array_equal(read_rows(source, few), np.asarray(source)[few])
        assert read_rows(source, few).flags.writeable
    assert read_rows(mapped, np.array([], int)).shape == (0, 5, 7)


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    """Not an image of zeros."""
    np.save(tmp_path / "pixels.npy", np.ones((4, 5, 7), np.uint8))
    mapped = open_memmap(tmp_path / "pixels.npy", mode="r")
    with (tmp_path / "pixels.npy").open("r+b") as file:
        file.truncate(128 + 120)
    with pytest.raises(OSError, match="ends at byte 248, before image 3"):
        read_rows(mapped, np.array([0, 3]))


def test_what_was_written_stays_when_it_is_let_go(tmp_path: Path) -> None:
    """In the mapping and in the file."""
    mapped = open_memmap(tmp_path / "pixels.npy", mode="w+", dtype=np.uint8, shape=(3, 64, 64))
    mapped[:] = 7
    let_go(mapped)
    mapped[1] += 1
    assert mapped.mean((1, 2)).tolist() == [7, 8, 7]
    assert np.load(tmp_path / "pixels.npy").mean((1, 2)).tolist() == [7, 8, 7]


def test_a_screen_of_138_gb_is_read_within_little_memory(tmp_path: Path) -> None:
    """A sparse file as large as LOPAC's cache, read in random groups: what counts as this process's memory, anonymous
    or file-backed, grows by no more than the batch that is read and the one before it."""
    mapped = open_memmap(tmp_path / "pixels.npy", mode="w+", dtype=np.uint8, shape=LOPAC)
    mapped[::20_000, 500, 500] = 1
    rows = tuple(np.arange(6) + start for start in range(0, LOPAC[0], 6))
    groups = Groups(None, rows, tuple(np.arange(6) for _ in rows))  # type: ignore[arg-type]
    batches = GroupBatches(mapped, groups, np.arange(len(rows)), np.zeros(len(rows), np.int64), 4, 0)
    before, most, shown = resident(), 0, 0
    for batch in batches:
        most = max(most, resident() - before)
        shown += batch.pixels.nbytes
        if shown > 5e8:
            break
    assert most < 4 * batch.pixels.nbytes  # 24 MB each, of 500 MB that were read
    assert read_rows(mapped, np.array([19_999, 20_000])).sum((1, 2)).tolist() == [0, 1]


def resident() -> int:
    """Anonymous and file-backed memory of this process, bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(line[1]) * 1024 for line in lines if line[0] in ("RssAnon:", "RssFile:"))
