"""cuDNN: the flat vector of `jax.experimental.rnn`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from lstmjax.backends.cudnn_call import pieces
from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, check_uniform, check_writable, read, to_jax
from lstmjax.stack import Layers, directions
from lstmjax.types import Array, Bidirectional

LAYOUT = LAYOUTS["cudnn"]


def from_cudnn(
    weights: Any, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False
) -> Layers:
    """Gives the layers of the flat vector that `jax.experimental.rnn.lstm` takes, bit by bit.

    Args:
        weights: all W_ih and W_hh of each layer and direction, then all b_ih and b_hh, `[n]`.
        input_size, hidden_size, num_layers, bidirectional: as `jax.experimental.rnn` has them.

    Raises:
        ConvertError: the vector is not as long as these sizes make it.
    """
    flat = np.asarray(weights)
    count, wide = 2 if bidirectional else 1, 4 * hidden_size
    shapes = [
        (wide, size)
        for n in range(num_layers)
        for _ in range(count)
        for size in (input_size if n == 0 else count * hidden_size, hidden_size)
    ] + [(wide,)] * (2 * num_layers * count)
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    if flat.shape != (ends[-1],):
        raise ConvertError(f"weights has shape {flat.shape}, expected ({ends[-1]},) for these sizes")
    parts = [flat[a:z].reshape(shape) for a, z, shape in zip(ends, ends[1:], shapes, strict=False)]
    half = len(parts) // 2
    each = [read(LAYOUT, Fused(*parts[n : n + 2], *parts[half + n : half + n + 2])) for n in range(0, half, 2)]
    pairs = [Bidirectional(*each[n : n + 2]) for n in range(0, len(each), 2)] if bidirectional else each
    return to_jax(tuple(pairs))


def to_cudnn(layers: Any) -> Array:
    """Gives the flat vector for `jax.experimental.rnn.lstm`; one bias becomes b_ih beside a b_hh of zeros.

    Raises:
        ConvertError: layers differ in size, or have what cuDNN has no place for.
    """
    layers = as_layers(layers)
    for n, layer in enumerate(layers):
        for part in directions(layer):
            check_writable(LAYOUT, part, where=f"layer {n}: ")
    check_uniform(LAYOUT, layers)
    parts = [jax.tree.map(np.asarray, part) for layer in layers for part in directions(layer)]
    return to_jax(np.concatenate(pieces(parts)))
