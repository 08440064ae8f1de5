"""The numbers of a report, computed from a network: the one file here that runs it."""

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
        "linear": jnp.zeros_like,  # the error of what is said is 0, and has no gradient
    }
)
"""What stands for labels where there are none, `[B, ...]` from logits."""


class How(NamedTuple):
    """What the parameters of a network do not say."""

    loss: str
    per_step: bool
    merge: str
    residual: bool
    wrappers: tuple[Wrapper, ...]
    cell: Cell | str | None
    dtype: DTypeLike | None

    @property
    def options(self) -> dict[str, Any]:
        """What every function that runs the layers is told."""
        return {name: getattr(self, name) for name in ("merge", "residual", "wrappers", "cell", "dtype")}


class Computed(NamedTuple):
    """All numbers of a page; what is of layers has the form of `trace`."""

    steps: PyTree  # [E, T, H] each
    logits: Array | None  # [E, O] or [E, T, O]; None: there is no head
    losses: Array | None  # [E]; None: there are no labels, or no head
    flow: PyTree  # ∂L/∂h and ∂L/∂c, [E, T, H] each; `loss_says` says what L is
    saturation: PyTree  # `GateStatistics` of all sequences


class Ends(NamedTuple):
    """What is known when all has been read."""

    logits: Array  # [B, O] or [B, T, O]
    losses: Array  # [B], of the labels, or of what the network itself says
    states: PyTree  # of each layer and direction, where it ends


def as_whole(params: LSTMParams | Bidirectional | Layers | NetworkParams) -> Layers | NetworkParams:
    """Gives parameters back, with layers always as a tuple."""
    if isinstance(params, NetworkParams):
        return params
    return as_layers((params,) if isinstance(params, LSTMParams | Bidirectional) else params)


@partial(jax.jit, static_argnames=("how",))
def compute(
    params: Layers | NetworkParams, xs: Array, lengths: Array | None, rows: Array, labels: Array | None, *, how: How
) -> Computed:
    """Gives the numbers of a page, in one program.

    Args:
        params: the network, or layers without a head.
        xs: all sequences `[N, T, I]`, which the statistics are of.
        lengths: valid steps `[N]`; None: all.
        rows: which of them are shown, `[E]`.
        labels: of the shown ones; None: unknown.
        how: what the parameters do not say.
    """
    shown, ends = xs[rows], None if lengths is None else lengths[rows]

    def loss(outputs: Array) -> Array:
        if not isinstance(params, NetworkParams):
            return 0.5 * jnp.square(outputs).sum()
        logits = outputs.astype(jnp.float32)
        right = PREDICTED[how.loss](jax.lax.stop_gradient(logits)) if labels is None else labels
        return losses_of(logits, right, ends, how).sum()

    logits = run_network(params, shown, ends, how)[1] if isinstance(params, NetworkParams) else None
    return Computed(
        trace(params, shown, lengths=ends, **how.options),
        logits,
        None if logits is None or labels is None else losses_of(logits, labels, ends, how),
        gradient_flow(
            params, shown, loss, fields=("h", "c"), return_sequences=how.per_step, lengths=ends, **how.options
        ),
        gate_statistics(params, xs, lengths=lengths, **how.options),
    )


@partial(jax.jit, static_argnames=("how",))
def compute_ends(params: NetworkParams, xs: Array, lengths: Array | None, labels: Array | None, *, how: How) -> Ends:
    """Gives what is known of each sequence when all of it has been read; arguments as for `compute`."""
    states, logits = run_network(params, xs, lengths, how)
    right = PREDICTED[how.loss](logits) if labels is None else labels
    return Ends(logits, losses_of(logits, right, lengths, how), states)


@partial(jax.jit, static_argnames=("how",))
def compute_cells(params: Layers | NetworkParams, xs: Array, lengths: Array | None, *, how: How) -> PyTree:
    """Gives c at every step, in the form of `trace`; arguments as for `compute`."""
    return trace(params, xs, lengths=lengths, fields="c", **how.options)


def run_network(params: NetworkParams, xs: Array, lengths: Array | None, how: How) -> tuple[PyTree, Array]:
    """Gives the states and the logits, float32."""
    states, logits = network(params, xs, lengths=lengths, return_sequences=how.per_step, **how.options)
    return states, logits.astype(jnp.float32)


def losses_of(logits: Array, labels: Array, lengths: Array | None, how: How) -> Array:
    """Gives the loss of each sequence `[B]`: with a label at each step the mean over its valid steps."""
    values = LOSSES[how.loss].value(logits, labels, 0.0)
    if values.ndim == 1:
        return values
    if lengths is None:
        return values.mean(axis=1)
    valid = jnp.arange(values.shape[1])[None, :] < lengths[:, None]
    return jnp.where(valid, values, 0).sum(axis=1) / lengths


def loss_says(headed: bool, labelled: bool, how: How) -> str:
    """Says what L is in the gradients of `compute`."""
    if not headed:
        return f"L is half the square of {'every' if how.per_step else 'the last'} h of the top layer: there is no head"
    over = ", the mean over the steps" if how.per_step else ""
    if labelled:
        return f"L is the {how.loss} loss of the labels{over}"
    at = "zeros" if how.loss == "linear" else "what the network itself says"
    return f"L is the {how.loss} loss of {at}{over}: there are no labels"


def parts_of(layered: PyTree) -> dict[tuple[int, str], Any]:
    """Gives what is there for each layer and direction, of something in the form of `trace` for layers."""
    return {(n, direction): part for n, direction, part in each_part(layered)}
