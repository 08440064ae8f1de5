"""A rate of 1 is a rate: zeros and finite gradients, as PyTorch, Keras and Flax have it; zoneout holds the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import RecurrentDropout, Zoneout, init_network, init_params, init_stacked, lstm, network, stacked

T, B, I, H, O = 5, 3, 2, 4, 6
KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (B, T, I))
CELL = init_params(KEY, I, H)


def finite(tree):
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def test_dropout_of_1_between_layers_leaves_the_biases_alone():
    """What PyTorch gives for `nn.LSTM(..., num_layers=2, dropout=1)`: the second layer sees zeros."""
    layers = init_stacked(KEY, I, H, 2)
    ys = stacked(layers, XS, dropout=1, key=KEY)[1]
    np.testing.assert_array_equal(ys, lstm(layers[1], jnp.zeros((B, T, H)))[1])
    gradient = jax.grad(lambda layers, xs: stacked(layers, xs, dropout=1.0, key=KEY)[1].sum(), (0, 1))(layers, XS)
    assert finite(gradient)
    assert all(not leaf.any() for leaf in jax.tree.leaves((gradient[0][0], gradient[0][1].w_x, gradient[1])))
    assert gradient[0][1].b.any()
    np.testing.assert_array_equal(stacked(layers, XS, dropout=1.0)[1], stacked(layers, XS)[1])  # at evaluation


def test_dropout_of_1_before_the_head_leaves_its_bias():
    params = init_network(KEY, I, H, O)
    params = params._replace(head=params.head._replace(b=jnp.arange(6.0)))
    logits = network(params, XS, dropout=1.0, key=KEY)[1]
    np.testing.assert_array_equal(logits, np.broadcast_to(np.arange(6.0), (B, O)))
    gradient = jax.grad(lambda params: network(params, XS, dropout=1.0, key=KEY)[1].sum())(params)
    assert finite(gradient)
    assert not any(leaf.any() for leaf in jax.tree.leaves((gradient.layers, gradient.head.w)))


def test_recurrent_dropout_of_1_takes_h_out_of_every_step():
    wrapper = (RecurrentDropout(1.0),)
    ys = lstm(CELL, XS, key=KEY, wrappers=wrapper)[1]
    without = lstm(CELL._replace(w_h=0 * CELL.w_h), XS, backend="fused")[1]  # as the wrapper's
    np.testing.assert_allclose(ys, without, rtol=1e-6)
    gradient = jax.grad(lambda params: lstm(params, XS, key=KEY, wrappers=wrapper)[1].sum())(CELL)
    assert finite(gradient)
    assert not gradient.w_h.any()
    assert gradient.w_x.any()


@pytest.mark.parametrize("key", [None, KEY])
def test_zoneout_of_1_holds_the_state(key):
    h, c = (jax.random.normal(jax.random.key(n), (B, H)) for n in (2, 3))
    wrapper = (Zoneout(1, 1.0),)
    state, ys = lstm(CELL, XS, (h, c), key=key, wrappers=wrapper)
    np.testing.assert_array_equal(state[0], h)
    np.testing.assert_array_equal(state[1], c)
    np.testing.assert_array_equal(ys, np.broadcast_to(h[:, None], (B, T, H)))
    of = jax.grad(lambda params, state: lstm(params, XS, state, key=key, wrappers=wrapper)[1].sum(), (0, 1))
    gradient, (to_h, to_c) = of(CELL, (h, c))
    assert finite((gradient, to_h, to_c))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(to_h, np.full((B, H), float(T)))


@pytest.mark.thorough
@pytest.mark.peers
def test_the_peers_take_a_rate_of_1_and_give_zeros(keras):
    torch = pytest.importorskip("torch")
    from flax import linen

    ones = np.ones((2, 3), np.float32)
    assert not torch.nn.functional.dropout(torch.ones(2, 3), 1.0, training=True).numpy().any()
    torch.nn.LSTM(I, H, 2, dropout=1.0)
    assert not np.asarray(keras.layers.Dropout(1.0)(ones, training=True)).any()
    keras.layers.LSTM(H, recurrent_dropout=1.0)
    assert not linen.Dropout(1.0, deterministic=False).apply({}, ones, rngs={"dropout": KEY}).any()
