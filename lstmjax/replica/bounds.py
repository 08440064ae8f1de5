"""The bounds that a comparison must keep, in one place: of max|a − b| / max|b|, array by array.

- float64: 1e-13 for outputs, 1e-12 for gradients.
- float32 against a framework: 4 times the error that the framework itself has against the float64 oracle on
  the same weights, at least 4 eps. Its error is the largest of its outputs, or of all its gradients, in that
  network: in one array of a few numbers it may be 0 by luck. It is tight: on CPUs XLA's float32 tanh is up to
  2.4 eps off, PyTorch's half an eps, so that small networks of small h can be beyond it; a failure tells
  both errors.
- bfloat16 and float16 against a framework: the same for outputs. Gradients at least 32 eps, since the scan's
  backward pass adds those of the weights up in half precision, where PyTorch adds in float32.
- Against the oracle, which has no error of its own: multiples of eps. On 45 random networks up to
  I = H = 300, T = 200 outputs were up to 8 eps of float32 and 0.6 eps of half precision away, gradients up to
  21 and 17 eps. Most gradients are an eps or two away; the largest belong to networks of one unit, in which a
  few numbers cancel.
- A single pair of sides of which either may be wrong (`verify`): 8 times the error that our own side has
  against itself in float64, at least 8 eps.

An own error that is no finite number (NaN in the weights or the inputs, overflow) allows nothing beyond the least.
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


def eps(dtype: str) -> float:
    """Gives the distance from 1 to the next number of a dtype."""
    return float(ml_dtypes.finfo(dtype).eps)


def against_framework(dtype: str, kind: str, own: float) -> float:
    """Gives the bound against a framework; `own` is its own error, `kind` "outputs" or "gradients"."""
    if dtype == "float64":
        return FLOAT64[kind]
    least = FLOOR[dtype][kind] * eps(dtype)
    return max(FRAMEWORK * own, least) if math.isfinite(own) else least


def against_oracle(dtype: str, kind: str) -> float:
    """Gives the bound against the oracle."""
    return FLOAT64[kind] if dtype == "float64" else ORACLE[dtype][kind] * eps(dtype)


def of_a_pair(dtype: str, own: float) -> float:
    """Gives the bound for outputs of two sides of which either may be wrong; `own` is our own error."""
    if dtype == "float64":
        return FLOAT64["outputs"]
    return VERIFY * (max(own, eps(dtype)) if math.isfinite(own) else eps(dtype))
