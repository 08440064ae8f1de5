"""Interventions: wrappers that change values inside a step, to see what these values do.

    network(params, xs, wrappers=(Ablate("c", (3,), layer=1, steps=(10, 50)),))

Each changes one named value of the step (a field of `Step`): everything that the step computes from the value uses the
changed one, and a trace shows it. The first intervention is the closest to the cell; the next one gets its result.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import kind, one_of
from lstmjax.types import Array, PyTree, Step
from lstmjax.wrappers import Inner, Wrapper

DIRECTIONS = ("forward", "reverse")
Values = float | tuple[float, ...]


@dataclass(frozen=True)
class Unchanged:
    """Change nothing: the wrapper in a layer or direction to which an intervention does not apply."""

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[None, None]:
        return None, None

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        return inner(params, state, x)


@dataclass(frozen=True)
class Intervention:
    """What all interventions share: the value that they change, and its units, layer and steps.

    Args:
        gate: a field of `Step`: a gate i, f, g or o, its pre-activation z_i, z_f, z_g or z_o, or c, m or h.
        units: the units to change, counted from 0; None: all.
        steps: (start, stop), the steps from start to before stop, as they are numbered in xs, in a reverse direction
            too; stop None: to the end. None: all steps.
        layer: the layer of a stack, counted from 0 at the bottom; None: all layers.
        direction: "forward" or "reverse"; None: both.
    """

    gate: str
    units: tuple[int, ...] | None = field(default=None, kw_only=True)
    steps: tuple[int, int | None] | None = field(default=None, kw_only=True)
    layer: int | None = field(default=None, kw_only=True)
    direction: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        one_of("gate", self.gate, Step._fields)
        one_of("direction", self.direction, (None, *DIRECTIONS))
        if self.units is not None and not (isinstance(self.units, tuple) and all(map(_is_count, self.units))):
            raise ValueError(
                f"units is {self.units!r}, expected a tuple of units of {self.gate}, counted from 0: units=(3,). "
                "Of an array: tuple(map(int, units))."
            )
        if self.layer is not None and not _is_count(self.layer):
            raise ValueError(f"layer is {self.layer!r}, expected the number of a layer, counted from 0 at the bottom.")
        if self.steps is not None and not _is_span(self.steps):
            raise ValueError(
                f"steps is {self.steps!r}, expected (start, stop), counted from 0, start below stop: steps=(10, 50)."
            )

    def changed(self, value: Array, drawn: Array | None) -> Array:
        """Return the changed value `[..., H]`, as if all units were to change."""
        raise NotImplementedError

    def at(self, layer: int, direction: str, pairs: tuple[bool, ...]) -> Wrapper:
        """Return the wrapper for one direction of one layer; `pairs` flags the layers with two directions."""
        if self.layer is not None and self.layer >= len(pairs):
            raise ValueError(f"layer is {self.layer}, but the layers are 0 to {len(pairs) - 1}: {self}.")
        if self.direction == "reverse" and not any(pairs if self.layer is None else pairs[self.layer :][:1]):
            raise ValueError(f"direction is 'reverse', but the layers that it is for have one direction only: {self}.")
        applies = self.layer in (None, layer) and self.direction in (None, direction)
        return replace(self, layer=None, direction=None) if applies else Unchanged()

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[None, tuple]:
        if self.layer is not None or self.direction is not None:
            raise ValueError(
                "layer and direction are for stacked and network, which tell a wrapper where it stands; here it stands "
                f"in one layer alone, so leave them out: {self}."
            )
        return None, (self._flags(steps), None)

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        new, out = inner(params, state, x, tap=lambda name, a: self.put(a, extras) if name == self.gate else a)
        if isinstance(out, Step) and getattr(out, self.gate) is None:
            raise ValueError(f"gate is {self.gate!r}, but the cell has no such block, so there is nothing to change.")
        return new, out

    def put(self, value: Array, extras: Any) -> Array:
        """Return a value `[..., H]`, changed in the selected units at the selected steps."""
        _, (at_step, drawn) = extras
        selected = selected_units(self, value.shape)
        if at_step is not None:
            selected = selected & jnp.broadcast_to(at_step, selected.shape)
        return jnp.where(selected, self.changed(value, drawn), value)

    def _flags(self, steps: int) -> Array | None:
        """Return the selected steps, bool `[T]`; None: all."""
        if self.steps is None:
            return None
        start, stop = self.steps
        if start >= steps > 0:
            raise ValueError(f"steps is {self.steps}, but xs has T = {steps} steps, 0 to {steps - 1}: {self}.")
        t = np.arange(steps)
        return jnp.asarray((start <= t) & (t < (steps if stop is None else stop)))


@dataclass(frozen=True)
class Fix(Intervention):
    """Replace a gate by a number: `Fix("f", 1.0)` never forgets.

    Args:
        gate, units, steps, layer, direction: as for every `Intervention`.
        value: one number, or a tuple with a number for each of the units.
    """

    value: Values

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values("value", self.value)

    def changed(self, value: Array, drawn: Array | None) -> Array:
        return numbers_of(self, "value", self.value, value)


@dataclass(frozen=True)
class Scale(Intervention):
    """Multiply a gate by a factor: `Scale("z_f", 2.0)` sharpens the decisions of the forget gate.

    Args:
        gate, units, steps, layer, direction: as for every `Intervention`.
        factor: one number, or a tuple with a number for each of the units.
    """

    factor: Values

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values("factor", self.factor)

    def changed(self, value: Array, drawn: Array | None) -> Array:
        return value * numbers_of(self, "factor", self.factor, value)


@dataclass(frozen=True)
class Ablate(Intervention):
    """Take units out: replace them by zero, or by a value such as their mean.

    `Ablate("h", (3,))` hides a unit from everything that reads h while its c goes on; `Ablate("c", (3,))` also
    empties its memory.

    Args:
        gate, steps, layer, direction: as for every `Intervention`.
        units: the units to take out, counted from 0; None: all.
        value: what replaces them: one number, or a tuple with a number for each of the units.
    """

    units: tuple[int, ...] | None = None
    value: Values = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values("value", self.value)

    def changed(self, value: Array, drawn: Array | None) -> Array:
        return numbers_of(self, "value", self.value, value)


@dataclass(frozen=True)
class Sample(Intervention):
    """Draw each gate as 0 or 1, with the gate's value as the probability of 1.

    Some explanations read a gate as such a random switch; the gates of an LSTM multiply. With a key each unit of each
    sequence is drawn anew at every step, and no gradient goes through the gate. Without a key the gate stays as it is,
    the mean of what would be drawn.

    Args:
        gate: "i", "f" or "o".
        units, steps, layer, direction: as for every `Intervention`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate not in ("i", "f", "o"):
            raise ValueError(f"gate is {self.gate!r}, expected 'i', 'f' or 'o': the gates that are probabilities.")

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[None, tuple]:
        _, (flags, _) = super().draw(key, steps, state, x)
        c = state[1]
        return None, (flags, None if key is None else jax.random.uniform(key, (steps, *c.shape), c.dtype))

    def changed(self, value: Array, drawn: Array | None) -> Array:
        return value if drawn is None else (drawn < value).astype(value.dtype)


