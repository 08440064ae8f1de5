"""Linear probes: what the cell states of a network hold, read out by a regression (Lees et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Probe(NamedTuple):
    """A linear map from the states of a network to a quantity outside of it."""

    weights: np.ndarray  # [H], of the states as they are
    bias: float

    def __call__(self, states: ArrayLike) -> np.ndarray:
        """Return the quantity that is read out of states `[..., H]`."""
        return np.asarray(states, np.float64) @ self.weights + self.bias


def fit_probe(states: ArrayLike, quantity: ArrayLike, *, ridge: float = 1e-3) -> Probe:
    """Fit a probe by ridge regression on standardised states.

    The probe is linear on purpose: what it reads must lie open in the states, and is not computed by the probe (Lees
    et al. 2022, section 2.4). Judge it on days and basins that it has not seen.

    Args:
        states: c (or h), `[N, H]`.
        quantity: what is looked for, `[N]`; NaN where it is not known.
        ridge: penalty of the squared weights, as a fraction of the number of rows.

    Raises:
        ValueError: the shapes do not fit, or no row is known.
    """
    x, y = np.asarray(states, np.float64), np.asarray(quantity, np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"states is {list(x.shape)} and quantity {list(y.shape)}, expected [N, H] and [N].")
    known = ~np.isnan(y)
    if not known.any():
        raise ValueError("quantity is NaN everywhere; there is nothing to fit the probe to.")
    x, y = x[known], y[known]
    mean, deviation = x.mean(0), x.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    z = (x - mean) / deviation
    gram = z.T @ z / len(z) + ridge * np.eye(z.shape[1])
    weights = np.linalg.solve(gram, z.T @ (y - y.mean()) / len(z)) / deviation
    return Probe(weights, float(y.mean() - mean @ weights))


def correlation(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Return Pearson's correlation over the last axis, `[...]`, of where neither is NaN; NaN if one is constant.

    >>> float(correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.5]).round(4))
    0.9979
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a is {list(a.shape)}, but b {list(b.shape)}; they should have one shape [..., T].")
    known = ~(np.isnan(a) | np.isnan(b))
    count = np.maximum(known.sum(-1, keepdims=True), 1)
    a, b = (np.where(known, v - np.sum(v, -1, keepdims=True, where=known) / count, 0.0) for v in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
