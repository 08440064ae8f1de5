"""The border to Flax, whose cells carry (c, h) where everything else here has (h, c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from lstmjax.cell import cell_step
from lstmjax.checks import kind
from lstmjax.layer import cast
from lstmjax.types import Array, LSTMParams

if TYPE_CHECKING:
    from jax.typing import DTypeLike

Carry = tuple[Array, Array]


def carry_step(params: LSTMParams, carry: Carry, inputs: Array, dtype: DTypeLike | None) -> tuple[Carry, Array]:
    """Gives ((c', h'), h') after one step, computed in `dtype`; None: in that of the parameters."""
    if dtype is not None:
        params, inputs = cast(params, dtype), cast(inputs, dtype)
    check_carry(carry, params, inputs.shape[:-1])
    c, h = carry
    (h, c), y = cell_step(params, (h, c), inputs)
    return (c, h), y


def check_carry(carry: object, params: LSTMParams, batch: tuple[int, ...]) -> None:
    """Refuses a carry that is not Flax's (c, h) for these parameters."""
    if not isinstance(carry, tuple | list) or len(carry) != 2:
        raise ValueError(f"carry is {kind(carry)}, expected the tuple (c, h), as initialize_carry gives it.")
    for part, value, size in zip("ch", carry, (params.hidden_size, params.output_size), strict=True):
        if jnp.shape(value) != (*batch, size):
            raise ValueError(
                f"carry {part} has shape {jnp.shape(value)}, expected {(*batch, size)}. Is the carry (c, h), as Flax "
                "has it, and not (h, c)?"
            )