def check_values(name: str, values: Values) -> None:
    """Refuse values that are neither a number nor a tuple of numbers."""
    listed = values if isinstance(values, tuple) else (values,)
    if not listed or any(isinstance(v, bool) or not isinstance(v, numbers.Real) for v in listed):
        raise TypeError(
            f"{name} is {kind(values)}, expected a number or a tuple of numbers, one for each unit, so that "
            f"compiled code can be kept by it: tuple(map(float, {name}))."
        )


def selected_units(intervention: Intervention, shape: tuple[int, ...]) -> Array:
    """Return a bool array of a value's shape `[..., H]`, True for the units of an intervention.

    Raises:
        ValueError: the value does not have one of the units.
    """
    size = shape[-1]
    selected = np.ones(size, bool)
    units = intervention.units
    if units is not None:
        if beyond := [unit for unit in units if unit >= size]:
            raise ValueError(
                f"units holds {beyond[0]}, but {intervention.gate} has {size} units, 0 to {size - 1}: {intervention}."
            )
        selected = np.isin(np.arange(size), units)
    return jnp.broadcast_to(jnp.asarray(selected), shape)


def numbers_of(intervention: Intervention, name: str, values: Values, like: Array) -> Array:
    """Return the number for each unit in the shape `[..., H]` and dtype of a value; 0 for units that do not change."""
    size = like.shape[-1]
    units = tuple(range(size)) if intervention.units is None else intervention.units
    if isinstance(values, tuple) and len(values) != len(units):
        are = "is 1 unit" if len(units) == 1 else f"are {len(units)} units"
        raise ValueError(
            f"{name} has {len(values)} number{'s' * (len(values) != 1)}, but there {are} of {intervention.gate}: "
            f"{intervention}."
        )
    row = np.zeros(size)
    row[list(units)] = values
    return jnp.broadcast_to(jnp.asarray(row, like.dtype), like.shape)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_span(steps: object) -> bool:
    if not isinstance(steps, tuple) or len(steps) != 2 or not _is_count(steps[0]):
        return False
    return steps[1] is None or (_is_count(steps[1]) and steps[0] < steps[1])
