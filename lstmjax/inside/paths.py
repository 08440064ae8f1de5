r"""By which paths the gradient comes to c_t: along the cell, through h and the gates, or from the outputs.

Of a cell with c_{t+1} = f_{t+1} ⊙ c_t + i_{t+1} ⊙ g_{t+1} and m_t = o_t ⊙ tanh(c_t),

    ∂L/∂c_t = f_{t+1} ⊙ ∂L/∂c_{t+1}                                           the cell: the constant error carousel
            + o_t ⊙ tanh'(c_t) ⊙ (what h_t does in the gates of t+1)          recurrent
            + o_t ⊙ tanh'(c_t) ⊙ (what h_t does in the outputs of step t)     output
            + w_ci ⊙ ∂L/∂z_i,t+1 + w_cf ⊙ ∂L/∂z_f,t+1 + w_co ⊙ ∂L/∂z_o,t      peepholes

exactly (Hochreiter & Schmidhuber 1997, who cut all but the first and the output; Gers & Schmidhuber 2000). Over a span
the cell alone multiplies by the product of f. Where a cell squashes otherwise than by tanh, normalises or clips what it
carries, normalises what a gate sees or limits h, the derivative of that stands in its place, so that the parts of every
cell add up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array
from lstmjax.arrays import valid_steps
from lstmjax.cell import gate_sums, peep, peepholes, product, project
from lstmjax.cells import VANILLA, Cell
from lstmjax.inside.flow import gradient_flow, in_order
from lstmjax.inside.layered import in_form_of, of_one_layer
from lstmjax.inside.recorder import NONE
from lstmjax.inside.trace import trace
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.published import find_cell
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class GradientPaths(NamedTuple):
    """∂L/∂c_t of one layer in one direction, and what each path brings of it; all `[..., T, H]`."""

    total: Array  # ∂L/∂c_t, the sum of the others
    cell: Array  # f_{t+1} ⊙ ∂L/∂c_{t+1}
    recurrent: Array  # by h_t into the gates of the next step
    output: Array  # by h_t to the loss and to the layers above
    peephole: Array | None  # by the peepholes; None: the cell has none


class GradientSpans(NamedTuple):
    """What of ∂L/∂c_s at one step s reaches the steps t before it, in one layer and direction; `[..., T, H]`."""

    cell: Array  # along the cell alone: (f_{t+1} ⊙ ··· ⊙ f_s) ⊙ ∂L/∂c_s
    whole: Array  # by all paths within the layer: (∂c_s/∂c_t)ᵀ ∂L/∂c_s


class _Run(NamedTuple):
    """One direction of a layer: what entered it, what it computed, and the gradients; in the order of processing."""

    params: LSTMParams
    xs: Array  # [T, ..., I]
    state: PyTree | None  # to start from
    valid: Array  # [T, ...]
    steps: Step  # [T, ..., H]
    flow: Step  # gradients: c, m, z_i, z_f, z_g, z_o


def gradient_paths(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    loss: Callable[[Array], Array],
    state: PyTree | None = None,
    *,
    return_sequences: bool | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reverse: bool = False,
    merge: str = "concat",
    residual: bool = False,
    cell: Cell | str = VANILLA,
) -> Any:
    """Gives ∂L/∂c_t at every step, split by the paths on which it comes; see the head of `inside/paths.py`.

    Args:
        params: `LSTMParams`; or a `Bidirectional` pair; or layers, as `stacked` takes them; or `NetworkParams`.
        xs: inputs `[..., T, I]`.
        loss: `loss(outputs)` -> one number, as for `gradient_flow`.
        return_sequences: as for `gradient_flow`.
        reverse: for `LSTMParams` only. "Next" and "before" are then in the order of processing.
        state, lengths, mask, merge, residual, cell: as for `lstm`, `stacked` or `network`. There are no wrappers, since
            one that changes c opens paths of its own, and no resets; `gradient_flow` takes both.

    Returns:
        `GradientPaths` in the form that `trace` has: one; for layers and networks a tuple with one for each layer, a
        `Bidirectional` of two for a pair. Zero at steps that are not valid; "next" is the next valid step.

    Raises:
        ValueError: loss gives no single number, or an argument does not fit the others.

    Example:
        >>> from lstmjax import init_params
        >>> params = init_params(jax.random.key(0), 5, 8, forget_bias=3.0)
        >>> paths = gradient_paths(params, jnp.ones((2, 100, 5)), lambda ys: ys[:, -1].sum())
        >>> paths.cell.shape, bool(jnp.abs(paths.cell).sum() > jnp.abs(paths.recurrent).sum())
        ((2, 100, 8), True)
    """
    how = {"lengths": lengths, "mask": mask, "reverse": reverse, "merge": merge, "residual": residual, "cell": cell}
    row, xs = find_cell(cell), as_array("xs", xs)
    layers, state = of_one_layer(params, state)
    runs = _runs(layers, xs, loss, state, return_sequences, how)
    parts = [_beside_xs(_split(run, row), xs, reverse) for run, reverse in runs]
    return in_form_of(params, _layered(layers, parts))


def gradient_spans(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    loss: Callable[[Array], Array],
    state: PyTree | None = None,
    *,
    at: ArrayLike | None = None,
    return_sequences: bool | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reverse: bool = False,
    merge: str = "concat",
    residual: bool = False,
    cell: Cell | str = VANILLA,
) -> Any:
    """Gives what of ∂L/∂c_s at a late step s reaches every earlier step, along the cell alone and by all paths.

    How much of what arrives is the carousel's: `norms(spans).cell / norms(spans).whole` comes near 1 where the cell
    carries the gradient. It may be above 1: paths can take from each other.

    Args:
        at: s, a whole number from 0 to T − 1, or one for each sequence `[...]`. None: the last valid step that each
            direction processed.
        params, xs, loss, state, return_sequences, lengths, mask, reverse, merge, residual, cell: as for
            `gradient_paths`.

    Returns:
        `GradientSpans` in the form that `trace` has. Both are ∂L/∂c_s at s, and zero at steps processed after it;
        all zero where s is not valid.

    Raises:
        ValueError: loss gives no single number, or an argument does not fit the others.

    Example:
        >>> from lstmjax import init_params
        >>> params = init_params(jax.random.key(0), 5, 8)
        >>> spans = gradient_spans(params, jnp.ones((2, 100, 5)), lambda ys: ys[:, -1].sum())
        >>> spans.cell.shape, spans.whole.shape
        ((2, 100, 8), (2, 100, 8))
    """
    how = {"lengths": lengths, "mask": mask, "reverse": reverse, "merge": merge, "residual": residual, "cell": cell}
    row, xs = find_cell(cell), as_array("xs", xs)
    if at is not None:
        at = as_array("at", at)
        _check_at(at, xs)
    layers, state = of_one_layer(params, state)
    found = []
    for run, backwards in _runs(layers, xs, loss, state, return_sequences, how):
        s = at if at is None or not backwards else xs.shape[-2] - 1 - at
        found.append(_beside_xs(_spans(run, s, row), xs, backwards))
    return in_form_of(params, _layered(layers, found))


def _runs(
    params: LSTMParams | Layers | NetworkParams,
    xs: Array,
    loss: Callable[[Array], Array],
    state: PyTree | None,
    return_sequences: bool | None,
    how: dict[str, Any],
) -> list[tuple[_Run, bool]]:
    """Gives every direction of every layer, in the order in which they are run, and whether it runs backwards."""
    fields = ("c", "m", "z_i", "z_f", "z_g", "z_o")
    flow = in_order(gradient_flow(params, xs, loss, state, return_sequences=return_sequences, fields=fields, **how))
    entered: list[tuple] = []

    def run(part: LSTMParams, xs: Array, state: PyTree | None = None, **options: Any) -> tuple[PyTree, Array]:
        end, steps = lstm(part, xs, state, **options | {"emit": "step"})
        entered.append((part, xs, state, options.get("reverse", False), steps))
        return end, steps.h

    apart = {name: value for name, value in how.items() if name not in ("reverse", "merge", "residual")}
    if isinstance(params, LSTMParams):
        run(jax.tree.map(jnp.asarray, params), xs, state, reverse=how["reverse"], **apart)
    else:
        layers = params.layers if isinstance(params, NetworkParams) else params
        stacked(layers, xs, state, merge=how["merge"], residual=how["residual"], run=run, **apart)
    valid = valid_steps(xs, how["lengths"], how["mask"], False)
    valid = jnp.ones(xs.shape[:-1], bool) if valid is None else valid
    found = []
    for (part, below, begin, backwards, step), gradient in zip(entered, flow, strict=True):
        below = jnp.where(valid[..., None], below, 0)
        below, now, step, gradient = (
            jax.tree.map(lambda a: _processed(a, xs, backwards), tree)  # noqa: B023
            for tree in (below, valid, step, gradient)
        )
        found.append((_Run(part, below, begin, now, step, gradient), backwards))
    return found


def _processed(a: Array, xs: Array, reverse: bool) -> Array:
    """Gives an array `[..., T, *]` on the axes of xs in the order of processing, `[T, ..., *]`."""
    a = jnp.moveaxis(a, xs.ndim - 2, 0)
    return jnp.flip(a, 0) if reverse else a


def _beside_xs(tree: PyTree, xs: Array, reverse: bool) -> PyTree:
    """Gives arrays in the order of processing `[T, ..., H]` beside xs again, `[..., T, H]`."""
    return jax.tree.map(lambda a: jnp.moveaxis(jnp.flip(a, 0) if reverse else a, 0, xs.ndim - 2), tree)


@partial(jax.jit, static_argnames="cell")
def _split(run: _Run, cell: Cell) -> GradientPaths:
    """Gives the parts of ∂L/∂c_t."""
    params, steps, flow = run.params, run.steps, run.flow
    beginning = (None, None, *(None for _ in cell.feeds)) if run.state is None else run.state
    h, *fed = (
        _held(getattr(steps, name), run.valid, None if first is None else first.astype(getattr(steps, name).dtype))
        for name, first in zip(("h", *cell.feeds), (beginning[0], *beginning[2:]), strict=True)
    )

    def pre_activations(h: Array, c: Array, new: Array) -> dict[str, Array | None]:
        z, w_c = gate_sums(params, cell, run.xs, h, fed, product), peepholes(params, cell)
        seen = {name: new if name == "o" else c for name in cell.blocks}  # o sees the new c
        return {name: cell.pre_activation(params, name, peep(z[name], w_c.get(name), c)) for name, c in seen.items()}

    before = _c_before(run)
    _, back = jax.vjp(pre_activations, h, before, steps.c)
    into_h, into_old, into_new = back({name: getattr(flow, f"z_{name}") for name in cell.blocks})

    def projected(m: Array) -> Array:
        return project(params, cell, m, product)

    into_m = jax.vjp(projected, steps.m.astype(h.dtype))[1](_from_next(run, into_h))[0]  # of m_t, by the gates of t + 1
    recurrent = _into_c(run, cell, into_m.astype(flow.m.dtype))
    both = _into_c(run, cell, flow.m)
    carried = _from_next(run, _cell_back(params, cell, steps, before)(flow.c))
    seen_by_gates = None if params.w_c is None else _from_next(run, into_old) + into_new
    return GradientPaths(flow.c, carried, recurrent, both - recurrent, seen_by_gates)


def _into_c(run: _Run, cell: Cell, into_m: Array) -> Array:
    """Gives what a gradient with respect to m is with respect to c: o ⊙ tanh'(c) times it."""
    _, back = jax.vjp(lambda c: cell.squash(cell.inside(run.params, c)), run.steps.c)
    return back(run.steps.o * into_m)[0]


