"""The cache of a screen's pixels."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from phenoembed.cache import Source, open_cache
from tests.phenoembed import files
from tests.phenoembed.files import texture

from phenoembed import cache as module
from phenoembed_store.errors import TrainingError


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Ten images of 16 bits, 36 x 48; the fourth is text, the sixth black, the eighth of 8 bits."""
    paths = [tmp_path / f"{number}.tif" for number in range(10)]
    for number, path in enumerate(paths):
        tifffile.imwrite(path, texture((36, 48), seed=number))
    files.text(paths[3])
    tifffile.imwrite(paths[5], np.zeros((36, 48), np.uint16))
    tifffile.imwrite(paths[7], texture((36, 48), dtype=np.uint8))
    return [(path,) for path in paths]


BAD = {3: "not an image", 5: "blank", 7: "pixels are uint8; the images of this screen are uint16"}


def test_pixels_are_memory_mapped_and_resized(sources: list[Source], tmp_path: Path) -> None:
    """Row i is image i at the size asked for, in the files' own depth; rows without an image are named."""
    found = open_cache(tmp_path / "cache", sources, 12)
    assert isinstance(found.pixels, np.memmap)
    assert (found.pixels.shape, found.pixels.dtype) == ((10, 12, 16), np.uint16)
    assert (found.native_shape, found.scale) == ((36, 48), 1 / 65535)
    for row, (path,) in enumerate(sources):
        if row not in BAD:
            blocks = tifffile.imread(path).reshape(12, 3, 16, 3).astype(float).mean((1, 3))
            assert np.abs(found.pixels[row] - blocks).max() <= 0.51
    assert list(found.rejected) == list(BAD)
    assert all(found.rejected[row].startswith(reason) for row, reason in BAD.items())


def test_images_are_read_once(sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened again, nothing is read; the answer is the same."""
    first = open_cache(tmp_path / "cache", sources, 12)
    read = []
    monkeypatch.setattr(module.Preparer, "read", lambda *source: read.append(source))
    again = open_cache(tmp_path / "cache", sources, 12)
    assert read == []
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert again.rejected == first.rejected


def test_old_caches_are_removed(sources: list[Source], tmp_path: Path) -> None:
    """The last two are kept; one that somebody may be filling is left alone."""
    folder = tmp_path / "cache"
    for size in (8, 10, 12):
        open_cache(folder, sources, size)
    assert len(list(folder.iterdir())) == 3, "all were used within the hour"
    oldest, older, _ = sorted(folder.glob("*/state.json"), key=lambda path: path.stat().st_mtime_ns)
    for age, path in enumerate((older, oldest), start=1):
        os.utime(path, (time.time() - 7200 * age,) * 2)
    found = open_cache(folder, sources, 12)
    assert {path.name for path in folder.iterdir()} == {older.parent.name, Path(found.pixels.filename).parent.name}
    np.testing.assert_array_equal(open_cache(folder, sources, 8).pixels.shape, (10, 8, 11))


def test_an_interrupted_reading_goes_on(sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before Ctrl-C is not read again, and the cache is the one of an undisturbed reading."""
    undisturbed = open_cache(tmp_path / "other", sources, None, threads=1)
    monkeypatch.setattr(module, "CHUNK", 3)

    def interrupt(done: int, _total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(tmp_path / "cache", sources, None, progress=interrupt)
    told: list[int] = []
    found = open_cache(tmp_path / "cache", sources, None, progress=lambda done, _: told.append(done))
    assert told == [9, 10]
    np.testing.assert_array_equal(found.pixels, undisturbed.pixels)
    assert found.rejected == undisturbed.rejected


def test_a_file_that_changed_is_read_again(sources: list[Source], tmp_path: Path) -> None:
    """The cache is of these files as they are, not of their names."""
    before = open_cache(tmp_path / "cache", sources, None).pixels[0].copy()
    tifffile.imwrite(sources[0][0], texture((36, 48), seed=99))
    after = open_cache(tmp_path / "cache", sources, None).pixels[0]
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, tifffile.imread(sources[0][0]))


def test_mean_and_sd_are_those_of_the_rows_asked_for(sources: list[Source], tmp_path: Path) -> None:
    """Over all pixels of these images, scaled to 0..1."""
    found = open_cache(tmp_path / "cache", sources, None)
    pixels = np.stack([tifffile.imread(sources[row][0]) for row in (9, 0, 4)]) / 65535
    assert found.mean_and_sd([9, 0, 4]) == pytest.approx((pixels.mean(), pixels.std()))


def test_stacks_are_projected(tmp_path: Path) -> None:
    """A source of several files is one image."""
    paths = tuple(tmp_path / f"z{z}.tif" for z in range(3))
    for z, path in enumerate(paths):
        tifffile.imwrite(path, texture(seed=z))
    found = open_cache(tmp_path / "cache", [paths], None)
    np.testing.assert_array_equal(found.pixels[0], np.max([tifffile.imread(path) for path in paths], axis=0))


@pytest.mark.parametrize("make", [files.text, files.black, files.missing])
def test_a_screen_of_bad_images_only_is_an_error_line(make: object, tmp_path: Path) -> None:
    """It names the first file."""
    paths = [tmp_path / f"{number}.tif" for number in range(3)]
    for path in paths:
        make(path)  # type: ignore[operator]
    with pytest.raises(TrainingError, match=r"none of the 3 images can be .*0\.tif"):
        open_cache(tmp_path / "cache", [(path,) for path in paths], None)
