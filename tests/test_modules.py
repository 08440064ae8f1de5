"""The Flax modules, NNX and linen alike: they are the functions that they call, and their cells run in Flax's loops.

What only one of the two has is in test_nnx and test_linen.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from modules import (
    INITIALISERS,
    LENGTHS,
    OWN,
    SIZES,
    B,
    H,
    I,
    Linen,
    Nnx,
    O,
    P,
    T,
    assert_equal,
    compiled,
    kinds,
    runs,
    total,
)
from tiers import tiered
from tolerances import assert_close

import lstmjax


@pytest.fixture
def xs():
    return jax.random.normal(jax.random.key(7), (B, T, I))


# --- the modules are the functions -----------------------------------------------------------------


@kinds
@runs
def test_a_module_is_its_function(xs, run, kind):
    xs = xs.swapaxes(0, 1) if run.get("time_major") else xs
    key = jax.random.key(3)
    stack, net = kind("LSTM", I, H, layers=2, **run), kind("LSTMNetwork", I, H, O, layers=2, **run)
    evaluate = None if {"dropout", "wrappers"}.isdisjoint(run) else False
    expected = lstmjax.stacked(stack.params, xs, lengths=LENGTHS, key=stack.drawn(key), **run)
    assert_equal(stack(xs, lengths=LENGTHS, key=key, evaluate=evaluate), expected)
    expected = lstmjax.network(net.params, xs, lengths=LENGTHS, key=net.drawn(key), **run)
    assert_equal(net(xs, lengths=LENGTHS, key=key, evaluate=evaluate, return_state=True), expected)
    if "wrappers" in run:  # expected values at evaluation
        run = {name: value for name, value in run.items() if name != "dropout"}
        assert_equal(stack(xs, evaluate=True), lstmjax.stacked(stack.params, xs, **run))


@kinds
def test_call_passes_everything_on(xs, kind):
    model, head = kind("LSTM", I, H, layers=2), kind("LSTMNetwork", I, H, O, layers=2)
    start = jax.tree.map(lambda a: a + 0.5, lstmjax.stacked(model.params, xs)[0])
    options = {
        "mask": jax.random.bernoulli(jax.random.key(1), 0.7, (B, T)),
        "resets": jax.random.bernoulli(jax.random.key(2), 0.3, (B, T)),
        "reset_state": start,
        "emit": "step",
        "padding": "hold",
    }
    assert_equal(model(xs, start, **options), lstmjax.stacked(model.params, xs, start, **options))
    options = {name: options[name] for name in ("mask", "resets")}
    assert_equal(head(xs, start, **options), lstmjax.network(head.params, xs, start, **options)[1])


@kinds
def test_a_single_layer_takes_its_state_alone(xs, kind):
    model, head = kind("LSTM", I, H), kind("LSTMNetwork", I, H, O)
    state = model(xs)[0]
    ((h, c),) = state
    options = {"resets": jax.random.bernoulli(jax.random.key(2), 0.3, (B, T))}
    expected = model(xs, state, reset_state=state, **options)
    assert_equal(model(xs, (h, c), reset_state=(h, c), **options), expected)
    assert_equal(head(xs, (h, c)), head(xs, state))
    pair = kind("LSTM", I, H, bidirectional=True)
    both = pair(xs)[0]
    assert_equal(pair(xs, both[0]), pair(xs, both))


@kinds
@pytest.mark.parametrize(
    "name",
    tiered(
        ["pairs summed", "projection", "two biases", "no bias", "gates fed back"],
        first=["pairs summed", "gates fed back"],
    ),
)
def test_gradients_are_the_functions(xs, name, kind):
    size = SIZES[name]
    model = kind("LSTMNetwork", I, H, O, **size)
    run = {name: size[name] for name in ("merge", "cell") if name in size}
    of_function = jax.grad(lambda p: total(lstmjax.network(p, xs, lengths=LENGTHS, **run)[1]))
    slopes = model.slopes(lambda call: total(call(xs, lengths=LENGTHS)))
    assert_close(slopes, compiled(of_function, model.params), gradient=True)


@kinds
@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("size", ["plain", "two biases", "no bias", "forget bias", "gates fed back"])
def test_initial_values_are_the_functions(name, size, kind):
    widths = (I, H, O) if name == "LSTMNetwork" else (I, H)
    params, key = kind.initial(name, *widths, **SIZES[size])
    assert_equal(params, INITIALISERS[name](key, *widths, **SIZES[size]))


@kinds
def test_initial_values_of_pairs_with_a_projection_are_the_functions(kind):
    options = {"layers": 2, "bidirectional": True, "merge": "sum", "projection_size": P, "init": "torch"}
    params, key = kind.initial("LSTMNetwork", I, H, O, **options)
    assert_equal(params, lstmjax.init_network(key, I, H, O, **options))


@kinds
def test_half_precision_keeps_c_in_float32(xs, kind):
    ((h, c),), ys = kind("LSTM", I, H, dtype=jnp.bfloat16)(xs)
    assert (h.dtype, c.dtype, ys.dtype) == (jnp.bfloat16, jnp.float32, jnp.bfloat16)
    params, _ = kind.initial("LSTM", I, H, param_dtype=jnp.bfloat16)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    params, _ = kind.initial("LSTM", I, H, dtype=jnp.bfloat16)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}


# --- the cell in Flax's own loops -------------------------------------------------------------------


def nnx_cells(params):
    """Flax's cells with our parameters: a Linear for each gate, or gates side by side; the bias is on the h side."""
    separate, joint = nnx.LSTMCell(I, H, rngs=nnx.Rngs(0)), nnx.OptimizedLSTMCell(I, H, rngs=nnx.Rngs(0))
    for name, gate in (("i", "i"), ("f", "f_"), ("g", "g"), ("o", "o")):
        x, h, ours = getattr(separate, f"i{gate}"), getattr(separate, f"h{name}"), params.gate(name)
        x.kernel[...], h.kernel[...], h.bias[...] = ours.w_x, ours.w_h, ours.b
    joint.dense_i.kernel[...] = params.w_x.reshape(I, -1)
    joint.dense_h.kernel[...] = params.w_h.reshape(H, -1)
    joint.dense_h.bias[...] = params.b.reshape(-1)
    return separate, joint


