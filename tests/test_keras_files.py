"""Whole models of Keras: what their files say is done, or refused by name. Files made by hand, and by Keras itself."""

import json
import re
import struct
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_files import B, H, I, T, cell, dense, functional, lstm, numpy_lstm, other, pair, sequential, write
from tolerances import assert_close

from lstmjax import stacked, verify
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_keras, load_model, load_weights, save_weights
from lstmjax.convert.convert_file import convert_file
from lstmjax.frameworks.keras.run import foreign, itself
from lstmjax.frameworks.keras.words import check_words, words_of
from lstmjax.replica.verify_files import verify_files

pytest.importorskip("h5py")
XS = np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)
ENDS = (".keras", ".h5")


def relu(z):
    return np.maximum(z, 0)


def fifth(z):
    return np.clip(0.2 * z + 0.5, 0, 1)


def sixth(z):
    return np.clip(z / 6 + 0.5, 0, 1)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def two(arrays, xs, merge, last=False):
    """Both directions of a pair, joined."""
    ahead, back = numpy_lstm(arrays[:3], xs), numpy_lstm(arrays[3:], xs[:, ::-1])[:, ::-1]
    ahead, back = (ahead[:, -1], back[:, 0]) if last else (ahead, back)
    return ahead + back if merge == "sum" else np.concatenate([ahead, back], -1)


ONE, HEAD = cell(), dense()
PAIRS, SUMS = (cell() + cell(), cell(2 * H) + cell(2 * H)), (cell() + cell(), cell(H) + cell(H))
LAST = {"return_sequences": False}
WHOLE = {  # what a file says: (layers, arrays of each, outputs, version)
    "activation": ([lstm(activation="relu")], {"lstm": ONE}, lambda xs: numpy_lstm(ONE, xs, relu)),
    "recurrent activation": (
        [lstm(recurrent_activation="relu", activation="linear")],
        {"lstm": ONE},
        lambda xs: numpy_lstm(ONE, xs, lambda z: z, relu),
    ),
    "hard_sigmoid of Keras 2": (
        [lstm(recurrent_activation="hard_sigmoid")],
        {"lstm": ONE},
        lambda xs: numpy_lstm(ONE, xs, recurrent=fifth),
        "2.2.4",
    ),
    "hard_sigmoid of Keras 3": (
        [lstm(recurrent_activation="hard_sigmoid")],
        {"lstm": ONE},
        lambda xs: numpy_lstm(ONE, xs, recurrent=sixth),
        "3.0.0",
    ),
    "backwards": ([lstm(go_backwards=True)], {"lstm": ONE}, lambda xs: numpy_lstm(ONE, xs[:, ::-1])),
    "backwards, the last step": (
        [lstm(go_backwards=True, **LAST), other("Dense")],
        {"lstm": ONE, "dense": HEAD},
        lambda xs: numpy_lstm(ONE, xs[:, ::-1])[:, -1] @ HEAD[0] + HEAD[1],
    ),
    "sum": (
        [pair("a", "sum"), pair("b", "sum")],
        dict(zip("ab", SUMS, strict=True)),
        lambda xs: two(SUMS[1], two(SUMS[0], xs, "sum"), "sum"),
    ),
    "sum, the last step": (
        [pair("a", "sum"), pair("b", "sum", **LAST), other("Dense", activation="tanh")],
        {**dict(zip("ab", SUMS, strict=True)), "dense": HEAD},
        lambda xs: np.tanh(two(SUMS[1], two(SUMS[0], xs, "sum"), "sum", last=True) @ HEAD[0] + HEAD[1]),
    ),
    "concat": (
        [pair("b"), pair("a", **LAST)],  # not in the order of their names
        dict(zip("ba", PAIRS, strict=True)),
        lambda xs: two(PAIRS[1], two(PAIRS[0], xs, "concat"), "concat", last=True),
    ),
    "head per step": (
        [other("InputLayer"), lstm(dropout=0.5, unit_forget_bias=False), other("Dropout"), other("Dense")],
        {"lstm": ONE, "dense": HEAD},
        lambda xs: numpy_lstm(ONE, xs) @ HEAD[0] + HEAD[1],
    ),
    "head with an activation": (
        [lstm(**LAST), other("Dense", activation="relu")],
        {"lstm": ONE, "dense": HEAD},
        lambda xs: relu(numpy_lstm(ONE, xs)[:, -1] @ HEAD[0] + HEAD[1]),
    ),
    "softmax behind the head": (
        [lstm(**LAST), other("Dense"), other("Activation", activation="softmax")],
        {"lstm": ONE, "dense": HEAD},
        lambda xs: softmax(numpy_lstm(ONE, xs)[:, -1] @ HEAD[0] + HEAD[1]),
    ),
}


