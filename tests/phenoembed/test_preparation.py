"""How pixels are prepared: projections, planes, floats, flat field, normalising; one way for training and indexing."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from phenoembed.pixels import read_pixels
from phenoembed.planes import Source
from phenoembed.plate_light import keep_flat_field, lone_preparer, preparer_for
from phenoembed.preparation import A_SD, MIDDLE, Preparation, Preparer, agreed
from scipy.ndimage import gaussian_filter
from tests.phenoembed.files import texture

from phenoembed_store.errors import ImageError, PhenoembedError

SHAPE = (64, 96)


@given(arrays(st.sampled_from([np.uint8, np.uint16]), array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_the_default_changes_no_pixel(raw: np.ndarray) -> None:
    """The very array that was read: what was trained and indexed before there was a choice stays as it is."""
    assert Preparer().prepare(raw, 0) is raw
    assert Preparer().digest() == b""


def test_projections(tmp_path: Path) -> None:
    """The maximum and the mean of the planes, and one of them, by a plain loop, from pages of a file or from files."""
    planes = texture((3, 6, 5))
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="minisblack")
    paths = [tmp_path / f"z{z}.tif" for z in range(3)]
    for path, plane in zip(paths, planes, strict=True):
        tifffile.imwrite(path, plane)
    mean = [[round(sum(int(p[y, x]) for p in planes) / 3) for x in range(5)] for y in range(6)]
    for source in ((tmp_path / "stack.tif",), tuple(paths)):
        assert np.abs(Preparer(Preparation("mean")).read(source, 0) - np.array(mean, float)).max() <= 0.5
        np.testing.assert_array_equal(Preparer().read(source, 0), planes.max(axis=0))
    np.testing.assert_array_equal(Preparer(Preparation("2")).read((tmp_path / "stack.tif",), 0), planes[1])
    with pytest.raises(ImageError, match=r"^no plane 4: there are 3, counted from 1$"):
        Preparer(Preparation("4")).read((tmp_path / "stack.tif",), 0)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_of_0_to_1_are_shares_of_full_scale(kind: type, tmp_path: Path) -> None:
    values = (texture().astype(np.float64) / 65535).astype(kind)
    tifffile.imwrite(tmp_path / "x.tif", values)
    found = Preparer().read((tmp_path / "x.tif",), 0)
    assert found.dtype == np.uint16
    assert np.abs(found - values.astype(np.float64) * 65535).max() <= 0.51


def test_a_plane_of_images_that_have_one(tmp_path: Path) -> None:
    """Nothing gives it a number: an error, not the plane that is there."""
    sources, _ = plate(tmp_path / "p", n=2)
    with pytest.raises(PhenoembedError, match=r"^--z 3: the images have one plane each, and nothing gives it a number"):
        preparer_for(images(("P", 2)), sources, Preparation("3"), tmp_path)


def test_floats_that_are_counts_are_rounded(tmp_path: Path) -> None:
    """As other programs write what they corrected of a 16-bit image."""
    tifffile.imwrite(tmp_path / "x.tif", texture().astype(np.float32) + np.float32(0.25))
    np.testing.assert_array_equal(Preparer().read((tmp_path / "x.tif",), 0), texture())


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (0, 1.5), (0, 255), (10, 1e6)])
def test_other_floats_need_normalising(low: float, high: float, tmp_path: Path) -> None:
    """Radians of a phase, say: refused with the way out, and with it read, whatever their scale is."""
    values = np.interp(texture(), (1, 60_000), (low, high)).astype(np.float32)
    tifffile.imwrite(tmp_path / "x.tif", values)
    with pytest.raises(ImageError, match=r"^32x32 float32 from .* train with --normalise image or plate$"):
        Preparer().read((tmp_path / "x.tif",), 0)
    found = Preparer(Preparation(normalise="image")).read((tmp_path / "x.tif",), 0)
    z_scores = (values - values.mean()) / values.std()
    np.testing.assert_allclose((found.astype(float) - MIDDLE) / A_SD, z_scores, atol=0.001)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(bad: float, tmp_path: Path) -> None:
    values = texture().astype(np.float64)
    values[3, 4:6] = bad
    for kind in (np.float32, np.float64):
        tifffile.imwrite(tmp_path / "x.tif", values.astype(kind))
        with pytest.raises(ImageError, match=r"^2 of 1,024 pixels are NaN or infinite$"):
            read_pixels(tmp_path / "x.tif")


@given(st.floats(0.01, 1e4), st.floats(-1e4, 1e4))
def test_normalised_images_do_not_depend_on_gain_and_offset(gain: float, offset: float) -> None:
    """Within what float32 and 16 bits keep."""
    raw = texture((16, 16)).astype(np.float32) / 60_000
    one = Preparer(Preparation(normalise="image"))
    assert np.abs(one.prepare(raw, 0).astype(int) - one.prepare(raw * gain + offset, 0)).max() <= max(
        2, 1e-2 * abs(offset) / gain
    )


def plate(folder: Path, n: int = 40, gain: float = 1.0, seed: int = 0) -> tuple[list[Source], np.ndarray]:
    """Images of cells under uneven light, and the light."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    light = 1 - 0.4 * (x**2 + y**2) / 2 + 0.1 * x
    sources: list[Source] = []
    for number in range(n):
        cells = 1 + 0.3 * gaussian_filter(draw.normal(size=SHAPE), 1.5)
        tifffile.imwrite(folder / f"{number}.tif", (gain * 8000 * cells * light).round().astype(np.uint16))
        sources.append((folder / f"{number}.tif",))
    return sources, light / light.mean()


