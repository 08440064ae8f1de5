"""Statistics over time in memory that does not grow with T: segments of a sequence run one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, check_function, check_hashable, one_of
from lstmjax.arrays import checked_steps, within
from lstmjax.inside.record import Record
from lstmjax.layer import lstm
from lstmjax.types import Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike

SEGMENT = 64  # steps held in memory at once: few, but enough for XLA to run them as fast as a long sequence


class Rule(NamedTuple):
    """How the values of many steps become one."""

    start: float  # the value of no steps
    over_steps: Callable[..., Array]  # reduces the axis of the steps of a segment
    join: Callable[[Array, Array], Array]  # joins the values of two segments


RULES = MappingProxyType(
    {
        "mean": Rule(0.0, jnp.sum, jnp.add),  # divided by the number of steps at the end
        "sum": Rule(0.0, jnp.sum, jnp.add),
        "max": Rule(-math.inf, jnp.max, jnp.maximum),
        "min": Rule(math.inf, jnp.min, jnp.minimum),
    }
)
"""What `Reduce.how` may be."""


@dataclass(frozen=True)
class Reduce:
    """A statistic of a function of each `Step` over the valid steps: its "mean", "sum", "max" or "min".

    Compiled programs are cached by the function: define it once. Where no step is valid, the mean is NaN, the sum 0,
    the maximum -inf and the minimum inf.

    Args:
        of: takes steps `[..., H]` and returns arrays `[..., *]`; booleans count as 0 and 1.
        how: "mean", "sum", "max" or "min".
    """

    of: Callable[[Step], PyTree]
    how: str = "mean"

    def __post_init__(self) -> None:
        check_function("of, in Reduce or reduce=,", self.of, "of the Step")
        one_of("how", self.how, tuple(RULES))
        check_hashable("reduce", self.of)


def stream(
    reduce: Reduce,
    params: LSTMParams,
    xs: ArrayLike,
    state: PyTree | None,
    with_h: bool,
    *,
    time_major: bool,
    resets: ArrayLike | None,
    reset_state: PyTree | None,
    key: Array | None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    reverse: bool = False,
    wrappers: tuple = (),
    **options: Any,
) -> tuple[PyTree, PyTree, Array | None]:
    """Return the state after one direction of a layer, the statistic, and h of all steps.

    Args:
        reduce: the statistic.
        params, xs, state, time_major, resets, reset_state, mask, lengths, reverse, wrappers: as for `lstm`.
        with_h: a layer above needs h.
        key: None, since a wrapper would draw anew in each segment.
        options: the other options of `lstm`.

    Returns:
        (state, statistic with leaves `[..., *]`, hs as `lstm` returns them or None).

    Raises:
        ValueError: there is a key, or an argument does not fit the others.
    """
    if key is not None:
        raise ValueError(
            "reduce runs a sequence in segments, in each of which wrappers would draw anew; leave key out."
        )
    xs = as_array("xs", xs)
    checks.check_sequence(xs, None, time_major)
    axis = 0 if time_major else xs.ndim - 2
    steps = checked_steps(xs, lengths, mask, resets, time_major)
    wrappers, extras = checks.check_running(options["step"], wrappers, options["checkpoint"], options["unroll"])
    return _stream(
        params,
        state,
        reset_state,
        xs,
        *steps,
        extras,
        wrappers=wrappers,
        reduce=reduce,
        with_h=with_h,
        reverse=reverse,
        options=tuple(options.items()),
        axis=axis,
    )


@partial(jax.jit, static_argnames=("wrappers", "reduce", "with_h", "reverse", "options", "axis", "segment"))
def _stream(
    params: LSTMParams,
    state: PyTree | None,
    reset_state: PyTree | None,
    xs: Array,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
    extras: tuple[tuple | None, ...],
    *,
    wrappers: tuple[Wrapper, ...],
    reduce: Reduce,
    with_h: bool,
    reverse: bool,
    options: tuple[tuple[str, Any], ...],
    axis: int,
    segment: int = SEGMENT,
) -> tuple[PyTree, PyTree, Array | None]:
    """Return the state, the statistic and h of a layer over xs, whose axis of time is cut into segments."""
    run: Any = partial(lstm, params, reset_state=reset_state, reverse=reverse, time_major=True, **dict(options))
    steps, rule = xs.shape[axis], RULES[reduce.how]
    valid = within(xs.shape[:-1], axis, lengths, mask)
    valid = jnp.ones(xs.shape[:-1], bool) if valid is None else valid
    xs, valid = jnp.moveaxis(xs, axis, 0), jnp.moveaxis(valid, axis, 0)
    resets = None if resets is None else jnp.moveaxis(resets, axis, 0)
    segments = -(-steps // segment)
    padded_steps = segments * segment

    def cut(a: Array) -> Array:
        """Return `[T, ...]` as `[segments, segment, ...]`; the padding is at steps that are not valid."""
        padded = jnp.pad(a, [(0, padded_steps - steps)] + [(0, 0)] * (a.ndim - 1))
        return padded.reshape(segments, segment, *a.shape[1:])

    def over_valid(values: Array, valid: Array) -> Array:
        flags = valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim))
        return rule.over_steps(jnp.where(flags, values, rule.start), axis=0)

    state = run(xs[:0], state)[0]
    # Drawn for the sequence as one: a wrapper may count its steps, and would count anew in each segment.
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    drawn = [w.draw(None, steps, state, x) if pair is None else pair for w, pair in zip(wrappers, extras, strict=True)]
    inputs = jax.tree.map(cut, (xs, valid, resets, [scanned for _, scanned in drawn]))

    def run_segment(state: PyTree, window: tuple, fields: tuple[str, ...]) -> tuple[PyTree, tuple[Step, PyTree]]:
        x, valid, resets, scanned = window
        wrapped = tuple((w, (fixed, part)) for w, (fixed, _), part in zip(wrappers, drawn, scanned, strict=True))
        return run(x, state, mask=valid, resets=resets, emit=Record(fields, reduce.of), wrappers=wrapped)

    def body(carry: tuple[PyTree, PyTree], window: tuple) -> tuple[tuple[PyTree, PyTree], Array | None]:
        state, total = carry
        state, (step, values) = run_segment(state, window, ("h",) if with_h else ())
        values = jax.tree.map(lambda a: over_valid(a, window[1]), values)
        return (state, jax.tree.map(rule.join, total, values)), step.h

    # The statistic's shapes and dtypes, from a segment of one step.
    short = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[2:]), a.dtype), inputs)
    shapes = jax.eval_shape(lambda window: run_segment(state, window, ())[1][1], short)
    start = jax.tree.map(lambda a: jnp.full(a.shape[1:], rule.start, a.dtype), shapes)
    (state, total), hs = jax.lax.scan(body, (state, start), inputs, reverse=reverse)
    if reduce.how == "mean":
        count = valid.sum(axis=0)
        total = jax.tree.map(
            lambda a: a / count.reshape(count.shape + (1,) * (a.ndim - count.ndim)).astype(a.dtype), total
        )
    if hs is not None:
        hs = jnp.moveaxis(hs.reshape(padded_steps, *hs.shape[2:])[:steps], 0, axis)
    return state, total, hs