def made(what, path):
    layers, weights, outputs, *version = WHOLE[what]
    return write(path, sequential(*layers), weights, *version), outputs(XS)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", WHOLE)
def test_a_file_runs_as_it_says(what, end, tmp_path):
    path, expected = made(what, tmp_path / f"model{end}")
    model = load_model(path)
    assert model.architecture.stated
    assert not model.architecture.assumed
    assert_close(model(XS), jnp.asarray(expected, jnp.float32))


@pytest.mark.parametrize(
    ("what", "words", "how"),
    [
        ("activation", r"states the cell 'relu, sigmoid', but cell is 'vanilla'\. Pass cell=load_model\(path\)", None),
        ("hard_sigmoid of Keras 2", r"Pass cell='hard_sigmoid_fifth', here and to", {"cell": "hard_sigmoid_fifth"}),
        ("hard_sigmoid of Keras 3", r"Pass cell='hard_sigmoid_sixth', here and to", {"cell": "hard_sigmoid_sixth"}),
        ("backwards", r"layer 0 runs backwards and gives its outputs in the order of computing: layers alone do", None),
        ("sum", r"directions are joined by 'sum', but merge is 'concat'\. Pass merge='sum', here", {"merge": "sum"}),
        ("head with an activation", r"the activation of the head is relu: layers alone do not say that", None),
        ("head per step", None, {}),
        ("softmax behind the head", None, {}),
    ],
)
def test_weights_alone_are_given_where_the_caller_runs_them_so(what, words, how, tmp_path):
    path, expected = made(what, tmp_path / "model.h5")
    if words:
        with pytest.raises(ConvertError, match=words):
            load_weights(path)
    else:
        assert load_weights(path).head.w.shape == HEAD[0].shape
    if how:
        assert_close(stacked(load_weights(path, **how), XS, **how)[1], jnp.asarray(expected, jnp.float32))
        with pytest.raises(ConvertError, match="Pass"):
            load_model(path, **{"cell": "peephole", "merge": "concat"} if "merge" in how else {"cell": "peephole"})


