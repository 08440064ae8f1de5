"""How layers are run while something looks inside: the keywords of `lstm`, `stacked` and `network` as one thing.

The public functions spell their keywords out, so that `help` and editors show them; inside, they are handed on as this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.networks import NetworkParams, network
from lstmjax.stack import stacked
from lstmjax.types import Array, LSTMParams, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

LAYER = (
    "lengths", "mask", "resets", "reset_state", "time_major", "key", "wrappers", "cell", "step", "dtype", "checkpoint",
    "unroll", "backend",
)  # fmt: skip
"""The options that `lstm`, `stacked` and `network` share."""
STACK = (*LAYER, "merge", "residual", "dropout")
"""The options of `stacked` and `network`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """The keywords of `lstm`, `stacked` and `network`, with their defaults; see there."""

    lengths: ArrayLike | None = None
    mask: ArrayLike | None = None
    resets: ArrayLike | None = None
    reset_state: PyTree | None = None
    reverse: bool = False
    time_major: bool = False
    merge: str = "concat"
    residual: bool = False
    dropout: float = 0.0
    key: Array | None = None
    wrappers: tuple = ()
    cell: Cell | str | None = None
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step
    dtype: DTypeLike | None = None
    checkpoint: int | str | None = None
    unroll: int = 1
    backend: str = "auto"

    def _select(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}

    def run_layers(
        self, params: Any, xs: ArrayLike, state: PyTree | None, run: Callable[..., tuple[PyTree, PyTree]]
    ) -> None:
        """Run the layers of params, without the head of a network, for what `run` sees of them.

        Args:
            params: `LSTMParams`, layers as `stacked` takes them, or `NetworkParams`.
            xs, state: as for `lstm` or `stacked`.
            run: called as `lstm` is, for each layer and direction from the bottom up.

        Raises:
            ValueError: reverse, with other params than `LSTMParams`.
        """
        if isinstance(params, LSTMParams):
            run(params, xs, state, reverse=self.reverse, **self._select(LAYER))
            return
        if self.reverse:
            raise ValueError("reverse is for LSTMParams; for layers make the layer a Bidirectional pair.")
        options = self._select(STACK)
        if isinstance(params, NetworkParams):
            params = params.layers
            if self.key is not None:
                options["key"] = jax.random.split(self.key)[0]  # the key that `network` hands to its layers
        stacked(params, xs, state, run=run, **options)

    def outputs(
        self,
        params: Any,
        xs: ArrayLike,
        state: PyTree | None,
        run: Callable[..., tuple[PyTree, PyTree]],
        *,
        return_sequences: bool,
    ) -> Array:
        """Return the ys of `lstm` or `stacked`, or the logits of `network`; arguments as for `run_layers`."""
        if isinstance(params, LSTMParams):
            options = self._select(LAYER)
            return run(params, xs, state, reverse=self.reverse, return_sequences=return_sequences, **options)[1]
        run_stack: Any = network if isinstance(params, NetworkParams) else stacked
        return run_stack(params, xs, state, return_sequences=return_sequences, run=run, **self._select(STACK))[1]
