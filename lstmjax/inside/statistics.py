"""What gates do over time, in a few numbers for each unit: mean, spread, and how often they are shut or open."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.layer import valid_steps
from lstmjax.types import GATES, Array, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike

RANGES = MappingProxyType({"i": (0.0, 1.0), "f": (0.0, 1.0), "g": (-1.0, 1.0), "o": (0.0, 1.0)})
"""From where to where each gate goes; the candidate's low and high are read on (g + 1) / 2."""


class Gates(NamedTuple):
    """Something that there is of each gate; None for a gate that was not looked at."""

    i: Array | None
    f: Array | None
    g: Array | None
    o: Array | None


class GateStatistics(NamedTuple):
    """What the gates of one layer in one direction did, over all steps of all sequences, for each unit."""

    mean: Gates  # each [H], in the gate's own range
    std: Gates  # each [H]: the spread around the mean, over all steps
    left: Gates  # each [H]: the fraction of steps below low, left-saturated
    right: Gates  # each [H]: the fraction of steps above high, right-saturated
    count: Array  # type: ignore[assignment]  # []: how many steps were counted


class Tally(NamedTuple):
    """The running sums behind `GateStatistics`; two of them add up by `joined`."""

    number: Array  # [], int32
    mean: Gates  # each [H]
    squares: Gates  # each [H]: of the distances from the mean
    left: Gates  # each [H], int32
    right: Gates  # each [H], int32


def saturation(
    steps: PyTree,
    *,
    low: float = 0.1,
    high: float = 0.9,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> PyTree:
    """Gives mean, spread and saturation of each gate and unit, from steps that one has.

    A gate is left-saturated at a step if it is below `low` and right-saturated if it is above `high`
    (Karpathy, Johnson & Fei-Fei 2015, section 4.2). The candidate goes from -1 to 1 and is read as
    (g + 1) / 2: with the limits of 0.1 and 0.9 it is left-saturated below -0.8 and right-saturated above 0.8.

    Args:
        steps: a `Step` whose gates are `[..., T, H]`, or a tuple of them, as `trace` gives for layers.
            Gates that are None are left out. A gate that the cell does not have is 1.
        low, high: limits of the two kinds of saturation, as parts of the gate's range.
        lengths: valid steps of each sequence, whole numbers `[...]`; None: all T.
        mask: valid steps, bool `[..., T]`. With lengths: both.

    Returns:
        `GateStatistics`, built as `steps` is. Steps that are not valid do not count. If none counts,
        count is 0 and everything else NaN.

    Raises:
        ValueError: low and high are no limits, or there is no gate in `steps`.

    Example:
        >>> gate = jnp.array([[0.05, 0.5], [0.95, 0.5], [0.99, 0.5], [0.01, 0.5]])
        >>> one = saturation(Step(gate, gate, gate, gate, *[None] * 4, gate, gate, gate))
        >>> one.right.f.tolist(), one.left.f.tolist(), int(one.count)
        ([0.5, 0.0], [0.5, 0.0], 4)
    """
    check_limits(low, high)

    def of_one(step: Step) -> GateStatistics:
        gates = gates_of(step)
        valid = valid_steps(jax.tree.leaves(gates)[0], lengths, mask, False)
        return finished(tally(gates, valid, low, high))

    return jax.tree.map(of_one, steps, is_leaf=lambda one: isinstance(one, Step))


def check_limits(low: float, high: float) -> None:
    """Refuses limits of saturation that are none."""
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"low is {low} and high is {high}, expected 0 <= low < high <= 1, as 0.1 and 0.9 are.")


def gates_of(step: Step) -> Gates:
    """Gives the gates of a `Step`, and refuses one that has none."""
    gates = Gates(*(getattr(step, name) for name in GATES))
    if not jax.tree.leaves(gates):
        raise ValueError("steps holds none of the gates i, f, g and o; trace those that you want: fields=('i', 'f').")
    return gates


def tally(gates: Gates, valid: Array | None, low: float, high: float) -> Tally:
    """Gives the sums over all leading axes of gates `[..., H]`, where `valid` `[...]` says so."""
    first = jax.tree.leaves(gates)[0]
    valid = jnp.ones(first.shape[:-1], bool) if valid is None else valid
    there = jnp.broadcast_to(valid[..., None], first.shape)
    axes = tuple(range(first.ndim - 1))
    number = valid.sum(dtype=jnp.int32)
    over = jnp.maximum(number, 1).astype(first.dtype)

    def total(a: Array) -> Array:
        return jnp.where(there, a, 0).sum(axes)

    def times(a: Array) -> Array:
        return (there & a).sum(axes, dtype=jnp.int32)

    def limit(name: str, part: float) -> float:
        lowest, highest = RANGES[name]
        return lowest + part * (highest - lowest)

    mean = _each(lambda _, gate: total(gate) / over, gates)
    squares = _each(lambda _, gate, centre: total((gate - jnp.broadcast_to(centre, gate.shape)) ** 2), gates, mean)
    left = _each(lambda name, gate: times(gate < limit(name, low)), gates)
    right = _each(lambda name, gate: times(gate > limit(name, high)), gates)
    return Tally(number, mean, squares, left, right)


def joined(a: Tally, b: Tally) -> Tally:
    """Gives the sums of two sets of steps together (Chan, Golub & LeVeque 1983): nothing cancels."""
    number = a.number + b.number
    weigh = jnp.maximum(number, 1).astype(jax.tree.leaves(a.mean)[0].dtype)
    of_a, of_b = (n.astype(weigh.dtype) for n in (a.number, b.number))
    mean = jax.tree.map(lambda x, y: x + (y - x) * (of_b / weigh), a.mean, b.mean)
    squares = jax.tree.map(
        lambda s, t, x, y: s + t + (y - x) ** 2 * (of_a * (of_b / weigh)), a.squares, b.squares, a.mean, b.mean
    )
    left, right = (jax.tree.map(jnp.add, x, y) for x, y in ((a.left, b.left), (a.right, b.right)))
    return Tally(number, mean, squares, left, right)


def finished(sums: Tally) -> GateStatistics:
    """Gives the statistics that running sums amount to; NaN where nothing was counted."""
    dtype = jax.tree.leaves(sums.mean)[0].dtype
    number = jnp.where(sums.number > 0, sums.number.astype(dtype), jnp.nan)

    def part(gates: Gates) -> Gates:
        return jax.tree.map(lambda a: a.astype(dtype) / number, gates)

    mean = jax.tree.map(lambda a: jnp.where(sums.number > 0, a, jnp.nan), sums.mean)
    std = jax.tree.map(jnp.sqrt, part(sums.squares))
    return GateStatistics(mean, std, part(sums.left), part(sums.right), sums.number)


def _each(of: object, *gates: Gates) -> Gates:
    """Gives `of(name, gate, ...)` for each gate that is there."""
    assert callable(of)
    return Gates(
        *(None if row[0] is None else of(name, *row) for name, row in zip(GATES, zip(*gates, strict=True), strict=True))
    )
