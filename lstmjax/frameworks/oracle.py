"""The NumPy oracle, run like a framework: float64, whatever the dtype of the weights, sequence by sequence."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from lstmjax import oracle, oracle_cells
from lstmjax.frameworks.base.framework import Framework, Peer
from lstmjax.frameworks.base.running import Outcome, joined, turned
from lstmjax.stack import Layers, directions
from lstmjax.types import Norms


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what the oracle computes, values and gradients in float64; see `Peer.run`."""
    ys, pulled = [], []
    for n in range(len(xs)):
        (_, shown), pull = oracle.stacked(layers, xs[n], lengths=None if lengths is None else int(lengths[n]))
        ys.append(shown.h)
        if d_ys is not None:
            pulled.append(pull(None, oracle.Steps(h=d_ys[n])))
    if d_ys is None:
        return Outcome(np.stack(ys))
    total = jax.tree.map(lambda *a: sum(a), *(gradients.params for gradients in pulled))
    return Outcome(np.stack(ys), total, np.stack([gradients.xs for gradients in pulled]))


def run_cell(layer: Any, cell: str, xs: Any, lengths: Any = None) -> np.ndarray:
    """Return the outputs `[B, T, P]` of a layer of any published cell, in float64, zeros at padding."""
    xs, outputs = np.asarray(xs, np.float64), []
    for d, params in enumerate(directions(layer)):
        p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
        if p.norm is not None:  # the oracle takes no None for a shift
            filled: Any = (0.0 if a is None else a for a in p.norm)
            p = p._replace(norm=Norms(*filled))
        hidden, width = p.w_x.shape[-1], p.w_h.shape[0]
        zeros = [np.zeros(width), np.zeros(hidden)]
        if p.w_r is not None:  # i, f and o of the step before, which feed back
            zeros += [np.zeros(hidden)] * 3
        ys = np.zeros((*xs.shape[:2], width))
        for n, x in enumerate(xs):
            valid = x if lengths is None else x[: lengths[n]]
            if len(valid):
                order = slice(None, None, -1 if d else 1)
                ys[n, : len(valid)] = oracle_cells.run(cell, p, valid[order], tuple(zeros))[0].h[order]
        outputs.append(ys)
    return np.concatenate(outputs, axis=-1)


def run_layer(layer: Any, cell: str, merge: str, way: str, xs: Any, lengths: Any = None) -> np.ndarray:
    """Return the outputs of a layer, its directions joined; `way` is one of `architecture.DIRECTIONS`."""
    xs = np.asarray(xs)
    steps = np.full(len(xs), xs.shape[1]) if lengths is None else np.asarray(lengths)
    ys = run_cell(layer, cell, xs if way == "forward" else turned(xs, steps), lengths)
    if way == "reverse":
        ys = turned(ys, steps)
    return joined(ys, layer, merge)


ROW = Framework("oracle", peer=Peer("oracle", "numpy", "numpy", run, biases=2))
