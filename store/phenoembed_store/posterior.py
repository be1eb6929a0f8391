"""Q(y | X) of any group of images, straight from stored embeddings: no image is read, no network runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers, Units, deal, mean_by, number
from phenoembed_store.doubt import doubted, new_configurations
from phenoembed_store.errors import StoreError
from phenoembed_store.heads import ATTENTION, Doubles, Head
from phenoembed_store.images import Images
from phenoembed_store.queries import closest
from phenoembed_store.subset import Flags

CHUNK = 16_384
"""Images whose activations are held at once: 16 MB at 256 activations."""
BLOCK = 2_048
"""Doubted configurations whose scores are held at once: 20 MB at 1,280 classes."""


@dataclass(frozen=True, eq=False)
class Members:
    """Images of some groups, and where each belongs.

    embeddings: (images, dim); group: (images,) numbers 0..n-1, every one present; configuration: (images,) numbers,
    those of images of one group differ where their dose or time does; new: (images,) as of ``new_configurations``.
    """

    embeddings: Floats
    group: Integers
    configuration: Integers
    new: Flags


def group_posteriors(
    head: Head, embeddings: Floats, group: Integers, configuration: Integers, new: Flags | None = None
) -> Doubles:
    """Q(y | X) of the groups 0..n-1 that ``group`` deals the images into: softmax(scores / temperature), (n, classes).

    The scores are those of ``group_scores``.
    """
    return softmax(group_scores(head, embeddings, group, configuration, new) / head.temperature)


def group_scores(
    head: Head, embeddings: Floats, group: Integers, configuration: Integers, new: Flags | None = None
) -> Doubles:
    """Scores of the groups 0..n-1 by the head's method, one of METHODS, before any temperature: (n, classes).

    ``new``: (images,) which are of doses and times that the head was not fitted on (``new_configurations``; default:
    none); ``balanced`` doubts them. Raises StoreError for a method that is not known.
    """
    if head.method not in METHODS:
        raise StoreError(f"no posterior is known for the method '{head.method}'; there are: {', '.join(METHODS)}")
    new = np.zeros(len(group), np.bool_) if new is None else new
    return METHODS[head.method](head, Members(embeddings, group, configuration, new))


def image_scores(
    head: Head, images: pa.Table | Images, rows: Integers, embeddings: Floats, group: Integers, configuration: Integers
) -> Doubles:
    """Scores of groups of some ``rows`` of ``images``, before any temperature: (groups, classes).

    Whatever judges or names groups goes by these. ``embeddings``: (rows, dim); ``group``, ``configuration``: (rows,) as
    of ``Members``. Which doses and times are new to the head is looked up in the images' columns.
    """
    dose, time, role = (images.column(name).to_numpy()[rows] for name in ("concentration_um", "time_h", "role"))
    new = new_configurations(head, dose, time, np.asarray(role == "control"))
    return group_scores(head, embeddings, group, configuration, new)


def softmax(logits: Doubles) -> Doubles:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Doubles = raised / raised.sum(axis=-1, keepdims=True)
    return found


# In what follows z_i = W2 h(x_i) + b2 are the class scores of image i, h(x) = relu(W1 x + b1), and g(x) = W2 h(x) + b2.


def _added(head: Head, members: Members) -> Doubles:
    """``product`` (Eqs. 1-6) and ``baseline``: sum over i of z_i = W2 (sum of h(x_i)) + n b2."""
    sums, counts = _sum_activations(head, members.embeddings, members.group)
    return _last_layer(head, sums, counts)


def _balanced(head: Head, members: Members) -> Doubles:
    """``balanced``: sum over configurations c of the mean of z_i over c's images, doubted where c is new.

    A group of nothing but new configurations is taken at its word: there is nothing better known beside them.
    """
    part, first = number(members.group, members.configuration)
    sums, counts = _sum_activations(head, members.embeddings, part)
    means = sums / counts[:, None]
    owner, new = members.group[first], members.new[first]
    units = deal(owner)
    new &= np.bincount(owner, ~new, len(units))[owner] > 0
    known = np.bincount(owner, ~new, len(units)).astype(np.float64)
    trusted = np.where(new[:, None], 0, means)
    found = _last_layer(head, np.add.reduceat(trusted[units.rows], units.starts[:-1], axis=0), known)
    parts = np.flatnonzero(new)
    for start in range(0, len(parts), BLOCK):
        some = parts[start : start + BLOCK]
        np.add.at(found, owner[some], doubted(head, means[some]))
    return found


def _embedding_mean(head: Head, members: Members) -> Doubles:
    """``embedding-mean`` (MI-Net, mean pooling): g(mean of x_i)."""
    return head.logits(mean_by(members.embeddings, members.group)).astype(np.float64)


def _instance_lse(head: Head, members: Members) -> Doubles:
    """``instance-lse`` (mi-Net, LogSumExp pooling), class by class: log (mean of exp z_i)."""
    units = deal(members.group)
    found = np.empty((len(units), len(head.classes)))
    for first, last in _blocks(units):
        rows = units.rows[units.starts[first] : units.starts[last]]
        starts = units.starts[first:last] - units.starts[first]
        counts = units.counts()[first:last]
        scores = head.logits(members.embeddings[rows]).astype(np.float64)
        largest = np.maximum.reduceat(scores, starts, axis=0)
        sums = np.add.reduceat(np.exp(scores - np.repeat(largest, counts, axis=0)), starts, axis=0)
        found[first:last] = largest + np.log(sums / counts[:, None])
    return found


def _attention(head: Head, members: Members) -> Doubles:
    """``attention`` (Ilse et al. 2018, Eq. 9, gated): g(sum of a_i x_i), a = softmax over the group's images of
    w . (tanh(V x_i + bv) * sigmoid(U x_i + bu))."""
    v, v_bias, u, u_bias, w = (head.extra[name] for name in ATTENTION)
    units = deal(members.group)
    pooled = np.empty((len(units), members.embeddings.shape[1]), np.float32)
    for first, last in _blocks(units):
        vectors = members.embeddings[units.rows[units.starts[first] : units.starts[last]]]
        starts = units.starts[first:last] - units.starts[first]
        counts = units.counts()[first:last]
        gate = 0.5 + 0.5 * np.tanh((vectors @ u.T + u_bias).astype(np.float64) / 2)  # a sigmoid that cannot overflow
        scores = (np.tanh(vectors @ v.T + v_bias) * gate) @ w.astype(np.float64)
        raised = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), counts))
        sums = np.add.reduceat(raised[:, None] * vectors, starts, axis=0)
        pooled[first:last] = sums / np.add.reduceat(raised, starts)[:, None]
    return head.logits(pooled).astype(np.float64)


METHODS: dict[str, Callable[[Head, Members], Doubles]] = {
    "product": _added,
    "baseline": _added,
    "balanced": _balanced,
    "embedding-mean": _embedding_mean,
    "instance-lse": _instance_lse,
    "attention": _attention,
}
"""How a group's scores, (groups, classes), follow from its images' embeddings, by the method of the head."""


def _blocks(units: Units) -> Iterator[tuple[int, int]]:
    """Ranges of whole units, of CHUNK images or so."""
    first = 0
    while first < len(units):
        last = int(np.searchsorted(units.starts, units.starts[first] + CHUNK, side="right")) - 1
        last = min(max(last, first + 1), len(units))
        yield first, last
        first = last


def _last_layer(head: Head, sums: Doubles, counts: Doubles) -> Doubles:
    return sums @ head.w2.T.astype(np.float64) + counts[:, None] * head.b2.astype(np.float64)


def _sum_activations(head: Head, embeddings: Floats, unit: Integers) -> tuple[Doubles, Doubles]:
    """Sum of h over each unit, (units, hidden), and the number of its images."""
    units = deal(unit)
    sums = np.zeros((len(units), head.w1.shape[0]))
    for start in range(0, len(units.rows), CHUNK):
        rows = units.rows[start : start + CHUNK]
        owners, places = np.unique(unit[rows], return_index=True)
        sums[owners] += np.add.reduceat(head.activations(embeddings[rows]), places, axis=0, dtype=np.float64)
    return sums, units.counts().astype(np.float64)


def posterior_table(head: Head, images: Images, rows: Integers, by: Sequence[str]) -> pa.Table:
    """Posteriors of the groups that the rows form by these columns: by, n_images, predicted, p_predicted, and lists."""
    for column in by:
        if column not in images.column_names:
            raise StoreError(f"no column '{column}'{closest(column, images.column_names)}")
    unit, first = images.numbered(by, rows) if by else (np.zeros(len(rows), np.int64), rows[:1])
    vectors = images.vectors if len(rows) == len(images) else images.vectors[rows]
    scores = image_scores(head, images, rows, vectors, unit, _configurations(images)[rows])
    found = softmax(scores / head.temperature)
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
    slot = np.where(images.column("role").to_numpy() == "control", images.configuration, -1)
    codes, _ = number(images.codes("concentration_um"), images.codes("time_h"), slot)
    return codes
