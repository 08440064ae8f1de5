"""Files of other frameworks: every kind and form there and back, read by the frameworks, and refused where unsafe."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T
from exchange import KEPT, LSTM, NEEDS, headed, inputs, layer, needed, ones, pair, same, stack, zipped
from tolerances import assert_close

from lstmjax import NetworkParams, network
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_torch, load_model, load_weights, save_weights
from lstmjax.frameworks.keras.config import describe

EVERY = [(end, form) for end, forms in KEPT.items() for form in forms]


@pytest.mark.parametrize(("end", "form"), EVERY)
def test_there_and_back(end, form, tmp_path):
    needed(end)
    layers, path = stack(form), tmp_path / f"weights{end}"
    names = None if form != "keras" or end == ".weights.h5" else ["lstm", "bidirectional", "lstm_1"]
    last = layers[-1]
    width = 2 * last[0].output_size if hasattr(last, "reverse") else last.output_size
    for params in (layers, headed(layers, width)):
        save_weights(params, path, form=form)
        back = load_weights(path, names=names)
        if form == "haiku":  # which does not store the 1 that it adds to f's bias
            assert_close(back, params)
        else:
            same(back, params)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("end", "form"), [pair for pair in EVERY if pair[1] != "onnx"])
def test_dtypes_there_and_back(end, form, tmp_path):
    needed(end)
    path = tmp_path / f"weights{end}"
    params = (layer(biases=2 if form == "torch" else 1),)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    if end == ".npz":
        path.write_bytes(b"old")
        with pytest.raises(ConvertError, match=r"NPZ has no bfloat16, which .* is; write \.safetensors, or cast it"):
            save_weights(half, path, form=form)
        assert path.read_bytes() == b"old"
        assert not list(tmp_path.glob("*.new"))
    elif form != "haiku":
        save_weights(half, path, form=form)
        same(load_weights(path), half)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        save_weights(double, path, form=form)
        back = load_weights(path)
    assert_close(back, double)
    with pytest.raises(ConvertError, match=r"weights\..*: the weights are float64, which JAX would round"):
        load_weights(path)


@pytest.mark.peers
def test_pytorch_loads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(2 * H, 5)

        def forward(self, xs):
            return self.head(self.lstm(xs)[0])

    net, params, xs = Net(), headed(stack("torch"), 2 * H), inputs()
    save_weights(params, tmp_path / "net.pth")
    net.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    same(from_torch(net), params.layers)
    expected = jnp.asarray(net(torch.from_numpy(np.asarray(xs).copy())).detach().numpy())
    assert_close(network(params, xs, return_sequences=True)[1], expected)
    save_weights(params.layers, tmp_path / "lstm.bin")
    net.lstm.load_state_dict(torch.load(tmp_path / "lstm.bin", weights_only=True))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_keras_loads_what_is_written_and_its_files_are_read(keras, tmp_path):
    pytest.importorskip("h5py")
    made = keras.layers

    def blank(**last):
        return keras.Sequential(
            [
                keras.Input((T, I)),
                made.LSTM(H, return_sequences=True, name="zuerst"),
                made.Dropout(0.5),
                made.Bidirectional(made.LSTM(H, return_sequences=True), name="dann"),
                made.LSTM(3, name="bald"),
                made.Dense(5, **last),
            ]
        )

    params, xs, model = headed(stack("keras"), 3), inputs(), blank(activation="softmax")
    with jax.numpy_dtype_promotion("strict"):
        save_weights(params, tmp_path / "new.weights.h5")
        expected = jax.nn.softmax(network(params, xs)[1])
    # Keras counts a layer's place by its class, so Dropout in between changes nothing.
    model.load_weights(tmp_path / "new.weights.h5")
    assert_close(jnp.asarray(model(xs)), expected)
    model.save(tmp_path / "model.keras")
    same(load_weights(tmp_path / "model.keras"), params)
    model.save(tmp_path / "model.h5")
    same(load_weights(tmp_path / "model.h5", names=["zuerst", "dann", "bald"]), params)
    model.save_weights(tmp_path / "old.weights.h5")
    with pytest.raises(ConvertError, match=r"does not keep the order of bidirectional, lstm, lstm_1; pass names="):
        load_weights(tmp_path / "old.weights.h5")
    same(load_weights(tmp_path / "old.weights.h5", names=["lstm", "bidirectional", "lstm_1"]), params)
    with pytest.raises(ConvertError, match="the order is said for lstm, but there is layers/bidirectional too"):
        load_weights(tmp_path / "old.weights.h5", names=["lstm"])
    blank(activation="relu").save(tmp_path / "relu.keras")
    with pytest.raises(ConvertError, match=r"relu\.keras: the activation of the head is relu: layers alone do not say"):
        load_weights(tmp_path / "relu.keras")
    assert load_weights(tmp_path / "relu.keras", extra="drop").head.w.shape == (3, 5)


def test_flax_and_haiku_load_what_is_written(tmp_path):
    from flax import linen, nnx, serialization

    params, xs = headed(stack("linen"), 3), inputs()

    def rnn(units):
        return linen.RNN(linen.LSTMCell(units))

    module = linen.Sequential([rnn(H), linen.Bidirectional(rnn(H), rnn(H)), rnn(3), linen.Dense(5)])
    save_weights(params, tmp_path / "linen.msgpack")
    variables = serialization.msgpack_restore((tmp_path / "linen.msgpack").read_bytes())
    shapes = jax.eval_shape(module.init, jax.random.key(0), xs)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)

    def net():
        rngs = nnx.Rngs(0)
        cells = [nnx.RNN(nnx.LSTMCell(*sizes, rngs=rngs)) for sizes in ((I, H), (H, H), (H, H), (2 * H, 3))]
        return nnx.Sequential(cells[0], nnx.Bidirectional(*cells[1:3]), cells[3], nnx.Linear(3, 5, rngs=rngs))

    save_weights(params, tmp_path / "nnx.msgpack", form="nnx")
    tree = nnx.restore_int_paths(serialization.msgpack_restore((tmp_path / "nnx.msgpack").read_bytes()))
    module = nnx.state(nnx.eval_shape(net), nnx.Param)
    assert jax.tree.map(jnp.shape, tree) == jax.tree.map(jnp.shape, nnx.to_pure_dict(module))

    haiku = pytest.importorskip("haiku")

    def unroll(xs):
        core = haiku.DeepRNN([haiku.LSTM(H), haiku.LSTM(3), haiku.Linear(5)])
        return haiku.dynamic_unroll(core, xs, core.initial_state(B), time_major=False)[0]

    save_weights(headed(stack("haiku"), 3), tmp_path / "haiku.npz", form="haiku")
    with np.load(tmp_path / "haiku.npz") as file:
        shapes = {name: file[name].shape for name in file.files}
    drawn = jax.eval_shape(haiku.transform(unroll).init, jax.random.key(0), xs)
    assert shapes == {f"{name}/{leaf}": a.shape for name, leaves in drawn.items() for leaf, a in leaves.items()}


def of_keras(kind, name, *sources, **config):
    entering = [{"config": {"keras_history": [source, 0, 0]}} for source in sources]
    nodes = [{"args": entering, "kwargs": {"mask": None, "training": False}}] if sources else []
    return {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}


def test_what_keras_says_beside_weights_is_read_without_keras():
    back = of_keras("LSTM", "back", go_backwards=True)
    back["config"]["return_sequences"] = every = True
    inner = of_keras("Sequential", "inner", layers=[of_keras("Bidirectional", "b", layer=back, backward_layer=back)])
    layers = [of_keras("InputLayer", "in"), inner, of_keras("LSTM", "l", return_sequences=every)]
    last = [of_keras("LSTM", "k", activation="tanh"), of_keras("Dense", "d")]
    said = describe({"config": {"layers": [*layers, *last]}})
    assert said.order[1:] == ("layers/sequential/layers/bidirectional", "layers/lstm", "layers/lstm_1", "layers/dense")
    assert said.head == "layers/dense"
    assert said.settings == ("b/layer: go_backwards is True",)  # of the backward layer it is meant so
    ahead = of_keras("LSTM", "a", "in", return_sequences=True)
    for layers, said in (
        (
            [of_keras("LSTM", "a", recurrent_activation="hard_sigmoid")],
            "a: recurrent_activation is 'hard_sigmoid', which",
        ),
        ([of_keras("Bidirectional", "a", layer=of_keras("LSTM", "l"), merge_mode="mul")], "a: merge_mode is 'mul'"),
        ([of_keras("LSTM", "l"), of_keras("Dense", "b", activation="glu")], "b: activation is 'glu'"),
        ([of_keras("Embedding", "a")], "a (Embedding)"),
        ([ahead, of_keras("LSTM", "b", "a")], ""),
        ([ahead, of_keras("LSTM", "b", "in")], "in is read by a, b"),
        ([of_keras("LSTM", "a", "x", "y")], "a reads y, x"),
        (
            [{"class_name": "LSTM", "config": {"name": "a"}, "inbound_nodes": [[["x", 0, 0, {}], ["y", 0]]]}],
            "a reads x, y",
        ),
    ):
        found = describe({"config": {"layers": layers}}).settings
        assert found[0].startswith(said) if said else not found, found
    for odd in (None, [], {"config": []}, {"config": {"layers": [1, {"config": 3}, {"class_name": []}]}}):
        assert set(describe(odd).settings) <= {" ()"}


MODEL = {f"rnn.{name}": a for name, a in LSTM.items()}
FC = {"fc.weight": ones(5, 4), "fc.bias": ones(5)}
NEXT = {"next.weight": ones(2, 5), "next.bias": ones(2)}
BEFORE = {"proj.weight": ones(3, 5), "proj.bias": ones(3)}
EMBEDDING = {"embed.weight": ones(9, 4)}
NORM = {"norm.weight": ones(4), "norm.bias": ones(4)}


@pytest.mark.parametrize(
    ("arrays", "said", "head", "left"),
    [
        (FC, {}, (4, 5), None),
        (FC | NORM, {}, (4, 5), "norm.weight, norm.bias. Pass extra='drop' to leave it behind"),
        (FC | BEFORE, {}, (4, 5), "proj.weight, proj.bias"),
        (EMBEDDING, {}, None, "embed.weight. Pass extra='drop' to leave it behind; if one of embed is the head, pass"),
        (EMBEDDING, {"head": "embed"}, (4, 9), None),
        (FC | NEXT, {}, None, "if one of fc, next is the head, pass head="),
        (FC | NEXT, {"head": "fc"}, (4, 5), "next.weight, next.bias"),
        (FC | {"a.weight": ones(5, 4), "a.bias": ones(5)}, {}, None, "if one of fc, a is the head, pass head="),
        ({"epoch": np.array(3)}, {}, None, "epoch"),
    ],
)
def test_a_head_is_taken_where_it_is_sure_and_nothing_is_dropped_silently(arrays, said, head, left, tmp_path):
    np.savez(tmp_path / "model.npz", **MODEL, **arrays)
    if left:
        with pytest.raises(ConvertError, match=r"model\.npz: holds more than LSTM layers and a head: ") as error:
            load_weights(tmp_path / "model.npz", **said)
        assert left in str(error.value)
    found = load_weights(tmp_path / "model.npz", **said, extra="drop")
    assert isinstance(found, NetworkParams) == (head is not None)
    if head:
        assert found.head.w.shape == head
        assert found.head.b.shape == head[1:]


@pytest.mark.parametrize("first", [True, False])
def test_a_dense_layer_that_fits_on_either_side_is_a_head_only_behind_the_lstm(first, tmp_path):
    """A Linear from 4 to 4 before an LSTM of 4 numbers became its head."""
    path = tmp_path / "model.npz"
    lstm = {"lstm.weight_ih_l0": ones(16, 4), "lstm.weight_hh_l0": ones(16, 4)}
    fc = {"pre.weight": ones(4, 4), "pre.bias": ones(4)}
    np.savez(path, **(fc | lstm if first else lstm | fc))
    if first:
        with pytest.raises(ConvertError, match="if one of pre is the head, pass head="):
            load_model(path)
    model = load_model(path, head="pre" if first else None)
    assert model.params.head.w.shape == (4, 4)
    assumed = "pre.weight as the head's, though it fits before the layers, too"
    assert (assumed in model.architecture.assumed) == (not first)
    np.savez(path, **dict(sorted({**lstm, "fc.weight": ones(4, 4), "fc.bias": ones(4)}.items())))
    assert "fc.weight as the head's, though it fits before the layers, too" in load_model(path).architecture.assumed


def test_several_lstms_are_chosen_from_or_put_on_top_of_each_other(tmp_path):
    path = tmp_path / "several.npz"
    upper = {"weight_ih_l0": ones(8, 4), "weight_hh_l0": ones(8, 2)}
    np.savez(path, **{f"{p}.{n}": a for p, arrays in (("up", upper), ("down", LSTM)) for n, a in arrays.items()})
    assert [one.hidden_size for one in load_weights(path, names=["down", "up"])] == [4, 2]
    assert load_weights(path, prefix="up.", extra="drop")[0].hidden_size == 2
    assert main(["convert", str(path), f"{tmp_path}/one.npz", "--names", "down", "up"]) == 0
    assert [one.hidden_size for one in load_weights(tmp_path / "one.npz")] == [4, 2]
    for said, words in (
        ({}, r"several\.npz: there are several LSTMs: prefix can be 'down\.', 'up\.'\. If each .* pass names="),
        ({"prefix": "up."}, r"a head: down\.weight_ih_l0, down\.weight_hh_l0\. Pass extra='drop'"),
        ({"prefix": "x."}, r"prefix is 'x\.', but no name begins so; there are up\.weight_ih_l0"),
        ({"names": ["up", "down"]}, "layer 1 takes 3 numbers, but layer 0 gives 2, so they do not stand on top of"),
        ({"head": "fc", "prefix": "up."}, "head is 'fc', but the Dense layers in it are none"),
        ({"form": "linen"}, "there is no LSTM cell in it"),
        ({"form": "lstmjax"}, r"holds down\.weight_hh_l0, .* expected layers\.0\.w_x and so on"),
    ):
        with pytest.raises(ConvertError, match=words):
            load_weights(path, **said)
    for said in ({"form": "tensorflow"}, {"extra": "keep"}):
        with pytest.raises(ValueError, match=r"form is 'tensorflow', expected one of|extra is 'keep', expected one of"):
            load_weights(path, **said)


def test_what_an_onnx_file_computes_beside_layers_is_not_dropped_silently(tmp_path):
    """The scale of the inputs, merge="sum", residual connections and other layers are no weights of an LSTM."""
    onnx = pytest.importorskip("onnx")
    from lstmjax.convert import to_onnx

    path, pairs = tmp_path / "model.onnx", (pair(biases=2),)
    to_onnx(pairs, path)
    same(load_weights(path), pairs)
    to_onnx(pairs, path, scaling=(np.zeros(pairs[0].forward.input_size), np.ones(pairs[0].forward.input_size)))
    with pytest.raises(ConvertError, match=r"a head: between the input 'xs' and X of node .* stands node .* \(Sub\)"):
        load_weights(path)
    to_onnx(pairs, path, merge="sum")
    with pytest.raises(ConvertError, match="it states that directions are joined by 'sum', but merge is 'concat'"):
        load_weights(path)
    same(load_weights(path, merge="sum"), pairs)
    model = to_onnx(pairs)
    model.graph.node.append(onnx.helper.make_node("Gemm", ["ys", "weight"], ["other"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    onnx.save_model(model, path)
    with pytest.raises(ConvertError, match=r"and the output 'other' stands node 'other' .*Pass extra="):
        load_weights(path)
    same(load_weights(path, extra="drop"), pairs)
    side = to_onnx((layer(biases=2),))
    other = side.graph.node.add()
    other.CopyFrom(next(node for node in side.graph.node if node.op_type == "LSTM"))
    other.output[:] = ["y", "h", "c"]
    onnx.save_model(side, path)
    with pytest.raises(
        ConvertError, match=r"node 'Y_2' \(LSTM\) and node 'y' \(LSTM\) stand side by side, and all take"
    ):
        load_weights(path)


def test_state_of_optimizers_and_random_numbers_stays_behind(tmp_path):
    import flax.serialization

    params = (layer(),)
    save_weights(params, tmp_path / "w.msgpack", form="nnx")
    tree = flax.serialization.msgpack_restore((tmp_path / "w.msgpack").read_bytes())
    tree["layers"]["0"]["rngs"] = {"count": np.zeros((), np.uint32)}
    tree["step"] = 7
    (tmp_path / "w.msgpack").write_bytes(flax.serialization.to_bytes(tree))
    same(load_weights(tmp_path / "w.msgpack"), params)


@pytest.mark.parametrize("checkout", [False, True])
@pytest.mark.parametrize(("end", "package"), NEEDS.items())
def test_a_missing_package_is_named_with_how_to_get_it(end, package, checkout, tmp_path, monkeypatch):
    monkeypatch.setattr("lstmjax.__file__", str(tmp_path / "lstmjax" / "__init__.py"))
    if checkout:
        (tmp_path / "pyproject.toml").touch()

    def write(path):
        save_weights(layer(), path)

    (tmp_path / f"a{end}").write_bytes(zipped(**{"config.json": "{}", "model.weights.h5": "a"}))
    monkeypatch.setitem(sys.modules, package, None)
    what = r"\." if checkout else "lstmjax"
    remedy = "pip install torch" if package == "torch" else rf"pip install '{what}\[convert\]'"
    acts = {".keras": (load_weights,), ".pt": (write,)}.get(end, (load_weights, write))  # .pt is read without PyTorch
    for act in acts:
        with pytest.raises(ConvertError, match=rf"such files need {package}, which is not installed: {remedy}"):
            act(tmp_path / f"a{end}")


def test_the_command_says_what_it_carried(tmp_path, capsys):
    source, target = tmp_path / "in.npz", tmp_path / "out.msgpack"
    save_weights(headed((layer(biases=2, width=3), pair(3, biases=2)), 2 * H), source)
    assert main(["convert", str(source), str(tmp_path / "x.npz"), "--to", "torch"]) == 2
    assert "lstmjax: the layers differ in hidden size" in capsys.readouterr().err
    np.savez(source, **MODEL, **FC, **NORM, epoch=np.array(3))
    assert main(["convert", str(source), str(target)]) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        f"lstmjax: {source}: holds more than LSTM layers and a head: norm.weight, norm.bias, epoch. Pass --extra drop "
        "to leave it behind\n"
    )
    assert not target.exists()
    assert main(["convert", str(source), str(target), "--extra", "drop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{source}: torch",
        "layer 0: 3 → 4, no bias, float32",
        "head: 4 → 5, float32",
        f"parameters {16 * 3 + 16 * 4 + 5 * 4 + 5}",
        f"{target}: linen",
        "not bit by bit: no bias became one of zeros",
        "left behind: norm.weight",
        "left behind: norm.bias",
        "left behind: epoch",
        "assumed, since the file holds weights alone: inputs [batch, time, features], whatever batch_first was, "
        "nothing but dropout before, between and after the layers, logits as the head's output",
    ]
    assert load_weights(target).layers[0].b.shape == (4, 4)
    assert main(["convert", str(source), f"{tmp_path}/./in.npz"]) == 2
    assert "in.npz: is the file that is read; give another one" in capsys.readouterr().err


def test_the_command_says_what_is_not_bit_by_bit(tmp_path, capsys):
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    save_weights(layer(), a)
    assert main(["convert", str(a), str(b), "--to", "torch"]) == 0
    assert "not bit by bit: one bias became two, one of them zeros: the same outputs, but" in capsys.readouterr().out
    assert main(["convert", str(b), str(a), "--to", "haiku"]) == 2
    assert "haiku keeps one. Their sum computes the same, and trains differently" in capsys.readouterr().err
    assert main(["convert", str(b), str(a), "--from", "torch", "--to", "haiku", "--sum-biases"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-3:-1] == [
        "not bit by bit: b and b_h were added up",
        "not bit by bit: f's bias is rounded: haiku adds 1 to it at run time, and does not store that",
    ]
    assert main(["convert", str(a), str(b)]) == 0
    assert capsys.readouterr().out.splitlines()[-2].startswith("not bit by bit: f's bias is rounded: haiku adds 1")
    with jax.enable_x64(True):
        save_weights(jax.tree.map(lambda a: a.astype(jnp.float64), layer(width=3)), a)
    assert main(["convert", str(a), str(b)]) == 0
    assert "layer 0: 2 → 3, 4 units, one bias, float64" in capsys.readouterr().out


WRONG_CELLS = {
    "peephole": "has w_c, but layer 0 has none",
    "layer_norm": "has norm, but layer 0 has none",
    "projection": "has w_c, but layer 0 has none",
    "fgr": "has w_c, but layer 0 has none",
    "cifg": "has the 3 gates i, g, o, but layer 0 has 4",
}


@pytest.mark.parametrize("cell", WRONG_CELLS)
def test_a_cell_that_weights_are_not_of_is_refused(cell, tmp_path, capsys):
    source, target = tmp_path / "a.npz", tmp_path / "b.npz"
    save_weights(layer(), source)
    with pytest.raises(ConvertError, match=rf"a\.npz: cell is '{cell}', which {WRONG_CELLS[cell]}\. Pass the cell"):
        load_weights(source, cell=cell)
    assert main(["convert", str(source), str(target), "--cell", cell]) == 2
    assert f"--cell is '{cell}', which {WRONG_CELLS[cell]}" in capsys.readouterr().err
    assert not target.exists()
