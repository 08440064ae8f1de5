"""What the initial values of each preset must look like: for ours, and for a framework's own of the same sizes."""

import math

import numpy as np

from lstmjax import GATES

I, H, P = 30, 40, 24
F = GATES.index("f")


def check_uniform(values, bound):
    """All within the bound, reaching it, and of its standard deviation."""
    values = np.asarray(values).ravel()
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.98 * bound
    check_moments(values, bound / math.sqrt(3))


def check_moments(values, std):
    """Mean 0 and this standard deviation, within four of their own standard errors (less for short tails)."""
    values = np.asarray(values, np.float64).ravel()
    assert abs(values.mean()) < 4 * std / math.sqrt(values.size)
    assert abs(values.std() / std - 1) < 4 / math.sqrt(2 * values.size)


def check_orthonormal_rows(matrix):
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5)


def joint(w):
    return np.asarray(w).reshape(w.shape[0], -1)


def glorot(w):
    return math.sqrt(6 / (w.shape[0] + 4 * H))


UNIFORM = 1 / math.sqrt(H)
INPUT = {
    "default": lambda w: check_moments(w, 1 / math.sqrt(I)),
    "torch": lambda w: check_uniform(w, UNIFORM),
    "keras": lambda w: check_uniform(w, glorot(w)),
    "flax": lambda w: check_moments(w, 1 / math.sqrt(I)),
    "flax_optimized_nnx": lambda w: check_moments(w, 1 / math.sqrt(I)),
    "haiku": lambda w: check_moments(w, 0.8796 / math.sqrt(I + H)),  # a normal cut at 2 has 0.8796 of its deviation
    "equinox": lambda w: check_uniform(w, UNIFORM),
}
RECURRENT = {
    "default": "gate",
    "torch": INPUT["torch"],
    "keras": "joint",
    "flax": "gate",
    "flax_optimized_nnx": "joint",
    "haiku": INPUT["haiku"],
    "equinox": INPUT["equinox"],
}
BIAS = {"torch": "uniform", "equinox": "uniform", "flax": 0.0, "flax_optimized_nnx": 0.0}  # all others: f is 1


def check_recurrent(init, w):
    """w `[H, 4, H]`."""
    kind = RECURRENT[init]
    if callable(kind):
        kind(w)
        return
    per_gate = [np.asarray(w[:, k]) for k in range(4)]
    if kind == "gate":
        for matrix in per_gate:
            check_orthonormal_rows(matrix)
        assert np.abs(per_gate[0] - per_gate[1]).max() > 0.1  # a draw of its own for each
    else:
        check_orthonormal_rows(joint(w))
        assert np.abs(per_gate[0] @ per_gate[0].T - np.eye(H)).max() > 0.1  # no gate is orthogonal alone


def check_biases(init, params):
    assert (params.b_h is not None) == (init == "torch")
    if BIAS.get(init) == "uniform":
        for b in (params.b, params.b_h):
            if b is not None:
                check_uniform(b, UNIFORM)
        return
    expected = np.zeros((4, H))
    expected[F] = BIAS.get(init, 1.0)
    np.testing.assert_array_equal(params.b, expected)
