"""Keeping a store in order: check every invariant, bring small files together."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phenoembed_store import checksums, indexes
from phenoembed_store.contents import Contents
from phenoembed_store.encoders import encoder_faults
from phenoembed_store.engine import session
from phenoembed_store.errors import PhenoembedError
from phenoembed_store.heads import head_faults
from phenoembed_store.parts import embedding_matrix
from phenoembed_store.schema import IMAGE_KEY
from phenoembed_store.status import stored_bytes
from phenoembed_store.tables import Scan, Table
from phenoembed_store.transforms import chosen

CHUNK = 65_536
"""Rows whose embeddings are checked at once."""
LOOKS = 4
"""Times that a store is looked at whose faults may come of what others write meanwhile."""


@dataclass(frozen=True)
class Fault:
    """Something that should not be, and what to do about it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}"


def compact(contents: Contents, keep_days: float) -> dict[str, int]:
    """Compact and vacuum every table; bytes before and after."""
    before = stored_bytes(contents)
    for table in contents.tables().values():
        table.compact(keep_days * 24)
        table.forget_copies()
    for leftover in _leftovers(contents.path):
        shutil.rmtree(leftover, ignore_errors=True)
    return {"bytes_before": before, "bytes_after": stored_bytes(contents)}


def _leftovers(folder: Path) -> Iterator[Path]:
    """What a killed process was writing beside: hidden folders that nobody has touched for an hour."""
    for pattern in ("indexes/.*", "transforms/.*", "heads/*/.*"):
        for path in folder.glob(pattern):
            if path.is_dir() and time.time() - path.stat().st_mtime > 3600:
                yield path


def verify(contents: Contents) -> list[Fault]:
    """Every fault of the store; an empty list when there is none.

    What is written meanwhile looks like damage (a file that `compact` removed, an image between two tables): then it
    is looked at again.
    """
    for _ in range(LOOKS - 1):
        before = _versions(contents)
        try:
            faults = _faults(contents)
        except PhenoembedError:  # of a table that was sound a moment before
            if _versions(contents) == before:
                raise
            continue
        if not faults or _versions(contents) == before:
            return faults
    return _faults(contents)


def _versions(contents: Contents) -> list[int]:
    """Of every table; none where a log is damaged."""
    try:
        return [table.version() for table in contents.tables().values()]
    except PhenoembedError:
        return []


def _faults(contents: Contents) -> list[Fault]:
    faults: list[Fault] = []
    if contents.mirror is not None:
        contents.mirror.pull(anew=True)  # what lies there is looked at, not the copies
    for name, table in contents.tables().items():
        faults += _table_faults(name, table)
    if faults:
        return faults  # what follows would only stumble over the same
    return [*_image_faults(contents), *_weight_faults(contents), *_index_faults(contents)]


def _table_faults(name: str, table: Table) -> Iterator[Fault]:
    derived = name == "groups"
    fix = f"delete '{table.path}': it is made anew" if derived else f"restore '{table.place}' from a backup"
    try:
        scan = table.at(anew=True)
        for file in scan.files:
            yield from _file_faults(name, Path(file), fix)
    except Exception as error:  # whatever a damaged log makes the libraries raise
        reason = str(error.__cause__ or error).splitlines()[0]
        yield Fault(f"the table '{name}' cannot be opened ({reason})", fix)


def _file_faults(name: str, file: Path, fix: str) -> Iterator[Fault]:
    import duckdb

    if not file.is_file():
        yield Fault(f"the table '{name}' lacks its file '{file.name}'", fix)
        return
    if checksums.is_damaged(file):
        yield Fault(f"the table '{name}': '{file.name}' is damaged (its checksum differs)", fix)
        return
    try:
        with session() as connection:  # reads and decodes every page
            connection.execute("SELECT max(hash(t)) FROM read_parquet($f) t", {"f": str(file)}).fetchall()
    except duckdb.Error as error:
        yield Fault(f"the table '{name}': '{file.name}' is damaged ({str(error).splitlines()[0]})", fix)


def _image_faults(contents: Contents) -> Iterator[Fault]:
    scan = contents.images.at()
    key = [*IMAGE_KEY, "encoder"]
    rows, rejected = scan.read(key), contents.rejected.at().read(key)
    listed = ", ".join(f'"{name}"' for name in key)
    with session() as connection:
        connection.register("images", rows)
        connection.register("rejected", rejected)
        doubled = connection.sql(f"SELECT 1 FROM images GROUP BY {listed} HAVING count(*) > 1").fetchall()
        both = connection.sql(f"SELECT 1 FROM images JOIN rejected USING ({listed})").fetchall()
    if doubled:
        yield Fault(f"{len(doubled)} images are in the store twice", "`phenoembed delete` them, and index again")
    if both:
        yield Fault(f"{len(both)} images are both stored and rejected", "index their plates again")
    for name in rows.column("encoder").unique().to_pylist():
        yield from _embedding_faults(scan, name)


def _embedding_faults(scan: Scan, encoder: str) -> Iterator[Fault]:
    fix = f"delete them (encoder = '{encoder}') and index or import again"
    column = scan.read(["embedding"], '"encoder" = $p0', [encoder]).column("embedding")
    try:
        vectors = embedding_matrix(column, encoder)
    except PhenoembedError as error:
        yield Fault(str(error), fix)
        return
    bad = sum(int((~np.isfinite(vectors[i : i + CHUNK]).all(axis=1)).sum()) for i in range(0, len(vectors), CHUNK))
    if bad:
        yield Fault(f"{bad} embeddings of '{encoder}' are not finite", fix)


def _index_faults(contents: Contents) -> Iterator[Fault]:
    for folder, manifest in indexes.manifests(contents.path / "indexes"):
        damage = "its manifest cannot be read" if manifest is None else indexes.first_damage(folder, manifest)
        if damage and folder.is_dir():  # another process may have made a newer one meanwhile
            yield Fault(f"index '{folder.name}': {damage}", "nothing to do: the next search makes it anew")


def _weight_faults(contents: Contents) -> Iterator[Fault]:
    found: list[PhenoembedError] = [*encoder_faults(contents.path / "encoders"), *head_faults(contents.path / "heads")]
    try:
        chosen(contents.path / "transforms")
    except PhenoembedError as error:
        found.append(error)
    for one in found:
        what, _, fix = str(one).rpartition("; ")
        yield Fault(what, fix)
