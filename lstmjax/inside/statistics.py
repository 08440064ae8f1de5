"""Statistics of gates over time, for each unit: mean, standard deviation, and how often they are shut or open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array, check_arrays, check_number, kind
from lstmjax.arrays import valid_steps
from lstmjax.inside.reduce import Reduce
from lstmjax.inside.trace import trace
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.options import RunOptions, with_flags
from lstmjax.parameters import parameters_of
from lstmjax.stack import Layers, stacked
from lstmjax.types import GATES, Array, Bidirectional, LSTMParams, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike

RANGES = MappingProxyType({"i": (0.0, 1.0), "f": (0.0, 1.0), "g": (-1.0, 1.0), "o": (0.0, 1.0)})
"""The range of each gate; the limits of the candidate apply to (g + 1) / 2."""


class Gates(NamedTuple):
    """An array for each gate; None for a gate that was not recorded."""

    i: Array | None
    f: Array | None
    g: Array | None
    o: Array | None


class GateStatistics(NamedTuple):
    """Statistics of the gates of one layer in one direction, over all steps of all sequences, for each unit."""

    mean: Gates  # each [H], in the range of the gate
    std: Gates  # each [H]: the standard deviation over all steps
    left: Gates  # each [H]: the fraction of steps below low, left-saturated
    right: Gates  # each [H]: the fraction of steps above high, right-saturated
    count: Array  # type: ignore[assignment]  # []: the number of steps that count


class Tally(NamedTuple):
    """The sums behind `GateStatistics`."""

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
    """Return the mean, standard deviation and saturation of each gate and unit, from recorded steps.

    A gate is left-saturated at a step if it is below `low` and right-saturated if it is above `high`
    (Karpathy, Johnson & Fei-Fei 2015, section 4.2). The limits of the candidate, which goes from -1 to 1, apply to
    (g + 1) / 2: with 0.1 and 0.9 it is left-saturated below -0.8 and right-saturated above 0.8.

    Args:
        steps: a `Step` whose gates are `[..., T, H]`, or a tuple of them, as `trace` returns for layers. Gates that are
            None are skipped. A gate that the cell does not have is 1.
        low, high: limits of the two kinds of saturation, as fractions of the gate's range.
        lengths: valid steps of each sequence, whole numbers `[...]`; None: all T.
        mask: valid steps, bool `[..., T]`. With lengths: both.

    Returns:
        `GateStatistics`, in the form of `steps`. Steps that are not valid do not count. If no step counts, count is 0
        and everything else NaN.

    Raises:
        ValueError: low and high are not limits, or there is no gate in `steps`.

    Example:
        >>> gate = jnp.array([[0.05, 0.5], [0.95, 0.5], [0.99, 0.5], [0.01, 0.5]])
        >>> statistics = saturation(Step(gate, gate, gate, gate, *[None] * 4, gate, gate, gate))
        >>> statistics.right.f.tolist(), statistics.left.f.tolist(), int(statistics.count)
        ([0.5, 0.0], [0.5, 0.0], 4)
    """
    check_limits(low, high)

    def of_step(step: Step) -> GateStatistics:
        gates = gates_of(step)
        valid = valid_steps(jax.tree.leaves(gates)[0], lengths, mask, False)
        return finish(tally(gates, valid, low, high))

    return jax.tree.map(of_step, steps, is_leaf=lambda node: isinstance(node, Step))


@takes(RunOptions, lstm, stacked)
def gate_statistics(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    state: PyTree | None = None,
    *,
    low: float = 0.1,
    high: float = 0.9,
    **options: Unpack[RunOptions],
) -> PyTree:
    """Return the mean, standard deviation and saturation of each gate and unit of a network on sequences.

    It is `saturation` of `trace` at evaluation, in memory that grows with T only by the h of the layers. The standard
    deviation is a difference of running sums: in float32 it is right to about 3e-4.

    All other arguments are those of `trace`; without a key, since it is the network at evaluation that counts.

    Args:
        low, high: as for `saturation`.

    Returns:
        `GateStatistics`; for layers and networks a tuple of them, a `Bidirectional` of two for a pair.

    Raises:
        ValueError: low and high are not limits, or an argument does not fit the others.

    Example:
        >>> from lstmjax import init_params
        >>> params = init_params(jax.random.key(0), 5, 256)
        >>> statistics = gate_statistics(params, jnp.ones((32, 100, 5)))
        >>> statistics.mean.f.shape, int(statistics.count)
        ((256,), 3200)
    """
    parameters_of(params)
    xs, options = as_array("xs", xs), with_flags(options)
    check_arrays("state", state)
    check_arrays("reset_state", options["reset_state"])
    check_limits(low, high)
    sums = trace(params, xs, state, reduce=Reduce(MomentsOf(low, high), "sum"), **options)
    valid = valid_steps(xs, options["lengths"], options["mask"], options["time_major"])
    number = jnp.asarray(xs.size // xs.shape[-1] if valid is None else valid.sum(), jnp.int32)

    def of_direction(sums: Moments) -> GateStatistics:
        value, squares, left, right = jax.tree.map(lambda a: a.sum(tuple(range(a.ndim - 1))), sums)
        over = jnp.maximum(number, 1).astype(value.f.dtype)
        centre = jax.tree.map(lambda a: a / over, value)  # as a distance from the middle of the range, as squares are
        squares = jax.tree.map(lambda s, c: jnp.maximum(s - over * c**2, 0), squares, centre)
        mean = _each(lambda name, c: c + sum(RANGES[name]) / 2, centre)
        return finish(Tally(number, mean, squares, left, right))

    return jax.tree.map(of_direction, sums, is_leaf=lambda node: isinstance(node, Moments))


class Moments(NamedTuple):
    """What is summed of the gates of a step, each `[..., H]`."""

    value: Gates  # as a distance from the middle of the gate's range, so that squares lose fewer digits
    square: Gates
    left: Gates  # below low
    right: Gates  # above high


@dataclass(frozen=True)
class MomentsOf:
    """Return the `Moments` of a `Step`: a function that hashes by its limits."""

    low: float
    high: float

    def __call__(self, step: Step) -> Moments:
        gates = gates_of(step)
        value = _each(lambda name, gate: gate - sum(RANGES[name]) / 2, gates)
        left = _each(lambda name, gate: gate < limit(name, self.low), gates)
        right = _each(lambda name, gate: gate > limit(name, self.high), gates)
        return Moments(value, jax.tree.map(jnp.square, value), left, right)


def limit(name: str, fraction: float) -> float:
    """Return the value of a gate at a fraction of its range."""
    lowest, highest = RANGES[name]
    return lowest + fraction * (highest - lowest)


def check_limits(low: float, high: float) -> None:
    """Refuse limits of saturation that are out of order or out of range."""
    check_number("low", low)
    check_number("high", high)
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"low is {low} and high is {high}, expected 0 <= low < high <= 1, as 0.1 and 0.9 are.")


def gates_of(step: Step) -> Gates:
    """Return the gates of a `Step`; refuse a `Step` that has none."""
    if not isinstance(step, Step):
        raise TypeError(f"steps holds {kind(step)}, expected a Step for each layer, as trace gives it.")
    gates = Gates(*(getattr(step, name) for name in GATES))
    if not jax.tree.leaves(gates):
        raise ValueError("steps holds none of the gates i, f, g and o; trace those that you want: fields=('i', 'f').")
    return gates


def tally(gates: Gates, valid: Array | None, low: float, high: float) -> Tally:
    """Return the sums over all leading axes of gates `[..., H]` at valid steps `[...]`; None: all steps."""
    first = jax.tree.leaves(gates)[0]
    valid = jnp.ones(first.shape[:-1], bool) if valid is None else valid
    counted = jnp.broadcast_to(valid[..., None], first.shape)
    axes = tuple(range(first.ndim - 1))
    number = valid.sum(dtype=jnp.int32)
    over = jnp.maximum(number, 1).astype(first.dtype)

    def total(a: Array) -> Array:
        return jnp.where(counted, a, 0).sum(axes)

    def count(a: Array) -> Array:
        return (counted & a).sum(axes, dtype=jnp.int32)

    mean = _each(lambda _, gate: total(gate) / over, gates)
    squares = _each(lambda _, gate, centre: total((gate - jnp.broadcast_to(centre, gate.shape)) ** 2), gates, mean)
    left = _each(lambda name, gate: count(gate < limit(name, low)), gates)
    right = _each(lambda name, gate: count(gate > limit(name, high)), gates)
    return Tally(number, mean, squares, left, right)


def finish(sums: Tally) -> GateStatistics:
    """Return the statistics of sums; NaN where no step was counted."""
    dtype = jax.tree.leaves(sums.mean)[0].dtype
    number = jnp.where(sums.number > 0, sums.number.astype(dtype), jnp.nan)

    def mean_of(gates: Gates) -> Gates:
        return jax.tree.map(lambda a: a.astype(dtype) / number, gates)

    mean = jax.tree.map(lambda a: jnp.where(sums.number > 0, a, jnp.nan), sums.mean)
    std = jax.tree.map(jnp.sqrt, mean_of(sums.squares))
    return GateStatistics(mean, std, mean_of(sums.left), mean_of(sums.right), sums.number)


def _each(function: Callable[..., Array], *gates: Gates) -> Gates:
    """Return `function(name, array, ...)` for each gate, with an array from each of `gates`; None where it is None."""
    results = []
    for name in GATES:
        arrays = [getattr(of, name) for of in gates]
        results.append(None if arrays[0] is None else function(name, *arrays))
    return Gates(*results)
