"""The pages, in the order of the sidebar."""

from collections.abc import Callable
from importlib import import_module

import streamlit as st

PAGES = {
    "compound": ("Compound", ":material/biotech:"),
    "evidence": ("Evidence", ":material/query_stats:"),
    "map": ("Map", ":material/scatter_plot:"),
    "plate": ("Plate", ":material/grid_on:"),
    "probes": ("Probes", ":material/checklist:"),
    "store": ("Store", ":material/database:"),
}


def page_of(name: str) -> "st.Page":
    """The page, as links and the sidebar take it."""
    title, icon = PAGES[name]
    return st.Page(
        _runner(name), title=title, icon=icon, url_path="" if name == "compound" else name, default=name == "compound"
    )


def _runner(name: str) -> Callable[[], None]:
    def run() -> None:
        import_module(f"phenoembed_dashboard.views.{name}").page()

    run.__name__ = name
    return run
