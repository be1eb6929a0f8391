"""What a store keeps at hand between calls: every encoder's images as last read, until the tables change."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock

from phenoembed_store import encoders, transforms, writing
from phenoembed_store.encoders import EncoderInfo
from phenoembed_store.images import Images
from phenoembed_store.levels import Level, build_level
from phenoembed_store.loading import load_images
from phenoembed_store.mirror import Mirror
from phenoembed_store.tables import Scan, Table


@dataclass(frozen=True)
class _Loaded:
    """One encoder's images as last read, and the levels made from them."""

    versions: tuple[int, int, str]
    images: Images
    levels: dict[str, Level] = field(default_factory=dict)


@dataclass(frozen=True)
class _Dims:
    """The encoders named in the images table at one version, with the length of their embeddings."""

    version: int = -1
    files: tuple[str, ...] = ()
    by_encoder: dict[str, int] = field(default_factory=dict)


class Reader:
    """Reads a store's images. Looking whether anything has changed costs a few microseconds, at every call."""

    def __init__(self, path: Path, images: Table, annotations: Table, mirror: Mirror | None = None) -> None:
        self._mirror = mirror
        self._images = images
        self._annotations = annotations
        self._encoders = str(path / "encoders")
        self._transforms = str(path / "transforms")
        self._indexes = path / "indexes"
        self._loaded: dict[str, _Loaded] = {}
        self._loading = RLock()
        self._dims = _Dims()
        self._version = -1
        self._default: tuple[tuple[int, int], str] = ((-2, -2), "")
        self._kinds: tuple[tuple[int, int], dict[str, str]] = ((-2, -2), {})

    def images_of(self, encoder: str | None) -> Images:
        """An encoder's images (the default one's) as the tables are now. Raises NotInStore."""
        version = self._version = self._images.newest(self._version)
        name = self._default_at(version) if encoder is None else self.resolve_encoder(encoder)
        held = self._loaded.get(name)
        known = held.versions if held else (-1, -1, "")
        newest = (version, self._annotations.newest(known[1]))
        if held is not None and self._mirror is not None and newest != known[:2]:
            self._mirror.pull()  # a transform may have come with it
        versions = (*newest, self._chosen_kind(name))
        if held is not None and known == versions:
            return held.images
        with self._loading:  # of many callers who find it changed, one reads, and the others wait
            held = self._loaded.get(name)
            if held is None or held.versions != versions:
                held = self._loaded[name] = _Loaded(versions, self.load(name, versions[2]))
            return held.images

    def load(self, encoder: str, kind: str) -> Images:
        """An encoder's images under a kind of transform, read anew."""
        makes_indexes = self._images.pinned is None  # one of an old version would replace the newest
        annotated = self._annotations.at().read()
        held = self._loaded.get(encoder)
        opened = held.images.index if held else None
        return load_images(
            self._images.at(), encoder, annotated, kind, self._indexes, make=makes_indexes, opened=opened
        )

    def forget(self, encoder: str) -> None:
        """Read this encoder's images anew when they are next asked for."""
        self._loaded.pop(encoder, None)

    def level(self, images: Images, name: str) -> Level:
        """All of the images, aggregated to a level."""
        held = self._loaded.get(images.encoder)
        if held is None or held.images is not images:  # replaced by a newer version since
            return build_level(images, name)
        with self._loading:
            if name not in held.levels:
                held.levels[name] = build_level(images, name)
        return held.levels[name]

    def dims(self) -> dict[str, int]:
        """The encoders named in the images table, with the length of their embeddings."""
        version = self._images.newest(self._dims.version)
        if version != self._dims.version:
            if self._dims.version >= 0 and self._mirror is not None:
                self._mirror.pull()  # with the images come encoders
            self._dims = self._count_dims(self._images.at())
        return self._dims.by_encoder

    def _count_dims(self, scan: Scan) -> "_Dims":
        """Files never change: those that were read before are not read again."""
        appended = set(self._dims.files) <= set(scan.files)
        found = dict(self._dims.by_encoder) if appended else {}
        late = scan.without(frozenset(self._dims.files)) if appended else scan
        names = set(late.read(["encoder"]).column("encoder").unique().to_pylist())
        found |= {name: writing.stored_dim(late, name) or 0 for name in names - set(found)}
        return _Dims(scan.version, scan.files, dict(sorted(found.items())))

    def encoders(self) -> list[EncoderInfo]:
        """The encoders of this store, oldest first."""
        return encoders.read_encoders(Path(self._encoders), self.dims())

    def default_encoder(self) -> str:
        """The last trained encoder; where none was trained, the one whose embeddings were imported.

        Raises NotInStore where there is none.
        """
        return self._default_at(self._images.newest(self._default[0][1]))

    def _default_at(self, version: int) -> str:
        state = (_touched(self._encoders)[0], version)
        if self._default[0] != state:  # an encoder is renamed into place, which touches the folder
            last = encoders.last_trained(Path(self._encoders))
            self._default = (state, last or encoders.only_imported(self.encoders()))
        return self._default[1]

    def resolve_encoder(self, prefix: str | None) -> str:
        """The encoder whose id starts with ``prefix``; the default one for None. Raises NotInStore."""
        if prefix is None:
            return self.default_encoder()
        whole = prefix in self._loaded or prefix in encoders.ids(Path(self._encoders))
        return prefix if whole else encoders.resolve_encoder(self.encoders(), prefix)

    def _chosen_kind(self, encoder: str) -> str:
        state = _touched(f"{self._transforms}/chosen.json")
        if self._kinds[0] != state:
            self._kinds = (state, transforms.chosen(Path(self._transforms)))
        return self._kinds[1].get(encoder, "none")


def _touched(path: str) -> tuple[int, int]:
    """When a file or folder was last changed, and which one it is; -1 for one that is not there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (-1, -1)
    return (found.st_mtime_ns, found.st_ino)
