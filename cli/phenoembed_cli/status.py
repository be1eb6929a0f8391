"""`phenoembed status`."""


def status() -> None:
    """To be filled in by the store's commands."""
