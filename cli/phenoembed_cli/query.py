"""`phenoembed query`."""


def query() -> None:
    """To be filled in by the store's commands."""
