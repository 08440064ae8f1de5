"""Which steps of arrays that a caller passes are valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstmjax.arrays import checked_steps, within
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def valid_steps(xs: Array, lengths: ArrayLike | None, mask: ArrayLike | None, time_major: bool) -> Array | None:
    """Return which steps are valid, bool on the axes of xs without the features, or None for all."""
    lengths, mask, _ = checked_steps(xs, lengths, mask, None, time_major)
    return within(xs.shape[:-1], 0 if time_major else xs.ndim - 2, lengths, mask)
