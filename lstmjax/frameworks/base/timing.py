"""How a framework takes part in the benchmark: its networks that are timed, and what it builds of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.frameworks.base.running import OnJax
from lstmjax.stack import Layers
from lstmjax.types import Array

JAX_PEER, PEER = "peer on JAX", "peer"
"""Kinds of networks of other frameworks: those whose best we compare with, and others."""


class Job(NamedTuple):
    """The arrays that every competitor gets."""

    layers: Layers  # of several networks: with N in front of all axes, as of xs and weights
    xs: Array  # [B, T, I]
    weights: Array  # [B, T, H or 2H]  of the outputs in the loss, the sum of weights · ys
    mode: str  # "forward", or "training": with gradients of all parameters and of xs


class Eager(NamedTuple):
    """A network outside of JAX, ready to run."""

    call: Callable[[], Any]  # returns its result when it is computed
    to_ours: Callable[[Any], Any]  # result -> ys; in training (gradients of the layers in our form, that of xs)


@dataclass(frozen=True)
class Timed:
    """One row: a network of a framework that is timed; fields after `packages` say where it does not take part."""

    name: str
    build: Callable[[Job], OnJax | Eager]
    packages: tuple[str, ...] = ()
    kind: str = JAX_PEER
    trains: bool = True
    pairs: bool = True  # two directions
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    platforms: tuple[str, ...] = ("cpu", "gpu", "tpu")
    ensembles: bool = False  # many networks, mapped by JAX or run one after the other


Step = Callable[[np.ndarray], Any]
"""Takes the input of a step `[B, I]`, and returns its output as an array of NumPy or a tensor of the CPU."""


@dataclass(frozen=True)
class Stepped:
    """One row: a network of a framework that is timed one step after the other."""

    name: str
    build: Callable[[Job], Callable[[], Step]]
    """Returns what begins a sequence: it returns what runs a step, in its first state."""
    packages: tuple[str, ...] = ()
    kind: str = JAX_PEER
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    platforms: tuple[str, ...] = ("cpu", "gpu", "tpu")


def steps_on_jax(job: Job, step: Callable, weights: Any) -> Callable[[], Step]:
    """Return what begins a sequence of `step(weights, (h, c), x)`, jitted, with its state donated."""
    zeros = jnp.zeros((job.xs.shape[0], job.weights.shape[-1]), job.xs.dtype)
    run = jax.jit(step, donate_argnums=1)

    def begin() -> Step:
        state = zeros + 0, zeros + 0

        def one(x: np.ndarray) -> np.ndarray:
            nonlocal state
            state, y = run(weights, state, x)
            return np.asarray(y)

        return one

    return begin
