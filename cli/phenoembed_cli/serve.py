"""`phenoembed serve`: the store over HTTP."""

from contextlib import closing, suppress
from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Store
from phenoembed_cli.output import note


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for every one of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    store: Store = DEFAULT_STORE,
) -> None:
    """Answer searches, posteriors and SQL over HTTP, as JSON; until Ctrl-C. Whoever reaches the address can read."""
    import phenoembed_store

    opened = phenoembed_store.open(store)
    try:
        from phenoembed_store.service import run
    except ModuleNotFoundError as error:
        from phenoembed_store.errors import MissingExtra

        raise MissingExtra(str(error.name), "service") from error
    from phenoembed.embedding import FileEmbedder

    note(f"{opened} at http://{host}:{port} (its interface: /openapi.json); Ctrl-C stops it")
    with suppress(KeyboardInterrupt), closing(FileEmbedder(opened)) as embedder:
        run(opened, host, port, embedder.embed)
    note("stopped")
