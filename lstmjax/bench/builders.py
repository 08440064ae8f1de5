"""The programs of lstmjax and of the textbook; those of other frameworks stand in their rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.bench.program import Program, on_jax
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.base.timing import Job
from lstmjax.layer import lstm
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams


def ours(backend: str, job: Job, precision: str = "highest") -> Program:
    """Build `lstm`, or `stacked` where there are several layers or directions, on a backend.

    The precision of products is one of JAX's: "highest" is float32, "tensorfloat32" is TF32 where a GPU has it.
    """
    with jax.default_matmul_precision(precision):
        return on_jax(ours_of(backend, job.layers), job)


def ours_of(backend: str, layers: Layers) -> OnJax:
    """Return `lstm` or `stacked` as a function of parameters and inputs."""

    def forward(layers: Any, xs: Array) -> Array:
        if len(layers) == 1 and isinstance(layers[0], LSTMParams):
            return lstm(layers[0], xs, backend=backend)[1]
        return stacked(layers, xs, backend=backend)[1]

    return OnJax(forward, layers, lambda gradients: gradients)


def plain(job: Job) -> Program:
    """Build the textbook's LSTM in twenty lines of `jax.lax.scan`, without lstmjax."""
    return on_jax(plain_of(job.layers), job)


def plain_of(layers: Layers) -> OnJax:
    """Return the textbook's LSTM as a function of parameters and inputs."""

    def direction(p: LSTMParams, xs: Array, reverse: bool) -> Array:
        hidden = p.w_x.shape[-1]
        w_x, w_h = p.w_x.reshape(-1, 4 * hidden), p.w_h.reshape(-1, 4 * hidden)
        b = p.b.reshape(-1)  # type: ignore[union-attr]

        def step(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = state
            i, f, g, o = jnp.split(x @ w_x + h @ w_h + b, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((xs.shape[0], hidden), xs.dtype)
        return jax.lax.scan(step, (zeros, zeros), xs.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)

    def forward(layers: Any, xs: Array) -> Array:
        for layer in layers:
            pair = layer if isinstance(layer, Bidirectional) else (layer,)
            xs = jnp.concatenate([direction(p, xs, bool(n)) for n, p in enumerate(pair)], axis=-1)
        return xs

    return OnJax(forward, layers, lambda gradients: gradients)
