"""Image files of every kind, good and bad."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def texture(shape: tuple[int, ...] = (32, 32), seed: int = 0, dtype: type = np.uint16) -> np.ndarray:
    """Pixels that are not blank."""
    top = 256 if dtype == np.uint8 else 60_000
    return np.random.default_rng(seed).integers(1, top, shape).astype(dtype)


def truncated(path: Path) -> None:
    """The first half of a TIFF's bytes."""
    tifffile.imwrite(path, texture())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("well,field\nA01,1\n")


def colour(path: Path) -> None:
    tifffile.imwrite(path, texture((32, 32, 3), dtype=np.uint8), photometric="rgb")


def black(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((32, 32), np.uint16))


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def wrong_size(path: Path) -> None:
    tifffile.imwrite(path, texture((48, 40)))


def colour_png(path: Path) -> None:
    Image.fromarray(texture((32, 32, 3), dtype=np.uint8)).save(path, format="png")


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, r"truncated: 2,\d\d\d bytes of pixels are announced, the file has 1,\d\d\d"),
    "text": (text, "not an image that can be read: cannot identify image file"),
    "colour": (colour, r"3 samples a pixel \(RGB\?\); one channel is expected"),
    "black": (black, "blank: every pixel is 0"),
    "nothing": (nothing, r"the file is empty \(0 bytes\)"),
    "wrong size": (wrong_size, "48x40 pixels; the images of this screen are 32x32"),
}
"""The six kinds of bad files a screen must survive: what makes one, and the reason that is kept."""