NODES = [(other("InputLayer", "in"), []), (lstm("a"), ["in"])]
REFUSED = {  # words of the refusal: the model
    "repeatvector (RepeatVector)": sequential(other("RepeatVector", n=3), lstm()),
    "averagepooling1d (AveragePooling1D)": sequential(other("AveragePooling1D"), lstm()),
    "rescaling (Rescaling)": sequential(other("Rescaling", scale=2.0), lstm()),
    "normalization (Normalization)": sequential(other("Normalization"), lstm()),
    "batchnormalization (BatchNormalization)": sequential(other("BatchNormalization"), lstm()),
    "conv1d (Conv1D)": sequential(other("Conv1D"), lstm()),
    "embedding (Embedding)": sequential(other("Embedding"), lstm()),
    "gru (GRU)": sequential(lstm(), other("GRU")),
    "lambda (Lambda)": sequential(lstm(), other("Lambda")),
    "flatten (Flatten)": sequential(lstm(), other("Flatten")),
    "zeropadding1d (ZeroPadding1D)": sequential(other("ZeroPadding1D"), lstm()),
    "relu (ReLU)": sequential(lstm(), other("Dense"), other("ReLU")),
    "timedistributed/layer (LSTM)": sequential(other("TimeDistributed", layer=lstm())),
    "rnn/cell (GRUCell)": sequential(other("RNN", cell=other("GRUCell"))),
    "dense (Dense) stands before the LSTM": sequential(other("Dense"), lstm()),
    "second (Dense) stands behind the head": sequential(lstm(), other("Dense"), other("Dense", "second")),
    "lstm stands behind the head": sequential(lstm("a"), other("Dense"), lstm()),
    "b stands behind the last step alone": sequential(lstm("a", **LAST), lstm("b")),
    "activation is 'relu', and it does not stand": sequential(lstm(), other("Activation", activation="relu")),
    "both: merge_mode is 'mul'": sequential(pair(merge="mul")),
    "both: merge_mode is 'ave'": sequential(pair(merge="ave")),
    "both: merge_mode is None": sequential(pair(merge=None)),
    "b: merge_mode is 'sum', but a has 'concat'": sequential(pair("a"), pair("b", "sum")),
    "both/layer: go_backwards is True": sequential(pair(go_backwards=True)),
    "b: its cell is 'relu, sigmoid', but a has 'vanilla'": sequential(lstm("a"), lstm("b", activation="relu")),
    "lstm: activation is 'mine'": sequential(lstm(activation="mine")),
    "lstm: activation is shop>mine": sequential(
        lstm(activation={"class_name": "function", "config": "mine", "registered_name": "shop>mine"})
    ),
    "lstm: activation is 'softmax'": sequential(lstm(activation="softmax")),
    "lstm: return_state is True": sequential(lstm(return_state=True)),
    "lstm: stateful is True": sequential(lstm(stateful=True)),
    "lstm: time_major is True": sequential(lstm(time_major=True)),
    "lstm: something is 3": sequential(lstm(something=3)),
    "lstm: dtype is mixed_float16": sequential(
        lstm(dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}})
    ),
    "lstm: dtype is QuantizedDTypePolicy": sequential(
        lstm(dtype={"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}})
    ),
    "dense: dtype is float32, but lstm has float16": sequential(lstm(dtype="float16"), other("Dense", dtype="float32")),
    "masking (Masking) with mask_value 0.0": sequential(lstm(), other("Masking", mask_value=0.0)),
    "lstm: unroll is True, and its zeros at masked steps": sequential(
        other("Masking"), lstm(unroll=True, zero_output_for_mask=True)
    ),
    "both: unroll is True, and its zeros at masked steps": sequential(other("Masking"), pair(unroll=True)),
    "a mask over a layer with go_backwards": sequential(other("Masking"), lstm(go_backwards=True)),
    "shop>LSTM": sequential({**lstm(), "registered_name": "shop>LSTM"}),
    "shop.LSTM": sequential({**lstm(), "module": "shop"}),
    "lstm (LSTM, a class of the caller's)": sequential({**lstm(), "module": None, "registered_name": "LSTM"}),
    "dropout (Dropout, a class of the caller's)": sequential({**other("Dropout"), "module": None}, lstm()),
    "model (Sequential, a class of the caller's)": {**sequential(lstm()), "module": None},
    "model (Mine)": {**sequential(lstm()), "class_name": "Mine"},
    "in is read by a, b": functional(*NODES, (lstm("b"), ["in"])),
    "add reads b, a": functional(*NODES, (lstm("b"), ["a"]), (other("Add"), ["a", "b"])),
    "it has 2 inputs: in, other": functional(*NODES, input_layers=[["in", 0, 0], ["other", 0, 0]]),
    "it has 2 outputs: a, b": functional(*NODES, (lstm("b"), ["a"]), output_layers=[["a", 0, 0], ["b", 0, 0]]),
    "its output is a, and not b": functional(*NODES, (lstm("b"), ["a"]), output_layers=["a", 0, 0]),
    "any (Any)": functional(*NODES, (other("Any"), ["in"])),
    "a is called with training=True": functional(NODES[0], (lstm("a"), ["in"])),
}
REFUSED["a is called with training=True"]["config"]["layers"][1]["inbound_nodes"][0]["kwargs"] = {"training": True}
CONSTANT = {"class_name": "__tensor__", "config": {"value": [[1.0] * H], "dtype": "float32"}}
for words, constants in {
    "a is called with initial_state by position": [[CONSTANT, CONSTANT]],
    "a is called with mask by position": [None, CONSTANT],
    "a is called with argument 4 by position": [None, None, None, CONSTANT],
}.items():
    REFUSED[words] = functional(NODES[0], (lstm("a"), ["in"]))
    REFUSED[words]["config"]["layers"][1]["inbound_nodes"][0]["args"] += constants
REFUSED["get_item is called with argument 1 by position, get_item (GetItem)"] = functional(
    NODES[0], (other("GetItem", "get_item"), ["in"]), (lstm("a"), ["get_item"])
)
ITEM = REFUSED["get_item is called with argument 1 by position, get_item (GetItem)"]["config"]["layers"][1]
ITEM["inbound_nodes"][0]["args"].append({"class_name": "__tuple__", "config": [None, -1]})
REFUSED["a is called with a list in which"] = functional(NODES[0], (lstm("a"), ["in"]))
node = REFUSED["a is called with a list in which"]["config"]["layers"][1]["inbound_nodes"][0]
node["args"] = [[*node["args"], CONSTANT]]


@pytest.mark.parametrize("words", REFUSED)
def test_what_a_file_says_and_layers_do_not_is_refused_by_name(words, tmp_path):
    path = write(tmp_path / "model.keras", REFUSED[words], {"lstm": ONE})
    with pytest.raises(ConvertError, match=r"model\.keras: holds more than LSTM layers and a head: ") as error:
        load_model(path)
    assert words in str(error.value)


def test_a_cell_without_a_name_is_not_to_be_passed(tmp_path, capsys):
    source = write(tmp_path / "relu.h5", sequential(lstm(activation="relu")), {"lstm": ONE})
    assert main(["convert", str(source), str(tmp_path / "a.onnx"), "--cell", "peephole"]) == 2
    error = capsys.readouterr().err
    assert error.rstrip().endswith("--cell is 'peephole'. Pass no --cell: it is run as the file says"), error


def test_from_keras_of_a_path_drops_nothing_silently(tmp_path):
    path = write(tmp_path / "model.keras", REFUSED["rescaling (Rescaling)"], {"lstm": ONE})
    with pytest.raises(ConvertError, match=r"a head: rescaling \(Rescaling\)\. Pass extra='drop'"):
        from_keras(path)
    assert len(from_keras(path, extra="drop")) == 1
    path = write(tmp_path / "sum.h5", sequential(pair(merge="sum")), {"both": PAIRS[0]})
    with pytest.raises(ConvertError, match="Pass merge='sum'"):
        from_keras(path)
    assert len(from_keras(path, merge="sum")) == 1


def test_a_functional_model_is_read_in_the_order_of_its_calls(tmp_path):
    first, second = cell(), cell(H)
    model = functional((lstm("b"), ["a"]), (lstm("a"), ["in"]), (other("InputLayer", "in"), []))
    model["config"]["output_layers"] = ["b", 0, 0]
    path = write(tmp_path / "model.h5", model, {"a": first, "b": second})
    expected = jnp.asarray(numpy_lstm(second, numpy_lstm(first, XS)), jnp.float32)
    assert_close(load_model(path)(XS), expected)
    assert_close(load_model(path, names=["a", "b"])(XS), expected)
    with pytest.raises(ConvertError, match="names is b, a, but the file states another order: in, a, b"):
        load_model(path, names=["b", "a"])
    fewer = write(tmp_path / "fewer.h5", sequential(lstm("a"), lstm("b"), lstm("c")), {"a": first, "b": second})
    with pytest.raises(ConvertError, match="its description has 3 recurrent layers, but its weights are of 2"):
        load_model(fewer)


@pytest.mark.parametrize("value", [7.0, 0.1])  # float32 has no 0.1
@pytest.mark.parametrize("zero", [False, True])
def test_masked_steps_are_left_out(zero, value, tmp_path):
    """Keras holds the outputs of a layer at steps that are left out, or gives zeros, also as the last output."""
    xs = XS.copy()
    xs[0, 2:4] = xs[1, 5] = xs[2, 0] = value
    valid = (xs != xs[2, 0]).any(-1)
    held = np.zeros((B, T, H))
    for n, one in enumerate(xs):
        ys = numpy_lstm(ONE, one[None, valid[n]])[0]
        held[n] = [ys[k - 1] if k else np.zeros(H) for k in np.cumsum(valid[n])]
    expected = np.where(valid[..., None] | (not zero), held, 0)
    for sequences, ys in ((True, expected), (False, expected[:, -1])):
        layers = other("Masking", mask_value=value), lstm(zero_output_for_mask=zero, return_sequences=sequences)
        model = load_model(write(tmp_path / "model.keras", sequential(*layers), {"lstm": ONE}))
        assert_close(model(xs), jnp.asarray(ys, jnp.float32))
        verdict = verify(ys, xs, params=model)
        assert verdict, str(verdict)
        assert verdict.compared[0].bound < 1e-5
    with pytest.raises(ConvertError, match=rf"features are all {value} are left out: layers alone do not say"):
        load_weights(tmp_path / "model.keras")


def test_keras_is_not_asked_to_build_what_may_run_code():
    start = {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}}
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
    plain = sequential({**lstm(kernel_initializer=start, dtype=policy), "module": "keras.layers"})
    plain["compile_config"] = {"optimizer": {"module": "keras.optimizers", "class_name": "Adam"}}
    assert not list(foreign(plain))
    assert not list(foreign(sequential(lstm(kernel_initializer={"class_name": "GlorotUniform", "config": {}}))))
    for strange, name in (
        ({"module": "os", "class_name": "system"}, "os.system"),
        ({"module": "keras.layers", "class_name": "TFSMLayer"}, "keras.layers.TFSMLayer"),
        ({"module": "keras.config", "class_name": "function", "config": "f"}, "keras.config.function"),
        ({"module": "keras.initializers", "class_name": "Mine", "registered_name": "shop>Mine"}, "shop>Mine"),
        ({"class_name": "__lambda__", "config": {"value": "…"}}, "__lambda__"),
    ):
        assert list(foreign(sequential(lstm(kernel_initializer=strange)))) == [name]


