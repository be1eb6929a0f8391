"""Start the dashboard: Streamlit on this machine, offline, with our theme."""

import os
import socket
import threading
from pathlib import Path

from phenoembed_dashboard.catalogue import open_catalogue, open_store
from phenoembed_store.errors import MissingExtra, PhenoembedError
from phenoembed_store.remote import absolute

OPTIONS: dict[str, object] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": False,
    "server.maxUploadSize": 200,  # MB: the largest single field of view
    "theme.light.primaryColor": "#0072b2",
    "theme.dark.primaryColor": "#56b4e9",
}


def run(store: Path, port: int = 8501, headless: bool = False) -> None:
    """Serve until interrupted. Raises MissingExtra without Streamlit, PhenoembedError without a store."""
    try:
        from streamlit.web import bootstrap
    except ImportError:
        raise MissingExtra("streamlit", "dashboard") from None
    store = Path(absolute(store))
    open_store(store)
    _check_port(port)
    os.environ["PHENOEMBED_STORE"] = str(store)
    threading.Thread(target=_warm, args=(store,), daemon=True).start()
    options = {**OPTIONS, "server.port": port, "server.headless": headless, "server.address": "localhost"}
    flags = {name.replace(".", "_"): value for name, value in options.items()}
    bootstrap.load_config_options(flags)
    bootstrap.run(str(Path(__file__).with_name("app.py")), False, [], flags)


def _warm(store: Path) -> None:
    """Read the store while the browser starts, and load what draws: the first pages need not wait for all of it."""
    try:
        catalogue = open_catalogue(store)
        open_store(store).search(compound=next(iter(catalogue.compounds)), k=1, encoder=catalogue.encoder)
        from phenoembed_dashboard import drawing, figures

        drawing.to_svg(figures.histogram([0.5], "warm"))
    except (PhenoembedError, StopIteration):
        return  # the page says it


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", port)) == 0:
            raise PhenoembedError(f"port {port} is taken; choose another: phenoembed dashboard --port {port + 1}")
