"""Weights carried to every framework that is installed and back: bit by bit, and the same outputs."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T
from exchange import inputs, layer, pair, same
from tolerances import assert_close

from lstmjax import Bidirectional, Dense, LSTMParams, NetworkParams, init_params, lstm, network, stacked, verify
from lstmjax.convert import (
    LAYOUTS,
    ConvertError,
    from_cudnn,
    from_equinox,
    from_haiku,
    from_keras,
    from_linen,
    from_nnx,
    from_safetensors,
    from_torch,
    to_cudnn,
    to_equinox,
    to_haiku,
    to_keras,
    to_linen,
    to_nnx,
    to_safetensors,
    to_torch,
)  # fmt: skip

pytestmark = pytest.mark.peers


TORCH = {
    "one": lambda: (layer(biases=2),),
    "no bias": lambda: (layer(biases=0),),
    "deep": lambda: (layer(biases=2), layer(H, 1, biases=2), layer(H, 2, biases=2)),
    "pairs": lambda: (pair(biases=2), pair(2 * H, 5, biases=2)),
    "projection": lambda: (layer(biases=2, width=3), layer(3, 1, biases=2, width=3)),
    "projected pairs": lambda: (pair(biases=2, width=3), pair(6, 5, biases=2, width=3)),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    torch = pytest.importorskip("torch")
    layers, xs = TORCH[name](), inputs()
    paired, part = (
        isinstance(layers[0], Bidirectional),
        jax.tree.leaves(layers, is_leaf=lambda a: isinstance(a, LSTMParams))[0],
    )
    module = torch.nn.LSTM(
        I, H, len(layers), batch_first=True, bidirectional=paired, bias=part.b is not None,
        proj_size=0 if part.w_p is None else 3,
    )  # fmt: skip
    module.load_state_dict(to_torch(layers))
    same(from_torch(module), layers)
    same(from_torch({f"encoder.{k}": v for k, v in module.state_dict().items()}), layers)
    expected, (h, c) = module(torch.from_numpy(np.asarray(xs).copy()))
    states, ys = stacked(layers, xs)
    assert_close(ys, jnp.asarray(expected.detach().numpy()))
    flat = [s for state in states for s in (state if paired else (state,))]
    for k, of_torch in enumerate((h, c)):
        assert_close(jnp.stack([s[k] for s in flat]), jnp.asarray(of_torch.detach().numpy()))


def test_torch_cells_halves_and_doubles():
    torch = pytest.importorskip("torch")
    cell = torch.nn.LSTMCell(I, H)
    (params,) = from_torch(cell)
    x = torch.randn(B, I)
    (h, c), _ = lstm(params, jnp.asarray(x.numpy())[:, None])
    for ours, theirs in zip((h, c), cell(x), strict=True):
        assert_close(ours, jnp.asarray(theirs.detach().numpy()))
    half = torch.nn.LSTM(I, H).to(torch.bfloat16)
    layers = from_torch(half)
    assert layers[0].w_x.dtype == jnp.bfloat16
    again = to_torch(layers)
    assert all(torch.equal(again[k], v) for k, v in half.state_dict().items())
    with pytest.raises(ConvertError, match="the weights are float64, which JAX would round to float32"):
        from_torch(torch.nn.LSTM(I, H, dtype=torch.float64))
    with jax.enable_x64(True):
        assert from_torch(torch.nn.LSTM(I, H, dtype=torch.float64))[0].b.dtype == jnp.float64


def test_torch_gets_a_bias_of_zeros_beside_one():
    pytest.importorskip("torch")
    one = layer()
    (two,) = from_torch(to_torch(one))
    same(two, one._replace(b_h=jnp.zeros((4, H))))


@pytest.mark.parametrize("which", ["LSTMCell", "OptimizedLSTMCell"])
def test_linen(which):
    from flax import linen

    layers, xs = (layer(), pair(H, 3)), inputs()
    cell = getattr(linen, which)
    modules = linen.RNN(cell(H)), linen.Bidirectional(linen.RNN(cell(H)), linen.RNN(cell(H)))
    below, found = xs, ()
    for module, variables in zip(modules, to_linen(layers), strict=True):
        drawn = module.init(jax.random.key(0), below)
        assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, drawn)
        same(from_linen(drawn), from_linen(drawn["params"]))
        below, found = module.apply(variables, below), found + from_linen(variables)
    assert_close(stacked(layers, xs)[1], below)
    same(found, layers)


@pytest.mark.thorough
def test_linen_modules_within_a_module():
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, xs):
            for _ in range(11):
                xs = linen.RNN(linen.LSTMCell(H))(xs)
            return xs

    variables = Net().init(jax.random.key(0), inputs())
    assert "LSTMCell_10" in variables["params"]
    assert_close(stacked(from_linen(variables), inputs())[1], Net().apply(variables, inputs()))


@pytest.mark.parametrize("which", ["LSTMCell", "OptimizedLSTMCell"])
def test_nnx(which):
    from flax import nnx

    layers, xs, rngs = (layer(), pair(H, 3)), inputs(), nnx.Rngs(0)
    cell = getattr(nnx, which)
    first = nnx.RNN(cell(I, H, rngs=rngs))
    second = nnx.Bidirectional(nnx.RNN(cell(H, H, rngs=rngs)), nnx.RNN(cell(H, H, rngs=rngs)))
    for module, tree in zip((first, second), to_nnx(layers, optimized=which != "LSTMCell"), strict=True):
        nnx.update(module, tree)
    assert_close(stacked(layers, xs)[1], second(first(xs)))
    same(from_nnx(first) + from_nnx(second), layers)
    same(from_nnx(nnx.state(second)), layers[1:])


KERAS_COPIES = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@KERAS_COPIES
@pytest.mark.parametrize("form", ["model", "file", "lists"])
def test_keras(form, keras, tmp_path):
    layers, xs = (pair(), layer(2 * H, 3), layer(H, 4), layer(H, 5)), inputs()
    cells = keras.layers.StackedRNNCells([keras.layers.LSTMCell(H), keras.layers.LSTMCell(H)])
    model = keras.Sequential(
        [
            keras.Input((T, I)),
            keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True), name="bidirectional"),
            keras.layers.LSTM(H, return_sequences=True, name="lstm"),
            keras.layers.RNN(cells, return_sequences=True, name="rnn"),
            keras.layers.Dense(2),
        ]
    )
    first, second, *cells = to_keras(layers)
    for n, weights in enumerate((first, second, cells[0] + cells[1])):
        model.layers[n].set_weights(weights)
    expected = keras.Sequential(model.layers[:3])(xs)
    assert_close(stacked(layers, xs)[1], jnp.asarray(expected))
    if form == "model":
        same(from_keras(model), layers)
    elif form == "lists":
        same(from_keras(model.layers[0].get_weights()) + from_keras(model.layers[1].get_weights()), layers[:2])
    else:
        path = tmp_path / "model.weights.h5"
        model.save_weights(path)
        # A file calls its layers by their class, and does not keep their order.
        with pytest.raises(ConvertError, match=r"does not keep the order of bidirectional, lstm, rnn; pass names="):
            from_keras(path)
        same(from_keras(path, names=["bidirectional", "lstm", "rnn"]), layers)
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(ConvertError, match="is no whole HDF5 file"):
            from_keras(path)


@pytest.mark.thorough
@KERAS_COPIES
@pytest.mark.parametrize(
    ("time", "inputs", "units", "outputs", "counts"),
    [(10, 64, 32, 2, [12_416, 66]), (100, 5, 256, 10, [268_288, 2_570])],
)
def test_the_worked_examples_in_keras(keras, time, inputs, units, outputs, counts):
    """LSTM(32) on (10, 64) and Dense(2); 5 features into 256 units and 10 classes."""
    model = keras.Sequential([keras.Input((time, inputs)), keras.layers.LSTM(units), keras.layers.Dense(outputs)])
    assert [one.count_params() for one in model.layers] == counts
    xs = jax.random.normal(jax.random.key(0), (3, time, inputs))
    params = NetworkParams(from_keras(model.layers[0]), Dense(*map(jnp.asarray, model.layers[1].get_weights())))
    assert [sum(a.size for a in jax.tree.leaves(part)) for part in params] == counts
    assert_close(network(params, xs)[1], jnp.asarray(model(xs)))


def test_steps_do_not_count_in_keras(keras):
    """LSTM(10) on 5 features has 640 parameters, whatever the steps."""
    for steps in (13, 100):
        assert keras.Sequential([keras.Input((steps, 5)), keras.layers.LSTM(10)]).count_params() == 640


def test_haiku():
    haiku = pytest.importorskip("haiku")
    layers, xs = (layer(), layer(H, 1)), inputs()

    def net(xs):
        core = haiku.DeepRNN([haiku.LSTM(H), haiku.LSTM(H)])
        return haiku.dynamic_unroll(core, xs, core.initial_state(B), time_major=False)[0]

    net = haiku.without_apply_rng(haiku.transform(net))
    params = to_haiku(layers)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, net.init(jax.random.key(0), xs))
    assert_close(stacked(layers, xs)[1], net.apply(params, xs))
    for back, ours in zip(from_haiku(params), layers, strict=True):
        same(back._replace(b=ours.b), ours)
        np.testing.assert_allclose(back.b, ours.b, atol=2e-7)  # the 1 is taken off and put on again
    drawn = net.init(jax.random.key(1), xs)
    assert (from_haiku(drawn)[0].gate("f").b == 1).all()
    same(to_haiku(from_haiku(drawn)), drawn)


@pytest.mark.parametrize("biases", [0, 1])
def test_equinox(biases):
    equinox = pytest.importorskip("equinox")
    params, xs = layer(biases=biases), inputs()
    (cell,) = to_equinox(params)
    assert isinstance(cell, equinox.nn.LSTMCell)
    state = jnp.zeros(H), jnp.zeros(H)
    for t in range(T):
        state = cell(xs[0, t], state)
    assert_close(lstm(params, xs[0])[0], state)
    same(from_equinox(cell), (params,))

    class Double(equinox.nn.LSTMCell):
        def __call__(self, x, state, *, key=None):
            h, c = equinox.nn.LSTMCell.__call__(self, x, state)
            return 2 * h, c

    other = Double(I, H, key=jax.random.key(0))
    with pytest.raises(ConvertError, match="cell is a Double with a __call__ of its own"):
        from_equinox(other)
    assert not verify(other, xs)


@pytest.mark.parametrize("name", ["one", "deep", "pairs"])
def test_cudnn(name):
    from jax.experimental import rnn

    layers, xs = TORCH[name](), inputs()
    paired = isinstance(layers[0], Bidirectional)
    sizes = {"input_size": I, "hidden_size": H, "num_layers": len(layers), "bidirectional": paired}
    flat = to_cudnn(layers)
    assert flat.size == rnn.get_num_params_in_lstm(**sizes)
    same(from_cudnn(flat, **sizes), layers)
    zeros = jnp.zeros((len(layers) * (1 + paired), B, H))
    unpacked = rnn.unpack_lstm_weights(flat, **sizes)
    lengths = jnp.full(B, T, jnp.int32)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        ys, h, _ = rnn.lstm_ref(xs, zeros, zeros, *unpacked, lengths, **sizes, dropout=0.0)
    states, expected = stacked(layers, xs)
    assert_close(ys, expected)
    flat_states = [s for state in states for s in (state if paired else (state,))]
    assert_close(h, jnp.stack([s[0] for s in flat_states]))
    with pytest.raises(ConvertError, match=r"weights has shape \(3,\), expected \(\d+,\) for these sizes"):
        from_cudnn(flat[:3], **sizes)


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.safetensors"
    norm = init_params(jax.random.key(0), 2 * P, H, cell="layer_norm")
    layers = (pair(width=P, biases=2), norm, init_params(jax.random.key(1), H, H, cell="peephole", dtype=jnp.bfloat16))
    to_safetensors(layers, path)
    same(from_safetensors(path), layers)
    net = NetworkParams(layers, Dense(jnp.ones((H, 2)), jnp.zeros(2)))
    to_safetensors(net, path)
    same(from_safetensors(path), net)
    whole = path.read_bytes()
    for damaged in (whole[:50], whole[:-9], b"\xff" * 7 + b"\x00" + whole[8:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ConvertError, match="is no whole safetensors file"):
            from_safetensors(path)
    with pytest.raises(ConvertError, match="no such file"):
        from_safetensors(tmp_path / "none")
    from safetensors.numpy import save_file

    save_file({"layers.0.w": np.ones(3)}, path)
    with pytest.raises(ConvertError, match=r"layers\.0: unknown \['w'\], missing \['w_x', 'w_h'\]"):
        from_safetensors(path)


WRITERS = {"keras": to_keras, "linen": to_linen, "nnx": to_nnx, "haiku": to_haiku, "equinox": to_equinox}


@pytest.mark.parametrize("name", WRITERS)
def test_two_biases_into_one_are_refused_unless_summed(name):
    if name in ("haiku", "equinox"):
        pytest.importorskip(name)
    with pytest.raises(ConvertError, match=rf"layer 0: .*two biases, b and b_h, but {name} keeps one.*sum_biases=True"):
        WRITERS[name](layer(biases=2))
    both = layer(biases=2)
    summed = both._replace(b=both.b + both.b_h, b_h=None)
    same_bits = zip(
        *(jax.tree.leaves(t) for t in (WRITERS[name](both, sum_biases=True), WRITERS[name](summed))), strict=True
    )
    assert all((a == b).all() for a, b in same_bits)
    with pytest.raises(ConvertError, match=f"{name} has no place for w_p"):
        WRITERS[name](layer(width=3))


@pytest.mark.parametrize("name", [*WRITERS, "torch", "cudnn"])
def test_what_a_framework_does_not_have_is_refused_by_name(name):
    write = {**WRITERS, "torch": to_torch, "cudnn": to_cudnn}[name]
    if name in ("haiku", "equinox", "torch"):
        pytest.importorskip(name)
    for cell, word in (("peephole", r"w_c \(peepholes\)"), ("fgr", "w_c"), ("layer_norm", r"norm \(layer norm")):
        with pytest.raises(ConvertError, match=f"{name} has no place for {word}"):
            write(init_params(jax.random.key(0), I, H, cell=cell))
    with pytest.raises(ConvertError, match=f"3 gate blocks, but {name} has an LSTM of four gates"):
        write(init_params(jax.random.key(0), I, H, cell="no_forget_gate"))
    with pytest.raises(TypeError, match="layers is a dict, expected a tuple of LSTMParams or Bidirectional pairs"):
        write({"w": 1})
    if name in ("torch", "cudnn"):
        with pytest.raises(ConvertError, match="the layers differ in hidden size"):
            write((layer(), layer(H, hidden=3)))
    if name in ("haiku", "equinox"):
        with pytest.raises(ConvertError, match=r"layer 0: .* runs in one direction"):
            write((pair(),))


def ones(*shape):
    return np.ones(shape, np.float32)


GOOD = {"weight_ih_l0": ones(16, 3), "weight_hh_l0": ones(16, 4)}
TORCH_REFUSES = {
    "is a list, expected a torch.nn.LSTM": [1],
    "there is no 'weight_ih_l0' among 'a'": {"a": ones(1)},
    "'weight_hh_l0' is missing; there are 'weight_ih_l0'": {"weight_ih_l0": ones(16, 3)},
    "only one is there; PyTorch keeps both or none": GOOD | {"bias_ih_l0": ones(16)},
    "the bias has shape (8,), expected (16,)": GOOD | {"bias_ih_l0": ones(8), "bias_hh_l0": ones(16)},
    "Is this an LSTM?": {"weight_ih_l0": ones(12, 3), "weight_hh_l0": ones(12, 4)},
    "expected a matrix": {"weight_ih_l0": ones(16), "weight_hh_l0": ones(16, 4)},
    "belong to no layer": GOOD | {"weight_ih_l2": ones(16, 4)},
    "there are several LSTMs: prefix can be 'a.', 'b.'": {f"{p}{k}": v for p in ("a.", "b.") for k, v in GOOD.items()},
}


@pytest.mark.parametrize("words", TORCH_REFUSES)
def test_what_is_no_lstm_of_torch_is_refused(words):
    with pytest.raises(ConvertError) as error:
        from_torch(TORCH_REFUSES[words])
    assert words in str(error.value)


def test_what_is_no_lstm_elsewhere_is_refused():
    pytest.importorskip("h5py")
    for read, source, words in (
        (from_linen, {"params": {"Dense_0": {"kernel": ones(3, 4)}}}, "there is no LSTM cell in it; it holds Dense_0"),
        (from_linen, {"cell": {"hi": 1, "hf": 1, "ii": 1, "io": 1}}, "if, ig, hg, ho is missing"),
        (from_haiku, {"linear": {"w": ones(3, 4)}}, "there is no lstm/linear among 'linear'"),
        (from_haiku, {"lstm/linear": {"w": ones(4, 16), "b": ones(16)}}, "expected (I + H, 4H)"),
        (from_equinox, SimpleNamespace(w=1), "is a SimpleNamespace, expected an equinox.nn.LSTMCell"),
        (from_keras, [ones(3, 16)], "a matrix without recurrent weights after it"),
        (from_keras, SimpleNamespace(weights=[]), "there is no LSTM in it"),
        (from_keras, "nowhere.weights.h5", "nowhere.weights.h5: no such file"),
    ):
        with pytest.raises(ConvertError) as error:
            read(source)
        assert words in str(error.value)


def test_every_layout_reads_what_it_writes():
    from lstmjax.frameworks.base.layouts import read, write

    for name, row in LAYOUTS.items():
        params = jax.tree.map(np.asarray, layer(biases=row.biases))
        back = read(row, write(row, params))
        exact = params._replace(b=back.b) if row.added else params
        same(back, exact)
        np.testing.assert_allclose(back.b, params.b, atol=2e-7, err_msg=name)
