"""Writers take turns: on one machine by a lock, between machines by trying again."""

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from phenoembed_store.errors import Overtaken
from phenoembed_store.mirror import Mirror

log = logging.getLogger("phenoembed")

Done = TypeVar("Done")

ATTEMPTS = 20
"""Times that a write is tried while other machines write to the same tables."""


def in_turn(folder: Path, mirror: Mirror | None, change: Callable[[], Done]) -> Done:
    """Make a change; small files that it wrote, or that were written before it, are where the store lies then.

    A writer that dies frees its turn. Where another machine was faster, the change is made again upon what that one
    wrote; Overtaken is raised after ATTEMPTS times.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        done = _until_first(mirror, change)
        if mirror is not None:
            mirror.push()
    return done


def _until_first(mirror: Mirror | None, change: Callable[[], Done]) -> Done:
    attempt = 1
    while True:
        try:
            if mirror is not None:
                mirror.push()  # an encoder before its images
            return change()
        except Overtaken as error:
            log.info("%s (attempt %d)", error, attempt)
            if attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.2 * attempt))
            attempt += 1
