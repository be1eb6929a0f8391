"""`phenoembed search`."""


def search() -> None:
    """To be filled in by the store's commands."""
