"""The learning rate over a training: cosine annealing, with warm restarts at any length or without."""

import math


def warm_restarts(epoch: float, epochs: int) -> float:
    """Factor of the initial learning rate at ``epoch`` (may lie between two) of ``epochs``.

    Three cycles of a seventh, two sevenths and four sevenths of the training: 50, 100 and 200 of the paper's 350
    (Section 5.1; Loshchilov & Hutter, 2017).
    """
    unit = epochs / 7
    start, length = 0.0, unit
    while epoch >= start + length and length < 4 * unit:
        start, length = start + length, 2 * length
    return cosine((epoch - start) / length)


def cosine(share: float) -> float:
    """Factor of the initial learning rate when this share of the steps is done: one cycle without restarts."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