def test_which_hard_sigmoid_is_not_guessed(tmp_path):
    path = write(tmp_path / "model.keras", sequential(lstm(recurrent_activation="hard_sigmoid")), {"lstm": ONE}, None)
    with pytest.raises(ConvertError, match="is another function in Keras 2 than in Keras 3, and the version is not"):
        load_model(path)


def of_cudnn(arrays):
    """The arrays of an LSTM with two biases as CuDNNLSTM keeps them: what cuDNN reads of each gate, row by row."""
    kernel, recurrent, first, second = arrays
    rows = [gate.T.ravel() for gate in np.split(kernel, 4, axis=1)]  # [H, I]
    kernel = np.concatenate([gate.reshape(I, H) for gate in rows], axis=1)
    recurrent = np.concatenate([gate.T for gate in np.split(recurrent, 4, axis=1)], axis=1)
    return kernel, recurrent, np.concatenate([first, second])


@pytest.mark.parametrize("pairs", [False, True])
def test_weights_of_cudnnlstm(pairs, tmp_path):
    """Keras 2 kept a layer for GPUs beside LSTM, with the weights of cuDNN."""
    parts = [(*cell(), cell()[2]) for _ in range(1 + pairs)]
    plain = [(kernel, recurrent, first + second) for kernel, recurrent, first, second in parts]
    layer = lstm("lstm", "CuDNNLSTM")
    if pairs:
        layer = other("Bidirectional", "lstm", layer=lstm("l", "CuDNNLSTM"), merge_mode="concat")
    arrays = tuple(a for part in parts for a in of_cudnn(part))
    path = write(tmp_path / "model.h5", sequential(layer), {"lstm": arrays}, "2.2.4")
    xs, (read,) = jnp.asarray(XS), load_weights(path)
    expected = two(sum(plain, ()), XS, "concat") if pairs else numpy_lstm(plain[0], XS)
    assert_close(stacked((read,), xs)[1], jnp.asarray(expected, jnp.float32))
    first = read.forward if pairs else read
    np.testing.assert_array_equal(first.b_h.ravel(), parts[0][3])
    assert_close(stacked(from_keras(list(arrays)), xs)[1], jnp.asarray(expected, jnp.float32))
    if not pairs:  # as Keras itself converts it: each kernel transposed and read in the other order
        kernel = np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(arrays[0], 4)])
        np.testing.assert_array_equal(kernel, parts[0][0])
        with pytest.raises(ConvertError, match=r"a CuDNNLSTM has kernels of shapes \(I, 4H\) and \(H, 4H\), but these"):
            from_keras([arrays[0], arrays[1][:3], arrays[2]])


