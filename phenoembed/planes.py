"""One plane of a file that holds several, named by its path.

``plate.ome.tif#page=12`` is the thirteenth page of a TIFF file; ``B/03/0/0#index=0,1,2`` is the plane at these indices
of a Zarr array's leading axes. A path stays one string, in a manifest, the store, and hits. A file that is really
named so is that file.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from phenoembed_store import remote
from phenoembed_store.errors import ImageError, MissingExtra

_PLANE = re.compile(r"(?P<file>.+)#(?:page=(?P<page>\d{1,9})|index=(?P<index>\d{1,9}(?:,\d{1,9})*)?)", re.DOTALL)

Source = tuple[Path, ...]  # what makes up one image: a file or plane, or those of a z-stack


class Plane(NamedTuple):
    """A page of a TIFF file, or the indices of a Zarr array's leading axes."""

    file: Path
    page: int | None
    at: tuple[int, ...]


def plane_of(path: Path) -> Plane | None:
    """The plane that a path names; None where it is a file's."""
    match = _PLANE.fullmatch(str(path))
    if match is None or os.path.exists(path):
        return None
    index = tuple(int(each) for each in match["index"].split(",")) if match["index"] else ()
    return Plane(Path(match["file"]), int(match["page"]) if match["page"] is not None else None, index)


def file_of(path: str) -> str:
    """The file of a path, without the plane."""
    match = _PLANE.fullmatch(path)
    return match["file"] if match else path


def page_name(file: str, page: int) -> str:
    """The path of a page of a TIFF file."""
    return f"{file}#page={page}"


def index_name(array: str, index: Sequence[int]) -> str:
    """The path of a plane of a Zarr array."""
    return f"{array}#index={','.join(map(str, index))}"


def size_and_time(source: Source) -> tuple[int, int]:
    """Bytes of an image's files, and when the last was written (ns). Raises OSError.

    A page counts its whole file, which is told without opening it; a Zarr plane counts its chunks.
    """
    stats = [_size_and_time(file) for path in source for file in _files(path)]
    return sum(n_bytes for n_bytes, _ in stats), max((mtime_ns for _, mtime_ns in stats), default=0)


def _size_and_time(file: Path) -> tuple[int, int]:
    if remote.url_of(file) is not None:
        return remote.entry(file)
    stat = os.stat(file)
    return stat.st_size, stat.st_mtime_ns


def content_hash(source: Source) -> str:
    """128 bits over what an image's files hold: of a plane, over its own bytes. Raises OSError, ImageError."""
    digest = hashlib.blake2b(digest_size=16)
    for path in source:
        plane = plane_of(path)
        if plane is not None and plane.page is not None:
            _hash_page(plane.file, plane.page, digest)
            continue
        for file in _files(path):
            with remote.open_file(file) as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def hash_bytes(content: bytes) -> str:
    """``content_hash`` of an image that is one file, of which this is the content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_array_plane(plane: Plane) -> np.ndarray[Any, Any]:
    """(height, width) of a Zarr array. Raises ImageError, MissingExtra."""
    array = _array(str(plane.file))
    try:
        return np.asarray(array[tuple(_checked(plane, array.shape))])
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ImageError(f"a damaged Zarr array: {error}") from error


def array_shape_of(array: Path) -> tuple[int, ...]:
    """The shape of a Zarr array, from its metadata. Raises ImageError, MissingExtra."""
    return tuple(int(n) for n in _array(str(array)).shape)


def _files(path: Path) -> list[Path]:
    plane = plane_of(path)
    if plane is None:
        return [path]
    return [plane.file] if plane.page is not None else _chunks(plane)


def _chunks(plane: Plane) -> list[Path]:
    """The files of the chunks (or shards) in which a plane lies; chunks of the fill value only have none."""
    array = _array(str(plane.file))
    leading = _checked(plane, array.shape)
    grid = array.shards or array.chunks
    before = [index // size for index, size in zip(leading, grid, strict=False)]
    rows, columns = (range(-(-n // size)) for n, size in zip(array.shape[-2:], grid[-2:], strict=True))
    keys = (array.metadata.encode_chunk_key((*before, row, column)) for row, column in product(rows, columns))
    return [file for key in keys if (file := plane.file / key).is_file()]


def _checked(plane: Plane, shape: Sequence[int]) -> tuple[int, ...]:
    leading = tuple(shape[:-2])
    if len(shape) < 2 or len(plane.at) != len(leading) or any(i >= n for i, n in zip(plane.at, leading, strict=True)):
        raise ImageError(f"no plane at {list(plane.at)} of an array of shape {tuple(shape)}")
    return plane.at


def _array(path: str) -> Any:
    return _opened(path, _stamp(path))


@lru_cache(maxsize=512)
def _opened(path: str, _stamp: int) -> Any:
    """An array's metadata is read once, not for each of its planes."""
    try:
        import zarr
    except ImportError as error:
        raise MissingExtra("zarr", "zarr") from error
    try:
        return zarr.open_array(path, mode="r")
    except Exception as error:  # zarr raises whatever mangled metadata provokes
        raise ImageError(f"not a Zarr array that can be read: {_first_line(error)}") from error


def _stamp(path: str) -> int:
    """When an array's metadata were written (ns)."""
    for name in ("zarr.json", ".zarray"):
        try:
            return os.stat(os.path.join(path, name)).st_mtime_ns
        except OSError:
            continue
    raise ImageError("cannot be read: there is no Zarr array")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _hash_page(file: Path, number: int, digest: Any) -> None:
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages[number]
            handle = tiff.filehandle
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                handle.seek(offset)
                digest.update(handle.read(count))
    except OSError:
        raise
    except Exception as error:  # tifffile raises whatever a mangled file provokes
        raise ImageError(f"page {number} cannot be read: {_first_line(error)}") from error
