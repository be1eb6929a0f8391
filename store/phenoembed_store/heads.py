"""Heads: small classifiers over frozen embeddings, kept as plain arrays. Their evidence adds over images."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from phenoembed_store.aggregate import Floats
from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.records import read_record
from phenoembed_store.whole import whole

WEIGHTS = ("w1", "b1", "w2", "b2")
ATTENTION = ("attention_v", "attention_v_bias", "attention_u", "attention_u_bias", "attention_w")
"""Arrays that an ``attention`` head has besides: (units, dim), (units,), (units, dim), (units,), (units,)."""

CONTROL = ("control_w", "control_b")
"""Arrays of a head that knows controls (doubt.py), what w2 and b2 are of a class: (hidden,), (1,)."""
KNOWLEDGE = ("configurations", "control_odds")
"""What the config of such a head says of its training: see ``doubt.new_configurations``."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Head:
    """A classifier g: relu(E w1ᵀ + b1) w2ᵀ + b2, as it is in eval mode (batch norm folded into w1 and b1).

    w1: (hidden, dim); b1: (hidden,); w2: (classes, hidden); b2: (classes,). ``config`` names the encoder, the method,
    the temperature (default 1), the fold and the metrics. ``extra``: arrays that a method needs besides, by name: those
    of ATTENTION, those of CONTROL. How each method makes a posterior of them: posterior.py.
    """

    task: str
    classes: tuple[str, ...]
    w1: Floats
    b1: Floats
    w2: Floats
    b2: Floats
    config: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, shape in self._shapes().items():
            found = np.shape(getattr(self, name) if name in WEIGHTS else self.extra.get(name, np.float32(0)))
            if found != shape:
                raise StoreError(f"head '{self.task}' ({self.method}): {name} has the shape {found}, not {shape}")

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, dim = self.w1.shape
        shapes: dict[str, tuple[int, ...]] = {"b1": (hidden,), "w2": (len(self.classes), hidden)}
        shapes["b2"] = (len(self.classes),)
        if self.knows_controls:
            shapes |= {"control_w": (hidden,), "control_b": (1,)}
        if self.method == "attention":
            units = np.size(self.extra.get("attention_w", ()))
            shapes |= {name: (units, dim) if name[-2:] in ("_v", "_u") else (units,) for name in ATTENTION}
        return shapes

    def __repr__(self) -> str:
        hidden, dim = self.w1.shape
        return f"Head({self.task}, {len(self.classes)} classes, {dim} -> {hidden})"

    @property
    def method(self) -> str:
        return str(self.config.get("method", "product"))

    @property
    def temperature(self) -> float:
        return float(self.config.get("temperature", 1.0))

    @property
    def knows_controls(self) -> bool:
        """Whether it tells an image from those of controls."""
        return any(name in self.extra for name in CONTROL)

    def activations(self, embeddings: Floats) -> Floats:
        """h(x), (images, hidden): what adds over a group."""
        found: Floats = np.maximum(embeddings @ self.w1.T + self.b1, 0, dtype=np.float32)
        return found

    def logits(self, embeddings: Floats) -> Floats:
        """Class scores of single images, (images, classes)."""
        found: Floats = self.activations(embeddings) @ self.w2.T + self.b2
        return found


@dataclass(frozen=True)
class HeadInfo:
    """One saved head, its weights unread."""

    id: str
    task: str
    encoder: str
    n_classes: int
    saved_at: str
    config: Mapping[str, Any] = field(repr=False)


