"""What the tests of exchange share: random layers and inputs, and comparison bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
from against import B, I, T, draw_params

from lstmjax import Bidirectional


def layer(inputs=I, seed=0, **how):
    return jax.tree.map(lambda a: a.astype(jnp.float32), draw_params(np.random.default_rng(seed), inputs, **how))


def pair(inputs=I, seed=0, **how):
    return Bidirectional(layer(inputs, seed, **how), layer(inputs, seed + 1, **how))


def inputs(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(B, T, I)), jnp.float32)


def same(a, b):
    """Bit by bit, in the same tree."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
