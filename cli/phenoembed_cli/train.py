"""`phenoembed train`: plates in, an encoder out."""

import shlex
from typing import Annotated, Any, Literal

import typer

from phenoembed_cli.config import Config
from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import check_choice, first_process, note, print_json, print_table, progress_bar
from phenoembed_cli.plates import DEFAULT_PLATES, Plates, as_typed, choose_preparation, read_plates, reads_plates
from phenoembed_store import remote
from phenoembed_store.mirror import mirrored


@reads_plates
def train(
    plates: Plates = DEFAULT_PLATES,
    method: Annotated[
        str,
        typer.Option(
            help="How a group's images are brought together: product (the paper's), baseline, attention, "
            "embedding-mean, instance-lse or balanced (ours)."
        ),
    ] = "product",
    split: Annotated[str, typer.Option(help="What is held out: replicate, field or compound.")] = "replicate",
    fold: Annotated[str, typer.Option(help="Which fold: a number from 0, or all.")] = "0",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training groups; 350 in the paper.")] = 350,
    size: Annotated[
        int | None, typer.Option(min=32, help="Pixels of the shorter side; native size when not given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Groups a batch; 24 in the paper.")] = 24,
    learning_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Initial learning rate; 1e-4 in the paper.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, folds, batches and augmentations.")] = 0,
    devices: Annotated[int, typer.Option(min=1, help="Devices a node to deal each batch out over.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes; start torchrun on each (docs/lopac.md).")] = 1,
    calibrate: Annotated[
        bool, typer.Option(help="Keep a twelfth of the training groups back to fit a temperature on.")
    ] = True,
    average: Annotated[
        str,
        typer.Option(help="Of the weights along the training, kept in the end: none, ema (the last tenth) or swa."),
    ] = "none",
    label_smoothing: Annotated[
        float, typer.Option(min=0, max=1, help="Share of each label that is spread over all classes; 0.1 is usual.")
    ] = 0.0,
    consistency: Annotated[
        float, typer.Option(min=0, help="Weight of how far replicates of a treatment differ within a batch; try 1.")
    ] = 0.0,
    warm_start: Annotated[
        int,
        typer.Option(min=0, help="Epochs before the others, without classes: pairs of replicates, DMSO too (VICReg)."),
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    log: Annotated[
        Literal["csv", "tensorboard", "none"],
        typer.Option(help="Loss of every epoch, below logs/ of the store: csv, tensorboard or none."),
    ] = "csv",
    config: Config = None,
    reading: Any = None,
    preparing: Any = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Train an encoder on groups of images over dose and time, holding a fold out to test it."""
    from phenoembed.folds import SPLITS
    from phenoembed.refinements import AVERAGES, Refinements

    from phenoembed_store.posterior import METHODS  # as phenoembed.methods has them, without seconds of torch

    check_choice("--method", method, METHODS)
    check_choice("--split", split, SPLITS)
    check_choice("--average", average, AVERAGES)
    if fold != "all" and not fold.isdecimal():
        raise typer.BadParameter(f"--fold '{fold}' is neither a number from 0 nor all")
    screen = read_plates(plates, reading)
    # these take seconds: what is wrong with the plates is said first
    from phenoembed.settings import Settings
    from phenoembed.training import train_folds

    def stage(name: str) -> Any:
        return progress_bar(name, unit=_UNITS[name.split(",")[0]])

    with mirrored(store) as folder:
        settings = Settings(
            method=method,
            split=split,  # type: ignore[arg-type]  # checked by Settings
            epochs=epochs,
            size=size,
            batch_groups=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            devices=devices,
            nodes=nodes,
            calibrate=calibrate,
            preparation=choose_preparation(preparing, folder),
            refinements=Refinements(average, label_smoothing, consistency, warm_start),
        )
        trained = train_folds(screen, folder, settings, fold, resume=resume, stage=stage, log=log)
    if not first_process():
        return
    for one in trained:
        for path, reason in one.rejected.items():
            note(f"left out: {path}: {reason}")
    documents = [one.document() for one in trained]
    if as_json:
        print_json(documents[0] if fold != "all" else documents)
        return
    print_table(
        ["encoder", "split", "fold", "test", "groups", "top-1", "top-5", "top-10"],
        [row for document in documents for row in _rows(document)],
    )
    command = ["phenoembed", "index", remote.as_typed(plates), *as_typed(reading), "--store", remote.as_typed(store)]
    for one in trained:
        chosen = ["--encoder", one.encoder] if len(trained) > 1 else []
        note(f"next: {shlex.join([*command, *chosen])}")


_UNITS = {"reading": "images", "warm start": "batches", "training": "batches"}


def _rows(document: dict[str, Any]) -> list[list[Any]]:
    tests = {"new replicate" if document["split"] == "replicate" else "known wells": document["test"]}
    if document["test_known_wells"]:
        tests["known wells"] = document["test_known_wells"]
    first = [document["encoder"], document["split"], f"{document['fold']} of {document['n_folds']}"]
    if not any(tests.values()):
        return [[*first, "held-out compounds are no classes", None, None, None, None]]
    return [
        [*first, name, figures["n_test"], figures["top1"], figures.get("top5"), figures.get("top10")]
        for name, figures in tests.items()
        if figures
    ]
