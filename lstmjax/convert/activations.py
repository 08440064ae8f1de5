"""Activations by the names of other frameworks: functions of a module, since compiled code is cached by them."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp

from lstmjax.cells import Activation, identity
from lstmjax.types import Array


@dataclass(frozen=True)
class LeakyRelu:
    """Return z, or α·z below 0."""

    alpha: float

    def __call__(self, z: Array) -> Array:
        return jnp.where(z >= 0, z, self.alpha * z)


@dataclass(frozen=True)
class Elu:
    """Return z, or α·(exp(z) − 1) below 0."""

    alpha: float

    def __call__(self, z: Array) -> Array:
        return jnp.where(z >= 0, z, self.alpha * jnp.expm1(jnp.minimum(z, 0.0)))


def relu(z: Array) -> Array:
    """Return max(0, z)."""
    return jnp.maximum(z, 0.0)


def softsign(z: Array) -> Array:
    """Return z / (1 + |z|)."""
    return z / (1.0 + jnp.abs(z))


def softplus(z: Array) -> Array:
    """Return log(1 + exp(z))."""
    return jax.nn.softplus(z)


def gelu(z: Array) -> Array:
    """Return z·Φ(z), with the error function and not its approximation by tanh."""
    return jax.nn.gelu(z, approximate=False)


KERAS: MappingProxyType[str, Activation] = MappingProxyType(
    {
        "linear": identity,
        "tanh": jax.lax.tanh,
        "sigmoid": jax.lax.logistic,
        "relu": relu,
        "relu6": jax.nn.relu6,
        "leaky_relu": LeakyRelu(0.2),
        "elu": Elu(1.0),
        "selu": jax.nn.selu,
        "softplus": softplus,
        "softsign": softsign,
        "exponential": jax.lax.exp,
        "silu": jax.nn.silu,
        "swish": jax.nn.silu,
        "gelu": gelu,
        "mish": jax.nn.mish,
    }
)
"""Names of `keras.activations` that are the same in Keras 2 and 3. Source: keras/src/activations/activations.py."""
FUNCTIONS: MappingProxyType[Activation, str] = MappingProxyType(
    {jnp.tanh: "tanh", jax.nn.sigmoid: "sigmoid", jax.nn.relu: "relu", jax.nn.softplus: "softplus"}
)
"""Functions of JAX that a layer of Keras may hold, and Keras' names of functions that compute the same."""
READOUTS: MappingProxyType[str, Activation] = MappingProxyType({**KERAS, "softmax": jax.nn.softmax})
"""The activations after a Dense layer, where softmax over the last axis has a meaning."""
