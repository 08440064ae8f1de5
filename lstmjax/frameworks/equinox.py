"""Equinox: `equinox.nn.LSTMCell` by its fields, in a scan, over the batch by vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.draws import Preset, uniform_hidden
from lstmjax.frameworks.base.card import Card, Note
from lstmjax.frameworks.base.framework import Framework, Peer
from lstmjax.frameworks.base.layouts import ConvertError, Fused, Layout, as_layers, read, to_jax, write
from lstmjax.frameworks.base.running import OnJax, Outcome, Part, made_by, on_jax
from lstmjax.frameworks.base.timing import Timed
from lstmjax.stack import Layers
from lstmjax.types import Bidirectional

LAYOUT = Layout("equinox", rows=True)


def from_equinox(cell: Any) -> Layers:
    """Return the layer of an `equinox.nn.LSTMCell`, or the layers of a sequence of them, bit by bit.

    Raises:
        ConvertError: it is no such cell, or of a class with a `__call__` of its own.
    """
    cells = cell if isinstance(cell, list | tuple) else (cell,)
    for item in cells:
        if made_by(item, "equinox"):
            _check_call(item)
    return _layers(cells)


def _check_call(cell: Any) -> None:
    """Refuse a module whose step is not that of `equinox.nn.LSTMCell`."""
    import equinox

    if type(cell).__call__ is not equinox.nn.LSTMCell.__call__:
        raise ConvertError(
            f"cell is a {type(cell).__name__} with a __call__ of its own, so that what it computes with its weights is "
            "not known. Pass an equinox.nn.LSTMCell with these weights, or verify(cell, xs), which runs it as it is"
        )


def _layers(cells: Sequence[Any]) -> Layers:
    """Return the layers of cells, whatever they compute with their weights."""
    layers = []
    for n, item in enumerate(cells):
        if not all(hasattr(item, name) for name in ("weight_ih", "weight_hh", "bias")):
            raise ConvertError(f"cell is a {type(item).__name__}, expected an equinox.nn.LSTMCell")
        bias = None if item.bias is None else np.asarray(item.bias)
        fused = Fused(np.asarray(item.weight_ih), np.asarray(item.weight_hh), bias)
        layers.append(read(LAYOUT, fused, f"cell {n}: "))
    return to_jax(tuple(layers))


def to_equinox(layers: Any, *, sum_biases: bool = False) -> tuple[Any, ...]:
    """Return an `equinox.nn.LSTMCell` for each layer.

    Args:
        layers: a tuple of layers in one direction, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Equinox has one.

    Raises:
        ConvertError: Equinox' cell has no place for something.
    """
    import equinox

    cells = []
    for n, layer in enumerate(as_layers(layers)):
        if isinstance(layer, Bidirectional):
            raise ConvertError(f"layer {n}: equinox.nn.LSTMCell runs in one direction; convert the two one by one")
        fused = write(LAYOUT, layer, sum_biases=sum_biases, where=f"layer {n}: ")
        sizes = {"input_size": layer.input_size, "hidden_size": layer.hidden_size, "use_bias": fused.b is not None}
        blank = equinox.filter_eval_shape(equinox.nn.LSTMCell, **sizes, key=jax.random.key(0))
        values = to_jax([a for a in fused if a is not None])
        cells.append(equinox.tree_at(_arrays, blank, values))
    return tuple(cells)


def _arrays(cell: Any) -> list[Any]:
    """Return the arrays that a cell has."""
    return [a for a in (cell.weight_ih, cell.weight_hh, cell.bias) if a is not None]


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what `equinox.nn.LSTMCell`s with these layers compute; see `Peer.run`."""
    return build(layers).outcome(xs, d_ys)


def build(layers: Layers) -> OnJax:
    """Build `equinox.nn.LSTMCell`s with these layers."""
    return OnJax(forward, to_equinox(layers), from_equinox)


def parts(source: Any) -> list[Part]:
    """Return the layers of a cell, or of a list of cells; see `Peer.parts`."""

    def part(cell: Any) -> Part:
        return Part(_layers((cell,))[0], lambda xs, lengths: on_jax(forward, (cell,), xs, None)[0])

    return [part(cell) for cell in (source if isinstance(source, list | tuple) else (source,))]


def forward(cells: Any, xs: Any) -> Any:
    """Return the outputs of a stack of cells, `[B, T, H]`."""
    for cell in cells:
        zeros = jnp.zeros((2, cell.hidden_size), xs.dtype)

        def run_sequence(xs: Any, cell: Any = cell, zeros: Any = zeros) -> Any:
            def step(state: Any, x: Any) -> Any:
                state = cell(x, state)
                return state, state[0]

            return jax.lax.scan(step, tuple(zeros), xs)[1]

        xs = jax.vmap(run_sequence)(xs)
    return xs


PRESET = Preset(uniform_hidden, uniform_hidden, uniform_hidden, name="equinox")
"""`equinox.nn.LSTMCell`: U(±1/√H) for everything, one bias."""
CARD = Card(
    "equinox",
    "equinox.nn.LSTMCell",
    "equinox/nn/_rnn.py, Equinox 0.13",
    ('params = init_params(key, I, H, init="equinox")', "layers = from_equinox(module)"),
    layout=LAYOUT,
    preset=PRESET,
    drops=(),
    adam="adam",
    notes=(Note("one step", "it takes one step of one sequence, x [I]; scan and vmap are the caller's."),),
)

ROW = Framework(
    "equinox",
    LAYOUT,
    peer=Peer("equinox", "equinox", "equinox", run, pairs=False, lengths=False, parts=parts),
    cards=(CARD,),
    initial=(PRESET,),
    timed=(Timed("Equinox", lambda job: build(job.layers), ("equinox",), pairs=False, ensembles=True),),
)
