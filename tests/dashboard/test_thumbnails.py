"""Thumbnails: one contrast a plate, made once by content, never trusted when damaged, never fatal when missing."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from phenoembed.thumbnails import LARGEST_SHRINK, SIDE, Picture, Thumbnails, make_thumbnails, pictures_of, render
from PIL import Image

from phenoembed_store import Store
from phenoembed_store.errors import ImageError


def pixels_of(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("L"))


def pictures(store: Store) -> list[Picture]:
    return pictures_of(store.known_images("enc0"))


def test_every_image_gets_a_thumbnail_once(store_maker: Callable[..., Store]) -> None:
    store, told = store_maker(), []
    made = make_thumbnails(store, lambda done, total: told.append((done, total)))
    n = len(pictures(store))
    assert (made.made, made.present, made.unreadable) == (n, 0, ())
    assert told[-1] == (n, n)
    again = make_thumbnails(store)
    assert (again.made, again.present) == (0, n)
    assert Thumbnails(store.path).keys() == {picture.key for picture in pictures(store)}


def test_a_run_that_was_interrupted_goes_on(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    Thumbnails(store.path).get(pictures(store)[:10])
    assert make_thumbnails(store).present == 10


def test_imported_profiles_have_no_thumbnails(store_maker: Callable[..., Store]) -> None:
    """Nothing is read for them, nor called unreadable."""
    store = store_maker()
    profiles = {"plate": ["P1"] * 3, "well": ["A01", "A02", "A03"], "compound": ["x", "y", "DMSO"]}
    store.import_profiles(pa.table(profiles | {"f0": [1.0, 2.0, 3.0], "f1": [3.0, 1.0, 2.0]}), embedding=["f0", "f1"])
    assert len(store.encoders()) == 2
    made = make_thumbnails(store)
    assert (made.made, made.unreadable) == (len(pictures(store)), ())


def test_images_of_one_plate_share_black_and_white(store_maker: Callable[..., Store]) -> None:
    """A dose that makes cells brighter stays brighter in its thumbnail."""
    store = store_maker()
    means = {}
    for picture, dose in zip(
        pictures(store), store.known_images("enc0").column("concentration_um").to_pylist(), strict=True
    ):
        (webp,) = Thumbnails(store.path).get([picture])
        assert isinstance(webp, bytes)
        means.setdefault(dose, []).append(pixels_of(webp).mean())
    assert len({picture.contrast for picture in pictures(store)}) == 1
    assert np.mean(means[1.0]) + 20 < np.mean(means[5.0]) < np.mean(means[20.0]) - 20


def test_one_odd_image_does_not_set_a_plate_s_contrast() -> None:
    n = 200
    bright = np.full(n, 3000.0, np.float32)
    bright[0] = 65535
    table = pa.table(
        {
            "path": [f"{i}.tif" for i in range(n)],
            "content_hash": [str(i) for i in range(n)],
            "screen": ["s"] * n,
            "plate": ["P"] * n,
            "channel": ["c"] * n,
            "intensity_p01": np.full(n, 500, np.float32),
            "intensity_p99": bright,
        }
    )
    low, high = pictures_of(table)[0].contrast
    assert low <= 500
    assert 3000 <= high < 3200


def test_damaged_thumbnails_are_made_anew(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    make_thumbnails(store)
    Thumbnails(store.path).file.write_bytes(b"not a database" * 999)
    assert all(isinstance(webp, bytes) for webp in Thumbnails(store.path).get(pictures(store)[:3]))
    assert make_thumbnails(store).unreadable == ()
    assert Thumbnails(store.path).keys() == {picture.key for picture in pictures(store)}


def test_a_missing_file_is_a_reason_not_an_error(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    gone = pictures(store)[0]
    Path(gone.path).unlink()
    assert make_thumbnails(store).unreadable == ((gone.path, "cannot be read: No such file or directory"),)
    assert Thumbnails(store.path).get([gone]) == ["cannot be read: No such file or directory"]


def test_thumbnails_of_images_that_left_the_store_go(store_maker: Callable[..., Store]) -> None:
    store = store_maker()
    make_thumbnails(store)
    store.delete_images("compound = 'taxol'")
    make_thumbnails(store)
    assert Thumbnails(store.path).keys() == {picture.key for picture in pictures(store)}


def test_a_store_that_cannot_be_written_still_shows_images(
    store_maker: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_maker()
    monkeypatch.setattr(Thumbnails, "_write", lambda *_: False)
    assert all(isinstance(webp, bytes) for webp in Thumbnails(store.path).get(pictures(store)[:3]))


def test_a_large_field_shows_its_centre_not_specks(tmp_path: Path) -> None:
    """At most four pixels become one; the whole field is for the large view."""
    side = SIDE * LARGEST_SHRINK * 2
    field = np.zeros((side, side + 100), np.uint16)
    field[side // 4 : -side // 4, (side + 100) // 4 : -(side + 100) // 4] = 1000
    field[0, 0] = 1
    tifffile.imwrite(tmp_path / "field.tif", field)
    (webp,) = Thumbnails(tmp_path).get([Picture((tmp_path / "field.tif",), "x", (0.0, 1000.0))])
    assert isinstance(webp, bytes)
    centre = pixels_of(webp)
    assert centre.shape == (SIDE, SIDE)
    assert centre.min() > 200
    whole = pixels_of(render(Picture((tmp_path / "field.tif",), "x", (0.0, 1000.0)), 256))
    assert whole.shape[1] == 256
    assert whole[0, 0] < 30


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"II*\0 but no more")
    with pytest.raises(ImageError):
        render(Picture((tmp_path / "x.tif",), "x", (0.0, 1.0)), 64)
