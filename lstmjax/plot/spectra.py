"""The spectra of Jacobians: the directions that a step remembers, and those that it forgets."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from lstmjax.arguments import one_of
from lstmjax.plot.sheet import LINES, Picture, length_of, plain, sheet, whole_ticks

if TYPE_CHECKING:
    from jax.typing import ArrayLike

VIRIDIS = colormaps["viridis"]


def spectrum(
    values: ArrayLike, *, kind: str | None = None, lengths: ArrayLike | None = None, title: str = ""
) -> Picture:
    """Draw the spectrum of one Jacobian, or of one at each of N steps.

    Args:
        values: `[K]`, or `[N, K]` for several: eigenvalues or singular values of Jacobians, Lyapunov exponents.
        kind: "eigenvalues", "singular values" or "exponents". None: eigenvalues if values are complex, else
            singular values.
        lengths: the number of valid steps, of values at each of N steps: the others are padding, and not drawn. None:
            all are valid.
        title: the title of the figure.

    Returns:
        `Picture`: eigenvalues in the complex plane with the unit circle (a direction decays inside the circle, and is
        remembered on it); singular values on a log axis with a line at 1, by rank for one Jacobian, over the steps for
        several; exponents by rank with a line at 0.

    Raises:
        ValueError: kind is unknown, there are no values, values are a square without a kind (a Jacobian itself?), a
            singular value is below 0, or values are complex where real ones are expected.

    >>> spectrum([0.99, 0.5, 0.1]).axes[0].get_ylabel()
    'singular value'
    """
    array = np.asarray(values)
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(
            f"values has shape {array.shape}, expected [K], or [N, K] for several Jacobians. Of Jacobians "
            "[T, S, S] pass np.linalg.eigvals(jacobians), or singular_values(jacobians[:, None]) for each step."
        )
    if lengths is not None:
        if array.ndim != 2:
            raise ValueError(f"lengths is given, but values has shape {array.shape}, without an axis of steps [N, K].")
        array = array[: length_of(lengths, None, (), len(array))]
    if array.ndim == 2 and len(array) == array.shape[1] and kind is None and len(array) > 1:
        raise ValueError(
            f"values has shape {array.shape}, a square: is it a Jacobian? Of one pass np.linalg.eigvals(jacobian) "
            f"or singular_values(jacobian[None]). If it holds {len(array)} values at each of {len(array)} steps, say "
            "which: kind='eigenvalues' or 'singular values'."
        )
    kind = kind or ("eigenvalues" if np.iscomplexobj(array) else "singular values")
    one_of("kind", kind, tuple(SPECTRA))
    if kind != "eigenvalues" and np.iscomplexobj(array):
        raise ValueError(f"values are complex, but {kind} are real. Pass kind='eigenvalues', or no kind.")
    if kind == "singular values" and np.nanmin(array.real) < 0:
        raise ValueError(
            f"values go down to {np.nanmin(array.real):.3g}, but no singular value is below 0. "
            "Pass kind='exponents' for Lyapunov exponents, kind='eigenvalues' for real eigenvalues."
        )
    figure = sheet(5.0, 4.4 if kind == "eigenvalues" else 3.6, title or _title(kind, array))
    SPECTRA[kind](figure.subplots(), np.atleast_2d(array))
    return figure


def _title(kind: str, array: np.ndarray) -> str:
    """Return what is seen: of one Jacobian, or of several."""
    if kind == "exponents":
        return "the Lyapunov exponents of a layer"
    return f"the {kind} of {'one Jacobian' if array.ndim == 1 else f'{len(array)} Jacobians'}"


def _eigenvalues(axes: Axes, array: np.ndarray) -> None:
    turn = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(turn), np.sin(turn), color="0.4", linewidth=1, label="|λ| = 1")
    axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    for n, row in enumerate(array):
        colour = LINES[0] if len(array) == 1 else VIRIDIS(n / (len(array) - 1))
        axes.scatter(row.real, row.imag, color=colour, s=16, alpha=0.8, edgecolors="none")
    if len(array) > 1:
        scale = ScalarMappable(Normalize(0, len(array) - 1), VIRIDIS)
        axes.figure.colorbar(scale, ax=axes, label="step t", aspect=25, shrink=0.85, ticks=MaxNLocator(integer=True))
    most = 1.15 * max(1.0, float(np.nanmax(np.abs(array))))
    axes.set(xlim=(-most, most), ylim=(-most, most), aspect="equal", xlabel="Re λ", ylabel="Im λ")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _singular(axes: Axes, array: np.ndarray) -> None:
    array = -np.sort(-array, axis=-1)
    drawn = np.where(array > 0, array, np.nan)
    if len(array) == 1:
        axes.plot(np.arange(1, array.shape[1] + 1), drawn[0], color=LINES[0], marker="o", markersize=3)
        axes.set_xlabel("rank")
    else:
        axes.plot(drawn, color="0.75", linewidth=0.6)
        axes.lines[0].set_label(f"all {array.shape[1]}")
        for rank, name, colour in (
            (0, "largest", LINES[1]),
            (array.shape[1] // 2, "median", LINES[0]),
            (-1, "smallest", LINES[2]),
        ):
            axes.plot(drawn[:, rank], color=colour, label=name)
        axes.set_xlabel("step t")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.axhline(1, color="0.4", linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_ylabel("singular value")
    whole_ticks(axes)
    plain(axes)


def _exponents(axes: Axes, array: np.ndarray) -> None:
    array = -np.sort(-array, axis=-1)
    for n, row in enumerate(array):
        label = f"row {n}" if len(array) > 1 else None
        axes.plot(
            np.arange(1, len(row) + 1), row, color=LINES[n % len(LINES)], marker="o", ms=3, alpha=0.8, label=label
        )
    if 1 < len(array) <= len(LINES):
        axes.legend(frameon=False, fontsize=8)
    axes.axhline(0, color="0.4", linewidth=1, linestyle=":")
    axes.set(xlabel="rank", ylabel="Lyapunov exponent (per step)")
    whole_ticks(axes)
    plain(axes)


SPECTRA = MappingProxyType({"eigenvalues": _eigenvalues, "singular values": _singular, "exponents": _exponents})
