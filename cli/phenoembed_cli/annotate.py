"""`phenoembed annotate`."""


def annotate() -> None:
    """To be filled in by the store's commands."""