def _cell_back(params: LSTMParams, cell: Cell, steps: Step, before: Array) -> Callable[[Array], Array]:
    """Gives what turns a gradient with respect to c_t into one to c_{t−1} with the gates held: multiplying by f_t."""
    _, back = jax.vjp(lambda c: cell.carry(params, steps.f * c + steps.i * steps.g), before)
    return lambda gradient: back(gradient)[0]


@partial(jax.jit, static_argnames="cell")
def _spans(run: _Run, at: Array | None, cell: Cell) -> GradientSpans:
    """Gives what ∂L/∂c_s leaves at every step; at: s in the order of processing, or None for the last valid step."""
    if at is None:
        later = _from_next(run, jnp.ones_like(run.flow.c))[..., 0] > 0
        here = run.valid & ~later
    else:
        steps = jax.lax.broadcasted_iota(jnp.int32, run.valid.shape, 0)
        here = (steps == jnp.broadcast_to(at.astype(jnp.int32), run.valid.shape)) & run.valid
    source = jnp.where(here[..., None], run.flow.c, 0)

    def body(arriving: Array, now: tuple) -> tuple[Array, Array]:
        own, valid, step, before = now
        found = jnp.where(valid[..., None], arriving + own, 0)
        back = _cell_back(run.params, cell, step, before)(found)
        return jnp.where(valid[..., None], back, arriving), found

    steps = (source, run.valid, run.steps, _c_before(run))
    _, alone = jax.lax.scan(body, jnp.zeros(source.shape[1:], source.dtype), steps, reverse=True)

    def c(added: Array) -> Array:
        added = NONE._replace(c=added)
        how: Any = {"mask": run.valid, "time_major": True, "cell": cell, "fields": "c", "perturb": added}
        return trace(run.params, run.xs, run.state, **how).c

    return GradientSpans(alone, jax.vjp(c, jnp.zeros_like(source))[1](source)[0])


