"""What only the NNX modules have: parameters that they hold, streams of random keys; the others are in test_modules."""

import functools
import pickle

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from modules import B, H, I, O, P, T, assert_equal, compiled, sizes, total
from tolerances import assert_close

import lstmjax
from lstmjax.nnx import LSTM, LSTMCell, LSTMNetwork


@pytest.fixture
def xs():
    return jax.random.normal(jax.random.key(7), (B, T, I))


# --- the modules are the functions -----------------------------------------------------------------


def test_jit_of_a_module_is_jit_of_the_function(xs):
    model = LSTMNetwork(I, H, O, layers=2, bidirectional=True, rngs=nnx.Rngs(0))
    expected = jax.jit(lambda p: lstmjax.network(p, xs)[1])(model.to_params())
    assert_equal(nnx.jit(lambda m: m(xs))(model), expected)
    assert_equal(jax.jit(lambda m: m(xs))(model), expected)  # a module is a pytree


def test_gradient_through_from_params(xs):
    params = LSTMNetwork(I, H, O, bidirectional=True, rngs=nnx.Rngs(0)).to_params()
    expected = compiled(jax.grad(lambda p: total(lstmjax.network(p, xs)[1])), params)
    built = jax.grad(lambda p: total(LSTMNetwork.from_params(p)(xs)))
    assert_close(built(params), expected, gradient=True)
    assert_close(compiled(built, params), expected, gradient=True)


def test_gradient_of_what_a_module_gives_as_params(xs):
    model = LSTM(I, H, rngs=nnx.Rngs(0))
    loss = lambda m: total(lstmjax.stacked(m.to_params(), xs))
    expected = jax.grad(lambda p: total(lstmjax.stacked(p, xs)))(model.to_params())
    assert_close(nnx.merge(nnx.graphdef(model), nnx.grad(loss)(model)).to_params(), expected, gradient=True)
    assert_close(jax.grad(loss)(model).to_params(), expected, gradient=True)  # a module is a pytree


# --- parameters in and out -------------------------------------------------------------------------


@sizes
def test_round_trip_is_exact(size):
    stack = lstmjax.init_stacked(jax.random.key(0), I, H, **size)
    assert_equal(LSTM.from_params(stack).to_params(), stack)
    net = lstmjax.init_network(jax.random.key(0), I, H, O, **size)
    assert_equal(LSTMNetwork.from_params(net).to_params(), net)
    one = stack[0].forward if "bidirectional" in size else stack[0]
    assert_equal(LSTMCell.from_params(one).to_params(), one)
    assert_equal(jax.jit(lambda p: LSTM.from_params(p).to_params())(stack), stack)


def test_from_params_takes_layers_of_any_sizes(xs):
    a, b, c = (lstmjax.init_params(jax.random.key(n), i, h) for n, (i, h) in enumerate(((I, H), (I, H), (2 * H, 3))))
    layers = (lstmjax.Bidirectional(a, b), c)
    assert_equal(LSTM.from_params(layers)(xs), lstmjax.stacked(layers, xs))


def test_from_params_takes_the_options(xs):
    params = LSTM(I, H, layers=2, rngs=nnx.Rngs(0)).to_params()
    model = LSTM.from_params(params, dropout=0.5, return_sequences=False, residual=True, rngs=nnx.Rngs(dropout=1))
    assert not np.array_equal(model(xs)[1], model(xs)[1])
    model.eval()
    assert_equal(model(xs), lstmjax.stacked(params, xs, return_sequences=False, residual=True))


def test_a_given_module_is_a_module(xs):
    params = LSTMNetwork(I, H, O, rngs=nnx.Rngs(0)).to_params()
    model = LSTMNetwork.from_params(params)
    assert type(model) is LSTMNetwork
    assert jax.tree.structure(nnx.state(model)) == jax.tree.structure(nnx.state(LSTMNetwork(I, H, O, rngs=nnx.Rngs(0))))
    model.extra = nnx.Param(jnp.ones(2))
    assert "extra" in nnx.state(model)
    assert_equal(model(xs), lstmjax.network(params, xs)[1])


