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

from lstmjax import backends, checks
from lstmjax.arguments import as_array, check_floating, check_function, check_hashable, checked_steps, one_of
from lstmjax.arrays import within
from lstmjax.inside.record import Record
from lstmjax.layer import Inputs, lstm
from lstmjax.published import find_cell
from lstmjax.types import Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import Wrapper, with_extras

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
    reduce: Reduce, params: LSTMParams, xs: ArrayLike, state: PyTree | None, with_h: bool, options: dict[str, Any]
) -> tuple[PyTree, PyTree, Array | None]:
    """Return the state after one direction of a layer, the statistic, and h of all steps.

    Args:
        reduce: the statistic.
        params, xs, state: as for `lstm`.
        with_h: a layer above needs h.
        options: the options of `lstm`; without a key, since a wrapper would draw anew in each segment.

    Returns:
        (state, statistic with leaves `[..., *]`, hs as `lstm` returns them or None).

    Raises:
        ValueError: there is a key, or an argument does not fit the others.
    """
    if options["key"] is not None:
        raise ValueError(
            "key is given, but reduce runs segments, in each of which wrappers would draw anew; leave key out."
        )
    if options.get("cell") is not None:
        find_cell(options["cell"])
    if options.get("dtype") is not None:
        check_floating("dtype", options["dtype"])
    if not callable(options["backend"]):
        one_of("backend", options["backend"], ("auto", *backends.BACKENDS))
    xs, time_major = as_array("xs", xs), options["time_major"]
    checks.check_sequence(xs, None, time_major)
    steps = checked_steps(xs, options["lengths"], options["mask"], options["resets"], time_major)
    wrappers, extras = checks.check_running(
        options["step"], options["wrappers"], options["checkpoint"], options["unroll"]
    )
    inputs = Inputs(params, xs, state, options["reset_state"], *steps, None)
    static = {name: value for name, value in options.items() if name not in (*Inputs._fields, "wrappers", "time_major")}
    return _stream(
        inputs, extras, wrappers=wrappers, reduce=reduce, with_h=with_h, options=tuple(static.items()),
        axis=0 if time_major else xs.ndim - 2,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("wrappers", "reduce", "with_h", "options", "axis", "segment"))
def _stream(
    inputs: Inputs,
    extras: tuple[tuple | None, ...],
    *,
    wrappers: tuple[Wrapper, ...],
    reduce: Reduce,
    with_h: bool,
    options: tuple[tuple[str, Any], ...],
    axis: int,
    segment: int = SEGMENT,
) -> tuple[PyTree, PyTree, Array | None]:
    """Return the state, the statistic and h of a layer over xs, whose axis of time is cut into segments."""
    params, xs, state, reset_state, lengths, mask, resets, _ = inputs
    run: Any = partial(lstm, params, reset_state=reset_state, time_major=True, **dict(options))
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
    wrapped = with_extras(wrappers, extras, None, xs, state)
    windows = jax.tree.map(cut, (xs, valid, resets, [scanned for _, (_, scanned) in wrapped]))

    def run_segment(state: PyTree, window: tuple, fields: tuple[str, ...]) -> tuple[PyTree, tuple[Step, PyTree]]:
        x, valid, resets, scanned = window
        pairs = tuple((w, (fixed, part)) for (w, (fixed, _)), part in zip(wrapped, scanned, strict=True))
        return run(x, state, mask=valid, resets=resets, emit=Record(fields, reduce.of), wrappers=pairs)

    def body(carry: tuple[PyTree, PyTree], window: tuple) -> tuple[tuple[PyTree, PyTree], Array | None]:
        state, total = carry
        state, (step, values) = run_segment(state, window, ("h",) if with_h else ())
        values = jax.tree.map(lambda a: over_valid(a, window[1]), values)
        return (state, jax.tree.map(rule.join, total, values)), step.h

    # The statistic's shapes and dtypes, from a segment of one step.
    short = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[2:]), a.dtype), windows)
    shapes = jax.eval_shape(lambda window: run_segment(state, window, ())[1][1], short)
    start = jax.tree.map(lambda a: jnp.full(a.shape[1:], rule.start, a.dtype), shapes)
    (state, total), hs = jax.lax.scan(body, (state, start), windows, reverse=dict(options)["reverse"])
    if reduce.how == "mean":
        count = valid.sum(axis=0)
        total = jax.tree.map(
            lambda a: a / count.reshape(count.shape + (1,) * (a.ndim - count.ndim)).astype(a.dtype), total
        )
    if hs is not None:
        hs = jnp.moveaxis(hs.reshape(padded_steps, *hs.shape[2:])[:steps], 0, axis)
    return state, total, hs
