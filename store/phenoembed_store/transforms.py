"""Normalisation of embeddings to the controls of their plate, fitted anew where the controls change, and versioned.

``robust``: minus the median of the plate's controls, over their MAD (times 1.4826, so that it estimates a standard
deviation). ``percentile``: the 1st to the 99th percentile of the plate's controls becomes 0 to 1. A feature that does
not vary among a plate's controls has no scale there and becomes 0 on it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import StoreError
from phenoembed_store.whole import whole

KINDS = ("none", "robust", "percentile")
MAD_TO_SD = 1.4826
POOLED = ""
"""The name under which the parameters over all plates' controls are kept: for a vector that comes from no plate."""


@dataclass(frozen=True, eq=False)
class Transform:
    """A fitted transform: x -> (x - offset) * factor, by plate. ``id`` is a hash of all of it.

    offset, factor: (plates, dim), in the order of ``plates``; the last row is POOLED.
    """

    kind: str
    encoder: str
    plates: tuple[str, ...]
    offset: Floats
    factor: Floats

    @cached_property
    def id(self) -> str:
        content = hashlib.sha256(json.dumps([self.kind, self.encoder, self.plates]).encode())
        content.update(self.offset.tobytes())
        content.update(self.factor.tobytes())
        return f"{self.kind}-{content.hexdigest()[:12]}"

    def apply(self, vectors: Floats, plates: Sequence[str]) -> Floats:
        """Vectors (n, dim), each by the controls of its plate."""
        number = {plate: i for i, plate in enumerate(self.plates)}
        names, place = np.unique(np.asarray(plates, dtype=object), return_inverse=True)
        rows = np.array([number[name] for name in names], np.int64)[place]
        found: Floats = (vectors - self.offset[rows]) * self.factor[rows]
        return found


def fit(kind: str, encoder: str, vectors: Floats, plates: Sequence[str], control: Integers) -> Transform:
    """Fit to the controls of each plate; ``control``: their rows. Raises StoreError for a plate that has none."""
    check_kind(kind)
    names = np.asarray(plates, dtype=object)
    check_controls(kind, plates, names[control].tolist())
    by_plate = {plate: control[names[control] == plate] for plate in sorted(set(plates))}
    fitted = [_PARAMETERS[kind](vectors[rows]) for rows in (*by_plate.values(), control)]
    offset = np.stack([one[0] for one in fitted]).astype(np.float32)
    scale = np.stack([one[1] for one in fitted])
    factor = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0).astype(np.float32)
    return Transform(kind, encoder, (*by_plate, POOLED), offset, factor)


def controlled_plates(rows: pa.Table) -> set[str]:
    """The plates that have control wells among these rows (``plate``, ``role``)."""
    plates, roles = rows.column("plate").to_pylist(), rows.column("role").to_pylist()
    return {plate for plate, role in zip(plates, roles, strict=True) if role == "control"}


def check_controls(kind: str, plates: Iterable[str], with_controls: Iterable[str]) -> None:
    """Raise StoreError for a plate that is not among those with controls."""
    without = sorted(set(plates) - set(with_controls))
    if without and kind != "none":
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise StoreError(
            f"'{kind}' is fitted to the control wells of each plate, and {', '.join(without[:3])}{more} has none; "
            "name the controls' role, or use --transform none"
        )


def check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise StoreError(f"no transform '{kind}'; one of: {', '.join(KINDS)}")
    return kind


_RESTORE = "restore it from a backup: it says how each encoder's embeddings are compared"


def chosen(folder: Path) -> dict[str, str]:
    """The kind of transform that was chosen for each encoder. Raises StoreError where that cannot be read."""
    path = folder / "chosen.json"
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        fitted = sorted(folder.glob("*/config.json"))
        if fitted:  # to compare without a transform now would be to answer wrongly
            raise StoreError(
                f"'{path}' is missing, and transforms were fitted ({fitted[0].parent.name}); {_RESTORE}"
            ) from None
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"'{path}' cannot be read ({error}); {_RESTORE}") from None
    return found


def choose(folder: Path, encoder: str, kind: str) -> None:
    """Have an encoder's embeddings compared under this kind of transform from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "chosen.json") as beside:
        beside.write_text(json.dumps({**chosen(folder), encoder: check_kind(kind)}, indent=2))


def save(folder: Path, transform: Transform) -> None:
    """Keep a fitted transform under its id, written beside and renamed; nothing to do where it is there."""
    from safetensors.numpy import save_file

    target = folder / transform.id
    if target.is_dir():
        return
    beside = folder / f".{transform.id}.{uuid4().hex[:8]}"
    beside.mkdir(parents=True)
    save_file({"offset": transform.offset, "factor": transform.factor}, beside / "parameters.safetensors")
    config = {"kind": transform.kind, "encoder": transform.encoder, "plates": list(transform.plates)}
    (beside / "config.json").write_text(json.dumps(config, indent=2))
    try:
        beside.rename(target)
    except OSError:  # another process has just fitted the same
        shutil.rmtree(beside)


def _robust(controls: Floats) -> tuple[Floats, Floats]:
    median = np.median(controls, axis=0)
    return median, MAD_TO_SD * np.median(np.abs(controls - median), axis=0)


def _percentile(controls: Floats) -> tuple[Floats, Floats]:
    low, high = np.percentile(controls, [1, 99], axis=0)
    return low, high - low


_PARAMETERS = {"robust": _robust, "percentile": _percentile}