def test_state_is_named_by_the_fields():
    model = LSTMNetwork(I, H, O, bidirectional=True, projection_size=P, rngs=nnx.Rngs(0))
    shapes = {".".join(map(str, path)): v.shape for path, v in nnx.to_flat_state(nnx.state(model))}
    cell = {"w_x": (I, 4, H), "w_h": (P, 4, H), "b": (4, H), "w_p": (H, P)}  # no b_h: None holds nothing
    expected = {f"layers.0.{way}.{name}": shape for way in ("forward", "reverse") for name, shape in cell.items()}
    assert shapes == expected | {"head.w": (2 * P, O), "head.b": (O,)}
    assert all(isinstance(v, nnx.Param) for _, v in nnx.to_flat_state(nnx.state(model)))


def test_split_merge_update_pickle(xs):
    model = LSTMNetwork(I, H, O, layers=2, dropout=0.2, rngs=nnx.Rngs(0))
    model.eval()
    expected = model(xs)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    assert_equal(nnx.merge(graphdef, params, rest)(xs), expected)
    other = LSTMNetwork(I, H, O, layers=2, dropout=0.2, deterministic=True, rngs=nnx.Rngs(1))
    nnx.update(other, params)
    assert_equal(other(xs), expected)
    assert_equal(nnx.clone(model)(xs), expected)
    plain = LSTMNetwork.from_params(model.to_params())
    assert_equal(pickle.loads(pickle.dumps(plain))(xs), expected)
    pure = nnx.to_pure_dict(nnx.state(plain))
    assert set(pure) == {"layers", "head"}
    assert pure["layers"][1]["w_x"].shape == (H, 4, H)


# --- training ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("promotion")
def test_training_equals_training_of_the_function(xs):
    labels = jnp.array([0, 4, 6])
    entropy = optax.losses.softmax_cross_entropy_with_integer_labels
    model = LSTMNetwork(I, H, O, init="torch", projection_size=P, rngs=nnx.Rngs(0))
    params = model.to_params()
    tx = optax.adam(0.05)
    optimizer, state = nnx.Optimizer(model, tx, wrt=nnx.Param), tx.init(params)

    @nnx.jit
    def module_step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: entropy(m(xs), labels).mean())(model)
        optimizer.update(model, grads)
        return value

    @jax.jit
    def function_step(params, state):
        loss = lambda p: entropy(lstmjax.network(p, xs)[1], labels).mean()
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    losses = []
    for _ in range(10):
        losses.append(module_step(model, optimizer))
        params, state, value = function_step(params, state)
        np.testing.assert_allclose(losses[-1], value, rtol=1e-5)
    # Adam divides by the root of the second moment, which enlarges what rounding leaves of a small gradient.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), model.to_params(), params)
    assert losses[-1] < 0.8 * losses[0]


