"""What happens around a step: hold, reset, dropout, zoneout. A wrapper turns a step into a step.

A wrapper is a frozen dataclass (so that it is hashable, and jit recognises it) with two methods:

    draw(key, steps, state, x) -> (fixed, scanned)
        its extras, what it needs beside x: `fixed` for the whole sequence, `scanned` with a leading T
        axis, scanned beside xs. `key` is None at evaluation. `state` and `x` are those of one step and
        give shapes and dtypes: leaves `[..., H]` and `[..., I]`.
    __call__(inner, params, state, x, extras) -> (state, out)
        one step around `inner(params, state, x)`; `extras` is the pair (fixed, scanned at this step).

Both work on leading `...` axes. `inner(params, state, x, tap=...)` also changes what the step computes, value by value;
see `cell_step`. `out` is whatever the step lets you look at, a `Step` for ours. A wrapper that is not for every layer
of a stack has a third method, `at`; see `stack.placed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import check_rate, kind
from lstmjax.cell import Emit, Tap, as_made, emitted
from lstmjax.types import Array, PyTree, Step

Inner = Callable[..., tuple[PyTree, PyTree]]


class StepWrapper(Protocol):
    """What can stand around a step."""

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]: ...


class Wrapper(StepWrapper, Protocol):
    """What a user puts around a step: it also draws what it needs. See the head of this file."""

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[PyTree, PyTree]: ...


@dataclass(frozen=True)
class Wrapped:
    """A step with one wrapper around it: again a step. It takes the first entry of aux; `hooks` are product and tap."""

    wrapper: StepWrapper
    step: Callable[..., tuple[PyTree, PyTree]]

    def __call__(self, params: PyTree, state: PyTree, x: Array, aux: tuple = (), **hooks: Any) -> tuple[PyTree, PyTree]:
        (extras, *inner_extras), beyond = aux, hooks.get("tap", as_made)

        def inner(params: PyTree, state: PyTree, x: Array, *, tap: Tap = as_made) -> tuple[PyTree, PyTree]:
            mine = {} if tap is as_made else {"tap": lambda name, value: beyond(name, tap(name, value))}
            return self.step(params, state, x, tuple(inner_extras), **hooks | mine)

        return self.wrapper(inner, params, state, x, extras)


@dataclass(frozen=True)
class RecurrentDropout:
    """Dropout on h before the recurrent product, one mask for the whole sequence.

    Gal & Ghahramani (2016). The units that stay are divided by 1 − rate while training, so that
    at evaluation (no key) the step is the plain one.
    """

    rate: float

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)

    def draw(self, key: Array | None, steps: int, state: tuple[Array, Array], x: Any) -> tuple[Array | None, None]:
        h = state[0]
        if key is None or self.rate == 0.0:
            return None, None
        if self.rate == 1.0:  # nothing stays, and nothing can be divided by 1 − rate
            return jnp.zeros(h.shape, h.dtype), None
        keep = jax.random.bernoulli(key, 1.0 - self.rate, h.shape)
        return jnp.where(keep, 1.0 / (1.0 - self.rate), 0.0).astype(h.dtype), None

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        (h, *rest), (scale, _) = state, extras
        return inner(params, (h if scale is None else h * scale, *rest), x)


@dataclass(frozen=True)
class Zoneout:
    """Keeps a random part of h and c as they were, drawn anew at every step.

    Krueger et al. (2017, eq. 3 and 4). `h` and `c` are the probabilities that a unit keeps its old
    value. At evaluation (no key) the new state is the expected one: rate · old + (1 − rate) · new.
    """

    h: float = 0.0
    c: float = 0.0

    def __post_init__(self) -> None:
        check_rate("h", self.h)
        check_rate("c", self.c)

    def draw(self, key: Array | None, steps: int, state: tuple[Array, Array], x: Any) -> tuple[None, tuple]:
        if key is None:
            return None, (None, None)
        masks = tuple(
            jax.random.bernoulli(k, float(rate), (steps, *old.shape)) if rate else None
            for k, rate, old in zip(jax.random.split(key), (self.h, self.c), state[:2], strict=True)
        )
        return None, masks

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        new, out = inner(params, state, x)
        _, masks = extras
        h, c = (
            _zone(old, value, rate, mask)
            for old, value, rate, mask in zip(state[:2], new[:2], (self.h, self.c), masks, strict=True)
        )
        return (h, c, *new[2:]), with_state(out, (h, c), self)


def _zone(old: Array, new: Array, rate: float, mask: Array | None) -> Array:
    if rate == 0.0:
        return new
    if mask is None:
        return rate * old + (1.0 - rate) * new
    return jnp.where(mask | jnp.zeros_like(old, dtype=bool), old, new)  # sharded as old is


def with_state(out: PyTree, state: tuple[Array, Array], wrapper: StepWrapper) -> Step:
    """Gives the `Step` with h and c as a wrapper changed them.

    Raises:
        TypeError: the step inside gives no `Step`, so that what it emits cannot follow the change.
    """
    if not isinstance(out, Step):
        raise TypeError(
            f"{type(wrapper).__name__} changes h and c after the step, so the step inside must emit a Step; it emits "
            f"{kind(out)}. Give your step the keyword emit and return emitted(emit, Step(...))."
        )
    return out._replace(h=state[0], c=state[1])


@dataclass(frozen=True)
class Reset:
    """Puts the state back to its initial value before a flagged step; no gradient crosses."""

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        initial, flag = extras
        return inner(params, select(flag, initial, state), x)


@dataclass(frozen=True)
class Hold:
    """Keeps the state at a step that is not valid, and gives zeros or the output held in the state.

    `output` is where in the state (a tuple) the output stands, or None for zeros.
    """

    output: int | None

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        _, valid = extras
        new, y = inner(params, state, x)
        held = select(valid, new, state)
        return held, select(valid, y, jax.tree.map(jnp.zeros_like, y)) if self.output is None else held[self.output]


@dataclass(frozen=True)
class Look:
    """Turns the `Step` into what `emit` asks for. What a step of your own emits stands for "h"."""

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
    """Carries the last output beside the state, (state, y), where it cannot be read off the state."""

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        new, y = inner(params, state[0], x)
        return (new, y), y


def select(flag: Array, then: PyTree, otherwise: PyTree) -> PyTree:
    """Gives, leaf by leaf, `then` where the flag `[...]` is set, with the features behind it."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(flag.reshape(flag.shape + (1,) * (a.ndim - flag.ndim)), a, b)

    return jax.tree.map(leaf, then, otherwise)
