"""One step of all layers while paths are drawn, against the layers run over a sequence of one step."""

import jax
import numpy as np
import pytest

from lstmjax import stacked
from lstmjax.forecast import Design
from lstmjax.forecast.network import _one_step
from lstmjax.init_stack import init_stacked


@pytest.mark.parametrize("cell", ["vanilla", "peephole", "fgr", "cifg", "layer_norm"])
def test_one_step_is_the_step_of_the_layers(cell):
    layers = init_stacked(jax.random.key(0), 3, 4, 2, cell=cell)
    xs = jax.random.normal(jax.random.key(1), (5, 2, 3))
    state, _ = stacked(layers, xs[:, :1], cell=cell, backend="scan")
    expected = stacked(layers, xs[:, 1:], state, cell=cell, backend="scan")
    after, h = _one_step(layers, state, xs[:, 1], Design(horizon=2, context=3, season=1, cell=cell))
    np.testing.assert_allclose(h, expected[1][:, 0], rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after, expected[0])
