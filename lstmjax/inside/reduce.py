"""Statistics over time without T arrays: segments of a sequence are run one after the other and added up."""

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
from lstmjax.arguments import as_array, check_function, check_hashable, kind, one_of
from lstmjax.arrays import checked_steps, within
from lstmjax.layer import lstm
from lstmjax.types import Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike

SEGMENT = 64  # steps kept at once; a short segment is one that XLA still runs at the speed of a long one


class Rule(NamedTuple):
    """How numbers of many steps become one."""

    start: float
    along: Callable[..., Array]  # over the steps of a segment
    join: Callable[[Array, Array], Array]  # of two segments


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
    """What is wanted of a function of each `Step` over the valid steps: its "mean", "sum", "max" or "min".

    `of` is handed steps `[..., H]` and gives arrays `[..., *]`; booleans count as 0 and 1. Compiled code is kept by
    it: define the function once. No valid step: a mean of NaN, a sum of 0, a largest of -inf, a smallest of inf.
    """

    of: Callable[[Step], PyTree]
    how: str = "mean"

    def __post_init__(self) -> None:
        check_function("of, in Reduce or reduce=,", self.of, "of the Step")
        one_of("how", self.how, tuple(RULES))
        check_hashable("reduce", self.of)


class Emitted(NamedTuple):
    """What a streamed layer emits at each step."""

    seen: PyTree
    h: Array | None


@dataclass(frozen=True)
class Seen:
    """What `of` makes of a `Step`, as numbers, and h for the layer above."""

    of: Callable[[Step], PyTree]
    with_h: bool

    def __call__(self, step: Step) -> Emitted:
        check_steps(step)
        dtype = checks.cell_dtype(step.c.dtype)
        return Emitted(jax.tree.map(lambda a: a.astype(dtype), self.of(step)), step.h if self.with_h else None)


def check_steps(step: object) -> None:
    """Refuses what a step emits if it is no `Step`."""
    if not isinstance(step, Step):
        raise TypeError(
            f"the step emits {kind(step)} and no Step, so there is nothing to trace. Give your step the "
            "keyword emit and return emitted(emit, Step(...))."
        )


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
    """Gives the state after one direction of a layer, the statistic, and h of all steps.

    Args:
        reduce: the statistic.
        params, xs, state, time_major, resets, reset_state, mask, lengths, reverse, wrappers: as for `lstm`.
        with_h: whether h is wanted, as a layer above does.
        key: None; a wrapper would draw anew in each segment.
        options: those of `lstm` that are left.

    Returns:
        (state, statistic with leaves `[..., *]`, hs as `lstm` gives them or None).
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
    how = {"reduce": reduce, "with_h": with_h, "reverse": reverse, "options": tuple(options.items()), "axis": axis}
    return _stream(params, state, reset_state, xs, *steps, extras, wrappers=wrappers, **how)


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
    """Gives the state, the statistic and h of a layer over xs with time on an axis, a segment after the other."""
    run: Any = partial(lstm, params, reset_state=reset_state, reverse=reverse, time_major=True, **dict(options))
    steps, rule = xs.shape[axis], RULES[reduce.how]
    valid = within(xs.shape[:-1], axis, lengths, mask)
    valid = jnp.ones(xs.shape[:-1], bool) if valid is None else valid
    xs, valid = jnp.moveaxis(xs, axis, 0), jnp.moveaxis(valid, axis, 0)
    resets = None if resets is None else jnp.moveaxis(resets, axis, 0)
    whole = -(-steps // segment) * segment

    def cut(a: Array) -> Array:  # [T, ...] to [segments, segment, ...]; what is added is not valid
        padded = jnp.pad(a, [(0, whole - steps)] + [(0, 0)] * (a.ndim - 1))
        return padded.reshape(whole // segment, segment, *a.shape[1:])

    def masked(seen: Array, valid: Array) -> Array:
        flags = valid.reshape(valid.shape + (1,) * (seen.ndim - valid.ndim))
        return rule.along(jnp.where(flags, seen, rule.start), axis=0)

    state = run(xs[:0], state)[0]
    # Drawn for the whole sequence: a wrapper may count its steps, and segments count anew.
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    drawn = [w.draw(None, steps, state, x) if pair is None else pair for w, pair in zip(wrappers, extras, strict=True)]
    parts = jax.tree.map(cut, (xs, valid, resets, [scanned for _, scanned in drawn]))

    def segment_of(state: PyTree, now: tuple, with_h: bool) -> tuple[PyTree, Emitted]:
        x, valid, resets, scanned = now
        wrapped = tuple((w, (fixed, part)) for w, (fixed, _), part in zip(wrappers, drawn, scanned, strict=True))
        return run(x, state, mask=valid, resets=resets, emit=Seen(reduce.of, with_h), wrappers=wrapped)

    def one(carry: tuple[PyTree, PyTree], now: tuple) -> tuple[tuple[PyTree, PyTree], Array | None]:
        state, sofar = carry
        state, ys = segment_of(state, now, with_h)
        found = jax.tree.map(lambda seen: masked(seen, now[1]), ys.seen)
        return (state, jax.tree.map(rule.join, sofar, found)), ys.h

    short = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[2:]), a.dtype), parts)
    first = jax.eval_shape(lambda now: segment_of(state, now, False)[1].seen, short)
    start = jax.tree.map(lambda a: jnp.full(a.shape[1:], rule.start, a.dtype), first)
    (state, found), hs = jax.lax.scan(one, (state, start), parts, reverse=reverse)
    if reduce.how == "mean":
        count = valid.sum(axis=0)
        found = jax.tree.map(
            lambda a: a / count.reshape(count.shape + (1,) * (a.ndim - count.ndim)).astype(a.dtype), found
        )
    return state, found, None if hs is None else jnp.moveaxis(hs.reshape(whole, *hs.shape[2:])[:steps], 0, axis)
