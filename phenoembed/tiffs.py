"""Pixels of TIFF files: the ordinary grey image is decoded by libtiff, everything else by tifffile.

tifffile knows the dialects of microscopes, and does so in Python, where the threads that read wait for each other; of
an image of 128 x 128 libtiff takes a tenth of the time, and lets the other threads run.
"""

import io
import logging
import struct
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from phenoembed.planes import Plane
from phenoembed_store import remote
from phenoembed_store.errors import ImageError

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs about a bad file comes back as our reason

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _DESCRIPTION = 256, 257, 258, 259, 262, 266, 270
_STARTS, _SAMPLES, _SIZES, _PREDICTOR, _FORMAT = 273, 277, 279, 317, 339  # of strips: where they begin, their bytes
_LAYOUT = frozenset((256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 339))
_NOTES = frozenset((254, 269, 270, 271, 272, 280, 281, 282, 283, 285, 286, 287, 296, 297, 305, 306, 315, 316, 33432,
                    *range(65325, 65334)))  # fmt: skip
"""Fields that say nothing of further planes: TIFF 6.0's for grey images, and those of Nikon's microscopes."""
_FURTHER_PLANES = (b"OME", b"ImageJ", b"shape")  # in descriptions of files whose planes need no page of their own
_PIXEL_BYTES = {(8, 1): 1, (16, 1): 2, (32, 3): 4}  # by bits and sample format
_UNCOMPRESSED, _LZW = 1, 5  # other compressions carry checksums, which tifffile looks at and libtiff does not
_LZW_MOST = 4096  # bytes of one code, which are a byte or more in the file
_DEFAULTS: dict[int, tuple[Any, ...]] = {
    **dict.fromkeys((_COMPRESSION, _FILL_ORDER, _SAMPLES, _PREDICTOR, _FORMAT), (1,)),
    _PHOTOMETRIC: (),  # has none
    _DESCRIPTION: (b"",),
}
_TEXT, _NUMBERS = 2, {3: "H", 4: "I"}  # types of fields


def decode_tiff(data: bytes) -> np.ndarray[Any, Any]:
    """(height, width), or (planes, height, width) of a file of several. Raises ImageError with the reason."""
    if is_ordinary(data):
        try:
            found: np.ndarray[Any, Any] = imagecodecs.tiff_decode(data)
            return found
        except Exception:  # tifffile has a word for it
            pass
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            if page.samplesperpixel != 1:  # type: ignore[union-attr]
                raise ImageError(f"{page.samplesperpixel} samples a pixel (RGB?); one channel is expected")  # type: ignore[union-attr]
            for page in file.pages:
                _check_whole(page, len(data))
            found = file.asarray()
    except ImageError:
        raise
    except Exception as error:  # tifffile raises whatever a mangled file provokes
        raise ImageError(f"a damaged TIFF file: {first_line(error)}") from error
    if found.ndim not in (2, 3):
        raise ImageError(f"a TIFF of shape {found.shape}; (height, width) or (planes, height, width) is expected")
    return found


def decode_page(plane: Plane) -> np.ndarray[Any, Any]:
    """(height, width) of one page of a TIFF file, of which nothing else is read. Raises ImageError with the reason."""
    try:
        with remote.open_file(plane.file) as opened, tifffile.TiffFile(opened) as file:
            page = file.pages[plane.page or 0]
            _check_whole(page, file.filehandle.size)
            pixels: np.ndarray[Any, Any] = page.asarray()
    except ImageError:
        raise
    except IndexError as error:
        raise ImageError(f"the file has no page {plane.page}") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    except Exception as error:  # tifffile raises whatever a mangled file provokes
        raise ImageError(f"a damaged TIFF file: {first_line(error)}") from error
    if pixels.ndim != 2:
        raise ImageError(f"a page of shape {pixels.shape}; (height, width) is expected")
    return pixels


def is_ordinary(data: bytes) -> bool:
    """Whether a file is one grey page and nothing else, all there, which libtiff and tifffile read alike."""
    try:
        fields = _only_page(data)
        (width,), (height,), (bits,), (kind,) = (fields[tag] for tag in (_WIDTH, _HEIGHT, _BITS, _FORMAT))
        size = width * height * _PIXEL_BYTES[bits, kind]
        starts, sizes = fields[_STARTS], fields[_SIZES]
    except (struct.error, KeyError, ValueError):
        return False
    if fields[_COMPRESSION] == (_UNCOMPRESSED,):  # what lies behind the page could be planes, too
        fits = sum(sizes) >= size > len(data) - size and fields[_PREDICTOR] == (1,)
    else:
        fits = fields[_COMPRESSION] == (_LZW,) and fields[_PREDICTOR] in ((1,), (2,), (3,))
        fits = fits and size <= _LZW_MOST * sum(sizes)
    there = len(starts) == len(sizes) and 0 not in (*starts, *sizes)
    grey = fields[_SAMPLES] == (1,) == fields[_FILL_ORDER] and fields[_PHOTOMETRIC] in ((0,), (1,))
    ends = max(map(int.__add__, starts, sizes), default=0)
    return fits and there and grey and ends <= len(data) and _is_alone(fields[_DESCRIPTION][0], height, width)


def _only_page(data: bytes) -> dict[int, tuple[Any, ...]]:
    """The fields of a file of one page. Raises struct.error or ValueError where it is no ordinary one."""
    order = "<" if data[:2] == b"II" else ">"
    version, at = struct.unpack_from(f"{order}HI", data, 2)
    (n,) = struct.unpack_from(f"{order}H", data, at)
    (next_page,) = struct.unpack_from(f"{order}I", data, at + 2 + 12 * n)
    if version != 42 or next_page:
        raise ValueError(f"TIFF {version}, the next page at {next_page}")
    fields, before = dict(_DEFAULTS), 0
    for place in range(at + 2, at + 2 + 12 * n, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        if tag <= before:
            raise ValueError(f"field {tag} after {before}")
        before = tag
        if tag in _NOTES and tag != _DESCRIPTION:
            continue
        if not (kind in _NUMBERS if tag in _LAYOUT else (tag, kind) == (_DESCRIPTION, _TEXT)):
            raise ValueError(f"field {tag} of type {kind}")
        layout = f"{order}{count}{_NUMBERS.get(kind, 's')}"
        inline = struct.calcsize(layout) <= 4
        where = place + 8 if inline else struct.unpack_from(f"{order}I", data, place + 8)[0]
        fields[tag] = struct.unpack_from(layout, data, where)
    return fields


def _is_alone(description: bytes, height: int, width: int) -> bool:
    """Whether a description does not speak of planes that have no page of their own."""
    own = b'{"shape": [%d, %d]}' % (height, width)  # as tifffile writes it
    return description.rstrip(b"\0") == own or not any(word in description for word in _FURTHER_PLANES)


def _check_whole(page: Any, n_bytes: int) -> None:
    """tifffile fills segments that are missing with zeros; a screen wants to know instead."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > n_bytes or 0 in page.databytecounts:
        raise ImageError(f"truncated: {max(ends, default=0):,} bytes of pixels are announced, the file has {n_bytes:,}")


def first_line(error: Exception) -> str:
    """What a library says, without its objects' addresses."""
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return first.replace("<_io.BytesIO object at ", "<").split("<", maxsplit=1)[0].strip() or type(error).__name__
