"""Models that run as their files describe them: `load_model`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arrays import valid_steps
from lstmjax.cell import product
from lstmjax.cells import Cell
from lstmjax.convert.architecture import Architecture
from lstmjax.convert.find import find
from lstmjax.convert.layouts import without_head
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
        mask = None if row.mask_value is None else (xs != row.mask_value).any(-1)
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


def load_model(
    path: str | Path,
    *,
    form: str | None = None,
    prefix: str | None = None,
    names: Sequence[str] | None = None,
    head: str | None = None,
    extra: str = "refuse",
    cell: Cell | str | None = None,
    merge: str | None = None,
) -> Model:
    """Read a model from a file, with all that the file says of how it is run.

    Args:
        path, form, prefix, names, head, extra: as for `load_weights`.
        cell, merge: how to run bare weights, which do not say it; None: by the vanilla cell, and by the merge with
            which the layers fit each other.

    Returns:
        A `Model`: `model(xs)` returns its outputs, `model.params` are the weights, and `model.architecture` says how
        they are run: cell, merge, directions, which steps are returned, the head's activation, and `assumed`, what
        was assumed if the file holds bare weights.

    Raises:
        ConvertError: as for `load_weights`; or the file states another cell or merge than the argument.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> arrays = {"rnn.weight_ih_l0": np.ones((8, 3), "f"), "rnn.weight_hh_l0": np.ones((8, 2), "f")}
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/of-torch.npz", **arrays)
        ...     model = load_model(f"{folder}/of-torch.npz")
        >>> model(np.ones((5, 7, 3), "f")).shape, model.architecture.assumed[1]
        ((5, 7, 2), 'nothing but dropout before, between and after the layers')
    """
    contents = find(path, form=form, prefix=prefix, names=names, head=head, extra=extra, cell=cell, merge=merge)
    return Model(contents.params, contents.architecture)
