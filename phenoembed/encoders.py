"""Trained encoders on disk: ``encoders/<id>/`` holds model.safetensors, config.json and, where trained, fold.json."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from phenoembed.folds import Fold
from phenoembed.methods import GroupClassifier, build_method
from phenoembed.model import EMBEDDING_DIM, Encoder, pick_device
from phenoembed.preparation import preparation_of
from phenoembed_store.encoders import weights_id
from phenoembed_store.errors import StoreError


@dataclass(frozen=True)
class TrainedEncoder:
    """An encoder in eval mode, with what is needed to use it. ``config`` is its config.json."""

    id: str
    encoder: Encoder
    config: dict[str, Any]

    def __repr__(self) -> str:
        kind = "untrained" if self.config["untrained"] else f"{self.config['method']}, {self.config['epochs']} epochs"
        return f"TrainedEncoder({self.id}: {kind})"

    @property
    def size(self) -> int | None:
        """Pixels of the shorter side it was trained at; None for native size."""
        size: int | None = self.config["size"]
        return size


def save_encoder(
    store: Path, encoder: Encoder, head: GroupClassifier | None, config: dict[str, Any], fold: Fold | None
) -> str:
    """Write an encoder (and its classifier) beside and rename; return its id, the hash of its weights."""
    weights = {f"encoder.{name}": value for name, value in _state(encoder).items()}
    if head is not None:
        weights |= {f"head.{name}": value for name, value in _state(head).items()}
    # how pixels reach the network is part of it: the same untrained weights at another size are another encoder
    pixels = [config["pixel_mean"], config["pixel_sd"], config["size"] or 0]
    weights["pixels"] = torch.tensor(pixels, dtype=torch.float64)
    if prepared := preparation_of(config).digest():
        weights["preparation"] = torch.frombuffer(bytearray(prepared.encode()), dtype=torch.uint8)
    if head is not None and config["method"] != "product":
        # where each group is one image, two methods end with the same weights, but are not the same encoder
        weights["method"] = torch.frombuffer(bytearray(config["method"].encode()), dtype=torch.uint8)
    identifier = _id(weights)
    folder = store / "encoders" / identifier
    beside = store / f".encoder-{identifier}.tmp"  # outside of encoders/: what lies there is whole
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    (beside / "model.safetensors").write_bytes(save(weights))
    (beside / "config.json").write_text(json.dumps({"id": identifier, "dim": EMBEDDING_DIM, **config}, indent=2))
    if fold is not None:
        fold.save(beside / "fold.json")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():  # trained again: what was damaged is mended, and it is the newest
        for file in sorted(beside.iterdir(), reverse=True):  # model.safetensors first, config.json last
            file.replace(folder / file.name)
        beside.rmdir()
    else:
        beside.rename(folder)
    return identifier


def load_encoder(store: Path, identifier: str) -> TrainedEncoder:
    """The encoder ``identifier`` in eval mode, on the device chosen. Raises StoreError where its files are damaged."""
    config, weights = _read(store, identifier)
    encoder = Encoder()
    _load(encoder, weights, "encoder.", identifier)
    encoder.to(pick_device(), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return TrainedEncoder(identifier, encoder, config)


def load_classifier(store: Path, identifier: str) -> GroupClassifier:
    """The classifier an encoder was trained with, in eval mode, on the CPU."""
    config, weights = _read(store, identifier)
    head = build_method(
        config["method"], len(config["classes"]), config["dim"], controls=config.get("control_odds") is not None
    )
    _load(head, weights, "head.", identifier)
    return head.eval()


def load_fold(store: Path, identifier: str) -> Fold:
    """The fold an encoder was trained on. Raises StoreError where its file is damaged."""
    path = store / "encoders" / identifier / "fold.json"
    try:
        return Fold.load(path)
    except Exception as error:  # json and what is in it raise their own kinds
        raise StoreError(f"'{path}' cannot be read ({error}); restore it from a backup, or train again") from error


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}


def _id(weights: dict[str, Tensor]) -> str:
    return weights_id({name: value.numpy() for name, value in weights.items()})


def _read(store: Path, identifier: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = store / "encoders" / identifier
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        weights = load_file(folder / "model.safetensors")
    except Exception as error:  # safetensors and json raise their own kinds
        raise StoreError(f"encoder {identifier} cannot be read ({error}); train again or restore {folder}") from error
    if _id(weights) != identifier:
        raise StoreError(f"encoder {identifier}: its weights do not match its id; {folder} was changed or damaged")
    return config, weights


def _load(module: nn.Module, weights: dict[str, Tensor], prefix: str, identifier: str) -> None:
    try:
        module.load_state_dict(
            {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        )
    except RuntimeError as error:
        raise StoreError(f"encoder {identifier} does not fit this version of phenoembed: {error}") from error
