"""The encoders of a store: what each is, and which one is meant."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.records import read_record
from phenoembed_store.whole import whole

_FILES = ("config.json", "model.safetensors", "fold.json")
_FIX = "restore it from a backup, or delete its folder and train again"


@dataclass(frozen=True)
class EncoderInfo:
    """One encoder. ``imported``: its embeddings came from elsewhere, and it has no weights here."""

    id: str
    method: str
    split: str | None = None
    fold: int | None = None
    dim: int = 0
    trained_at: str = ""
    untrained: bool = False
    imported: bool = False
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read_encoders(folder: Path, with_images: Mapping[str, int]) -> list[EncoderInfo]:
    """Encoders that have a folder, oldest first; then those that only imported embeddings speak of.

    with_images: the encoders named in the images table, with the dimension of their embeddings. Imported ones are
    nothing without them: of an import that failed, or whose images were all deleted, only the folder is left.
    """
    every = [_read(path) for path in _folders(folder)]
    found = [encoder for encoder in every if encoder.id in with_images or not encoder.imported]
    known = {encoder.id for encoder in found}
    foreign = [
        EncoderInfo(name, "imported", dim=dim, imported=True) for name, dim in with_images.items() if name not in known
    ]
    return [*sorted(found, key=lambda encoder: (encoder.trained_at, encoder.id)), *foreign]


def ids(folder: Path) -> set[str]:
    """The encoders that have a folder."""
    return {path.parent.name for path in folder.glob("*/config.json")}


def last_trained(folder: Path) -> str | None:
    """The encoder that was trained last."""
    trained = [encoder.id for encoder in read_encoders(folder, {}) if not encoder.untrained and not encoder.imported]
    return trained[-1] if trained else None


def only_imported(encoders: Sequence[EncoderInfo]) -> str:
    """The one set of imported embeddings. Raises NotInStore."""
    imported = [encoder.id for encoder in encoders if encoder.imported]
    if len(imported) > 1:
        raise NotInStore(f"several sets of embeddings were imported ({', '.join(imported)}); choose: --encoder ID")
    if not imported:
        raise NotInStore("the store has no trained encoder; run: phenoembed train PLATES")
    return imported[0]


def resolve_encoder(encoders: Sequence[EncoderInfo], prefix: str) -> str:
    """The id that starts with ``prefix``. Raises NotInStore."""
    ids = [encoder.id for encoder in encoders]
    if not prefix:
        raise NotInStore(f"an encoder's id cannot be empty; the store has: {', '.join(ids) or 'none'}")
    matches = [name for name in ids if name == prefix] or [name for name in ids if name.startswith(prefix)]
    if not matches:
        raise NotInStore(f"no encoder '{prefix}' in the store; it has: {', '.join(ids) or 'none'}")
    if len(matches) > 1:
        raise NotInStore(f"encoder '{prefix}' may be any of: {', '.join(matches)}")
    return matches[0]


def features_of(folder: Path, name: str) -> list[str] | None:
    """The names of an imported encoder's features, in their order; None for an encoder that was not imported."""
    path = folder / name
    return _read(path).config.get("features") if (path / "config.json").is_file() else None


def write_imported(folder: Path, name: str, features: Sequence[str], source: str) -> None:
    """Keep what imported embeddings are: where from, and the names of their numbers."""
    config = {
        "id": name,
        "method": "imported",
        "imported": True,
        "dim": len(features),
        "source": source,
        "trained_at": datetime.now(UTC).isoformat(),
        "features": list(features),
    }
    (folder / name).mkdir(parents=True, exist_ok=True)
    with whole(folder / name / "config.json") as beside:
        beside.write_text(json.dumps(config, indent=2))


def weights_id(weights: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The id of the encoder that has these weights: a hash of them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].tobytes())
    return digest.hexdigest()[:12]


def encoder_faults(folder: Path) -> Iterator[StoreError]:
    """What is wrong with the files of each encoder: every byte of its weights is read."""
    for path in _folders(folder):
        try:
            _check(path)
        except StoreError as error:
            yield error


def _check(path: Path) -> None:
    from safetensors.numpy import load_file

    info, file = _read(path), path / "model.safetensors"
    if info.imported:
        return
    if not file.is_file():
        raise StoreError(f"'{file}' is missing; {_FIX}")
    try:
        damaged = weights_id(load_file(file)) != path.name
    except Exception as error:  # safetensors raises its own kinds
        raise StoreError(f"'{file}' cannot be read ({error}); {_FIX}") from None
    if damaged:
        raise StoreError(f"'{file}' is damaged (its weights do not match the encoder's id); {_FIX}")
    if not info.untrained:
        read_record(path / "fold.json", _FIX)


def _folders(folder: Path) -> list[Path]:
    """The folders of encoders, whichever of their files have been lost."""
    return sorted({path.parent for name in _FILES for path in folder.glob(f"[!.]*/{name}")})


def _read(path: Path) -> EncoderInfo:
    config = read_record(path / "config.json", _FIX)
    return EncoderInfo(
        id=str(config.get("id", path.name)),
        method=str(config.get("method", "")),
        split=config.get("split"),
        fold=config.get("fold"),
        dim=int(config.get("dim", 0)),
        trained_at=str(config.get("trained_at", "")),
        untrained=bool(config.get("untrained", False)),
        imported=bool(config.get("imported", False)),
        config=config,
    )
