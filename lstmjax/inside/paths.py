r"""The paths by which the gradient reaches c_t: along the cell, through h and the gates, or from the outputs.

Of a cell with c_{t+1} = f_{t+1} ⊙ c_t + i_{t+1} ⊙ g_{t+1} and m_t = o_t ⊙ tanh(c_t),

    ∂L/∂c_t = f_{t+1} ⊙ ∂L/∂c_{t+1}                                           the cell: the constant error carousel
            + o_t ⊙ tanh'(c_t) ⊙ (the gradient of h_t from the gates of t+1)  recurrent
            + o_t ⊙ tanh'(c_t) ⊙ (the gradient of h_t from the outputs)       output
            + w_ci ⊙ ∂L/∂z_i,t+1 + w_cf ⊙ ∂L/∂z_f,t+1 + w_co ⊙ ∂L/∂z_o,t      peepholes

exactly (Hochreiter & Schmidhuber 1997, who cut all but the first and the output; Gers & Schmidhuber 2000). Over a span
the cell alone multiplies by the product of f. No formula is written down here: each part is the derivative of
`cell_step` itself, in which its `tap` holds the other values at what they were. So the parts add up for every cell,
also for one with another function than tanh, with normalisation or with limits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array
from lstmjax.arrays import valid_steps
from lstmjax.cell import cell_step
from lstmjax.cells import VANILLA, Cell
from lstmjax.inside.flow import gradient_flow
from lstmjax.inside.jacobians import one_number
from lstmjax.inside.layered import each_part
from lstmjax.inside.record import EMPTY
from lstmjax.inside.trace import trace
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.options import PassOptions, RunOptions, outputs, run_layers, with_defaults
from lstmjax.parameters import parameters_of
from lstmjax.published import find_cell
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class GradientPaths(NamedTuple):
    """∂L/∂c_t of one layer in one direction, and the part of it that comes by each path; all `[..., T, H]`."""

    total: Array  # ∂L/∂c_t, the sum of the others
    cell: Array  # f_{t+1} ⊙ ∂L/∂c_{t+1}
    recurrent: Array  # by h_t into the gates of the next step
    output: Array  # by h_t to the loss and to the layers above
    peephole: Array | None  # by the peepholes; None: the cell has none


class GradientSpans(NamedTuple):
    """The part of ∂L/∂c_s at one step s that reaches the steps t before it; each `[..., T, H]`."""

    cell: Array  # along the cell alone: (f_{t+1} ⊙ ··· ⊙ f_s) ⊙ ∂L/∂c_s
    whole: Array  # by all paths within the layer: (∂c_s/∂c_t)ᵀ ∂L/∂c_s


class _Pass(NamedTuple):
    """A pass through one direction of a layer, with its gradients, in the order of processing."""

    params: LSTMParams
    xs: Array  # [T, ..., I]
    state: PyTree | None  # the state to start from
    valid: Array  # [T, ...]
    steps: Step  # [T, ..., H]
    flow: Step  # gradients: c, z_i, z_f, z_g, z_o
    from_outputs: Array  # gradient of h by the outputs alone, [T, ..., P]


@takes(PassOptions, lstm, stacked)
def gradient_paths(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    loss: Callable[[Array], Array],
    state: PyTree | None = None,
    *,
    return_sequences: bool | None = None,
    **options: Unpack[PassOptions],
) -> Any:
    """Return ∂L/∂c_t at every step, split by the paths by which it comes.

        ∂L/∂c_t = cell + recurrent + output + peephole

    cell comes from c_{t+1} alone, multiplied by f_{t+1}; recurrent by h_t from the gates of the next step; output by
    h_t from the loss and the layers above; peephole by the peepholes (Gers & Schmidhuber 2000).

    Args:
        params: `LSTMParams`; or a `Bidirectional` pair; or layers, as `stacked` takes them; or `NetworkParams`.
        xs: inputs `[..., T, I]`.
        loss: `loss(outputs)` -> one number, as for `gradient_flow`.
        return_sequences: as for `gradient_flow`.
        reverse: for `LSTMParams` only. "Next" and "before" are then in the order of processing.
        state, lengths, mask, merge, residual, cell: as for `lstm`, `stacked` or `network`. There are no wrappers, since
            one that changes c opens further paths, and no resets; `gradient_flow` takes both.

    Returns:
        `GradientPaths`; for layers and networks a tuple with one for each layer, a `Bidirectional` of two for a pair.
        Zero at steps that are not valid; "next" is the next valid step.

    Raises:
        ValueError: loss returns no single number, or an argument does not fit the others.

    Example:
        >>> from lstmjax import init_params
        >>> params = init_params(jax.random.key(0), 5, 8, forget_bias=3.0)
        >>> paths = gradient_paths(params, jnp.ones((2, 100, 5)), lambda ys: ys[:, -1].sum())
        >>> paths.cell.shape, bool(jnp.abs(paths.cell).sum() > jnp.abs(paths.recurrent).sum())
        ((2, 100, 8), True)
    """
    parameters, row, xs = parameters_of(params), _cell_of(options), as_array("xs", xs)
    passes = _passes(params, xs, loss, state, return_sequences, options)
    paths = [_as_xs(_split(one_pass, row), xs, backwards) for one_pass, backwards in passes]
    return parameters.result(paths)


@takes(PassOptions, lstm, stacked)
def gradient_spans(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    loss: Callable[[Array], Array],
    state: PyTree | None = None,
    *,
    at: ArrayLike | None = None,
    return_sequences: bool | None = None,
    **options: Unpack[PassOptions],
) -> Any:
    """Return the part of ∂L/∂c_s at a late step s that reaches every earlier step, along the cell and by all paths.

    The ratio `norms(spans).cell / norms(spans).whole` is near 1 where the cell carries the gradient. It may be above 1,
    since the paths can cancel each other.

    Args:
        at: s, a whole number from 0 to T − 1, or one for each sequence `[...]`. None: the last valid step that each
            direction processed.
        params, xs, loss, state, return_sequences, lengths, mask, reverse, merge, residual, cell: as for
            `gradient_paths`.

    Returns:
        `GradientSpans`, in the form of `trace`. At s both fields are ∂L/∂c_s, and at steps processed after it zero;
        they are zero everywhere where s is not valid.

    Raises:
        ValueError: loss returns no single number, or an argument does not fit the others.

    Example:
        >>> from lstmjax import init_params
        >>> params = init_params(jax.random.key(0), 5, 8)
        >>> spans = gradient_spans(params, jnp.ones((2, 100, 5)), lambda ys: ys[:, -1].sum())
        >>> spans.cell.shape, spans.whole.shape
        ((2, 100, 8), (2, 100, 8))
    """
    parameters, row, xs = parameters_of(params), _cell_of(options), as_array("xs", xs)
    if at is not None:
        at = as_array("at", at)
        _check_at(at, xs)
    spans = []
    for one_pass, backwards in _passes(params, xs, loss, state, return_sequences, options):
        s = at if at is None or not backwards else xs.shape[-2] - 1 - at
        spans.append(_as_xs(_spans(one_pass, s, row), xs, backwards))
    return parameters.result(spans)


def _cell_of(options: PassOptions) -> Cell:
    return VANILLA if options["cell"] is None else find_cell(options["cell"])


def _passes(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: Array,
    loss: Callable[[Array], Array],
    state: PyTree | None,
    return_sequences: bool | None,
    options: PassOptions,
) -> list[tuple[_Pass, bool]]:
    """Return the pass of each direction of each layer, in the order in which they are run, and if it is in reverse."""
    fields = ("c", "z_i", "z_f", "z_g", "z_o")
    flow = gradient_flow(params, xs, loss, state, return_sequences=return_sequences, fields=fields, **options)
    gradients = [step for _, _, step in each_part(flow)]
    records: list[tuple] = []

    def run(part: LSTMParams, xs: Array, state: PyTree | None = None, **options: Any) -> tuple[PyTree, Array]:
        part = jax.tree.map(jnp.asarray, part)
        end, steps = lstm(part, xs, state, **options | {"emit": "step"})
        records.append((part, xs, state, options["reverse"], steps))
        return end, steps.h

    all_options = with_defaults(**options)
    run_layers(params, xs, state, run, all_options)
    if return_sequences is None:
        return_sequences = parameters_of(params).head is None
    emitted = _gradients_of_outputs(params, xs, loss, state, return_sequences, all_options)
    valid = valid_steps(xs, options["lengths"], options["mask"], False)
    valid = jnp.ones(xs.shape[:-1], bool) if valid is None else valid
    passes = []
    for (part, part_xs, start, backwards, steps), gradient, of_outputs in zip(records, gradients, emitted, strict=True):
        part_xs = jnp.where(valid[..., None], part_xs, 0)
        if of_outputs.ndim < xs.ndim:  # of the last valid step alone
            is_last = _last_valid(valid, backwards)
            of_outputs = jnp.where(is_last[..., None], jnp.expand_dims(of_outputs, -2), 0)
        of_outputs = jnp.where(valid[..., None], of_outputs, 0)
        arrays = _as_processed((part_xs, valid, steps, gradient, of_outputs), xs, backwards)
        passes.append((_Pass(part, arrays[0], start, *arrays[1:]), backwards))
    return passes


def _gradients_of_outputs(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: Array,
    loss: Callable[[Array], Array],
    state: PyTree | None,
    return_sequences: bool,
    options: RunOptions,
) -> list[Array]:
    """Return for each direction of each layer the gradient of the loss with respect to what it emits.

    Something is added to the outputs, and not to the h that the next step sees. So the gradient is exactly 0 where an
    output does not reach the loss, which a difference of two gradients of h would not be.

    Returns:
        Arrays `[..., T, P]`, or `[..., P]` where only the last step is emitted.
    """

    def loss_of(added: list[Array] | None) -> tuple[Array, list[Array]]:
        emitted: list[Array] = []

        def run(part: LSTMParams, xs: Array, state: PyTree | None = None, **options: Any) -> tuple[PyTree, Array]:
            end, ys = lstm(part, xs, state, **options)
            if added is not None:
                ys = ys + added[len(emitted)]
            emitted.append(ys)
            return end, ys

        value = loss(outputs(params, xs, state, run, options, return_sequences=return_sequences))
        return one_number(value), emitted

    like = jax.eval_shape(lambda: loss_of(None)[1])
    return jax.grad(loss_of, has_aux=True)([jnp.zeros(a.shape, a.dtype) for a in like])[0]


def _last_valid(valid: Array, backwards: bool) -> Array:
    """Return which of the steps `[..., T]` is the last valid one in the order of processing."""
    counted = jnp.cumsum(valid, axis=-1) if backwards else jnp.flip(jnp.cumsum(jnp.flip(valid, -1), axis=-1), -1)
    return valid & (counted == 1)


def _as_processed(tree: PyTree, xs: Array, backwards: bool) -> PyTree:
    """Return arrays `[..., T, *]` on the axes of xs as `[T, ..., *]`, in the order of processing."""

    def move(a: Array) -> Array:
        a = jnp.moveaxis(a, xs.ndim - 2, 0)
        return jnp.flip(a, 0) if backwards else a

    return jax.tree.map(move, tree)


def _as_xs(tree: PyTree, xs: Array, backwards: bool) -> PyTree:
    """Undo `_as_processed`: return arrays `[T, ..., H]` as `[..., T, H]`, in the order of xs."""
    return jax.tree.map(lambda a: jnp.moveaxis(jnp.flip(a, 0) if backwards else a, 0, xs.ndim - 2), tree)


def _step_with(params: LSTMParams, cell: Cell, state: PyTree, xs: Array, fixed: dict[str, Array]) -> Step:
    """Return the `Step` of `cell_step` if some of its values are not computed but fixed.

    All steps are independent of each other then, so that xs and state may have an axis of time. XLA leaves out what the
    fixed values make superfluous, the matrix products among them.

    Args:
        params, cell: the layer.
        state, xs: as for `cell_step`.
        fixed: values of fields of `Step`.
    """
    return cell_step(params, state, xs, cell=cell, tap=lambda name, value: fixed.get(name, value), emit="step")[1]


@partial(jax.jit, static_argnames="cell")
def _split(one_pass: _Pass, cell: Cell) -> GradientPaths:
    """Return the parts of ∂L/∂c_t."""
    params, xs, steps, flow = one_pass.params, one_pass.xs, one_pass.steps, one_pass.flow
    h, c, *fed = state = _states(one_pass, cell)

    def pre_activations(h: Array, c: Array, new_c: Array) -> list[Array]:
        step = _step_with(params, cell, (h, c, *fed), xs, {"c": new_c})
        return [getattr(step, f"z_{name}") for name in cell.blocks]

    def h_of_m(m: Array) -> Array:
        return _step_with(params, cell, state, xs, {"m": m}).h

    def m_of_c(c: Array) -> Array:
        return _step_with(params, cell, state, xs, {"o": steps.o, "c": c}).m

    into_h, into_old_c, into_new_c = _pull(
        pre_activations, (h, c, steps.c), [getattr(flow, f"z_{name}") for name in cell.blocks]
    )

    def through_h(gradient: Array) -> Array:
        (into_m,) = _pull(h_of_m, (steps.m,), gradient)
        return _pull(m_of_c, (steps.c,), into_m)[0]

    recurrent = through_h(_from_next(one_pass, into_h))  # by the gates of t + 1
    output = through_h(one_pass.from_outputs.astype(h.dtype))
    along_cell = _from_next(one_pass, _into_old_c(params, cell, state, xs, steps, flow.c))
    peephole = None if params.w_c is None else _from_next(one_pass, into_old_c) + into_new_c
    return GradientPaths(flow.c, along_cell, recurrent, output, peephole)


def _pull(f: Callable, at: tuple[Array, ...], gradient: PyTree) -> tuple[Array, ...]:
    """Return the gradients with respect to the arguments of f for a gradient with respect to its value."""
    return jax.vjp(f, *at)[1](gradient)


def _into_old_c(params: LSTMParams, cell: Cell, state: PyTree, xs: Array, steps: Step, gradient: Array) -> Array:
    """Return the gradient with respect to c_{t−1} for one to c_t, with the gates fixed: f_t times it."""
    h, c, *fed = state
    gates = {"i": steps.i, "f": steps.f, "g": steps.g}
    return _pull(lambda c: _step_with(params, cell, (h, c, *fed), xs, gates).c, (c,), gradient)[0]


@partial(jax.jit, static_argnames="cell")
def _spans(one_pass: _Pass, at: Array | None, cell: Cell) -> GradientSpans:
    """Return what reaches every step of ∂L/∂c_s; at: s in the order of processing, or None for the last valid step."""
    params, valid, flow = one_pass.params, one_pass.valid, one_pass.flow
    if at is None:
        has_next = _from_next(one_pass, jnp.ones_like(flow.c))[..., 0] > 0
        is_source = valid & ~has_next
    else:
        numbers = jax.lax.broadcasted_iota(jnp.int32, valid.shape, 0)
        is_source = (numbers == jnp.broadcast_to(at.astype(jnp.int32), valid.shape)) & valid
    source = jnp.where(is_source[..., None], flow.c, 0)

    def body(arriving: Array, inputs: tuple) -> tuple[Array, Array]:
        source, valid, state, x, step = inputs
        gradient = jnp.where(valid[..., None], arriving + source, 0)
        passed_on = _into_old_c(params, cell, state, x, step, gradient)
        return jnp.where(valid[..., None], passed_on, arriving), gradient

    inputs = (source, valid, _states(one_pass, cell), one_pass.xs, one_pass.steps)
    _, along_cell = jax.lax.scan(body, jnp.zeros(source.shape[1:], source.dtype), inputs, reverse=True)

    def c(added: Array) -> Array:
        options: Any = {"mask": valid, "time_major": True, "cell": cell, "fields": "c"}
        return trace(params, one_pass.xs, one_pass.state, perturb=EMPTY._replace(c=added), **options).c

    (by_all_paths,) = _pull(c, (jnp.zeros_like(source),), source)
    return GradientSpans(along_cell, by_all_paths)


def _states(one_pass: _Pass, cell: Cell) -> tuple[Array, ...]:
    """Return the state that each step starts from: h `[T, ..., P]`, c `[T, ..., H]`, and the gates fed back."""
    names = ("h", "c", *cell.feeds)
    start = (None,) * len(names) if one_pass.state is None else one_pass.state
    states = []
    for name, first in zip(names, start, strict=True):
        values = getattr(one_pass.steps, name)
        states.append(_held(values, one_pass.valid, None if first is None else first.astype(values.dtype)))
    return tuple(states)


def _from_next(one_pass: _Pass, values: Array) -> Array:
    """Return the value at the valid step after each, 0 after the last; 0 at steps that are not valid."""
    return jnp.where(one_pass.valid[..., None], _held(values, one_pass.valid, reverse=True), 0)


def _held(values: Array, valid: Array, first: Array | None = None, reverse: bool = False) -> Array:
    """Return the value at the valid step before each (after, in reverse), and `first` or 0 where there is none."""

    def body(last: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        value, valid = inputs
        return jnp.where(valid[..., None], value, last), last

    start = jnp.broadcast_to(jnp.zeros((), values.dtype) if first is None else first, values.shape[1:])
    return jax.lax.scan(body, start, (values, valid), reverse=reverse)[1]


def _check_at(at: Array, xs: Array) -> None:
    """Refuse an `at` that holds no steps of xs."""
    batch, steps = xs.shape[:-2], xs.shape[-2]
    if at.shape not in ((), batch) or not jnp.issubdtype(at.dtype, jnp.integer):
        raise ValueError(
            f"at is {at.dtype} {at.shape}, expected a whole number, or one for each sequence, {batch}: the step s."
        )
    if not isinstance(at, jax.core.Tracer) and at.size and not (int(at.min()) >= 0 and int(at.max()) < steps):
        raise ValueError(f"at holds {int(at.min())} to {int(at.max())}, expected 0 to T - 1 = {steps - 1}.")
