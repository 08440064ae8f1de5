"""ONNX graphs: those that are a stack give the file's numbers, and all others are refused by the node in the way."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exchange import layer, pair
from tolerances import assert_close

from lstmjax import network, stacked
from lstmjax.convert import ConvertError, from_onnx, load_model, read_onnx, to_onnx
from lstmjax.networks import Dense, NetworkParams
from lstmjax.replica import verify
from lstmjax.replica.peers import oracle
from lstmjax.stack import directions

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.peers

from graphs import FLOAT, random_model  # noqa: E402 it imports onnx

from lstmjax.convert.onnx.model import read_stack  # noqa: E402

helper, numpy_helper = onnx.helper, onnx.numpy_helper
B, T, I, H = 3, 6, 2, 2
HIDDEN = layer().hidden_size


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def runtime(model, **feeds):
    """What ONNX Runtime gives, in the order of the outputs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def in_order(a, words, *axes):
    """An array whose axes have these words as the stack has it: batch, time, then features."""
    sizes = {word: size for word, size in zip(words, a.shape, strict=True) if word != "1"}
    order = [word for word in ("batch", *axes, "sources", "features") if word in sizes]
    a = a.reshape(list(sizes.values())).transpose([list(sizes).index(word) for word in order])
    return a.reshape(*a.shape[: len(axes) + 1], -1)


def by_library(params, xs, merge, residual, sequences):
    run = network if isinstance(params, NetworkParams) else stacked
    with jax.disable_jit():  # each model is of other sizes, and runs once
        return run(params, xs, merge=merge, residual=residual, return_sequences=sequences)[1]


def by_oracle(params, xs, merge, residual, sequences):
    """The same in NumPy, without compiling anything."""
    headed = isinstance(params, NetworkParams)
    layers = params.layers if headed else params
    for n, one in enumerate(layers):
        below, xs = xs, oracle.run_layer(one, "vanilla", "concat", "forward", xs)
        parts = np.split(xs, [directions(one)[0].output_size], -1)
        if n == len(layers) - 1 and not sequences:
            below, parts = below[:, -1], [a[:, at] for a, at in zip(parts, (-1, 0), strict=True)]
        both = len(directions(one)) == 2
        xs = parts[0] + parts[1] if both and merge == "sum" else np.concatenate(parts, -1)
        xs = xs + below if residual and n else xs
    return xs @ np.asarray(params.head.w) + np.asarray(params.head.b) if headed else xs


def outcome(seed, run=by_library):
    """None if a random model is refused, else the largest difference between ONNX Runtime's numbers and ours."""
    model, shape = random_model(seed)
    stack = read_stack(model)
    if stack.complaints or "reverse" in stack.chain.directions:
        with pytest.raises(ConvertError, match=r"node|layer|head|output|input"):
            from_onnx(model)
        return None
    merge, residual, sequences = stack.chain.merge, stack.residual, stack.chain.return_sequences
    params = from_onnx(model, merge=merge, residual=residual)
    output = stack.chain.outputs[0]
    if output.kind == "state":
        return None
    x = numbers(*shape, seed=seed)
    theirs = runtime(model, x=x)[[one.name for one in model.graph.output].index(output.name)]
    ys = run(params, in_order(x, stack.chain.xs_axes, "time"), merge, residual, sequences)
    ys = stack.architecture.readout(jnp.asarray(ys, jnp.float32))
    theirs = in_order(theirs, output.axes, *(["time"] if sequences else []))
    assert ys.shape == theirs.shape
    return float(np.abs(ys - theirs).max())


def test_random_graphs_give_the_same_numbers_or_are_refused():
    """Never a different number. About 4 of 10 are stacks."""
    differences = [outcome(seed, by_oracle) for seed in range(60)]
    taken = [one for one in differences if one is not None]
    assert len(taken) > 15
    assert max(taken) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 2100, 100))
def test_many_random_graphs(start):
    taken = [one for one in map(outcome, range(start, start + 100)) if one is not None]
    assert len(taken) > 25
    assert max(taken) < 2e-6


