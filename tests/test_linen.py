"""The linen modules against the functions that they call, and against Flax's own cells."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from modules import LENGTHS, OWN, SIZES, B, H, I, O, P, T, assert_equal, compiled, runs, total
from tolerances import assert_close

import lstmjax
from lstmjax.linen import LSTM, LSTMCell, LSTMNetwork

# In linen the preset is not called init, which is a method of every module.
SIZES = {name: {"preset" if k == "init" else k: v for k, v in size.items()} for name, size in SIZES.items()}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def drawing(run):
    """What a call says of randomness: only what draws must hear whether this is training."""
    return {"deterministic": False} if "wrappers" in run or "dropout" in run else {}


@pytest.fixture
def xs():
    return jax.random.normal(jax.random.key(7), (B, T, I))


# --- the modules are the functions -----------------------------------------------------------------


@runs
def test_lstm_is_stacked(xs, run):
    model = LSTM(H, layers=2, **run)
    xs = xs.swapaxes(0, 1) if model.time_major else xs
    params = lstmjax.init_stacked(jax.random.key(0), I, H, 2, init="equinox", cell=model.cell)
    variables, rngs = LSTM.from_params(params), {"dropout": jax.random.key(3)}
    key = model.bind(variables, rngs=rngs).make_rng("dropout")
    actual = model.apply(variables, xs, lengths=LENGTHS, rngs=rngs, **drawing(run))
    assert_equal(actual, lstmjax.stacked(params, xs, lengths=LENGTHS, key=key, **run))


@runs
def test_network_is_network(xs, run):
    model = LSTMNetwork(H, O, layers=2, **run)
    xs = xs.swapaxes(0, 1) if model.time_major else xs
    params = lstmjax.init_network(jax.random.key(0), I, H, O, 2, init="equinox", cell=model.cell)
    variables, rngs = LSTMNetwork.from_params(params), {"dropout": jax.random.key(3)}
    key = model.bind(variables, rngs=rngs).make_rng("dropout")
    apply = functools.partial(model.apply, variables, xs, lengths=LENGTHS, rngs=rngs, **drawing(run))
    expected = lstmjax.network(params, xs, lengths=LENGTHS, key=key, **run)
    assert_equal(apply(return_state=True), expected)
    assert_equal(apply(), expected[1])


def test_jit_of_a_module_is_jit_of_the_function(xs):
    model = LSTMNetwork(H, O, layers=2, bidirectional=True)
    variables = model.init(jax.random.key(0), xs)
    expected = jax.jit(lambda p: lstmjax.network(p, xs)[1])(LSTMNetwork.to_params(variables))
    assert_equal(jax.jit(model.apply)(variables, xs), expected)


def test_call_passes_everything_on(xs):
    model = LSTM(H, layers=2)
    params = lstmjax.init_stacked(jax.random.key(0), I, H, 2, init="equinox")
    start = jax.tree.map(lambda a: a + 0.5, lstmjax.stacked(params, xs)[0])
    options = {
        "mask": jax.random.bernoulli(jax.random.key(1), 0.7, (B, T)),
        "resets": jax.random.bernoulli(jax.random.key(2), 0.3, (B, T)),
        "reset_state": start,
        "emit": "step",
        "padding": "hold",
    }
    actual = model.apply(LSTM.from_params(params), xs, start, **options)
    assert_equal(actual, lstmjax.stacked(params, xs, start, **options))
    net = lstmjax.init_network(jax.random.key(0), I, H, O, 2, init="equinox")
    options = {name: options[name] for name in ("mask", "resets")}
    actual = LSTMNetwork(H, O, layers=2).apply(LSTMNetwork.from_params(net), xs, start, **options)
    assert_equal(actual, lstmjax.network(net, xs, start, **options)[1])


def test_a_single_layer_takes_its_state_alone(xs):
    model, head = LSTM(H), LSTMNetwork(H, O)
    variables, heads = (m.init(jax.random.key(0), xs) for m in (model, head))
    state = model.apply(variables, xs)[0]
    ((h, c),) = state
    options = {"resets": jax.random.bernoulli(jax.random.key(2), 0.3, (B, T))}
    expected = model.apply(variables, xs, state, reset_state=state, **options)
    assert_equal(model.apply(variables, xs, (h, c), reset_state=(h, c), **options), expected)
    assert_equal(head.apply(heads, xs, (h, c)), head.apply(heads, xs, state))


@sizes
def test_initial_values_and_gradients_are_the_functions(xs, size):
    model = LSTMNetwork(H, O, **size)
    variables = model.init(jax.random.key(0), xs)
    key = nn.Module.bind(model, {}, rngs={"params": jax.random.key(0)}).make_rng("params")
    options = {"init" if name == "preset" else name: value for name, value in size.items()}
    params = lstmjax.init_network(key, I, H, O, **options)
    assert_equal(LSTMNetwork.to_params(variables), params)
    run = {"merge": model.merge, "cell": model.cell}
    expected = compiled(jax.grad(lambda p: total(lstmjax.network(p, xs, lengths=LENGTHS, **run)[1])), params)
    grads = compiled(jax.grad(lambda v: total(model.apply(v, xs, lengths=LENGTHS))), variables)
    assert_close(LSTMNetwork.to_params(grads), expected, gradient=True)


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


def test_expected_values_at_evaluation(xs):
    zone = (lstmjax.Zoneout(0.3, 0.2),)
    model = LSTM(H, wrappers=zone, deterministic=True)
    variables = model.init(jax.random.key(0), xs)
    assert_equal(model.apply(variables, xs), lstmjax.stacked(LSTM.to_params(variables), xs, wrappers=zone))


def test_ensemble_under_vmap(xs):
    model = LSTMNetwork(H, O, preset="torch")
    variables = jax.jit(jax.vmap(model.init, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 3), xs)
    actual = jax.jit(jax.vmap(model.apply, in_axes=(0, None)))(variables, xs)
    members = [jax.tree.map(lambda a, n=n: a[n], variables) for n in range(3)]
    assert_close(actual, jnp.stack([model.apply(v, xs) for v in members]))


def test_half_precision_keeps_c_in_float32(xs):
    model = LSTM(H, dtype=jnp.bfloat16)
    variables = model.init(jax.random.key(0), xs)
    ((h, c),), ys = model.apply(variables, xs)
    assert (h.dtype, c.dtype, ys.dtype) == (jnp.bfloat16, jnp.float32, jnp.bfloat16)
    assert LSTM.to_params(variables)[0].w_x.dtype == jnp.float32
    stored = LSTM(H, param_dtype=jnp.bfloat16)
    xs = xs.astype(jnp.bfloat16)
    variables = stored.init(jax.random.key(0), xs)
    assert LSTM.to_params(variables)[0].w_x.dtype == jnp.bfloat16
    assert stored.apply(variables, xs)[0][0][1].dtype == jnp.float32


# --- the cell in Flax's own loops -------------------------------------------------------------------


def flax_variables(params):
    """Our parameters as those of Flax's LSTMCell and OptimizedLSTMCell; the bias is on the h side."""
    gates = {name: params.gate(name) for name in "ifgo"}
    inputs = {f"i{name}": {"kernel": gate.w_x} for name, gate in gates.items()}
    hidden = {f"h{name}": {"kernel": gate.w_h, "bias": gate.b} for name, gate in gates.items()}
    return {"params": {"cell": inputs | hidden}}


