"""ONNX graphs: those that are a stack give the file's numbers, and all others are refused by the node in the way."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exchange import layer, pair
from tolerances import assert_close

from lstmjax import network, stacked
from lstmjax.convert import LAYOUTS, ConvertError, from_onnx, load_model, load_weights, to_onnx
from lstmjax.frameworks import oracle
from lstmjax.networks import Dense, NetworkParams
from lstmjax.replica import verify
from lstmjax.stack import directions

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.peers

from graphs import FLOAT, H, chain_of, numbers, random_model, runtime  # noqa: E402 it imports onnx

from lstmjax.frameworks.onnx.model import read_stack  # noqa: E402

helper, numpy_helper = onnx.helper, onnx.numpy_helper
B, T, I = 3, 6, 2
HIDDEN = layer().hidden_size


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
    if stack.complaints or any(stack.architecture.beyond_options()):
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
    with pytest.raises(ConvertError, match=r"and the output 'z10' stands node 'mul10' \(Mul\)"):
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
    "two dense layers": (
        lambda m, x: m.square(torch.relu(m.square(m.a(x)[0]))),
        "between Relu of the head .* stands node '/square_1/",
    ),
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
    with pytest.raises(ConvertError, match=r"joins directions by 'sum', but merge is 'concat'\. Pass merge="):
        from_onnx(model)
    with pytest.raises(ConvertError, match="has residual connections around its layers, but residual is False"):
        from_onnx(model, merge="sum")
    assert len(from_onnx(model, merge="sum", residual=True)) == 2
    stack = read_stack(to_onnx(pairs, lengths=True, state=True))
    assert stack.chain.lengths == "lengths"
    assert stack.chain.states[0] == "layers.0.forward.h"
    assert len(stack.chain.outputs) == 9


def test_lengths_of_all_steps_are_no_lengths():
    """As exporters of TensorFlow write them: the number of steps, once for each sequence."""
    model = chain_of()
    tensors = {"zero": np.array(0), "from1": np.array([1]), "to2": np.array([2])}
    model.graph.initializer.extend([numpy_helper.from_array(a, k) for k, a in tensors.items()])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["steps"]),
        helper.make_node("Slice", ["shape", "from1", "to2"], ["batch"]),
        helper.make_node("Expand", ["steps", "batch"], ["all"]),
        helper.make_node("Cast", ["all"], ["lens"], to=onnx.TensorProto.INT32),
    ]
    for n, node in enumerate(nodes):
        model.graph.node.insert(n, node)
    lstms = [node for node in model.graph.node if node.op_type == "LSTM"]
    for node in lstms:
        node.input.extend(["", "lens"])
    x = numbers(T, B, H)
    assert_close(stacked(from_onnx(model), x, time_major=True)[1], jnp.asarray(runtime(model, x=x)[0]))
    model.graph.node[1].input[1] = "one"  # the size of the batch for the number of steps
    with pytest.raises(ConvertError, match=r"node 'lstm0' .LSTM. has lengths of its own, which layers do not say"):
        from_onnx(model)
    lstms[0].input[4] = ""
    with pytest.raises(ConvertError, match=r"node 'lstm1' .LSTM. has lengths of its own"):
        from_onnx(model)
    ragged = to_onnx((layer(biases=2), layer(HIDDEN, 2, biases=2)), lengths=True)
    next(node for node in ragged.graph.node if node.op_type == "LSTM").input[4] = ""
    with pytest.raises(ConvertError, match="only some nodes take lengths"):
        from_onnx(ragged)


def test_verify_runs_the_file_itself(tmp_path):
    """Not one that is built anew from what was read; and it says what of the file it did not compare."""
    path, xs = tmp_path / "model.onnx", numbers(B, T, layer().input_size)
    layers = (pair(biases=2), layer(2 * HIDDEN, 2, biases=2))
    head = Dense(jnp.asarray(numbers(HIDDEN, 3)), jnp.asarray(numbers(3)))
    lengths = np.array([T, 2, 4])
    for how in ({"time_major": True, "return_sequences": True}, {"readout": "softmax"}):
        to_onnx(NetworkParams(layers, head), path, **how)
        verdict = verify(path, xs)
        assert verdict, verdict
        assert f"the model in {path}, as onnxruntime" in verdict.who
    words = str(verdict)
    assert "of the file's outputs only probabilities was compared, and not logits" in words
    to_onnx(NetworkParams(layers, head), path, lengths=True, state=True)
    words = str(verify(path, xs, lengths=lengths))
    assert "only logits was compared, and not layers.1.h.last, layers.0.forward.h.last, " in words
    assert "initial states, inputs of the file (layers.0.forward.h, " in words
    to_onnx(layers, path)
    with pytest.raises(ValueError, match="lengths are given, but the file has no input for them"):
        verify(path, xs, lengths=lengths)
    model = onnx.load(path)
    with pytest.MonkeyPatch.context() as patch:  # a reading that is wrong is found out
        patch.setattr("lstmjax.frameworks.onnx.weights.LAYOUT", LAYOUTS["torch"])
        assert not verify(path, xs)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.dim_value = 1
    onnx.save(model, path)
    assert verify(path, xs)
    batch.dim_value = 2
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"xs has shape \(3, 6, 2\), and ONNX Runtime says: .*Got: 3 Expected: 2"):
        verify(path, xs)


def test_verify_says_when_the_file_is_not_run(tmp_path, x64):
    """ONNX Runtime has no LSTM in float64."""
    model = chain_of()
    for tensor in model.graph.initializer:
        if tensor.name[0] in "WR":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    words = str(verify(path, numbers(B, T, H)))
    assert "nothing of the architecture was checked: both sides ran as lstmjax reads model.onnx (ONNX Run" in words


LONG = 2**31 - 1
SLICES = {  # bounds along time, and whether they leave out nothing for time of any length, or of length 6
    "all": (0, LONG, True, True),
    "the first 100": (0, 100, False, True),
    "the last 100": (-100, LONG, False, True),
    "the first 5": (0, 5, False, False),
    "the first 7": (0, 7, False, True),
    "all but one": (1, LONG, False, False),
}


@pytest.mark.parametrize("name", SLICES)
def test_a_slice_that_cuts_long_sequences_only_is_refused(name):
    """The model is followed at short lengths; what holds for these must hold for all."""
    start, end, *taken = SLICES[name]
    for sizes, whole in zip((("t", "b", H), (6, 3, H)), taken, strict=True):
        model = chain_of(("Slice", "start", "end", "axis"), inputs=sizes, output=None)
        stored = {"start": [start], "end": [end], "axis": [0]}
        model.graph.initializer.extend(numpy_helper.from_array(np.array(a), k) for k, a in stored.items())
        if whole:
            x = numbers(6, 3, H)
            assert_close(stacked(from_onnx(model), x, time_major=True)[1], jnp.asarray(runtime(model, x=x)[0]))
        else:
            with pytest.raises(ConvertError, match=r"X of node 'lstm1' .LSTM. stands node 'slice00' .Slice."):
                from_onnx(model)


@pytest.mark.parametrize("length", ["time", "batch", "half of time", "nine tenths of time"])
def test_bounds_that_are_computed_from_lengths(length):
    """A slice to the length of the batch leaves out nothing where the batch is larger than time is long."""
    model = chain_of(("Slice", "start", "end", "axis"))
    stored = {"start": np.array([0]), "axis": np.array([0]), "at": np.array([int(length == "batch")])}
    nodes = [helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Gather", ["shape", "at"], ["end"])]
    if length.endswith("of time"):
        stored["part"] = np.float32(0.5 if length == "half of time" else 0.9)
        nodes[1].output[0] = "whole"
        nodes += [
            helper.make_node("Cast", ["whole"], ["real"], to=FLOAT), helper.make_node("Mul", ["real", "part"], ["cut"]),
            helper.make_node("Cast", ["cut"], ["end"], to=onnx.TensorProto.INT64),
        ]  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(a, k) for k, a in stored.items())
    for n, node in enumerate(nodes):
        model.graph.node.insert(n, node)
    if length == "time":
        x = numbers(T, B, H)
        assert_close(stacked(from_onnx(model), x, time_major=True)[1], jnp.asarray(runtime(model, x=x)[0]))
    else:
        with pytest.raises(ConvertError, match=r"X of node 'lstm1' .LSTM. stands node 'slice00' .Slice."):
            from_onnx(model)


@pytest.mark.parametrize(("target", "fits"), [((0, -1, H), True), ((5, -1, H), False), ((7, -1, H), False)])
def test_a_shape_that_fits_some_lengths_only_is_refused(target, fits):
    model = chain_of(("Reshape", "target"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(target), "target"))
    if fits:
        assert len(from_onnx(model)) == 2
    else:
        with pytest.raises(ConvertError, match=r"X of node 'lstm1' .LSTM. stands node 'reshape00' .Reshape."):
            from_onnx(model)


@pytest.mark.parametrize("name", ["Y_h", "Y_c"])
def test_a_model_of_states_alone_is_not_read_as_one_of_outputs(name, tmp_path):
    """Only Y_c as the output was read as the sequence Y, which has another shape."""
    model = chain_of()
    first, last = model.graph.node[0], model.graph.node[2]
    node = last if name == "Y_c" else first
    node.output.extend({"Y_h": ["end"], "Y_c": ["", "end"]}[name])
    model.graph.output[0].name = "end"
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    for read in (load_model, load_weights):
        with pytest.raises(
            ConvertError, match=rf"the output 'end' is {name} of node '{node.name}' .LSTM.: states alone"
        ):
            read(path)


@pytest.mark.parametrize("op", [None, "Softmax"])
def test_a_head_of_a_step_that_is_not_the_last_is_named(op):
    """The axes of its outputs are those of a head."""
    softmax = [("Softmax",)] if op else []
    model = chain_of(after=(("MatMul", "w"), *softmax, ("Gather", "zero", {"axis": 0})))
    stored = {"w": np.ones((H, 5), np.float32), "zero": np.array(0)}
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in stored.items())
    with pytest.raises(ConvertError, match=r"is a head of the first step in time of Y of node 'lstm1' .LSTM., and"):
        from_onnx(model)


def test_what_was_dropped_is_not_said_to_be_missing(tmp_path):
    """A file with a Sigmoid between its layers does not hold weights alone."""
    path = tmp_path / "model.onnx"
    onnx.save(chain_of(("Sigmoid",)), path)
    words = str(verify(path, numbers(B, T, H), extra="drop"))
    assert "model.onnx was read as weights alone" in words
    assert "holds weights alone" not in words
