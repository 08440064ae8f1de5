"""cuDNN: the flat vector of weights of `jax.experimental.rnn`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.backends.cudnn_call import pieces
from lstmjax.frameworks import torch
from lstmjax.frameworks.base.card import Card, Note
from lstmjax.frameworks.base.framework import Framework
from lstmjax.frameworks.base.layouts import (
    ConvertError,
    Fused,
    Layout,
    as_layers,
    check_uniform,
    check_writable,
    read,
    to_jax,
)
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.base.running import sizes as sizes_of
from lstmjax.frameworks.base.timing import PEER, Job, Timed
from lstmjax.stack import Layers, directions
from lstmjax.types import Array, Bidirectional

LAYOUT = Layout("cudnn", rows=True, biases=2, always=True)


def from_cudnn(
    weights: Any, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False
) -> Layers:
    """Return the layers of the flat vector that `jax.experimental.rnn.lstm` takes, bit by bit.

    Args:
        weights: all W_ih and W_hh of each layer and direction, then all b_ih and b_hh, `[n]`.
        input_size, hidden_size, num_layers, bidirectional: as `jax.experimental.rnn` has them.

    Raises:
        ConvertError: the vector is not as long as these sizes make it.
    """
    flat = np.asarray(weights)
    count = 2 if bidirectional else 1
    wide = 4 * hidden_size
    shapes = [
        (wide, size)
        for n in range(num_layers)
        for _ in range(count)
        for size in (input_size if n == 0 else count * hidden_size, hidden_size)
    ] + [(wide,)] * (2 * num_layers * count)
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    if flat.shape != (ends[-1],):
        raise ConvertError(f"weights has shape {flat.shape}, expected ({ends[-1]},) for these sizes")
    arrays = [flat[a:z].reshape(shape) for a, z, shape in zip(ends, ends[1:], shapes, strict=False)]
    matrices, biases = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
    layers: list[Any] = [
        read(LAYOUT, Fused(*matrices[n : n + 2], *biases[n : n + 2])) for n in range(0, len(matrices), 2)
    ]
    if bidirectional:
        layers = [Bidirectional(*layers[n : n + 2]) for n in range(0, len(layers), 2)]
    return to_jax(tuple(layers))


def to_cudnn(layers: Any) -> Array:
    """Return the flat vector for `jax.experimental.rnn.lstm`; one bias becomes b_ih beside a b_hh of zeros.

    Raises:
        ConvertError: the layers differ in size, or have something that cuDNN has no place for.
    """
    layers = as_layers(layers)
    for n, layer in enumerate(layers):
        for part in directions(layer):
            check_writable(LAYOUT, part, where=f"layer {n}: ")
    check_uniform(LAYOUT, layers)
    parts = [jax.tree.map(np.asarray, part) for layer in layers for part in directions(layer)]
    return to_jax(np.concatenate(pieces(parts)))


def build_job(job: Job, precision: jax.lax.Precision = jax.lax.Precision.HIGHEST) -> OnJax:
    """Build `jax.experimental.rnn.lstm`; at a lower precision than the highest, cuDNN computes in TF32."""
    from jax.experimental import rnn

    inputs, hidden, count = sizes_of(job.layers[0])
    sizes: dict[str, Any] = {
        "input_size": inputs,
        "hidden_size": hidden,
        "num_layers": len(job.layers),
        "bidirectional": count == 2,
    }
    options = {**sizes, "dropout": 0.0, "precision": precision}
    batch, steps, _ = job.xs.shape

    def forward(flat: Array, xs: Array) -> Array:
        zeros = jnp.zeros((len(job.layers) * count, batch, hidden), xs.dtype)
        lengths = jnp.full((batch,), steps, jnp.int32)
        return rnn.lstm(xs, zeros, zeros, flat, lengths, **options)[0]

    return OnJax(forward, to_cudnn(job.layers), partial(from_cudnn, **sizes))


CARD = Card(
    "cudnn",
    "jax.experimental.rnn.lstm",
    "jax/experimental/rnn.py, JAX 0.10",
    ('params = init_params(key, I, H, init="torch")', "layers = from_cudnn(module, I, H)"),
    layout=LAYOUT,
    preset=torch.PRESET,
    adam="adam",
    notes=(
        Note("length 0", "lstm_ref returns the state after the last step; here it is the initial one."),
        Note("float32", "weights are float32, in x64 mode too."),
        Note("dropout", "lstm_ref, which needs no GPU, refuses it."),
    ),
    read=(
        "The tests run lstm_ref, JAX's reference, and not cuDNN itself.",
        "On a GPU products are rounded to TF32 unless precision is HIGHEST.",
    ),
)

ROW = Framework(
    "cudnn",
    LAYOUT,
    cards=(CARD,),
    timed=(Timed("cuDNN by JAX", build_job, kind=PEER, dtypes=("float32",), platforms=("gpu",)),),
)