def test_words_of_variable_length_are_read_from_the_bytes(tmp_path):
    import h5py

    path = write(tmp_path / "model.h5", sequential(lstm()), {"lstm": ONE})
    with h5py.File(path) as file:
        assert words_of(path, "model_config") == file.attrs["model_config"]
    check_words(path)
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = np.array([b"lstm", b"x" * 777], object)
    check_words(path)
    listed = path.read_bytes()
    said = re.escape(struct.pack("<I", 777)) + b"(?!\0\0\0\0)"  # in the attribute, and not where it is stored
    path.write_bytes(re.sub(said, struct.pack("<I", 999), listed))
    with pytest.raises(ConvertError, match="its layer_names claims 999 bytes, but 777 are stored"):
        check_words(path)
    path.write_bytes(listed)
    for libver in ("earliest", "latest"):
        with h5py.File(tmp_path / "other.h5", "w", libver=libver) as file:
            file.attrs["model_config"] = "wörter" * 20_000
            file.attrs["another"] = "model_config"
        assert words_of(tmp_path / "other.h5", "model_config") == "wörter" * 20_000
    whole = path.read_bytes()
    length = len(json.dumps(sequential(lstm())))
    for old, new, words in (
        (struct.pack("<I", length), struct.pack("<I", 2**32 - 1), "its model_config claims 4,294,967,295 bytes, but"),
        (b"GCOL", b"GONE", "its model_config cannot be read: it is said to stand where nothing is"),
        (struct.pack("<Q", length), struct.pack("<Q", 2**60), r"its model_config claims \d+ bytes, but 1,152,921,504"),
    ):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(ConvertError, match=words):
            load_model(path)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", ["head per step", "sum, the last step", "softmax behind the head", "activation"])
