"""Every error phenoembed raises on purpose.

PhenoembedError
├── ManifestError      the table that describes a screen has faults (all of them are listed)
├── ImageError         one image cannot be used, and why
├── StoreError         the store is missing, damaged, or does not hold what was asked for
│   ├── NotInStore     a compound, well, group, encoder or head that is not there
│   ├── QueryError     SQL or a filter that DuckDB refuses
│   └── Overtaken      another machine has written to the table meanwhile
├── TrainingError      a screen, split or checkpoint that cannot be trained on
└── MissingExtra       an optional dependency is not installed

The command line prints each as one line, ``error: ...``; the message names the value and the fix.
"""

import re
from collections import Counter
from collections.abc import Sequence

SHOWN_FAULTS = 50
SHOWN_OF_A_KIND = 10
"""Of faults that say the same of other rows and values; a manifest may have a million."""

LONGEST_LINE = 1000
"""Characters of a line of an error: a cell may hold a whole file, of which the beginning and the end are shown."""


def one_line(text: str) -> str:
    """Text that quotes what users wrote, as one line that can be printed anywhere.

    What ends a line, moves the cursor, is invisible or no character at all is shown as ``repr`` shows it (``\\r``,
    ``\\u2028``, ``\\udcff``); the middle of what is very long is left out.
    """
    if len(text) > LONGEST_LINE:
        half = LONGEST_LINE // 2
        text = f"{text[:half]} [...] {text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def some_faults(faults: Sequence[str], limit: int = SHOWN_FAULTS) -> list[str]:
    """The first faults of each kind, and how many more there are of it: ``limit`` lines and perhaps one more.

    Faults that differ in numbers and in what stands in quotes alone are of one kind.
    """
    kinds = [re.sub(r"'[^']*'|\"[^\"]*\"|[0-9]+", "", fault) for fault in faults]
    counts, seen = Counter(kinds), Counter[str]()
    lines: list[tuple[str, int]] = []  # and how many faults it tells
    for fault, kind in zip(faults, kinds, strict=True):
        seen[kind] += 1
        if seen[kind] <= SHOWN_OF_A_KIND:
            lines.append((fault, 1))
        if seen[kind] == SHOWN_OF_A_KIND and (more := counts[kind] - SHOWN_OF_A_KIND):
            lines.append((f"and {more:,} more like it", more))
    left = len(faults) - sum(told for _, told in lines[:limit])
    return [line for line, _ in lines[:limit]] + ([f"and {left:,} more"] if left else [])


class PhenoembedError(Exception):
    """Base of every error a user can cause and mend. Each of ``lines`` is made one line (see ``one_line``)."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(one_line, lines)))


class ManifestError(PhenoembedError):
    """A manifest has faults. ``faults`` has all of them, one line each with row and value; the message the first.

    A single fault is a message of one line.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(map(one_line, faults))
        if len(self.faults) == 1:
            super().__init__(f"{source}: {self.faults[0].removeprefix(f'{source}: ')}")
            return
        head = f"{source}: {len(self.faults):,} faults, nothing was read"
        super().__init__(head, *(f"  {fault}" for fault in some_faults(self.faults)))


class ImageError(PhenoembedError):
    """One image cannot be used. The message is the reason that ``rejected`` keeps."""


class StoreError(PhenoembedError):
    """The store is missing, damaged, or does not hold what was asked for."""


class NotInStore(StoreError):  # noqa: N818 - reads as what it says: "nocodazole" is not in the store
    """A compound, well, group, encoder or head that the store does not hold."""


class QueryError(StoreError):
    """SQL or a filter that DuckDB refuses, or that reaches for more than the store's views."""


class Overtaken(StoreError):  # noqa: N818
    """Another machine has written to the table since it was read; reading it again and writing then helps."""


class TrainingError(PhenoembedError):
    """A screen, split or checkpoint that cannot be trained on."""


class MissingExtra(PhenoembedError):  # noqa: N818
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed; run: pip install 'phenoembed[{extra}]'")
