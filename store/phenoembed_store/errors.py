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

from collections.abc import Sequence

SHOWN_FAULTS = 50

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
        head = f"{source}: {len(self.faults)} faults, nothing was read"
        lines = [head, *(f"  {fault}" for fault in self.faults[:SHOWN_FAULTS])]
        if len(self.faults) > SHOWN_FAULTS:
            lines.append(f"  and {len(self.faults) - SHOWN_FAULTS:,} more")
        super().__init__(*lines)


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
