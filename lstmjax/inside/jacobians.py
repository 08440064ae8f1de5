r"""How a state depends on an earlier state: Jacobians of single steps and of spans, and how fast they grow.

The state is one vector, s = (h, c), `[S]` with S = P + H (the cell fgr carries three gates behind them, P + 4H), and
J_t = ∂s_t/∂s_{t−1} at a fixed input. Along a run

    ∂s_t/∂s_0 = J_t ··· J_1,     exponents = lim 1/T log(singular values of J_T ··· J_1)

The exponents are Lyapunov exponents, computed by a QR decomposition at every step (Benettin et al. 1980; for recurrent
networks and their gradients, Engelken, Wolf & Abbott 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_arrays, as_flags, as_whole, check_function, check_positive, kind
from lstmjax.cell import CellStep
from lstmjax.inside.motion import motion, prepare, pushed, unit_directions
from lstmjax.keywords import accepted, takes
from lstmjax.layer import lstm
from lstmjax.options import StepOptions
from lstmjax.types import Array, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def _prepared(params: Any, xs: ArrayLike, state: PyTree | None, options: StepOptions) -> tuple[dict[str, Any], tuple]:
    """Return what jit holds fixed (the step, its wrappers, the direction), and the arrays of a run."""
    (reverse,) = as_flags(reverse=options["reverse"])
    static, arrays = prepare(params, xs, state, **accepted(prepare, options))
    return static | {"reverse": bool(reverse)}, arrays


@takes(StepOptions, lstm)
def step_jacobians(
    params: LSTMParams, xs: ArrayLike, state: PyTree | None = None, **options: Unpack[StepOptions]
) -> Array:
    """Return the Jacobian of every step, ∂(h, c)_t / ∂(h, c)_{t−1}, at a fixed input.

    Args:
        params: `LSTMParams`, one layer in one direction.
        xs: inputs `[..., T, I]`.
        state, lengths, reverse, cell, wrappers: as for `lstm`; wrappers behave as at evaluation.

    Returns:
        `[..., T, S, S]`, S = P + H: rows are the new h and c, columns the old h and c. With `reverse` the Jacobian at t
        is that of the step that processed xs[t]. At steps that are not valid it is the identity. Half precision is
        computed in float32. The result has T·S² numbers for each sequence: for long runs of many units see
        `state_jacobian` and `lyapunov_spectrum`.

    Raises:
        TypeError: params is not `LSTMParams`.
        ValueError: an argument does not fit the others.

    Example:
        >>> params = LSTMParams(jnp.ones((5, 4, 3)), jnp.ones((3, 4, 3)), jnp.zeros((4, 3)))
        >>> step_jacobians(params, jnp.ones((2, 7, 5))).shape
        (2, 7, 6, 6)
    """
    static, arrays = _prepared(params, xs, state, options)
    return jnp.moveaxis(_step_jacobians(*arrays, **static), 0, -3)


@partial(jax.jit, static_argnames=("step", "wrappers", "reverse"))
def _step_jacobians(*arrays: Any, step: CellStep, wrappers: tuple[Wrapper, ...], reverse: bool) -> Array:
    move, s, inputs = motion(*arrays, step=step, wrappers=wrappers)

    def body(s: Array, inputs: PyTree) -> tuple[Array, Array]:
        return pushed(lambda s: move(s, inputs), s, unit_directions(s))

    return jax.lax.scan(body, s, inputs, reverse=reverse)[1]


@takes(StepOptions, lstm)
def state_jacobian(
    params: LSTMParams,
    xs: ArrayLike,
    start: int,
    stop: int,
    state: PyTree | None = None,
    **options: Unpack[StepOptions],
) -> Array:
    """Return ∂(h, c) after `stop` steps / ∂(h, c) after `start` steps: the product of the Jacobians between them.

    Steps are counted as in slices: (0, T) is from the state that the run starts from to its last state, and
    (s + 1, t + 1) from the state after xs[s] to the state after xs[t]. Small singular values of the product are lost in
    the rounding of the largest; `singular_values(step_jacobians(...)[..., start:stop, :, :])` has all of them.

    Args:
        params: `LSTMParams`, one layer in one direction.
        xs: inputs `[..., T, I]`.
        start, stop: 0 ≤ start ≤ stop ≤ T, in the order of processing.
        state, lengths, reverse, cell, wrappers: as for `lstm`; wrappers behave as at evaluation.

    Returns:
        `[..., S, S]`: rows are the later h and c, columns the earlier. The identity if start equals stop.

    Raises:
        TypeError: params is not `LSTMParams`, or start or stop is not a whole number.
        ValueError: an argument does not fit the others.

    Example:
        >>> params = LSTMParams(jnp.ones((5, 4, 3)), jnp.ones((3, 4, 3)), jnp.zeros((4, 3)))
        >>> state_jacobian(params, jnp.ones((2, 7, 5)), 0, 7).shape
        (2, 6, 6)
    """
    static, arrays = _prepared(params, xs, state, options)
    span = as_whole("start", start), as_whole("stop", stop)
    steps = arrays[1].shape[0]
    if not 0 <= span[0] <= span[1] <= steps:
        raise ValueError(
            f"start is {start} and stop is {stop}, expected 0 <= start <= stop <= T = {steps}: the states after that "
            "many steps, of which 0 is the one to start from."
        )
    return _span(*arrays, **static, span=span)


@partial(jax.jit, static_argnames=("step", "wrappers", "reverse", "span"))
def _span(*arrays: Any, step: CellStep, wrappers: tuple[Wrapper, ...], reverse: bool, span: tuple[int, int]) -> Array:
    move, s, inputs = motion(*arrays, step=step, wrappers=wrappers)
    steps, (start, stop) = arrays[1].shape[0], span

    def between(first: int, last: int) -> PyTree:
        """Return the inputs of the steps from first to before last, in the order of processing."""
        window = slice(steps - last, steps - first) if reverse else slice(first, last)
        return jax.tree.map(lambda a: a[window], inputs)

    def body(carry: tuple[Array, Array], inputs: PyTree) -> tuple[tuple[Array, Array], None]:
        s, product = carry
        return pushed(lambda s: move(s, inputs), s, product), None

    s, _ = jax.lax.scan(lambda s, inputs: (move(s, inputs), None), s, between(0, start), reverse=reverse)
    return jax.lax.scan(body, (s, unit_directions(s)), between(start, stop), reverse=reverse)[0][1]


@takes(StepOptions, lstm)
def lyapunov_spectrum(
    params: LSTMParams,
    xs: ArrayLike,
    state: PyTree | None = None,
    *,
    count: int | None = None,
    warmup: int = 0,
    **options: Unpack[StepOptions],
) -> Array:
    """Return the Lyapunov exponents of a run: how fast, per step, small differences of the state grow or fade.

    An exponent λ is a factor of e^λ per step: 0 remembers, −0.1 forgets in about ten steps, above 0 is chaos. `count`
    orthonormal directions are carried with the state. Each step multiplies them by J_t and makes them orthonormal again
    by a QR decomposition; the exponents are the means of log |diag R| over the steps (Benettin et al. 1980; Engelken et
    al. 2023). The product of the J_t itself would underflow, and all its columns would turn into the first direction.

    Args:
        params: `LSTMParams`, one layer in one direction. A stack has the exponents of all its layers, each with the
            outputs of the layer below as xs, since no layer acts on those below it.
        xs: inputs `[..., T, I]`.
        count: the number of exponents, the largest first; None: all S = P + H. Fewer cost less. On a CPU the QR is
            LAPACK's, whose threads wait for each other when other programs use the cores: H = 64 and T = 200 take 0.3 s
            with OPENBLAS_NUM_THREADS=1 set before Python starts, and 4 to 20 s beside other jobs without it.
        warmup: the number of steps at the start that turn the directions without being counted. The directions are
            random at first, which leaves an error of the order of 1/T; some tens of steps remove most of it.
        state, lengths, reverse, cell, wrappers: as for `lstm`; wrappers behave as at evaluation.

    Returns:
        `[..., count]`, natural logarithms per valid step, descending; NaN where no valid step is counted. A direction
        that the step maps to 0 has the exponent −∞, which shows as the logarithm of the rounding error: where the
        recurrent weights are 0, for instance, h has H exponents below −15 in float32.

    Raises:
        TypeError: params is not `LSTMParams`.
        ValueError: an argument does not fit the others.

    Example:
        >>> params = LSTMParams(jnp.zeros((5, 4, 3)), jnp.zeros((3, 4, 3)), jnp.ones((4, 3)))
        >>> exponents = lyapunov_spectrum(params, jnp.ones((60, 5)), count=3, warmup=40)
        >>> [round(float(value), 4) for value in exponents]  # log f = log σ(1)
        [-0.3133, -0.3133, -0.3133]
    """
    static, arrays = _prepared(params, xs, state, options)
    steps, size = arrays[1].shape[0], sum(a.shape[-1] for a in arrays[2])
    if count is not None:
        check_positive("count", count)
        if count > size:
            raise ValueError(f"count is {count}, but the state has S = {size} numbers, and no more exponents.")
    if isinstance(warmup, bool) or not isinstance(warmup, int) or not 0 <= warmup < max(steps, 1):
        raise ValueError(f"warmup is {warmup!r}, expected a whole number of at least 0 and below T = {steps}.")
    return _exponents(*arrays, **static, count=size if count is None else as_whole("count", count), warmup=warmup)


@partial(jax.jit, static_argnames=("step", "wrappers", "reverse", "count", "warmup"))
def _exponents(
    *arrays: Any, step: CellStep, wrappers: tuple[Wrapper, ...], reverse: bool, count: int, warmup: int
) -> Array:
    move, s, inputs = motion(*arrays, step=step, wrappers=wrappers)
    _, xs, _, valid, _ = arrays
    q = jnp.broadcast_to(_random_directions(s.shape[-1], count, s.dtype), (*s.shape, count))
    order = jnp.arange(len(xs))[:: -1 if reverse else 1]
    counted = (order >= warmup).reshape(-1, *[1] * (xs.ndim - 2))
    counted = jnp.broadcast_to(counted, xs.shape[:-1]) if valid is None else counted & valid

    def body(carry: tuple[Array, Array], inputs: PyTree) -> tuple[tuple[Array, Array], Array]:
        s, q = carry
        s, product = pushed(lambda s: move(s, inputs), s, q)
        q, r = jnp.linalg.qr(product)
        return (s, q), jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))

    _, logs = jax.lax.scan(body, (s, q), inputs, reverse=reverse)  # [T, ..., count]
    means = jnp.where(counted[..., None], logs, 0).sum(0) / counted.sum(0)[..., None].astype(logs.dtype)
    return -jnp.sort(-means, axis=-1)


def _random_directions(size: int, count: int, dtype: Any) -> Array:
    """Return orthonormal directions `[S, count]`, the same at every call; random, so that no exponent is missed."""
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, size), dtype)[:, :count])[0]


def hessian_vector_product(loss: Callable[[PyTree], Array], params: PyTree, direction: PyTree) -> PyTree:
    """Return the Hessian of a loss times a direction, exactly, for the cost of a few gradients.

    Forward over reverse (Pearlmutter 1994): the derivative of the gradient along the direction. The Hessian itself is
    never computed.

    Args:
        loss: `loss(params)` -> one number.
        params: the point at which to differentiate: any pytree of floating-point arrays, such as `LSTMParams` or
            `NetworkParams`.
        direction: a pytree in the form of params.

    Returns:
        ∂²loss/∂params² · direction, in the form of params.

    Raises:
        ValueError: direction is not in the form of params, or loss returns no single number.

    Example:
        >>> print(hessian_vector_product(lambda x: (x**3).sum(), jnp.array([1.0, 2.0]), jnp.array([1.0, 10.0])))
        [  6. 120.]
    """
    check_function("loss", loss, "loss(params) -> one number")
    params, direction = as_arrays("params", params), as_arrays("direction", direction)
    checks.check_alike("direction", direction, params, "params")
    for (path, a), b in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(direction), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(
                f"direction{jax.tree_util.keystr(path)} is {b.dtype} {b.shape}, expected {a.dtype} {a.shape}, as in "
                "params."
            )
    return jax.jvp(jax.grad(lambda params: one_number(loss(params))), (params,), (direction,))[1]


def one_number(value: Any) -> Array:
    """Return the value of a loss; refuse it if it is not one floating-point number."""
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        what = f"{value.dtype} {value.shape}" if hasattr(value, "shape") else kind(value)
        raise ValueError(
            f"loss gives {what}, expected one floating-point number, shape (). Take .mean() or .sum() of what it gives."
        )
    return value
