"""What happens around a step: a wrapper turns a step into a step. The published ones stand in `dropout.py`.

A wrapper is a frozen dataclass (so that it is hashable, and jit recognises it) with two methods:

    draw(key, steps, state, x) -> (fixed, scanned)
        its extras, what it needs beside x: `fixed` for the whole sequence, `scanned` with a leading T
        axis, scanned beside xs. `key` is None at evaluation. `state` and `x` are those of one step and
        give shapes and dtypes: leaves `[..., H]` and `[..., I]`.
    __call__(inner, params, state, x, extras) -> (state, out)
        one step around `inner(params, state, x)`; `extras` is the pair (fixed, scanned at this step).

Both work on leading `...` axes. `inner(params, state, x, tap=...)` also changes what the step computes, value by value;
see `cell_step`. `out` is what the step emits, a `Step` for ours. A wrapper that is not for every layer of a stack has a
third method, `at`; see `stack.placed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import hooks, kind
from lstmjax.cell import CellStep, Emit, Tap, emitted, product, untapped
from lstmjax.types import Array, PyTree, Step

Inner = Callable[..., tuple[PyTree, PyTree]]


class StepWrapper(Protocol):
    """A wrapper as the layer runs it: it is called around each step with its extras."""

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]: ...


class Wrapper(StepWrapper, Protocol):
    """A wrapper that a user passes: it also draws its extras. See the head of this file."""

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[PyTree, PyTree]: ...


@dataclass(frozen=True)
class Wrapped:
    """A step with one wrapper around it, which is a step again.

    It takes the first entry of aux, its own extras, and passes the others on; `hooks` are product and tap.
    """

    wrapper: StepWrapper
    step: Callable[..., tuple[PyTree, PyTree]]

    def __call__(self, params: PyTree, state: PyTree, x: Array, aux: tuple = (), **hooks: Any) -> tuple[PyTree, PyTree]:
        extras, *inner_aux = aux
        outer_tap = hooks.get("tap", untapped)

        def inner(params: PyTree, state: PyTree, x: Array, *, tap: Tap = untapped) -> tuple[PyTree, PyTree]:
            taps = {} if tap is untapped else {"tap": lambda name, value: outer_tap(name, tap(name, value))}
            return self.step(params, state, x, tuple(inner_aux), **hooks | taps)

        return self.wrapper(inner, params, state, x, extras)


@dataclass(frozen=True)
class Plain:
    """A user's step without wrappers; it is passed those of the keywords aux, product, tap and emit that it names."""

    step: Callable[..., tuple[PyTree, PyTree]]

    def __call__(self, params: PyTree, state: PyTree, x: Array, aux: tuple = (), **keywords: Any) -> tuple:
        names = hooks(self.step)
        checks.check_tapped("tap" in keywords, names, self.step)
        keywords = {"aux": aux, "product": product, "emit": "step"} | keywords
        pair = self.step(params, state, x, **{name: keywords[name] for name in names if name in keywords})
        checks.check_stepped(pair, self.step)
        return pair


@dataclass(frozen=True)
class Reset:
    """Return the state to its initial value before a flagged step; no gradient crosses."""

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        initial, flag = extras
        return inner(params, select(flag, initial, state), x)


@dataclass(frozen=True)
class Hold:
    """Hold the state at a step that is not valid, and emit zeros or the last output.

    `place` is where in the state (a tuple) the last output stands, or None for zeros.
    """

    place: int | None

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        _, valid = extras
        new, y = inner(params, state, x)
        state = select(valid, new, state)
        if self.place is not None:
            return state, state[self.place]
        return state, select(valid, y, jax.tree.map(jnp.zeros_like, y))


@dataclass(frozen=True)
class Look:
    """Turn the `Step` into what `emit` selects. What a user's step emits, if no `Step`, stands for "h"."""

    emit: Emit

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        state, out = inner(params, state, x)
        if isinstance(out, Step):
            y = emitted(self.emit, out)
        elif self.emit == "c":
            raise ValueError(
                f"emit is 'c', but the step emits {kind(out)} and no Step. Pass a function of what it emits."
            )
        else:
            y = self.emit(out) if callable(self.emit) else out
        checks.check_emitted(y, x.shape[:-1])
        return state, y


@dataclass(frozen=True)
class Remember:
    """Carry the last output beside the state, as (state, y): for outputs that the state does not hold."""

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        new, y = inner(params, state[0], x)
        return (new, y), y


OURS = (Reset, Hold, Look, Remember)
"""The wrappers of a layer itself, which pass on a state as they get it."""


def with_extras(
    wrappers: Sequence[Wrapper], extras: Sequence[tuple | None], key: Array | None, xs: Array, state: PyTree
) -> list[tuple[StepWrapper, tuple]]:
    """Return each wrapper with its extras: the pair that it brings, or what it draws, each from a key of its own.

    Args:
        wrappers: those of a layer.
        extras: for each the pair (fixed, scanned) that it brings, or None.
        key: random key, or None at evaluation.
        xs: the inputs `[T, ..., I]`.
        state: the state to start from.
    """
    drawing = [n for n, pair in enumerate(extras) if pair is None]
    keys: dict[int, Array] = {}
    if key is not None and drawing:
        keys = dict(zip(drawing, jax.random.split(key, len(drawing)), strict=True))
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    wrapped: list[tuple[StepWrapper, tuple]] = []
    for n, (wrapper, pair) in enumerate(zip(wrappers, extras, strict=True)):
        if pair is None:
            pair = wrapper.draw(keys.get(n), xs.shape[0], state, x)
        wrapped.append((wrapper, pair))
    return wrapped


NO_EXTRAS = (None, None)
"""The extras of a wrapper that needs nothing beside x."""


def compose(step: Callable, wrapped: list[tuple[StepWrapper, tuple]]) -> tuple[Callable, tuple, tuple]:
    """Return the step with all wrappers around it, and their extras, fixed and scanned, of the outermost first."""
    wrapped_step: Callable = Plain(step)
    if isinstance(step, CellStep):
        wrapped_step = replace(step, checked=not all(isinstance(wrapper, OURS) for wrapper, _ in wrapped))
    for wrapper, _ in wrapped:
        wrapped_step = Wrapped(wrapper, wrapped_step)
    extras = [pair for _, pair in reversed(wrapped)]
    return wrapped_step, tuple(fixed for fixed, _ in extras), tuple(scanned for _, scanned in extras)


def select(flag: Array, then: PyTree, otherwise: PyTree) -> PyTree:
    """Return `then` where the flag `[...]` is set, else `otherwise`, leaf by leaf `[..., features]`."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(flag.reshape(flag.shape + (1,) * (a.ndim - flag.ndim)), a, b)

    return jax.tree.map(leaf, then, otherwise)
