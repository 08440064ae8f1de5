"""Running frameworks: the types that each of them returns, and the functions that several of them need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax.cells import VANILLA, Activation, Cell
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional


class Outcome(NamedTuple):
    """Outputs and gradients of a framework, in NumPy arrays laid out as ours."""

    ys: np.ndarray  # [B, T, P]  outputs; at padding whatever the framework leaves there
    layers: Layers | None = None  # gradients of the parameters
    xs: np.ndarray | None = None  # [B, T, I]  gradient of the inputs
    without: str | None = None  # why there are no gradients


class Part(NamedTuple):
    """One layer of a framework's object, with its weights in our form."""

    layer: Any  # LSTMParams or Bidirectional
    call: Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # (xs [B, T, I], lengths [B]) -> ys [B, T, P]
    merge: str = "concat"  # how a pair joins its directions
    cell: Cell = VANILLA  # that computes what the object does
    direction: str = "forward"  # as in `Architecture.directions`


class Head(NamedTuple):
    """The head of a framework's own object, with its weights in our form."""

    weights: Any  # Dense
    readout: Activation  # what follows it
    call: Callable[[np.ndarray], np.ndarray]  # ys [B, T, P] of the last layer -> y [B, T, O], after the readout


@contextmanager
def as_users_have_it() -> Iterator[None]:
    """Run JAX as frameworks expect it: with its default promotions, and products in full precision."""
    with ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.default_matmul_precision("highest"))
        yield


def on_jax(
    forward: Callable[[Any, Any], Any], weights: Any, xs: np.ndarray, d_ys: np.ndarray | None
) -> tuple[np.ndarray, Any, np.ndarray | None]:
    """Return the outputs of forward(weights, xs), and for cotangents d_ys the gradients of both, compiled."""
    with as_users_have_it():
        if d_ys is None:
            return np.asarray(jax.jit(forward)(weights, xs)), None, None

        @jax.jit
        def value_and_gradients(weights: Any, xs: Any, d_ys: Any) -> tuple[Any, Any]:
            ys, pull = jax.vjp(forward, weights, xs)
            return ys, pull(d_ys)

        ys, (d_weights, d_xs) = value_and_gradients(weights, xs, d_ys)
        return np.asarray(ys), d_weights, np.asarray(d_xs)


class OnJax(NamedTuple):
    """A framework's network on JAX: a function, and the weights in the framework's form."""

    forward: Callable[[Any, Any], Any]  # (weights, xs [B, T, I]) -> ys [B, T, P]
    weights: Any
    to_ours: Callable[[Any], Layers]  # gradients of the weights -> the same in our form

    def outcome(self, xs: np.ndarray, d_ys: np.ndarray | None) -> Outcome:
        """Return the outputs, and for cotangents d_ys the gradients."""
        ys, gradients, d_xs = on_jax(self.forward, self.weights, xs, d_ys)
        return Outcome(ys) if gradients is None else Outcome(ys, self.to_ours(gradients), d_xs)


def cpus() -> int:
    """Return how many CPUs this process may use, which is the number of threads that XLA takes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def made_by(source: Any, package: str) -> bool:
    """Return whether an object is of a class of that package, or of a class derived from one."""
    return any(base.__module__.split(".")[0] == package for base in type(source).__mro__)


def sizes(layer: Any) -> tuple[int, int, int]:
    """Return I, H and the number of directions of a layer."""
    pair = hasattr(layer, "forward")
    first = layer.forward if pair else layer
    return first.input_size, first.hidden_size, 2 if pair else 1


def joined(ys: Any, layer: Any, merge: str) -> Any:
    """Return the outputs of a layer, whose directions stand side by side in ys, as `merge` joins them."""
    if merge == "concat" or not isinstance(layer, Bidirectional):
        return ys
    half = ys.shape[-1] // 2
    return ys[..., :half] + ys[..., half:]


def turned(a: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return a, `[B, T, ...]`, with the valid steps of each sequence in the opposite order."""
    t = np.arange(a.shape[1])
    order = np.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return np.take_along_axis(a, order[..., None], axis=1)
