"""Fixed and slow points of the state, on two principal axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from lstmjax.arguments import kind
from lstmjax.plot.sheet import LINES, Picture, length_of, plain, sheet

if TYPE_CHECKING:
    from jax.typing import ArrayLike

KINDS = (("stable", LINES[0]), ("saddle", LINES[4]), ("unstable", LINES[1]))
"""Label and colour of a point: no eigenvalue outside the unit circle, some of them, all of them."""


def fixed_points(
    points: Any,
    *,
    trajectories: tuple[ArrayLike, ArrayLike] | None = None,
    lengths: ArrayLike | None = None,
    slow: float = 1e-6,
    title: str = "",
) -> Picture:
    """Draw the fixed and slow points of a layer, projected on the two principal axes of its states (h, c).

    Args:
        points: an object with h `[N, P]`, c `[N, H]`, speeds `[N]`, eigenvalues `[N, S]` and, optionally, distinct
            `[N]`, as `lstmjax.inside.fixed_points` returns it. Only distinct points are drawn.
        trajectories: (h `[..., T, P]`, c `[..., T, H]`) of real runs, drawn as thin lines. The principal axes are those
            of the trajectories; None: those of the points.
        lengths: valid steps of each trajectory, as for `lstm`: padding is neither drawn nor counted in the axes. None:
            all steps are valid.
        slow: a point with a speed above this is slow rather than fixed, and drawn hollow.
        title: the title of the figure.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`. The colour shows how many eigenvalues are outside the unit circle: none
        (stable: the point attracts), some (saddle) or all (unstable). The labels of the axes say how much of the
        variance they show. An arrow shows the direction of a trajectory.

    Raises:
        TypeError: points lacks a field, or trajectories is not a pair.
        ValueError: no point is finite, or trajectories do not fit the points.
    """
    for name in ("h", "c", "speeds", "eigenvalues"):
        if not hasattr(points, name):
            raise TypeError(f"points is {kind(points)} without .{name}, expected what fixed_points gives.")
    states = np.concatenate([np.asarray(points.h, np.float64), np.asarray(points.c, np.float64)], axis=-1)
    speeds, eigenvalues = np.asarray(points.speeds), np.asarray(points.eigenvalues)
    distinct = np.asarray(getattr(points, "distinct", np.ones(len(states), bool)), bool)
    drawn = distinct & np.isfinite(states).all(axis=-1)
    if not drawn.any():
        raise ValueError("points holds no finite point: no search arrived. Try other starts.")
    runs: list[np.ndarray] | None = None
    if trajectories is None and lengths is not None:
        raise ValueError("lengths is given, but no trajectories, whose steps it would count. Leave it out.")
    if trajectories is not None:
        pair: Any = trajectories
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"trajectories is {kind(pair)}, expected a pair (h, c); of a trace: (steps.h, steps.c).")
        h, c = (np.asarray(part, np.float64) for part in trajectories)
        if h.ndim < 2 or h.shape[:-1] != c.shape[:-1] or h.shape[-1] + c.shape[-1] != states.shape[-1]:
            raise ValueError(
                f"trajectories has shapes {h.shape} and {c.shape}, expected [..., T, {np.shape(points.h)[-1]}] "
                f"and [..., T, {np.shape(points.c)[-1]}], as the points."
            )
        both = np.concatenate([h, c], axis=-1)  # [..., T, P + H]
        *batch, steps, _ = both.shape
        length_of(lengths, None, tuple(batch), steps)  # refuses lengths that do not fit
        ends = np.broadcast_to(steps if lengths is None else np.asarray(lengths), batch).reshape(-1)
        runs = [run[:end] for run, end in zip(both.reshape(-1, *both.shape[-2:]), ends, strict=True) if end]
    centre, directions, fractions = _principal(states[drawn] if runs is None else np.concatenate(runs))
    figure = sheet(6.6, 4.6, title or "the fixed and slow points of a layer")
    axes = figure.subplots()
    if runs is not None:
        for run in runs:
            path = (run - centre) @ directions
            axes.plot(*path.T, color="0.75", linewidth=0.7, zorder=1)
            _draw_direction(axes, path)
    at = (states - centre) @ directions
    outside = (np.abs(eigenvalues) > 1).sum(axis=-1)
    stability = np.select([outside == 0, outside < eigenvalues.shape[-1]], [0, 1], 2)
    for n, (name, colour) in enumerate(KINDS):
        for hollow in (False, True):
            group = drawn & (stability == n) & ((speeds > slow) == hollow)
            if group.any():
                label = f"{name}, {'slow' if hollow else 'fixed'} ({group.sum()})"
                face = "white" if hollow else colour
                axes.scatter(
                    at[group, 0],
                    at[group, 1],
                    s=46,
                    facecolors=face,
                    edgecolors=colour,
                    linewidths=1.5,
                    label=label,
                    zorder=3,
                )
    axes.set_xlabel(f"first principal axis of (h, c), {fractions[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {fractions[1]:.0%}")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    plain(axes)
    return figure


def _draw_direction(axes: Axes, run: np.ndarray) -> None:
    """Draw the direction of a trajectory `[T, 2]` as an arrow half-way along its path."""
    path = np.append(0, np.cumsum(np.linalg.norm(np.diff(run, axis=0), axis=-1)))
    middle = int(np.searchsorted(path, path[-1] / 2))
    if middle:
        arrow = {"arrowstyle": "->", "color": "0.5", "linewidth": 0.9}
        axes.annotate("", xy=run[middle], xytext=run[middle - 1], arrowprops=arrow, zorder=2)


def _principal(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, two principal axes as columns, and the fractions of the variance along them."""
    centre = states.mean(axis=0)
    _, sizes, rows = np.linalg.svd(states - centre, full_matrices=len(states) < 2)
    variance = np.zeros(states.shape[1])
    variance[: len(sizes)] = sizes**2
    return centre, rows[:2].T, variance[:2] / max(variance.sum(), np.finfo(np.float64).tiny)
