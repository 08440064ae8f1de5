"""What only the linen modules have: variables, modules within modules; the others are in test_modules."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from modules import B, H, I, O, P, T, assert_equal, compiled, total
from tolerances import assert_close

import lstmjax
from lstmjax.linen import LSTM, LSTMCell, LSTMNetwork


@pytest.fixture
def xs():
    return jax.random.normal(jax.random.key(7), (B, T, I))


# --- parameters in and out -------------------------------------------------------------------------


def test_round_trip_is_the_same_object():
    stack = lstmjax.init_stacked(jax.random.key(0), I, H)
    net = lstmjax.init_network(jax.random.key(0), I, H, O)
    for module, params in ((LSTM, stack), (LSTMNetwork, net), (LSTMCell, stack[0])):
        assert module.to_params(module.from_params(params)) is params


def test_from_params_under_jit_and_grad(xs):
    model = LSTM(H, projection_size=P)
    params = lstmjax.init_stacked(jax.random.key(0), I, H, projection_size=P)
    expected = compiled(jax.grad(lambda p: total(lstmjax.stacked(p, xs))), params)
    built = lambda p: total(model.apply(LSTM.from_params(p), xs))
    assert_close(compiled(jax.grad(built), params), expected, gradient=True)
    taken = lambda v: total(lstmjax.stacked(LSTM.to_params(v), xs))
    assert_close(compiled(jax.grad(taken), LSTM.from_params(params)), LSTM.from_params(expected), gradient=True)


def test_variables_are_the_functional_parameters(xs):
    variables = LSTMNetwork(H, O, layers=2, projection_size=P).init(jax.random.key(0), xs)
    params = variables["params"]["network"]
    assert isinstance(params, lstmjax.NetworkParams)
    assert params.layers[1].w_x.shape == (P, 4, H)
    assert params.layers[1].b_h is None
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)}
    cell = {"w_x", "w_h", "b", "w_p"}
    assert paths == {f".layers[{n}].{name}" for n in range(2) for name in cell} | {".head.w", ".head.b"}


def test_variables_serialise(xs):
    model = LSTMNetwork(H, O, bidirectional=True)
    variables, blank = (model.init(jax.random.key(n), xs) for n in range(2))
    assert_equal(flax.serialization.from_bytes(blank, flax.serialization.to_bytes(variables)), variables)


class Tagger(nn.Module):
    """Our module inside another one."""

    @nn.compact
    def __call__(self, xs):
        _, ys = LSTM(H, bidirectional=True, name="lstm")(xs)
        return nn.Dense(O)(ys)


def test_inside_another_module(xs):
    variables = Tagger().init(jax.random.key(0), xs)
    params = LSTM.to_params({"params": variables["params"]["lstm"]})
    expected = nn.Dense(O).apply({"params": variables["params"]["Dense_0"]}, lstmjax.stacked(params, xs)[1])
    assert_close(Tagger().apply(variables, xs), expected)


# --- training ---------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.usefixtures("promotion")
def test_training_lowers_the_loss(xs):
    labels = jnp.array([0, 4, 6])
    model = LSTMNetwork(H, O, bidirectional=True, dropout=0.1, preset="torch", projection_size=P)
    variables = model.init(jax.random.key(0), xs, deterministic=True)
    tx = optax.adam(0.05)
    state = tx.init(variables)

    @jax.jit
    def step(variables, state, key):
        def loss(v):
            logits = model.apply(v, xs, deterministic=False, rngs={"dropout": key})
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(variables)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(variables, updates), state, value

    losses = []
    for key in jax.random.split(jax.random.key(1), 10):
        variables, state, value = step(variables, state, key)
        losses.append(value)
    assert losses[-1] < 0.8 * losses[0]


def test_deterministic_by_call_and_by_constructor(xs):
    model = LSTMNetwork(H, O, dropout=0.5)
    variables = model.init(jax.random.key(0), xs, deterministic=True)
    expected = lstmjax.network(LSTMNetwork.to_params(variables), xs)[1]
    assert_equal(model.apply(variables, xs, deterministic=True), expected)
    assert_equal(LSTMNetwork(H, O, dropout=0.5, deterministic=True).apply(variables, xs), expected)
    first, second = (
        model.apply(variables, xs, deterministic=False, rngs={"dropout": jax.random.key(n)}) for n in range(2)
    )
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match='"deterministic" must be passed'):
        model.apply(variables, xs)


def test_ensemble_under_vmap(xs):
    model = LSTMNetwork(H, O, preset="torch")
    variables = jax.jit(jax.vmap(model.init, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 3), xs)
    actual = jax.jit(jax.vmap(model.apply, in_axes=(0, None)))(variables, xs)
    members = [jax.tree.map(lambda a, n=n: a[n], variables) for n in range(3)]
    assert_close(actual, jnp.stack([model.apply(v, xs) for v in members]))


# --- the cell in Flax's own loops -------------------------------------------------------------------


def test_cell_in_bidirectional(xs):
    both = nn.Bidirectional(nn.RNN(LSTMCell(H)), nn.RNN(LSTMCell(H)))
    variables = both.init(jax.random.key(0), xs)
    ways = (variables["params"][f"{way}_rnn"]["cell"] for way in ("forward", "backward"))
    pair = lstmjax.Bidirectional(*(LSTMCell.to_params({"params": way}) for way in ways))
    assert_close(both.apply(variables, xs), lstmjax.stacked((pair,), xs)[1])


def test_carry_is_c_then_h():
    cell = LSTMCell(H, projection_size=P)
    c, h = cell.initialize_carry(jax.random.key(0), (B, I))
    assert (c.shape, h.shape, cell.num_feature_axes) == ((B, H), (B, P), 1)
    assert_equal((c, h), (jnp.zeros((B, H)), jnp.zeros((B, P))))
    drawn = LSTMCell(H, carry_init=nn.initializers.normal(1.0)).initialize_carry(jax.random.key(0), (B, I))
    assert not np.array_equal(*drawn)


# --- what is refused --------------------------------------------------------------------------------

PARAMS = lstmjax.init_params(jax.random.key(0), I, H)


def init(model, features=I):
    return model.init(jax.random.key(0), jnp.ones((B, T, features)))


REFUSED = {
    "^features is 0": lambda: init(LSTM(0)),
    "Do layers, bidirectional, cell, bias and projection_size say": lambda: LSTM(H, cell="peephole").apply(
        LSTM.from_params((PARAMS,)), jnp.ones((B, T, I))
    ),
    "carry is a tuple of 2, expected the tuple \\(c, h, i, f, o\\)": lambda: LSTMCell(H, cell="fgr").init(
        jax.random.key(0), (jnp.ones(H), jnp.ones(H)), jnp.ones(I)
    ),
    "not built as this LSTM says": lambda: LSTM(H, layers=2).apply(LSTM.from_params((PARAMS,)), jnp.ones((B, T, I))),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_name_the_argument(words):
    with pytest.raises((ValueError, TypeError), match=words):
        REFUSED[words]()


def test_sizes_are_compared_with_the_parameters():
    with pytest.raises(flax.errors.ScopeParamShapeError, match="layers"):
        LSTM(H + 1).apply(LSTM.from_params((PARAMS,)), jnp.ones((B, T, I)))
