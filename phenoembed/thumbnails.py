"""Thumbnails: every image as a small 8-bit WebP, the images of a plate in one contrast, kept in the store by content.

They are derived: delete ``<store>/thumbnails/`` and they are made again, all by ``make_thumbnails`` or, where a page
asks for one that is missing, at that moment. They lie in one SQLite file, because a file each would be 138,240.
"""

import hashlib
import io
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from phenoembed.pixels import Raw, read_pixels
from phenoembed.planes import Source
from phenoembed.stacks import planes_of
from phenoembed_store import Store
from phenoembed_store.errors import ImageError
from phenoembed_store.schema import Z_STACK

SIDE = 128  # pixels: on a screen of twice the density, a strip shows them at 64
LARGEST_SHRINK = 4  # a whole field of 2,000 pixels would show cells of two; its centre shows what they look like
QUALITY = 75
BATCH = 256  # thumbnails made between two commits
BUSY_SECONDS = 20.0  # how long to wait for another process that writes
COLUMNS = ("path", "screen", "plate", "channel", "content_hash", "intensity_p01", "intensity_p99")

NO_FILE = r"^$|:\d+$"
"""A path that names no image: imported profiles have the line of their table there."""

Contrast = tuple[float, float]  # the pixel values shown black and white


class Picture(NamedTuple):
    """An image to be shown. ``content``: the hash of its files; ``z``: how the planes of a stack are projected."""

    source: Source
    content: str
    contrast: Contrast
    z: str = "max"

    @property
    def path(self) -> str:
        """Of its first plane."""
        return str(self.source[0])

    @property
    def key(self) -> bytes:
        """Names the thumbnail: another content or contrast is another one."""
        low, high = self.contrast
        text = f"{self.content or self.path}|{low:g}|{high:g}|{SIDE}|{LARGEST_SHRINK}|{QUALITY}"
        text += f"|{self.z}|{len(self.source)}" if len(self.source) > 1 else ""
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class Made:
    """What a run did, in images. ``unreadable``: path and reason."""

    made: int
    present: int
    unreadable: tuple[tuple[str, str], ...]


class Thumbnails:
    """The thumbnails of one store. Any thread may ask; a damaged file is made anew, a read-only one is only read."""

    def __init__(self, store: Path) -> None:
        self.file = store / "thumbnails" / "thumbnails.sqlite"

    def get(self, pictures: Sequence[Picture]) -> list[bytes | str]:
        """Of each picture its WebP, or the reason why there is none; what is missing is made and kept."""
        kept = self.stored({picture.key for picture in pictures})
        missing = {picture.key: picture for picture in pictures if picture.key not in kept}
        made = dict(zip(missing, _make_all(missing.values()), strict=True))
        self.keep({key: data for key, data in made.items() if isinstance(data, bytes)})
        return [kept[picture.key] if picture.key in kept else made[picture.key] for picture in pictures]

    def stored(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of the thumbnails that are there."""
        wanted, found = list(keys), dict[bytes, bytes]()
        with self._reading() as connection:
            if connection is not None:
                for start in range(0, len(wanted), BATCH):
                    some = wanted[start : start + BATCH]
                    marks = ",".join("?" * len(some))
                    found |= dict(connection.execute(f"SELECT key, webp FROM thumbnail WHERE key IN ({marks})", some))
        return found

    def keys(self) -> set[bytes]:
        """The keys of all thumbnails."""
        with self._reading() as connection:
            return set() if connection is None else {key for (key,) in connection.execute("SELECT key FROM thumbnail")}

    def keep(self, thumbnails: dict[bytes, bytes]) -> bool:
        """Add thumbnails; whether that was possible."""
        statement = "INSERT OR IGNORE INTO thumbnail VALUES (?, ?)"
        return not thumbnails or self._write(statement, list(thumbnails.items()))

    def drop(self, keys: Iterable[bytes]) -> None:
        """Remove thumbnails that nothing refers to any more."""
        self._write("DELETE FROM thumbnail WHERE key = ?", [(key,) for key in keys])

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> bool:
        for attempt in range(2):
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.file, timeout=BUSY_SECONDS)) as connection, connection:
                    connection.execute("CREATE TABLE IF NOT EXISTS thumbnail (key BLOB PRIMARY KEY, webp BLOB)")
                    connection.executemany(statement, rows)
                return True
            except sqlite3.OperationalError:
                return False  # locked for long, or the store cannot be written: thumbnails can wait
            except OSError:
                return False
            except sqlite3.DatabaseError:
                if attempt == 0:
                    self.file.unlink(missing_ok=True)  # damaged; it is derived
        return False

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self.file.is_file():
            yield None
            return
        try:
            uri = f"{self.file.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
                connection.execute("SELECT key FROM thumbnail LIMIT 1").fetchall()
                yield connection
        except sqlite3.DatabaseError:
            yield None


def make_thumbnails(store: Store, progress: Callable[[int, int], None] | None = None) -> Made:
    """Make the thumbnails that the store's images lack; drop those of images it no longer has.

    Interrupted, the same call goes on where it stopped. Memory is bounded by the images' metadata and one batch.
    """
    thumbnails, wanted = Thumbnails(store.path), dict[bytes, Picture]()
    for encoder in store.encoders():
        wanted |= {picture.key: picture for picture in pictures_of(store.known_images(encoder.id))}
    there = thumbnails.keys()
    missing = [picture for key, picture in wanted.items() if key not in there]
    unreadable: list[tuple[str, str]] = []
    for start in range(0, len(missing), BATCH):
        some = missing[start : start + BATCH]
        answers = dict(zip(some, _make_all(some), strict=True))
        unreadable += [(picture.path, reason) for picture, reason in answers.items() if isinstance(reason, str)]
        thumbnails.keep({picture.key: data for picture, data in answers.items() if isinstance(data, bytes)})
        if progress:
            progress(start + len(some), len(missing))
    if stale := there - wanted.keys():
        thumbnails.drop(stale)
    return Made(len(missing) - len(unreadable), len(wanted) - len(missing), tuple(unreadable))


def pictures_of(images: pa.Table) -> list[Picture]:
    """What is to be shown of each image (COLUMNS), in their plate's contrast; images without a file are left out."""
    contrasts = plate_contrasts(images)
    names = ("path", "content_hash", "screen", "plate", "channel", Z_STACK)
    rows = images.select([name for name in names if name in images.column_names]).to_pylist()
    return [picture_of(row, contrasts[row["screen"], row["plate"], row["channel"]]) for row in rows if has_file(row)]


def has_file(image: Mapping[str, Any]) -> bool:
    """Whether the store knows a file of this image."""
    return re.search(NO_FILE, image.get("path") or "") is None


def picture_of(image: Mapping[str, Any], contrast: Contrast) -> Picture:
    """How a stored image is shown; a z-stack as its network saw it projected."""
    source, z = planes_of(image)
    return Picture(source, image.get("content_hash") or "", contrast, z)


def plate_contrasts(images: pa.Table) -> dict[tuple[str, ...], Contrast]:
    """Black and white of each (screen, plate, channel), from the statistics that were stored at indexing.

    Black is what 2% of the plate's images have as their darkest percentile, white the same at the bright end: one
    odd image does not decide, and images of one plate can be compared by eye. (0, 0) where nothing is known.
    """
    names = ("screen", "plate", "channel")
    places = list(zip(*(images.column(name).to_pylist() for name in names), strict=True))
    number = {place: i for i, place in enumerate(dict.fromkeys(places))}
    owner = np.array([number[place] for place in places], dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(number) + 1))
    dark, bright = (images.column(name).to_numpy()[order] for name in ("intensity_p01", "intensity_p99"))
    return {
        place: _contrast(dark[starts[i] : starts[i + 1]], bright[starts[i] : starts[i + 1]])
        for place, i in number.items()
    }