def _c_before(run: _Run) -> Array:
    """Gives the c that each step starts from."""
    c = run.steps.c
    return _held(c, run.valid, None if run.state is None else run.state[1].astype(c.dtype))


def _from_next(run: _Run, values: Array) -> Array:
    """Gives the value at the valid step after each, 0 after the last; 0 at steps that are not valid."""
    return jnp.where(run.valid[..., None], _held(values, run.valid, reverse=True), 0)


def _held(values: Array, valid: Array, first: Array | None = None, reverse: bool = False) -> Array:
    """Gives the value at the valid step before each (after, in reverse), and `first` or 0 where there is none."""

    def body(last: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        value, valid = now
        return jnp.where(valid[..., None], value, last), last

    start = jnp.broadcast_to(jnp.zeros((), values.dtype) if first is None else first, values.shape[1:])
    return jax.lax.scan(body, start, (values, valid), reverse=reverse)[1]


def _check_at(at: Array, xs: Array) -> None:
    batch, steps = xs.shape[:-2], xs.shape[-2]
    if at.shape not in ((), batch) or not jnp.issubdtype(at.dtype, jnp.integer):
        raise ValueError(
            f"at is {at.dtype} {at.shape}, expected a whole number, or one for each sequence, {batch}: the step s."
        )
    if not isinstance(at, jax.core.Tracer) and at.size and not (int(at.min()) >= 0 and int(at.max()) < steps):
        raise ValueError(f"at holds {int(at.min())} to {int(at.max())}, expected 0 to T - 1 = {steps - 1}.")


def _layered(params: LSTMParams | Layers | NetworkParams, found: list) -> Any:
    """Gives what was found for each direction in the form that `trace` has."""
    if isinstance(params, LSTMParams):
        return found[0]
    each = iter(found)
    layers = params.layers if isinstance(params, NetworkParams) else params
    return tuple(
        Bidirectional(next(each), next(each)) if isinstance(layer, Bidirectional) else next(each) for layer in layers
    )
