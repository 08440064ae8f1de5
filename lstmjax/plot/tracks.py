"""A layer over time: all units as heat maps, one unit as curves, with the input or the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lstmjax.keywords import takes
from lstmjax.plot.sheet import (
    GATE_COLOURS,
    LINES,
    MAPS,
    NAMES,
    UNIT_INTERVAL,
    Picture,
    check_step,
    length_of,
    limits,
    plain,
    sequence_of,
    sheet,
    span_of,
    values,
    whole_ticks,
)
from lstmjax.types import Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike

MOST_LABELS = 240
"""The most characters or words that can be read along one axis."""

COLOURED = 0.995
"""The fraction of the numbers within the range of colours; a few large ones would make the others pale."""


class TrackOptions(TypedDict, total=False):
    """How one layer is drawn over the steps of one sequence."""

    xs: ArrayLike | None
    """The input `[T, I]`, with the batch axes of step; shown above."""
    text: Sequence[str] | None
    """T characters or words, written along the steps instead of their numbers."""
    marks: Sequence[int]
    """Steps at which a line is drawn."""
    span: tuple[int, int] | None
    """The first step that is shown, and the step after the last one; None: all steps."""
    example: int | tuple[int, ...] | None
    """The index of a sequence of the batch."""
    lengths: ArrayLike | None
    """Valid steps of each sequence; None: all steps are valid."""
    title: str
    """The title of the figure; "": what it shows."""


class Tracks(NamedTuple):
    """Values of one sequence over its steps, and how they are drawn."""

    values: dict[str, np.ndarray]  # of each field, [T, H]
    first: int  # the first step that is shown
    behind: int  # the step after the last one
    labels: list[str] | None  # a text for each step that is shown; None: numbers
    xs: np.ndarray | None  # [T, I], drawn above
    marks: Sequence[int]
    title: str

    @property
    def shown(self) -> slice:
        """The steps that are shown."""
        return slice(self.first, self.behind)

    def rows(self, heights: Sequence[float], of_input: float, scale: float, title: str) -> tuple[Picture, list[Axes]]:
        """Return a figure and a row of it for each height, below the input if there is one.

        Args:
            heights: of the rows.
            of_input: the height of the input.
            scale: inches of a height of 1.
            title: the title, if the caller named none.
        """
        above = [] if self.xs is None else [of_input]
        heights = [*above, *heights]
        figure = sheet(_width(self.behind - self.first, self.labels), 0.9 + scale * sum(heights), self.title or title)
        rows = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        if self.xs is not None:
            _draw_input(rows[0], self.xs, self.first, self.behind)
            self.mark(rows[0])
        return figure, rows[len(above) :]

    def mark(self, axes: Axes) -> None:
        """Draw a broken line at each marked step."""
        _draw_marks(axes, self.marks, self.first, self.behind)


def tracks_of(
    step: Step,
    fields: Sequence[str],
    *,
    xs: ArrayLike | None = None,
    text: Sequence[str] | None = None,
    marks: Sequence[int] = (),
    span: tuple[int, int] | None = None,
    example: int | tuple[int, ...] | None = None,
    lengths: ArrayLike | None = None,
    title: str = "",
) -> Tracks:
    """Return the fields of one sequence, checked; arguments as for `gates`."""
    chosen = {field: sequence_of(f"step.{field}", values("step", step, field), example) for field in fields}
    steps = chosen[fields[0]].shape[0]
    batch = np.shape(getattr(step, fields[0]))[:-2]
    first, behind = span_of(span, length_of(lengths, example, batch, steps))
    inputs = None if xs is None else _inputs(xs, example, steps)
    return Tracks(chosen, first, behind, _labels(text, first, behind, steps), inputs, marks, title)


@takes(TrackOptions, tracks_of)
def gates(
    step: Step,
    *,
    fields: Sequence[str] = ("i", "f", "o", "c"),
    sort: str | ArrayLike | None = "f",
    criterion: str = "",
    **options: Unpack[TrackOptions],
) -> Picture:
    """Draw the gates of one layer over the steps of one sequence as heat maps, with a row for each unit.

    The colours of gates go from 0 to 1, those of values with a sign are symmetric about 0. For values without bounds,
    the largest 0.5% have the colour of the end, and the colour bar has a point there.

    Args:
        step: `Step` of arrays `[T, H]`, or `[..., T, H]` with `example`.
        fields: names of fields of `Step`, with a heat map for each.
        sort: the order of the units, the largest on top: the name of a field, for its mean over the steps shown; or
            scores `[H]`. None: by the numbers of the units.
        criterion: the meaning of the scores, for the label.
        xs: the input `[T, I]`, with the batch axes of step; shown above.
        text: T characters or words, written along the steps instead of their numbers.
        marks: steps at which a line is drawn.
        span: the first step that is shown, and the step after the last one; None: all steps.
        example: the index of a sequence of the batch.
        lengths: valid steps of each sequence, as for `lstm`: padding is neither drawn nor counted in the order of the
            units. None: all steps are valid.
        title: the title of the figure.

    Returns:
        `Picture`, a `matplotlib.figure.Figure`. Units and steps are labelled by their numbers in the arrays, from 0.

    Raises:
        TypeError: step is not the `Step` of one layer in one direction.
        ValueError: a field is None or unknown, or sizes do not fit each other.
    """
    step = check_step("step", step)
    if not fields:
        raise ValueError("fields is empty, expected names of fields of Step, such as ('f', 'c').")
    tracks = tracks_of(step, fields, **options)
    hidden, example = _hidden(step), options.get("example")
    first, behind = tracks.first, tracks.behind
    order, label = _order(step, sort, criterion, example, tracks.shown)
    title = f"the {hidden} units of a layer over the steps"
    figure, rows = tracks.rows([1.0] * len(fields), 0.55, 1.75, title)
    for axes, (field, value) in zip(rows, tracks.values.items(), strict=True):
        projected = field == "h" and value.shape[1] != hidden
        units = np.arange(value.shape[1]) if projected or order is None else order
        low, high = limits(field, value[first:behind], COLOURED)
        image = axes.imshow(
            value[first:behind, units].T,
            aspect="auto",
            cmap=MAPS[field in UNIT_INTERVAL],
            vmin=low,
            vmax=high,
            extent=(first - 0.5, behind - 0.5, value.shape[1] - 0.5, -0.5),
        )
        places = np.unique(np.linspace(0, len(units) - 1, len(units) if len(units) <= 12 else 8).round().astype(int))
        axes.set_yticks(places, [str(units[place]) for place in places], fontsize=8)
        axes.set_title(NAMES[field], fontsize=10, loc="left", pad=3)
        axes.set_ylabel("number of the projected h" if projected else label, fontsize=9)
        beyond = field not in UNIT_INTERVAL and bool((np.abs(value[first:behind]) > high).any())
        figure.colorbar(image, ax=axes, pad=0.01, aspect=14, extend="both" if beyond else "neither")
        tracks.mark(axes)
    _draw_steps(rows[-1], tracks.labels, first, behind)
    return figure


@takes(TrackOptions, tracks_of)
def unit(step: Step, unit: int, *, fields: Sequence[str] | None = None, **options: Unpack[TrackOptions]) -> Picture:
    """Draw one unit over the steps of one sequence as curves: its gates, and below them g, c and m.

    Args:
        step: `Step` of arrays `[T, H]`, or `[..., T, H]` with `example`.
        unit: the number of the unit, counted from 0.
        fields: names of fields of `Step`. None: those of i, f, o, g, c and m that are not None.
        xs: the input `[T, I]`, with the batch axes of step; shown above.
        text: T characters or words, written along the steps instead of their numbers.
        marks: steps at which a line is drawn.
        span: the first step that is shown, and the step after the last one; None: all steps.
        example: the index of a sequence of the batch.
        lengths: valid steps of each sequence, as for `lstm`: padding is not drawn. None: all steps are valid.
        title: the title of the figure; "": the number of the unit.

    Returns:
        `Picture`: one panel for i, f, o between 0 and 1, one for each of the others.

    Raises:
        TypeError: step is not the `Step` of one layer in one direction.
        ValueError: a field is None or unknown, there is no such unit, or sizes do not fit each other.
    """
    step = check_step("step", step)
    if fields is None:
        fields = [field for field in ("i", "f", "o", "g", "c", "m") if getattr(step, field) is not None]
    if not fields:
        raise ValueError("step has none of i, f, o, g, c and m, and fields names no other. Pass fields=('h',), say.")
    tracks = tracks_of(step, fields, **options)
    for field, value in tracks.values.items():
        if not 0 <= unit < value.shape[1]:
            raise ValueError(f"unit is {unit}, but step.{field} has units 0 to {value.shape[1] - 1}.")
    together = [field for field in fields if field in UNIT_INTERVAL]
    panels = [*([together] if together else []), *([field] for field in fields if field not in UNIT_INTERVAL)]
    heights = [1.3 if panel == together else 0.8 for panel in panels]
    figure, rows = tracks.rows(heights, 0.7, 1.3, f"unit {unit} over the steps")
    at = np.arange(tracks.first, tracks.behind)
    for axes, panel in zip(rows, panels, strict=True):
        for field in panel:
            axes.plot(
                at, tracks.values[field][tracks.shown, unit], color=GATE_COLOURS.get(field, LINES[5]), label=field
            )
        if panel == together:
            axes.set_ylim(-0.03, 1.03)
            axes.set_ylabel("gate")
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
        else:
            axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
            field = panel[0]
            axes.set_ylabel(NAMES[field] if field == "m" else NAMES[field].replace(" ", "\n", 1))
        axes.yaxis.label.set_fontsize(9)
        plain(axes)
        tracks.mark(axes)
    _draw_steps(rows[-1], tracks.labels, tracks.first, tracks.behind)
    figure.align_ylabels(figure.axes)
    return figure


def _order(
    step: Step, sort: Any, criterion: str, example: int | tuple[int, ...] | None, span: slice
) -> tuple[np.ndarray | None, str]:
    """Return the order of the units from the top down (None: by number), and the label of the axis."""
    if sort is None:
        return None, "unit"
    if isinstance(sort, str):
        scores = sequence_of(f"step.{sort}", values("step", step, sort), example)[span].mean(axis=0)
        return np.argsort(-scores, kind="stable"), f"unit, sorted by mean {sort}"
    scores, hidden = np.asarray(sort), _hidden(step)
    if scores.shape != (hidden,):
        raise ValueError(f"sort has shape {scores.shape}, expected ({hidden},): a score for each unit of step.")
    return np.argsort(-scores, kind="stable"), f"unit, sorted by {criterion or 'score'}"


def _hidden(step: Step) -> int:
    """Return H; the width of h, which may be projected, only if there is no other field."""
    return next(value for value in step if value is not None).shape[-1]


def _inputs(xs: ArrayLike, example: int | tuple[int, ...] | None, steps: int) -> np.ndarray:
    """Return the input of one sequence, `[T, I]`."""
    value = sequence_of("xs", xs, example)
    if value.shape[0] != steps:
        raise ValueError(f"xs has {value.shape[0]} steps, but step has {steps}.")
    return value


def _labels(text: Sequence[str] | None, first: int, behind: int, steps: int) -> list[str] | None:
    """Return the text at the steps that are shown, with signs for blanks and line breaks."""
    if text is None:
        return None
    if len(text) != steps:
        raise ValueError(f"text has {len(text)} characters or words, but step has {steps} steps: one each.")
    if behind - first > MOST_LABELS:
        raise ValueError(
            f"text would write {behind - first} labels along one axis, more than {MOST_LABELS} cannot be read. "
            f"Pass a span, such as span=({first}, {first + MOST_LABELS})."
        )
    return ["␣" if label == " " else label.replace("\n", "↵") for label in text[first:behind]]


def _width(steps: int, labels: list[str] | None) -> float:
    """Return the width of the figure in inches."""
    return 9.0 if labels is None else min(max(9.0, 1.8 + 0.1 * steps), 26.0)


def _draw_input(axes: Axes, xs: np.ndarray, first: int, behind: int) -> None:
    """Draw a few features as curves, many as an image."""
    if xs.shape[1] <= 4:
        for k, colour in zip(range(xs.shape[1]), LINES, strict=False):
            axes.plot(np.arange(first, behind), xs[first:behind, k], color=colour, linewidth=1, label=f"x{k}")
        plain(axes)
        if xs.shape[1] > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
        axes.set_ylabel("input x", fontsize=9)
    else:
        extent = (first - 0.5, behind - 0.5, xs.shape[1] - 0.5, -0.5)
        axes.imshow(xs[first:behind].T, aspect="auto", cmap="Greys", extent=extent)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(axis="y", labelsize=8)
        axes.set_ylabel("input,\nfeature", fontsize=9)


def _draw_marks(axes: Axes, marks: Sequence[int], first: int, behind: int) -> None:
    """Draw a broken line at each marked step."""
    for mark in marks:
        if not first <= mark < behind:
            raise ValueError(f"marks has step {mark}, but steps {first} to {behind - 1} are shown.")
        axes.axvline(mark, color="white", linewidth=1.2)  # so that the dashes stand out on dark and on light
        axes.axvline(mark, color="black", linestyle=(0, (4, 3)), linewidth=1.2)


def _draw_steps(axes: Axes, labels: list[str] | None, first: int, behind: int) -> None:
    """Label the axis of the steps."""
    axes.set_xlim(first - 0.5, behind - 0.5)
    if labels is None:
        whole_ticks(axes)
        axes.set_xlabel("step t")
        return
    words = any(len(label) > 1 for label in labels)
    axes.set_xticks(range(first, behind), labels, fontsize=9, rotation=90 if words else 0, fontfamily="monospace")
    axes.tick_params(axis="x", length=2, pad=2)
    axes.set_xlabel("step t, by its word" if words else "step t, by its character")
