"""The derivatives of σ and tanh, and how they shrink a gradient on its way back through time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array, check_floating, check_number, check_positive
from lstmjax.cell import cell_step
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import ArrayLike

MAXIMA = MappingProxyType({"sigma": (0.0, 0.25), "tanh": (0.0, 1.0)})
"""Where the derivative of each activation is largest, and how large: (z, value)."""


class Derivatives(NamedTuple):
    """σ and tanh with their derivatives, each of the shape of z."""

    z: Array
    sigma: Array
    d_sigma: Array  # at most 1/4, at z = 0
    tanh: Array
    d_tanh: Array  # at most 1, at z = 0


class Survival(NamedTuple):
    """The fraction of a gradient that remains after 0, 1, ... steps back in time."""

    steps: Array  # [n + 1]  0 to n
    cell: Array  # [n + 1, ...]  ∂c_n/∂c_0 of an LSTM with that forget gate
    plain: Array  # [n + 1, ...]  ∂h_n/∂h_0 of a plain RNN with that recurrent weight


def derivatives(z: ArrayLike | None = None) -> Derivatives:
    """Return σ(z) and tanh(z) with their derivatives, by `jax.grad`.

    Where σ is steepest, at z = 0, its derivative is 1/4: every gate that a gradient passes through takes at least three
    quarters of it. The derivative of tanh is 1 there, and near 1 only for small z: 0.9 at |z| = 0.33.

    Args:
        z: pre-activations of any shape; None: 241 of them from -6 to 6.

    >>> at = derivatives(jnp.array([-2.0, 0.0, 2.0]))
    >>> [round(float(slope), 3) for slope in (*at.d_sigma, *at.d_tanh)]
    [0.105, 0.25, 0.105, 0.071, 1.0, 0.071]
    """
    z = jnp.linspace(-6.0, 6.0, 241) if z is None else as_array("z", z)
    check_floating("z", z.dtype)
    d_sigma = jax.grad(lambda z: jax.lax.logistic(z).sum())(z)
    d_tanh = jax.grad(lambda z: jax.lax.tanh(z).sum())(z)
    return Derivatives(z, jax.lax.logistic(z), d_sigma, jax.lax.tanh(z), d_tanh)


def gradient_survival(
    f: Sequence[float] | Array = (0.5, 0.9, 0.99, 1.0),
    steps: int = 100,
    *,
    weight: Sequence[float] | Array = (1.0,),
    x: float = 0.5,
) -> Survival:
    """Return how much of its gradient c keeps over time for a fixed forget gate, compared with a plain RNN.

    Both are differentiated through their recurrence: `cell_step` with no weights but the bias that fixes the forget
    gate at f, and h = tanh(w·h + x). The constant error carousel keeps f^n of the gradient, all of it for f = 1
    (Hochreiter & Schmidhuber 1997, section 3.2; Gers et al. 2000). The plain RNN multiplies it by w·tanh' at each step,
    and tanh' is below 1 wherever h is not 0.

    Args:
        f: values of the forget gate from 0 to 1, `[K]`.
        steps: n, the number of steps back in time.
        weight: recurrent weights w of the plain RNN, `[M]`.
        x: the input of the plain RNN at every step; its h starts at 0.

    Returns:
        `Survival` with cell `[n + 1, K]` and plain `[n + 1, M]`.

    Raises:
        ValueError: f holds other numbers than those from 0 to 1, or steps is no whole number of at least 1.

    >>> survival = gradient_survival(steps=100)
    >>> [round(float(fraction), 3) for fraction in survival.cell[100]], bool(survival.plain[100, 0] < 1e-30)
    ([0.0, 0.0, 0.366, 1.0], True)
    """
    check_positive("steps", steps)
    check_number("x", x)
    dtype = jnp.result_type(float)
    f, weight = as_array("f", f).astype(dtype), as_array("weight", weight).astype(dtype)
    for name, value in (("f", f), ("weight", weight)):
        if value.ndim != 1:
            raise ValueError(f"{name} has shape {value.shape}, expected [K]: a list of numbers.")
    if not isinstance(f, jax.core.Tracer) and not bool(((f >= 0) & (f <= 1)).all()):
        raise ValueError(f"f is {f.tolist()}, expected gates from 0 to 1.")
    zero = jnp.zeros_like(f)
    bias = jnp.stack([zero, jax.scipy.special.logit(f), zero, zero])  # i, f, g, o; g = tanh(0) = 0
    params = LSTMParams(jnp.zeros((1, 4, f.size), f.dtype), jnp.zeros((f.size, 4, f.size), f.dtype), bias)

    def carousel(c: Array, _: None) -> tuple[Array, Array]:
        (_, c), _ = cell_step(params, (zero, c), zero[:1])
        return c, c

    def recurrent(h: Array, _: None) -> tuple[Array, Array]:
        h = jnp.tanh(weight * h + x)
        return h, h

    cell = _slopes(carousel, zero + 0.5, steps)
    return Survival(jnp.arange(steps + 1), cell, _slopes(recurrent, jnp.zeros_like(weight), steps))


def _slopes(step: Callable, start: Array, steps: int) -> Array:
    """Return ∂s_n/∂s_0 of units `[K]` that do not act on each other, for n = 0, 1, ..., steps, in one pass."""

    def states(start: Array) -> Array:
        return jnp.concatenate([start[None], jax.lax.scan(step, start, length=steps)[1]])

    return jax.jvp(states, (start,), (jnp.ones_like(start),))[1]
