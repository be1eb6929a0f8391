"""What has to be known of each plate to prepare its images: relative illumination, and mean and sd of the pixels.

Illumination as Singh et al. 2014 (J. Microsc. 256, 231-236) estimate it, plate by plate and channel by channel: an
average over the images, smoothed, as cells move from image to image and the light does not. Here: the median over
up to 64 images spread over the plate, each shrunk and divided by its mean. It is smoothed by a polynomial of the
fourth degree, as a Gaussian alone would blunt the slope at the rim, and what is left by a Gaussian of a sixteenth of
the field.

An estimate is kept in the store (``plates/``) and used from then on, by trainings and indexings: images that are added
to a plate later are prepared as the others were. Delete the folder to estimate anew.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.polynomial.legendre import legvander2d
from numpy.typing import NDArray
from PIL import Image

from phenoembed.pixels import Raw, count_pages, read_pixels, target_shape
from phenoembed.planes import Source
from phenoembed.preparation import Floats, PlateLight, Preparation, Preparer, flattened, preparation_of
from phenoembed_store.errors import ImageError, PhenoembedError
from phenoembed_store.whole import whole

FOLDER = "plates"
SAMPLE = 64  # images of a plate
LEAST = 8  # images, to tell the light from the cells
COARSE = 96  # pixels of the shorter side: light has no detail
SMOOTHING = 1 / 16  # of the longer side: sd of the Gaussian
DEGREE = 4
DARKEST = 0.05  # of the mean: nothing is divided by less

PLATE_KEY = ("screen", "plate", "channel")


class _Moments(NamedTuple):
    mean: float
    square: float


def preparer_for(
    images: pa.Table,
    sources: Sequence[Source],
    preparation: Preparation,
    store: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Preparer:
    """What prepares these images: plates that the store knows nothing of are estimated, and kept.

    ``images`` has ``PLATE_KEY`` and ``z``, ``sources`` the files of each. ``progress`` counts plates. Raises
    PhenoembedError where the light of a plate cannot be told.
    """
    preparation.check()
    _check_plane(images, sources, preparation)
    light = _given_light(store, preparation)
    if not preparation.of_plates:
        return Preparer(preparation, light)
    keys = list(zip(*(images.column(name).to_pylist() for name in PLATE_KEY), strict=True))
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    owners = np.array([place[key] for key in keys], np.int32)
    plates: list[PlateLight] = []
    for key, i in place.items():
        file = store / FOLDER / f"{_name(preparation, key)}.npz"
        known = _load(file)
        if known is None:
            mine = [sources[row] for row in np.flatnonzero(owners == i).tolist()]
            known = _estimate(mine, preparation, light, f"plate '{key[1]}'")
            if not known.reason:
                _save(file, known)
        plates.append(known)
        if progress:
            progress(i + 1, len(place))
    return Preparer(preparation, light, tuple(plates), owners)


def _check_plane(images: pa.Table, sources: Sequence[Source], preparation: Preparation) -> None:
    """Raise PhenoembedError where one plane is asked for of images that have but one, without a number."""
    if not preparation.plane or any(images.column("z").to_pylist()):
        return
    if max((count_pages(source[0]) for source in sources[:LEAST]), default=0) <= 1:
        raise PhenoembedError(f"--z {preparation.z}: the images have one plane each, and nothing gives it a number")


def lone_preparer(config: Mapping[str, Any], store: Path) -> Preparer:
    """What prepares images that are of no plate, for the encoder with this config.json. Raises PhenoembedError."""
    preparation = preparation_of(config)
    if preparation.of_plates:
        raise PhenoembedError(
            f"encoder {config.get('id')} prepares images as the light and contrast of their plate are, and an image by "
            "itself has no plate: index its plate, and search by --well"
        )
    return Preparer(preparation, _given_light(store, preparation))


def _estimate(sources: Sequence[Source], preparation: Preparation, light: Floats | None, plate: str) -> PlateLight:
    step = max(1, -(-len(sources) // SAMPLE))
    sample = sources[::step]
    field: Floats | None = None
    reasons: list[str] = []

    def read(source: Source) -> Raw | None:
        try:
            return read_pixels(source[0], source[1:], preparation.z)
        except ImageError as error:
            reasons.append(str(error))
            return None

    def moments(source: Source) -> _Moments | None:
        raw = read(source)
        if raw is None:
            return None
        known = light if light is not None else field
        values = (raw if known is None else flattened(raw, known)).astype(np.float64)
        return _Moments(float(values.mean()), float((values**2).mean()))

    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        if preparation.flat_field == "plate":
            coarse = [one for one in pool.map(lambda source: _coarse(read(source)), sample) if one is not None]
            field = illumination(_of_one_shape(coarse), plate) if coarse else None
        found = [one for one in pool.map(moments, sample) if one is not None]
    if not found:
        return PlateLight(
            reason=f"nothing is known of its plate; of {len(sample)} images none is readable: {reasons[0]}"
        )
    mean, square = np.mean(found, axis=0)
    return PlateLight(float(mean), float(np.sqrt(max(square - mean**2, 0.0))), field)


def illumination(images: Floats, plate: str) -> Floats:
    """(images, rows, columns) -> (rows, columns): relative illumination, mean 1. Raises PhenoembedError."""
    from scipy.ndimage import gaussian_filter

    if len(images) < LEAST:
        raise PhenoembedError(
            f"{plate} has {len(images)} images that can be read; --flat-field plate needs {LEAST}: give an image's file"
        )
    means = images.mean(axis=(1, 2), keepdims=True)
    if means.min() <= 0:
        raise PhenoembedError(f"{plate} has images whose mean is not above 0: there is no light to divide by")
    middle = np.median(images / means, axis=0)
    trend = _trend(middle)
    return _relative(trend + gaussian_filter(middle - trend, SMOOTHING * max(middle.shape), mode="nearest"))


def _trend(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(rows, columns) the polynomial of both places that comes nearest."""
    y, x = np.mgrid[-1 : 1 : values.shape[0] * 1j, -1 : 1 : values.shape[1] * 1j]
    terms = legvander2d(y.ravel(), x.ravel(), [DEGREE, DEGREE])
    weights = np.linalg.lstsq(terms, values.ravel(), rcond=None)[0]
    trend: NDArray[np.float64] = (terms @ weights).reshape(values.shape)
    return trend


