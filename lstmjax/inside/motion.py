"""A step as a function of one vector, of which Jacobians and fixed points are computed.

The vector is the state s = (h, c), with the gates that a cell feeds back behind them: `[S]` with S = P + H for all
cells but fgr, for which it is P + 4H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, kind
from lstmjax.arrays import cast, valid_steps
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.networks import NetworkParams
from lstmjax.published import find_cell
from lstmjax.states import initial_state
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Hold, Wrapper, compose, with_extras

if TYPE_CHECKING:
    from jax.typing import ArrayLike

Move = Callable[[Array, PyTree], Array]


def prepare(
    params: LSTMParams,
    xs: ArrayLike,
    state: PyTree | None,
    *,
    lengths: ArrayLike | None = None,
    cell: Cell | str | None = None,
    wrappers: tuple[Wrapper | tuple[Wrapper, tuple], ...] = (),
    name: str = "state",
) -> tuple[dict[str, Any], tuple]:
    """Return the arguments of `motion`, prepared as by `lstm`: keywords (step and wrappers), and arrays.

    Half precision is cast to float32, since the derivative of a rounded function means nothing.

    Args:
        params, xs, state, lengths, cell, wrappers: as for `lstm`.
        name: the name of the state in messages.
    """
    check_one_direction(params)
    step = CellStep(VANILLA if cell is None else find_cell(cell))
    wrappers, extras = checks.check_running(step, wrappers, None, 1)
    params = as_arrays("params", params)
    checks.check_params(params, step.cell)
    dtype = checks.cell_dtype(params.w_x.dtype)
    xs = as_array("xs", xs)
    checks.check_sequence(xs, params, False)
    valid = valid_steps(xs, lengths, None, False)
    if valid is not None:  # before the cast, so that `jax_debug_nans` does not see NaN in padding
        xs, valid = jnp.where(valid[..., None], xs, 0), jnp.moveaxis(valid, -1, 0)
    params, xs = cast(params, dtype), cast(xs, dtype)
    xs = jnp.moveaxis(xs, -2, 0)
    state = initial_state(params, xs, name, as_arrays(name, state), step=step, cast=True)
    return {"step": step, "wrappers": wrappers}, (params, xs, state, valid, extras)


def check_one_direction(params: object) -> None:
    """Refuse all parameters but those of one layer in one direction, and say how to get these."""
    if isinstance(params, LSTMParams):
        return
    remedy = "For layer n of a stack pass layers[n], and for xs what enters it: stacked(layers[:n], xs)[1]."
    if isinstance(params, Bidirectional):
        remedy = "Pass params.forward; or params.reverse, and reverse=True where there is such an argument."
    if isinstance(params, NetworkParams):
        remedy = "For layer n pass params.layers[n], and for xs what enters it: stacked(params.layers[:n], xs)[1]."
    raise TypeError(f"params is {kind(params)}, expected LSTMParams: the state of one layer in one direction. {remedy}")


def motion(
    params: LSTMParams,
    xs: Array,
    state: tuple[Array, ...],
    valid: Array | None,
    extras: tuple[tuple | None, ...],
    *,
    step: CellStep,
    wrappers: tuple[Wrapper, ...],
) -> tuple[Move, Array, PyTree]:
    """Return move(s, inputs) -> s', the vector s `[..., S]` to start from, and the inputs of every step, to be scanned.

    Args:
        params, xs, state: as for a scan, xs `[T, ..., I]`.
        valid: bool `[T, ...]`; a step that is not valid holds the state. None: all.
        extras: for each wrapper the pair that it would draw, or None.
        step, wrappers: the step and the wrappers around it.
    """
    wrapped = with_extras(wrappers, extras, None, xs, state)
    if valid is not None:
        wrapped.append((Hold(0), (None, valid)))
    wrapped_step, fixed, scanned = compose(step, wrapped)

    def move(s: Array, inputs: PyTree) -> Array:
        x, scanned = inputs
        extras = tuple(zip(fixed, scanned, strict=True))
        return side_by_side(wrapped_step(params, parts(s, params), x, extras)[0])

    return move, side_by_side(state), (xs, scanned)


def side_by_side(state: tuple[Array, ...]) -> Array:
    """Return a state as one vector `[..., S]`."""
    return jnp.concatenate(state, axis=-1)


def parts(s: Array, params: LSTMParams) -> tuple[Array, ...]:
    """Return the state (h, c, ...) of a vector `[..., S]`."""
    return tuple(jnp.split(s, [*range(params.output_size, s.shape[-1], params.hidden_size)], axis=-1))


def pushed(f: Callable[[Array], Array], s: Array, directions: Array) -> tuple[Array, Array]:
    """Return f(s) `[..., S]` and J · directions `[..., S, K]`, with J = df/ds of each sequence."""
    value, push = jax.linearize(f, s)
    return value, jax.vmap(push, in_axes=-1, out_axes=-1)(directions)


def unit_directions(s: Array) -> Array:
    """Return the identity for each sequence of s `[..., S]`: `[..., S, S]`."""
    return jnp.broadcast_to(jnp.eye(s.shape[-1], dtype=s.dtype), (*s.shape, s.shape[-1]))