def test_training_draws_at_every_step(xs):
    model = LSTM(I, H, layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    step = nnx.jit(lambda m: m(xs)[1])
    first, second = step(model), step(model)
    assert not np.array_equal(first, second)
    model.eval()
    assert_equal(step(model), lstmjax.stacked(model.to_params(), xs)[1])
    model.train()
    assert not np.array_equal(step(model), second)


def test_deterministic_by_call_by_view_and_by_constructor(xs):
    model = LSTMNetwork(I, H, O, dropout=0.5, rngs=nnx.Rngs(0))
    expected = lstmjax.network(model.to_params(), xs)[1]
    assert not np.array_equal(model(xs), expected)
    assert_equal(model(xs, deterministic=True), expected)
    assert_equal(nnx.view(model, deterministic=True)(xs), expected)
    assert model.deterministic is False
    quiet = LSTMNetwork.from_params(model.to_params(), dropout=0.5, deterministic=True)
    assert_equal(quiet(xs), expected)
    key = jax.random.key(9)
    drawn = lstmjax.network(model.to_params(), xs, dropout=0.5, key=key)[1]
    assert_equal(quiet(xs, deterministic=False, rngs=key), drawn)
    by_stream = quiet(xs, deterministic=False, rngs=nnx.Rngs(dropout=9))
    assert_equal(by_stream, lstmjax.network(model.to_params(), xs, dropout=0.5, key=nnx.Rngs(dropout=9).dropout())[1])


def test_only_what_draws_holds_a_stream():
    assert not nnx.state(LSTM(I, H, rngs=nnx.Rngs(0)), nnx.RngState)
    assert nnx.state(LSTM(I, H, dropout=0.1, rngs=nnx.Rngs(0)), nnx.RngState)


def test_ensemble_under_vmap(xs):
    @nnx.jit
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def build(rngs):
        return LSTMNetwork(I, H, O, init="torch", rngs=rngs)

    models = build(nnx.Rngs(0))
    actual = nnx.jit(nnx.vmap(lambda m: m(xs)))(models)
    members = [LSTMNetwork.from_params(jax.tree.map(lambda a, n=n: a[n], models.to_params())) for n in range(3)]
    assert_close(actual, jnp.stack([m(xs) for m in members]))


# --- the cell in Flax's own loops -------------------------------------------------------------------


@pytest.fixture
def cell():
    """A cell whose bias is random, too."""
    params = lstmjax.init_params(jax.random.key(2), I, H, init="equinox")
    return LSTMCell.from_params(params)


def test_cell_in_bidirectional(xs, cell):
    back = LSTMCell(I, H, rngs=nnx.Rngs(4))
    both = nnx.Bidirectional(nnx.RNN(cell), nnx.RNN(back))
    pair = lstmjax.Bidirectional(cell.to_params(), back.to_params())
    assert_close(both(xs, seq_lengths=np.array([5, 1, 3]))[0], lstmjax.stacked((pair,), xs)[1][0])
    assert_close(both(xs), lstmjax.stacked((pair,), xs)[1])


def test_cell_trains_in_rnn(xs):
    model = nnx.RNN(LSTMCell(I, H, rngs=nnx.Rngs(0)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(xs) - 0.2) ** 2))(model)
        optimizer.update(model, grads)
        return value

    losses = [step(model, optimizer) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_carry_is_c_then_h():
    cell = LSTMCell(I, H, projection_size=P, rngs=nnx.Rngs(0))
    c, h = cell.initialize_carry((B, I))
    assert (c.shape, h.shape, cell.num_feature_axes) == ((B, H), (B, P), 1)
    ones = jax.nn.initializers.ones
    c, h = cell.initialize_carry((B, I), nnx.Rngs(0), ones)
    assert_equal((c, h), (jnp.ones((B, H)), jnp.ones((B, P))))
    normal = jax.nn.initializers.normal(1.0)
    drawn = cell.initialize_carry((I,), nnx.Rngs(carry=0).carry, normal)
    assert [a.shape for a in drawn] == [(H,), (P,)]
    assert np.std(drawn[0]) > 0


# --- what is refused --------------------------------------------------------------------------------

PARAMS = lstmjax.init_params(jax.random.key(0), I, H)
REFUSED = {
    "in_features is 0": lambda r: LSTM(0, H, rngs=r),
    "cell is 'gru', expected": lambda r: LSTMCell.from_params(PARAMS, cell="gru"),
    "but the cell 'cifg' has 3: i, g, o": lambda r: LSTM.from_params((PARAMS,), cell="cifg")(jnp.ones((T, I))),
    "carry is a tuple of 2, expected the tuple \\(c, h, i, f, o\\)": lambda r: LSTMCell(I, H, cell="fgr", rngs=r)(
        (jnp.ones(H), jnp.ones(H)), jnp.ones(I)
    ),
    "one key serves one call": lambda r: LSTM.from_params((PARAMS,), dropout=0.1, rngs=jax.random.key(0)),
    "rngs is None, but dropout": lambda r: LSTM.from_params((PARAMS,), dropout=0.1)(jnp.ones((T, I))),
    "rngs is None, but carry_init": lambda r: LSTMCell(I, H, rngs=r).initialize_carry(
        (B, I), None, jax.nn.initializers.ones
    ),
    "layers has 2|state has 1 entries": lambda r: LSTM(I, H, layers=2, rngs=r)(jnp.ones((T, I)), ((1.0, 1.0),)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_name_the_argument(words):
    with pytest.raises((ValueError, TypeError), match=f"(?i){words}"):
        REFUSED[words](nnx.Rngs(0))
