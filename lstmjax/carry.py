"""The border to Flax: its cells carry (c, h) where everything else here has (h, c), and promote dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax.arguments import kind
from lstmjax.arrays import cast
from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.checks import cell_dtype
from lstmjax.published import find_cell
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import DTypeLike

Carry = tuple[Array, ...]
"""(c, h), and behind them the gates that a cell feeds back: (c, h, i, f, o)."""

Promote = Callable[..., Any]
"""Flax's promotion: `promote((inputs, kernel, bias), dtype=...)` gives the three in one dtype."""


def carry_step(
    params: LSTMParams, carry: Carry, inputs: Array, dtype: DTypeLike | None, cell: Cell | str, promote: Promote
) -> tuple[Carry, Array]:
    """Return (carry', h') after one step of a cell, in the dtype to which Flax promotes.

    Inputs and h meet their weights as in Flax's Dense, in `dtype` or, if it is None, in the one that `promote`
    gives for both; whole numbers become floating-point ones. Each part of the carry comes back in the dtype in
    which it came, or in a wider one if the computation is wider, as in Flax. A carry without batch axes is
    broadcast.
    """
    x = jnp.asarray(inputs)
    if not x.ndim:
        raise ValueError("inputs is a single number, expected [..., I], the features of one step.")
    check_carry(carry, params, x.shape[:-1], cell)
    c, h, *fed = map(jnp.asarray, carry)
    came = [part.dtype for part in (c, h, *fed)]
    x, w_x, _ = promote((x, params.w_x, None), dtype=dtype)
    h, w_h, b = promote((h, params.w_h, params.b), dtype=dtype)
    wide = _wider(x.dtype, h.dtype)
    if not jnp.issubdtype(wide, jnp.floating):
        raise ValueError(f"inputs, carry and parameters promote to {wide}, but the gates of an LSTM need real numbers.")
    params = cast(params._replace(w_x=w_x, w_h=w_h, b=b), wide)
    batch = _batch(x, c, h, *fed)
    x, h = (_on(batch, part).astype(wide) for part in (x, h))
    c, *fed = (_on(batch, part).astype(cell_dtype(wide)) for part in (c, *fed))
    (h, c, *fed), _ = cell_step(params, (h, c, *fed), x, cell=cell)
    after = tuple(part.astype(_wider(old, wide)) for part, old in zip((c, h, *fed), came, strict=True))
    return after, after[1]


def _wider(one: Any, other: Any) -> jnp.dtype:
    """Return the dtype that holds both; the arrays are then cast in so many words, which strict promotion allows."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(one, other)


def _batch(x: Array, *carry: Array) -> tuple[int, ...]:
    """Return the batch axes of inputs and carry, or refuse those that do not fit each other."""
    try:
        return jnp.broadcast_shapes(*(part.shape[:-1] for part in (x, *carry)))
    except ValueError:
        shapes = ", ".join(str(part.shape) for part in carry)
        raise ValueError(
            f"inputs has shape {x.shape} and the parts of the carry {shapes}: their batch axes, all but the last, do "
            "not fit. Is the carry from initialize_carry(..., inputs.shape)?"
        ) from None


def _on(batch: tuple[int, ...], part: Array) -> Array:
    shape = (*batch, part.shape[-1])
    return part if part.shape == shape else jnp.broadcast_to(part, shape)


def carry_like(
    cell: Cell | str, batch: tuple[int, ...], hidden: int, width: int, dtype: DTypeLike
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Return the shapes and dtypes of a carry: c `[..., H]`, h `[..., P]`, each gate fed back `[..., H]`."""
    wide = jax.ShapeDtypeStruct((*batch, hidden), cell_dtype(dtype))
    return (wide, jax.ShapeDtypeStruct((*batch, width), dtype), *(wide for _ in find_cell(cell).feeds))


def check_parts(carry: object, cell: Cell | str) -> tuple[str, ...]:
    """Refuse a carry that does not have the parts of this cell; return their names."""
    names = ("c", "h", *find_cell(cell).feeds)
    if not isinstance(carry, tuple | list) or len(carry) != len(names):
        parts = ", ".join(names)
        raise ValueError(f"carry is {kind(carry)}, expected the tuple ({parts}), as initialize_carry gives it.")
    return names


def check_carry(carry: Any, params: LSTMParams, batch: tuple[int, ...], cell: Cell | str) -> None:
    """Refuse a carry that is not Flax's (c, h) for these parameters and this cell."""
    for part, value in zip(check_parts(carry, cell), carry, strict=True):
        size = params.output_size if part == "h" else params.hidden_size
        if jnp.shape(value)[-1:] != (size,):
            raise ValueError(
                f"carry {part} has shape {jnp.shape(value)}, expected {(*batch, size)}. Is the carry (c, h), as Flax "
                "has it, and not (h, c)?"
            )
