"""Files of other frameworks: every kind and form there and back, read by the frameworks, and refused where unsafe."""

import io
import json
import os
import pickle
import random
import struct
import sys
import zipfile
from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T
from exchange import inputs, layer, pair, same
from tolerances import assert_close

from lstmjax import Dense, NetworkParams, claims, network
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_torch, load_model, load_weights, save_weights
from lstmjax.convert.containers import CONTAINERS
from lstmjax.frameworks.keras.config import describe

KEPT = {row.ends[0]: row.forms for row in CONTAINERS if row.forms}
EVERY = [(end, form) for end, forms in KEPT.items() for form in forms]
NEEDS = {".pt": "torch", ".safetensors": "safetensors", ".weights.h5": "h5py", ".keras": "h5py", ".onnx": "onnx"}
STACKS = {  # of each form, layers that it can keep; the others as Flax'
    "lstmjax": lambda: (layer()._replace(w_c=layer(3).w_x[:, 0]), layer(H, width=3, biases=2), pair(3)),
    "torch": lambda: (pair(biases=2), pair(2 * H, 2, biases=2)),
    "haiku": lambda: (layer(), layer(H, 2, hidden=3)),
    "onnx": lambda: (pair(biases=2), layer(2 * H, 2, hidden=3, biases=2)),
}


def needed(end):
    if end in NEEDS:
        pytest.importorskip(NEEDS[end])


def stack(form):
    return STACKS.get(form, lambda: (layer(), pair(H, 2), layer(2 * H, 4, hidden=3)))()


def headed(layers, width, outputs=5):
    rng = np.random.default_rng(9)
    return NetworkParams(layers, Dense(*(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((width, outputs), 5))))


def ones(*shape):
    return np.ones(shape, np.float32)


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


LSTM = {"weight_ih_l0": ones(16, 3), "weight_hh_l0": ones(16, 4)}
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


