"""The border to Flax, whose cells carry (c, h) where everything else here has (h, c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lstmjax.arrays import cast
from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.checks import cell_dtype, kind
from lstmjax.published import find_cell
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import DTypeLike

Carry = tuple[Array, ...]
"""(c, h), and behind them the gates that a cell feeds back: (c, h, i, f, o)."""


def carry_step(
    params: LSTMParams, carry: Carry, inputs: Array, dtype: DTypeLike | None, cell: Cell | str
) -> tuple[Carry, Array]:
    """Gives (carry', h') after one step of a cell, computed in `dtype`; None: in that of the parameters."""
    if dtype is not None:
        params, inputs = cast(params, dtype), cast(inputs, dtype)
    check_carry(carry, params, inputs.shape[:-1], cell)
    c, h, *fed = carry
    (h, c, *fed), y = cell_step(params, (h, c, *fed), inputs, cell=cell)
    return (c, h, *fed), y


def carry_like(
    cell: Cell | str, batch: tuple[int, ...], hidden: int, width: int, dtype: DTypeLike
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Gives the shapes and dtypes of a carry: c `[..., H]`, h `[..., P]`, each gate fed back `[..., H]`."""
    wide = jax.ShapeDtypeStruct((*batch, hidden), cell_dtype(dtype))
    return (wide, jax.ShapeDtypeStruct((*batch, width), dtype), *(wide for _ in find_cell(cell).feeds))


def check_carry(carry: object, params: LSTMParams, batch: tuple[int, ...], cell: Cell | str) -> None:
    """Refuses a carry that is not Flax's (c, h) for these parameters and this cell."""
    names = ("c", "h", *find_cell(cell).feeds)
    if not isinstance(carry, tuple | list) or len(carry) != len(names):
        what = f"a tuple of {len(carry)}" if isinstance(carry, tuple) else kind(carry)
        raise ValueError(f"carry is {what}, expected the tuple ({', '.join(names)}), as initialize_carry gives it.")
    for part, value in zip(names, carry, strict=True):
        size = params.output_size if part == "h" else params.hidden_size
        if jnp.shape(value) != (*batch, size):
            raise ValueError(
                f"carry {part} has shape {jnp.shape(value)}, expected {(*batch, size)}. Is the carry (c, h), as Flax "
                "has it, and not (h, c)?"
            )
