"""How far a gradient reaches: its size at every step, and the paths by which it comes."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import one_of
from lstmjax.plot.sheet import LINES, Picture, layers_of, length_of, plain, sheet, whole_ticks
from lstmjax.types import Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike

PANELS = MappingProxyType({"h": ("h",), "c": ("c",), "z": ("z_i", "z_f", "z_g", "z_o")})
"""The fields of each panel, which are drawn as the norm of one vector."""

PATHS = MappingProxyType(
    {
        "total": (r"$\partial L/\partial c_t$, all of it", LINES[-1], "-"),
        "whole": ("by all paths", LINES[-1], "-"),
        "cell": ("along the cell, by f", LINES[1], "-"),
        "recurrent": ("by h, into the next gates", LINES[0], "--"),
        "output": ("by h, to the loss or the layer above", LINES[2], ":"),
        "peephole": ("by the peepholes", LINES[3], "-."),
    }
)
"""The label, colour and line style of each path."""

NO_GRADIENT = (
    "0 at every step: no step shown affects the loss.\n"
    "Of padded sequences ys[:, -1] is padding;\n"
    "return_sequences=False takes the last valid step."
)
"""What a panel says instead of staying empty."""

STYLES = MappingProxyType({"": "-", "forward": "-", "reverse": "--"})


def gradient_flow(
    flow: Any,
    *,
    fields: Sequence[str] | None = None,
    example: int | tuple[int, ...] | None = None,
    lengths: ArrayLike | None = None,
    title: str = "",
) -> Picture:
    """Draw the norm of the gradient at each step, on a log axis: a panel for h, c and z, a line for each layer.

    Args:
        flow: gradients `[..., T, H]` as `lstmjax.inside.gradient_flow` returns them: a `Step`, or a tuple with one for
            each layer; fields may be None.
        fields: names of panels: "h", "c", "z" (the pre-activations of all gates as one vector), or of fields of `Step`.
            None: those of h, c and z that are not None.
        example: the index of a sequence of the batch; None: the median over the batch, with a band from its 10th to its
            90th percentile.
        lengths: valid steps of each sequence, as for `lstm`: padding is not drawn, and does not count in the median.
            None: all steps are valid.
        title: the title of the figure.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`. A log axis cannot show a gradient of 0: the line is broken there, and
        the panel says at how many steps.

    Raises:
        TypeError: flow holds no `Step`.
        ValueError: a field is None or unknown, or the batch does not have the example.
    """
    parts = list(layers_of("flow", flow, "z_f"))
    if fields is None:
        first = parts[0][2]
        fields = [name for name, panel in PANELS.items() if any(getattr(first, field) is not None for field in panel)]
    if not fields:
        raise ValueError("flow has none of h, c and z, and fields names no other.")
    figure = sheet(3.6 * len(fields) + 1.4, 3.5, title or "the size of the gradient at each step")
    panels = figure.subplots(1, len(fields), sharex=True, sharey=True, squeeze=False)[0]
    colours = {layer: LINES[n % len(LINES)] for n, layer in enumerate(dict.fromkeys(layer for layer, _, _ in parts))}
    for axes, name in zip(panels, fields, strict=True):
        broken, all_zero = [], True
        for layer, direction, part in parts:
            norms = _norms(part, name, example, lengths)
            middle = np.array([np.median(column) for column in norms])
            label, zeros = ", ".join(filter(None, (layer, direction))), int((middle == 0).sum())
            all_zero &= zeros == len(middle)
            if zeros:
                broken.append(f"{label + ': ' if label else ''}0 at {zeros} of {len(middle)} steps")
            at, colour = np.arange(len(middle)), colours[layer]
            axes.plot(at, np.where(middle > 0, middle, np.nan), color=colour, ls=STYLES[direction], label=label)
            if len(norms[0]) > 1:
                low, high = np.transpose([np.quantile(column, (0.1, 0.9)) for column in norms])
                if (low > 0).any():  # Matplotlib refuses an empty band on a log axis
                    axes.fill_between(at, low, high, where=low > 0, color=colour, alpha=0.2, linewidth=0)
        if all_zero:
            broken = [NO_GRADIENT]
        axes.set_yscale("log")
        axes.set_title(rf"$\|\partial L/\partial {_letter(name)}\|$", fontsize=11)
        axes.set_xlabel("step t")
        axes.text(0.02, 0.98, "\n".join(broken), transform=axes.transAxes, va="top", fontsize=8, color="0.3")
        whole_ticks(axes)
        plain(axes)
    if len(parts) > 1:
        panels[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    several = "median over the batch" if example is None and _batched(parts[0][2]) else "one sequence"
    panels[0].set_ylabel(f"norm over the units, {several}", fontsize=9)
    return figure


def gradient_paths(
    paths: Any, *, example: int | tuple[int, ...] | None = None, lengths: ArrayLike | None = None, title: str = ""
) -> Picture:
    """Draw the norm of ∂L/∂c_t at each step for each path by which it comes, on a log axis: a panel for each layer.

    Args:
        paths: what `lstmjax.inside.gradient_paths` or `gradient_spans` returns: an object with some of total, cell,
            recurrent, output and peephole, or with cell and whole, each `[..., T, H]`; or a tuple with one for each
            layer.
        example: the index of a sequence of the batch; None: the median over the batch.
        lengths: valid steps of each sequence, as for `lstm`: padding is not drawn, and does not count in the median.
            None: all steps are valid.
        title: the title of the figure.

    Returns:
        `Picture`: a line for each path that is not None. Norms do not add up as the paths do. A log axis cannot show a
        norm of 0. A path is not drawn where it is lost in the rounding of the sum of all paths.

    Raises:
        TypeError: paths holds something else.
        ValueError: the batch does not have the example, or an array is not `[..., T, H]`.
    """
    parts = list(layers_of("paths", paths, "cell"))
    columns = min(len(parts), 2)
    lines = -(-len(parts) // columns)
    figure = sheet(
        4.0 * columns + 2.2, 3.0 * lines + 0.5, title or "the gradient of c at each step, by the paths it comes"
    )
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in panels[len(parts) :]:
        spare.remove()
    for axes, (layer, direction, part) in zip(panels, parts, strict=False):
        medians: dict[str, np.ndarray] = {}
        for name in PATHS:
            if getattr(part, name, None) is not None:
                norms = _norms_of(f"paths.{name}", [getattr(part, name)], example, lengths)
                medians[name] = np.array([np.median(column) for column in norms])
        lost = ROUNDINGS * _eps(part.cell) * medians.get("total", np.zeros(1))
        for name, middle in medians.items():
            label, colour, style = PATHS[name]
            drawn = np.where(middle > lost, middle, np.nan)
            axes.plot(np.arange(len(middle)), drawn, color=colour, ls=style, label=label)
            drawable = np.pad(np.isfinite(drawn), 1)
            alone = drawable[1:-1] & ~drawable[:-2] & ~drawable[2:]
            axes.scatter(np.flatnonzero(alone), drawn[alone], s=9, color=colour)  # a line needs two points
        if all((middle == 0).all() for middle in medians.values()):
            axes.text(0.02, 0.98, NO_GRADIENT, transform=axes.transAxes, va="top", fontsize=8, color="0.3")
        axes.set_yscale("log")
        axes.set_title(", ".join(filter(None, (layer, direction))), fontsize=10)
        axes.set_xlabel("step t")
        whole_ticks(axes)
        plain(axes)
    batched = example is None and np.ndim(parts[0][2].cell) > 2
    for axes in panels[: len(parts) : columns]:
        axes.set_ylabel(f"norm over the units,\n{'median over the batch' if batched else 'one sequence'}", fontsize=9)
    panels[columns - 1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


ROUNDINGS = 4
"""A path below this many roundings of the sum of all paths is not drawn: it may be a difference of equal numbers."""


def _eps(array: Any) -> float:
    """Return the distance from 1 to the next number of an array's dtype; of bfloat16, too."""
    return float(jnp.finfo(np.asarray(array).dtype).eps)


def _norms(part: Step, name: str, example: int | tuple[int, ...] | None, lengths: ArrayLike | None) -> list[np.ndarray]:
    """Return at each step the norms over the units: of one example, or of the sequences of the batch."""
    one_of("a field", name, (*PANELS, *(field for field in Step._fields if field not in PANELS)))
    arrays = [getattr(part, field) for field in PANELS.get(name, (name,)) if getattr(part, field) is not None]
    if not arrays:
        raise ValueError(f"flow has no {name}: it is None. Ask for it where the gradients are taken.")
    return _norms_of(f"flow.{name}", arrays, example, lengths)


def _norms_of(
    name: str, arrays: Sequence[Any], example: int | tuple[int, ...] | None, lengths: ArrayLike | None
) -> list[np.ndarray]:
    """Return at each step the norms over the last axes of arrays as one vector, of one example or of the whole batch.

    Sequences that have ended are left out, and so are the steps after the end of the longest one.
    """
    for array in arrays:
        if np.ndim(array) < 2:
            raise ValueError(f"{name} has shape {np.shape(array)}, expected [..., T, H].")
        if 0 in np.shape(array):
            raise ValueError(f"{name} has shape {np.shape(array)}: there is nothing in it to draw.")
    norms = np.sqrt(sum(np.sum(np.asarray(array).astype(np.float64) ** 2, axis=-1) for array in arrays))  # [..., T]
    *batch, steps = norms.shape
    if example is not None:
        index = example if isinstance(example, tuple) else (example,)
        if len(index) != len(batch) or any(not -size <= n < size for n, size in zip(index, batch, strict=True)):
            raise ValueError(f"example={example} is not within the batch axes {tuple(batch)} of {name}.")
    longest = length_of(lengths, example, tuple(batch), steps)
    ends = np.broadcast_to(steps if lengths is None else np.asarray(lengths), batch)
    if example is not None:
        norms, ends = norms[index], ends[index]
    norms, ends = norms.reshape(-1, steps), ends.reshape(-1)
    return [norms[ends > t, t] for t in range(longest)]


def _letter(name: str) -> str:
    """Return a field at step t in TeX: z_f as z_{f,t}."""
    letter, *gate = name.split("_")
    return f"{letter}_{{{','.join([*gate, 't'])}}}"


def _batched(part: Step) -> bool:
    return any(value is not None and np.ndim(value) > 2 for value in part)
