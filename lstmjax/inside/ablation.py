"""Ablation: measure something with each unit taken out, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array, check_function, check_positive, one_of
from lstmjax.inside.interventions import Intervention
from lstmjax.networks import NetworkParams
from lstmjax.parameters import parameters_of
from lstmjax.stack import as_layers
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step


class Ablation(NamedTuple):
    """A measure with each unit of one layer in one direction taken out, one at a time."""

    whole: Array  # [...]: with all units
    without: Array  # [H, ...]: without each unit

    @property
    def cost(self) -> Array:
        """The change of the measure when each unit is taken out, `[H, ...]`: without − whole."""
        return self.without - jnp.broadcast_to(self.whole, self.without.shape)

    @property
    def ranking(self) -> Array:
        """The units in the order of how much they change, most first, `[H]`; for a measure of one number."""
        if self.cost.ndim != 1:
            raise ValueError(
                f"a measure of shape {self.whole.shape} ranks no units; give one number, or reduce cost yourself."
            )
        return jnp.argsort(-jnp.abs(self.cost))


def ablation(
    measure: Callable[[tuple], Array],
    params: LSTMParams | Bidirectional | tuple | NetworkParams,
    *,
    gate: str = "c",
    value: PyTree = 0.0,
    at_once: int = 32,
) -> PyTree:
    """Measure something with each unit taken out, one at a time, and rank the units by what that changes.

        def loss(wrappers):
            _, logits = network(params, xs, lengths=lengths, wrappers=wrappers)
            return softmax_cross_entropy(logits, labels).mean()

        ablation(loss, params)[0].ranking        # the units of the lowest layer, the most important first

    Args:
        measure: `measure(wrappers)` runs the network with these wrappers and returns an array: a loss, an accuracy,
            predictions. It is compiled once for each layer and direction.
        params: the parameters that `measure` runs: `LSTMParams`, a `Bidirectional` pair, a tuple of layers, or
            `NetworkParams`. Only their sizes are read.
        gate: the value of the unit that is replaced: a field of `Step`.
        value: what replaces it: one number; or a number for each unit, arrays `[H]` in the form of the result (the
            means over the data, for instance).
        at_once: the number of units that are run side by side; memory grows with it.

    Returns:
        `Ablation` for `LSTMParams`; a `Bidirectional` of two for a pair alone; for layers and networks a tuple with one
        for each layer from the bottom up, a `Bidirectional` of two for a pair.

    Raises:
        ValueError: gate is no field of `Step`, or value is not built as the layers are.

    Example:
        >>> from lstmjax import init_params, lstm
        >>> params = init_params(jax.random.key(0), 2, 3)
        >>> sums = ablation(lambda wrappers: lstm(params, jnp.ones((5, 2)), wrappers=wrappers)[1].sum(), params)
        >>> sums.without.shape, sums.ranking.shape
        ((3,), (3,))
    """
    parameters = parameters_of(params)
    check_function("measure", measure, "measure(wrappers) -> one number")
    one_of("gate", gate, Step._fields)
    check_positive("at_once", at_once)

    def ablate(part: LSTMParams, value: PyTree, layer: int | None = None, direction: str | None = None) -> Ablation:
        size = part.output_size if gate == "h" else part.hidden_size
        replacements = _for_each(as_array("value", value), size)
        wrapper = _Replace(gate, layer=layer, direction=direction)

        def without(unit: Array) -> Array:
            return measure(((wrapper, ((jnp.arange(size) == unit, replacements), None)),))

        measured = jax.lax.map(without, jnp.arange(-1, size), batch_size=at_once)  # unit −1: all units stay
        return Ablation(measured[0], measured[1:])

    if isinstance(params, LSTMParams):
        return ablate(params, value)
    layers, values = as_layers(parameters.layers), parameters.in_layers(value)
    if not isinstance(values, tuple):
        values = (values,) * len(layers)
    if len(values) != len(layers):
        raise ValueError(f"value has {len(values)} entries, but there are {len(layers)} layers; expected one for each.")
    result: list[Ablation] = []
    for n, (layer, of_layer) in enumerate(zip(layers, values, strict=True)):
        if isinstance(layer, Bidirectional):
            pair = of_layer if isinstance(of_layer, Bidirectional) else (of_layer, of_layer)
            for direction, part, of_part in zip(Bidirectional._fields, layer, pair, strict=True):
                result.append(ablate(part, of_part, n, direction))
        else:
            result.append(ablate(layer, of_layer, n))
    return parameters.result(result)


@dataclass(frozen=True)
class _Replace(Intervention):
    """Replace units by numbers; its extras are ((flags of these units `[H]`, numbers `[H]`), None)."""

    def put(self, value: Array, extras: Any) -> Array:
        replaced, numbers = (jnp.broadcast_to(a, value.shape) for a in extras[0])
        return jnp.where(replaced, numbers.astype(value.dtype), value)


def _for_each(value: Array, size: int) -> Array:
    """Return one number, or one for each unit, as `[H]`."""
    if value.shape not in ((), (size,)) or not jnp.issubdtype(value.dtype, jnp.number):
        raise ValueError(
            f"value has shape {value.shape} and dtype {value.dtype}, expected one number, or {(size,)}, one for each "
            "unit."
        )
    return jnp.broadcast_to(value, (size,))
