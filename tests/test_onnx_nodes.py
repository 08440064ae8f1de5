"""Nodes LSTM of ONNX models in unusual places and forms: in branches, loops and functions, and quantised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exchange import layer, pair
from tolerances import assert_close

from lstmjax import stacked
from lstmjax.convert import ConvertError, from_onnx, load_model, read_onnx, to_onnx
from lstmjax.networks import Dense, NetworkParams

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.peers

from graphs import FLOAT, H, chain_of, numbers, runtime  # noqa: E402 it imports onnx

helper, numpy_helper = onnx.helper, onnx.numpy_helper
B, T, I = 3, 6, 2
HIDDEN = layer().hidden_size


def lstm_node(x, w, r, y, name="inner"):
    return helper.make_node("LSTM", [x, w, r], [y], name, hidden_size=H)


def within(op, name, nodes, output, **graphs):
    """A graph of one output."""
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, FLOAT, None)], **graphs)


def stored(seed):
    w, r = numbers(1, 4 * H, I, seed=seed), numbers(1, 4 * H, H, seed=seed + 1)
    return w, r


def branching():
    """Two rates, each a branch with an LSTM, one of them within another If; weights stand outside, inside and behind
    an Identity."""
    (w8, r8), (w16, r16), (w44, r44) = (stored(seed) for seed in (1, 3, 5))
    tensors = {"w8": w8, "r8": r8, "w16": w16}
    eight = within("If", "eight", [lstm_node("x", "w8", "r8", "y8")], "y8")
    own = [numpy_helper.from_array(r16, "r")]
    sixteen = within(
        "If", "sixteen", [helper.make_node("Identity", ["w16"], ["w"]), lstm_node("x", "w", "r", "y16")], "y16",
        initializer=own,
    )  # fmt: skip
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(a))
        for name, a in {"w": w44, "r": r44}.items()
    ]
    other = within("If", "other", [*constants, lstm_node("x", "w", "r", "y44", "")], "y44")
    nested = helper.make_node("If", ["is16"], ["z"], "sixteen?", then_branch=sixteen, else_branch=other)
    outer = within("If", "outer", [nested], "z")
    rate = helper.make_node("If", ["is8"], ["y"], "rate", then_branch=eight, else_branch=outer)
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["t", "b", I])]
    inputs += [helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, []) for name in ("is8", "is16")]
    graph = helper.make_graph(
        [rate], "rates", inputs, [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(a, name) for name, a in tensors.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_nodes_in_branches(tmp_path):
    """A voice-activity model that ships 8 and 16 kHz branches: there was "no node LSTM in the model"."""
    model = branching()
    nodes = read_onnx(model)
    assert [node.name for node in nodes] == [
        "rate/else_branch/sixteen?/else_branch/LSTM 0", "rate/else_branch/sixteen?/then_branch/inner",
        "rate/then_branch/inner",
    ]  # fmt: skip
    x = numbers(T, B, I)
    for node, (is8, is16) in zip(nodes, ((False, False), (False, True), (True, True)), strict=True):
        (expected,) = runtime(model, x=x, is8=np.array(is8), is16=np.array(is16))
        assert_close(node(x)[0], jnp.asarray(expected))
    words = r"rate/else_branch/.*, rate/then_branch/inner: within another node.*read_onnx gives each node"
    with pytest.raises(ConvertError, match=words):
        from_onnx(model)
    onnx.save(model, tmp_path / "rates.onnx")
    with pytest.raises(ConvertError, match="rate/then_branch/inner: within another node"):
        load_model(tmp_path / "rates.onnx")


def test_nodes_in_loops_and_functions():
    w, r = stored(7)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            lstm_node("v", "w", "r", "y4"),
            helper.make_node("Squeeze", ["y4", "one"], ["v2"]),
        ],
        "body",
        [value("n", onnx.TensorProto.INT64, []), value("go", onnx.TensorProto.BOOL, []), value("v", FLOAT, None)],
        [value("on", onnx.TensorProto.BOOL, []), value("v2", FLOAT, None)],
    )
    tensors = {"w": w, "r": r, "one": np.array([1]), "two": np.array(2)}
    arrays = [numpy_helper.from_array(a, name) for name, a in tensors.items()]
    loop = helper.make_node("Loop", ["two", "", "x"], ["y"], "twice", body=body)
    graph = helper.make_graph([loop], "g", [value("x", FLOAT, ["t", "b", I])], [value("y", FLOAT, None)], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (node,) = read_onnx(model)
    assert node.name == "twice/body/inner"
    x = numbers(T, B, I)
    assert_close(node(node(x)[0][:, 0])[0][:, 0], jnp.asarray(runtime(model, x=x)[0]))
    with pytest.raises(ConvertError, match="twice/body/inner: within another node"):
        from_onnx(model)

    function = helper.make_function(
        "own", "Layer", ["a", "w", "r", "one"], ["b"],
        [lstm_node("a", "w", "r", "y4"), helper.make_node("Squeeze", ["y4", "one"], ["b"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    calls = [helper.make_node("Layer", [a, "w", "r", "one"], [b], domain="own") for a, b in (("x", "m"), ("m", "y"))]
    graph = helper.make_graph(calls, "g", [value("x", FLOAT, ["t", "b", I])], [value("y", FLOAT, None)], arrays)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, functions=[function])
    layers = from_onnx(model)
    assert len(layers) == len(read_onnx(model)) == 2
    assert_close(stacked(layers, x, time_major=True)[1], jnp.asarray(runtime(model, x=x)[0]))


def quantised(model, folder, **how):
    """What ONNX Runtime's own quantisation makes of a model."""
    from onnxruntime.quantization import quantize_dynamic

    onnx.save(model, folder / "plain.onnx")
    quantize_dynamic(folder / "plain.onnx", folder / "quantised.onnx", **how)
    return folder / "quantised.onnx"


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_weights_come_in_on_request(per_channel, tmp_path):
    """Within half a step of the 8-bit numbers of the weights before, and near what the file gives."""
    layers = (pair(biases=2), layer(2 * HIDDEN, 2, biases=2))
    path = quantised(to_onnx(layers), tmp_path, per_channel=per_channel)
    for read in (read_onnx, from_onnx, load_model):
        with pytest.raises(
            ConvertError, match=r"is a DynamicQuantizeLSTM: its weights are 8-bit numbers.*dequantize=True"
        ):
            read(path)
    again = from_onnx(path, dequantize=True)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(layers), strict=True):
        assert np.abs(a - b).max() <= np.abs(b).max() / 254 * 1.01
    xs = numbers(B, T, layers[0].forward.input_size)
    (theirs,) = runtime(onnx.load(path), xs=xs)
    assert 1e-6 < np.abs(stacked(again, xs)[1] - theirs).max() < 0.05
    head = Dense(jnp.asarray(numbers(layers[1].output_size, 3)), jnp.asarray(numbers(3)))
    path = quantised(to_onnx(NetworkParams(layers, head)), tmp_path)
    with pytest.raises(
        ConvertError, match=r"stands node .* .DynamicQuantizeLinear., which computes with quantised numb"
    ):
        from_onnx(path, dequantize=True)


def test_weights_behind_dequantize_linear_are_those_of_the_file():
    """The model itself computes with these numbers, so that they are taken without asking."""
    model = chain_of()
    rng = np.random.default_rng(3)
    low = rng.integers(-100, 100, size=(1, 4 * H, H)).astype(np.int8)
    del model.graph.initializer[0]
    tensors = {"low": low, "scale": np.float32(0.01), "zero": np.int8(3)}
    model.graph.initializer.extend([numpy_helper.from_array(np.asarray(a), k) for k, a in tensors.items()])
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["low", "scale", "zero"], ["W0"]))
    x = numbers(T, B, H)
    assert_close(stacked(from_onnx(model), x, time_major=True)[1], jnp.asarray(runtime(model, x=x)[0]))
    model.graph.node.insert(1, helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "to8"))
    model.graph.node.insert(2, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x8"], "from8"))
    model.graph.node[3].input[0] = "x8"
    with pytest.raises(
        ConvertError, match=r"stands node 'to8' .QuantizeLinear., which computes with quantised numbers"
    ):
        from_onnx(model)
