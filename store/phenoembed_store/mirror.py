"""A store in object storage, and the folder of this machine that stands for it.

The tables lie at the store's address and nowhere else; the folder holds copies of their files, which never change. The
small files (encoders, heads, transforms, light of plates) are kept alike on both sides: brought here when the store is
opened or its images change, sent there as they are written. What is derived (indexes, thumbnails, groups, pixels and
runs of trainings) is in the folder alone. The folder can be deleted at any time: everything is brought, or made, again.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phenoembed_store import remote
from phenoembed_store.whole import whole

FOLDERS = ("encoders", "heads", "transforms", "plates")

Facts = list[int]  # of a file, as both sides had it when they were alike: size and time there, size and time here


@dataclass(frozen=True)
class Mirror:
    """The small files of the store at ``url`` (s3://bucket/prefix), kept alike with those in ``folder``."""

    url: str
    folder: Path

    def pull(self, *, anew: bool = False) -> None:
        """Bring what is new there (``anew``: all of it), remove here what is gone there. Raises StoreError."""
        with self._alike() as known:
            there = self._there(FOLDERS)
            same = [] if anew else [name for name in there if known.get(name, [])[:2] == list(there[name])]
            wanted = sorted(set(there) - {name for name in same if (self.folder / name).is_file()})
            remote.download(self.url, _in_order(wanted), self.folder)
            for name in set(known) - set(there):
                (self.folder / name).unlink(missing_ok=True)
                del known[name]
            known |= {name: [*there[name], *self._here(name)] for name in wanted}

    def push(self) -> None:
        """Send what was written here. Raises StoreError."""
        with self._alike() as known:
            changed = [name for name in self._names() if known.get(name, [])[2:] != self._here(name)]
            if not changed:
                return
            sent = {name: self._here(name) for name in changed}
            remote.upload(self.folder, _in_order(changed), self.url)
            there = self._there({name.partition("/")[0] for name in changed})
            known |= {name: [*there[name], *here] for name, here in sent.items() if name in there}

    def n_bytes(self) -> int:
        """Bytes of everything that lies at the address. Raises StoreError."""
        return sum(entry.n_bytes for entry in remote.listing(self.url).values())

    def _there(self, folders: Iterable[str]) -> dict[str, remote.Entry]:
        listed = ((folder, remote.listing(f"{self.url}/{folder}")) for folder in folders)
        return {f"{folder}/{name}": entry for folder, entries in listed for name, entry in entries.items()}

    def _names(self) -> list[str]:
        files = (path for folder in FOLDERS for path in (self.folder / folder).rglob("*") if path.is_file())
        names = (path.relative_to(self.folder).as_posix() for path in files)
        return [name for name in names if "/." not in name and not name.endswith(".part")]  # those are not whole

    def _here(self, name: str) -> Facts:
        found = (self.folder / name).stat()
        return [found.st_size, found.st_mtime_ns]

    @contextmanager
    def _alike(self) -> Iterator[dict[str, Facts]]:
        """What was alike when last looked at, to be changed; processes of this machine take turns."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / ".alike.json"
        with FileLock(self.folder / ".alike.lock"):
            try:
                known: dict[str, Facts] = json.loads(file.read_text())
            except (OSError, ValueError):
                known = {}
            yield known
            with whole(file) as beside:
                beside.write_text(json.dumps(known))


def mirror_of(store: str | Path) -> Mirror | None:
    """The mirror of a store in object storage, below ``$XDG_CACHE_HOME/phenoembed``; None for a folder's."""
    url = remote.url_of(store)
    if url is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phenoembed"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", url.removeprefix("s3://"))[-80:]
    place = f"{os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL') or ''} {url}"
    return Mirror(url, (cache / f"{readable}-{hashlib.sha256(place.encode()).hexdigest()[:8]}").absolute())


@contextmanager
def mirrored(store: Path) -> Iterator[Path]:
    """A store's folder on this machine; what is written into it lies at the store's address afterwards."""
    mirror = mirror_of(store)
    if mirror is None:
        yield store
        return
    mirror.pull()
    try:
        yield mirror.folder
    finally:
        mirror.push()


def folder_of(store: Path) -> Path:
    """A store's folder on this machine, as the store is now."""
    mirror = mirror_of(store)
    if mirror is None:
        return store
    mirror.pull()
    return mirror.folder


def _in_order(names: Iterable[str]) -> list[str]:
    """``config.json`` last in its folder: where it is, the rest is."""
    return sorted(names, reverse=True)
