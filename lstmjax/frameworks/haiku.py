"""Haiku: `haiku.LSTM` by its parameters, in a `DeepRNN` that is run by `dynamic_unroll`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from lstmjax.draws import Preset, Sizes
from lstmjax.frameworks.base.card import Card, Note
from lstmjax.frameworks.base.contents import Contents, flat, in_order
from lstmjax.frameworks.base.framework import Form, Framework, Leaves, Order, Pairs, Peer
from lstmjax.frameworks.base.layouts import ConvertError, Fused, Layout, as_layers, natural, read, to_jax, write
from lstmjax.frameworks.base.running import OnJax, Outcome, sizes
from lstmjax.frameworks.base.timing import Timed
from lstmjax.networks import Dense
from lstmjax.stack import Layers
from lstmjax.types import Array, Bidirectional, LSTMParams

LAYOUT = Layout("haiku", order="igfo", always=True, added=1.0)


def from_haiku(params: Mapping[str, Any]) -> Layers:
    """Return the LSTM layers among Haiku's parameters, in the order of their names.

    Haiku adds 1 to the forget gate at run time; here it is stored in b. Everything else is copied
    bit by bit; the bias of f is rounded to b + 1.

    Args:
        params: what `haiku.transform(...).init` gives: {"lstm/linear": {"w", "b"}, …}.

    Raises:
        ConvertError: there is no LSTM among them, or its arrays do not fit.
    """
    return to_jax(tuple(cells(params).values()))


def cells(params: Mapping[str, Any]) -> dict[str, LSTMParams]:
    """Return the layers among Haiku's parameters by their names and in the order of these, as NumPy arrays.

    Raises:
        ConvertError: there is none, or its arrays do not fit.
    """
    names = [name for name in params if re.search(r"(^|/)lstm(_\d+)?/(~/)?linear$", name)]
    if not names:
        raise ConvertError(f"there is no lstm/linear among {', '.join(map(repr, params))}")
    layers = {}
    for name in sorted(names, key=natural):
        if missing := [leaf for leaf in ("w", "b") if leaf not in params[name]]:
            raise ConvertError(f"{name}: {' and '.join(missing)} is missing")
        w, b = np.asarray(params[name]["w"]), np.asarray(params[name]["b"])
        width = w.shape[-1] // 4 if w.ndim == 2 else 0
        if not 0 < width < w.shape[0]:
            raise ConvertError(f"{name}: w has shape {w.shape}, expected (I + H, 4H)")
        layers[name] = read(LAYOUT, Fused(w[:-width], w[-width:], b), f"{name}: ")
    return layers


def to_haiku(layers: Any, *, names: Sequence[str] | None = None, sum_biases: bool = False) -> dict[str, dict[str, Any]]:
    """Return Haiku's parameters of these layers; the forget bias without the 1 that Haiku adds at run time.

    Args:
        layers: a tuple of layers in one direction, or one `LSTMParams`.
        names: of the modules; None: lstm/linear, lstm_1/linear and so on.
        sum_biases: add two biases up; without it they are refused, since Haiku has one.

    Raises:
        ConvertError: Haiku's LSTM has no place for something, such as a second direction.
    """
    layers = as_layers(layers)
    names = names or _names(len(layers))
    if len(names) != len(layers):
        raise ConvertError(f"names has {len(names)} entries, but there are {len(layers)} layers")
    result = {}
    for n, (name, layer) in enumerate(zip(names, layers, strict=True)):
        if isinstance(layer, Bidirectional):
            raise ConvertError(f"layer {n}: haiku.LSTM runs in one direction; convert the two one by one")
        fused = write(LAYOUT, layer, sum_biases=sum_biases, where=f"layer {n}: ")
        result[name] = to_jax({"w": np.concatenate([fused.w_x, fused.w_h]), "b": fused.b})
    return result


def _names(count: int) -> list[str]:
    """Return the names that Haiku gives to the modules of this many layers."""
    return ["lstm/linear", *(f"lstm_{n}/linear" for n in range(1, count))]


def read_names(leaves: Leaves, order: Order, pairs: Pairs) -> Layers:
    """Return the layers among the arrays of a file, from the bottom up."""
    modules: dict[str, dict[str, Any]] = {}
    for name, leaf in leaves.items():
        cut = max(name.rfind("/"), name.rfind("."))
        modules.setdefault(name[: max(cut, 0)], {})[name[cut + 1 :]] = leaf
    layers = cells(modules)
    return tuple(layers[path] for path in in_order(layers, order))


def write_names(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    """Return the arrays of modules with these layers, and of a `haiku.Linear` with this head."""
    tree = to_haiku(layers, sum_biases=sum_biases)
    if head is not None:
        tree["linear"] = {"w": head.w, "b": head.b}
    return Contents(flat(tree, "/"))


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what `haiku.LSTM` with these layers computes; see `Peer.run`."""
    return build(layers).outcome(xs, d_ys)


def build(layers: Layers) -> OnJax:
    """Build a `haiku.DeepRNN` of `haiku.LSTM`s with these layers."""
    import haiku

    def net(xs: Any) -> Any:
        core = haiku.DeepRNN([haiku.LSTM(sizes(layer)[1]) for layer in layers])
        # Its zeros are float32, and would make a half-precision network float32.
        state = jax.tree.map(lambda a: a.astype(xs.dtype), core.initial_state(xs.shape[0]))
        return haiku.dynamic_unroll(core, xs, state, time_major=False)[0]

    names = _names(len(layers))
    transformed: Any = haiku.without_apply_rng(haiku.transform(net))
    layout = replace(LAYOUT, added=0.0)  # the 1 is added to b, not to its gradient

    def to_ours(gradients: Any) -> Layers:
        arrays = ([np.asarray(gradients[name][field]) for field in "wb"] for name in names)
        return tuple(read(layout, Fused(w[: -len(b) // 4], w[-len(b) // 4 :], b)) for w, b in arrays)

    return OnJax(transformed.apply, to_haiku(layers), to_ours)


def haiku_normal(key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
    """Normal of scale 1/√(I + P), cut at two scales; the cut is not corrected for."""
    scale = 1 / math.sqrt(sizes.inputs + sizes.width)
    return scale * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


PRESET = Preset(haiku_normal, haiku_normal, forget_bias=1.0, name="haiku")
"""`haiku.LSTM`: the 1 that it adds to f at run time is stored in b."""
CARD = Card(
    "haiku",
    "haiku.LSTM",
    "haiku/_src/recurrent.py, Haiku 0.0.17",
    ('params = init_params(key, I, H, init="haiku")', "layers = from_haiku(module)"),
    layout=LAYOUT,
    preset=PRESET,
    drops=(),
    adam="adam",
    notes=(
        Note("weight decay", "the 1 of the forget gate is no parameter and does not decay; here it does, in b."),
        Note("one matrix", "w holds the rows of x above those of h: [I + H, 4H]."),
        Note("time first", "dynamic_unroll takes [T, B, I] unless time_major=False."),
    ),
)

ROW = Framework(
    "haiku",
    LAYOUT,
    Form(r"(^|/)lstm(_\d+)?/(~/)?linear[/.]w$", read_names, write_names, ("w", "b")),
    title="Haiku's LSTM",
    peer=Peer("haiku", "haiku", "dm-haiku", run, pairs=False, lengths=False, mapping=(r"(^|/)linear$", from_haiku)),
    cards=(CARD,),
    initial=(PRESET,),
    timed=(Timed("Haiku", lambda job: build(job.layers), ("haiku",), pairs=False, ensembles=True),),
)
