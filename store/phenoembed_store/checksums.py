"""A checksum of each file of a table, beside it: Parquet as the Delta library writes it has none of its own.

``_checksums/NAME.crc32`` holds the CRC-32 of the table's file NAME, taken when it was committed. Files never
change, so one whose bytes have another is damaged; of a file that has no checksum nothing can be said.
"""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from phenoembed_store.whole import whole

FOLDER = "_checksums"
"""Delta leaves folders alone whose name begins so."""

CHUNK = 2**22


def kept_as(name: str) -> str:
    """Where the checksum of a table's file is kept, as named from the table."""
    return f"{FOLDER}/{name}.crc32"


def crc32(file: Path) -> str:
    """The CRC-32 of a file's bytes, as eight hexadecimal digits. Raises OSError."""
    found = 0
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            found = zlib.crc32(chunk, found)
    return f"{found:08x}"


def keep(table: Path, names: Iterable[str]) -> list[str]:
    """Write the checksums of these files of a table; their own files, as named from the table. Raises OSError."""
    (table / FOLDER).mkdir(exist_ok=True)
    written = []
    for name in names:
        with whole(table / kept_as(name)) as beside:
            beside.write_text(f"{crc32(table / name)}\n")
        written.append(kept_as(name))
    return written


def is_damaged(file: Path) -> bool:
    """Whether a file's bytes are others than were written; False where nobody took its checksum. Raises OSError."""
    try:
        kept = (file.parent / kept_as(file.name)).read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return re.fullmatch("[0-9a-f]{8}", kept) is not None and crc32(file) != kept


def forget(table: Path) -> None:
    """Remove the checksums of files that are no more."""
    for path in (table / FOLDER).glob("*"):
        if not (table / path.stem).is_file():
            path.unlink(missing_ok=True)
