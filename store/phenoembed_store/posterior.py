"""Q(y | X) of any group of images, straight from stored embeddings: no image is read, no network runs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers, deal, number
from phenoembed_store.errors import StoreError
from phenoembed_store.heads import Head
from phenoembed_store.images import Images
from phenoembed_store.queries import closest

CHUNK = 16_384
"""Images whose activations are held at once: 16 MB at 256 activations."""

Doubles = npt.NDArray[np.float64]


def group_posteriors(head: Head, embeddings: Floats, unit: Integers, configuration: Integers) -> Doubles:
    """Probabilities (units, classes) of the groups 0..n-1 that ``unit`` deals the images into.

    ``product`` (Eqs. 1-6) and ``baseline`` add the evidence of images: softmax((W2 · sum h + n · b2) / temperature).
    ``balanced`` averages it within each configuration first, then adds. ``configuration``: a number within the screen's
    groups; images of different doses or times differ in it. Raises StoreError for a method whose evidence does not add.
    """
    method = str(head.config.get("method", "product"))
    if method in ("product", "baseline"):
        sums, counts = _sum_activations(head, embeddings, unit)
    elif method == "balanced":
        part, first = number(unit, configuration)
        sums, counts = _sum_activations(head, embeddings, part)
        sums, counts = _sum_means(sums / counts[:, None], unit[first])
    else:
        raise StoreError(f"the evidence of a '{method}' head does not add over images; ask `probe` for its predictions")
    logits = sums @ head.w2.T.astype(np.float64) + counts[:, None] * head.b2.astype(np.float64)
    return softmax(logits / head.temperature)


def softmax(logits: Doubles) -> Doubles:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Doubles = raised / raised.sum(axis=-1, keepdims=True)
    return found


def _sum_activations(head: Head, embeddings: Floats, unit: Integers) -> tuple[Doubles, Doubles]:
    """Sum of h over each unit, (units, hidden), and the number of its images."""
    units = deal(unit)
    sums = np.zeros((len(units), head.w1.shape[0]))
    for start in range(0, len(units.rows), CHUNK):
        rows = units.rows[start : start + CHUNK]
        owners, places = np.unique(unit[rows], return_index=True)
        sums[owners] += np.add.reduceat(head.activations(embeddings[rows]), places, axis=0, dtype=np.float64)
    return sums, units.counts().astype(np.float64)


def _sum_means(means: Doubles, unit: Integers) -> tuple[Doubles, Doubles]:
    units = deal(unit)
    sums = np.add.reduceat(means[units.rows], units.starts[:-1], axis=0)
    return sums, units.counts().astype(np.float64)


def posterior_table(head: Head, images: Images, rows: Integers, by: Sequence[str]) -> pa.Table:
    """Posteriors of the groups that the rows form by these columns: by, n_images, predicted, p_predicted, and lists."""
    for column in by:
        if column not in images.column_names:
            raise StoreError(f"no column '{column}'{closest(column, images.column_names)}")
    unit, first = images.numbered(by, rows) if by else (np.zeros(len(rows), np.int64), rows[:1])
    vectors = images.vectors if len(rows) == len(images) else images.vectors[rows]
    found = group_posteriors(head, vectors, unit, _configurations(images)[rows])
    best = found.argmax(axis=1)
    keys = images.table.select(list(by)).take(pa.array(first))
    table = pa.table(
        {
            **{name: keys.column(name) for name in by},
            "n_images": pa.array(np.bincount(unit), pa.int32()),
            "predicted": [head.classes[i] for i in best],
            "p_predicted": found[np.arange(len(found)), best],
            "classes": [list(head.classes)] * len(found),
            "probabilities": list(found),
        }
    )
    return table.sort_by([(name, "ascending") for name in by]) if by else table


def _configurations(images: Images) -> Integers:
    """A number for every (concentration, time); wells of a control, which have no dose, count by their slot."""
    control = np.asarray(images.column("role").to_numpy() == "control")
    slot = np.where(control, images.configuration, -1)
    codes, _ = number(images.codes("concentration_um"), images.codes("time_h"), slot)
    return codes
