"""The difference of two arrays: its size, and where it is largest. Pure NumPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class Difference(NamedTuple):
    """The largest differences of a from b. NaN and infinities agree with nothing, not even with themselves."""

    absolute: float  # largest |a − b|
    relative: float  # that, as a share of the largest |b|
    ulp: float  # largest |a − b| in units of the last place of b, in the dtype of a
    where: tuple[int, ...]  # index of the largest |a − b|

    def __str__(self) -> str:
        return f"{self.absolute:.1e} (relative {self.relative:.1e}, {self.ulp:.3g} ulp)"


def compare(a: Any, b: Any) -> Difference:
    """Return the largest differences of a from b, computed in float64.

    A number near zero can be many of its ulp away and still be as good as all others, since its rounding is that
    of the larger terms which were summed. Bounds are therefore stated for `relative`.

    Args:
        a: an array of floating-point numbers; its dtype determines the ulp.
        b: an array of the same shape, the reference.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape} and b {b.shape}; they must be alike.")
    if not a.size:
        return Difference(0.0, 0.0, 0.0, ())
    limits = ml_dtypes.finfo(a.dtype)
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    distance = np.where(finite, np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)), np.inf)
    size = np.abs(np.where(finite, b, 0))
    _, exponent = np.frexp(np.maximum(size, float(limits.smallest_normal)))
    index = tuple(int(n) for n in np.unravel_index(np.argmax(distance), distance.shape))
    absolute, largest = float(distance.max()), float(size.max())
    relative = absolute / largest if largest else (np.inf if absolute else 0.0)
    with np.errstate(over="ignore"):
        ulp = float((distance / np.ldexp(1.0, exponent - 1 - limits.nmant)).max())
    return Difference(absolute, float(relative), ulp, index)
