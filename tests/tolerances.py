"""The bounds of all comparisons, in one place, by dtype."""

import jax
import jax.numpy as jnp
import numpy as np

# Relative to the largest number of the reference; float32 and half precision: a few ulp a step.
VALUE = {"float64": 1e-13, "float32": 2e-6, "bfloat16": 3e-2, "float16": 4e-3}
GRADIENT = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 6e-2, "float16": 1e-2}
# A central difference of step 1e-5 in float64, relative: 1e-10 from the cut, 1e-11 from rounding.
DIFFERENCE = 1e-8


def assert_close(actual, expected, *, gradient: bool = False, dtype=None):
    """Compares two pytrees leaf by leaf, each against its own largest number."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for path, a in jax.tree.leaves_with_path(actual):
        e = dict(jax.tree.leaves_with_path(expected))[path]
        assert np.shape(a) == np.shape(e), f"{jax.tree_util.keystr(path)}: {np.shape(a)} against {np.shape(e)}"
        bound = (GRADIENT if gradient else VALUE)[str(jnp.dtype(dtype or a.dtype))]
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert np.all(np.isfinite(e)), f"{jax.tree_util.keystr(path)}: the reference is not finite"
        scale = max(np.abs(e).max(initial=0.0), 1e-30)
        error = np.abs(a - e).max(initial=0.0) / scale
        assert error <= bound, f"{jax.tree_util.keystr(path)}: relative error {error:.2e} above {bound:.0e}"
