"""What keeps a short command short."""

import sys
from importlib.abc import MetaPathFinder


class _Absent(MetaPathFinder):
    """Finds nothing, and says so for one module before anyone else is asked."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == self.module:
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)


def leave_out_pandas() -> None:
    """Keep pyarrow from importing pandas at its first array: a third of the time of a search, and it needs none."""
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _Absent("pandas"))
