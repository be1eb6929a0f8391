"""Some of the rows of a table, in the forms that searches want them in."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from phenoembed_store.aggregate import Integers

Flags = npt.NDArray[np.bool_]


@dataclass(eq=False)
class Subset:
    """The rows whose flag is set. What follows from the flags is worked out once, and kept with them."""

    flags: Flags
    asked_again: bool = False
    """Whether a filter that lets these rows pass was asked more than once: it may come again."""

    def __len__(self) -> int:
        return self._count

    @classmethod
    def of_rows(cls, rows: Integers, n: int) -> "Subset":
        """These of n rows, rising."""
        flags = np.zeros(n, np.bool_)
        flags[rows] = True
        subset = cls(flags)
        subset.__dict__.update(rows=rows, _count=len(rows))  # as cached_property keeps them
        return subset

    @cached_property
    def rows(self) -> Integers:
        """Their numbers, rising."""
        return np.flatnonzero(self.flags)

    def between(self, start: int, stop: int) -> Integers:
        """Those from ``start`` on and before ``stop``, counted from ``start``."""
        if start == 0 and stop == len(self.flags):
            return self.rows
        first, last = np.searchsorted(self.rows, (start, stop))
        return self.rows[first:last] - start

    @cached_property
    def _count(self) -> int:
        return int(np.count_nonzero(self.flags))
