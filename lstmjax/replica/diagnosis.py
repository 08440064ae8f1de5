"""Where two sides begin to differ, and which cause makes our side compute as theirs does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lstmjax.replica import bounds
from lstmjax.replica.causes import CAUSES
from lstmjax.replica.compare import Difference, compare
from lstmjax.replica.sides import Array, Arrays, Side, valid
from lstmjax.types import Bidirectional

ORDER = ("i", "z_i", "f", "z_f", "g", "z_g", "c", "o", "z_o", "m", "h", "y")
"""The arrays of a step in the order in which they are computed."""


class Compared(NamedTuple):
    """One array of both sides."""

    name: str
    difference: Difference
    bound: float
    error: Difference  # of our side from itself in float64
    precision: str

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the bound."""
        return self.difference.relative <= self.bound

    @property
    def differs(self) -> bool:
        """Whether the difference is beyond the bound, and beyond what rounding alone could be."""
        # In absolute numbers: as a share of their arrays, whose numbers may be of any size, no difference is above 1 by
        # much.
        return not self.agrees and bounds.decides(self.precision, self.error.absolute, self.difference.absolute)


class Place(NamedTuple):
    """Where two sides differ first, in the order of computing."""

    layer: int | None  # None: only the outputs of several layers are known
    direction: str | None
    sequence: int
    step: int | None  # None: only the last step is known
    unit: int
    what: str  # a gate (i, f, g, o), c, m, h, or y of the head
    theirs: float
    ours: float


class Finding(NamedTuple):
    """A cause, and the difference of both sides when our side has it."""

    name: str
    where: str  # in which layer or direction, "" for all
    sentence: str
    difference: Difference
    proven: bool


@dataclass(frozen=True)
class Span:
    """Layers of our side that run on what theirs computed below, and what theirs computed with them."""

    first: int
    side: Side
    theirs: Arrays
    precision: str

    def shown(self, arrays: Arrays) -> dict[str, Array]:
        """Return what is compared of the last layer's arrays: those that theirs has, at valid steps."""
        return {name: self.side.shown(name, arrays[name]) for name in self.theirs}

    def valid(self) -> dict[str, Array]:
        """Return what theirs has, with zeros at padding."""
        return {name: b if self.side.last else valid(b, self.side.longest) for name, b in self.theirs.items()}

    def compared(self, ours: list[Arrays], exact: list[Arrays], *, finite: bool = False) -> list[Compared]:
        """Compare array by array.

        Args:
            ours: what our side computes.
            exact: the same in float64, from which the error of our side follows.
            finite: compare only the numbers that are finite on both sides.
        """
        return compare_arrays(self.shown(ours[-1]), self.shown(exact[-1]), self.valid(), self.precision, finite=finite)


def compare_arrays(
    ours: Mapping[str, Array],
    exact: Mapping[str, Array],
    theirs: Mapping[str, Array],
    precision: str,
    *,
    finite: bool = False,
) -> list[Compared]:
    """Compare arrays of both sides by name; see `Span.compared`."""
    compared = []
    for name, b in theirs.items():
        a, e = ours[name], exact[name]
        check_shape(name, b, a)
        if finite:
            numbers = np.isfinite(_wide(a)) & np.isfinite(_wide(e)) & np.isfinite(_wide(b))
            a, e, b = (np.where(numbers, x, x.dtype.type(0)) for x in (a, e, b))
        error = compare(a, e)
        compared.append(Compared(name, compare(a, b), bounds.of_a_pair(precision, error.relative), error, precision))
    return compared


def check_shape(name: str, theirs: Array, ours: Array) -> None:
    """Refuse an array of theirs whose shape is not that of ours."""
    if theirs.shape != ours.shape:
        raise ValueError(f"theirs has {name} of shape {theirs.shape}, expected {ours.shape}.")


def _wide(a: Array) -> Array:
    return a.astype(np.float64)


def worst(compared: list[Compared]) -> Compared:
    """Return the array that is furthest from its bound."""
    return max(compared, key=lambda array: array.difference.relative / array.bound)


def place(span: Span) -> Place:
    """Return where the outputs of a span that does not agree differ first."""
    ours, exact = span.side.run(), span.side.run("float64")
    limits = {array.name: array.bound for array in span.compared(ours, exact)}
    count = len(span.side.layers) + (span.side.head is not None)
    layer = span.first if count == 1 else None
    return _place(layer, span.shown(ours[-1]), span.valid(), limits, span)


class Search(NamedTuple):
    """The causes that were tried, and what came of it."""

    tried: tuple[str, ...]
    finding: Finding | None  # the cause; else what takes most of the difference away, nine tenths at least
    place: Place | None  # where the cause shows first


