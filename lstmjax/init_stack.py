"""Initialise the parameters of a stack of layers and of a network: `init_params` layer by layer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_flags, as_units, check_floating, check_key, check_number, check_positive, one_of
from lstmjax.cells import Cell
from lstmjax.draws import Preset
from lstmjax.init import init_params
from lstmjax.keywords import takes
from lstmjax.layered import merged_width
from lstmjax.networks import Dense, NetworkParams
from lstmjax.published import find_cell
from lstmjax.types import Array, Bidirectional, LSTMParams

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


class InitOptions(TypedDict, total=False):
    """The keywords of `init_params`; see there."""

    cell: Cell | str
    """The cell that the parameters are for."""
    projection_size: int | None
    """P, width of h if it is a projection of m; None: H."""
    projection_bias: bool
    """Whether the projection has a bias."""
    bias: str | None
    """"single", "double", None, or "preset": as the preset has it."""
    init: str | Preset
    """The name of a row of `PRESETS`, or a `Preset`."""
    forget_bias: ArrayLike | None
    """Total bias of the forget gate, a number or one for each unit `[H]`; None: as the preset has it."""
    dtype: DTypeLike
    """Dtype of the parameters."""


@takes(InitOptions, init_params)
def init_stacked(
    key: Array,
    input_size: int,
    hidden_size: int,
    layers: int = 1,
    *,
    bidirectional: bool = False,
    merge: str = "concat",
    **options: Unpack[InitOptions],
) -> tuple[LSTMParams | Bidirectional, ...]:
    """Initialise the parameters for `stacked`: a tuple of layers of one size, each fed by the layer below.

    Args:
        layers: L, number of layers.
        bidirectional: each layer is a `Bidirectional` pair; the next one sees both directions' h.
        merge: how `stacked` will join the two directions: "concat" (2P wide) or "sum" (P wide).
        key, input_size, hidden_size, cell, projection_size, projection_bias, bias, init, forget_bias, dtype: see
            `init_params`.

    >>> layers = init_stacked(jax.random.key(0), 5, 10, 2, bidirectional=True)
    >>> layers[1].forward.w_x.shape
    (20, 4, 10)
    """
    check_positive("layers", layers)
    one_of("merge", merge, ("concat", "sum"))
    check_key("key", key)
    (bidirectional,) = as_flags(bidirectional=bidirectional)
    init_layer = partial(init_params, hidden_size=hidden_size, **options)
    width = hidden_size if options["projection_size"] is None else options["projection_size"]
    stack: list[LSTMParams | Bidirectional] = []
    for layer_key in jax.random.split(key, layers):
        if bidirectional:
            forward, reverse = jax.random.split(layer_key)
            stack.append(Bidirectional(init_layer(forward, input_size), init_layer(reverse, input_size)))
        else:
            stack.append(init_layer(layer_key, input_size))
        input_size = 2 * width if bidirectional and merge == "concat" else width
    return tuple(stack)


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
