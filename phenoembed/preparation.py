"""How pixels are prepared before a network sees them: planes of a stack, uneven light, brightness and contrast.

What is chosen stands in an encoder's config.json: what it indexes is prepared as what it was trained on was, by the
same code. The default changes nothing but stacks, of which each pixel's brightest plane is taken.

``z``: "max", "mean", or the number of one plane, as the files' names or the source's records count it (the pages of a
TIFF file count from 1). ``flat_field``: divide by the relative illumination, whose mean is 1, so that the image's mean
stays: "plate" (estimated from each plate's images, see ``plate_light``) or "image:<hash>", an image that was given; no
dark current is subtracted. ``normalise``: "image" or "plate", to the mean and standard deviation of the image's or the
plate's pixels, after the flat field.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phenoembed.pixels import Pixels, Raw, describe, read_pixels
from phenoembed.planes import Source
from phenoembed_store.errors import ImageError, PhenoembedError

Floats = NDArray[np.float32]

MIDDLE, A_SD = 32768, 4096  # normalised pixels are kept in 16 bits: the mean, and one sd; 8 sd either way fit
COUNTS = 256  # floats that reach it are counts of a camera; shares of full scale never do


@dataclass(frozen=True)
class Preparation:
    """What is done to pixels; see the module's description."""

    z: str = "max"
    flat_field: str = "none"
    normalise: str = "none"

    def check(self) -> None:
        """Raise PhenoembedError on a value that cannot be meant."""
        if self.z not in ("max", "mean") and not (self.z.isascii() and self.z.isdecimal()):
            raise PhenoembedError(f"--z '{self.z}' is none of max, mean or a plane's number, e.g. --z 3")
        if self.flat_field not in ("none", "plate") and not self.flat_field.startswith("image:"):
            raise PhenoembedError(f"--flat-field '{self.flat_field}' is none of none, plate or an image's file")
        if self.normalise not in ("none", "image", "plate"):
            raise PhenoembedError(f"--normalise '{self.normalise}' is none of none, image, plate")

    @property
    def plane(self) -> int | None:
        """The plane that is taken; None where a stack is projected."""
        return int(self.z) if self.z.isdecimal() else None

    @property
    def of_plates(self) -> bool:
        """Whether something has to be known of an image's plate."""
        return "plate" in (self.flat_field, self.normalise)

    def digest(self) -> str:
        """Names the preparation; "" for the default."""
        text = json.dumps(asdict(self), sort_keys=True)
        return "" if self == Preparation() else hashlib.sha256(text.encode()).hexdigest()[:12]


def preparation_of(config: Mapping[str, Any]) -> Preparation:
    """What an encoder's config.json says; the default where it was trained before there was a choice."""
    return Preparation(**config.get("preparation", {}))


def agreed(config: Mapping[str, Any], asked: Mapping[str, str | None]) -> Preparation:
    """An encoder's preparation. Raises PhenoembedError where something else is asked for."""
    trained = preparation_of(config)
    for field in fields(Preparation):
        wanted, known = asked.get(field.name), getattr(trained, field.name)
        if wanted is not None and wanted != known:
            option = field.name.replace("_", "-")
            raise PhenoembedError(
                f"--{option} {wanted}: encoder {config.get('id')} was trained with --{option} {known}; leave the "
                "option out, or train an encoder with it"
            )
    return trained


