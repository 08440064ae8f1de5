"""Our side of a comparison: layers that run step by step, and all that may be changed about how they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cell import product
from lstmjax.cells import Cell
from lstmjax.frameworks.base.running import joined
from lstmjax.networks import Dense
from lstmjax.stack import Layers, stacked
from lstmjax.types import Bidirectional, Step

Array = np.ndarray
Arrays = Mapping[str, Array]
"""What one layer computed: the fields of a `Step` that it has, `[B, T, H or 2H]`; of a head "y", `[B, T, O]`."""


def unchanged(a: Array, lengths: Array) -> Array:
    """Return a."""
    return a


@dataclass(frozen=True)
class Side:
    """Layers, inputs and how they are run. A cause is a function from one side to another.

    `before` changes what enters each layer, and `after` all that it computes: functions of an array `[B, T, ...]`
    and the lengths `[B]`. `step` replaces the cell's step. `last`: only the last step that was run is compared, and
    the head gets no other. `merge`: how the directions of a pair are joined. `activation`: of the head's outputs.
    """

    layers: Layers
    cell: Cell
    xs: Array  # [B, T, I]
    lengths: Array | None = None  # [B]
    state: tuple | None = None
    head: Dense | None = None
    last: bool = False
    step: Callable[..., Any] | None = None
    before: Callable[[Array, Array], Array] = unchanged
    after: Callable[[Array, Array], Array] = unchanged
    merge: str = "concat"
    activation: Callable[[Any], Any] | None = None

    @property
    def dtype(self) -> str:
        """Dtype of the inputs and of the weights."""
        return str(self.xs.dtype)

    @property
    def longest(self) -> Array:
        """Valid steps of each sequence, `[B]`."""
        return np.full(len(self.xs), self.xs.shape[1]) if self.lengths is None else np.asarray(self.lengths)

    def shown(self, name: str, a: Array) -> Array:
        """Return what is compared of an array of the last layer, or of the head: the valid steps, or the last one."""
        if name != "y" and self.last:
            a = self.ending(a)
        elif not self.last:
            a = valid(a, self.longest)
        return self.joined(-1, a) if name == "h" else a

    def joined(self, n: int, a: Array) -> Array:
        """Return h of layer n as the layer puts it out: of a pair whose directions are added up, their sum."""
        return joined(a, self.layers[n], self.merge)

    def ending(self, a: Array) -> Array:
        """Return the last step that was run of each sequence, `[B, 1, ...]`: of a reverse direction the first one."""
        last = np.take_along_axis(a, np.maximum(self.longest - 1, 0)[:, None, None], axis=1)
        if not isinstance(self.layers[-1], Bidirectional):
            return last
        half = a.shape[-1] // 2
        return np.concatenate([last[..., :half], a[:, :1, half:]], axis=-1)

    def run(self, dtype: str | None = None) -> list[Arrays]:
        """Return what each layer computes, from the bottom up, and the head last.

        Args:
            dtype: to compute in; None: that of the inputs.
        """
        dtype = dtype or self.dtype

        def cast(tree: Any) -> Any:
            return jax.tree.map(lambda a: np.asarray(a).astype(dtype), tree)

        computed: list[Arrays] = []
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
            xs = cast(self.xs)
            for n, layer in enumerate(self.layers):
                state = None if self.state is None else (self.state[n],)
                xs = self.before(xs, self.longest)
                steps = run_layer(cast(layer), xs, state, self.lengths, self.cell, self.step)
                fields = {name: np.asarray(a) for name, a in steps._asdict().items() if a is not None}
                computed.append({name: self.after(a, self.longest) for name, a in fields.items()})
                below, xs = computed[-1]["h"], self.joined(n, computed[-1]["h"])
            if self.head is not None:
                w, b = cast(self.head)
                xs = self.joined(-1, self.ending(below)) if self.last else xs
                y = product("head", (jnp.asarray(xs), jnp.asarray(w)), bias=(jnp.asarray(b),))
                computed.append({"y": np.asarray(y if self.activation is None else self.activation(y))})
        return computed


@partial(jax.jit, static_argnames=("cell", "step"))
def run_layer(layer: Any, xs: Any, state: Any, lengths: Any, cell: Cell, step: Callable[..., Any] | None) -> Step:
    """Return all that one layer computes; compiled once for each size and cell."""
    options: dict[str, Any] = {"cell": cell} if step is None else {"step": step}
    return stacked((layer,), xs, state, lengths=lengths, emit="step", dtype=xs.dtype, **options)[1]


def valid(a: Array, lengths: Array) -> Array:
    """Return a with zeros at padding."""
    return np.where((np.arange(a.shape[1]) < lengths[:, None])[..., None], a, 0)