def ours_in_rnn(params):
    return {"params": {"cell": LSTMCell.from_params(params)["params"]}}


flax_cells = pytest.mark.parametrize("theirs", [nn.LSTMCell, nn.OptimizedLSTMCell])


@pytest.fixture
def params():
    """Parameters whose bias is random, too."""
    return lstmjax.init_params(jax.random.key(2), I, H, init="equinox")


@flax_cells
@pytest.mark.parametrize("how", [{}, {"reverse": True}, {"reverse": True, "keep_order": True}], ids=str)
@pytest.mark.parametrize("lengths", [None, np.array([5, 1, 3])], ids=["full", "ragged"])
def test_cell_in_rnn_equals_flax(xs, params, theirs, how, lengths):
    rnn = functools.partial(nn.RNN, return_carry=True, **how)
    expected = jax.jit(rnn(theirs(H)).apply)(flax_variables(params), xs, seq_lengths=lengths)
    assert_close(jax.jit(rnn(LSTMCell(H)).apply)(ours_in_rnn(params), xs, seq_lengths=lengths), expected)


@flax_cells
def test_cell_gradients_equal_flax(xs, params, theirs):
    def through(run):
        return jax.jit(jax.grad(lambda p, x: total(run(p, x)), argnums=(0, 1)))(params, xs)

    ours = through(lambda p, x: nn.RNN(LSTMCell(H)).apply(ours_in_rnn(p), x))
    flax = through(lambda p, x: nn.RNN(theirs(H)).apply(flax_variables(p), x))
    assert_close(ours, flax, gradient=True)


