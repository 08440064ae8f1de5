"""What stands behind the LSTM layers of a `Sequential` of Flax: a Dense head, and a function after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lstmjax.cells import Activation, identity
from lstmjax.convert.flax_object import other_dtype, other_promotion
from lstmjax.networks import Dense


class Behind(NamedTuple):
    """What stands behind the last LSTM layer, as far as a `Model` can run it."""

    head: Dense | None = None
    readout: Activation = identity
    left: tuple[str, ...] = ()
    """In words, everything that stands there, if a `Model` cannot run it; head is None then."""


def read_behind(flax: Any, modules: list[tuple[str, Any]], weights: Callable[[Any], Any], dtype: Any) -> Behind:
    """Return the Dense head behind the LSTM layers, and the function after it.

    Args:
        flax: the namespace of the modules, `flax.linen` or `flax.nnx`.
        modules: what stands there, with words for messages; see `flax_object.behind`.
        weights: a function of a head, which returns its kernel and bias by these names.
        dtype: that of the weights of the layers.
    """
    if not modules:
        return Behind()
    (_, first), *after = modules
    left = Behind(left=tuple(f"{where}{_called(module)}" for where, module in modules))
    linear = flax.Linear if hasattr(flax, "Linear") else flax.Dense
    if not isinstance(first, linear) or type(first).__call__ is not linear.__call__ or len(after) > 1:
        return left
    arrays = {name: jnp.asarray(value) for name, value in weights(first).items()}
    kernel = arrays.pop("kernel", None)
    if kernel is None or kernel.dtype != dtype or other_dtype(first, kernel) or other_promotion(flax, first):
        return left
    head = Dense(kernel, arrays.get("bias", jnp.zeros(kernel.shape[-1], kernel.dtype)))
    if not after:
        return Behind(head)
    ((_, function),) = after
    return Behind(head, function) if _is_readout(flax, function, kernel) else left


def _called(module: Any) -> str:
    return getattr(module, "__name__", type(module).__name__)


def _is_readout(flax: Any, function: Any, kernel: Any) -> bool:
    """Return whether what follows a head is a function of each step by itself, by a trial on random numbers."""
    if isinstance(function, flax.Module):
        return False
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, kernel.shape[-1])), kernel.dtype)
    try:
        together = function(logits)
    except Exception:  # any function may stand there; one that does not take logits is no readout
        return False
    if jnp.shape(together) != logits.shape:
        return False
    apart = [[function(logits[b : b + 1, t : t + 1])[0, 0] for t in range(3)] for b in range(2)]
    return bool(np.allclose(np.asarray(together, np.float64), np.asarray(apart, np.float64), rtol=1e-4, atol=1e-5))
