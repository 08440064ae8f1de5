"""What each unit is worth: something is measured with one unit after the other taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array, check_function, check_positive, one_of
from lstmjax.inside.interventions import Intervention
from lstmjax.inside.layered import check_model, in_form_of, of_one_layer
from lstmjax.networks import NetworkParams
from lstmjax.stack import as_layers
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step


class Ablation(NamedTuple):
    """What was measured with each unit of one layer in one direction taken out, alone."""

    whole: Array  # [...]: with all units there
    without: Array  # [H, ...]: with each unit out

    @property
    def cost(self) -> Array:
        """What taking each unit out changes, `[H, ...]`: without − whole."""
        return self.without - jnp.broadcast_to(self.whole, self.without.shape)

    @property
    def ranking(self) -> Array:
        """The units, those first that change most, `[H]`; where one number was measured."""
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
    """Gives what `measure` becomes when each unit is taken out, one at a time, and which units matter most.

        def loss(wrappers):
            _, logits = network(params, xs, lengths=lengths, wrappers=wrappers)
            return softmax_cross_entropy(logits, labels).mean()

        ablation(loss, params)[0].ranking        # the units of the lowest layer, the dearest first

    Args:
        measure: `measure(wrappers)` runs the network with these wrappers and gives what is looked at: a loss, an
            accuracy, predictions. It is compiled once for each layer and direction.
        params: what is run: `LSTMParams`, a `Bidirectional` pair, a tuple of layers, or `NetworkParams`. Only their
            sizes are read.
        gate: what is taken out of the unit: a field of `Step`.
        value: what stands in its place: one number, or for each unit an array `[H]`, built as what comes
            back is (the mean over the data, perhaps).
        at_once: how many units are run side by side; memory grows with it.

    Returns:
        `Ablation`: for `LSTMParams` one, else a tuple with one for each layer from the bottom up, a
        `Bidirectional` of two for a pair; of a pair alone that `Bidirectional`.

    Raises:
        ValueError: gate is no field of `Step`, or value is not built as the layers are.

    Example:
        >>> from lstmjax import init_params, lstm
        >>> params = init_params(jax.random.key(0), 2, 3)
        >>> found = ablation(lambda wrappers: lstm(params, jnp.ones((5, 2)), wrappers=wrappers)[1].sum(), params)
        >>> found.without.shape, found.ranking.shape
        ((3,), (3,))
    """
    check_model(params)
    check_function("measure", measure, "measure(wrappers) -> one number")
    one_of("gate", gate, Step._fields)
    check_positive("at_once", at_once)

    def one(part: LSTMParams, own: PyTree, layer: int | None = None, direction: str | None = None) -> Ablation:
        size = part.output_size if gate == "h" else part.hidden_size
        instead = _for_each(as_array("value", own), size)
        wrapper = _Out(gate, layer=layer, direction=direction)

        def without(unit: Array) -> Array:
            return measure(((wrapper, ((jnp.arange(size) == unit, instead), None)),))

        found = jax.lax.map(without, jnp.arange(-1, size), batch_size=at_once)  # unit −1: none is out
        return Ablation(found[0], found[1:])

    if isinstance(params, LSTMParams):
        return one(params, value)
    form = params
    params, value = of_one_layer(params, value)
    layers = as_layers(params.layers if isinstance(params, NetworkParams) else params)
    values = value if isinstance(value, tuple) else (value,) * len(layers)
    if len(values) != len(layers):
        raise ValueError(f"value has {len(values)} entries, but there are {len(layers)} layers; expected one for each.")
    result: list[Any] = []
    for n, (layer, own) in enumerate(zip(layers, values, strict=True)):
        if isinstance(layer, Bidirectional):
            ahead, back = own if isinstance(own, Bidirectional) else (own, own)
            result.append(
                Bidirectional(one(layer.forward, ahead, n, "forward"), one(layer.reverse, back, n, "reverse"))
            )
        else:
            result.append(one(layer, own, n))
    return in_form_of(form, tuple(result))


@dataclass(frozen=True)
class _Out(Intervention):
    """Puts numbers in the place of the units that `own` flags: ((flags `[H]`, numbers `[H]`), None)."""

    def put(self, value: Array, extras: Any) -> Array:
        out, instead = (jnp.broadcast_to(a, value.shape) for a in extras[0])
        return jnp.where(out, instead.astype(value.dtype), value)


def _for_each(value: Array, size: int) -> Array:
    """Return one number, or one for each unit, as `[H]`."""
    if value.shape not in ((), (size,)) or not jnp.issubdtype(value.dtype, jnp.number):
        raise ValueError(
            f"value has shape {value.shape} and dtype {value.dtype}, expected one number, or {(size,)}, one for each "
            "unit."
        )
    return jnp.broadcast_to(value, (size,))
