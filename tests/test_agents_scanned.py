"""`ScannedRNN` beside Flax' own cell in the `nn.scan` that scripts for recurrent agents write."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from tolerances import assert_close

import lstmjax
from lstmjax.convert import from_linen
from lstmjax.linen import ScannedRNN, StoixScannedRNN

T, B, I, H = 5, 3, 2, 4
CELLS = {"optimised_lstm": nn.OptimizedLSTMCell, "lstm": nn.LSTMCell}


def theirs(cell_type, number=1):
    """Flax's cell in a scan with resets, as such scripts have it; `number` of the cell within the module."""

    class Scanned(nn.Module):
        @functools.partial(nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False})
        @nn.compact
        def __call__(self, carry, x):
            inputs, resets = x
            zeros = jax.tree.map(jnp.zeros_like, carry)
            if number:  # a cell that is made for the carry alone, as in Stoix and JaxMARL
                zeros = CELLS[cell_type](H).initialize_carry(jax.random.key(0), (B, I))
            cell = CELLS[cell_type](H)
            carry = jax.tree.map(lambda z, a: jnp.where(resets[:, None], z, a), zeros, carry)
            return cell(carry, inputs)

    return Scanned()


@pytest.fixture(params=["optimised_lstm", "lstm"])
def cell_type(request):
    return request.param


@pytest.fixture
def data():
    keys = jax.random.split(jax.random.key(0), 4)
    inputs = jax.random.normal(keys[0], (T, B, I))
    resets = jax.random.bernoulli(keys[1], 0.4, (T, B))
    carry = tuple(jax.random.normal(key, (B, H)) for key in keys[2:])
    return carry, (inputs, resets)


def run(module, variables, carry, inputs, resets):
    def loss(variables, carry, inputs):
        after, ys = module.apply(variables, carry, (inputs, resets))
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(jnp.cos(a)) for a in after), (after, ys)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(variables, carry, inputs)


@pytest.mark.thorough
def test_the_same_key_gives_the_same_variables_values_and_gradients(cell_type, data):
    ours, other = StoixScannedRNN(H, cell_type), theirs(cell_type)
    variables = other.init(jax.random.key(3), *data)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(3), *data), variables)
    variables = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(jax.random.key(a.size), a.shape), variables)
    carry, (inputs, resets) = data
    (_, values), gradients = run(ours, variables, carry, inputs, resets)
    (_, expected), expected_gradients = run(other, variables, carry, inputs, resets)
    assert_close(values, expected)
    assert_close(gradients, expected_gradients, gradient=True)


def test_variables_of_scripts_that_make_no_cell_for_the_carry(cell_type, data):
    other = theirs(cell_type, number=0)
    variables = other.init(jax.random.key(3), *data)
    assert list(variables["params"]) == [f"{CELLS[cell_type].__name__}_0"]
    assert_close(StoixScannedRNN(H, cell_type).apply(variables, *data), other.apply(variables, *data))


def test_resets_as_numbers_and_sizes_from_the_carry(data):
    carry, (inputs, resets) = data
    ours = ScannedRNN()
    variables = ours.init(jax.random.key(3), carry, (inputs, jnp.zeros((T, B))))  # as PureJaxRL initialises
    assert_close(variables, theirs("optimised_lstm").init(jax.random.key(3), *data))
    after, ys = ours.apply(variables, carry, (inputs, resets))
    numbers, zs = ours.apply(variables, carry, (inputs, resets.astype(jnp.float32)))
    assert_close((numbers, zs), (after, ys))
    assert_close(StoixScannedRNN(H, "optimised_lstm").apply(variables, carry, (inputs, resets)), (after, ys))


def test_carries_are_flax_zeros():
    expected = nn.OptimizedLSTMCell(H).initialize_carry(jax.random.key(0), (B, I))
    for carry in (ScannedRNN.initialize_carry(B, H), StoixScannedRNN(H, "lstm").initialize_carry(B)):
        assert [a.shape for a in carry] == [a.shape for a in expected] == [(B, H)] * 2
        assert [a.dtype for a in carry] == [a.dtype for a in expected]
        assert not any(np.any(a) for a in carry)
    assert ScannedRNN.initialize_carry((B, 6), H)[0].shape == (B, 6, H)


def test_agents_axis_of_mava(data):
    carry, (inputs, resets) = data
    variables = ScannedRNN(H).init(jax.random.key(1), carry, (inputs, resets))
    expected = ScannedRNN(H).apply(variables, carry, (inputs, resets))
    several = jax.tree.map(lambda a: a[..., None, :], (carry, inputs))
    after, ys = ScannedRNN(H).apply(variables, several[0], (several[1], resets[..., None]))
    assert_close(jax.tree.map(lambda a: a.squeeze(-2), (after, ys)), expected)


def test_its_variables_are_read_as_weights(data):
    carry, (inputs, resets) = data
    variables = ScannedRNN().init(jax.random.key(1), carry, (inputs, resets))
    (layer,) = from_linen(variables["params"])
    c, h = carry
    (last_h, last_c), ys = lstmjax.lstm(layer, inputs, (h, c), resets=resets, time_major=True)
    assert_close(ScannedRNN().apply(variables, carry, (inputs, resets)), ((last_c, last_h), ys))


def test_what_does_not_fit_is_refused(data):
    carry, (inputs, resets) = data
    with pytest.raises(ValueError, match=r"cell_type is 'gru', expected one of 'lstm', 'optimised_lstm'"):
        StoixScannedRNN(H, "gru").init(jax.random.key(0), carry, (inputs, resets))
    with pytest.raises(ValueError, match=r"carry is an array, expected the tuple \(c, h\)"):
        ScannedRNN().init(jax.random.key(0), carry[0], (inputs, resets))
    with pytest.raises(ValueError, match=r"x has inputs of shape \(3, 2\) and resets of shape \(3, 1\), expected"):
        ScannedRNN().init(jax.random.key(0), carry, (inputs[0], resets[0][:, None]))
    with pytest.raises(ValueError, match=r"x is an array, expected the pair"):
        ScannedRNN().init(jax.random.key(0), carry, inputs)
    with pytest.raises(ValueError, match=rf"carry c has shape .*but this module has {H + 1} units"):
        ScannedRNN(H + 1).init(jax.random.key(0), carry, (inputs, resets))
    with pytest.raises(ValueError, match=r"carry c has shape .*but x has inputs of shape"):
        ScannedRNN().init(jax.random.key(0), ScannedRNN.initialize_carry(9, H), (inputs, resets))
    with pytest.raises(ValueError, match="the variables have no LSTM cell under 'OptimizedLSTMCell_1'"):
        ScannedRNN().apply({}, carry, (inputs, resets))
    with pytest.raises(ValueError, match="batch_size is -1, expected the number of environments"):
        ScannedRNN.initialize_carry(-1, H)


def test_variables_are_those_of_a_rollout_without_steps(data):
    carry, (inputs, resets) = data
    variables = ScannedRNN().init(jax.random.key(0), carry, (inputs[:0], resets[:0]))
    assert_close(variables, ScannedRNN().init(jax.random.key(0), carry, (inputs, resets)))
