"""Models that run as their files describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arrays import valid_steps
from lstmjax.cell import product
from lstmjax.frameworks.base.architecture import Architecture
from lstmjax.frameworks.base.layouts import without_head
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, directions, naming, stacked
from lstmjax.types import Array, Bidirectional

if TYPE_CHECKING:
    from jax.typing import ArrayLike


@dataclass(frozen=True)
class Model:
    """A network that runs as its file describes it; see `load_model`."""

    params: Layers | NetworkParams
    """The weights: layers for `stacked`, or with a head for `network`."""
    architecture: Architecture
    """How the weights are run, and what was assumed if the file does not say it."""

    def __call__(
        self, xs: ArrayLike, *, lengths: ArrayLike | None = None, return_sequences: bool | None = None
    ) -> Array:
        """Return the outputs of the model, with each layer run as the file says.

        Args:
            xs: inputs `[..., T, I]`, in the dtype of the weights.
            lengths: valid steps of each sequence, `[...]`; if the model has a mask, a step counts if both allow it.
            return_sequences: outputs of every step or of the last valid one; None: as the file says, or else every
                step of layers and the last one of a network, like `stacked` and `network`.

        Returns:
            `[..., T, P]` or `[..., P]`; for a network O instead of P, after the activation of its head.
        """
        row, layers = self.architecture, without_head(self.params)
        if return_sequences is None:
            return_sequences = row.return_sequences
        if return_sequences is None:
            return_sequences = not isinstance(self.params, NetworkParams)
        xs = jnp.asarray(xs)
        checks.check_sequence(xs, directions(layers[0])[0], False)
        mask = None
        if row.mask_value is not None:  # frameworks cast inputs and this value to the dtype of the weights first
            dtype = jax.tree.leaves(layers)[0].dtype
            mask = (xs.astype(dtype) != jnp.asarray(row.mask_value, dtype)).any(-1)
        last = len(layers) - 1
        options: dict[str, Any] = {"lengths": lengths, "mask": mask, "cell": row.cell}
        for n, (layer, direction) in enumerate(zip(layers, row.directions or ("forward",) * len(layers), strict=True)):
            with naming(n):
                options["return_sequences"] = return_sequences or n < last
                options["padding"] = row.padding if n == last else "zero"
                if direction == "forward":
                    xs = stacked((layer,), xs, merge=row.merge, **options)[1]
                    continue
                assert not isinstance(layer, Bidirectional)
                below = xs
                xs = lstm(layer, xs, reverse=True, **options)[1]
                if options["return_sequences"] and direction == "turned":
                    xs = turned(xs, valid_steps(below, lengths, mask, False))
        if mask is not None and row.padding == "zero" and not return_sequences and row.return_sequences is False:
            end = 0 if direction == "turned" else -1  # of the steps in the order of running
            xs = jnp.where(mask[..., end, None], xs, 0)
        if isinstance(self.params, NetworkParams):
            head = jax.tree.map(jnp.asarray, self.params.head)
            xs = row.readout(product("head", (xs, head.w), bias=(head.b,)))
        return xs


def turned(ys: Array, valid: Array | None) -> Array:
    """Return ys `[..., T, P]` with the valid steps, which come first in each sequence, in reverse order."""
    if valid is None:
        return jnp.flip(ys, -2)
    steps, count = jnp.arange(ys.shape[-2]), valid.sum(-1, keepdims=True)
    order = jnp.where(steps < count, count - 1 - steps, steps)
    return jnp.take_along_axis(ys, order[..., None], axis=-2)