def chain_of(*between, after=(), inputs=("t", "b", H), output=("t", "b", H)):
    """X → LSTM → Squeeze → between → LSTM → Squeeze → after, of one width."""
    rng = np.random.default_rng(1)
    stored = {f"{name}{n}": rng.normal(size=(1, 4 * H, H)).astype(np.float32) for n in (0, 1) for name in "WR"}
    stored |= {"one": np.array([1]), "half": np.float32(0.5)}
    nodes, at = [], "x"
    for n, behind in enumerate((between, after)):
        nodes.append(helper.make_node("LSTM", [at, f"W{n}", f"R{n}"], [f"y{n}"], f"lstm{n}", hidden_size=H))
        nodes.append(helper.make_node("Squeeze", [f"y{n}", "one"], [f"s{n}"], f"squeeze{n}"))
        at = f"s{n}"
        for k, (op, *more) in enumerate(behind):
            said = more.pop() if more and isinstance(more[-1], dict) else {}
            nodes.append(helper.make_node(op, [at, *more], [f"z{n}{k}"], f"{op.lower()}{n}{k}", **said))
            at = f"z{n}{k}"
    graph = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info("x", FLOAT, inputs)],
        [helper.make_tensor_value_info(at, FLOAT, output)], [numpy_helper.from_array(a, k) for k, a in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_what_stands_between_two_layers(tmp_path):
    """X → LSTM → Squeeze → Sigmoid → LSTM → Squeeze was read as two layers, and was off by .37."""
    x = numbers(T, B, H)
    model = chain_of()
    assert_close(stacked(from_onnx(model), x, time_major=True)[1], jnp.asarray(runtime(model, x=x)[0]))
    for op in ("Sigmoid", "Relu", "Abs"):
        model = chain_of((op,))
        words = f"between Y of node 'lstm0' .LSTM. and X of node 'lstm1' .LSTM. stands node '{op.lower()}00' .{op}."
        with pytest.raises(ConvertError, match=words):
            from_onnx(model)
    path = tmp_path / "model.onnx"
    onnx.save(chain_of(("Sigmoid",)), path)
    with pytest.raises(ConvertError, match=r"model\.onnx: holds more than LSTM layers .* stands node 'sigmoid00'"):
        verify(path, x)
    with pytest.raises(ConvertError, match="and the output 'z10' stands node 'mul10' .Mul."):
        from_onnx(chain_of(after=[("Mul", "half")]))
    same = from_onnx(chain_of(("Identity",), ("Dropout",), ("Cast", {"to": FLOAT})))
    assert len(same) == 2


# What torch.onnx writes of these models: taken, with the numbers of PyTorch, or refused, by the words beside them.

TAKEN = {
    "two layers": lambda m, x: m.b(m.a(x)[0])[0],
    "a head": lambda m, x: m.head(m.a(x)[0]),
    "a head of the last step": lambda m, x: m.head(m.a(x)[0][:, -1]),
    "the last step of a head": lambda m, x: m.head(m.b(m.a(x)[0])[0])[:, -1],
    "a head of h": lambda m, x: m.head(m.deep(x)[1][0][-1]),
    "a softmax": lambda m, x: torch.softmax(m.head(m.a(x)[1][0][-1]), -1),
    "a log softmax": lambda m, x: torch.log_softmax(m.head(m.a(x)[0]), -1),
    "a sigmoid": lambda m, x: torch.sigmoid(m.head(m.a(x)[0])),
    "a relu after the head": lambda m, x: torch.relu(m.head(m.a(x)[0])),
    "both directions": lambda m, x: m.wide(m.pair(x)[0]),
    "both ends": lambda m, x: (lambda h: m.wide(torch.cat([h[0], h[1]], -1)))(m.pair(x)[1][0]),
    "both ends of y": lambda m, x: (lambda y: m.wide(torch.cat([y[:, -1, :H], y[:, 0, H:]], -1)))(m.pair(x)[0]),
    "both ends, reshaped": lambda m, x: m.wide(m.pair(x)[1][0].transpose(0, 1).reshape(-1, 2 * H)),
    "the sum of both": lambda m, x: (lambda y: m.head(y[..., :H] + y[..., H:]))(m.pair(x)[0]),
    "deep pairs": lambda m, x: m.pairs(m.pair(x)[0])[0],
    "ends of deep pairs": lambda m, x: (lambda h: h.view(2, 2, -1, 3)[-1].transpose(0, 1).flatten(1))(
        m.pairs(m.pair(x)[0])[1][0]
    ),
    "dropout": lambda m, x: m.head(torch.nn.functional.dropout(m.a(x)[0], 0.5, m.training)),
    "a head of rows": lambda m, x: m.head(m.a(x)[0].reshape(-1, H)).reshape(x.shape[0], x.shape[1], 3),
    "outputs and states": lambda m, x: m.deep(x),
}
REFUSED = {
    "reversed": (lambda m, x: m.a(x.flip(1))[0], "the input 'x' and X of node '/a/LSTM' .* stands node '/Slice'"),
    "every other step": (lambda m, x: m.a(x[:, ::2])[0], "the input 'x' and X of node '/a/LSTM' .*node '/Slice'"),
    "permuted features": (lambda m, x: m.a(x[..., [1, 0]])[0], "X of node '/a/LSTM' .* stands node '/Gather'"),
    "softmax before": (lambda m, x: m.a(torch.softmax(x, -1))[0], "stands node '/Softmax' .Softmax."),
    "where before": (lambda m, x: m.a(torch.where(x > 0, x, 0.0))[0], "stands node '/Where' .Where."),
    "a scale before": (lambda m, x: m.a((x - 0.3) / 2)[0], "X of node '/a/LSTM' .* stands node '/Sub' .Sub."),
    "a dense layer before": (lambda m, x: m.a(m.square(x))[0], "stands node '/square/MatMul' .MatMul."),
    "an embedding": (lambda m, x: m.a(m.table((x[..., 0] > 0).long()))[0], "stands node '/.*' .Cast|Greater|Gather."),
    "encoder, decoder": (
        lambda m, x: m.b(x, m.a(x)[1])[0],
        "initial_h of node '/b/LSTM' .LSTM. takes Y_h of node '/a/LSTM' .LSTM.; initial_c",
    ),
    "two, side by side": (lambda m, x: torch.cat([m.a(x)[0], m.b(x)[0]], -1), "Y of node '/a/LSTM' .* and Y of node"),
    "three, of two": (
        lambda m, x: m.wider(torch.cat([m.a(x)[0], m.b(x)[0]], -1))[0],
        "X of node '/wider/LSTM' .LSTM. takes Y of node '/a/LSTM' .LSTM. and Y of node '/b/LSTM'",
    ),
    "a sum with the input": (lambda m, x: m.a(x)[0] + x, "Y of node '/a/LSTM' .* and the input 'x' .* node '/Add'"),
    "a sum of layers": (
        lambda m, x: (lambda y: m.b(y)[0] + y)(m.a(x)[0]),
        "has residual connections around its layers, but residual is False",
    ),
    "two heads": (lambda m, x: (lambda y: (m.head(y), m.square(y)))(m.a(x)[0]), "there are 2 heads"),
    "two dense layers": (lambda m, x: m.square(torch.relu(m.square(m.a(x)[0]))), "between Relu of the head .* stands node '/square_1/"),
    "layer norm": (lambda m, x: m.b(m.norm(m.a(x)[0]))[0], "X of node '/b/LSTM' .* stands node '/norm/LayerNorm"),
    "the mean": (lambda m, x: m.head(m.a(x)[0].mean(1)), "stands node '/ReduceMean' .ReduceMean."),
    "the first step": (lambda m, x: m.head(m.a(x)[0][:, 0]), "the first step in time of Y of node '/a/LSTM'"),
    "a step between": (lambda m, x: m.head(m.a(x)[0][:, 2]), "stands node '/Gather' .Gather."),
    "the last step of a pair": (lambda m, x: m.wide(m.pair(x)[0][:, -1]), "the last step in time of Y of node '/pair"),
    "c": (lambda m, x: m.head(m.a(x)[1][1][0]), "between Y_c of node '/a/LSTM' .* stands node '/head/Gemm'"),
    "one direction": (lambda m, x: m.head(m.pair(x)[0][..., :H]), "Y of node '/pair/LSTM' .* node '/head/MatMul'"),
    "directions swapped": (lambda m, x: m.wide(m.pair(x)[0][..., [2, 3, 0, 1]]), "stands node '/Gather' .Gather."),
    "batch for time": (lambda m, x: m.b(m.a(x)[0].transpose(0, 1))[0], "with time and batch in another order"),
    "a wrong reshape": (lambda m, x: m.b(m.a(x)[0].reshape(T, B, H))[0], "stands node '/Reshape' .Reshape."),
    "h repeated": (lambda m, x: m.b(m.a(x)[1][0][0][:, None].expand(B, T, H))[0], "Y_h of node .* node '/Expand'"),
    "half of the features": (lambda m, x: m.a(x)[0][..., :1], "and the output '.*' stands node '/Slice'"),
}

try:
    import torch
except ModuleNotFoundError:  # its cases are skipped below
    torch = None


def exported(forward, dynamic=True):
    """A module of PyTorch with this forward, and what torch.onnx writes of it."""
    nn = pytest.importorskip("torch").nn

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.LSTM(I, H, batch_first=True) for _ in range(2))
            self.deep, self.wider = nn.LSTM(I, H, 2, batch_first=True), nn.LSTM(2 * H, H, batch_first=True)
            self.pair = nn.LSTM(I, H, batch_first=True, bidirectional=True)
            self.pairs = nn.LSTM(2 * H, 3, 2, batch_first=True, bidirectional=True)
            self.head, self.square, self.wide = nn.Linear(H, 3), nn.Linear(H, H), nn.Linear(2 * H, 3)
            self.norm, self.table = nn.LayerNorm(H), nn.Embedding(2, I)

        def forward(self, x):
            return forward(self, x)

    torch.manual_seed(0)
    module, file = Module().eval(), io.BytesIO()
    axes = {"x": {0: "batch", 1: "time"}} if dynamic else None
    torch.onnx.export(
        module, (torch.from_numpy(numbers(B, T, I)),), file, dynamo=False, input_names=["x"], dynamic_axes=axes
    )
    return module, onnx.load_from_string(file.getvalue())


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("name", TAKEN)
def test_what_pytorch_exports_as_a_stack(name, dynamic, tmp_path):
    module, model = exported(TAKEN[name], dynamic)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    x = numbers(B, T, I, seed=1)
    with torch.no_grad():
        ys = module(torch.from_numpy(x))
    ys = ys[0] if isinstance(ys, tuple) else ys
    with jax.disable_jit():
        assert_close(load_model(path)(x), jnp.asarray(ys.numpy()))


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_pytorch_exports_and_is_no_stack(name):
    forward, words = REFUSED[name]
    with pytest.raises(ConvertError, match=words):
        from_onnx(exported(forward)[1])


