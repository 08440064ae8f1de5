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

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the bound."""
        return self.difference.relative <= self.bound


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
    """A cause, and how far both sides are apart if our side has it."""

    name: str
    where: str  # in which layer or direction, "" for all
    sentence: str
    difference: Difference
    proven: bool


@dataclass(frozen=True)
class Span:
    """Layers of our side, fed with what theirs gave below, and what theirs gave above them."""

    first: int
    side: Side
    theirs: Arrays
    precision: str

    def shown(self, arrays: Arrays) -> dict[str, Array]:
        """Gives of the last layer's arrays what is compared: those that theirs has, at valid steps."""
        return {name: self.side.shown(name, arrays[name]) for name in self.theirs}

    def valid(self) -> dict[str, Array]:
        """Gives what theirs has, with zeros at padding."""
        return {name: b if self.side.last else valid(b, self.side.longest) for name, b in self.theirs.items()}

    def compared(self, ours: list[Arrays], exact: list[Arrays]) -> list[Compared]:
        """Compares array by array; `exact` is our side in float64, which tells our own error."""
        a, e = self.shown(ours[-1]), self.shown(exact[-1])
        found = []
        for name, b in self.theirs.items():
            if a[name].shape != b.shape:
                raise ValueError(f"theirs has {name} of shape {b.shape}, expected {a[name].shape}.")
        for name, b in self.valid().items():
            bound = bounds.of_a_pair(self.precision, compare(a[name], e[name]).relative)
            found.append(Compared(name, compare(a[name], b), bound))
        return found


def worst(compared: list[Compared]) -> Compared:
    """Gives the array that is furthest from its bound."""
    return max(compared, key=lambda one: one.difference.relative / one.bound)


def place(span: Span) -> Place:
    """Gives where the outputs of a span that does not agree differ first."""
    ours, exact = span.side.run(), span.side.run("float64")
    limits = {one.name: one.bound for one in span.compared(ours, exact)}
    count = len(span.side.layers) + (span.side.head is not None)
    layer = span.first if count == 1 else None
    return _place(layer, span.shown(ours[-1]), span.valid(), limits, span)


class Search(NamedTuple):
    """What came of trying the causes."""

    tried: tuple[str, ...]
    finding: Finding | None  # the cause; else what takes most of the difference away, nine tenths at least
    place: Place | None  # where the cause shows first


def search(span: Span) -> Search:
    """Gives the first cause that explains a span; our side computes what theirs does, with it."""
    ours, exact = span.side.run(), span.side.run("float64")
    apart = worst(span.compared(ours, exact)).difference.relative
    closest: Finding | None = None
    tried: dict[str, None] = {}
    for row in CAUSES:
        for where, side in row.changed(span.side):
            tried[row.name] = None
            one = replace(span, side=side)
            now = side.run()
            difference = worst(one.compared(now, now)).difference
            if not difference.relative < apart / 10:
                continue
            if all(each.agrees for each in one.compared(now, side.run("float64"))):
                found = Finding(row.name, where, row.sentence, difference, True)
                return Search(tuple(tried), found, _changed_place(span, ours, exact, now))
            if closest is None or difference.relative < closest.difference.relative:
                closest = Finding(row.name, where, row.sentence, difference, False)
    return Search(tuple(tried), closest, None)


def _changed_place(span: Span, ours: list[Arrays], exact: list[Arrays], changed: list[Arrays]) -> Place:
    """Gives where our side and the changed one differ first: the layer, the step of its outputs, the gate in it."""
    for n, (a, b, e) in enumerate(zip(ours, changed, exact, strict=True)):
        limits = {name: bounds.of_a_pair(span.precision, compare(a[name], e[name]).relative) for name in a}
        end = "h" if "h" in a else "y"
        top = n == len(ours) - 1
        mine, other = (
            {name: span.side.shown(name, x) if top else _below(span.side, n, name, x) for name, x in side.items()}
            for side in (a, b)
        )
        if compare(mine[end], other[end]).relative > limits[end]:
            found = _place(span.first + n, {end: mine[end]}, {end: other[end]}, limits, span)
            at = found.sequence, found.step or 0
            for name in ORDER:
                if name in mine and _half(_beyond(mine[name], other[name], limits[name]), found.direction)[at].any():
                    return _named(found, name, mine[name], other[name])
    raise AssertionError("a cause that changes nothing explained a difference")


def _below(side: Side, n: int, name: str, a: Array) -> Array:
    """Return an array of a layer below the last one as it is compared."""
    a = valid(a, side.longest)
    return side.joined(n, a) if name == "h" else a


def _place(layer: int | None, ours: Arrays, theirs: Arrays, limits: Mapping[str, float], span: Span) -> Place:
    """Gives the earliest step of any array beyond its bound, and the array computed first; forward before reverse."""
    longest = span.side.longest
    own = () if layer is None else span.side.layers[layer - span.first :][:1]  # none: it is the head
    pair = isinstance(own[0], Bidirectional) and span.side.merge == "concat" if own else False
    for direction in ("forward", "reverse") if pair else (None,):
        beyond = {name: _half(_beyond(ours[name], theirs[name], limits[name]), direction) for name in ours}
        steps = np.any([b.any(-1) for b in beyond.values()], axis=0)  # [B, T]
        if not steps.any():
            continue
        t = np.arange(steps.shape[1])
        when = np.where(t < longest[:, None], longest[:, None] - 1 - t, t) if direction == "reverse" else t + 0 * steps
        at = np.unravel_index(np.argmin(np.where(steps, when, steps.size)), steps.shape)
        name = next(name for name in ORDER if name in beyond and beyond[name][at].any())
        step = None if steps.shape[1] < span.side.xs.shape[1] else int(at[1])
        found = Place(layer, direction, int(at[0]), step, 0, name, 0.0, 0.0)
        return _named(found, name, ours[name], theirs[name])
    raise AssertionError("no array is beyond its bound")


def _named(at: Place, name: str, ours: Array, theirs: Array) -> Place:
    """Gives a place with an array's largest difference at its step: the unit, and what both sides have there."""
    a, b = (_half(x, at.direction)[at.sequence, at.step or 0].astype(np.float64) for x in (ours, theirs))
    unit = int(np.nan_to_num(np.abs(a - b), nan=np.inf).argmax())
    return at._replace(what=name.removeprefix("z_"), unit=unit, theirs=float(b[unit]), ours=float(a[unit]))


def _beyond(a: Array, b: Array, bound: float) -> Array:
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(b)
    return ~(np.abs(a - b) <= bound * np.abs(np.where(finite, b, 0)).max(initial=0.0))


def _half(a: Array, direction: str | None) -> Array:
    half = a.shape[-1] // 2
    return a if direction is None else a[..., :half] if direction == "forward" else a[..., half:]