def images(*plates: tuple[str, int]) -> pa.Table:
    names = [name for name, n in plates for _ in range(n)]
    return pa.table(
        {"screen": ["s"] * len(names), "plate": names, "channel": ["1"] * len(names), "z": [0] * len(names)}
    )


def test_the_light_of_a_plate_is_found_and_divided_out(tmp_path: Path) -> None:
    """The estimate is within 3% of the truth; images are even afterwards, and their mean stays."""
    sources, light = plate(tmp_path / "p")
    preparer = preparer_for(images(("P", 40)), sources, Preparation(flat_field="plate"), tmp_path / "store")
    raw, flat = (np.mean([f(s, i) for i, s in enumerate(sources)], axis=0) for f in (_raw, preparer.read))
    assert np.abs(raw / flat / light - 1).max() < 0.03
    assert raw.std() / raw.mean() > 0.1 > 0.03 > flat.std() / flat.mean()
    assert flat.mean() == pytest.approx(raw.mean(), rel=0.02)
    assert preparer.read(sources[0], 0).dtype == np.uint16


def _raw(source: Source, _number: int) -> np.ndarray:
    return read_pixels(source[0])


def test_an_image_of_the_light_can_be_given(tmp_path: Path) -> None:
    """It is kept in the store: the file may go. An image of another shape is refused; so is light of 0."""
    sources, light = plate(tmp_path / "p", n=2)
    file = tmp_path / "flat.tif"
    tifffile.imwrite(file, (light * 20_000).astype(np.uint16))
    chosen = Preparation(flat_field=keep_flat_field(tmp_path / "store", str(file)))
    file.unlink()
    preparer = preparer_for(images(("P", 2)), sources, chosen, tmp_path / "store")
    raw = read_pixels(sources[0][0])
    assert np.abs(preparer.prepare(raw, 0) - raw / light).max() < 4
    with pytest.raises(ImageError, match=r"^64x90 uint16 pixels; the flat field has 64x96$"):
        preparer.prepare(raw[:, :90], 0)
    tifffile.imwrite(file, np.arange(100, dtype=np.uint16).reshape(10, 10))
    with pytest.raises(PhenoembedError, match="it has pixels of 0; light is above 0 everywhere"):
        keep_flat_field(tmp_path / "store", str(file))
    with pytest.raises(PhenoembedError, match="is none of none, plate, and no such file is there"):
        keep_flat_field(tmp_path / "store", "paper")


