r"""Fixed and slow points: states that do not change, or hardly change, under a constant input.

Under a constant input the step is a map F of the state s = (h, c). Where q(s) = ½ ‖F(s, x) − s‖² is 0 the state
stays for ever; where it is small but not 0 it stays for long (Sussillo & Barak 2013). The eigenvalues of dF/ds tell
what happens near such a point: a direction with a magnitude below 1 is attracted, above 1 repelled, and near 1 it is
remembered. A slow point is a minimum of q above 0. One eigenvalue is 1 there, since (dF/ds − 1)ᵀ (F(s, x) − s) = 0:
such a point remains where two fixed points have met and vanished.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, check_number, check_positive, kind
from lstmjax.arrays import valid_steps
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA, Cell
from lstmjax.inside.motion import (
    Move,
    check_one_direction,
    motion,
    parts,
    prepare,
    pushed,
    side_by_side,
    unit_directions,
)
from lstmjax.types import Array, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class FixedPoints(NamedTuple):
    """The points at which searches from N starts ended. S = P + H (P + 4H for the cell fgr)."""

    state: tuple[Array, ...]  # h [N, P], c [N, H], and the gates that a cell feeds back, [N, H]
    speeds: Array  # [N]    q = ½ ‖F(s, x) − s‖²: 0 at a fixed point, small at a slow one
    eigenvalues: Array  # [N, S] complex, of dF/ds, the largest magnitude first
    radius: Array  # [N]    the largest magnitude: below 1 the point attracts
    distinct: Array  # [N]    bool, True for the slowest of each group of equal points

    @property
    def h(self) -> Array:
        """The h of each point, `[N, P]`."""
        return self.state[0]

    @property
    def c(self) -> Array:
        """The c of each point, `[N, H]`."""
        return self.state[1]

    @property
    def stable(self) -> Array:
        """True for points that attract in every direction, bool `[N]`."""
        return self.radius < 1


def fixed_points(
    params: LSTMParams,
    x: ArrayLike,
    starts: tuple[ArrayLike, ...],
    *,
    lengths: ArrayLike | None = None,
    iterations: int = 100,
    tolerance: float | None = None,
    same: float = 1e-3,
    cell: Cell | str = VANILLA,
    wrappers: tuple[Wrapper, ...] = (),
) -> FixedPoints:
    """Search the fixed and slow points of the step under a constant input, from many starts.

    From each start, q(s) = ½ ‖F(s, x) − s‖² is minimised by the method of Levenberg and Marquardt (Marquardt 1963).
    Near a fixed point, stable or not, it converges as Newton's method does; `speeds` tells slow points from fixed ones.

    Args:
        params: `LSTMParams`, one layer in one direction.
        x: the constant input, `[I]`; for several inputs use `jax.vmap`.
        starts: (h `[N, P]`, c `[N, H]`), states to start from; states of real runs lead to the points near these runs.
            With `lengths` those of a trace, (h `[..., T, P]`, c `[..., T, H]`).
        lengths: valid steps of each sequence of starts, whole numbers `[...]`: each valid state is a start, those of
            padding are not. None: starts have no axis of steps.
        iterations: the largest number of steps of a search.
        tolerance: a search ends where q is not above this. None: S times the square of the rounding error.
        same: points that differ by no more than this in every number count as equal; see `distinct_points`.
        cell, wrappers: as for `lstm`; wrappers behave as at evaluation.

    Returns:
        `FixedPoints`: states, speeds, eigenvalues, spectral radius, and which points are distinct. Not every search
        converges; `points.distinct & (points.speeds < 1e-12)` selects those that did. NaN where the start was not
        finite. Half precision is computed in float32.

    Raises:
        ValueError: x or starts do not fit the parameters.
        TypeError: params is not `LSTMParams`, or starts is no tuple.
        NotImplementedError: on a TPU, where JAX has no eigenvalues of general matrices. Call it there inside
            `jax.default_device(jax.devices("cpu")[0])`, with params and x as NumPy arrays.

    Example:
        >>> params = LSTMParams(jnp.zeros((5, 4, 3)), jnp.zeros((3, 4, 3)), jnp.ones((4, 3)))  # c = i g / (1 - f)
        >>> points = fixed_points(params, jnp.zeros(5), (jnp.zeros((2, 3)), jnp.zeros((2, 3))))
        >>> print(points.distinct, round(float(points.c[0, 0]), 3), round(float(points.radius[0]), 3))
        [ True False] 2.07 0.731
    """
    check_one_direction(params)
    check_positive("iterations", iterations)
    x = as_array("x", x)
    for name, number in (("tolerance", tolerance), ("same", same)):
        if number is not None:
            check_number(name, number)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}, expected [I], one input that stays. For several inputs use jax.vmap.")
    if several := checks.ensemble(params):
        raise ValueError(several)
    checks.check_features("x", x, params, "[I]")
    if lengths is not None:
        starts = _valid_states(starts, lengths)
    xs = jnp.broadcast_to(x, (_number_of(starts), 1, x.shape[-1]))  # a sequence of one step for each start
    options, arrays = prepare(params, xs, starts, cell=cell, wrappers=wrappers, name="starts")
    if tolerance is None:
        tolerance = sum(a.shape[-1] for a in arrays[2]) * float(jnp.finfo(arrays[1].dtype).eps) ** 2
    return _search(arrays, tolerance, same, iterations=iterations, **options)


def distinct_points(state: tuple[Array, ...], speeds: Array, same: ArrayLike = 1e-3) -> Array:
    """Return which points are the slowest of each group of equal points, bool `[N]`.

    Taken in the order of their speeds, a point is distinct if it differs from every distinct point before it by more
    than `same` in some number.

    Args:
        state: h `[N, P]`, c `[N, H]`, as in `FixedPoints`.
        speeds: `[N]`.
        same: the largest difference, in any number, of two points that count as equal.

    >>> points = jnp.array([[1.0], [1.00001], [2.0]])
    >>> print(distinct_points((points, points), jnp.array([1e-9, 0.0, 0.0])))
    [False  True  True]
    """
    if not isinstance(state, tuple) or not state:
        raise TypeError(f"state is {kind(state)}, expected the tuple (h, c), as FixedPoints has it.")
    s = side_by_side(as_arrays("state", state))
    speeds, same = as_array("speeds", speeds), as_array("same", same)
    if speeds.shape != s.shape[:1]:
        raise ValueError(
            f"speeds has shape {speeds.shape}, expected {s.shape[:1]}, one number for each point of state."
        )
    if same.shape != ():
        raise ValueError(f"same has shape {same.shape}, expected one number.")
    slowest_first = jnp.argsort(speeds)

    def body(distinct: Array, n: Array) -> tuple[Array, None]:
        near = jnp.abs(s - s[n][None]).max(-1) <= same
        return distinct.at[n].set(~jnp.any(distinct & near)), None

    return jax.lax.scan(body, jnp.zeros(s.shape[0], bool), slowest_first)[0]


@partial(jax.jit, static_argnames=("step", "wrappers", "iterations"))
def _search(
    arrays: tuple, tolerance: Array, same: Array, *, iterations: int, step: CellStep, wrappers: tuple[Wrapper, ...]
) -> FixedPoints:
    move, s, inputs = motion(*arrays, step=step, wrappers=wrappers)
    constant = jax.tree.map(lambda a: a[0], inputs)
    s, speeds, jacobians = _descend(move, s, constant, tolerance, iterations)
    values = jnp.linalg.eigvals(jacobians)
    sizes = jnp.abs(values)
    values = jnp.take_along_axis(values, jnp.argsort(-sizes, axis=-1), axis=-1)
    points = parts(s, arrays[0])
    return FixedPoints(points, speeds, values, sizes.max(-1), distinct_points(points, speeds, same))


class _Search(NamedTuple):
    s: Array  # [N, S]
    residual: Array  # [N, S]  F(s) − s
    jacobian: Array  # [N, S, S]  dF/ds
    damping: Array  # [N]


MAX_DAMPING = 1e10  # with more, steps are below the rounding error: q cannot be made smaller


def _descend(move: Move, s: Array, inputs: PyTree, tolerance: Array, iterations: int) -> tuple[Array, Array, Array]:
    """Return points `[N, S]`, their q `[N]` and dF/ds there, by damped Gauss-Newton steps.

    A step solves (JᵀJ + λ) δ = −Jᵀ r with r = F(s) − s and J = dF/ds − 1. If it makes q smaller, it is taken and the
    damping λ is divided by 10; else λ is multiplied by 10.
    """
    eye = unit_directions(s)
    least = float(jnp.finfo(s.dtype).eps)  # JᵀJ alone is singular where an eigenvalue is 1

    def at(s: Array, damping: Array) -> _Search:
        value, jacobian = pushed(lambda s: move(s, inputs), s, eye)
        return _Search(s, value - s, jacobian, damping)

    def active(search: _Search) -> Array:
        return (speed(search) > tolerance) & (search.damping < MAX_DAMPING)

    def body(carry: tuple[Array, _Search]) -> tuple[Array, _Search]:
        n, old = carry
        jac = old.jacobian - eye
        normal = jnp.einsum("nij,nik->njk", jac, jac) + old.damping[:, None, None] * eye
        slope = jnp.einsum("nij,ni->nj", jac, old.residual)
        new = at(old.s - jnp.linalg.solve(normal, slope[..., None])[..., 0], jnp.maximum(old.damping / 10, least))
        rejected = old._replace(damping=jnp.where(active(old), old.damping * 10, old.damping))
        accept = active(old) & (speed(new) < speed(old))
        return n + 1, jax.tree.map(lambda a, b: jnp.where(_broadcast(accept, a), a, b), new, rejected)

    def any_active(carry: tuple[Array, _Search]) -> Array:
        return (carry[0] < iterations) & jnp.any(active(carry[1]))

    _, search = jax.lax.while_loop(any_active, body, (jnp.int32(0), at(s, jnp.full_like(s[:, 0], 1e-2))))
    return search.s, speed(search), search.jacobian


def speed(search: _Search) -> Array:
    """Return q = ½ ‖F(s) − s‖², `[N]`."""
    return 0.5 * jnp.square(search.residual).sum(-1)


def _broadcast(flags: Array, a: Array) -> Array:
    """Return flags `[N]` in the shape of an array `[N, ...]`."""
    return jnp.broadcast_to(flags.reshape(-1, *[1] * (a.ndim - 1)), a.shape)


def _valid_states(starts: Any, lengths: ArrayLike) -> tuple[Array, ...]:
    """Return the states `[N, *]` of the valid steps of arrays `[..., T, *]`, sequence after sequence."""
    if not isinstance(starts, tuple) or not starts or any(np.ndim(a) < 2 for a in starts):
        shapes = ", ".join(str(np.shape(a)) for a in jax.tree.leaves(starts))
        raise ValueError(
            f"starts is {kind(starts)} of shapes {shapes}, expected with lengths (h [..., T, P], c [..., T, H]), the "
            "states of a trace."
        )
    arrays = [as_array("starts", a) for a in starts]
    if any(isinstance(a, jax.core.Tracer) for a in (*arrays, lengths)):
        raise TypeError(
            "starts or lengths are traced, but how many states are valid depends on their values. Select them before "
            "jax.jit, and pass starts [N, H] without lengths."
        )
    valid = np.asarray(valid_steps(arrays[0], lengths, None, False))
    return tuple(a[valid] for a in arrays)


def _number_of(starts: Any) -> int:
    """Return N; refuse starts that are no tuple of arrays with a leading axis of N."""
    if not isinstance(starts, tuple):
        raise TypeError(f"starts is {kind(starts)}, expected a tuple (h, c): h [N, P] and c [N, H].")
    shapes = [jnp.shape(a) for a in starts]
    if not shapes or any(len(shape) != 2 or not shape[0] for shape in shapes) or len({n for n, _ in shapes}) > 1:
        raise ValueError(
            f"starts has the shapes {', '.join(map(str, shapes))}, expected h [N, P] and c [N, H] with one N of "
            "at least 1: a row for each start. Flatten further axes with .reshape(-1, H); for one start use h[None]."
        )
    return shapes[0][0]
