"""What the tests of exchange share: random layers and inputs, kinds of files, and comparison bit by bit."""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params

from lstmjax import Bidirectional, Dense, NetworkParams
from lstmjax.convert.containers import CONTAINERS


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


KEPT = {row.ends[0]: row.forms for row in CONTAINERS if row.forms}
NEEDS = {".pt": "torch", ".safetensors": "safetensors", ".weights.h5": "h5py", ".keras": "h5py", ".onnx": "onnx"}
STACKS = {  # of each form, layers that it can keep; the others as Flax'
    "lstmjax": lambda: (layer()._replace(w_c=layer(3).w_x[:, 0]), layer(H, width=3, biases=2), pair(3)),
    "torch": lambda: (pair(biases=2), pair(2 * H, 2, biases=2)),
    "haiku": lambda: (layer(), layer(H, 2, hidden=3)),
    "onnx": lambda: (pair(biases=2), layer(2 * H, 2, hidden=3, biases=2)),
}


def needed(end):
    if end in NEEDS:
        pytest.importorskip(NEEDS[end])


def stack(form):
    return STACKS.get(form, lambda: (layer(), pair(H, 2), layer(2 * H, 4, hidden=3)))()


def headed(layers, width, outputs=5):
    rng = np.random.default_rng(9)
    return NetworkParams(layers, Dense(*(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((width, outputs), 5))))


def ones(*shape):
    return np.ones(shape, np.float32)


def zipped(**parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in parts.items():
            made.writestr(name, data)
    return file.getvalue()


LSTM = {"weight_ih_l0": ones(16, 3), "weight_hh_l0": ones(16, 4)}