def test_onnx_computes_what_the_file_says(what, end, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, expected = made(what, tmp_path / f"model{end}")
    target = tmp_path / "model.onnx"
    if what == "sum, the last step":
        with pytest.raises(ConvertError, match="the model has tanh after the head, and a graph of to_onnx has not"):
            list(convert_file(path, target))
        layers, weights, _ = WHOLE[what]
        path = write(path, sequential(*layers[:2], other("Dense")), weights)
        expected = np.arctanh(expected)
    list(convert_file(path, target))
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    assert_close(jnp.asarray(session.run(None, {"xs": XS})[-1]), jnp.asarray(expected, jnp.float32))


def test_convert_says_what_the_new_file_does_not(tmp_path, capsys):
    pytest.importorskip("safetensors")
    path, _ = made("sum", tmp_path / "model.h5")
    assert main(["convert", str(path), f"{tmp_path}/model.pt"]) == 2
    shown = capsys.readouterr().err
    assert "the two directions joined by 'sum', and PyTorch's LSTM has not. Run it by load_model, or write" in shown
    assert not (tmp_path / "model.pt").exists()
    target = tmp_path / "model.weights.h5"
    assert main(["convert", str(path), str(target)]) == 0
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown.endswith("say it where they are loaded: the two directions joined by 'sum', outputs of every step")
    with pytest.raises(
        ConvertError, match=r"layer 1 takes 4 numbers, but layer 0 gives 8, .* With merge='sum' they do"
    ):
        load_weights(target)
    assert len(load_weights(target, merge="sum")) == 2
    assert "the two directions added (sum)" in load_model(target).architecture.assumed
    assert main(["convert", str(target), f"{tmp_path}/model.safetensors", "--merge", "sum"]) == 0
    shown = capsys.readouterr().out
    assert "assumed, since the file holds weights alone: tanh and sigmoid, every layer forward, the two" in shown
    path, _ = made("backwards", tmp_path / "back.h5")
    assert main(["convert", str(path), f"{tmp_path}/model.npz", "--to", "torch"]) == 2
    assert "layer 0 running backwards, and PyTorch's LSTM has not" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["sum", "sum, the last step", "backwards", "hard_sigmoid of Keras 2", "concat"])
def test_recorded_outputs_are_compared_with_the_model_of_the_file(what, tmp_path):
    path, expected = made(what, tmp_path / "model.h5")
    np.save(tmp_path / "x.npy", XS)
    np.save(tmp_path / "y.npy", expected)
    verdict = verify_files(path, tmp_path / "x.npy", outputs=tmp_path / "y.npy")
    assert verdict, str(verdict)
    if what == "backwards":  # compared as a whole, and no cause looked for
        verdict = verify(expected + 0.01, XS, params=load_model(path))
        assert not verdict
        assert "first: not looked for; a model that is more than a stack of layers is compared as a whole" in str(
            verdict
        )


def test_without_keras_nothing_of_the_architecture_is_said_to_be_checked(monkeypatch, tmp_path):
    monkeypatch.setattr("lstmjax.frameworks.base.framework.find_spec", lambda name: None)
    for what in ("sum", "backwards", "hard_sigmoid of Keras 2"):
        path, _ = made(what, tmp_path / "model.h5")
        verdict = verify(path, XS)
        assert verdict, str(verdict)
        assert verdict.who.startswith("the NumPy oracle")
        assert "nothing of the architecture was checked: both sides ran as lstmjax reads model.h5 (keras" in str(
            verdict
        )
    path, _ = made("activation", tmp_path / "model.h5")
    with pytest.raises(ValueError, match=r"cannot be run by keras .*, and the oracle has no cell 'relu, sigmoid'"):
        verify(path, XS)
    target = tmp_path / "bare.weights.h5"
    save_weights(load_weights(made("sum", tmp_path / "model.h5")[0], merge="sum"), target)
    assert "bare.weights.h5 holds weights alone. Assumed on both sides: tanh and sigmoid" in str(verify(target, XS))


def built(keras, *layers, functional=False):
    """A model of Keras with random weights."""
    first = keras.Input((T, I))
    if functional:
        ys = first
        for one in layers:
            ys = one(ys)
        model = keras.Model(first, ys)
    else:
        model = keras.Sequential([first, *layers])
    rng = np.random.default_rng(3)
    for w in model.weights:
        if "seed" not in w.path:
            w.assign(rng.normal(size=w.shape) * 0.6)
    return model