@pytest.mark.parametrize("time_major", [False, True])
def test_rnn_of_our_cell_is_lstm(xs, time_major):
    rnn = nn.RNN(LSTMCell(H, projection_size=P, preset="torch"), return_carry=True, time_major=time_major)
    xs = xs.swapaxes(0, 1) if time_major else xs
    variables = rnn.init(jax.random.key(0), xs)
    params = LSTMCell.to_params({"params": variables["params"]["cell"]})
    assert params.b_h is not None
    assert params.output_size == P
    (c, h), ys = rnn.apply(variables, xs)
    assert_close(((h, c), ys), lstmjax.lstm(params, xs, time_major=time_major))


def test_rnn_of_a_cell_of_ones_own_is_lstm(xs):
    cell = LSTMCell(H, cell=OWN, preset="equinox")
    rnn, lengths = nn.RNN(cell, return_carry=True), np.array([5, 1, 3])
    variables = rnn.init(jax.random.key(0), xs)
    params = LSTMCell.to_params({"params": variables["params"]["cell"]})
    (c, h, *fed), ys = rnn.apply(variables, xs, seq_lengths=lengths)
    state, expected = lstmjax.lstm(params, xs, cell=OWN, lengths=lengths)
    assert_close((h, c, *fed), state)
    for n, length in enumerate(lengths):  # Flax leaves what is behind the end as it comes
        assert_close(ys[n, :length], expected[n, :length])
    carry = LSTMCell(H, cell=OWN, dtype=jnp.bfloat16).initialize_carry(jax.random.key(0), (B, I))
    assert [a.dtype for a in carry] == [jnp.float32, jnp.bfloat16, jnp.float32, jnp.float32, jnp.float32]


def test_cell_in_bidirectional(xs):
    both = nn.Bidirectional(nn.RNN(LSTMCell(H)), nn.RNN(LSTMCell(H)))
    variables = both.init(jax.random.key(0), xs)
    ways = (variables["params"][f"{way}_rnn"]["cell"] for way in ("forward", "backward"))
    pair = lstmjax.Bidirectional(*(LSTMCell.to_params({"params": way}) for way in ways))
    assert_close(both.apply(variables, xs), lstmjax.stacked((pair,), xs)[1])


def test_cell_in_half_precision(xs, params):
    rnn = nn.RNN(LSTMCell(H, dtype=jnp.bfloat16), return_carry=True)
    (c, h), ys = rnn.apply(ours_in_rnn(params), xs)
    assert (c.dtype, h.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16, jnp.bfloat16)
    assert_equal(((h, c), ys), lstmjax.lstm(params, xs, dtype=jnp.bfloat16))


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
    "hidden_features is 2.5": lambda: init(LSTMNetwork(2.5, O)),
    "out_features is -1": lambda: init(LSTMNetwork(H, -1)),
    "^features is 0": lambda: init(LSTM(0)),
    "layers is 0": lambda: init(LSTM(H, layers=0)),
    "projection_size is 0": lambda: init(LSTM(H, projection_size=0)),
    "preset is 'pytorch'": lambda: init(LSTM(H, preset="pytorch")),
    "bias is 'triple'": lambda: init(LSTM(H, bias="triple")),
    "merge is 'mean'": lambda: init(LSTM(H, merge="mean")),
    "cell is 'gru', expected one of 'vanilla'": lambda: init(LSTM(H, cell="gru")),
    "dropout is 1.5": lambda: init(LSTM(H, dropout=1.5, deterministic=True)),
    "backend is 'gpu'": lambda: init(LSTM(H, backend="gpu")),
    "dtype is int32": lambda: init(LSTM(H, dtype=jnp.int32)),
    "param_dtype is int32": lambda: init(LSTM(H, param_dtype=jnp.int32)),
    "params is a LSTMParams, expected a tuple": lambda: LSTM.from_params(PARAMS),
    "params is a tuple of 1, expected NetworkParams": lambda: LSTMNetwork.from_params((PARAMS,)),
    "params is a tuple of 1, expected LSTMParams": lambda: LSTMCell.from_params((PARAMS,)),
    "xs has 3 features": lambda: LSTM(H).apply(LSTM.from_params((PARAMS,)), jnp.ones((B, T, 3))),
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
