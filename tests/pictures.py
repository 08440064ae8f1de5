"""What the tests of pictures share: a batch of gates to draw, and what is looked up in a figure."""

import io

import numpy as np
from matplotlib.figure import Figure

from lstmjax import Step

T, H, B, I = 7, 5, 3, 2
NOTHING = Step(*(None,) * 11)


def gates(draw):
    """A batch of sequences: gates between 0 and 1, the others of either sign."""
    unit = lambda: draw.uniform(0, 1, (B, T, H)).astype(np.float32)
    free = lambda: draw.normal(0, 2, (B, T, H)).astype(np.float32)
    i, f, o, m = unit(), unit(), unit(), unit() - 0.5
    return Step(i, f, np.tanh(free()), o, free(), free(), free(), free(), free(), m, m)


def saved(figure):
    """The figure, after it was written as a PNG."""
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=20)
    assert buffer.getvalue()[:8] == b"\x89PNG\r\n\x1a\n"
    return figure


def titles(figure):
    return [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center") if axes.get_title(loc)]


def maps(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]