# A stranger's files: nothing is run, and nothing is allocated that is not there.


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def npy(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(11 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def zipped(**parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in parts.items():
            made.writestr(name, data)
    return file.getvalue()


def packed(code, data):
    import msgpack

    return msgpack.packb({"params": msgpack.ExtType(code, msgpack.packb(data))})


ZEROS = bytes(2**22)
HOSTILE = {
    "a shape in npz": (".npz", lambda: zipped(**{"a.npy": npy((10**12,))}), "'a' claims to have 4,000,000,000,000 byt"),
    "a bomb in npz": (".npz", lambda: zipped(**{"a.npy": npy((2**20,)) + ZEROS}), "claims to hold 4,194,432 b"),
    "a bomb in keras": (
        ".keras",
        lambda: zipped(**{"config.json": b"{}", "model.weights.h5": ZEROS}),
        "claims to hold",
    ),
    "deep json": (
        ".keras",
        lambda: zipped(**{"config.json": b"[" * 9**4, "model.weights.h5": b""}),
        "no whole Keras f",
    ),
    "no weights": (".keras", lambda: zipped(a=b"1"), "holds a, expected config.json and model.weights.h5"),
    "a header": (".safetensors", lambda: struct.pack("<Q", 2**60) + b"{}", "is no whole safetensors file"),
    "a shape in msgpack": (".msgpack", lambda: packed(1, ((10**12,), "float32", b"")), "is no whole msgpack file"),
    "objects in msgpack": (".msgpack", lambda: packed(1, ((1,), "O", b"12345678")), "is no whole msgpack file"),
    "many in msgpack": (".msgpack", lambda: b"\xdd\xff\xff\xff\xff" * 2000, "is no whole msgpack file"),
    "no tree": (".msgpack", lambda: b"\x01", "holds a int, expected a tree of arrays"),
    "deep names": (
        ".npz",
        lambda: zipped(**{f"{'a/' * 9999}if/kernel.npy": npy((1,)) + bytes(4)}),
        "has 10000 folders; the most is 64",
    ),
    "a name below an array": (
        ".npz",
        lambda: zipped(**{name: npy((1,)) + bytes(4) for name in ("a/if/kernel.npy", "a/if.npy")}),
        "'a/if' is an array, and has others below it",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_claims_too_much_is_refused_before_memory_is_taken(name, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "FREE", 2**16)  # so that the bombs of the tests can be small
    end, data, words = HOSTILE[name]
    needed(end)
    path = tmp_path / f"hostile{end}"
    path.write_bytes(data())
    with pytest.raises(ConvertError, match=words) as error:
        load_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_object_of_an_npz_file_is_unpickled(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, weight_ih_l0=np.array([Evil(tmp_path / "run")], object), weight_hh_l0=ones(16, 4))
    with pytest.raises(ConvertError, match="'weight_ih_l0' is object, expected numbers: float16, bfloat16, float32"):
        load_weights(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.peers
def test_no_code_in_a_pytorch_file_is_run(tmp_path):
    torch = pytest.importorskip("torch")
    path, evil = tmp_path / "evil.pt", Evil(tmp_path / "run")
    only = r"os\.mkdir|posix\.mkdir|nt\.mkdir"
    for value, words in (
        ({"x": evil}, rf"holds ({only}), and to read that is to run code; .* Save the module's state_dict"),
        (torch.nn.LSTM(2, 3), r"holds torch\.nn\.modules\.rnn\.LSTM, and to read that is to run code"),
        ({"weight_ih_l0": torch.ones(1).expand(10**6, 10**6)}, r"'weight_ih_l0' claims shape \(1000000, 1000000\)"),
        ([torch.ones(2)], "holds a list, expected a state_dict"),
        ({"a": bytearray(3)}, "bytearray, and to read that is to run code"),
    ):
        torch.save(value, path)
        with pytest.raises(ConvertError, match=words):
            load_weights(path)
    torch.save({n: torch.from_numpy(a) for n, a in LSTM.items()}, path)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(ones(4).tobytes())] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ConvertError, match="is not what was saved: its checksum is wrong"):
        load_weights(path)
    path.write_bytes(pickle.dumps(evil))
    with pytest.raises(
        ConvertError, match=r"is no whole ZIP archive, as torch\.save has written it since PyTorch 1\.6"
    ):
        load_weights(path)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_pytorch_is_looked_through(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(I, H)
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}  # as Adam's
    optimizer = {"state": {0: moments, 1: moments}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
    torch.save({"model": module.state_dict(), "optimizer": optimizer, "epoch": 3}, tmp_path / "at3.pt")
    same(load_weights(tmp_path / "at3.pt"), from_torch(module))


def test_hdf5_opens_no_other_file_and_believes_no_shape(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, name = tmp_path / "h.weights.h5", "layers/lstm/cell/vars/1"
    np.save(tmp_path / "other", ones(4, 16))

    def virtual(file):
        layout = h5py.VirtualLayout((4, 16), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "a", (4, 16))
        file.create_virtual_dataset(name, layout)

    for make, words in (
        (lambda f: f.create_dataset(name, (10**6, 4 * 10**6), "f4", chunks=(99, 99)), "claims to hold 16"),
        (lambda f: f.create_dataset(name, data=ones(4, 16), compression="gzip"), "is compressed, and may grow"),
        (lambda f: f.create_dataset(name, (4, 16), "f4"), r"has shape \(4, 16\), but its numbers were never written"),
        (
            lambda f: f.create_dataset(name, (4, 16), "f4", external=[(tmp_path / "other.npy", 128, 256)]),
            "points to another",
        ),
        (virtual, "points to another file, which is not opened"),
        (lambda f: f.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/")), "is a link to elsewhere, which is not"),
        (lambda f: f.__setitem__(name, h5py.SoftLink("/x")), "is a link to elsewhere, which is not followed"),
        (lambda f: f.__setitem__(name, ones(4, 16)), "layers/lstm/cell/kernel is missing"),
        (lambda f: f.create_dataset(name, data=["a", "b"]), "layers/lstm/cell/kernel is missing"),
        (lambda f: None, "there is no LSTM in it by the names of lstmjax, torch, .* or haiku; it holds nothing"),
    ):
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(ConvertError, match=words):
            load_weights(path)


@pytest.mark.parametrize("end", [*KEPT, ".keras"])
def test_damaged_files_are_refused_or_read_and_nothing_else(end, tmp_path):
    needed(end)
    path, layers = tmp_path / f"damaged{end}", (pair(biases=2 if end in (".pt", ".onnx") else 1),)
    if end == ".keras":
        save_weights(layers, tmp_path / "a.weights.h5")
        inner = {"class_name": "LSTM", "config": {"name": "l", "return_sequences": True}}
        both = {"class_name": "Bidirectional", "config": {"name": "b", "layer": inner}}
        config = {"class_name": "Sequential", "config": {"layers": [both]}}
        weights = (tmp_path / "a.weights.h5").read_bytes()
        path.write_bytes(zipped(**{"config.json": json.dumps(config), "model.weights.h5": weights}))
    else:
        save_weights(layers, path)
    same(load_weights(path), layers)
    whole, rng = path.read_bytes(), random.Random(end)
    for n in range(30):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if n % 5 == 0 else whole)
        for _ in range(n % 4):
            at = rng.randrange(min(len(damaged), 2000) if n % 2 else len(damaged)) if damaged else 0
            damaged[at : at + 1] = rng.randbytes(1)
        path.write_bytes(damaged)
        with suppress(ConvertError):  # and nothing else
            assert isinstance(load_weights(path, extra="drop"), tuple)


def test_what_is_no_file_of_weights_is_said_in_a_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "_METADATA").touch()
    for name, words in (
        ("orbax", "orbax: is a checkpoint of Orbax, which does not say what its arrays are. Restore it by orbax."),
        ("a.eqx", "or the folder of a run. A file of Equinox does not say what its arrays are: restore the cells by"),
        ("a.pkl", "or the folder of a run. To unpickle is to run code: do it yourself if you trust the file"),
        ("none.npz", "none.npz: no such file"),
        ("a.txt", "a.txt: unknown kind of file; expected a name that ends in .pt, .pth, .bin, .ckpt, .tar, .weights"),
        ("empty.npz", "empty.npz: is no whole NPZ file (File is not a zip file)"),
        (
            "folder",
            "folder: has no config.yaml, so it is not a run folder; lstmjax train creates one and prints its path",
        ),
    ):
        with pytest.raises(ConvertError) as error:
            load_weights(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path))
        assert words in str(error.value)
    for name, form, words in (
        ("a.keras", None, "a Keras file of this name is only read; what is written ends in .pt, .pth"),
        ("a.h5", None, "a HDF5 file of this name is only read"),
        ("a.pt", "keras", "form is 'keras', expected torch for this kind of file"),
        ("a.msgpack", "torch", "form is 'torch', expected linen or nnx for this kind of file"),
        ("none/a.npz", None, f"there is no folder {tmp_path / 'none'}"),
        ("folder", None, "a run folder of this name is only read"),
    ):
        with pytest.raises(ConvertError) as error:
            save_weights(layer(), tmp_path / name, form=form)
        assert words in str(error.value)


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
