r"""Gradient flow: the gradient of the loss with respect to each value of each step, and so how far back it reaches.

∂L/∂v_t is the gradient with respect to an addition to v_t where the step computes it, before it is used: it contains
every effect of v_t on later values. For a gate's pre-activation it is what the gate's weights learn from at this step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, as_flags, check_arrays, check_function
from lstmjax.inside.jacobians import one_number
from lstmjax.inside.layered import each_part
from lstmjax.inside.perturb import perturbed
from lstmjax.inside.trace import field_names, record
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.options import RunOptions, outputs, with_flags
from lstmjax.parameters import parameters_of
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike

FLOW = ("h", "c", "z_i", "z_f", "z_g", "z_o")


@takes(RunOptions, lstm, stacked)
def gradient_flow(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    loss: Callable[[Array], Array],
    state: PyTree | None = None,
    *,
    fields: str | tuple[str, ...] = FLOW,
    return_sequences: bool | None = None,
    **options: Unpack[RunOptions],
) -> Any:
    """Return ∂L/∂h_t, ∂L/∂c_t and ∂L/∂(gate pre-activation) at every step, of every layer and direction.

    All other arguments are those of `lstm`, `stacked` or `network`.

    Args:
        params: `LSTMParams`; or a `Bidirectional` pair; or layers, as `stacked` takes them; or `NetworkParams`.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        loss: `loss(outputs)` -> one number, of the ys that `lstm` or `stacked` return, or of the logits of `network`.
        state: the state to start from, as for `lstm`, `stacked` or `network`.
        fields: names of the fields of `Step` to take gradients with respect to, one or several; the others are None.
        return_sequences: the outputs are those of all steps, or of the last one. None: the default of the function
            that runs params, all steps for layers, the last one for a network.
        reverse: for `LSTMParams` only.

    Returns:
        The form of `trace`: for `LSTMParams` a `Step` of gradients `[..., T, H]` (h: `[..., T, P]`), for layers and
        networks a tuple with a `Step` for each layer, a `Bidirectional` of two for a pair. Zero at steps that are not
        valid; None for what a cell does not have. h and c are those that the cell computes, before a wrapper such as
        zoneout mixes them with the old ones.

    Raises:
        ValueError: loss returns no single number, or an argument does not fit the others.

    Example:
        >>> from lstmjax import init_network, init_params
        >>> params = init_params(jax.random.key(0), 5, 256)
        >>> flow = gradient_flow(params, jnp.ones((32, 100, 5)), lambda ys: ys[:, -1].sum())
        >>> flow.c.shape, flow.z_f.shape, norms(flow).c.shape
        ((32, 100, 256), (32, 100, 256), (32, 100))
        >>> deep = init_network(jax.random.key(0), 5, 8, 3, layers=2, bidirectional=True)
        >>> gradient_flow(deep, jnp.ones((32, 100, 5)), lambda logits: logits[:, 0].mean())[1].reverse.h.shape
        (32, 100, 8)
    """
    parameters = parameters_of(params)
    check_function("loss", loss, "loss(outputs) -> one number")
    (return_sequences,) = as_flags(return_sequences=return_sequences)
    options = with_flags(options)
    check_arrays("state", state)
    check_arrays("reset_state", options["reset_state"])
    wrappers: Any = options["wrappers"]
    if isinstance(wrappers, list):
        options["wrappers"] = tuple(wrappers)
    names, xs = field_names(fields), as_array("xs", xs)
    if return_sequences is None:
        return_sequences = parameters.head is None
    shapes = jax.eval_shape(lambda: record(params, xs, state, options, names))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

    def loss_of(perturb: PyTree) -> Array:
        run = perturbed(lstm, [step for _, _, step in each_part(perturb)])
        return one_number(loss(outputs(params, xs, state, run, options, return_sequences=return_sequences)))

    flow = jax.grad(loss_of)(zeros)
    warn_of_zeros(flow, options["lengths"] is not None or options["mask"] is not None)
    return flow


ZERO = "the gradient is 0 at every step of every layer: the loss does not depend on the values that were chosen."
PADDING = (
    " Steps are padding by lengths or mask: ys[:, -1] is padding of every sequence that ends before; "
    "return_sequences=False takes the last valid step."
)


def warn_of_zeros(flow: PyTree, padded: bool) -> None:
    """Warn of gradients that are zero everywhere, and say why; those that are traced are not known yet.

    Args:
        flow: gradients, arrays with numbers in them.
        padded: whether some steps are not valid.
    """
    arrays = jax.tree.leaves(flow)
    if not arrays or any(isinstance(a, jax.core.Tracer) or not a.size for a in arrays):
        return
    if not any(bool(jnp.any(a != 0)) for a in arrays):
        warnings.warn(ZERO + (PADDING if padded else ""), stacklevel=4)


def norms(flow: PyTree) -> PyTree:
    """Return the Euclidean norm over the units of every array `[..., T, H]` of a tree: `[..., T]`.

    Numbers are scaled by the largest of them before they are squared, so that gradients count down to the smallest
    number of the dtype. Half precision is computed in float32.

    >>> print(norms(jnp.array([[3.0, 4.0], [0.0, 0.5]])))
    [5.  0.5]
    """
    flow = as_arrays("flow", flow)

    def norm(a: Array) -> Array:
        a = a.astype(checks.cell_dtype(a.dtype))
        largest = jax.lax.stop_gradient(jnp.abs(a).max(-1, initial=0.0, keepdims=True))
        size = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
        return jnp.sqrt(jnp.square(a / size).sum(-1)) * size[..., 0]

    return jax.tree.map(norm, flow)