@dataclass(frozen=True)
class PlateLight:
    """What was estimated of a plate. ``field``: relative illumination (rows, columns), mean 1, coarse; or None.

    ``mean``, ``sd``: of its pixels after the flat field. ``reason``: why nothing could be estimated, or "".
    """

    mean: float = 0.0
    sd: float = 1.0
    field: Floats | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Preparer:
    """A preparation with what it has to know. ``owners``: (images,) the place of each image's plate in ``plates``.

    ``light``: the relative illumination (height, width) of an image that was given.
    """

    preparation: Preparation = Preparation()
    light: Floats | None = None
    plates: tuple[PlateLight, ...] = ()
    owners: NDArray[np.int32] | None = None

    def read(self, source: Source, number: int) -> Pixels:
        """An image of the screen by its number, as the network sees it. Raises ImageError."""
        return self.prepare(self.read_raw(source), number)

    def read_raw(self, source: Source) -> Raw:
        """The pixels as the files have them, of a stack what ``z`` says. Raises ImageError."""
        return read_pixels(source[0], source[1:], self.preparation.z)

    def digest(self) -> bytes:
        """Of everything that decides what pixels become; nothing for the default."""
        if self.preparation == Preparation():
            return b""
        digest = hashlib.blake2b(self.preparation.digest().encode(), digest_size=16)
        for plate in self.plates:
            digest.update(repr((plate.mean, plate.sd)).encode())
            digest.update(b"" if plate.field is None else plate.field.tobytes())
        return digest.digest()

    def prepare(self, raw: Raw, number: int) -> Pixels:
        """Raw pixels (height, width) as 8 or 16 bits, evenly lit and normalised as chosen. Raises ImageError."""
        plate = self.plates[self.owners[number]] if self.owners is not None else PlateLight()
        if plate.reason:
            raise ImageError(plate.reason)
        if self.light is not None and self.light.shape != raw.shape:
            raise ImageError(f"{describe(raw)} pixels; the flat field has {self.light.shape[0]}x{self.light.shape[1]}")
        field = self.light if self.light is not None else plate.field
        flat = raw if field is None else flattened(raw, field)
        if self.preparation.normalise == "image":
            return normalised(flat, float(flat.mean(dtype=np.float64)), float(flat.std(dtype=np.float64)))
        if self.preparation.normalise == "plate":
            return normalised(flat, plate.mean, plate.sd)
        return as_integers(flat, raw.dtype)


def flattened(raw: Raw, field: Floats) -> Floats:
    """Pixels divided by the relative illumination, which is enlarged to them where it is coarse."""
    return raw.astype(np.float32) / _enlarged(field.tobytes(), field.shape, raw.shape)


@lru_cache(maxsize=8)  # images come plate by plate
def _enlarged(field: bytes, coarse: tuple[int, int], shape: tuple[int, int]) -> Floats:
    values = np.frombuffer(field, np.float32).reshape(coarse)
    if coarse == shape:
        return values
    return np.asarray(Image.fromarray(values).resize(shape[::-1], Image.Resampling.BILINEAR))


def normalised(values: Raw, mean: float, sd: float) -> NDArray[np.uint16]:
    """Distances from the mean in sd, kept in 16 bits (``MIDDLE``, ``A_SD``)."""
    scaled = (values.astype(np.float32) - np.float32(mean)) * np.float32(A_SD / max(sd, 1e-12)) + MIDDLE
    kept: NDArray[np.uint16] = np.clip(scaled.round(), 0, 65535).astype(np.uint16)
    return kept


def as_integers(values: Raw, kind: np.dtype[Any]) -> Pixels:
    """Pixels of 8 or 16 bits; ``kind``: the type that the file has them in.

    Floats in 0..1 are shares of full scale (times 65535); floats in 0..65535 that reach 256 are counts. What else they
    could be only normalising can tell. Raises ImageError.
    """
    if values.dtype in (np.uint8, np.uint16):
        return values  # type: ignore[return-value]
    if kind in (np.uint8, np.uint16):
        return np.clip(values.round(), 0, np.iinfo(kind).max).astype(kind)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and (high <= 1 or COUNTS <= high <= 65535):
        return (values * (65535 if high <= 1 else 1)).round().astype(np.uint16)
    raise ImageError(
        f"{describe(values)} from {low:.6g} to {high:.6g}: floats are read in 0..1, or as counts (0..65535); for "
        "others train with --normalise image or plate"
    )
