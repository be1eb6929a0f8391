"""The main job on a simulated screen: simulate -> train -> index -> probe -> search, ending in a report.

Every stage goes on where an interrupted demo stopped.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phenoembed.indexing import Indexed, index_screen
from phenoembed.outcomes import Report
from phenoembed.probes import probe
from phenoembed.progress import Progress, Stage, silent
from phenoembed.readers import read_screen
from phenoembed.retrieval import Agreement, agreement, nearest_compounds
from phenoembed.screen import Screen
from phenoembed.settings import Settings
from phenoembed.simulate import simulate_screen
from phenoembed.thumbnails import make_thumbnails
from phenoembed.training import find_trained, train
from phenoembed_store import Store
from phenoembed_store import open as open_store

STAGES = ("simulating", "reading", "training", "indexing", "thumbnails", "probing")
TASKS = ("compound", "moa", "treatment")


@dataclass(frozen=True)
class Scale:
    """How large a demo is; the default takes minutes on two cores."""

    compounds: int = 24
    replicates: int = 3
    fields: int = 4
    size: int = 64
    epochs: int = 20
    batch_groups: int = 6  # the paper's 24 groups would be 7 steps an epoch here
    learning_rate: float = 1e-3  # ten times the paper's: a seventeenth of its epochs


@dataclass(frozen=True)
class Demo:
    """What a demo made and found."""

    folder: Path
    screen: Screen
    store: Store
    encoder: str
    indexed: Indexed
    probes: Mapping[str, Report]
    agreement: Agreement
    seconds: Mapping[str, float]  # by stage

    def document(self) -> dict[str, Any]:
        """What ``demo --json`` prints."""
        return {
            "simulated": True,
            "folder": str(self.folder),
            "store": str(self.store.path),
            "encoder": self.encoder,
            "images": self.screen.n_images,
            "probes": {task: report.document("replicate") for task, report in self.probes.items()},
            "five_nearest_share_mechanism": {
                "share": self.agreement.share,
                "chance": self.agreement.chance,
                "p_value": self.agreement.p_value,
                "compounds": self.agreement.n_compounds,
            },
            "seconds": {stage: round(spent, 1) for stage, spent in self.seconds.items()},
        }


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    scale: Scale | None = None,
    stage: Stage = silent,
) -> Demo:
    """Run the demo in ``folder`` (made if missing). ``stage(name)`` is entered for each of ``STAGES``.

    Raises PhenoembedError where ``folder`` holds something else than an earlier demo with the same seed.
    """
    scale = scale or Scale()
    seconds: dict[str, float] = {}
    stage = _timed(stage, seconds)
    plates = folder / "plates"
    with stage("simulating") as progress:
        simulate_screen(
            plates,
            compounds=scale.compounds,
            replicates=scale.replicates,
            fields=scale.fields,
            size=scale.size,
            seed=seed,
            progress=progress,
        )
    screen = read_screen(plates)
    store = open_store(folder / "store", create=True)
    encoder = _train(screen, store, seed, scale, stage)
    with stage("indexing") as progress:
        indexed = index_screen(screen, store, encoder, progress=progress)
    with stage("thumbnails") as progress:
        make_thumbnails(store, progress=progress)
    probes = {}
    with stage("probing") as progress:
        for i, task in enumerate(TASKS):
            probes[task] = probe(store, task, encoder=encoder)
            progress(i + 1, len(TASKS))
    found = agreement([nearest_compounds(store, encoder=encoder)])
    return Demo(folder, screen, store, encoder, indexed, probes, found, seconds)


def _train(
    screen: Screen,
    store: Store,
    seed: int,
    scale: Scale,
    stage: Stage,
) -> str:
    settings = Settings(
        epochs=scale.epochs, batch_groups=scale.batch_groups, learning_rate=scale.learning_rate, seed=seed
    )
    done = find_trained(store.path, screen, settings)
    if done:
        return done
    trained = train(screen, store.path, settings, resume=None, stage=stage)
    return trained.encoder


def _timed(stage: Stage, seconds: dict[str, float]) -> Stage:
    """The same stage, which also notes in ``seconds`` how long it took."""

    @contextmanager
    def timed(name: str) -> Iterator[Progress]:
        started = time.perf_counter()
        with stage(name) as progress:
            yield progress
        seconds[name] = time.perf_counter() - started

    return timed
