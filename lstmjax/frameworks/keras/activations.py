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
    {
        jnp.tanh: "tanh",
        jax.nn.tanh: "tanh",
        jax.lax.tanh: "tanh",
        jax.nn.sigmoid: "sigmoid",
        jax.lax.logistic: "sigmoid",
        jax.nn.relu: "relu",
        jax.nn.relu6: "relu6",
        jax.nn.elu: "elu",
        jax.nn.selu: "selu",
        jax.nn.softplus: "softplus",
        jax.nn.soft_sign: "softsign",
        jax.nn.silu: "silu",
        jax.nn.mish: "mish",
        jax.nn.hard_sigmoid: "hard_sigmoid",
    }
)
"""Functions of JAX that a layer of Keras may hold, and Keras' names of functions that compute the same."""
OPERATIONS = frozenset(
    {
        "tanh", "sigmoid", "hard_sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign", "silu",
        "softmax",
    }
)  # fmt: skip
"""Functions of `keras.ops` that compute the same as those of `keras.activations`; gelu does not."""
READOUTS: MappingProxyType[str, Activation] = MappingProxyType({**KERAS, "softmax": jax.nn.softmax})
"""The activations after a Dense layer, where softmax over the last axis has a meaning."""
