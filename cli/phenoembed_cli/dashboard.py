"""`phenoembed dashboard`: look at compounds in a browser."""

from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Store


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the browser finds it: localhost:PORT.")] = 8501,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser window.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Look at compounds, their neighbours, images, evidence and plates in a browser."""
    from phenoembed_dashboard.launch import run

    run(store, port, headless)