def of_keras(made):
    """Models by what they are about; None: run as the file says, else words of the refusal."""
    several = made.StackedRNNCells([made.LSTMCell(H, activation="elu"), made.LSTMCell(3, activation="elu")])
    return {
        "settings": (
            [
                made.LSTM(H, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
                made.Dropout(0.5),
                made.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False),
                made.Dense(2, activation="softmax"),
            ],
            None,
        ),
        "backwards": ([made.LSTM(H, go_backwards=True, return_sequences=True), made.LSTM(3, go_backwards=True)], None),
        "sum": (
            [
                made.Bidirectional(made.LSTM(H, return_sequences=True), merge_mode="sum"),
                made.LSTM(3, return_sequences=True),
                made.Bidirectional(made.LSTM(H), merge_mode="sum"),
                made.Dense(2, activation="sigmoid", use_bias=False),
            ],
            None,
        ),
        "cells": (
            [made.RNN(several, go_backwards=True, return_sequences=True), made.TimeDistributed(made.Dense(2))],
            None,
        ),
        "mask": ([made.Masking(0.0), made.LSTM(H, return_sequences=True), made.Dense(2)], None),
        "mask of pairs": (
            [made.Masking(0.0), made.Bidirectional(made.LSTM(H, return_sequences=True)), made.LSTM(3)],
            None,
        ),
        "backward layer": (
            [
                made.Bidirectional(
                    made.LSTM(H, return_sequences=True, name="up"),
                    backward_layer=made.LSTM(H, return_sequences=True, go_backwards=True, use_bias=False, name="low"),
                ),
                made.Bidirectional(
                    made.LSTM(2, return_sequences=True),
                    backward_layer=made.LSTM(3, return_sequences=True, go_backwards=True),
                ),
            ],
            None,
        ),
        "names of a pair": (
            [made.LSTM(H, return_sequences=True, name="forward_lstm"), made.LSTM(H, name="backward_lstm")],
            None,
        ),
        "softmax layer": ([made.LSTM(H), made.Dense(3), made.Softmax()], None),
        "pooling": ([made.AveragePooling1D(2), made.LSTM(H)], r"average_pooling1d(_\d+)? \(AveragePooling1D\)"),
        "ave": ([made.Bidirectional(made.LSTM(H), merge_mode="ave")], "merge_mode is 'ave'"),
        "other cells": ([made.LSTM(H, return_sequences=True), made.LSTM(H, activation="relu")], "its cell is 'relu,"),
    }


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    "what",
    [
        "settings",
        "backwards",
        "sum",
        "cells",
        "mask",
        "mask of pairs",
        "backward layer",
        "names of a pair",
        "softmax layer",
        "pooling",
        "ave",
        "other cells",
    ],
)
def test_keras_models_run_as_their_files_say_or_are_refused(what, keras, tmp_path):
    layers, refusal = of_keras(keras.layers)[what]
    model, xs = built(keras, *layers, functional=what == "mask"), XS.copy()
    xs[0, 3:] = 0
    if what == "cells":  # files of models that were trained hold an optimizer, too
        model.compile("adam", "mse")
    expected = np.asarray(model(xs))
    for end in ENDS:
        path = tmp_path / f"model{end}"
        model.save(path)
        if refusal:
            with pytest.raises(ConvertError, match=refusal):
                load_model(path)
            continue
        assert_close(load_model(path)(xs), jnp.asarray(expected))
        if end == ".keras":
            verdict = verify(path, xs)
            assert verdict, str(verdict)
            assert f"as keras {keras.__version__} builds it" in verdict.who
            assert not verdict.unchecked
    if what in ("backward layer", "names of a pair"):
        ys = stacked(from_keras(model), xs, return_sequences=what == "backward layer")[1]
        assert_close(ys, jnp.asarray(expected))
    with pytest.raises(ConvertError, match=refusal or "Pass "):
        from_keras(
            model, cell="vanilla" if refusal or what in ("settings", "cells", "mask", "backwards") else "peephole"
        )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize(("pair", "sequences"), [(False, False), (True, False), (True, True)])
def test_lengths_of_models_with_a_mask_of_their_own(pair, sequences, keras, tmp_path):
    """Keras computes the mask of such a model from its inputs alone, whatever mask it is called with."""
    made = keras.layers
    layer = made.LSTM(H, return_sequences=sequences)
    model = built(keras, made.Masking(-1.0), made.Bidirectional(layer) if pair else layer, made.Dense(2))
    model.save(tmp_path / "model.keras")
    xs, lengths = XS.copy(), np.arange(1, len(XS) + 1)
    xs[-1, 0] = -1.0  # a step that is left out among those that are valid
    for theirs in (model, tmp_path / "model.keras"):
        verdict = verify(theirs, xs, lengths=lengths)
        assert verdict, str(verdict)
        assert not verdict.unchecked
    read = load_model(tmp_path / "model.keras")
    verdict = verify(lambda xs: np.asarray(model(xs)), xs, params=read, lengths=lengths)
    assert verdict, str(verdict)
    head = read.params.head
    wrong = replace(read, params=read.params._replace(head=head._replace(b=head.b + 0.1)))
    assert not verify(lambda xs: np.asarray(model(xs)), xs, params=wrong, lengths=lengths)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_models_in_memory_are_verified_with_their_merge(keras, tmp_path):
    made = keras.layers
    both = (made.Bidirectional(made.LSTM(H, return_sequences=True), merge_mode="sum") for _ in range(2))
    model = built(keras, made.Rescaling(2.0, name="scale"), *both, made.Dense(2, name="last"))
    verdict = verify(model, XS)
    assert verdict, str(verdict)
    assert "its recurrent layers alone were compared, not scale (Rescaling), its head last" in str(verdict)
    with pytest.raises(ConvertError, match=r"does more than its LSTM layers: scale \(Rescaling\)\. Pass extra='drop'"):
        from_keras(model)
    assert len(from_keras(model, extra="drop", merge="sum")) == 2


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_classes_of_the_caller_with_names_of_keras_are_refused_and_run(keras, tmp_path):
    made = keras.layers

    class LSTM(made.LSTM):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return -super().call(sequences, initial_state, mask, training)

    class Dropout(made.Dropout):
        def call(self, inputs, training=False):
            return inputs * 0.5

    class Model(keras.Model):
        def call(self, inputs, *args, **options):
            return super().call(inputs * 2.0, *args, **options)

    first = keras.Input((T, I))
    models = {
        "LSTM": built(keras, LSTM(H, return_sequences=True)),
        "Dropout": built(keras, Dropout(0.5), made.LSTM(H, return_sequences=True)),
        "Model": Model(first, made.LSTM(H, return_sequences=True)(first)),
    }
    for name, model in models.items():
        words = rf"\(test_keras_files\.{name}\)"  # of a module that can be imported; else without one
        with pytest.raises(ConvertError, match=words):
            from_keras(model)
        model.save(tmp_path / "model.keras")
        with pytest.raises(ConvertError, match=words):
            load_model(tmp_path / "model.keras")
        assert re.search(words, verify(model, XS).unchecked[0])
    assert not verify(models["LSTM"], XS)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("what", ["settings", "backwards", "sum", "cells", "mask", "softmax layer", "operation"])
