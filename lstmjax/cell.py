"""The LSTM: one pure function, one step. Everything else calls it or is tested against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
"""What a step gives to look at: "h", "c", "step", or a function of the `Step`."""
Tap = Callable[[str, Array], Array]
"""What every named value of a step passes through: the one hook through which it is changed from outside."""


class Product(Protocol):
    """How a step multiplies: the one hook through which a fast backward sees its weights."""

    def __call__(self, site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array: ...


def as_made(name: str, value: Array) -> Array:
    """Gives a value of a step as the step made it."""
    return value


def product(site: str, *terms: tuple[Array, Array], bias: tuple[Array | None, ...] = ()) -> Array:
    """Gives the sum of the matrix products of a site, plus its biases.

    Args:
        site: the name of this place in the step: "z" for the gates, "p" for the projection. Plain
            multiplication does not need it; a backend that saves and replays products does.
        *terms: pairs (operand `[..., N]`, weight `[N, ...]`), contracted over N.
        bias: arrays of the shape of a weight without its first axis; None is skipped.

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
    """One plain matrix product with the gate axis folded away; XLA is slower with three axes."""
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
    tap: Tap = as_made,
    emit: Emit = "h",
) -> tuple[tuple[Array, ...], PyTree]:
    r"""Gives the state after one LSTM step, and what the step emits.

        i = σ(x·W_xi + h·W_hi + b_i)        input gate
        f = σ(x·W_xf + h·W_hf + b_f)        forget gate
        g = tanh(x·W_xg + h·W_hg + b_g)     candidate
        o = σ(x·W_xo + h·W_ho + b_o)        output gate
        c' = f ⊙ c + i ⊙ g                  a sum, not a concatenation
        m = o ⊙ tanh(c')
        h' = m, or m·W_p + b_p with a projection

    Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000,
    eq. 5); the projection is that of Sak, Senior & Beaufays (2014). It scans as it stands:
    `jax.lax.scan(functools.partial(cell_step, params), (h, c), xs)`.

    Args:
        params: `LSTMParams`.
        state: (h, c), h `[..., P]` in the dtype of the parameters, c `[..., H]`. For bfloat16 and
            float16 parameters c, the gates and m are float32: small steps added to a half-precision
            c would be lost.
        x: the input of this step, `[..., I]`, in the dtype of the parameters.
        aux: what the layer hands to wrappers beside x; the cell itself needs nothing.
        cell: another cell: a row of `CELLS`, its name, or a `Cell` of your own. Cells that feed gates
            back have them behind h and c in the state.
        product: how the step multiplies; see `product`.
        tap: `tap(name, value) -> value`, what every value of the step (the fields of `Step`) passes through once it is
            made and before it is used: to change gates, or to add what a gradient is wanted for.
        emit: what y is: "h", "c", "step" (everything, as a `Step`) or a function of the `Step`.

    Returns:
        ((h', c'), y), shapes as in `state`; y is h' by default.

    Raises:
        ValueError: params, state and x do not fit each other.
        AssertionError: a gate came out with a wrong shape or dtype (a cell or a tap of your own, perhaps).

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
    h, c, *fed = state
    z = gate_sums(params, cell, x, h, fed, product)
    w_c = peepholes(params, cell)

    def sees(name: str, c: Array) -> Array | None:
        return cell.pre_activation(params, name, peep(z[name], w_c.get(name), c))

    def made(**values: Array | None) -> Iterator[Any]:
        values = {name: None if value is None else tap(name, value) for name, value in values.items()}
        checks.check_values(params, x.shape[:-1], **values)
        return iter(values.values())

    one = jnp.ones_like(c)  # a gate without a block is 1
    z_i, z_f, z_g = made(z_i=sees("i", c), z_f=sees("f", c), z_g=sees("g", c))
    i, f = cell.couple(cell.gate("i", z_i, one), cell.gate("f", z_f, one))
    i, f, g = made(i=i, f=f, g=cell.gate("g", z_g, one))
    (c,) = made(c=cell.carry(params, f * c + i * g))
    (z_o,) = made(z_o=sees("o", c))  # the output gate sees the new c
    (o,) = made(o=cell.gate("o", z_o, one))
    (m,) = made(m=o * cell.squash(cell.inside(params, c)))
    (h,) = made(h=project(params, cell, m.astype(h.dtype), product))  # [..., P]
    step = Step(i, f, g, o, z_i, z_f, z_g, z_o, c, m, h)
    return (h, c, *(getattr(step, name) for name in cell.feeds)), emitted(emit, step)


@dataclass(frozen=True)
class CellStep:
    """`cell_step` with a row of the table, as a function that compiled code can be kept by."""

    cell: Cell

    def __call__(
        self, params: LSTMParams, state: tuple[Array, ...], x: Array, aux: tuple = (), **hooks: Any
    ) -> tuple[tuple[Array, ...], PyTree]:
        return cell_step(params, state, x, aux, cell=self.cell, **hooks)


def gate_sums(
    params: LSTMParams, cell: Cell, x: Array, h: Array, fed: Sequence[Array], product: Product
) -> dict[str, Array | None]:
    """Return what each of `GATES` gets of x, of h and of the gates fed back, `[..., H]`; None: no such block."""
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
    """Return h `[..., P]`: m, or its projection m·W_p + b_p, which some cells limit."""
    if params.w_p is None:
        return m
    return cell.limit_h(product("p", (m, params.w_p), bias=(params.b_p,))).astype(m.dtype)


def peep(z: Array | None, w_c: Array | None, c: Array) -> Array | None:
    """Gives z + w_c ⊙ c if there are both, else z."""
    return z if z is None or w_c is None else z + jnp.broadcast_to(w_c.astype(c.dtype), c.shape) * c


def emitted(emit: Emit, step: Step) -> PyTree:
    """Gives what `emit` asks for of a `Step`; for steps of your own that follow our signature."""
    checks.check_emit(emit)
    if not isinstance(step, Step):
        raise TypeError(f"step is {kind(step)}, expected a Step of everything that the step computed.")
    if callable(emit):
        return emit(step)
    return step if emit == "step" else getattr(step, emit)
