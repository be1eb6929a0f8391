"""Pixels of one image: read from TIFF, PNG and their like, judged, resized, described by eight statistics."""

import io
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from phenoembed.planes import array_shape_of, plane_of, read_array_plane
from phenoembed.tiffs import TIFF_MAGIC, decode_page, decode_tiff, first_line
from phenoembed_store import remote
from phenoembed_store.errors import ImageError
from phenoembed_store.schema import INTENSITY_STATISTICS

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Raw = Pixels | NDArray[np.float32]


def read_pixels(source: Path | bytes, z_sources: Sequence[Path] = (), z: str = "max") -> Raw:
    """One image as (height, width) uint8, uint16 or float32; several planes are brought together as ``z`` says.

    ``z``: "max", "mean" (integers are rounded), or the number of a page, from 1, of a file that has several. Raises
    ImageError with the reason: no file, empty, not an image, truncated, not one channel of 8 or 16 bits or of floats,
    not finite, blank.
    """
    planes = [_read_plane(one, z) for one in (source, *z_sources)]
    for other in planes[1:]:
        if other.shape != planes[0].shape or other.dtype != planes[0].dtype:
            raise ImageError(f"planes of one z-stack differ: {describe(planes[0])} and {describe(other)}")
    pixels = planes[0] if len(planes) == 1 else _project(planes, z)
    if pixels.dtype == np.float32 and (bad := int(np.sum(~np.isfinite(pixels)))):
        raise ImageError(f"{bad:,} of {pixels.size:,} pixels are NaN or infinite")
    if pixels.min() == pixels.max():
        raise ImageError(f"blank: every pixel is {pixels.flat[0]}")
    return pixels


def _read_plane(source: Path | bytes, z: str) -> Raw:
    plane = None if isinstance(source, bytes) else plane_of(source)
    if plane is not None:
        pixels = read_array_plane(plane) if plane.page is None else decode_page(plane)
    else:
        data = source if isinstance(source, bytes) else read_bytes(source)
        if not data:
            raise ImageError("the file is empty (0 bytes)")
        pixels = decode_tiff(data) if data[:4] in TIFF_MAGIC else _decode_other(data)
        if pixels.ndim == 3:
            pixels = _project(pixels, z)  # pages are planes of a z-stack
    if pixels.dtype in (np.float16, np.float64):
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            pixels = pixels.astype(np.float32)
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise ImageError(f"pixels are {pixels.dtype}; 8- or 16-bit unsigned integers, or floats, are expected")
    return pixels


def _project(planes: Sequence[Raw] | NDArray[Any], z: str) -> Raw:
    """(planes, height, width) -> (height, width)."""
    if z == "max":
        return reduce(np.maximum, planes)
    if z == "mean":
        mean = reduce(np.add, (plane.astype(np.float64) for plane in planes)) / len(planes)
        kind: np.dtype[Any] = planes[0].dtype
        projected: Raw = (mean if kind.kind == "f" else mean.round()).astype(kind)
        return projected
    if not 1 <= int(z) <= len(planes):
        raise ImageError(f"no plane {z}: there are {len(planes)}, counted from 1")
    one: Raw = planes[int(z) - 1]
    return one


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises ImageError with the reason."""
    try:
        return remote.read_bytes(path)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _decode_other(data: bytes) -> Raw:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.mode not in ("L", "I;16", "I;16B", "I", "F"):
                raise ImageError(f"mode {image.mode} (colour?); one channel of 8 or 16 bits is expected")
            pixels = np.asarray(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow too
        raise ImageError(f"not an image that can be read: {first_line(error)}") from error
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() <= 65535:
        pixels = pixels.astype(np.uint16)  # Pillow's mode I holds 16-bit PNG
    return pixels


def describe(pixels: Raw) -> str:
    """Shape and type, as a person says them."""
    return f"{pixels.shape[0]}x{pixels.shape[1]} {pixels.dtype}"


def peek_shape(path: Path) -> tuple[int, int] | None:
    """(height, width) from a file's header; None where it cannot be told."""
    try:
        plane = plane_of(path)
        if plane is not None and plane.page is None:
            height, width = array_shape_of(plane.file)[-2:]
            return height, width
        if plane is not None:
            with remote.open_file(plane.file) as opened, tifffile.TiffFile(opened) as file:
                height, width = file.pages[plane.page or 0].shape[:2]
                return int(height), int(width)
        if path.suffix.lower() in (".tif", ".tiff"):
            with remote.open_file(path) as opened, tifffile.TiffFile(opened) as file:
                height, width = file.pages[0].shape[:2]
                return int(height), int(width)
        with remote.open_file(path) as opened, Image.open(opened) as image:
            return image.height, image.width
    except Exception:  # whatever is wrong with it is said when it is read
        return None


def count_pages(path: Path) -> int:
    """How many pages an image's file has; 1 for a plane of a file, and where it cannot be told."""
    try:
        with tifffile.TiffFile(path) as file:
            return len(file.pages)
    except Exception:  # whatever is wrong with it is said when it is read
        return 1


def common_shape(paths: Sequence[Path], sample: int = 64) -> tuple[int, int] | None:
    """The shape most images have, from headers of a sample spread evenly over ``paths``; None when none can be read."""
    step = max(1, len(paths) // sample)
    shapes = [shape for path in paths[::step] if (shape := peek_shape(path)) is not None]
    return max(sorted(set(shapes)), key=shapes.count) if shapes else None


def check_shape(pixels: Raw, expected: tuple[int, int]) -> None:
    """Raise ImageError when an image is not of its screen's shape."""
    if pixels.shape != expected:
        raise ImageError(
            f"{pixels.shape[0]}x{pixels.shape[1]} pixels; the images of this screen are {expected[0]}x{expected[1]}"
        )


def target_shape(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Shape after ``resize``: the shorter side becomes ``size``; images are never enlarged."""
    shorter = min(shape)
    if size is None or size >= shorter:
        return shape
    return max(1, round(shape[0] * size / shorter)), max(1, round(shape[1] * size / shorter))


def resize(pixels: Pixels, size: int | None) -> Pixels:
    """Shrink by area averaging so that the shorter side is ``size`` pixels; the type stays."""
    height, width = target_shape((pixels.shape[0], pixels.shape[1]), size)
    if (height, width) == pixels.shape:
        return pixels
    image = Image.fromarray(pixels.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    resized: Pixels = np.asarray(image).round().astype(pixels.dtype)  # type: ignore[assignment]
    return resized


def intensity_statistics(pixels: Raw) -> dict[str, float]:
    """Eight statistics of the raw pixels, named as in ``INTENSITY_STATISTICS``: exact, from the histogram."""
    if pixels.dtype == np.float32:
        values, counts = np.unique(pixels.astype(np.float64), return_counts=True)
    else:
        every = np.bincount(pixels.ravel())
        found = np.flatnonzero(every > 0)  # of booleans: three times as fast
        values, counts = found.astype(np.float64), every[found]
    share = counts / pixels.size
    mean = (share * values).sum()  # no @ here: above 10,000 values BLAS would take every core from the network
    centred = values - mean
    sd = np.sqrt((share * centred**2).sum())
    standard = centred / sd if sd else centred
    third = share * standard * standard * standard  # numpy's ** takes fifty times as long above 2
    percentiles = values[np.searchsorted(np.cumsum(share), np.array([0.01, 0.25, 0.75, 0.99]) - 1e-12)]
    figures = (mean, sd, third.sum(), (third * standard).sum(), *percentiles)
    return dict(zip(INTENSITY_STATISTICS, map(float, figures), strict=True))
