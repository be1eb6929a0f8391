"""The paper's experiments by name, on the encoders of a store, its figures beside ours.

Most follow from stored embeddings; ``blur`` and ``noise`` read the images again. Every accuracy is of groups that the
encoder never saw, of the paper's ``field`` split (known wells) and of ours (a new replicate) side by side.
"""

from collections.abc import Callable
from pathlib import Path

from phenoembed.evaluation.configurations import compare_configurations
from phenoembed.evaluation.cytotoxicity import compare_cytotoxicity
from phenoembed.evaluation.doses import compare_doses
from phenoembed.evaluation.duplicates import compare_duplicates
from phenoembed.evaluation.held_out import Trials, find_trials
from phenoembed.evaluation.jump import compare_jump
from phenoembed.evaluation.methods import compare_methods
from phenoembed.evaluation.moa import compare_moa
from phenoembed.evaluation.network import compare_network
from phenoembed.evaluation.outcome import Outcome
from phenoembed.evaluation.perturbed import compare_blur, compare_noise
from phenoembed.evaluation.treatment import compare_treatment
from phenoembed.progress import Progress
from phenoembed_store import Store
from phenoembed_store.errors import TrainingError

EXPERIMENTS: dict[str, Callable[[Trials, Progress], Outcome]] = {
    "methods": compare_methods,
    "cytotoxicity": compare_cytotoxicity,
    "doses": compare_doses,
    "configurations": compare_configurations,
    "moa": compare_moa,
    "treatment": compare_treatment,
    "jump": compare_jump,
    "blur": compare_blur,
    "noise": compare_noise,
    "duplicates": compare_duplicates,
}
"""In the order of the paper. ``network`` is one more: it takes a file of links."""
NAMES = (*EXPERIMENTS, "network")


def evaluate(
    store: Store,
    experiment: str,
    *,
    encoder: str | None = None,
    where: str | None = None,
    links: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Outcome:
    """Run an experiment on ``encoder`` (the last trained) and the encoders trained alike.

    ``where`` restricts the images; for ``jump`` it names the other screen. Raises TrainingError on an unknown
    experiment, NotInStore where what it needs is not there.
    """
    if experiment not in NAMES:
        raise TrainingError(f"experiment {experiment!r} is not one of {', '.join(NAMES)}")
    trials = find_trials(store, encoder, where)
    if experiment == "network":
        return compare_network(trials, links, progress)
    return EXPERIMENTS[experiment](trials, progress)
