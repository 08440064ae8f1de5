"""Distributions of initial values, and presets made of them.

They reproduce distributions, not draws: the same seed gives other numbers than a framework's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.types import Array

Draw = Callable[[Array, tuple[int, ...], "Sizes", Any], Array]
"""draw(key, shape, sizes, dtype) -> the initial values of one field."""


@dataclass(frozen=True)
class Sizes:
    """I, H and P of the layer whose values are drawn."""

    inputs: int
    hidden: int
    width: int


def zeros(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Zeros."""
    return jnp.zeros(shape, dtype)


def uniform_hidden(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """U(−1/√H, 1/√H), whatever the fan-in."""
    bound = 1 / math.sqrt(sizes.hidden)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def lecun_normal(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Truncated normal of variance 1 / fan-in; each gate sees the same fan-in, so one draw serves all."""
    return jax.nn.initializers.lecun_normal()(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def glorot_joint(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Glorot uniform on the joint matrix `[N, G·H]`: U(±√(6 / (N + G·H)))."""
    return jax.nn.initializers.glorot_uniform()(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def orthogonal_joint(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """One orthogonal draw of the joint matrix `[P, G·H]`: its rows are orthonormal."""
    return orthogonal(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def orthogonal_per_gate(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """One orthogonal draw of `[P, H]` for each gate."""
    return jnp.stack([orthogonal(k, (shape[0], shape[2]), dtype) for k in jax.random.split(key, shape[1])], axis=1)


def orthogonal(key: Array, shape: tuple[int, int], dtype: Any, scale: float = 1.0) -> Array:
    """Draw a matrix with orthonormal columns, or rows if it is wider than high, times a scale.

    Under `jax.vmap` the matrices are drawn one after the other: JAX's QR decomposition of a batch waits for threads of
    the pool that runs it, and two at a time have left a machine with two cores waiting for ever (jaxlib 0.10.2).
    """
    # The QR decomposition knows no half precision.
    draw = lambda key: jax.nn.initializers.orthogonal(scale)(key, shape, checks.cell_dtype(dtype))
    return jax.custom_batching.sequential_vmap(draw)(key).astype(dtype)


@dataclass(frozen=True)
class Preset:
    """One row: how each field is drawn, how many biases there are, and the forget bias."""

    w_x: Draw
    w_h: Draw
    b: Draw = zeros
    w_p: Draw = lecun_normal
    bias: str = "single"
    forget_bias: float | None = None  # None: as drawn
    name: str = ""  # in `PRESETS`


DEFAULT = Preset(lecun_normal, orthogonal_per_gate, forget_bias=1.0, name="default")
"""Unit-variance inputs give unit-variance pre-activations (LeCun normal); an orthogonal matrix for each gate neither
shrinks nor grows h on its way back (Saxe et al. 2014); forget bias 1, so that an untrained cell remembers (Jozefowicz
et al. 2015)."""
