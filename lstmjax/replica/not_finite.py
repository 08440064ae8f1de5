"""NaN and infinity, which agree with nothing: where weights, inputs and outputs have them, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from lstmjax.networks import Dense
from lstmjax.replica.sides import Array
from lstmjax.stack import Layers

OUTPUTS = {"h": "outputs", "y": "the head's outputs"}
"""What a reader calls the arrays that a layer and a head put out."""


def in_weights_and_inputs(layers: Layers, head: Dense | None, xs: Array, lengths: Array | None) -> Iterator[str]:
    """Yield the names of weights with NaN or infinity, and where xs `[B, T, I]` has them first at a valid step."""
    for path, a in jax.tree.leaves_with_path({"layers": layers, "head": head}):
        if not np.isfinite(np.asarray(a, np.float64)).all():
            yield jax.tree_util.keystr(path, simple=True, separator=".")
    finite = _finite_steps(xs)
    if lengths is not None:
        finite |= np.arange(xs.shape[1]) >= lengths[:, None]
    if not finite.all():
        yield f"xs, {_steps(finite)}"


def in_arrays(whose: str, arrays: Mapping[str, Array], *, last: bool) -> str:
    """Return which of the arrays that a side computed have NaN or infinity, and where first; "" if none has.

    Args:
        whose: "theirs" or "ours".
        arrays: `[B, T, ...]` by name, zeros at padding; or `[B, 1, ...]`.
        last: whether the arrays are those of the last step alone.
    """
    words = []
    for name, a in arrays.items():
        finite = _finite_steps(a)
        if not finite.all():
            words.append(f"{OUTPUTS.get(name, name)} of {whose}, {_last(finite) if last else _steps(finite)}")
    return ", ".join(words)


def _finite_steps(a: Array) -> Array:
    """Return which steps `[B, T]` have finite numbers alone."""
    return np.asarray(np.isfinite(np.asarray(a, np.float64)).all(-1))


def _steps(finite: Array) -> str:
    sequence, step = np.argwhere(~finite)[0].tolist()
    return f"at {int((~finite).sum())} of {finite.size} steps, first at step {step} of sequence {sequence}"


def _last(finite: Array) -> str:
    sequence = int(np.argwhere(~finite)[0][0])
    return f"at the last step of {int((~finite).sum())} of {finite.size} sequences, first of sequence {sequence}"
