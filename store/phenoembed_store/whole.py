"""Files that are there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A file to write beside ``target``, which takes its place at the end; where anything is raised, it is removed."""
    beside = target.with_name(f".{uuid4().hex[:8]}-{target.name[-40:]}")
    try:
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
