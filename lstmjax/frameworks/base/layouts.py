"""How a framework lays out the weights of one layer in one direction, and the engine that reads and writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import checks, stack
from lstmjax.errors import Option, UserError
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, directions
from lstmjax.types import GATES, Bidirectional, LSTMParams


class ConvertError(UserError):
    """Weights or models that are damaged, or that would lose something if they were converted."""


@dataclass(frozen=True)
class Layout:
    """The layout of one framework. N is I or P, the width of what a matrix is multiplied with.

    Attributes:
        order: the gates along the fused axis.
        rows: the fused axis comes first, `[4H, N]`; otherwise last, `[N, 4H]`.
        biases: how many biases the framework stores.
        always: it stores them even where all are zero.
        added: what it adds to the bias of the forget gate at run time and does not store; `LSTMParams` stores it.
        projection: its LSTM can have a projection.
        state: the order of its state.
    """

    name: str
    order: str = "ifgo"
    rows: bool = False
    biases: int = 1
    always: bool = False
    added: float = 0.0
    projection: bool = False
    state: str = "hc"


class Fused(NamedTuple):
    """The arrays of one layer in one direction as a framework has them; None: there is no such array."""

    w_x: Any  # [I, 4H] or [4H, I]
    w_h: Any  # [P, 4H] or [4H, P]
    b: Any = None  # [4H]
    b_h: Any = None  # [4H]
    w_p: Any = None  # [H, P] or [P, H]


def read(layout: Layout, fused: Fused, where: str = "") -> LSTMParams:
    """Return the arrays of a framework as `LSTMParams` of NumPy arrays; messages begin with `where`."""
    hidden = _hidden(layout, fused, where)

    def matrix(a: np.ndarray) -> Any:
        return _gates(layout, (a.T if layout.rows else a).reshape(-1, len(GATES), hidden))

    def bias(b: np.ndarray | None, added: float) -> Any:
        if b is None:
            return None
        b = _gates(layout, b.reshape(len(GATES), hidden))
        if added:
            b[GATES.index("f")] += np.asarray(added, b.dtype)
        return b

    b = fused.b
    if b is None and layout.added:
        b = np.zeros(len(GATES) * hidden, fused.w_x.dtype)
    w_p = fused.w_p
    if w_p is not None and layout.rows:
        w_p = w_p.T
    return LSTMParams(matrix(fused.w_x), matrix(fused.w_h), bias(b, layout.added), bias(fused.b_h, 0.0), w_p)


def write(layout: Layout, params: LSTMParams, *, sum_biases: bool = False, where: str = "") -> Fused:
    """Return `LSTMParams` as the arrays of a framework.

    Raises:
        ConvertError: the framework has no place for something; the message names it and the remedy.
    """
    params = jax.tree.map(np.asarray, params)
    check_writable(layout, params, sum_biases, where)

    def flat(a: np.ndarray) -> np.ndarray:
        ordered = np.take(a, [GATES.index(gate) for gate in layout.order], axis=-2)
        return ordered.reshape(*a.shape[:-2], -1)

    def matrix(a: np.ndarray) -> Any:
        return np.ascontiguousarray(flat(a).T if layout.rows else flat(a))

    b, b_h = params.b, params.b_h
    if layout.biases == 1 and b_h is not None:
        b = b_h if b is None else b + b_h
        b_h = None
    if b is None and (layout.always or b_h is not None):
        b = np.zeros(params.w_x.shape[1:], params.w_x.dtype)
    if layout.added and b is not None:
        b = b.copy()
        b[GATES.index("f")] -= np.asarray(layout.added, b.dtype)
    if layout.biases == 2 and b is not None and b_h is None:
        b_h = np.zeros_like(b)
    w_p = params.w_p
    if w_p is not None:
        w_p = np.ascontiguousarray(w_p.T if layout.rows else w_p)
    return Fused(
        w_x=matrix(params.w_x),
        w_h=matrix(params.w_h),
        b=None if b is None else flat(b),
        b_h=None if b_h is None else flat(b_h),
        w_p=w_p,
    )


def _gates(layout: Layout, a: np.ndarray) -> np.ndarray:
    """Return an array `[..., 4, H]` with its gates in the order of `GATES`."""
    return np.ascontiguousarray(np.take(a, [layout.order.index(gate) for gate in GATES], axis=-2))


def _hidden(layout: Layout, fused: Fused, where: str) -> int:
    """Return H, or refuse arrays that do not agree on it."""
    axis = 0 if layout.rows else -1
    for name, a in (("input", fused.w_x), ("recurrent", fused.w_h), ("projection", fused.w_p)):
        if a is not None and (a.ndim != 2 or 0 in a.shape):
            raise ConvertError(f"{where}the {name} weights have shape {a.shape}, expected a matrix")
    wide = fused.w_x.shape[axis]
    hidden = wide // len(GATES)
    width = hidden if fused.w_p is None else fused.w_p.shape[0 if layout.rows else -1]
    expected = (wide, width) if layout.rows else (width, wide)
    if wide % len(GATES) or fused.w_h.shape != expected:
        raise ConvertError(
            f"{where}the input weights have shape {fused.w_x.shape} and the recurrent ones {fused.w_h.shape}; for four "
            f"gates of H units the latter should be {expected}. Is this an LSTM?"
        )
    if fused.w_p is not None and fused.w_p.shape[1 if layout.rows else 0] != hidden:
        raise ConvertError(f"{where}the projection has shape {fused.w_p.shape}, but there are {hidden} units")
    for name, b in (("bias", fused.b), ("second bias", fused.b_h)):
        if b is not None and b.shape != (wide,):
            raise ConvertError(f"{where}the {name} has shape {b.shape}, expected ({wide},)")
    return hidden


def check_writable(layout: Layout, params: LSTMParams, sum_biases: bool = False, where: str = "") -> None:
    """Refuse parameters that the framework has no place for."""
    words = {"w_c": "peepholes", "w_r": "gates fed back", "norm": "layer normalisation", "gain": "layer normalisation"}
    for name, word in words.items():
        if getattr(params, name) is not None:
            raise ConvertError(f"{where}{layout.name} has no place for {name} ({word}): its LSTM is the vanilla cell")
    if params.b_p is not None:
        raise ConvertError(f"{where}{layout.name} has no place for b_p: its LSTM has no bias of a projection")
    if params.w_x.shape[1] != len(GATES):
        raise ConvertError(
            f"{where}the parameters have {params.w_x.shape[1]} gate blocks, but {layout.name} has an LSTM of four "
            "gates: i, f, g, o"
        )
    if params.w_p is not None and not layout.projection:
        raise ConvertError(f"{where}{layout.name} has no place for w_p: its LSTM knows no projection")
    if layout.biases == 1 and params.b is not None and params.b_h is not None and not sum_biases:
        raise ConvertError(
            f"{where}the parameters have two biases, b and b_h, but {layout.name} keeps one. Their sum computes "
            "the same, and trains differently: pass ",
            Option("sum_biases", True),
            " to add them up",
        )


def as_layers(layers: Any) -> Layers:
    """Return layers, or a single layer, as a tuple of layers.

    Raises:
        ConvertError: they are those of an ensemble, which no other framework has.
    """
    if complaint := checks.ensemble(layers):
        raise ConvertError(complaint)
    return stack.as_layers((layers,) if isinstance(layers, LSTMParams | Bidirectional) else layers)


def without_head(params: Layers | NetworkParams) -> Layers:
    """Return the LSTM layers of a network, or layers as they are."""
    return params.layers if isinstance(params, NetworkParams) else params


def has_pairs(params: Layers | NetworkParams) -> bool:
    """Return whether any layer has two directions."""
    return any(isinstance(layer, Bidirectional) for layer in without_head(params))


def check_uniform(layout: Layout, layers: Layers) -> None:
    """Refuse layers of different sizes where a framework has one size for all of them."""
    sizes = {(type(layer), part.hidden_size, part.output_size) for layer in layers for part in directions(layer)}
    biases = {part.b is not None or part.b_h is not None for layer in layers for part in directions(layer)}
    if len(sizes) > 1 or len(biases) > 1:
        raise ConvertError(
            "the layers differ in hidden size, projection, direction or biases, but an LSTM of "
            f"{layout.name} has one of each; convert them one by one, each into an LSTM of its own"
        )


def numbers(a: Any) -> np.ndarray:
    """Return a tensor of any framework as a NumPy array, PyTorch's bfloat16 included."""
    if hasattr(a, "detach"):
        a = a.detach().cpu()
        if str(a.dtype) == "torch.bfloat16":
            import ml_dtypes

            wide = a.float().numpy()  # bfloat16 is the upper half of float32
            return (wide.view(np.uint32) >> 16).astype(np.uint16).view(ml_dtypes.bfloat16)
        return a.numpy()
    return np.asarray(a)


def natural(name: object) -> list[tuple[int, str]]:
    """Return a key that sorts names so that RNN_2 stands before RNN_10."""
    key = []
    for part in re.split(r"(\d+)", str(name)):
        digits = part.lstrip("0")
        # Numbers by their count of digits first: a name may have more digits than int() reads.
        key.append((len(digits), digits) if part.isdecimal() else (-1, part))
    return key


def to_jax(layers: Any) -> Any:
    """Return a tree of arrays as JAX arrays, bit by bit.

    Raises:
        ConvertError: float64 without JAX's x64 mode, which would round.
    """
    for leaf in jax.tree.leaves(layers):
        if leaf.dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise ConvertError(
                "the weights are float64, which JAX would round to float32. Switch its x64 mode on, "
                'jax.config.update("jax_enable_x64", True), or cast them before'
            )
    return jax.tree.map(jnp.asarray, layers)
