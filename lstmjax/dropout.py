"""The published regularisers of the recurrence: dropout on h, zoneout, and dropped weights.

The first two are wrappers; `wrappers.py` says what that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.arguments import check_rate, kind
from lstmjax.types import Array, LSTMParams, PyTree, Step
from lstmjax.wrappers import Inner, StepWrapper


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
        if self.rate == 1.0:  # 1 − rate is 0, by which nothing can be divided
            return jnp.zeros(h.shape, h.dtype), None
        keep = jax.random.bernoulli(key, 1.0 - self.rate, h.shape)
        return jnp.where(keep, 1.0 / (1.0 - self.rate), 0.0).astype(h.dtype), None

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        h, *others = state
        scale, _ = extras
        return inner(params, (h if scale is None else h * scale, *others), x)


def weight_drop(layers: PyTree, rate: float, key: Array | None) -> PyTree:
    """Drop recurrent weights: return the layers with a part of each w_h set to 0, the others divided by 1 − rate.

    Recurrent DropConnect (Wan et al. 2013; Merity et al. 2018, section 2). What is returned is what `lstm`, `stacked`
    and `network` multiply by at every step, so that one draw holds for the sequences of a batch and all of their steps.
    The gradient with respect to a dropped weight is 0.

    Args:
        layers: `LSTMParams`, or any tree of them, such as the layers of a network.
        rate: probability that a weight is dropped, 0 to 1.
        key: random key; None: evaluation, nothing is dropped.

    >>> from lstmjax import init_params
    >>> params = init_params(jax.random.key(0), 5, 10)
    >>> dropped = weight_drop(params, 0.5, jax.random.key(1))
    >>> 160 < int((dropped.w_h == 0).sum()) < 240, bool((dropped.w_x == params.w_x).all())  # of 400
    (True, True)
    """
    check_rate("rate", rate)
    if key is None or rate == 0.0:
        return layers
    parts, structure = jax.tree.flatten(layers, is_leaf=lambda part: isinstance(part, LSTMParams))
    keys = jax.random.split(key, len(parts))
    return jax.tree.unflatten(structure, [_dropped(part, rate, k) for part, k in zip(parts, keys, strict=True)])


def _dropped(params: LSTMParams, rate: float, key: Array) -> LSTMParams:
    if not isinstance(params, LSTMParams):
        raise TypeError(
            f"layers holds {kind(params)}, expected LSTMParams: pass the layers of a network, without its head."
        )
    w = params.w_h
    if rate == 1.0:  # 1 − rate is 0, by which nothing can be divided
        return params._replace(w_h=jnp.zeros_like(w))
    keep = jax.random.bernoulli(key, 1.0 - rate, w.shape)
    return params._replace(w_h=jnp.where(keep, w / (1.0 - rate), jnp.zeros_like(w)))


@dataclass(frozen=True)
class Zoneout:
    """Zoneout: a random part of h and c keeps its value of the step before, drawn anew at every step.

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
        key_h, key_c = jax.random.split(key)
        h, c, *_ = state
        return None, (_zones(key_h, self.h, steps, h), _zones(key_c, self.c, steps, c))

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        (h, c, *gates), out = inner(params, state, x)
        _, (mask_h, mask_c) = extras
        h = _zone(state[0], h, self.h, mask_h)
        c = _zone(state[1], c, self.c, mask_c)
        return (h, c, *gates), with_state(out, (h, c), self)


def _zones(key: Array, rate: float, steps: int, old: Array) -> Array | None:
    return jax.random.bernoulli(key, float(rate), (steps, *old.shape)) if rate else None


def _zone(old: Array, new: Array, rate: float, mask: Array | None) -> Array:
    if rate == 0.0:
        return new
    if mask is None:
        return rate * old + (1.0 - rate) * new
    return jnp.where(mask | jnp.zeros_like(old, dtype=bool), old, new)  # sharded as old is


def with_state(out: PyTree, state: tuple[Array, Array], wrapper: StepWrapper) -> Step:
    """Return the `Step` with h and c as a wrapper changed them.

    Raises:
        TypeError: the step inside emits no `Step`, so that what it emits cannot follow the change.
    """
    if not isinstance(out, Step):
        raise TypeError(
            f"{type(wrapper).__name__} changes h and c after the step, so the step inside must emit a Step; it emits "
            f"{kind(out)}. Give your step the keyword emit and return emitted(emit, Step(...))."
        )
    return out._replace(h=state[0], c=state[1])