def render(picture: Picture, side: int, *, whole: bool = True) -> bytes:
    """One image as a WebP of at most ``side`` pixels: the whole field, or its centre. Raises ImageError."""
    pixels = read_pixels(picture.source[0], picture.source[1:], picture.z)
    return _encode(_shrink(pixels, side, whole), picture.contrast)


def encode_pixels(pixels: Raw, side: int) -> bytes:
    """Pixels that are of no plate, as a WebP in their own contrast."""
    return _encode(_shrink(pixels, side, True), (0.0, 0.0))


def _contrast(dark: NDArray[np.floating], bright: NDArray[np.floating]) -> Contrast:
    known = np.isfinite(dark) & np.isfinite(bright)
    if not known.any():
        return (0.0, 0.0)
    low, high = float(np.percentile(dark[known], 2)), float(np.percentile(bright[known], 98))
    if high <= low:
        return (low, low + 1)
    step = 2.0 ** np.floor(np.log2((high - low) / 32))  # rounded, so that a few more images change nothing
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def _make_all(pictures: Iterable[Picture]) -> list[bytes | str]:
    wanted = list(pictures)
    if len(wanted) < 2:
        return [_make(picture) for picture in wanted]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(_make, wanted))


def _make(picture: Picture) -> bytes | str:
    try:
        return render(picture, SIDE, whole=False)
    except ImageError as error:
        return str(error)
    except (OSError, ValueError, MemoryError) as error:  # a path that cannot be one, a picture of absurd size
        return str(error) or type(error).__name__


def _shrink(pixels: Raw, side: int, whole: bool) -> Image.Image:
    """The field, or its central square where that is larger than can be shown, as a picture of floats."""
    height, width = pixels.shape
    if not whole:
        crop = min(height, width, side * LARGEST_SHRINK)
        top, left = (height - crop) // 2, (width - crop) // 2
        pixels = pixels[top : top + crop, left : left + crop]
        height = width = crop
    image = Image.fromarray(pixels.astype(np.float32))
    scale = side / max(height, width)
    if scale < 1:
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(shape, Image.Resampling.BOX)
    return image


def _encode(image: Image.Image, contrast: Contrast) -> bytes:
    values = np.asarray(image)
    low, high = contrast if contrast[1] > contrast[0] else _contrast(*np.percentile(values, [[1], [99]]))
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    buffer = io.BytesIO()
    Image.fromarray((scaled * 255).round().astype(np.uint8)).save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()
