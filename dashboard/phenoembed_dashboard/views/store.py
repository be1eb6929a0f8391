"""Store: what is in it, its encoders and indexes, and what had to be rejected, with the reasons."""

from typing import Any

import streamlit as st

from phenoembed_dashboard import markup
from phenoembed_dashboard.catalogue import Catalogue, Stamp, stamp
from phenoembed_dashboard.downloads import csv_button
from phenoembed_dashboard.opened import cached, guarded, no_probe, store_path, the_catalogue, the_store
from phenoembed_dashboard.summary import counts, encoder_rows, head_rows, index_rows, readable_bytes, reject_rows
from phenoembed_store import Store

MAX_ROWS = 500  # of a table in the page


def page() -> None:
    with guarded():
        catalogue = None
        with guarded():
            catalogue = the_catalogue()
            st.html(markup.tiles(cached(counts)))
            st.caption(f"Counted for encoder {catalogue.encoder}.")
        _table("Encoders", encoder_rows(the_store()))
        heads = head_rows(the_store())
        _table("Heads", heads)
        if catalogue is not None and not heads:
            no_probe(catalogue, "there are no heads yet")
        if catalogue is not None or len(the_store().rejected()):
            _rejected()
        if catalogue is not None:
            _indexes()


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        st.markdown(f"**{title}**")
        st.dataframe(rows, hide_index=True)
        csv_button(rows, f"{title.lower()}.csv")


def _rejected() -> None:
    st.markdown("**Rejected images**")
    reasons, images = reject_rows(the_store())
    if not images:
        st.caption("None: every image that was found could be used.")
        return
    left, right = st.columns([1, 2])
    left.dataframe(reasons, hide_index=True)
    with right:
        st.dataframe(
            images[:MAX_ROWS], hide_index=True, column_order=["reason", "path", "plate", "well", "field", "time_h"]
        )
        if len(images) > MAX_ROWS:
            st.caption(f"{MAX_ROWS:,} of {len(images):,} are shown; the file has all.")
        csv_button(images, "rejected.csv")


@st.fragment
def _indexes() -> None:
    """On its own, because counting the bytes of a large store takes a while."""
    with guarded():
        st.markdown("**Indexes and space**")
        with st.spinner("Looking at the store's files…"):
            found: dict[str, Any] = cached(_status, indexes=stamp(store_path(), ("indexes",)))
        st.caption(
            f"Version {found['version']}, {found['groups']:,} groups of images over all encoders, "
            f"{readable_bytes(found['bytes'])} on disk."
        )
        if found["indexes"]:
            rows = index_rows(found["indexes"])
            st.dataframe(rows, hide_index=True)
            csv_button(rows, "indexes.csv")
        else:
            st.caption("No index: searches compare with every embedding, which is exact.")


def _status(store: Store, catalogue: Catalogue, indexes: Stamp) -> dict[str, Any]:
    """Of this version of the tables and of the ``indexes``."""
    return store.status()