def in_nnx(params, which, *, lengths=None, **options):
    loop = nnx.RNN(nnx_cells(params)[which], return_carry=True, **options)
    return lambda xs: loop(xs, seq_lengths=lengths)


def in_linen(params, which, *, lengths=None, **options):
    gates = {name: params.gate(name) for name in "ifgo"}
    inputs = {f"i{name}": {"kernel": gate.w_x} for name, gate in gates.items()}
    hidden = {f"h{name}": {"kernel": gate.w_h, "bias": gate.b} for name, gate in gates.items()}
    loop = linen.RNN((linen.LSTMCell, linen.OptimizedLSTMCell)[which](H), return_carry=True, **options)
    return lambda xs: loop.apply({"params": {"cell": inputs | hidden}}, xs, seq_lengths=lengths)


REFERENCE = {Nnx: in_nnx, Linen: in_linen}
WAYS = {  # the options of Flax's loop, with and without lengths, and which of Flax's two cells is compared
    "forwards": ({}, None, 0),
    "ragged": ({}, np.array([5, 1, 3]), 1),
    "reverse": ({"reverse": True}, None, 1),
    "reverse, ragged": ({"reverse": True}, np.array([5, 1, 3]), 0),
    "reverse, in order": ({"reverse": True, "keep_order": True}, None, 0),
    "reverse, in order, ragged": ({"reverse": True, "keep_order": True}, np.array([5, 1, 3]), 1),
}


@pytest.fixture
def params():
    """Parameters whose bias is random, too."""
    return lstmjax.init_params(jax.random.key(2), I, H, init="equinox")


@kinds
@pytest.mark.parametrize(("how", "lengths", "which"), WAYS.values(), ids=WAYS)
def test_cell_in_rnn_equals_flax(xs, params, how, lengths, which, kind):
    def through(run):
        return jax.jit(lambda params: run(params)(xs))(params)

    expected = through(lambda p: REFERENCE[kind](p, which, lengths=lengths, **how))
    assert_close(through(lambda p: kind.rnn(p, lengths=lengths, **how)), expected)


