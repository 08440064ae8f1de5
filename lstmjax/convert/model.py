"""A model as its file describes it: `load_model`."""

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
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, directions, naming, stacked
from lstmjax.types import Array, Bidirectional

if TYPE_CHECKING:
    from jax.typing import ArrayLike


@dataclass(frozen=True)
class Model:
    """A network as a file describes it, ready to be called; see `load_model`."""

    params: Layers | NetworkParams
    """The weights: layers for `stacked`, or with a head for `network`."""
    architecture: Architecture
    """How they are run, and what was assumed where the file does not say."""

    def __call__(
        self, xs: ArrayLike, *, lengths: ArrayLike | None = None, return_sequences: bool | None = None
    ) -> Array:
        """Return the outputs of the model, each layer run as the file says.

        Args:
            xs: inputs `[..., T, I]`, in the dtype of the weights.
            lengths: valid steps of each sequence, `[...]`; with a mask of the file's, both.
            return_sequences: outputs of every step or of the last valid one; None: as the file says, and where it
                does not, every step of layers and the last one of a network, as `stacked` and `network` have it.

        Returns:
            `[..., T, P]` or `[..., P]`; of a network O for P, after the head's activation if it has one.
        """
        row, headed = self.architecture, isinstance(self.params, NetworkParams)
        layers = self.params.layers if isinstance(self.params, NetworkParams) else self.params
        sequences = return_sequences
        if sequences is None:
            sequences = not headed if row.return_sequences is None else row.return_sequences
        xs = jnp.asarray(xs)
        checks.check_sequence(xs, directions(layers[0])[0], False)
        mask = None if row.mask_value is None else (xs != row.mask_value).any(-1)
        ways = row.directions or ("forward",) * len(layers)
        last = len(layers) - 1
        options: dict[str, Any] = {"lengths": lengths, "mask": mask, "cell": row.cell}
        for n, (layer, way) in enumerate(zip(layers, ways, strict=True)):
            with naming(n):
                each = sequences or n < last
                padding = row.padding if n == last else "zero"
                if way == "forward":
                    xs = stacked((layer,), xs, return_sequences=each, padding=padding, merge=row.merge, **options)[1]
                    continue
                assert not isinstance(layer, Bidirectional)
                below = xs
                xs = lstm(layer, xs, reverse=True, return_sequences=each, padding=padding, **options)[1]
                if each and way == "turned":
                    xs = turned(xs, valid_steps(below, lengths, mask, False))
        if isinstance(self.params, NetworkParams):
            head = jax.tree.map(jnp.asarray, self.params.head)
            xs = row.readout(product("head", (xs, head.w), bias=(head.b,)))
        return xs


def turned(ys: Array, valid: Array | None) -> Array:
    """Return ys `[..., T, P]` with the valid steps, the first ones of each sequence, in the opposite order."""
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
    """Read a file with all that it says of its model, and return the model, which runs as the file says.

    Args:
        path, form, prefix, names, head, extra: as for `load_weights`.
        cell, merge: how to run bare weights, which do not say; None: by the vanilla cell, and by the merge with which
            the layers fit each other.

    Returns:
        A `Model`: `model(xs)` gives its outputs, `model.params` are the weights, and `model.architecture` tells how
        they are run: cell, merge, directions, output per step, the head's activation, and `assumed`, what a file of
        bare weights left open.

    Raises:
        ConvertError: as `load_weights`; or cell or merge is given, and the file states another one.

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
    found = find(path, form=form, prefix=prefix, names=names, head=head, extra=extra, cell=cell, merge=merge)
    return Model(found.params, found.architecture)
