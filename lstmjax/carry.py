"""The border to Flax, whose cells carry (c, h) where everything else here has (h, c)."""

from __future__ import annotations

import jax.numpy as jnp

from lstmjax.checks import kind
from lstmjax.types import LSTMParams


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
