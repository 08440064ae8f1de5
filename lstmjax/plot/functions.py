"""The activations and their derivatives, and how much of a gradient remains after many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lstmjax.inside import derivatives
from lstmjax.plot.sheet import LINES, Picture, plain, sheet


def activations(*, reach: float = 6.0, title: str = "") -> Picture:
    """Draw σ and tanh, and beside them their derivatives with their maxima: 1/4 and 1, both at 0.

    Args:
        reach: the largest pre-activation; the axis is from −reach to reach.
        title: the title of the figure.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`. The background is grey where a gate counts as saturated, below 0.1 and
        above 0.9.

    Raises:
        ValueError: reach is not above 0.
    """
    if not reach > 0:
        raise ValueError(f"reach is {reach}, expected a number above 0.")
    figure = sheet(9.0, 3.6, title or "the activations of the gates, and their derivatives")
    functions, slopes = figure.subplots(1, 2)
    at = derivatives(jnp.linspace(-reach, reach, 401, dtype=jnp.float32))
    for name, value, slope, colour in (("σ", at.sigma, at.d_sigma, LINES[0]), ("tanh", at.tanh, at.d_tanh, LINES[1])):
        functions.plot(at.z, value, color=colour, label=f"{name}(z)")
        slopes.plot(at.z, slope, color=colour, label=f"{name}′(z)")
        most = float(slope[200])  # at z = 0
        slopes.text(0.97 * reach, most + 0.03, f"at most {most:g}, at z = 0", color=colour, fontsize=8, ha="right")
        slopes.plot(0, most, "o", color=colour, markersize=5)
    edge = float(np.log(9))  # σ(±edge) = 0.9, 0.1
    for axes in (functions, slopes):
        for side in ((-reach, -edge), (edge, reach)):
            if edge < reach:
                axes.axvspan(*side, color="0.94", zorder=0, linewidth=0)
        axes.set_xlabel("pre-activation z")
        axes.set_xlim(-reach, reach)
        plain(axes)
    functions.set_ylabel("activation")
    slopes.set_ylabel("derivative")
    slopes.set_ylim(-0.03, 1.18)
    functions.legend(frameon=False, loc="upper left")
    slopes.legend(frameon=False, loc="upper left")
    if edge < reach:
        functions.text(reach - 0.1, -0.93, "grey: σ below 0.1\nor above 0.9", fontsize=8, ha="right", va="bottom")
    return figure


def gradient_survival(
    survival: Any,
    *,
    f: Sequence[float] = (0.5, 0.9, 0.99, 1.0),
    weight: Sequence[float] = (1.0,),
    least: float = 1e-6,
    title: str = "",
) -> Picture:
    """Draw how much of its gradient c keeps over the steps back in time, against a plain RNN, on a log axis.

    Args:
        survival: an object with steps `[N]`, cell `[N, K]` and plain `[N, M]`, as `lstmjax.inside.gradient_survival`
            returns it.
        f: the K forget gates that it was computed for.
        weight: the M recurrent weights of the plain RNN that it was computed for.
        least: the lower end of the axis.
        title: the title of the figure.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`: the cell as full lines, the plain RNN as broken ones.

    Raises:
        ValueError: f or weight has another number of values than survival has columns.
    """
    figure = sheet(6.4, 3.8, title or "how much of its gradient the cell state keeps")
    axes = figure.subplots()
    steps = np.asarray(survival.steps)
    for argument, numbers, values, letter, owner, style in (
        ("f", f, survival.cell, "f", "c of an LSTM", "-"),
        ("weight", weight, survival.plain, "w", "plain RNN", "--"),
    ):
        values = np.asarray(values, np.float64)
        if values.shape != (len(steps), len(numbers)):
            raise ValueError(
                f"{argument} has {len(numbers)} values, but survival has an array of shape {values.shape} for it, "
                f"expected ({len(steps)}, {len(numbers)}). Pass the {argument} that it was computed with."
            )
        colours = LINES[: len(numbers)] if style == "-" else LINES[-1:] + LINES[4:6]
        for column, number in enumerate(numbers):
            drawn = np.where(values[:, column] > 0, values[:, column], np.nan)
            colour = colours[column % len(colours)]
            axes.plot(steps, drawn, ls=style, color=colour, label=f"{owner}, {letter} = {number:g}")
    axes.set_yscale("log")
    axes.set_ylim(least, 2)
    axes.set_xlim(0, steps[-1])
    axes.set_xlabel("steps back in time")
    axes.set_ylabel("part of the gradient that is left")
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    plain(axes)
    return figure
