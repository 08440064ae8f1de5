"""Activations by their names in Keras."""

from __future__ import annotations

from types import MappingProxyType

import jax
import jax.numpy as jnp

from lstmjax.cells import Activation, identity
from lstmjax.frameworks.base.activations import Elu, LeakyRelu, gelu, relu, softplus, softsign

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