def search(span: Span) -> Search:
    """Return the first cause that explains a span: with it, our side computes what theirs does."""
    ours, exact = span.side.run(), span.side.run("float64")
    unexplained = worst(span.compared(ours, exact)).difference.relative
    closest: Finding | None = None
    tried: dict[str, None] = {}
    for row in CAUSES:
        for where, side in row.changed(span.side):
            tried[row.name] = None
            changed_span = replace(span, side=side)
            changed = side.run()
            difference = worst(changed_span.compared(changed, changed)).difference
            if not difference.relative < unexplained / 10:
                continue
            if all(array.agrees for array in changed_span.compared(changed, side.run("float64"))):
                cause = Finding(row.name, where, row.sentence, difference, True)
                return Search(tuple(tried), cause, _changed_place(span, ours, exact, changed))
            if closest is None or difference.relative < closest.difference.relative:
                closest = Finding(row.name, where, row.sentence, difference, False)
    return Search(tuple(tried), closest, None)


def _changed_place(span: Span, ours: list[Arrays], exact: list[Arrays], changed: list[Arrays]) -> Place:
    """Return where our side and the changed one differ first: the layer, the step of its outputs, the gate in it."""
    for n, (a, b, e) in enumerate(zip(ours, changed, exact, strict=True)):
        limits = {name: bounds.of_a_pair(span.precision, compare(a[name], e[name]).relative) for name in a}
        end = "h" if "h" in a else "y"
        a, b = _layer_arrays(span, n, a), _layer_arrays(span, n, b)
        if compare(a[end], b[end]).relative <= limits[end]:
            continue
        first = _place(span.first + n, {end: a[end]}, {end: b[end]}, limits, span)
        index = first.sequence, first.step or 0
        for name in ORDER:
            if name in a and _half(_beyond(a[name], b[name], limits[name]), first.direction)[index].any():
                return _with_unit(first, name, a[name], b[name])
    raise AssertionError("a cause that changes nothing explained a difference")


def _layer_arrays(span: Span, n: int, arrays: Arrays) -> dict[str, Array]:
    """Return the arrays of layer n of a span as they are compared."""
    side = span.side
    if n == len(side.layers) + (side.head is not None) - 1:
        return {name: side.shown(name, a) for name, a in arrays.items()}
    at_valid_steps = {name: valid(a, side.longest) for name, a in arrays.items()}
    return {name: side.joined(n, a) if name == "h" else a for name, a in at_valid_steps.items()}


def _place(layer: int | None, ours: Arrays, theirs: Arrays, limits: Mapping[str, float], span: Span) -> Place:
    """Return the earliest step of any array beyond its bound, and the array computed first; forward before reverse."""
    longest = span.side.longest
    directions: tuple[str | None, ...] = (None,)
    if layer is not None and span.side.merge == "concat":
        stack = (*span.side.layers, span.side.head)
        if isinstance(stack[layer - span.first], Bidirectional):
            directions = Bidirectional._fields
    for direction in directions:
        beyond = {name: _half(_beyond(ours[name], theirs[name], limits[name]), direction) for name in ours}
        steps = np.any([b.any(-1) for b in beyond.values()], axis=0)  # [B, T]
        if not steps.any():
            continue
        t = np.arange(steps.shape[1])
        when = np.where(t < longest[:, None], longest[:, None] - 1 - t, t) if direction == "reverse" else t + 0 * steps
        index = np.unravel_index(np.argmin(np.where(steps, when, steps.size)), steps.shape)
        name = next(name for name in ORDER if name in beyond and beyond[name][index].any())
        step = None if steps.shape[1] < span.side.xs.shape[1] else int(index[1])
        first = Place(layer, direction, int(index[0]), step, 0, name, 0.0, 0.0)
        return _with_unit(first, name, ours[name], theirs[name])
    raise AssertionError("no array is beyond its bound")


def _with_unit(at: Place, name: str, ours: Array, theirs: Array) -> Place:
    """Return a place with an array's largest difference at its step: the unit, and the numbers of both sides."""
    a, b = (_wide(_half(x, at.direction)[at.sequence, at.step or 0]) for x in (ours, theirs))
    with np.errstate(invalid="ignore"):  # the difference of two infinities
        unit = int(np.nan_to_num(np.abs(a - b), nan=np.inf).argmax())
    return at._replace(what=name.removeprefix("z_"), unit=unit, theirs=float(b[unit]), ours=float(a[unit]))


def _beyond(a: Array, b: Array, bound: float) -> Array:
    """Return which numbers differ by more than the bound; those that are not finite do."""
    a, b = _wide(a), _wide(b)
    largest = np.abs(np.where(np.isfinite(b), b, 0)).max(initial=0.0)
    with np.errstate(invalid="ignore"):  # the difference of two infinities
        return ~(np.abs(a - b) <= bound * largest)


def _half(a: Array, direction: str | None) -> Array:
    """Return the units of one direction of a pair; of None all."""
    half = a.shape[-1] // 2
    if direction is None:
        return a
    return a[..., :half] if direction == "forward" else a[..., half:]
