"""What the tests of the Flax modules share: how modules are built, how they run, and how they are compared."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax

T, B, I, H, P, O = 5, 3, 2, 4, 6, 7
LENGTHS = np.array([5, 0, 3])

# What the modules hold: each row is one way to build the parameters, most of them by the preset that
# compiles fastest.
SIZES = {
    "plain": {"init": "equinox"},
    "two layers": {"layers": 2, "init": "equinox"},
    "pairs": {"layers": 2, "bidirectional": True, "init": "equinox"},
    "pairs summed": {"layers": 2, "bidirectional": True, "merge": "sum", "init": "equinox"},
    "projection": {"layers": 2, "projection_size": P, "init": "equinox"},
    "two biases": {"init": "torch"},
    "no bias": {"bias": None, "init": "equinox"},
    "forget bias": {"forget_bias": 2.0, "init": "equinox"},
    "gates fed back": {"cell": "fgr", "init": "equinox"},
    "normalised": {"cell": "layer_norm", "init": "equinox"},
}
# How they run it: each row is handed to the module and to the function.
RUNS = {
    "plain": {},
    "last step": {"return_sequences": False},
    "time major": {"time_major": True},
    "residual": {"residual": True},
    "zoneout": {"wrappers": (lstmjax.Zoneout(0.2, 0.3),)},
    "dropout": {"dropout": 0.4, "wrappers": (lstmjax.RecurrentDropout(0.3),)},
    "half precision": {"dtype": jnp.bfloat16},
    "segments": {"checkpoint": 2, "unroll": 2, "backend": "scan"},
    "coupled gates": {"cell": "cifg"},
}
# A cell of one's own, the widest in its parameters and its state.
OWN = dataclasses.replace(lstmjax.CELLS["fgr"], name="own", g=jax.nn.softplus)

sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
runs = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def total(ys):
    return sum(jnp.sum(jnp.sin(y.astype(jnp.float32))) for y in jax.tree.leaves(ys))


def compiled(f, tree):
    """f of a tree, which gives another one like it, compiled for its leaves: equal programs are compiled once."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(jax.jit(lambda *leaves: jax.tree.leaves(f(structure.unflatten(leaves))))(*leaves))
