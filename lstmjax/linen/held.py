"""Hold the functional parameters of a linen module as one variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta

from lstmjax.arguments import check_floating, check_positive, one_of
from lstmjax.init import PRESETS
from lstmjax.types import Array, LSTMParams


def held(module: Any, name: str, inputs: Any, draw: Callable[[Array, int], Any]) -> Any:
    """Return the parameters that a module holds under `name`; at init, those that `draw(key, I)` returns.

    Existing parameters are compared with the module at their own I, not that of the inputs; the functions check the
    inputs against them and say what is wrong.
    """
    for field in ("features", "hidden_features", "out_features"):
        if hasattr(module, field):
            check_positive(field, getattr(module, field))
    one_of("preset", module.preset, tuple(PRESETS))
    check_floating("param_dtype", module.param_dtype)
    if module.dtype is not None:
        check_floating("dtype", module.dtype)
    existing = existing_params(module, name)
    size = jnp.shape(inputs)[-1] if existing is None else _first(existing).input_size
    expected: list[Any] = []

    def initial(key: Array) -> Any:  # Flax calls it at init to draw, and at apply to compare shapes
        params = draw(key, size)
        expected.append(jax.tree.structure(meta.unbox(params)))
        return params

    params = module.param(name, initial)
    actual: Any = jax.tree.structure(params)
    if actual != expected[-1]:  # Flax compares shapes only up to the end of the shorter tree
        raise ValueError(
            f"{name} in the variables is not built as this {type(module).__name__} says. It holds\n"
            f"{actual}\nexpected\n{expected[-1]}\nDo layers, bidirectional, cell, bias "
            "and projection_size say what the parameters were made with?"
        )
    return params


def existing_params(module: nn.Module, name: str) -> Any:
    """Return the parameters that the variables hold under `name`, without boxes of metadata, or None."""
    if not module.has_variable("params", name):
        return None
    return meta.unbox(module.get_variable("params", name))


def _first(params: Any) -> LSTMParams:
    """Return the parameters of the first layer, in one direction."""
    while not isinstance(params, LSTMParams):
        params = params[0]
    return params
