r"""Gradient flow: how the loss answers to each value of each step, and so how far back it hears.

∂L/∂v_t is the gradient with respect to an addition to v_t where the step makes it, before it is used: all that v_t does
later is in it. Of a gate pre-activation it is what the gate's weights learn from, at this step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, as_flags, check_arrays, check_function
from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.inside.jacobians import one_number
from lstmjax.inside.layered import check_model, each_part, in_form_of, of_one_layer
from lstmjax.inside.recorder import Perturb, time_first
from lstmjax.inside.trace import chosen, trace
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams, network
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

FLOW = ("h", "c", "z_i", "z_f", "z_g", "z_o")


def gradient_flow(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    loss: Callable[[Array], Array],
    state: PyTree | None = None,
    *,
    fields: str | tuple[str, ...] = FLOW,
    return_sequences: bool | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    time_major: bool = False,
    merge: str = "concat",
    residual: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    wrappers: tuple = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    dtype: DTypeLike | None = None,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    backend: str = "auto",
) -> Any:
    """Gives ∂L/∂h_t, ∂L/∂c_t and ∂L/∂(gate pre-activation) at every step, of every layer and direction.

    All other arguments are those of `lstm`, `stacked` or `network`.

    Args:
        params: `LSTMParams`; or a `Bidirectional` pair; or layers, as `stacked` takes them; or `NetworkParams`.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        loss: `loss(outputs)` -> one number, of the ys that `lstm` or `stacked` give, or the logits of `network`.
        state: where to start, as for `lstm`, `stacked` or `network`.
        fields: names of the fields of `Step` whose gradients are wanted, one or several; the others are None.
        return_sequences: whether the outputs are of all steps or of the last. None: as is usual, all steps of layers,
            the last of a network.
        reverse: for `LSTMParams` only.

    Returns:
        The form that `trace` has: for `LSTMParams` a `Step` of gradients `[..., T, H]` (h: `[..., T, P]`), for layers
        and networks a tuple with a `Step` for each, a `Bidirectional` of two for a pair. Zero at steps that are not
        valid; None for what a cell does not have. h and c are those that the cell makes, before a wrapper such as
        zoneout mixes them with the old ones.

    Raises:
        ValueError: loss gives no single number, or an argument does not fit the others.

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
    check_model(params)
    check_function("loss", loss, "loss(outputs) -> one number")
    reverse, time_major, residual, return_sequences = as_flags(
        reverse=reverse, time_major=time_major, residual=residual, return_sequences=return_sequences
    )
    check_arrays("state", state)
    check_arrays("reset_state", reset_state)
    form, single = params, isinstance(params, LSTMParams)
    params, state, reset_state = of_one_layer(params, state, reset_state)
    options: dict[str, Any] = {
        "lengths": lengths,
        "mask": mask,
        "resets": resets,
        "reset_state": reset_state,
        "time_major": time_major,
        "key": key,
        "cell": cell,
        "step": step,
        "dtype": dtype,
        "checkpoint": checkpoint,
        "unroll": unroll,
        "backend": backend,
    }
    several: dict[str, Any] = {"merge": merge, "residual": residual, "dropout": dropout}
    names, xs = chosen(fields), as_array("xs", xs)
    wrappers = tuple(wrappers) if isinstance(wrappers, tuple | list) else wrappers
    like = jax.eval_shape(
        lambda: trace(params, xs, state, fields=names, reverse=reverse, wrappers=wrappers, **several, **options)
    )
    kept = not isinstance(params, NetworkParams) if return_sequences is None else return_sequences

    def outputs(added: PyTree) -> Array:
        run: Any = _Perturbed(in_order(added))
        if single:
            return run(params, xs, state, reverse=reverse, return_sequences=kept, wrappers=wrappers, **options)[1]
        runs: Any = network if isinstance(params, NetworkParams) else stacked
        return runs(params, xs, state, return_sequences=kept, wrappers=wrappers, run=run, **several, **options)[1]

    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
    return in_form_of(form, jax.grad(lambda added: one_number(loss(outputs(added))))(zeros))


def norms(flow: PyTree) -> PyTree:
    """Gives the Euclidean norm over the units of every array `[..., T, H]` of a tree: `[..., T]`.

    Numbers are measured by the largest among them, so that gradients count down to the smallest that the dtype has;
    half precision in float32.

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


class _Perturbed:
    """What `stacked` and `network` run in place of `lstm`: it adds to what each direction computes, in their order."""

    def __init__(self, added: list[Step]):
        self._added = iter(added)

    def __call__(
        self, params: LSTMParams, xs: Array, state: PyTree | None = None, *, wrappers: tuple = (), **options: Any
    ) -> tuple[PyTree, Any]:
        added = time_first(next(self._added), params, xs, options["time_major"])
        return lstm(params, xs, state, wrappers=(*wrappers, (Perturb(), (None, added))), **options)


def in_order(layered: PyTree) -> list[Step]:
    """Gives what `trace` gives for each direction as one list, in the order in which they are run."""
    return [step for _, _, step in each_part(layered)]