def keep_flat_field(store: Path, asked: str) -> str:
    """What ``flat_field`` of a preparation is for an option's text; the image that it names is kept in the store.

    Raises PhenoembedError where the image cannot be used.
    """
    name, light = _named_light(asked)
    if light is not None:
        file = store / FOLDER / f"{name.replace(':', '-')}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as beside:
            np.save(beside, light)
    return name


def flat_field_name(asked: str) -> str:
    """The same, without keeping it: to compare with what an encoder was trained with."""
    return _named_light(asked)[0]


def _named_light(asked: str) -> tuple[str, Floats | None]:
    if asked in ("none", "plate"):
        return asked, None
    path = Path(asked)
    if not os.path.isfile(path):
        raise PhenoembedError(f"--flat-field '{asked}' is none of none, plate, and no such file is there")
    try:
        image = read_pixels(path).astype(np.float32)
    except ImageError as error:
        raise PhenoembedError(f"--flat-field {asked}: {error}") from error
    if image.min() <= 0:
        raise PhenoembedError(f"--flat-field {asked}: it has pixels of {image.min():g}; light is above 0 everywhere")
    light = (image / image.mean(dtype=np.float64)).astype(np.float32)
    return f"image:{hashlib.blake2b(light.tobytes(), digest_size=8).hexdigest()}", light


def _given_light(store: Path, preparation: Preparation) -> Floats | None:
    if not preparation.flat_field.startswith("image:"):
        return None
    file = store / FOLDER / f"{preparation.flat_field.replace(':', '-')}.npy"
    try:
        light: Floats = np.load(file)
    except (OSError, ValueError) as error:
        raise PhenoembedError(f"the encoder's flat field {file} cannot be read ({error}); restore it") from error
    return light


def _coarse(raw: Raw | None) -> Floats | None:
    if raw is None:
        return None
    height, width = target_shape((raw.shape[0], raw.shape[1]), COARSE)
    image = Image.fromarray(raw.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)


def _of_one_shape(images: Sequence[Floats]) -> Floats:
    """The images of the shape that most have, stacked."""
    shapes = [image.shape for image in images]
    usual = max(sorted(set(shapes)), key=shapes.count)
    return np.stack([image for image in images if image.shape == usual])


def _relative(values: NDArray[np.floating]) -> Floats:
    relative: Floats = np.maximum(values / values.mean(), DARKEST).astype(np.float32)
    return relative


def _name(preparation: Preparation, key: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([preparation.digest(), *key]).encode()).hexdigest()[:16]


def _load(file: Path) -> PlateLight | None:
    """What is kept of a plate; None where there is nothing, or nothing that can be read."""
    try:
        with file.open("rb") as opened, np.load(opened) as kept:
            return PlateLight(float(kept["mean"]), float(kept["sd"]), kept["field"] if kept["field"].size else None)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _save(file: Path, plate: PlateLight) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    field = plate.field if plate.field is not None else np.zeros(0, np.float32)
    with whole(file) as beside:
        np.savez(beside, mean=plate.mean, sd=plate.sd, field=field)