def save_head(folder: Path, head: Head) -> str:
    """Write a head to ``folder/<task>/<id>/``, beside and renamed; the id is a hash of its content."""
    from safetensors.numpy import save

    arrays = {name: getattr(head, name) for name in WEIGHTS} | dict(head.extra)
    weights = save({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()})
    config = {name: value for name, value in head.config.items() if name not in ("id", "saved_at")}
    content = {**config, "task": head.task, "classes": list(head.classes)}
    content = json.loads(json.dumps(content, default=str))  # as it is read again: `head_faults` compares
    digest = _digest(weights, content)
    target = folder / head.task / digest
    if target.is_dir():
        _write_config(target, content, digest)  # saved again: now it is the newest
        return digest
    beside = folder / head.task / f".{digest}.{uuid4().hex[:8]}"
    beside.mkdir(parents=True)
    (beside / "head.safetensors").write_bytes(weights)
    _write_config(beside, content, digest)
    try:
        beside.rename(target)
    except OSError:  # another process has just saved the same head
        shutil.rmtree(beside)
    return digest


def list_heads(folder: Path) -> list[HeadInfo]:
    """Every head, oldest first."""
    return sorted((_read_info(path) for path in _folders(folder)), key=lambda head: (head.saved_at, head.id))


def head_faults(folder: Path) -> Iterator[StoreError]:
    """What is wrong with the files of each head: every byte of its content is read."""
    for path in _folders(folder):
        try:
            _read_head(path)
        except StoreError as error:
            yield error


def load_head(folder: Path, name: str, encoder: str | None) -> Head:
    """The newest head of a task (for an encoder), or the head whose id starts with ``name``.

    Raises NotInStore, too where several ids start so.
    """
    heads = list_heads(folder)
    matches = [h for h in heads if h.task == name and encoder in (None, h.encoder)] or [
        h for h in heads if name and h.id.startswith(name)
    ]
    if not matches:
        there = ", ".join(sorted({f"{h.task} (encoder {h.encoder})" for h in heads})) or "none"
        meant = f"'{name}'" + (f" for encoder '{encoder}'" if encoder else "")
        raise NotInStore(f"no head {meant}; there is: {there}")
    if matches[-1].task != name and len(several := {h.id for h in matches}) > 1:
        raise NotInStore(f"head '{name}' may be any of: {', '.join(sorted(several))}")
    return _read_head(folder / matches[-1].task / matches[-1].id)


_FIX = "restore it from a backup, or delete its folder and probe again"


def _folders(folder: Path) -> set[Path]:
    """The folders of heads, whichever of their files have been lost."""
    return {path.parent for name in ("config.json", "head.safetensors") for path in folder.glob(f"*/[!.]*/{name}")}


def _read_info(path: Path) -> HeadInfo:
    config = read_record(path / "config.json", _FIX)
    try:
        return HeadInfo(
            id=str(config["id"]),
            task=str(config["task"]),
            encoder=str(config.get("encoder", "")),
            n_classes=len(config["classes"]),
            saved_at=str(config["saved_at"]),
            config=config,
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"'{path / 'config.json'}' is no head's ({error}); {_FIX}") from None


def _read_head(path: Path) -> Head:
    """The head in a folder. Raises StoreError where it is not as it was saved."""
    from safetensors.numpy import load

    config, file = dict(_read_info(path).config), path / "head.safetensors"
    try:
        content = file.read_bytes()
        weights = load(content)
        own = {name: weights.pop(name) for name in WEIGHTS}
    except Exception as error:  # safetensors raises its own kinds
        raise StoreError(f"'{file}' cannot be read ({error}); {_FIX}") from None
    if _digest(content, {name: value for name, value in config.items() if name not in ("id", "saved_at")}) != path.name:
        raise StoreError(f"'{path}' is damaged (the head in it does not match its id); {_FIX}")
    return Head(str(config["task"]), tuple(config["classes"]), **own, config=config, extra=weights)


def _digest(weights: bytes, content: Mapping[str, Any]) -> str:
    """A head's id."""
    return hashlib.sha256(weights + json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _write_config(folder: Path, content: Mapping[str, Any], digest: str) -> None:
    text = json.dumps({**content, "id": digest, "saved_at": datetime.now(UTC).isoformat()}, indent=2, default=str)
    with whole(folder / "config.json") as beside:
        beside.write_text(text)
