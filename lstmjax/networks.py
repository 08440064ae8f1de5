"""The network that is trained: a stack of LSTM layers and a Dense head.

The head is where the H numbers of h become the O numbers of the output: no gate knows of O.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from lstmjax.arguments import as_arrays, check_key, kind
from lstmjax.arrays import cast, floating
from lstmjax.backends import Chooser
from lstmjax.cell import cell_step, product
from lstmjax.cells import Cell
from lstmjax.errors import Message, Option
from lstmjax.layer import lstm
from lstmjax.stack import Layers, drop, stacked
from lstmjax.types import Array, PyTree, exported
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


class Dense(NamedTuple):
    """y = h · w + b."""

    w: Array  # [P, O], or [2P, O] after a concatenated pair
    b: Array  # [O]


HEAD_AXES = MappingProxyType({"w": "PO", "b": "O"})
"""The axes of each array of `Dense`, as `types.AXES` has them for the layers."""


class NetworkParams(NamedTuple):
    """The parameters of a network: LSTM layers from the bottom up, and the head."""

    layers: Layers
    head: Dense


class Tied(NamedTuple):
    """A head whose weights are the embedding: logits = h · embeddingᵀ + b (Press & Wolf 2017)."""

    b: Array  # [V]


class LanguageParams(NamedTuple):
    """The parameters of a language model with a vocabulary of V tokens."""

    embedding: Array  # [V, E]
    layers: Layers
    head: Dense | Tied  # Dense: w [P, V], b [V]

    @property
    def vocabulary_size(self) -> int:
        """V, the number of tokens."""
        return self.embedding.shape[0]


exported(Dense, NetworkParams, Tied, LanguageParams)


def network(
    params: NetworkParams,
    xs: ArrayLike,
    state: tuple | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: tuple | None = None,
    time_major: bool = False,
    return_sequences: bool = False,
    merge: str = "concat",
    residual: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    wrappers: tuple[Wrapper, ...] = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    dtype: DTypeLike | None = None,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    backend: Chooser = "auto",
    run: Callable[..., tuple[PyTree, PyTree]] = lstm,
) -> tuple[tuple, PyTree]:
    """Run a stack of LSTM layers with a Dense head; return the states and the logits.

    What the logits mean is defined by the loss: softmax for classes, sigmoid for labels that may
    hold together, or the numbers themselves for a regression.

    All other arguments are those of `stacked`.

    Args:
        params: `NetworkParams`.
        return_sequences: logits of the last valid step `[..., O]` (False), or of every step
            `[..., T, O]`.
        dropout: rate of dropout between layers and before the head; needs `key`.

    Returns:
        (state, logits); logits are float32 where the computation is half precision.

    >>> import jax.numpy as jnp
    >>> from lstmjax import init_network
    >>> params = init_network(jax.random.key(0), 5, 256, 10)
    >>> state, logits = network(params, jnp.ones((32, 100, 5)))
    >>> logits.shape
    (32, 10)
    """
    _check_network(params)
    head = as_arrays("params.head", params.head)
    dtype = floating(dtype)
    if key is not None:
        check_key("key", key)
    runs, drops = (None, None) if key is None else jax.random.split(key)
    state, hs = stacked(
        params.layers,
        xs,
        state,
        lengths=lengths,
        mask=mask,
        resets=resets,
        reset_state=reset_state,
        time_major=time_major,
        return_sequences=return_sequences,
        merge=merge,
        residual=residual,
        dropout=dropout,
        key=runs,
        wrappers=wrappers,
        cell=cell,
        step=step,
        dtype=dtype,
        checkpoint=checkpoint,
        unroll=unroll,
        backend=backend,
        run=run,
    )
    if hs.shape[-1] != head.w.shape[0]:
        raise ValueError(
            Message(
                f"the head's w has {head.w.shape[0]} rows, but the last layer gives {hs.shape[-1]} numbers with ",
                Option("merge", merge),
                ": the width of its h, twice that for a concatenated Bidirectional pair.",
            )
        )
    return state, logits(head, hs, drops, dropout=float(dropout), dtype=dtype)


@partial(jax.jit, static_argnames=("dropout", "dtype"))
def logits(head: Dense, hs: Array, key: Array | None, *, dropout: float, dtype: Any) -> Array:
    """Return what the head makes of outputs `[..., P]`, in one program."""
    head = head if dtype is None else cast(head, dtype)
    return product("head", (drop(key, hs, dropout), head.w), bias=(head.b,))


def _check_network(params: object) -> None:
    if not isinstance(params, NetworkParams) or not isinstance(params.head, Dense):
        raise TypeError(
            f"params is {kind(params)}, expected NetworkParams(layers, Dense(w, b)), as init_network gives "
            "them. For LSTM layers without a head use stacked."
        )