def test_models_in_memory_are_verified_as_their_files_are(what, keras):
    if what == "operation":  # of keras.ops, or of JAX
        options = {"activation": keras.ops.tanh, "recurrent_activation": jax.nn.hard_sigmoid}
        layers = [keras.layers.LSTM(H, **options), keras.layers.Dense(2, activation=keras.ops.silu)]
    else:
        layers = of_keras(keras.layers)[what][0]
    model, xs = built(keras, *layers, functional=what == "mask"), XS.copy()
    xs[0, 3:] = 0
    verdict = verify(model, xs)
    assert verdict, str(verdict)
    assert f"of keras {keras.__version__}" in verdict.who
    assert not verdict.unchecked
    model.layers[-1].set_weights([w + 0.01 for w in model.layers[-1].get_weights()])
    if what != "softmax layer":
        theirs = np.asarray(model(xs)) * 1.001
        assert not verify(lambda _: theirs, xs, params=itself(model)[0])


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("name", ["gelu", "leaky_relu"])
def test_functions_of_jax_that_are_other_functions_in_keras_are_refused(name, keras):
    model = built(keras, keras.layers.LSTM(H, activation=getattr(jax.nn, name)))
    with pytest.raises(ConvertError, match=r"activation is .*\. Pass extra='drop' to leave it behind$"):
        from_keras(model)
    verdict = verify(model, XS)
    assert not verdict
    assert "activation is " in verdict.unchecked[0]


def tanh(z):
    """A function of the caller's with a name of Keras."""
    return 2.0 * z


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("where", ["layer", "cells", "pair", "model"])
def test_functions_in_a_model_are_read_by_what_they_are_and_the_model_is_left_alone(where, keras, monkeypatch):
    made = keras.layers

    def model(function):
        options = {"activation": function, "recurrent_activation": jax.nn.sigmoid}
        if where == "cells":
            return built(keras, made.RNN(made.StackedRNNCells([made.LSTMCell(3), made.LSTMCell(H, **options)])))
        if where == "pair":
            backward = made.LSTM(3, go_backwards=True, **options)
            return built(keras, made.Bidirectional(made.LSTM(H), backward_layer=backward))
        layer = made.LSTM(H, **options)
        return built(keras, keras.Sequential([keras.Input((T, I)), layer])) if where == "model" else built(keras, layer)

    def refused(layer, name, value):
        raise AssertionError(f"{name} of {layer} is set")

    theirs = model(jnp.tanh)
    expected = np.asarray(theirs(XS))
    other = model(tanh)
    with monkeypatch.context() as patch:
        patch.setattr(keras.layers.Layer, "__setattr__", refused)
        layers = from_keras(theirs)
        with pytest.raises(ConvertError, match=r"activation is '.*test_keras_files\.tanh'"):
            from_keras(other)
    assert_close(stacked(layers, XS, return_sequences=False)[1], jnp.asarray(expected))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("name", ["any", "backward_lstm", "forward_up"])
def test_a_pair_in_memory_is_recognised_whatever_its_layers_are_called(name, keras):
    made = keras.layers
    layer = made.Bidirectional(
        made.LSTM(H, return_sequences=True, name="up"),
        backward_layer=made.LSTM(H + 1, return_sequences=True, go_backwards=True, name=name),
    )
    expected = np.asarray(layer(XS))
    assert_close(stacked(from_keras(layer), XS)[1], jnp.asarray(expected))
