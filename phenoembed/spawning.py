"""Child processes that do not run their parent's script again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_main() -> Iterator[None]:
    """Start processes within: a spawned one imports its parent's script, and ours have no use for what is in it.

    Without this a script would need ``if __name__ == "__main__"``, and each child would load all that it loads.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
