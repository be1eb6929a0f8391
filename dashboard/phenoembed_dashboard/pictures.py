"""Thumbnails for pages: as data URIs, so that a page needs no second request and no server of its own for images."""

from collections.abc import Iterable
from pathlib import Path

from phenoembed.thumbnails import Picture, Thumbnails, render

from phenoembed_dashboard.catalogue import Catalogue
from phenoembed_dashboard.markup import Show, data_uri
from phenoembed_dashboard.opened import nothing
from phenoembed_dashboard.strips import Record
from phenoembed_store.errors import ImageError

LARGE = 480  # pixels of a field looked at closely


def load_pictures(store: Path, catalogue: Catalogue, records: Iterable[Record]) -> Show:
    """Read (or make) the thumbnails of these images at once; what gives each image's address then.

    Where none of them can be read, the page says why.
    """
    pictures = [picture for record in records if (picture := catalogue.picture(record)) is not None]
    answers = Thumbnails(store).get(pictures)
    reasons = [answer for answer in answers if isinstance(answer, str)]
    if reasons and len(reasons) == len(answers):
        why = "none of these images can be shown, for the plates have to lie where they were indexed"
        nothing(f"{why}: {pictures[0].path} {reasons[0]}")
    uris = {p.key: data_uri(webp) for p, webp in zip(pictures, answers, strict=True) if isinstance(webp, bytes)}

    def show(record: Record) -> str | None:
        picture = catalogue.picture(record)
        return None if picture is None else uris.get(picture.key)

    return show


def large_picture(picture: Picture | None) -> bytes | str:
    """The whole field as a WebP, in its plate's contrast, or why it cannot be shown."""
    if picture is None:
        return "the store knows no file of this image"
    try:
        return render(picture, LARGE)
    except (ImageError, OSError, ValueError) as error:
        return f"{picture.path}: {error}"
