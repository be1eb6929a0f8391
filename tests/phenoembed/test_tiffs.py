"""TIFF files: libtiff reads the ordinary ones, and nobody can tell from the pixels which of the two libraries did."""

import io
import itertools
import random
from typing import Any

import numpy as np
import pytest
import tifffile
from phenoembed.tiffs import decode_tiff, is_ordinary
from tests.phenoembed.files import texture

from phenoembed import tiffs
from phenoembed_store.errors import ImageError

ORDINARY: list[dict[str, Any]] = [
    {},
    {"byteorder": ">"},
    {"compression": "lzw"},
    {"compression": "lzw", "predictor": 2, "byteorder": ">"},
    {"rowsperstrip": 5},
    {"rowsperstrip": 5, "compression": "lzw"},
    {"photometric": "miniswhite"},
    {"description": "well B07, field 3", "software": "a microscope's", "resolution": (1, 2), "metadata": None},
]
OTHERS: list[dict[str, Any]] = [
    {"bigtiff": True},
    {"compression": "zlib"},
    {"compression": "zstd"},
    {"tile": (16, 16)},
    {"imagej": True},
    {"ome": True},
    {"photometric": "palette", "colormap": np.zeros((3, 2**16), np.uint16)},
]


def written(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", **options})
    return file.getvalue()


def as_tifffile_reads(data: bytes, monkeypatch: pytest.MonkeyPatch) -> np.ndarray | str:
    with monkeypatch.context() as patch:
        patch.setattr(tiffs, "is_ordinary", lambda _: False)
        return decoded(data)


def decoded(data: bytes) -> np.ndarray | str:
    """The pixels, or the reason why there are none."""
    try:
        return decode_tiff(data)
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(32, 48), (17, 33), (200, 12)])
def test_ordinary_files_are_read_as_tifffile_reads_them(dtype: type, shape: tuple[int, int]) -> None:
    """Every depth, byte order, compression and layout; pixels in the machine's own byte order."""
    pixels = texture(shape, dtype=np.uint16).astype(dtype)
    for options in ORDINARY:
        if dtype == np.float32 and "predictor" in options:
            options = {**options, "predictor": 3}
        data = written(pixels, **options)
        assert is_ordinary(data), options
        found = decode_tiff(data)
        assert found.dtype == dtype
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_other_files_are_left_to_tifffile(options: dict[str, Any]) -> None:
    """Whatever carries a checksum, or may hold more than the one page."""
    dtype = np.uint16 if "colormap" in options else np.uint8
    pixels = texture((32, 48), dtype=dtype)
    data = written(pixels, **options)
    assert not is_ordinary(data)
    np.testing.assert_array_equal(decode_tiff(data), pixels)


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"ome": True}, {"metadata": None}, {"compression": "lzw"}])
def test_planes_without_a_page_of_their_own_are_found(options: dict[str, Any]) -> None:
    """A stack is a stack, however its planes are kept; of RGB nothing is read."""
    planes = texture((3, 20, 30))
    assert not is_ordinary(written(planes, **options))
    np.testing.assert_array_equal(decode_tiff(written(planes, **options)), planes)
    one_page = written(planes[0], software="SI.5", metadata=None) + planes[1:].tobytes()
    assert not is_ordinary(one_page)
    assert not is_ordinary(written(texture((32, 32, 3), dtype=np.uint8), photometric="rgb"))


def test_a_mangled_file_is_refused_with_the_reason_that_tifffile_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the header or the pixels changed, the end cut off: the same pixels, or the same words."""
    draw = random.Random(0)
    kinds = itertools.product([np.uint8, np.uint16, np.float32], ORDINARY[:-1])
    files = [
        written(texture((24, 20)).astype(dtype), **options)
        for dtype, options in kinds
        if not (dtype == np.float32 and "predictor" in options)
    ]
    n_ordinary = 0
    for _ in range(1_500):
        data = bytearray(draw.choice(files))
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(4, draw.choice((330, len(data))))] = draw.choice((0, 1, 2, 255, draw.randrange(256)))
        if draw.random() < 0.1:
            data = data[: draw.randrange(8, len(data))]
        if not is_ordinary(bytes(data)):
            continue
        n_ordinary += 1
        found, expected = decoded(bytes(data)), as_tifffile_reads(bytes(data), monkeypatch)
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected
        else:
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert n_ordinary > 300
