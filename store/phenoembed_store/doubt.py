"""Doubt of doses and times that a head was not fitted on: they may do nothing.

Where a class was trained at a dose and time, the head knows what to expect there, and that an image shows nothing is
evidence too. Elsewhere an image is one of a dose that shows something with the probability SHOWS, and otherwise like
any of a control. Its likelihood under class y, against that of a control, is then

    1 - SHOWS + SHOWS p(x given y) / p(x given control)

which is near one for an image like those of controls, whatever the class, and proportional to the class's likelihood
for one that is unlike them: a mixture with an uninformative component (as in robust regression; Box and Tiao, 1968).
"""

import numpy as np

from phenoembed_store.aggregate import number
from phenoembed_store.heads import Doubles, Head
from phenoembed_store.subset import Flags

SHOWS = 0.02
"""How probable it is, before it is looked at, that a dose never seen does something. Measured in docs/methods.md."""
ALIKE = 0.05
"""Doses and times within this share of each other are the same: what was dispensed differs from what was meant."""


def new_configurations(head: Head, concentration_um: Doubles, time_h: Doubles, control: Flags) -> Flags:
    """Which images are of a dose and time that no training group of the head had: (images,); a control has no dose.

    None is where the head does not know controls, or what it was trained on.
    """
    known = head.config.get("configurations")
    if not head.knows_controls or not known:
        return np.zeros(len(control), np.bool_)
    place, first = number(concentration_um, time_h)
    dose, time = np.asarray(known, np.float64).T
    near = np.isclose(concentration_um[first, None], dose, rtol=ALIKE, atol=0)
    near &= np.isclose(time_h[first, None], time, rtol=ALIKE, atol=0)
    found: Flags = np.asarray(near.any(axis=1))[place]
    return control | ~found


def doubted(head: Head, hidden: Doubles) -> Doubles:
    """Scores of images, or means of some, that are doubted, from their activations (images, hidden): (images, classes).

    Logarithms of the likelihood above.
    """
    weight, bias = head.w2 - head.extra["control_w"], head.b2 - head.extra["control_b"]
    against_control = hidden @ weight.T.astype(np.float64) + bias
    found: Doubles = np.logaddexp(np.log1p(-SHOWS), np.log(SHOWS) + against_control)
    return found