@kinds
@pytest.mark.parametrize("which", [0, 1], ids=["LSTMCell", "OptimizedLSTMCell"])
def test_cell_gradients_equal_flax(xs, params, which, kind):
    def through(run):
        return jax.jit(jax.grad(lambda p, x: total(run(p)(x)[1]), argnums=(0, 1)))(params, xs)

    ours = through(kind.rnn)
    assert_close(ours, through(lambda p: REFERENCE[kind](p, which)), gradient=True)
    assert_close(ours, through(lambda p: lambda x: lstmjax.lstm(p, x)), gradient=True)


@kinds
@pytest.mark.parametrize("time_major", [False, True])
def test_rnn_of_our_cell_is_lstm(xs, time_major, kind):
    params = lstmjax.init_params(jax.random.key(2), I, H, projection_size=P, init="torch")
    xs = xs.swapaxes(0, 1) if time_major else xs
    (c, h), ys = kind.rnn(params, time_major=time_major)(xs)
    assert_close(((h, c), ys), lstmjax.lstm(params, xs, time_major=time_major))


@pytest.mark.thorough
@kinds
def test_rnn_of_a_cell_of_ones_own_is_lstm(xs, kind):
    params = lstmjax.init_params(jax.random.key(2), I, H, cell=OWN, init="equinox")
    lengths = np.array([5, 1, 3])
    (c, h, *fed), ys = kind.rnn(params, cell=OWN, lengths=lengths)(xs)
    state, expected = lstmjax.lstm(params, xs, cell=OWN, lengths=lengths)
    assert_close((h, c, *fed), state)
    for n, length in enumerate(lengths):  # Flax leaves what is behind the end as it comes
        assert_close(ys[n, :length], expected[n, :length])
    carry, _ = kind.rnn(params, cell=OWN, dtype=jnp.bfloat16)(xs)
    assert [a.dtype for a in carry] == [jnp.float32, jnp.bfloat16, jnp.float32, jnp.float32, jnp.float32]


@kinds
def test_cell_in_half_precision(xs, params, kind):
    (c, h), ys = kind.rnn(params, dtype=jnp.bfloat16)(xs)
    assert (c.dtype, h.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16, jnp.bfloat16)
    assert_equal(((h, c), ys), lstmjax.lstm(params, xs, dtype=jnp.bfloat16))


# --- what is refused --------------------------------------------------------------------------------

PARAMS = lstmjax.init_params(jax.random.key(0), I, H)


def sized(inputs=I, hidden=H, **options):
    return lambda kind: kind.initial("LSTM", inputs, hidden, **options)


REFUSED = {
    "features is 2.5": sized(hidden=2.5),
    "out_features is -1": lambda kind: kind.initial("LSTMNetwork", I, H, -1),
    "layers is 0": sized(layers=0),
    "projection_size is 0": sized(projection_size=0),
    "(init|preset) is 'pytorch'": sized(init="pytorch"),
    "bias is 'triple'": sized(bias="triple"),
    "merge is 'mean'": sized(merge="mean"),
    "cell is 'gru', expected one of 'vanilla'": sized(cell="gru"),
    "dropout is 1.5": sized(dropout=1.5, deterministic=True),
    "backend is 'gpu'": sized(backend="gpu"),
    "unroll is 0": sized(unroll=0),
    "(?<!param_)dtype is int32": sized(dtype=jnp.int32),
    "param_dtype is int32": sized(param_dtype=jnp.int32),
    "wrappers is a Zoneout": sized(wrappers=lstmjax.Zoneout(0.1, 0.1), deterministic=True),
    "params is a LSTMParams, expected a tuple": lambda kind: kind.package.LSTM.from_params(PARAMS),
    "params is a tuple of 1, expected NetworkParams": lambda kind: kind.package.LSTMNetwork.from_params((PARAMS,)),
    "params is a tuple of 1, expected LSTMParams": lambda kind: kind.package.LSTMCell.from_params((PARAMS,)),
    "xs has 3 features": lambda kind: kind("LSTM", I, H)(jnp.ones((B, T, 3))),
}


@kinds
@pytest.mark.parametrize("words", REFUSED)
def test_refusals_name_the_argument(words, kind):
    with pytest.raises((ValueError, TypeError), match=f"(?i){words}"):
        REFUSED[words](kind)
