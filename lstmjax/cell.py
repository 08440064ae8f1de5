"""The LSTM: one pure function, one step. Everything else calls it or is tested against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, check_function, kind
from lstmjax.cells import VANILLA, Cell
from lstmjax.published import find_cell
from lstmjax.types import GATES, Array, LSTMParams, PyTree, Step

Emit = str | Callable[[Step], PyTree]
"""What a step emits: "h", "c", "step" (everything), or a function of the `Step`."""
Tap = Callable[[str, Array], Array]
"""`tap(name, value) -> value`: every named value of a step passes through it, the one hook that can change a value."""


class Product(Protocol):
    """How a step multiplies: the one hook through which a fast backward pass sees the weights."""

    def __call__(self, site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array: ...


def untapped(name: str, value: Array) -> Array:
    """Return a value of a step unchanged: the tap that does nothing."""
    return value


def product(site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
    """Return the sum of the matrix products of a site, plus its biases.

    Args:
        site: the name of this place in the step: "z" for the gates, "p" for the projection. Plain
            multiplication ignores it; a backend that saves and replays products needs it.
        *terms: pairs (operand `[..., N]`, weight `[N, ...]`), contracted over N.
        bias: arrays of the shape of a weight without its first axis; a None is skipped.

    Returns:
        `[..., weight.shape[1:]]`; products of bfloat16 and float16 come back in float32.
    """
    del site
    dtype = checks.cell_dtype(terms[0][0].dtype)
    z = reduce(jnp.add, (_dot(operand, weight, dtype) for operand, weight in terms))
    for b in bias:
        if b is not None:
            z = z + jnp.broadcast_to(b.astype(dtype), z.shape)
    return z


def _dot(operand: Array, weight: Array, dtype: jnp.dtype) -> Array:
    """Return one matrix product, computed with the gate axis folded away: XLA is slower with three axes."""
    flat = weight.reshape(weight.shape[0], -1)
    contract = (((operand.ndim - 1,), (0,)), ((), ()))
    z = jax.lax.dot_general(operand, flat, contract, preferred_element_type=dtype)
    return z.reshape(*z.shape[:-1], *weight.shape[1:])


def cell_step(
    params: LSTMParams,
    state: tuple[Array, ...],
    x: Array,
    aux: tuple = (),
    *,
    cell: Cell | str = VANILLA,
    product: Product = product,
    tap: Tap = untapped,
    emit: Emit = "h",
) -> tuple[tuple[Array, ...], PyTree]:
    r"""Run one LSTM step; return the state after it, and what the step emits.

        i = σ(x·W_xi + h·W_hi + b_i)        input gate
        f = σ(x·W_xf + h·W_hf + b_f)        forget gate
        g = tanh(x·W_xg + h·W_hg + b_g)     candidate
        o = σ(x·W_xo + h·W_ho + b_o)        output gate
        c' = f ⊙ c + i ⊙ g                  a sum, not a concatenation
        m = o ⊙ tanh(c')
        h' = m, or m·W_p + b_p with a projection

    Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000,
    eq. 5); the projection is that of Sak, Senior & Beaufays (2014). `jax.lax.scan` takes it as it is:
    `jax.lax.scan(functools.partial(cell_step, params), (h, c), xs)`.

    Args:
        params: `LSTMParams`.
        state: (h, c), h `[..., P]` in the dtype of the parameters, c `[..., H]`. For bfloat16 and
            float16 parameters c, the gates and m are float32: a half-precision c would lose the small
            numbers that are added to it.
        x: the input of this step, `[..., I]`, in the dtype of the parameters.
        aux: the extras that a layer hands to the wrappers around the step; the cell itself ignores them.
        cell: the cell: a row of `CELLS`, its name, or a `Cell` of your own. Where a cell feeds gates back,
            they follow h and c in the state.
        product: how the step multiplies; see `product`.
        tap: `tap(name, value) -> value`, called with every value of the step (the fields of `Step`) as soon as it is
            computed; the step goes on with what it returns. Use it to change gates, or to add a variable whose
            gradient you want.
        emit: what y is: "h", "c", "step" (everything, as a `Step`) or a function of the `Step`.

    Returns:
        ((h', c'), y), shapes as in `state`; y is h' by default.

    Raises:
        ValueError: params, state and x do not fit each other.
        AssertionError: a gate has a wrong shape or dtype, probably from a cell or a tap of your own.

    Example:
        >>> params = LSTMParams(jnp.ones((5, 4, 3)), jnp.ones((3, 4, 3)), jnp.zeros((4, 3)))
        >>> (h, c), y = cell_step(params, (jnp.zeros(3), jnp.zeros(3)), jnp.ones(5))
        >>> h.shape, c.shape, round(float(y[0]), 4)
        ((3,), (3,), 0.7537)
    """
    del aux
    x, cell = as_array("x", x), find_cell(cell)
    check_function("product", product, "product(site, *terms, bias=())")
    check_function("tap", tap, "tap(name, value) -> value")
    checks.check_cell_inputs(params, state, x, cell)
    return equations(params, state, x, cell, product, tap, emit)


def equations(
    params: LSTMParams, state: tuple[Array, ...], x: Array, cell: Cell,
    product: Product = product, tap: Tap = untapped, emit: Emit = "step",
) -> tuple[tuple[Array, ...], PyTree]:  # fmt: skip
    """Return what `cell_step` returns, for arguments that fit each other; y is everything by default."""
    h, c, *fed = state
    z = gate_sums(params, cell, x, h, fed, product)
    w_c = peepholes(params, cell)

    def pre_activation(gate: str, c: Array) -> Array | None:
        return cell.pre_activation(params, gate, peep(z[gate], w_c.get(gate), c))

    def tapped(name: str, value: Any) -> Any:
        """Return a value as the tap leaves it, checked before it meets others; None if the cell has no such block."""
        if value is None:
            return None
        value = tap(name, value)
        checks.check_value(params, x.shape[:-1], name, value)
        return value

    one = jnp.ones_like(c)  # a gate without a block is 1
    z_i = tapped("z_i", pre_activation("i", c))
    z_f = tapped("z_f", pre_activation("f", c))
    z_g = tapped("z_g", pre_activation("g", c))
    i, f = cell.couple(cell.gate("i", z_i, one), cell.gate("f", z_f, one))
    i = tapped("i", i)
    f = tapped("f", f)
    g = tapped("g", cell.gate("g", z_g, one))
    c = tapped("c", cell.carry(params, f * c + i * g))
    z_o = tapped("z_o", pre_activation("o", c))  # the output gate sees the new c
    o = tapped("o", cell.gate("o", z_o, one))
    m = tapped("m", o * cell.squash(cell.inside(params, c)))
    h = tapped("h", project(params, cell, m.astype(h.dtype), product))  # [..., P]
    step = Step(i, f, g, o, z_i, z_f, z_g, z_o, c, m, h)
    gates_fed_back = [getattr(step, name) for name in cell.feeds]
    return (h, c, *gates_fed_back), emitted(emit, step)


@dataclass(frozen=True)
class CellStep:
    """`cell_step` of a cell as a layer runs it: hashable, so that compiled code is kept by it."""

    cell: Cell
    checked: bool = False  # whether what it is called with is checked: a wrapper of a user may pass on anything

    def __call__(
        self, params: LSTMParams, state: tuple[Array, ...], x: Array, aux: tuple = (), **keywords: Any
    ) -> tuple[tuple[Array, ...], PyTree]:
        if self.checked:
            checks.check_cell_inputs(params, state, x, self.cell)
        return equations(params, state, x, self.cell, **keywords)


def gate_sums(
    params: LSTMParams, cell: Cell, x: Array, h: Array, fed: Sequence[Array], product: Product
) -> dict[str, Array | None]:
    """Return for each of `GATES` the sum of its products with x, h and the gates fed back, `[..., H]`, or None.

    None stands for a gate without a block of weights.
    """
    z = cell.join(params, x, h, product)  # [..., G, H]
    # Split along one flat axis: XLA's backward pass is a quarter faster than with a gate axis unstacked.
    parts = jnp.split(jax.lax.collapse(z, z.ndim - 2), len(cell.blocks), axis=-1)  # each [..., H]
    blocks = dict(zip(cell.blocks, parts, strict=True))
    if params.w_r is not None:
        r = product("r", (jnp.concatenate(fed, axis=-1).astype(h.dtype), params.w_r))  # [..., 3, H]
        blocks |= {name: blocks[name] + r[..., k, :] for k, name in enumerate(("i", "f", "o")) if name in blocks}
    return {name: blocks.get(name) for name in GATES}


def peepholes(params: LSTMParams, cell: Cell) -> dict[str, Array]:
    """Return the peephole `[H]` of each gate that has one."""
    return {} if params.w_c is None else dict(zip(cell.peepholes, params.w_c, strict=True))


def project(params: LSTMParams, cell: Cell, m: Array, product: Product) -> Array:
    """Return h `[..., P]`: m itself, or its projection m·W_p + b_p, which some cells limit."""
    if params.w_p is None:
        return m
    return cell.limit_h(product("p", (m, params.w_p), bias=(params.b_p,))).astype(m.dtype)


def peep(z: Array | None, w_c: Array | None, c: Array) -> Array | None:
    """Return z + w_c ⊙ c for a gate with a peephole, else z."""
    if z is None or w_c is None:
        return z
    return z + jnp.broadcast_to(w_c.astype(c.dtype), c.shape) * c


def emitted(emit: Emit, step: Step) -> PyTree:
    """Return what `emit` selects from a `Step`; a step of your own with the same signature ends in it."""
    checks.check_emit(emit)
    if not isinstance(step, Step):
        raise TypeError(f"step is {kind(step)}, expected a Step of everything that the step computed.")
    if callable(emit):
        return emit(step)
    return step if emit == "step" else getattr(step, emit)
