"""Activations that frameworks have and JAX has not: functions of a module, since compiled code is cached by them."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

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
