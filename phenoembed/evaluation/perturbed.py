"""Table 4: how much do blur and noise cost? The images of the tested groups are encoded again, perturbed.

As in the paper, pixels are perturbed after standardisation (their sd is about 1), and nothing is trained again.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from phenoembed.embedding import BATCH_IMAGES
from phenoembed.evaluation.held_out import HeldOut, Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of
from phenoembed.evaluation.paper import TABLE_4
from phenoembed.evaluation.tally import Tally, method_rows
from phenoembed.inference import Network
from phenoembed.metrics import multiclass_metrics
from phenoembed.pixels import resize
from phenoembed.planes import Source, size_and_time
from phenoembed.plate_light import preparer_for
from phenoembed.preparation import Preparer
from phenoembed.progress import Progress
from phenoembed.stacks import planes_of
from phenoembed_store.errors import ImageError
from phenoembed_store.schema import Z_STACK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORIGINAL = "original"
BLUR = (3, 5, 11)  # pixels of the kernel; the paper, Section 5.8
NOISE = (0.1, 0.2, 0.5)  # sd of the noise, in sd of the pixels

Change = Callable[[Tensor], Tensor]


def compare_blur(trials: Trials, progress: Progress) -> Outcome:
    """Gaussian blur; sigma follows from the kernel as torchvision has it: 0.3 ((k - 1) / 2 - 1) + 0.8."""

    def blur(kernel: int) -> Change:
        return lambda images: transforms.gaussian_blur(images, [kernel, kernel])

    return _compare("blur", "kernel", {kernel: blur(kernel) for kernel in BLUR}, TABLE_4_COLUMNS[:4], trials, progress)


def compare_noise(trials: Trials, progress: Progress) -> Outcome:
    """Gaussian noise, the same on every run."""
    columns = (TABLE_4_COLUMNS[0], *TABLE_4_COLUMNS[4:])
    return _compare("noise", "sd", {sd: gaussian_noise(sd) for sd in NOISE}, columns, trials, progress)


def gaussian_noise(sd: float) -> Change:
    """Adds noise that goes on from call to call: no two batches of images get the same."""
    generator = torch.Generator().manual_seed(0)
    return lambda images: images + sd * torch.randn(images.shape, generator=generator).to(images.device)


TABLE_4_COLUMNS = tuple(range(7))


def _compare(
    name: str, what: str, changes: dict[Any, Change], columns: tuple[int, ...], trials: Trials, progress: Progress
) -> Outcome:
    tally = Tally()
    for held in trials.held_out(progress):
        for variant, groups in {ORIGINAL: held, **reencoded(trials, held, changes)}.items():
            tally.add(held.cell, variant, held.fold, multiclass_metrics(groups.scores(), groups.labels))
    variants = (ORIGINAL, *changes)
    spoken = (ORIGINAL, *(f"{what} {value:g}" for value in changes))

    def paper(method: str) -> tuple[Any, ...] | None:
        return tuple(TABLE_4[method][i] for i in columns) if method in TABLE_4 else None

    table = Table(
        f"Top-1 accuracy [%] with Gaussian {name}",
        ("method", "test groups", *spoken),
        method_rows(trials, trials.methods, lambda cell: tuple(tally.cell(cell, v, "top1") for v in variants), paper),
    )
    return Outcome(
        name,
        data_of(trials.screens),
        (table,),
        {name: tally.document()},
        lambda figure: _draw(figure, tally, variants, spoken),
        trials.notes,
    )


def reencoded(trials: Trials, held: HeldOut, changes: dict[Any, Change]) -> dict[Any, HeldOut]:
    """The same groups with the embeddings of their images after each change. Raises ImageError naming a file."""
    network = Network(trials.store.path, held.encoder)
    sizes = held.images.column("file_bytes").to_pylist()
    names = [name for name in ("path", Z_STACK) if name in held.images.column_names]
    sources = [planes_of(row)[0] for row in held.images.select(names).to_pylist()]
    preparer = preparer_for(held.images, sources, network.preparation, trials.store.path)
    changed = {name: held.vectors.copy() for name in changes}
    for start in range(0, len(held.rows), BATCH_IMAGES):
        rows = held.rows[start : start + BATCH_IMAGES]
        pixels = [_pixels(sources[row], row, sizes[row], preparer, network.size) for row in rows]
        for name, change in changes.items():
            changed[name][rows] = network.embed(pixels, change=change)
    return {name: replace(held, vectors=vectors) for name, vectors in changed.items()}


def _pixels(source: Source, row: int, file_bytes: int | None, preparer: Preparer, size: int | None) -> np.ndarray:
    try:
        if file_bytes is not None and size_and_time(source)[0] != file_bytes:
            raise ImageError("it changed since it was indexed")
        return resize(preparer.read(source, row), size)
    except OSError as error:
        raise ImageError(f"{source[0]}: {error.strerror}; blur and noise read the images again") from error
    except ImageError as error:
        raise ImageError(f"{source[0]}: {error}") from error


def _draw(figure: "Figure", tally: Tally, variants: tuple[Any, ...], spoken: tuple[str, ...]) -> None:
    """Top-1 accuracy over the strength, a line a method, a panel a test."""
    tests = list(dict.fromkeys(cell[1:] for cell, _ in tally.figures))
    axes = figure.subplots(1, len(tests), squeeze=False, sharey=True)[0]
    for axis, test in zip(axes, tests, strict=True):
        for cell in dict.fromkeys(cell for cell, _ in tally.figures if cell[1:] == test):
            means = [100 * np.mean([one["top1"] for one in tally.folds(cell, variant)]) for variant in variants]
            axis.plot(spoken, means, marker="o", label=cell[0])
        axis.set_title(" split, ".join(test))
    axes[0].set(ylabel="top-1 accuracy [%]", ylim=(0, None))  # once all are drawn: a limit set earlier stays
    axes[0].legend(fontsize=8)
