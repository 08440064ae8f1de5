"""Programs that take and give our trees, in the files of `jax.export`."""

import jax
import jax.numpy as jnp
import pytest
from tolerances import assert_close

from lstmjax import init_network, init_stacked, network, stacked

pytest.importorskip("flatbuffers")


def read_again(function, *arguments):
    """What a function gives after it has been written and read."""
    written = jax.export.export(jax.jit(function))(*arguments).serialize()
    return jax.export.deserialize(written).call(*arguments)


def test_a_stack_with_all_there_is():
    layers = init_stacked(jax.random.key(0), 3, 4, layers=2, bidirectional=True, cell="layer_norm")
    xs = jnp.ones((2, 5, 3))

    def steps(layers, xs):
        return stacked(layers, xs, cell="layer_norm", emit="step")

    found, expected = read_again(steps, layers, xs), steps(layers, xs)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert_close(found, expected)


def test_the_gradient_of_a_network():
    params = init_network(jax.random.key(0), 3, 4, 2)
    gradient = jax.grad(lambda params, xs: (network(params, xs)[1] ** 2).sum())
    xs = jnp.ones((2, 5, 3))
    found = read_again(gradient, params, xs)
    assert isinstance(found, type(params))
    assert_close(found, gradient(params, xs), gradient=True)