def test_plates_are_brought_to_one_mean_and_sd(tmp_path: Path) -> None:
    """Two plates of different gain agree after normalising by plate; within a plate, brightness keeps its meaning."""
    dim, _ = plate(tmp_path / "dim", gain=0.4)
    bright, _ = plate(tmp_path / "bright", seed=1)
    dark = tifffile.imread(dim[3][0])
    tifffile.imwrite(dim[3][0], (dark * 0.7).astype(np.uint16))
    preparer = preparer_for(images(("D", 40), ("B", 40)), dim + bright, Preparation(normalise="plate"), tmp_path)
    prepared = np.array([preparer.read(source, row) for row, source in enumerate(dim + bright)]).astype(float)
    for mine in (prepared[:40], prepared[40:]):
        assert mine.mean() == pytest.approx(MIDDLE, abs=40)
        assert mine.std() == pytest.approx(A_SD, rel=0.02)
    assert prepared[3].mean() < prepared[:40].mean() - A_SD


def test_what_is_known_of_a_plate_stays(tmp_path: Path) -> None:
    """Images added later are prepared as the first were; without the folder the plate is estimated anew."""
    sources, _ = plate(tmp_path / "p", n=20)
    chosen = Preparation(normalise="plate", flat_field="plate")
    first = preparer_for(images(("P", 20)), sources, chosen, tmp_path / "store")
    more, _ = plate(tmp_path / "q", n=20, gain=3)
    later = preparer_for(images(("P", 40)), sources + more, chosen, tmp_path / "store")
    assert later.digest() == first.digest()
    np.testing.assert_array_equal(later.read(sources[0], 0), first.read(sources[0], 0))
    (file,) = (tmp_path / "store" / "plates").iterdir()
    for damaged in (b"damaged", file.read_bytes()[:-9]):
        file.write_bytes(damaged)
        anew = preparer_for(images(("P", 40)), sources + more, chosen, tmp_path / "store")
        assert anew.digest() != first.digest()


def test_a_plate_of_which_nothing_can_be_told(tmp_path: Path) -> None:
    """Images that cannot be read are rejected one by one, the other plates go on; too few images are an error."""
    sources, _ = plate(tmp_path / "p", n=10)
    bad = [(tmp_path / "gone.tif",)] * 2
    preparer = preparer_for(images(("P", 10), ("Q", 2)), sources + bad, Preparation(normalise="plate"), tmp_path)
    assert preparer.read(sources[0], 0).std() > 0
    with pytest.raises(ImageError, match=r"^nothing is known of its plate; of 2 images none is readable: cannot be"):
        preparer.prepare(texture(), 11)
    with pytest.raises(PhenoembedError, match=r"^plate 'P' has 7 images that can be read; --flat-field plate needs 8"):
        preparer_for(images(("P", 7)), sources[:7], Preparation(flat_field="plate"), tmp_path)


def test_what_an_encoder_was_trained_with_is_what_is_done() -> None:
    """An option that says the same, or nothing, changes nothing; another is one line that names both."""
    config = {"id": "abc", "preparation": {"z": "mean", "flat_field": "none", "normalise": "plate"}}
    assert (
        agreed(config, {}) == agreed(config, {"z": None, "normalise": "plate"}) == Preparation("mean", "none", "plate")
    )
    assert agreed({"id": "before"}, {"z": "max"}) == Preparation()
    with pytest.raises(PhenoembedError, match=r"^--z 3: encoder abc was trained with --z mean; leave the option out,"):
        agreed(config, {"z": "3"})
    with pytest.raises(PhenoembedError, match=r"^encoder abc .* an image by itself has no plate: index its plate"):
        lone_preparer(config, Path())
    assert lone_preparer({"id": "x", "preparation": {"normalise": "image"}}, Path()).preparation.normalise == "image"


@pytest.mark.parametrize(
    "wrong", [{"z": "min"}, {"z": "-1"}, {"z": "²"}, {"flat_field": "x"}, {"normalise": "well"}], ids=str
)
def test_a_choice_that_is_none(wrong: dict[str, str]) -> None:
    option = next(iter(wrong)).replace("_", "-")
    with pytest.raises(PhenoembedError, match=rf"^--{option} '.*' is none of"):
        Preparation(**wrong).check()