def test_what_our_own_graphs_say_comes_back(tmp_path):
    """Merge, residual connections, lengths, states that go in and out, the readout, the last step."""
    pairs = (pair(biases=2), pair(2 * HIDDEN, 1, biases=2))
    head = Dense(jnp.asarray(numbers(2 * pairs[1].forward.output_size, 3)), jnp.asarray(numbers(3)))
    params = NetworkParams(pairs, head)
    for how in ({"lengths": True, "state": True}, {"time_major": True}, {"return_sequences": True}):
        again = read_stack(to_onnx(params, **how, readout="softmax"))
        assert not again.complaints
        assert again.architecture.return_sequences == how.get("return_sequences", False)
        assert again.architecture.readout is jax.nn.softmax
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), again.params, params))
    summed = (pairs[0], pair(pairs[0].forward.output_size, 2, biases=2))
    model = to_onnx(summed, merge="sum", residual=True)
    stack = read_stack(model)
    assert (stack.architecture.merge, stack.residual, stack.chain.return_sequences) == ("sum", True, True)
    with pytest.raises(ConvertError, match=r"joins directions by merge='sum', but merge is 'concat'\. Say merge="):
        from_onnx(model)
    with pytest.raises(ConvertError, match="has residual connections around its layers, but residual is False"):
        from_onnx(model, merge="sum")
    assert len(from_onnx(model, merge="sum", residual=True)) == 2
    stack = read_stack(to_onnx(pairs, lengths=True, state=True))
    assert stack.chain.lengths == "lengths"
    assert stack.chain.states[0] == "layers.0.forward.h"
    assert len(stack.chain.outputs) == 9


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
    graph = helper.make_graph(
        [loop], "g", [value("x", FLOAT, ["t", "b", I])], [value("y", FLOAT, None)], arrays
    )
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
        with pytest.raises(ConvertError, match=r"is a DynamicQuantizeLSTM: its weights are 8-bit numbers.*dequantize=True"):
            read(path)
    again = from_onnx(path, dequantize=True)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(layers), strict=True):
        assert np.abs(a - b).max() <= np.abs(b).max() / 254 * 1.01
    xs = numbers(B, T, layers[0].forward.input_size)
    (theirs,) = runtime(onnx.load(path), xs=xs)
    assert 1e-6 < np.abs(stacked(again, xs)[1] - theirs).max() < 0.05
    head = Dense(jnp.asarray(numbers(layers[1].output_size, 3)), jnp.asarray(numbers(3)))
    path = quantised(to_onnx(NetworkParams(layers, head)), tmp_path)
    with pytest.raises(ConvertError, match=r"stands node .* .DynamicQuantizeLinear., which computes with quantised numb"):
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
    with pytest.raises(ConvertError, match=r"stands node 'to8' .QuantizeLinear., which computes with quantised numbers"):
        from_onnx(model)
