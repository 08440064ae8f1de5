"""How long a unit remembers, from its forget gate: a step keeps the fraction f_t of the old c."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_array, as_flags, check_floating, kind
from lstmjax.arrays import valid_steps
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def time_scale(f: Array, *, lengths: ArrayLike | None = None, mask: ArrayLike | None = None) -> Array:
    r"""Return τ = −1 / mean_t(log f), the number of steps in which each unit forgets all but 1/e: `[H]`.

    With a constant gate f, c decays as in a leaky integrator of the time constant τ: c·f^n = c·exp(−n/τ) (after Tallec
    & Ollivier 2018). If the gate is always 1, the unit never forgets and τ is infinite; if it is 0 at a single step, τ
    is 0.

    Args:
        f: forget gates `[..., T, H]`; the mean is over all leading axes.
        lengths: valid steps of each sequence, whole numbers `[...]`; None: all T.
        mask: valid steps, bool `[..., T]`. With lengths: both.

    Returns:
        `[H]`; NaN if no step is valid.

    Raises:
        TypeError: f is not an array.
        ValueError: f is not `[..., T, H]`.

    >>> [round(float(tau), 2) for tau in time_scale(jnp.array([[0.5, 0.9, 1.0, 0.0]]))]
    [1.44, 9.49, inf, 0.0]
    """
    f = forget_gates(f)
    valid = valid_steps(f, lengths, mask, False)
    valid = jnp.ones(f.shape[:-1], bool) if valid is None else valid
    axes = tuple(range(f.ndim - 1))
    lost = 0.0 - jnp.log(jnp.where(valid[..., None], f, 1))  # 0.0 − log 1 is 0, where −log 1 is −0
    return valid.sum().astype(f.dtype) / lost.sum(axes)


def half_life(f: Array, *, lengths: ArrayLike | None = None, mask: ArrayLike | None = None) -> Array:
    """Return τ · ln 2, the number of steps in which each unit forgets half: `[H]`; see `time_scale`.

    >>> half_life(jnp.array([[0.5, 1.0, 0.0]])).tolist()
    [1.0, inf, 0.0]
    """
    return time_scale(f, lengths=lengths, mask=mask) * math.log(2.0)


def retention(
    f: Array, spans: Sequence[int], *, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
) -> Array:
    """Return the fraction of c that remains after n steps, on average, for each n in `spans`: `[len(spans), H]`.

    This is the effective memory: the product of f over n consecutive steps, averaged over all places where such a span
    fits. (The mean is arithmetic. The geometric mean is exp(−n/τ), see `time_scale`; it is 0 if a unit forgot once,
    while the arithmetic mean also shows memories that are long from time to time.)

    Args:
        f: forget gates `[..., T, H]`; the mean is over all leading axes too.
        spans: numbers of steps, each from 0 (all of c remains) to T.
        lengths: valid steps of each sequence, whole numbers `[...]`; None: all T.
        mask: valid steps, bool `[..., T]`. With lengths: both. A span with a step that is not valid
            does not count.

    Returns:
        `[len(spans), H]`; NaN for a span that fits nowhere.

    Raises:
        TypeError: f is not an array, or spans is empty or not a list of numbers.
        ValueError: f is not `[..., T, H]`, or a span is not a whole number from 0 to T.

    >>> [round(float(part), 3) for part in retention(jnp.array([[0.5], [0.5], [1.0], [1.0]]), (0, 1, 2, 4))[:, 0]]
    [1.0, 0.75, 0.583, 0.25]
    """
    f = forget_gates(f)
    steps = f.shape[-2]
    if not hasattr(spans, "__len__") or not len(spans):
        raise TypeError(f"spans is {spans!r}, expected numbers of steps, one or several: spans=(1, 10, 40).")
    for span in spans:
        if isinstance(span, bool) or not hasattr(span, "__index__") or not 0 <= span <= steps:
            raise ValueError(f"spans holds {span!r}, expected whole numbers from 0 to T = {steps}, the steps in f.")
    valid = valid_steps(f, lengths, mask, False)
    valid = jnp.ones(f.shape[:-1], bool) if valid is None else valid
    axes = tuple(range(f.ndim - 1))

    def mean(span: int) -> Array:
        fits = windows(valid[..., None].astype(f.dtype), span)  # 1 where all steps are valid
        products = windows(jnp.where(valid[..., None], f, 0), span)
        return (products * fits).sum(axes) / fits.sum(axes)

    return jnp.stack([mean(int(span)) for span in spans])


def windows(f: Array, span: int) -> Array:
    """Return the product of every `span` consecutive steps, `[..., T − span + 1, H]`.

    It multiplies windows of 1, 2, 4, ... steps, log₂ span times, so that zeros, tiny and large numbers are as exact as
    in a loop; differences of running sums of logarithms are not.
    """
    steps = f.shape[-2]
    result = jnp.ones((*f.shape[:-2], steps + 1, f.shape[-1]), f.dtype)
    width, done = 1, 0  # f has the products of windows of `width` steps, result those of `done` steps
    while True:
        if span & width:
            result = result[..., : f.shape[-2] - done, :] * f[..., done:, :]
            done += width
        if 2 * width > span:
            return result[..., : steps - span + 1, :]
        f = f[..., : f.shape[-2] - width, :] * f[..., width:, :]
        width *= 2


def retained(
    f: Array, start: ArrayLike, stop: ArrayLike, *, reverse: bool = False, lengths: ArrayLike | None = None
) -> Array:
    """Return the fraction of the c of step `start` that remains at step `stop`: the product of f between them.

    Args:
        f: forget gates `[..., T, H]`.
        start, stop: steps counted from 0, whole numbers, the same for all sequences or `[...]`: the product is over the
            steps after start up to and including stop. A start of −1 is the initial state.
        reverse: the gates are those of a reverse direction, in which stop comes before start in xs.
        lengths: valid steps of each sequence, whole numbers `[...]`; None: all T. Steps of padding leave c as it is.

    Returns:
        `[..., H]`; 1 where start equals stop.

    Raises:
        TypeError: f is not an array.
        ValueError: f is not `[..., T, H]`, or start and stop are not steps in their order, which cannot be checked
            under jit.

    >>> round(float(retained(jnp.array([[0.5], [0.9], [0.8], [0.1]]), 0, 2)[0]), 3)
    0.72
    """
    f = forget_gates(f)
    (reverse,) = as_flags(reverse=reverse)
    start, stop = as_array("start", start), as_array("stop", stop)
    for name, at in (("start", start), ("stop", stop)):
        if not jnp.issubdtype(at.dtype, jnp.integer) or at.shape not in ((), f.shape[:-2]):
            raise ValueError(
                f"{name} has shape {at.shape} and dtype {at.dtype}, expected whole numbers: one, or {f.shape[:-2]}, "
                "one for each sequence."
            )
    _check_order(start, stop, f.shape[-2], reverse)
    valid = valid_steps(f, lengths, None, False)
    t = jnp.arange(f.shape[-2])
    start, stop = (jnp.broadcast_to(at[..., None], (*f.shape[:-2], t.size)) for at in (start, stop))
    t = jnp.broadcast_to(t, start.shape)
    between = (stop <= t) & (t < start) if reverse else (start < t) & (t <= stop)
    between = between if valid is None else between & valid
    return jnp.where(between[..., None], f, 1).prod(-2)


def forget_gates(f: object) -> Array:
    """Return gates `[..., T, H]` in at least single precision, so that long products keep their digits.

    Raises:
        TypeError: f is not an array; it is a `Step`, for instance.
        ValueError: f has no axis of steps, or no floating-point numbers.
    """
    if f is None or isinstance(f, tuple):
        raise TypeError(
            f"f is {kind(f)}, expected an array [..., T, H]: the f of one layer in one direction, such as "
            "trace(params, xs, fields='f').f."
        )
    f = as_array("f", f)
    check_floating("f", f.dtype)
    if f.ndim < 2:
        raise ValueError(f"f has shape {f.shape}, expected [..., T, H]. For one unit f[:, None], for one step f[None].")
    return f.astype(checks.cell_dtype(f.dtype))


def _check_order(start: Array, stop: Array, steps: int, reverse: bool) -> None:
    """Refuse a start and a stop that are not steps of f in the order of processing."""
    if isinstance(start, jax.core.Tracer) or isinstance(stop, jax.core.Tracer):
        return
    early, late, first, last = (stop, start, 0, steps) if reverse else (start, stop, -1, steps - 1)
    if bool(((early >= first) & (early <= late) & (late <= last)).all()):
        return
    order = f"0 <= stop <= start <= T = {steps}" if reverse else f"-1 <= start <= stop <= T - 1 = {steps - 1}"
    hint = "" if reverse else " For the gates of a reverse direction pass reverse=True."
    raise ValueError(f"start is {start.tolist()} and stop is {stop.tolist()}, expected {order}.{hint}")
