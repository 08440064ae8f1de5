"""Flax: `linen.RNN(linen.LSTMCell)` and `nnx.RNN(nnx.LSTMCell)`, pairs of them in each one's `Bidirectional`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from lstmjax.convert import from_linen, from_nnx, to_linen, to_nnx
from lstmjax.convert.layouts import ConvertError, natural
from lstmjax.replica.peers.outcome import OnJax, Outcome, Part, on_jax, sizes
from lstmjax.stack import Layers


def run_linen(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Gives what linen computes with these layers; see `Peer.run`."""
    return build_linen(layers, xs.dtype, lengths).outcome(xs, d_ys)


def run_nnx(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Gives what NNX computes with these layers; see `Peer.run`."""
    return build_nnx(layers, xs.dtype, lengths).outcome(xs, d_ys)


def build_linen(layers: Layers, dtype: Any, lengths: Any = None, *, optimized: bool = False) -> OnJax:
    """Gives an RNN, or a pair of them, of `linen.LSTMCell` or `linen.OptimizedLSTMCell` for each of these layers."""
    from flax import linen

    kind = linen.OptimizedLSTMCell if optimized else linen.LSTMCell

    def rnn(hidden: int) -> Any:
        return linen.RNN(kind(hidden, dtype=dtype, param_dtype=dtype))

    modules = []
    for _, hidden, count in map(sizes, layers):
        modules.append(rnn(hidden) if count == 1 else linen.Bidirectional(rnn(hidden), rnn(hidden)))
    lengths = _lengths(lengths)

    def forward(variables: Any, xs: Any) -> Any:
        for module, own in zip(modules, variables, strict=True):
            xs = module.apply(own, xs, seq_lengths=lengths)
        return xs

    return OnJax(forward, to_linen(layers), lambda found: tuple(layer for own in found for layer in from_linen(own)))


def build_nnx(layers: Layers, dtype: Any, lengths: Any = None, *, optimized: bool = False) -> OnJax:
    """Gives an RNN, or a pair of them, of `nnx.LSTMCell` or `nnx.OptimizedLSTMCell` for each of these layers."""
    from flax import nnx

    kind = nnx.OptimizedLSTMCell if optimized else nnx.LSTMCell

    def rnn(inputs: int, hidden: int) -> Any:
        zeros = nnx.initializers.zeros_init()  # quickly drawn, and then replaced
        how = {"dtype": dtype, "param_dtype": dtype, "kernel_init": zeros, "recurrent_kernel_init": zeros}
        return nnx.RNN(kind(inputs, hidden, rngs=nnx.Rngs(0), **how))

    modules = []
    for inputs, hidden, count in map(sizes, layers):
        both = [rnn(inputs, hidden) for _ in range(count)]
        modules.append(both[0] if count == 1 else nnx.Bidirectional(*both))
    for module, tree in zip(modules, to_nnx(layers, optimized=optimized), strict=True):
        nnx.update(module, tree)
    graphs, states = zip(*map(nnx.split, modules), strict=True)
    lengths = _lengths(lengths)

    def forward(states: Any, xs: Any) -> Any:
        for graph, state in zip(graphs, states, strict=True):
            xs = nnx.merge(graph, state)(xs, seq_lengths=lengths)
        return xs

    return OnJax(forward, states, lambda found: tuple(layer for own in found for layer in from_nnx(own)))


def parts(source: Any) -> list[Part]:
    """Gives the layers of an `nnx.RNN`, of an `nnx.Bidirectional`, or of a module of them; see `Peer.parts`."""
    from flax import nnx

    if not isinstance(source, nnx.Module):
        raise ConvertError(
            f"theirs is a {type(source).__name__} of linen, which holds no weights; pass its variables, or a function "
            "of xs together with params="
        )
    kinds = nnx.RNN, nnx.Bidirectional
    found = {path: module for path, module in nnx.iter_modules(source) if isinstance(module, kinds)}
    if not found:
        raise ConvertError(f"there is no RNN in theirs, a {type(source).__name__} of nnx; pass nnx.RNN(cell)")
    outer = {path: m for path, m in found.items() if not any(path[:n] in found for n in range(len(path)))}

    def part(module: Any) -> Part:
        graph, state = nnx.split(module)

        def call(xs: Any, lengths: Any) -> np.ndarray:
            return on_jax(lambda s, xs: nnx.merge(graph, s)(xs, seq_lengths=_lengths(lengths)), state, xs, None)[0]

        return Part(from_nnx(module)[0], call)

    return [part(outer[path]) for path in sorted(outer, key=lambda path: [natural(name) for name in path])]


def _lengths(lengths: Any) -> Any:
    return None if lengths is None else jnp.asarray(lengths, jnp.int32)
