"""An image that a visitor drops: embedded in a child process, because torch has no place in this one."""

import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from phenoembed_dashboard.neighbours import Query
from phenoembed_dashboard.opened import the_store


def embed_upload(uploaded: Any, encoder: str) -> Query:
    """A query by the image's embedding. Raises ImageError, StoreError."""
    data: bytes = uploaded.getvalue()
    st.image(_preview(data), width=160, caption="your image", alt="the image that was dropped")
    with st.spinner("Embedding your image (the first takes some seconds)…"):
        return Query(vector=_embedded(data, Path(str(uploaded.name)).suffix, encoder))


@st.cache_data(max_entries=32, show_spinner=False)
def _embedded(data: bytes, suffix: str, encoder: str) -> tuple[float, ...]:
    from phenoembed.embedding import embed_files

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"image{suffix}"
        file.write_bytes(data)
        return tuple(embed_files([file], the_store(), encoder)[0].tolist())


def _preview(data: bytes) -> bytes:
    from phenoembed.pixels import read_pixels
    from phenoembed.thumbnails import encode_pixels

    return encode_pixels(read_pixels(data), 320)
