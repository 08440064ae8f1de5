r"""Singular values of a long product of matrices, without the product.

The product J_T ··· J_1 as one matrix only has the largest singular value: its columns turn into the same direction,
whatever is below 10⁻¹⁶ of the largest is lost in rounding, and after some hundred steps everything underflows. So the
product is held as Q · e^l · W, with Q orthogonal and W triangular with rows of length 1; the logarithms l absorb the
growth and the decay. Each step multiplies by J and makes a QR decomposition (Benettin et al. 1980). At the end,
rotations make the rows of e^l · W orthogonal. This is the one-sided Jacobi method on rows, which computes small
singular values as exactly as large ones (Demmel & Veselić 1992): a row is never added to a smaller one at the scale of
the larger one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import as_array, as_flags
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import ArrayLike

SWEEPS = 30  # at most; each makes the cosines quadratically smaller, so that 5 to 10 are enough


def singular_values(jacobians: ArrayLike, *, log: bool = False) -> Array:
    """Return the singular values of the product J_T ··· J_1, the largest first, for any number of factors.

    Args:
        jacobians: `[..., T, S, S]`, the factor that is applied first in the first place, as `step_jacobians` returns
            them; for a reverse run flip them, `jnp.flip(jacobians, -3)`. For each step on its own pass
            `jacobians[..., None, :, :]`.
        log: return natural logarithms, which do not underflow.

    Returns:
        `[..., S]`. A direction that a factor maps to 0 has the rounding error of that factor, not an exact 0.

    Raises:
        ValueError: jacobians is not an array of square matrices on an axis of steps.

    Example:
        >>> halves = jnp.broadcast_to(jnp.diag(jnp.array([0.5, 0.9])), (1000, 2, 2))
        >>> [round(float(value), 2) for value in singular_values(halves, log=True)]  # 1000 log 0.9, 1000 log 0.5
        [-105.36, -693.15]
    """
    jacobians = as_array("jacobians", jacobians)
    (log,) = as_flags(log=log)
    if jacobians.ndim < 3 or jacobians.shape[-1] != jacobians.shape[-2]:
        raise ValueError(
            f"jacobians has shape {jacobians.shape}, expected [..., T, S, S], a square matrix for each step. For one "
            "matrix alone: jacobians[None]."
        )
    if not jnp.issubdtype(jacobians.dtype, jnp.floating):
        raise ValueError(f"jacobians is {jacobians.dtype}, expected floating-point numbers.")
    logs = _log_singular_values(jacobians)
    return logs if log else jnp.exp(logs)


@jax.jit
@partial(jnp.vectorize, signature="(t,s,s)->(s)")
def _log_singular_values(jacobians: Array) -> Array:
    size, dtype = jacobians.shape[-1], jacobians.dtype
    eye = jnp.eye(size, dtype=dtype)
    start = eye, jnp.zeros(size, dtype), eye
    (_, logs, rows), _ = jax.lax.scan(_multiply, start, jacobians)
    return -jnp.sort(-_orthogonalised(logs, rows))


def _multiply(product: tuple[Array, Array, Array], jacobian: Array) -> tuple[tuple[Array, Array, Array], None]:
    """Multiply Q · e^l · W by a matrix from the left: J Q = Q' R, and bring R e^l W into this form again.

    The largest rows come first, so that a row is only ever added to a larger one, and W stays far from singular.
    """
    q, logs, rows = product
    q, r = jnp.linalg.qr(jacobian @ q)
    eps, tiny = float(jnp.finfo(r.dtype).eps), float(jnp.finfo(r.dtype).tiny)
    diagonal = jnp.maximum(jnp.abs(jnp.diagonal(r)), jnp.maximum(eps**2 * jnp.abs(r).max(), tiny))
    after = logs + jnp.log(diagonal)
    upper = jnp.triu(jnp.ones_like(r, dtype=bool))
    growth = jnp.exp(jnp.where(upper, logs[None, :] - logs[:, None], 0))
    rows = jnp.where(upper, r / diagonal[:, None] * growth, 0) @ rows
    after, rows = _unit_rows(after, rows)
    order = jnp.argsort(-after)
    return (q[:, order], after[order], rows[order]), None


def _unit_rows(logs: Array, rows: Array) -> tuple[Array, Array]:
    """Return rows of length 1, with their lengths moved into the logarithms; a row of zeros stays."""
    lengths = jnp.sqrt(jnp.square(rows).sum(-1))
    lengths = jnp.where(lengths == 0, 1, lengths)
    return logs + jnp.log(lengths), rows / lengths[:, None]


def _orthogonalised(logs: Array, rows: Array) -> Array:
    """Return the logarithms of the lengths of the rows of e^l · W `[S, S]` after rotations make them orthogonal."""
    size = len(logs)
    rounds = jnp.asarray(_tournament(size))
    if size % 2:  # one row of zeros, so that every row has a partner
        logs, rows = jnp.append(logs, logs.min()), jnp.pad(rows, ((0, 1), (0, 0)))
    bound = size * float(jnp.finfo(rows.dtype).eps)

    def rotate(carry: tuple[Array, Array, Array], pairs: Array) -> tuple[tuple[Array, Array, Array], Any]:
        logs, rows, largest_cosine = carry
        first, second = pairs
        swap = logs[second] > logs[first]
        large, small = jnp.where(swap, second, first), jnp.where(swap, first, second)
        a, b = rows[large], rows[small]
        cosine = (a * b).sum(-1)
        ratio = jnp.exp(logs[small] - logs[large])  # of the small length to the large one
        gap = 1 - ratio**2
        root = gap + jnp.sqrt(gap**2 + (2 * ratio * cosine) ** 2)
        tangent = jnp.where(cosine == 0, 0, 2 * cosine / jnp.where(root == 0, 1, root))  # of the angle, over ratio
        cos = jax.lax.rsqrt(1 + (ratio * tangent) ** 2)
        rows = rows.at[large].set(cos[:, None] * (a + (ratio**2 * tangent)[:, None] * b))
        rows = rows.at[small].set(cos[:, None] * (b - tangent[:, None] * a))
        logs, rows = _unit_rows(logs, rows)
        return (logs, rows, jnp.maximum(largest_cosine, jnp.abs(cosine).max())), None

    def sweep(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        n, logs, rows, _ = carry
        (logs, rows, cosine), _ = jax.lax.scan(rotate, (logs, rows, jnp.zeros_like(bound, rows.dtype)), rounds)
        return n + 1, logs, rows, cosine

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        n, _, _, cosine = carry
        return (n < SWEEPS) & (cosine > bound)

    start = jnp.int32(0), logs, rows, jnp.ones((), rows.dtype)
    _, logs, _, _ = jax.lax.while_loop(unfinished, sweep, start)
    return logs[:size]


def _tournament(size: int) -> np.ndarray:
    """Return rounds `[rounds, 2, pairs]` in which every two of an even number of players meet once."""
    players, rounds = list(range(size + size % 2)), []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        rounds.append([players[:half], players[half:][::-1]])
        players = [players[0], players[-1], *players[1:-1]]
    return np.array(rounds)
