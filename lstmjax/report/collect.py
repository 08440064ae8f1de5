"""The numbers of a report, computed from a network: the only file of the report that runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells import Cell
from lstmjax.inside import gate_statistics, gradient_flow, trace
from lstmjax.inside.layered import each_part
from lstmjax.networks import NetworkParams, network
from lstmjax.parameters import parameters_of
from lstmjax.stack import Layers, as_layers, stacked
from lstmjax.training.inference import CHUNK
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


SCORES: MappingProxyType[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "softmax": lambda logits: logits.max(axis=-1),
        "sigmoid": lambda logits: jnp.abs(logits).sum(axis=-1),
        "linear": lambda logits: logits.sum(axis=-1),
    }
)
"""The number that saliency differentiates, `[B, ...]` from logits."""

SCORE_TEXT: MappingProxyType[str, str] = MappingProxyType(
    {
        "softmax": "the logit of the predicted class",
        "sigmoid": "the sum of the logits of what is predicted, on or off",
        "linear": "the sum of the predictions",
    }
)
"""The numbers of `SCORES` in words."""

MAX_PREFIXES = 512
"""Steps up to which a bidirectional network is run on every beginning of a sequence: the time grows by their square."""


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
    over_time: Array | None  # [E, T, O], the logits if the sequence ended at each step; None: there is no head
    saliency: Array  # [E, T, I], ∂score/∂x; `SCORE_TEXT` describes the score


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
        _logits_over_time(params, shown, ends, logits, settings) if isinstance(params, NetworkParams) else None,
        _saliency(params, shown, ends, loss, settings),
    )


def _logits_over_time(
    params: NetworkParams, xs: Array, lengths: Array | None, logits: Array | None, settings: Settings
) -> Array | None:
    """Return the logits that the network would give if the sequence ended at each step, `[E, T, O]`.

    With one direction these are the logits of every step. The reverse direction begins at the end, so that a
    bidirectional network is run on each beginning of the sequence; None if there are more than `MAX_PREFIXES`.
    """
    if settings.per_step:
        return logits
    if not any(isinstance(layer, Bidirectional) for layer in params.layers):
        return run_network(params, xs, lengths, settings._replace(per_step=True))[1]
    steps = xs.shape[1]
    if steps > MAX_PREFIXES:
        return None
    valid = jnp.full(len(xs), steps) if lengths is None else lengths

    def until(end: Array) -> Array:
        return run_network(params, xs, jnp.minimum(valid, end), settings)[1]

    return jnp.moveaxis(jax.lax.map(until, jnp.arange(1, steps + 1)), 0, 1)


def _saliency(
    params: Layers | NetworkParams, xs: Array, lengths: Array | None, loss: Callable[[Array], Array], settings: Settings
) -> Array:
    """Return the gradient of the predicted score with respect to the inputs, `[E, T, I]`; without a head of `loss`."""

    def score(inputs: Array) -> Array:
        if not isinstance(params, NetworkParams):
            outputs = stacked(params, inputs, lengths=lengths, return_sequences=settings.per_step, **settings.options)[
                1
            ]
            return loss(outputs)
        scores = SCORES[settings.loss](run_network(params, inputs, lengths, settings)[1])
        if scores.ndim == 2 and lengths is not None:
            scores = jnp.where(jnp.arange(scores.shape[1])[None, :] < lengths[:, None], scores, 0)
        return scores.sum()

    return jax.grad(score)(xs if jnp.issubdtype(xs.dtype, jnp.floating) else xs.astype(jnp.float32))


def compute_outputs(
    params: NetworkParams, xs: np.ndarray, lengths: np.ndarray | None, settings: Settings
) -> np.ndarray:
    """Compute the probabilities or numbers of all sequences, `[N, O]` or `[N, T, O]`, some sequences at a time."""
    parts = []
    for start in range(0, len(xs), CHUNK):
        # The last rows are repeated in the last chunk, so that the program is compiled for one size.
        rows = np.minimum(np.arange(start, start + min(CHUNK, len(xs))), len(xs) - 1)
        ends = None if lengths is None else jnp.asarray(lengths[rows], jnp.int32)
        parts.append(np.asarray(_outputs(params, jnp.asarray(xs[rows]), ends, settings=settings)))
    return np.concatenate(parts)[: len(xs)]


@partial(jax.jit, static_argnames=("settings",))
def _outputs(params: NetworkParams, xs: Array, lengths: Array | None, *, settings: Settings) -> Array:
    return LOSSES[settings.loss].readout(run_network(params, xs, lengths, settings)[1])


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
    return jnp.where(valid, values, 0).sum(axis=1) / lengths.astype(values.dtype)


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


def score_text(headed: bool, settings: Settings) -> str:
    """Describe the score whose gradient with respect to the inputs is shown."""
    if not headed:
        return loss_text(headed, False, settings).removeprefix("L is ").partition(":")[0]
    return SCORE_TEXT[settings.loss] + (", summed over the steps" if settings.per_step else "")


def by_direction(layered: PyTree) -> dict[tuple[int, str], Any]:
    """Return the entries of a tree in the form of `trace` by (layer, direction)."""
    return {(n, direction): part for n, direction, part in each_part(layered)}
