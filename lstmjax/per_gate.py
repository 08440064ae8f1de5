"""The border to Flax: its initialisers, one call for each gate, and what they say beside the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax.draws import Preset, Sizes
from lstmjax.init import PRESETS
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    Initializer = Callable[[Array, tuple[int, ...], DTypeLike], Any]


class PerGate:
    """Draw a field of the parameters gate by gate, by an initialiser as JAX and Flax have them.

    It is called as `initializer(key, shape, dtype)` with the shape that Flax's cell has for one gate: `[I, H]`,
    `[P, H]` or `[H]`. What it gives may be in a box of metadata, which `unbox` opens; `box` is then the first
    gate's, from the last draw.
    """

    def __init__(self, name: str, initializer: Initializer, unbox: Callable[[Any], Array]) -> None:
        if not callable(initializer):
            raise TypeError(f"{name} is {initializer!r}, expected a function init(key, shape, dtype).")
        self.name = name
        self.initializer = initializer
        self.unbox = unbox
        self.box: Any = None

    def __call__(self, key: Array, shape: tuple[int, ...], sizes: Sizes, dtype: Any) -> Array:
        """Return the values `[..., G, H]` of all gates."""
        *inputs, gates, hidden = shape
        gate_shape = (*inputs, hidden)
        boxes = [self.initializer(k, gate_shape, dtype) for k in jax.random.split(key, gates)]
        self.box = boxes[0]
        values = [jnp.asarray(self.unbox(box)) for box in boxes]
        for value in values:
            if value.shape != gate_shape:
                raise ValueError(
                    f"{self.name} gives an array of shape {value.shape}, expected {gate_shape}, as it was called."
                )
        return jnp.stack([value.astype(dtype) for value in values], axis=-2)


def with_initializers(
    preset: str,
    unbox: Callable[[Any], Array],
    kernel_init: Initializer | None,
    recurrent_kernel_init: Initializer | None,
    bias_init: Initializer | None,
) -> tuple[Preset, dict[str, PerGate]]:
    """Return a preset that draws by initialisers where there are some, and these by the field that they draw.

    `bias_init` draws a second bias, too, and the forget bias then is what it gives.
    """
    named = {
        "w_x": ("kernel_init", kernel_init),
        "w_h": ("recurrent_kernel_init", recurrent_kernel_init),
        "b": ("bias_init", bias_init),
    }
    draws = {field: PerGate(name, init, unbox) for field, (name, init) in named.items() if init is not None}
    changes: dict[str, Any] = dict(draws)
    if "b" in draws:
        changes["forget_bias"] = None
    return replace(PRESETS[preset], **changes), draws
