"""The bounds that a comparison must keep, in one place: of max|a − b| / max|b|, array by array.

- float64: 1e-13 for outputs, 1e-12 for gradients.
- float32 against a framework: 4 times the error that the framework itself has against the float64 oracle on
  the same weights, at least 4 eps. That error is the largest of its outputs, or of all its gradients, in a
  network: in a single array of a few numbers it may be 0 by luck. The bound is tight: on CPUs XLA's float32 tanh
  is up to 2.4 eps off, PyTorch's half an eps, so that small networks of small h can exceed it. A failure therefore
  prints both errors.
- bfloat16 and float16 against a framework: the same for outputs. Gradients get at least 32 eps, since the scan's
  backward pass sums those of the weights in half precision, where PyTorch sums in float32.
- Against the oracle, which has no error: multiples of eps. On 45 random networks up to I = H = 300, T = 200,
  outputs were up to 8 eps of float32 and 0.6 eps of half precision away, gradients up to 21 and 17 eps. Most
  gradients are an eps or two away; the largest belong to networks of one unit, in which a few numbers cancel.
- A single pair of sides of which either may be wrong (`verify`): 8 times the error that our side has against
  itself in float64, at least 8 eps, and at most 1e-2 or 16 eps, whichever is more. Where 8 times that error is beyond
  this limit, rounding alone can make the two sides as different as a fault would, and a difference between the limit
  and 8 times the error decides nothing.

Where such an error is not finite (NaN in the weights or the inputs, overflow), only the smallest bound holds.
"""

from __future__ import annotations

import math

import ml_dtypes

FLOAT64 = {"outputs": 1e-13, "gradients": 1e-12}
FRAMEWORK = 4
FLOOR = {  # in eps
    "float32": {"outputs": 4, "gradients": 4},
    "bfloat16": {"outputs": 4, "gradients": 32},
    "float16": {"outputs": 4, "gradients": 32},
}
ORACLE = {  # in eps
    "float32": {"outputs": 16, "gradients": 64},
    "bfloat16": {"outputs": 2, "gradients": 32},
    "float16": {"outputs": 2, "gradients": 32},
}
VERIFY = 8
LIMIT, LIMIT_EPS = 1e-2, 16  # relative, and in eps


def eps(dtype: str) -> float:
    """Return the distance from 1 to the next larger number of a dtype."""
    return float(ml_dtypes.finfo(dtype).eps)


def against_framework(dtype: str, kind: str, error: float) -> float:
    """Return the bound against a framework that has this error against the oracle.

    Args:
        dtype: of the computation.
        kind: "outputs" or "gradients".
        error: the framework's, relative.
    """
    if dtype == "float64":
        return FLOAT64[kind]
    least = FLOOR[dtype][kind] * eps(dtype)
    return max(FRAMEWORK * error, least) if math.isfinite(error) else least


def against_oracle(dtype: str, kind: str) -> float:
    """Return the bound against the oracle; `kind` is "outputs" or "gradients"."""
    return FLOAT64[kind] if dtype == "float64" else ORACLE[dtype][kind] * eps(dtype)


def of_a_pair(dtype: str, error: float) -> float:
    """Return the bound for outputs of two sides of which either may be wrong; `error` is that of our side."""
    if dtype == "float64":
        return FLOAT64["outputs"]
    bound = VERIFY * (max(error, eps(dtype)) if math.isfinite(error) else eps(dtype))
    return min(bound, max(LIMIT, LIMIT_EPS * eps(dtype)))


def decides(dtype: str, error: float, difference: float) -> bool:
    """Return whether rounding alone cannot explain a difference of two sides.

    Args:
        dtype: of the computation.
        error: of our side, in absolute numbers, or as a share of what the difference is a share of, too.
        difference: of the two sides, likewise.

    >>> decides("float32", error=1e-6, difference=0.1), decides("float32", error=0.1, difference=0.1)
    (True, False)
    """
    if dtype == "float64" or not math.isfinite(error):
        return True
    return not difference <= VERIFY * error
