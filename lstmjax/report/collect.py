"""The numbers of a report, computed from a network: the only file of the report that runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cells import Cell
from lstmjax.inside import gate_statistics, gradient_flow, trace
from lstmjax.inside.layered import each_part
from lstmjax.networks import NetworkParams, network
from lstmjax.parameters import parameters_of
from lstmjax.stack import Layers, as_layers
from lstmjax.training.losses import LOSSES
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import DTypeLike

PREDICTED: MappingProxyType[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "softmax": lambda logits: logits.argmax(axis=-1),
        "sigmoid": lambda logits: (logits > 0).astype(logits.dtype),
        "linear": jnp.zeros_like,  # the error of the prediction itself would be 0, without a gradient
    }
)
"""Replacements for labels where there are none, `[B, ...]` from logits."""


class Settings(NamedTuple):
    """How a network is run and trained, which its parameters do not show."""

    loss: str
    per_step: bool
    merge: str
    residual: bool
    wrappers: tuple[Wrapper, ...]
    cell: Cell | str | None
    dtype: DTypeLike | None

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of every function that runs the layers."""
        return {name: getattr(self, name) for name in ("merge", "residual", "wrappers", "cell", "dtype")}


class Computed(NamedTuple):
    """All numbers of a page; entries for layers have the form of `trace`."""

    steps: PyTree  # [E, T, H] each
    logits: Array | None  # [E, O] or [E, T, O]; None: there is no head
    losses: Array | None  # [E]; None: there are no labels, or there is no head
    flow: PyTree  # ∂L/∂h and ∂L/∂c, [E, T, H] each; `loss_text` describes L
    saturation: PyTree  # `GateStatistics` of all sequences


class Ends(NamedTuple):
    """The results at the ends of the sequences."""

    logits: Array  # [B, O] or [B, T, O]
    losses: Array  # [B], on the labels, or on the predictions
    states: PyTree  # the last state of each layer and direction


def with_layer_tuple(params: LSTMParams | Bidirectional | Layers | NetworkParams) -> Layers | NetworkParams:
    """Return parameters, with one layer or a list of layers as a tuple."""
    return params if isinstance(params, NetworkParams) else as_layers(parameters_of(params).layers)


@partial(jax.jit, static_argnames=("settings",))
def compute(
    params: Layers | NetworkParams,
    xs: Array,
    lengths: Array | None,
    rows: Array,
    labels: Array | None,
    *,
    settings: Settings,
) -> Computed:
    """Compute the numbers of a page, in one program.

    Args:
        params: the network, or layers without a head.
        xs: all sequences `[N, T, I]`, for the statistics.
        lengths: valid steps `[N]`; None: all.
        rows: the sequences that are shown, `[E]`.
        labels: the labels of these; None: unknown.
        settings: how the network is run.
    """
    shown = xs[rows]
    ends = None if lengths is None else lengths[rows]

    def loss(outputs: Array) -> Array:
        if not isinstance(params, NetworkParams):
            return 0.5 * jnp.square(outputs).sum()
        logits = outputs.astype(jnp.float32)
        targets = PREDICTED[settings.loss](jax.lax.stop_gradient(logits)) if labels is None else labels
        return losses_of(logits, targets, ends, settings).sum()

    logits = run_network(params, shown, ends, settings)[1] if isinstance(params, NetworkParams) else None
    return Computed(
        trace(params, shown, lengths=ends, **settings.options),
        logits,
        None if logits is None or labels is None else losses_of(logits, labels, ends, settings),
        gradient_flow(
            params, shown, loss, fields=("h", "c"), return_sequences=settings.per_step, lengths=ends, **settings.options
        ),
        gate_statistics(params, xs, lengths=lengths, **settings.options),
    )


@partial(jax.jit, static_argnames=("settings",))
def compute_ends(
    params: NetworkParams, xs: Array, lengths: Array | None, labels: Array | None, *, settings: Settings
) -> Ends:
    """Compute the results at the end of each sequence; arguments as for `compute`."""
    states, logits = run_network(params, xs, lengths, settings)
    targets = PREDICTED[settings.loss](logits) if labels is None else labels
    return Ends(logits, losses_of(logits, targets, lengths, settings), states)


@partial(jax.jit, static_argnames=("settings",))
def compute_cells(params: Layers | NetworkParams, xs: Array, lengths: Array | None, *, settings: Settings) -> PyTree:
    """Compute c at every step, in the form of `trace`; arguments as for `compute`."""
    return trace(params, xs, lengths=lengths, fields="c", **settings.options)


def run_network(params: NetworkParams, xs: Array, lengths: Array | None, settings: Settings) -> tuple[PyTree, Array]:
    """Return the states and the logits, in float32."""
    states, logits = network(params, xs, lengths=lengths, return_sequences=settings.per_step, **settings.options)
    return states, logits.astype(jnp.float32)


def losses_of(logits: Array, labels: Array, lengths: Array | None, settings: Settings) -> Array:
    """Return the loss of each sequence `[B]`: with a label at each step the mean over its valid steps."""
    values = LOSSES[settings.loss].value(logits, labels, 0.0)
    if values.ndim == 1:
        return values
    if lengths is None:
        return values.mean(axis=1)
    valid = jnp.arange(values.shape[1])[None, :] < lengths[:, None]
    return jnp.where(valid, values, 0).sum(axis=1) / lengths


def loss_text(headed: bool, labelled: bool, settings: Settings) -> str:
    """Describe the L in the gradients of `compute`."""
    if not headed:
        outputs = "every" if settings.per_step else "the last"
        return f"L is half the square of {outputs} h of the top layer: there is no head"
    over = ", the mean over the steps" if settings.per_step else ""
    if labelled:
        return f"L is the {settings.loss} loss of the labels{over}"
    at = "zeros" if settings.loss == "linear" else "what the network itself says"
    return f"L is the {settings.loss} loss of {at}{over}: there are no labels"


def by_direction(layered: PyTree) -> dict[tuple[int, str], Any]:
    """Return the entries of a tree in the form of `trace` by (layer, direction)."""
    return {(n, direction): part for n, direction, part in each_part(layered)}
