"""Pixels of one image: what is read, what is refused and why, resizing, statistics."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from phenoembed.pixels import check_shape, common_shape, intensity_statistics, peek_shape, read_pixels, resize
from PIL import Image
from tests.phenoembed import files
from tests.phenoembed.files import texture

from phenoembed_store.errors import ImageError


@pytest.mark.parametrize("kind", files.BAD)
def test_a_bad_file_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    """The six kinds of bad files of a plate; the reason is one line that names no file and no object."""
    make, reason = files.BAD[kind]
    path = tmp_path / "image.tif"
    make(path)
    with pytest.raises(ImageError, match=f"^{reason}") as raised:
        check_shape(read_pixels(path), (32, 32))
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (files.colour_png, r"mode RGB \(colour\?\); one channel of 8 or 16 bits is expected"),
        (files.missing, "cannot be read: No such file or directory"),
        (files.folder, "cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"II*\0" + bytes(range(200))), "a damaged TIFF file"),
        (lambda path: path.write_bytes(b"II*\0"), "a damaged TIFF file"),
        (
            lambda path: tifffile.imwrite(path, texture((2, 3, 32, 32)), photometric="minisblack"),
            r"a TIFF of shape \(2, 3, 32, 32\)",
        ),
        (
            lambda path: tifffile.imwrite(path, texture().astype(np.int16)),
            "pixels are int16; 8- or 16-bit unsigned",
        ),
        (lambda path: Image.fromarray(texture() > 30_000).save(path, format="png"), "mode 1"),
    ],
)
def test_other_files_that_are_no_images_are_refused(make: object, reason: str, tmp_path: Path) -> None:
    """Whatever a folder of plates may hold; none of it is a traceback of a library."""
    path = tmp_path / "image.tif"
    make(path)  # type: ignore[operator]
    with pytest.raises(ImageError, match=f"^{reason}"):
        read_pixels(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    """A TIFF cut at any place is never taken for an image, strips and compression or not."""
    for number, options in enumerate(({}, {"rowsperstrip": 4}, {"compression": "zlib"})):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, texture(), **options)
        data = path.read_bytes()
        with tifffile.TiffFile(path) as file:
            last = file.pages[0]
            end = max(o + c for o, c in zip(last.dataoffsets, last.databytecounts, strict=True))
        for cut in range(0, end, 97):
            with pytest.raises(ImageError):
                read_pixels(data[:cut])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_8_and_16_bits_come_back_as_they_were(dtype: type, suffix: str, tmp_path: Path) -> None:
    """TIFF and PNG of both depths, not square."""
    path, pixels = tmp_path / f"image.{suffix}", texture((20, 30), dtype=dtype)
    if suffix == "tif":
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    found = read_pixels(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    "options",
    [{"byteorder": ">"}, {"bigtiff": True}, {"compression": "lzw"}, {"tile": (16, 16)}, {"photometric": "miniswhite"}],
)
def test_dialects_of_tiff_are_read(options: dict[str, object], tmp_path: Path) -> None:
    """Byte orders, compressions, tiles; values are those stored, in the machine's own byte order."""
    path, pixels = tmp_path / "image.tif", texture((32, 48))
    tifffile.imwrite(path, pixels, **options)
    found = read_pixels(path)
    assert found.dtype == np.uint16
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, pixels)


def test_planes_of_a_stack_are_max_projected(tmp_path: Path) -> None:
    """Whether they are pages of one file or files."""
    planes = texture((3, 16, 16))
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="minisblack")
    paths = [tmp_path / f"z{z}.tif" for z in range(3)]
    for path, plane in zip(paths, planes, strict=True):
        tifffile.imwrite(path, plane)
    expected = [[max(int(p[y, x]) for p in planes) for x in range(16)] for y in range(16)]
    np.testing.assert_array_equal(read_pixels(tmp_path / "stack.tif"), expected)
    np.testing.assert_array_equal(read_pixels(paths[0], paths[1:]), expected)


def test_planes_that_differ_in_shape_are_refused(tmp_path: Path) -> None:
    """The reason says how."""
    tifffile.imwrite(tmp_path / "a.tif", texture((16, 16)))
    tifffile.imwrite(tmp_path / "b.tif", texture((16, 18)))
    with pytest.raises(ImageError, match="planes of one z-stack differ: 16x16 uint16 and 16x18 uint16"):
        read_pixels(tmp_path / "a.tif", [tmp_path / "b.tif"])


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 65535)))
def test_statistics_equal_those_of_scipy(pixels: np.ndarray) -> None:
    """Eight statistics, exact; percentiles are values that occur (numpy's inverted_cdf)."""
    if pixels.min() == pixels.max():
        pixels = pixels.copy()
        pixels.flat[0] ^= 1
        if pixels.size == 1:
            return
    values = pixels.ravel().astype(float)
    expected = [
        values.mean(),
        values.std(),
        scipy.stats.skew(values),
        scipy.stats.kurtosis(values, fisher=False),
        *np.percentile(values, [1, 25, 75, 99], method="inverted_cdf"),
    ]
    assert list(intensity_statistics(pixels).values()) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((12, 12), 4), ((12, 21), 4), ((30, 15), 5)])
def test_resizing_averages_areas(shape: tuple[int, int], size: int) -> None:
    """At whole ratios every pixel is the rounded mean of a block, by a plain loop; the shorter side is ``size``."""
    pixels = texture(shape)
    step = min(shape) // size
    expected = np.empty((shape[0] // step, shape[1] // step))
    for y, x in np.ndindex(expected.shape):
        block = [int(pixels[y * step + j, x * step + i]) for j in range(step) for i in range(step)]
        expected[y, x] = sum(block) / len(block)
    found = resize(pixels, size)
    assert found.dtype == pixels.dtype
    assert np.abs(found - expected).max() <= 0.51


def test_resizing_at_a_broken_ratio_keeps_the_mean() -> None:
    """No ratio darkens an image, and the shape is the nearest one."""
    pixels = texture((108, 135), dtype=np.uint8)
    found = resize(pixels, 64)
    assert found.shape == (64, 80)
    assert found.mean() == pytest.approx(pixels.mean(), abs=2)


@pytest.mark.parametrize("size", [None, 20, 21, 1000])
def test_images_are_never_enlarged(size: int | None) -> None:
    """A size at or above the native one leaves the image as it is."""
    pixels = texture((20, 30))
    assert resize(pixels, size) is pixels


def test_the_shape_of_most_images_is_found_from_headers(tmp_path: Path) -> None:
    """Bad files and a few other shapes do not matter; where nothing can be read there is none."""
    for number in range(9):
        tifffile.imwrite(tmp_path / f"{number}.tif", texture((16, 24) if number % 3 else (8, 8)))
    files.text(tmp_path / "9.tif")
    paths = sorted(tmp_path.iterdir())
    assert common_shape(paths) == (16, 24)
    assert common_shape([tmp_path / "9.tif"]) is None
    Image.fromarray(texture((5, 7), dtype=np.uint8)).save(tmp_path / "a.png")
    assert peek_shape(tmp_path / "a.png") == (5, 7)
