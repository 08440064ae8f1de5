"""The network that is trained: a stack of LSTM layers and a Dense head.

The head is where the H numbers of h become the O numbers of the output: no gate knows of O.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_arrays, as_units, check_floating, check_key, check_number, check_positive, kind
from lstmjax.arrays import cast, floating
from lstmjax.backends import Chooser
from lstmjax.cell import cell_step, product
from lstmjax.cells import Cell
from lstmjax.errors import Message, Option
from lstmjax.init import init_params
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.layered import merged_width
from lstmjax.published import find_cell
from lstmjax.stack import InitOptions, Layers, drop, init_stacked, stacked
from lstmjax.types import Array, LSTMParams, PyTree, exported
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


exported(Dense, NetworkParams)


@takes(InitOptions, init_params)
def init_network(
    key: Array,
    input_size: int,
    hidden_size: int,
    output_size: int,
    layers: int = 1,
    *,
    bidirectional: bool = False,
    merge: str = "concat",
    input_bias: ArrayLike | None = None,
    input_bias_step: float = 0.0,
    **options: Unpack[InitOptions],
) -> NetworkParams:
    """Initialise the parameters for `network`: those of `init_stacked`, and a head of LeCun normal w and zero b.

    All other arguments are those of `init_stacked`.

    Args:
        output_size: O, classes or targets.
        input_bias: total bias of the input gate of each layer's first unit, or of each unit `[H]`; None: as the
            preset has it.
        input_bias_step: by how much that of each further unit differs from the one before. Below 0, units
            are taken into use one after the other, as they are needed (Hochreiter & Schmidhuber 1997,
            section 4: -2, -4, -6 in experiment 6).

    >>> params = init_network(jax.random.key(0), 5, 256, 10)
    >>> [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in params]
    [268288, 2570]
    """
    check_key("key", key)
    check_positive("output_size", output_size)
    if input_bias is not None or input_bias_step is not None:
        check_number("input_bias_step", input_bias_step)
    if input_bias is None and input_bias_step:
        raise ValueError(f"input_bias_step is {input_bias_step}, but there is no input_bias to step from. Pass both.")
    check_positive("hidden_size", hidden_size)
    dtype = options["dtype"]
    check_floating("dtype", dtype)
    if input_bias is not None:
        first = as_units("input_bias", input_bias, hidden_size, dtype)
        step = as_units("input_bias_step", input_bias_step, hidden_size, dtype)
    below, above = jax.random.split(key)
    stack = init_stacked(below, input_size, hidden_size, layers, bidirectional=bidirectional, merge=merge, **options)
    if input_bias is not None:
        biases = first + step * jnp.arange(hidden_size, dtype=dtype)
        biases = as_units("input_bias with input_bias_step", biases, hidden_size, dtype)
        begin = partial(_with_input_bias, biases=biases, row=find_cell(options["cell"]))
        stack = jax.tree.map(begin, stack, is_leaf=lambda part: isinstance(part, LSTMParams))
    w = jax.nn.initializers.lecun_normal()(above, (merged_width(stack[-1], merge), output_size), dtype)
    return NetworkParams(stack, Dense(w, jnp.zeros(output_size, dtype)))


def _with_input_bias(params: LSTMParams, biases: Array | float, row: Cell) -> LSTMParams:
    """Return the parameters with the input gate's biases set in b, and 0 in b_h."""
    if "i" not in row.blocks or params.b is None:
        lack = "the parameters have no bias" if params.b is None else f"the cell {row.name!r} has no input gate"
        raise ValueError(f"input_bias is given, but {lack}. Leave input_bias out.")
    k = row.blocks.index("i")
    b_h = None if params.b_h is None else params.b_h.at[k].set(0.0)
    return params._replace(b=params.b.at[k].set(biases), b_h=b_h)


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
