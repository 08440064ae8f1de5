"""Flax: `linen.RNN(linen.LSTMCell)` and `nnx.RNN(nnx.LSTMCell)`, pairs of them in the `Bidirectional` of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.base.running import Head, OnJax, Outcome, Part, on_jax, sizes
from lstmjax.frameworks.base.timing import Job, Step, steps_on_jax
from lstmjax.frameworks.flax.objects import check_axes
from lstmjax.frameworks.flax.read import from_linen, from_nnx, read_nnx
from lstmjax.frameworks.flax.trees import to_linen, to_nnx
from lstmjax.stack import Layers


def run_linen(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what linen computes with these layers; see `Peer.run`."""
    return build_linen(layers, xs.dtype, lengths).outcome(xs, d_ys)


def run_nnx(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what NNX computes with these layers; see `Peer.run`."""
    return build_nnx(layers, xs.dtype, lengths).outcome(xs, d_ys)


def build_linen(layers: Layers, dtype: Any, lengths: Any = None, *, optimized: bool = False) -> OnJax:
    """Build an RNN, or a pair of them, of `linen.LSTMCell` or `linen.OptimizedLSTMCell` for each of these layers."""
    from flax import linen

    kind = linen.OptimizedLSTMCell if optimized else linen.LSTMCell
    zeros = linen.initializers.zeros_init()  # the default's shape cannot be traced in bfloat16: JAX has no such QR

    def rnn(hidden: int) -> Any:
        options = {"dtype": dtype, "param_dtype": dtype, "kernel_init": zeros, "recurrent_kernel_init": zeros}
        return linen.RNN(kind(hidden, **options))

    modules = []
    for _, hidden, count in map(sizes, layers):
        modules.append(rnn(hidden) if count == 1 else linen.Bidirectional(rnn(hidden), rnn(hidden)))
    lengths = _lengths(lengths)

    def forward(variables: Any, xs: Any) -> Any:
        for module, weights in zip(modules, variables, strict=True):
            xs = module.apply(weights, xs, seq_lengths=lengths)
        return xs

    def to_ours(gradients: Any) -> Layers:
        return tuple(layer for tree in gradients for layer in from_linen(tree))

    return OnJax(forward, to_linen(layers), to_ours)


def build_nnx(layers: Layers, dtype: Any, lengths: Any = None, *, optimized: bool = False) -> OnJax:
    """Build an RNN, or a pair of them, of `nnx.LSTMCell` or `nnx.OptimizedLSTMCell` for each of these layers."""
    from flax import nnx

    kind = nnx.OptimizedLSTMCell if optimized else nnx.LSTMCell

    def rnn(inputs: int, hidden: int) -> Any:
        zeros = nnx.initializers.zeros_init()  # quick to draw; the weights are replaced
        options = {"dtype": dtype, "param_dtype": dtype, "kernel_init": zeros, "recurrent_kernel_init": zeros}
        return nnx.RNN(kind(inputs, hidden, rngs=nnx.Rngs(0), **options))

    modules = []
    for inputs, hidden, count in map(sizes, layers):
        directions = [rnn(inputs, hidden) for _ in range(count)]
        modules.append(directions[0] if count == 1 else nnx.Bidirectional(*directions))
    for module, tree in zip(modules, to_nnx(layers, optimized=optimized), strict=True):
        nnx.update(module, tree)
    graphs, states = zip(*map(nnx.split, modules), strict=True)
    lengths = _lengths(lengths)

    def forward(states: Any, xs: Any) -> Any:
        for graph, state in zip(graphs, states, strict=True):
            xs = nnx.merge(graph, state)(xs, seq_lengths=lengths)
        return xs

    def to_ours(gradients: Any) -> Layers:
        return tuple(layer for tree in gradients for layer in from_nnx(tree))

    return OnJax(forward, states, to_ours)


def parts(source: Any) -> list[Part]:
    """Return the layers of an `nnx.RNN`, of an `nnx.Bidirectional`, or of a module of them; see `Peer.parts`.

    Each is the object itself, run with its settings: functions, direction, order of outputs, merge_fn and layout.
    """
    from flax import nnx

    if not isinstance(source, nnx.Module):
        if getattr(source, "scope", None) is not None:
            raise ConvertError(
                f"theirs is a bound {type(source).__name__} of linen; pass the function lambda xs: module(xs), "
                "together with params=model_from_linen(module)"
            )
        raise ConvertError(
            f"theirs is a {type(source).__name__} of linen, which holds no weights; pass its variables, or a function "
            "of xs together with params="
        )
    layers, recurrent, *_ = read_nnx(source)
    if any(isinstance(each.module, nnx.RNNCellBase) for each in recurrent):
        raise ConvertError(f"there is no RNN in theirs, a {type(source).__name__} of nnx; pass nnx.RNN(cell)")
    check_axes(recurrent)
    return [
        Part(layer, partial(_run, each.module, each.time_major), each.merge, each.row, each.direction)
        for layer, each in zip(layers, recurrent, strict=True)
    ]


def head(source: Any) -> Head | None:
    """Return the head of a `Sequential`, and what runs all that stands behind its layers; see `Peer.head`."""
    from flax import nnx

    read = read_nnx(source)
    behind = read.behind()
    if behind.head is None:
        return None
    module = nnx.Sequential(*(module for _, module in read.after))
    return Head(behind.head, behind.readout, partial(_run, module, read.recurrent[-1].time_major))


def beyond(source: Any) -> tuple[str, ...]:
    """Return what a `Sequential` does behind its layers that no head is; see `Peer.beyond`."""
    return read_nnx(source).behind().unread


def _run(module: Any, time_major: bool, xs: Any, *lengths: Any) -> np.ndarray:
    """Return the outputs `[B, T, P]` of an NNX module for xs `[B, T, I]`; lengths, or None, are for recurrent ones."""
    from flax import nnx

    graph, state = nnx.split(module)

    def forward(state: Any, xs: Any) -> Any:
        xs = jnp.swapaxes(xs, 0, 1) if time_major else xs
        options = {"seq_lengths": _lengths(lengths[0]), "return_carry": False} if lengths else {}
        ys = nnx.merge(graph, state)(xs, **options)
        return jnp.swapaxes(ys, 0, 1) if time_major else ys

    return on_jax(forward, state, xs, None)[0]


def _lengths(lengths: Any) -> Any:
    return None if lengths is None else jnp.asarray(lengths, jnp.int32)


def linen_steps(job: Job) -> Callable[[], Step]:
    """Build `linen.OptimizedLSTMCell` under `jax.jit`, for one step after the other."""
    from flax import linen

    params: Any = job.layers[0]
    cell = linen.OptimizedLSTMCell(params.w_x.shape[-1])
    variables = to_linen(job.layers)[0]
    weights = {"params": next(iter(variables["params"].values()))}

    def step(weights: Any, state: Any, x: Any) -> Any:
        h, c = state
        (c, h), y = cell.apply(weights, (c, h), x)
        return (h, c), y

    return steps_on_jax(job, step, weights)
