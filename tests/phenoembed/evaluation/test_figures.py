"""What figures show: every value within the axes, counts as whole numbers."""

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure
from phenoembed.evaluation.tally import Tally

from phenoembed.evaluation import doses, moa, perturbed


def tally_of(variants: tuple[object, ...]) -> Tally:
    """A method that does far better on known wells, the panel drawn last."""
    tally = Tally()
    for test, top1 in (("new replicate", 0.2), ("known wells", 0.9)):
        for variant in variants:
            tally.add(("product", "replicate", test), variant, 0, {"top1": top1})
    return tally


def draw_doses(figure: Figure) -> None:
    doses._draw(figure, tally_of((0.5, 5.0, doses.ALL)), [0.5, 5.0])


def draw_blur(figure: Figure) -> None:
    perturbed._draw(figure, tally_of(("original", 3)), ("original", 3), ("original", "kernel 3"))


@pytest.mark.parametrize("draw", [draw_doses, draw_blur])
def test_every_point_lies_within_the_axes(draw: Callable[[Figure], None]) -> None:
    """Panels share their axis: the limits follow from all of them."""
    figure = Figure()
    draw(figure)
    for axis in figure.axes:
        bottom, top = axis.get_ylim()
        heights = [float(y) for line in axis.lines for y in line.get_ydata()]  # type: ignore[union-attr]
        assert heights
        assert bottom == 0
        assert max(heights) < top


def test_mechanisms_are_counted_in_whole_numbers() -> None:
    figure = Figure()
    moa._draw(figure, {"tubulin": 3, "actin": 4})
    assert all(tick == int(tick) for tick in figure.axes[0].get_yticks())
