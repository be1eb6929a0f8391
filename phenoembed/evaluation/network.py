"""Section 5.7.1, A.1 and Fig. 13: are compounds that are taken for each other close in the STRING network?

A links file is a table as string-db.org exports it (``node1 node2 ... coexpression ... combined_score``, scores 0..1)
or as it is downloaded whole (``protein1 protein2 ...``, scores 0..1000). Compounds need the annotation ``targets``:
names as in that file, separated by ``|``.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import networkx
import numpy as np
import pyarrow as pa

from phenoembed.evaluation.held_out import Trials
from phenoembed.evaluation.outcome import Outcome, Table, data_of
from phenoembed.evaluation.probed import predictions_of
from phenoembed.progress import Progress
from phenoembed_store.errors import NotInStore, TrainingError
from phenoembed_store.reading import read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLD = 0.7  # high confidence; the paper, Section 5.7.1
CHANNELS = {
    "co-expression": ("coexpression",),
    "experimental": ("experimentally_determined_interaction", "experimental", "experiments"),
    "combined": ("combined_score",),
}
"""Our name -> its columns in STRING's files."""
TASKS = ("jump", "compound")
Pair = tuple[str, str]  # compounds, in the order of the alphabet


def compare_network(trials: Trials, links: Path | None, progress: Progress) -> Outcome:
    """Distances of confused pairs of compounds against those of all pairs, by channel of evidence.

    Raises TrainingError without a links file or where it is none, NotInStore without predictions or targets.
    """
    if links is None:
        raise TrainingError("the network experiment needs STRING's links: --links FILE")
    edges = read_links(links)
    task, rows = _predictions(trials)
    targets = _targets(trials, {row["label"] for row in rows})
    confused = {_pair(row["label"], row["predicted"]) for row in rows if row["label"] != row["predicted"]}
    distances: dict[str, dict[Pair, int]] = {}
    for done, (channel, pairs) in enumerate(edges.items(), start=1):
        distances[channel] = compound_distances(networkx.Graph(pairs), targets)
        progress(done, len(edges))
    table = Table(
        f"Edges between targets of two compounds, STRING above {THRESHOLD} ({task} task, {len(targets)} with targets)",
        ("evidence", "proteins", "edges", "pairs", "mean", "within 1 %", "confused pairs", "mean", "within 1 %"),
        tuple(_row(channel, edges[channel], found, confused) for channel, found in distances.items()),
        of_folds=False,
    )
    document = {
        channel: {
            "all": sorted(found.values()),
            "confused": sorted(value for pair, value in found.items() if pair in confused),
        }
        for channel, found in distances.items()
    }
    return Outcome(
        "network",
        data_of([unquote(row["group_id"].split("/")[0]) for row in rows]),
        (table,),
        {"task": task, "threshold": THRESHOLD, "distances": document},
        lambda figure: _draw(figure, document),
        ("pairs of compounds without a path between any two of their targets are left out (A.1)", *_PAPER),
    )


_PAPER = (
    "in the paper confused pairs are closer in both channels, but little so in the experimental one, and co-expression "
    "is known of few proteins",
)


def read_links(path: Path) -> dict[str, list[Pair]]:
    """The edges above the threshold of each channel that the file has. Raises TrainingError."""
    table = read_table(path)
    names = [name.lstrip("#") for name in table.column_names]
    table = table.rename_columns(names)
    ends = next((pair for pair in (("node1", "node2"), ("protein1", "protein2")) if set(pair) <= set(names)), None)
    there = {one: next((c for c in columns if c in names), None) for one, columns in CHANNELS.items()}
    if ends is None or not any(there.values()):
        raise TrainingError(f"{path} is no table of STRING's links (node1, node2, combined_score): {', '.join(names)}")
    pairs = list(zip(*(map(str, table.column(end).to_pylist()) for end in ends), strict=True))
    edges = {}
    for channel, column in there.items():
        if column is None:
            continue
        score = np.asarray(table.column(column).cast(pa.float64()).to_numpy())
        score = score / 1000 if np.nanmax(score, initial=0) > 1 else score
        edges[channel] = [pair for pair, value in zip(pairs, score, strict=True) if value > THRESHOLD]
    return edges


def compound_distances(graph: "networkx.Graph[str]", targets: Mapping[str, frozenset[str]]) -> dict[Pair, int]:
    """min over targets of the number of edges between them (A.1), for every pair of compounds that has a path."""
    found: dict[Pair, int] = {}
    reach = {}
    for name, proteins in targets.items():
        sources = proteins & set(graph)
        reach[name] = networkx.multi_source_dijkstra_path_length(graph, sources) if sources else {}
    for first, second in combinations(sorted(targets), 2):
        steps = [reach[first][protein] for protein in targets[second] if protein in reach[first]]
        if steps:
            found[first, second] = int(min(steps))
    return found


def _pair(first: str, second: str) -> Pair:
    return (first, second) if first < second else (second, first)


def _predictions(trials: Trials) -> tuple[str, list[dict[str, Any]]]:
    """The encoder's predictions for the jump task; where there are none, for the compound task."""
    rows = predictions_of(trials, TASKS)
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task]
        if mine:
            return task, mine
    raise NotInStore(
        f"there are no predictions of encoder {trials.encoder} and its family yet: phenoembed probe --task jump (or "
        f"compound) --encoder {trials.encoder}"
    )


def _targets(trials: Trials, compounds: set[str]) -> dict[str, frozenset[str]]:
    """The targets of these compounds, of whatever screen; those without any are left out."""
    table, _ = trials.store.vectors(encoder=trials.encoder)
    if "targets" not in table.column_names:
        raise NotInStore("no column 'targets' (gene names, A|B); bring it: phenoembed annotate TABLE --on compound")
    pairs = dict(zip(table.column("compound").to_pylist(), table.column("targets").to_pylist(), strict=True))
    return {
        name: frozenset(part.strip() for part in str(found).split("|") if part.strip())
        for name, found in sorted(pairs.items())
        if name in compounds and found
    }


def _row(channel: str, edges: list[Pair], found: dict[Pair, int], confused: set[Pair]) -> tuple[Any, ...]:
    proteins = {end for pair in edges for end in pair}
    mine = [value for pair, value in found.items() if pair in confused]
    return (channel, len(proteins), len(edges), *_described(list(found.values())), *_described(mine))


def _described(values: list[int]) -> tuple[int, str, str]:
    if not values:
        return 0, "", ""
    near = 100 * np.mean([value <= 1 for value in values])
    return len(values), f"{np.mean(values):.2f}", f"{near:.1f}"


def _draw(figure: "Figure", document: Mapping[str, Mapping[str, list[int]]]) -> None:
    """Fig. 13: the share of pairs at each distance, all pairs beside confused ones; a panel a channel."""
    axes = figure.subplots(1, len(document), squeeze=False)[0]
    for axis, (channel, found) in zip(axes, document.items(), strict=True):
        most = max([*found["all"], 1])
        for shift, (kind, values) in zip((-0.2, 0.2), found.items(), strict=True):
            share = np.bincount(values, minlength=most + 1) / max(len(values), 1)
            axis.bar(np.arange(most + 1) + shift, share, 0.4, label=f"{kind} pairs ({len(values):,})")
        axis.set(title=channel, xlabel="edges in STRING", ylabel="share of pairs")
        axis.legend(fontsize=7)
