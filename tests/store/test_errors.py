"""Errors quote what users wrote, on lines of their own."""

import string
import unicodedata

import pytest

from phenoembed_store.errors import (
    LONGEST_LINE,
    SHOWN_OF_A_KIND,
    ManifestError,
    PhenoembedError,
    one_line,
    some_faults,
)

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("text", [*LINE_ENDS, "\0", "\x1b[2J", "\u200b", "\u202e", "\udcff", "\xa0"])
def test_what_breaks_or_hides_is_shown(text: str) -> None:
    """A line end, an escape of the terminal, an invisible or a broken character is written as repr writes it."""
    line = f"plate '{text}' is not known"
    for error in (PhenoembedError(line), ManifestError(f"folder{text}", [line])):
        (shown,) = str(error).splitlines()
        assert repr(text)[1:-1] in shown
        shown.encode()
    assert ManifestError("x", [line, line]).faults == (one_line(line),) * 2


def test_names_stay_as_they_are() -> None:
    """What can be read is not changed: letters of any language, quotation marks, backslashes."""
    for text in (string.printable.split("\t")[0], "5 µM paclitaxél 紫杉醇", r"C:\plates\'P1'"):
        assert one_line(unicodedata.normalize("NFC", text)) == unicodedata.normalize("NFC", text)


def test_a_fault_is_a_line_however_long() -> None:
    """Of a cell that holds a whole file the beginning and the end are told; of many faults the first ones."""
    cell = "x\n" * 100_000
    error = ManifestError("manifest.csv", [f"row {row}: '{cell}' is no well" for row in range(200)])
    lines = str(error).splitlines()
    assert len(lines) == 1 + SHOWN_OF_A_KIND + 1
    assert lines[-1] == "  and 190 more like it"
    assert all(len(line) < 2 * LONGEST_LINE for line in lines)
    assert lines[1].startswith("  row 0: 'x\\nx")
    assert lines[1].endswith("is no well")


def test_of_a_million_faults_each_kind_is_told_and_counted() -> None:
    """Every fault is shown or counted, whatever the limit; a rare kind is not hidden by a common one."""
    faults = [f"row {row}: no file 'P{row}/{row * 7}.tif'" for row in range(100_000)]
    faults[60_000] = "row 60000: well 'Z99' is no well (rows A-AF, columns 1-48)"
    lines = some_faults(faults)
    assert lines == [*faults[:SHOWN_OF_A_KIND], "and 99,989 more like it", faults[60_000]]
    kinds = [f"{letter} is empty" for letter in string.ascii_letters for _ in range(12)]
    for limit in (1, 10, 11, 12, 100, 1000):
        lines = some_faults(kinds, limit)
        assert len(lines) <= limit + 1
        told = sum(int(line.split()[1]) if line.startswith("and ") else 1 for line in lines)
        assert told == len(kinds)
