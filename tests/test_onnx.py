"""ONNX: what goes out gives the same in ONNX Runtime, and any node LSTM comes in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import tiered
from tolerances import assert_close

from lstmjax import (
    CELLS,
    Bidirectional,
    Zoneout,
    cell_step,
    clip_cell,
    clip_inputs,
    init_network,
    init_params,
    init_stacked,
    network,
    stacked,
)
from lstmjax.convert import ConvertError, from_onnx, read_onnx, to_onnx
from lstmjax.inside import Fix

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.peers

T, B, I, H, P = 6, 3, 2, 4, 5
LENGTHS = np.array([T, 2, 0], np.int32)
FLOAT = onnx.TensorProto.FLOAT


def xs_of(seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(B, T, I)).astype(dtype)


def drawn(tree, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.6, a.dtype), tree)


def layers_of(*args, **how):
    return drawn(jax.eval_shape(lambda: init_stacked(jax.random.key(0), *args, **how)))


def runtime(model, **feeds):
    """What ONNX Runtime gives, by name."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(None, {name: np.asarray(a) for name, a in feeds.items()})
    return dict(zip([one.name for one in session.get_outputs()], values, strict=True))


def kinds(model):
    return [node.op_type for node in model.graph.node if node.op_type in ("LSTM", "Scan")]


def softplus(z):
    return jax.nn.softplus(z)


OWN = dataclasses.replace(CELLS["peephole"], name="positive", g=softplus)
BY_OPERATOR = {
    **{
        n: CELLS[n] for n in ("vanilla", "peephole", "niaf", "noaf", "cifg", "hard_sigmoid_fifth", "hard_sigmoid_sixth")
    },
    "inputs clipped": clip_inputs("peephole", 0.3),
}
BY_SCAN = {n: c for n, c in CELLS.items() if n not in BY_OPERATOR and n not in ("np", "projection")}
BY_SCAN |= {"own": OWN}
BY_SCAN["c clipped"] = clip_cell("vanilla", 0.2)
BY_SCAN["inputs clipped twice"] = clip_inputs(clip_inputs("peephole", 0.2), 0.3)


@pytest.mark.parametrize(
    "name", tiered([*BY_OPERATOR, *BY_SCAN], first=["vanilla", "peephole", "layer_norm", "fgr", "own"])
)
def test_every_cell_in_onnx_runtime(name):
    """In two directions over ragged sequences; what the operator LSTM has a word for also as a Scan."""
    cell = (BY_OPERATOR | BY_SCAN)[name]
    layers, xs = layers_of(I, H, bidirectional=True, cell=cell), xs_of()
    _, expected = stacked(layers, xs, lengths=LENGTHS, cell=cell)
    models = [to_onnx(layers, lengths=True, cell=cell, operator=op) for op in ("auto", "scan")]
    assert [kinds(model) for model in models] == [["LSTM"] if name in BY_OPERATOR else ["Scan"] * 2, ["Scan"] * 2]
    for model in models:
        assert_close(jnp.asarray(runtime(model, xs=xs, lengths=LENGTHS)["ys"]), expected)


OPTIONS = {
    "deep": {"layers": 3},
    "no bias": {"bias": None},
    "two biases": {"bias": "double"},
    "projection": {"layers": 2, "projection_size": P},
    "projected pairs": {"layers": 2, "bidirectional": True, "projection_size": P},
    "projection with a bias": {"layers": 2, "projection_size": P, "projection_bias": True},
    "summed": {"layers": 2, "bidirectional": True, "merge": "sum"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_form_of_layers(name):
    how = OPTIONS[name]
    layers, xs = layers_of(I, H, **how), xs_of()
    merge = how.get("merge", "concat")
    _, expected = stacked(layers, xs, merge=merge)
    assert_close(jnp.asarray(runtime(to_onnx(layers, merge=merge), xs=xs)["ys"]), expected)
    _, last = stacked(layers, xs, merge=merge, lengths=LENGTHS, return_sequences=False)
    model = to_onnx(layers, merge=merge, lengths=True, return_sequences=False)
    assert_close(jnp.asarray(runtime(model, xs=xs, lengths=LENGTHS)["ys"]), last)


@pytest.mark.parametrize("operator", ["lstm", "scan"])
def test_the_state_goes_in_and_out(operator):
    """Streaming, any batch and number of steps, and the initial state for a sequence of length 0."""
    layers = (layers_of(I, H, bidirectional=True)[0], layers_of(2 * H, 3)[0])
    state = drawn((Bidirectional(*[(jnp.zeros((B, H)),) * 2] * 2), (jnp.zeros((B, 3)),) * 2))
    model = to_onnx(layers, lengths=True, state=True, time_major=True, operator=operator)
    words = [f"layers.0.{way}.{s}" for way in ("forward", "reverse") for s in "hc"] + ["layers.1.h", "layers.1.c"]
    feeds = dict(zip(words, jax.tree.leaves(state), strict=True))
    xs = jnp.moveaxis(xs_of(), 0, 1)
    out = runtime(model, xs=xs, lengths=LENGTHS, **feeds)
    ends, ys = stacked(layers, xs, state, lengths=LENGTHS, time_major=True)
    assert_close(jnp.asarray(out["ys"]), ys)
    assert_close([jnp.asarray(out[f"{word}.last"]) for word in words], jax.tree.leaves(ends))
    one = runtime(model, xs=xs[:1, :1], lengths=LENGTHS[1:2] - 1, **{k: v[:1] for k, v in feeds.items()})
    assert one["ys"].shape == (1, 1, 3)


@pytest.mark.parametrize("sequences", [False, True])
def test_networks(sequences):
    """Head, residual connections, wrappers as they are at evaluation, scaling, probabilities, words in the file."""
    params = drawn(jax.eval_shape(lambda: init_network(jax.random.key(0), I, H, 7, 3)))
    offset, scale = np.array([1.0, -2.0]), np.array([3.0, 0.5])
    wrappers = (Fix("f", 0.7, units=(1,), layer=1), Zoneout(0.1, 0.2))
    how = {"residual": True, "wrappers": wrappers, "return_sequences": sequences}
    model = to_onnx(
        params, **how, lengths=True, scaling=(offset, scale), readout="softmax", metadata={"classes": "a b"}
    )
    assert kinds(model) == ["Scan"] * 3
    assert model.metadata_props[0].value == "a b"
    xs = xs_of()
    out = runtime(model, xs=xs, lengths=LENGTHS)
    _, logits = network(params, ((xs - offset) / scale).astype(np.float32), lengths=LENGTHS, **how)
    assert_close(jnp.asarray(out["logits"]), logits)
    assert_close(jnp.asarray(out["probabilities"]), jax.nn.softmax(logits))
    without = to_onnx(params, residual=True)
    assert kinds(without) == ["LSTM"] * 3
    assert_close(jnp.asarray(runtime(without, xs=xs)["logits"]), network(params, xs, residual=True)[1])
    with pytest.raises(ConvertError, match="has residual connections around its layers, but residual is False"):
        from_onnx(without)
    again = from_onnx(without, residual=True)
    np.testing.assert_array_equal(again.head.w, params.head.w)
    np.testing.assert_array_equal(again.layers[2].w_h, params.layers[2].w_h)


def test_float64_and_nan_padding(x64):
    layers = drawn(jax.eval_shape(lambda: init_stacked(jax.random.key(0), I, H, bidirectional=True, dtype=jnp.float64)))
    xs = xs_of(dtype=np.float64)
    model = to_onnx(layers, lengths=True)
    assert kinds(model) == ["Scan"] * 2
    _, expected = stacked(layers, xs, lengths=LENGTHS)
    assert_close(jnp.asarray(runtime(model, xs=xs, lengths=LENGTHS)["ys"]), expected)
    xs[1, 2:], xs[2] = np.nan, np.nan
    assert_close(jnp.asarray(runtime(model, xs=xs, lengths=LENGTHS)["ys"]), expected)


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A wrapper that adds noise, at evaluation, too."""

    def draw(self, key, steps, state, x):
        return None, jnp.ones(steps)

    def __call__(self, inner, params, state, x, own):
        return inner(params, state, x + own[1])


def test_directions_of_different_sizes_and_a_step_of_ones_own(tmp_path):
    pair = Bidirectional(layers_of(I, H)[0], layers_of(I, 3)[0])
    xs = xs_of()
    model = to_onnx((pair,))
    assert kinds(model) == ["LSTM", "LSTM"]
    assert_close(jnp.asarray(runtime(model, xs=xs)["ys"]), stacked((pair,), xs)[1])

    def leaky_step(params, state, x):
        (h, c), _ = cell_step(params, state, x)
        return (h, 0.99 * c), h

    layers = layers_of(I, H)
    model = to_onnx(layers, step=leaky_step)
    assert_close(jnp.asarray(runtime(model, xs=xs)["ys"]), stacked(layers, xs, step=leaky_step)[1])

    def strange_step(params, state, x):
        h, c = state
        return (jax.lax.cumsum(h), c), h

    with pytest.raises(ConvertError, match="the step uses cumsum, which is not exported to ONNX"):
        to_onnx(layers, step=strange_step)

    def looped_step(params, state, x):
        (h, c), _ = cell_step(params, state, x)
        return (jax.lax.fori_loop(0, 3, lambda _, h: jnp.sin(h), h), c), h

    def chosen_step(params, state, x):
        (h, c), _ = cell_step(params, state, x)
        return (jax.lax.select_n((h > 0).astype(jnp.int32), h, c), c), h

    def soft_step(params, state, x):
        (h, c), _ = cell_step(params, state, x)
        return (jax.nn.softmax(h), c), jax.nn.softmax(h)

    with pytest.raises(ConvertError, match="the step uses scan, which is not exported to ONNX"):
        to_onnx(layers, step=looped_step)
    with pytest.raises(ConvertError, match="ONNX has no operator for these dtypes, or the model is not valid"):
        to_onnx(layers, step=chosen_step)
    softened = runtime(to_onnx(layers, step=soft_step), xs=xs)["ys"]
    assert_close(jnp.asarray(softened), stacked(layers, xs, step=soft_step)[1])
    for wrong in (lambda params, state, x: (state, x), lambda params, state, x: ((*state, x), state[0])):
        with pytest.raises(ConvertError, match=r"a step of your own is exported if its state is \(h, c\)"):
            to_onnx(layers, step=wrong)
    with pytest.raises(ConvertError, match="a wrapper needs something for each step at evaluation, too"):
        to_onnx(layers, wrappers=(Noisy(),))
    path = tmp_path / "model.onnx"
    to_onnx(layers, path)
    np.testing.assert_array_equal(from_onnx(path)[0].w_x, layers[0].w_x)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ConvertError, match="is no whole ONNX model"):
        from_onnx(path)
    with pytest.raises(ConvertError, match="no such file"):
        from_onnx(tmp_path / "none.onnx")


def test_what_is_refused():
    layers = layers_of(I, H)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), layers)
    with pytest.raises(
        ConvertError, match="the parameters are bfloat16, but a model is exported in float32 or float64"
    ):
        to_onnx(half)
    with pytest.raises(ConvertError, match=r"has no word for the gates of the cell 'fgr'|w_r of the cell 'fgr'"):
        to_onnx(layers_of(I, H, cell="fgr"), cell="fgr", operator="lstm")
    with pytest.raises(
        ConvertError, match=r"layer 0: the operator LSTM has no word for a projection; pass operator='scan"
    ):
        to_onnx(layers_of(I, H, projection_size=P), operator="lstm")
    for name, value in {"operator": "gru", "merge": "mean", "readout": "max"}.items():
        with pytest.raises(ConvertError, match=f"{name} is '{value}', expected one of"):
            to_onnx(layers, **{name: value})
    with pytest.raises(ConvertError, match="readout is 'softmax', but layers give no logits; pass NetworkParams"):
        to_onnx(layers, readout="softmax")
    with pytest.raises(ConvertError, match=r"scaling has shapes \(3,\) and \(2,\), expected offset and scale of each"):
        to_onnx(layers, scaling=(np.zeros(3), np.ones(I)))
    with pytest.raises(ConvertError, match="there is no folder none"):
        to_onnx(layers, "none/model.onnx")
    (node,) = read_onnx(to_onnx(layers))
    with pytest.raises(ConvertError, match=r"state has shape \(3, 4\), expected \[D, B, H\] with D = 1"):
        node(jnp.ones((T, 3, I)), state=(jnp.ones((3, 4)), jnp.ones((3, 4))))
    with pytest.raises(ValueError, match="w_c") as refused:
        to_onnx(layers_of(I, H, layers=2, cell="peephole"))
    assert refused.value.__notes__ == ["This was layer 0, counted from 0 at the bottom."]
    with pytest.raises(ValueError, match="layer 1 expects I = 2 features, but layer 0 gives 4"):
        to_onnx(layers + layers)
    with pytest.raises(ConvertError, match="must be equally wide"):
        to_onnx((layers_of(I, H)[0], layers_of(H, 3)[0]), residual=True)
    with pytest.raises(ConvertError, match="residual=True with return_sequences=False is not defined"):
        to_onnx(layers_of(I, H, layers=2, bidirectional=True), residual=True, return_sequences=False)


def node_model(
    rng, *, direction="forward", peepholes=False, biases=True, lengths=None, state=False, layout=0, scale=0.7, **said
):
    """A model of one random node LSTM, its weights stored in it."""
    count = 2 if direction == "bidirectional" else 1
    arrays = {"W": (count, 4 * H, I), "R": (count, 4 * H, H)}
    arrays |= {"B": (count, 8 * H)} if biases else {}
    arrays |= {"initial_h": (count, B, H), "initial_c": (count, B, H)} if state else {}
    arrays |= {"P": (count, 3 * H)} if peepholes else {}
    stored = {name: rng.normal(size=shape).astype(np.float32) * scale for name, shape in arrays.items()}
    if layout and state:
        stored |= {k: np.moveaxis(stored[k], 0, 1).copy() for k in ("initial_h", "initial_c")}
    if lengths is not None:
        stored["sequence_lens"] = np.asarray(lengths, np.int32)
    names = ["X", *(n if n in stored else "" for n in ("W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"))]
    said |= {"layout": layout} if layout else {}
    node = onnx.helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=H, direction=direction, **said)
    first = ["b", "t"] if layout else ["t", "b"]
    graph = onnx.helper.make_graph(
        [node], "one", [onnx.helper.make_tensor_value_info("X", FLOAT, [*first, I])],
        [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in ("Y", "Y_h", "Y_c")],
        [onnx.numpy_helper.from_array(a, name) for name, a in stored.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


NODES = {
    "defaults": {"biases": False},
    "reverse": {"direction": "reverse", "lengths": [T, 2, 1]},
    "everything": {
        "direction": "bidirectional", "peepholes": True, "lengths": [T, 2, 3], "state": True, "clip": 0.4,
        "activations": ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "ScaledTanh"],
        "activation_alpha": [0.3, 1.5], "activation_beta": [0.4, 0.7],
    },
    "coupled": {"input_forget": 1, "peepholes": True, "state": True},
    "coupled, no peepholes": {"input_forget": 1, "direction": "bidirectional"},
    "relu": {"activations": ["Sigmoid", "Relu", "Softplus"]},
    "leaky": {"activations": ["HardSigmoid", "LeakyRelu", "Elu"]},
    "thresholded": {"activations": ["Sigmoid", "ThresholdedRelu", "Affine"], "activation_alpha": [0.2, 0.5],
                    "activation_beta": [0.1]},
    "lower case": {"activations": ["sigmoid", "tanh", "tanh"]},
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_any_node_comes_in(name):
    model = node_model(np.random.default_rng(3), **NODES[name])
    (node,) = read_onnx(model)
    xs = np.moveaxis(xs_of(), 0, 1).copy()
    expected = runtime(model, X=xs)
    assert_close(dict(zip(("Y", "Y_h", "Y_c"), node(xs), strict=True)), jax.tree.map(jnp.asarray, expected))


def test_the_default_threshold_is_that_of_the_specification_and_not_of_the_runtime():
    xs = np.moveaxis(xs_of(), 0, 1).copy()

    def model(**constants):
        return node_model(np.random.default_rng(3), activations=["Sigmoid", "ThresholdedRelu", "Tanh"], **constants)

    def outputs(alpha):
        return read_onnx(model(activation_alpha=[alpha]))[0](xs)[0]

    ys = read_onnx(model())[0](xs)[0]
    np.testing.assert_array_equal(ys, outputs(1.0))
    assert_close(outputs(0.0), jnp.asarray(runtime(model(), X=xs)["Y"]))
    assert np.abs(ys - outputs(0.0)).max() > 0.1


ALL = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus", "LeakyRelu", "HardSigmoid", "Elu")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_random_nodes_come_in(seed):
    rng = np.random.default_rng(seed)
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    said = {
        "direction": direction, "peepholes": bool(rng.integers(2)), "biases": bool(rng.integers(2)),
        "state": bool(rng.integers(2)), "input_forget": int(rng.integers(2)),
        "lengths": rng.integers(1, T + 1, B) if rng.integers(2) else None,
        "activations": [str(a) for a in rng.choice(ALL, 6 if direction == "bidirectional" else 3)],
    }  # fmt: skip
    said |= {"clip": float(rng.uniform(0.1, 2))} if rng.integers(2) else {}
    model = node_model(rng, scale=0.2, **said)  # some of these have no bound, and grow from step to step
    xs = np.moveaxis(xs_of(seed), 0, 1).copy()
    expected = runtime(model, X=xs)
    actual = dict(zip(("Y", "Y_h", "Y_c"), read_onnx(model)[0](xs), strict=True))
    for key, value in expected.items():
        assert np.abs(actual[key] - value).max() <= 1e-5 * max(1, np.abs(value).max()), (key, said)


def test_where_onnx_runtime_differs():
    """It refuses layout 1 and float64, and gives zeros for length 0 whatever the initial state."""
    rng, xs = np.random.default_rng(4), xs_of()
    (batch_first,) = read_onnx(node_model(rng, layout=1, state=True, direction="bidirectional"))
    rng = np.random.default_rng(4)
    (time_first,) = read_onnx(node_model(rng, state=True, direction="bidirectional"))
    assert batch_first.batch_first
    ys, h, c = batch_first(xs)
    expected = time_first(np.moveaxis(xs, 0, 1))
    assert_close(jnp.moveaxis(ys, 0, 2), expected[0])
    assert_close(tuple(jnp.moveaxis(a, 0, 1) for a in (h, c)), expected[1:])
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="Batchwise recurrent operations"):
        runtime(node_model(rng, layout=1), X=xs)

    model = node_model(rng, lengths=LENGTHS, state=True)
    (node,) = read_onnx(model)
    xs = np.moveaxis(xs, 0, 1).copy()
    expected, (ys, h, _) = runtime(model, X=xs), node(xs)
    assert_close((ys, h[:, :2]), (jnp.asarray(expected["Y"]), jnp.asarray(expected["Y_h"][:, :2])))
    assert not expected["Y_h"][0, 2].any()
    np.testing.assert_array_equal(h[0, 2], node.state[0][0, 2])


def test_the_cases_of_the_onnx_package():
    """All its cases of the operator, computed by it in NumPy; weights are inputs there."""
    from onnx.backend.test.case.node.lstm import LSTM

    cases = []

    def note(node, inputs, outputs, name):
        cases.append((node, inputs, outputs, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnx.backend.test.case.node.lstm.expect", note)
        for name in vars(LSTM):
            if name.startswith("export"):
                getattr(LSTM, name)()
    assert len(cases) >= 6
    for node, inputs, outputs, _ in cases:
        given = dict(zip([name for name in node.input if name], inputs, strict=True))
        graph = onnx.helper.make_graph([node], "one", [onnx.helper.make_tensor_value_info("X", FLOAT, None)], [])
        (read,) = read_onnx(onnx.helper.make_model(graph), given)
        actual = dict(zip(("Y", "Y_h", "Y_c"), read(given["X"]), strict=True))
        places = [place for place, name in zip(("Y", "Y_h", "Y_c"), node.output, strict=False) if name]
        for place, expected in zip(places, outputs, strict=True):
            assert_close(actual[place], jnp.asarray(expected))


def broken(change):
    model = node_model(np.random.default_rng(5), activations=["Sigmoid", "Tanh", "Tanh"])
    change(model)
    return model


def attribute(**said):
    def change(model):
        node = model.graph.node[0]
        kept = [a for a in node.attribute if a.name not in said]
        del node.attribute[:]
        node.attribute.extend([*kept, *(onnx.helper.make_attribute(k, v) for k, v in said.items())])

    return change


def shorter(model):
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def from_an_input(model):
    model.graph.initializer[0].name = "other"


def doubled(model):
    """W is computed: the node takes twice what is stored under another name."""
    model.graph.initializer[0].name = "half"
    node = onnx.helper.make_node("Add", ["half", "half"], ["W"], name="twice")
    model.graph.node.insert(0, node)


REFUSED = {
    "the activation 'Swish' is not one of Sigmoid, Tanh": attribute(activations=["Sigmoid", "Swish", "Tanh"]),
    "activations has 2 names, expected 3": attribute(activations=["Sigmoid", "Tanh"]),
    "Affine has no activation_alpha, and ONNX no default": attribute(activations=["Sigmoid", "Affine", "Tanh"]),
    "activation_alpha has 1 more values than activations that take one": attribute(activation_alpha=[0.1]),
    r"W has shape \(1, 16, 2\), expected \(2, 16, 2\) for 2": attribute(direction="bidirectional"),
    "the stored array 'W' is not whole": shorter,
    r"W \(W\) comes from the model's inputs and is not stored in it; give it by inputs=": from_an_input,
    r"W \(W\) is computed from constants by node 'twice' \(Add\), an operator that is not executed": doubled,
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_come_in(words):
    with pytest.raises(ConvertError, match=words):
        read_onnx(broken(REFUSED[words]))


def test_layers_of_a_model():
    layers = layers_of(I, H, layers=2, bidirectional=True, bias="double")
    again = from_onnx(to_onnx(layers))
    assert jax.tree.structure(again) == jax.tree.structure(layers)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(layers), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, cell in BY_OPERATOR.items():
        one = layers_of(I, H, cell=cell, bias="double")
        model = to_onnx(one, cell=cell)
        (back,) = from_onnx(model, cell=cell)
        assert all((a == b).all() for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(one), strict=True))
        if name != "vanilla":
            with pytest.raises(ConvertError, match=r"but cell is 'vanilla'\. Pass cell=, here and to stacked"):
                from_onnx(model)
    with pytest.raises(ConvertError, match=r"layer 0 runs backwards and gives .* load_model runs the file as it is"):
        from_onnx(node_model(np.random.default_rng(0), direction="reverse"))
    with pytest.raises(ConvertError, match="has an initial state, which layers do not say"):
        from_onnx(node_model(np.random.default_rng(0), state=True))
    with pytest.raises(ConvertError, match=r"there is no node LSTM in the model; it holds .*Scan"):
        from_onnx(to_onnx(layers, operator="scan"))
    with pytest.raises(ConvertError, match=r"source is a int, expected a path or an onnx\.ModelProto"):
        from_onnx(3)


def test_weights_behind_operators_that_only_shuffle():
    """Exporters put Concat, Slice and Transpose between what is stored and the node."""
    model = node_model(np.random.default_rng(6))
    (whole,) = read_onnx(model)
    stored = onnx.numpy_helper.to_array(model.graph.initializer[0])
    a, b = (onnx.numpy_helper.from_array(part.copy(), n) for part, n in zip(np.split(stored, 2, 1), "ab", strict=True))
    del model.graph.initializer[0]
    model.graph.initializer.extend([a, b])
    model.graph.node.insert(0, onnx.helper.make_node("Concat", ["a", "b"], ["W"], axis=1))
    np.testing.assert_array_equal(read_onnx(model)[0].params.w_x, whole.params.w_x)
    doubling = [onnx.helper.make_node("Concat", [f"a{n}"] * 2, [f"a{n + 1}"], axis=1) for n in range(60)]
    del model.graph.node[0]
    for node in doubling:
        model.graph.node.insert(0, node)
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["a"], ["a0"]))
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["a60"], ["W"]))
    with pytest.raises(ConvertError, match="takes far more memory than the model has"):
        read_onnx(model)


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize(("bidirectional", "layers"), [(False, 1), (True, 2)])
def test_what_pytorch_exports(bidirectional, layers, tmp_path):
    torch = pytest.importorskip("torch")
    from lstmjax.convert import from_torch

    module = torch.nn.LSTM(I, H, layers, bidirectional=bidirectional)
    path = tmp_path / "torch.onnx"
    torch.onnx.export(module, (torch.zeros(T, B, I),), str(path), dynamo=False)
    for a, b in zip(jax.tree.leaves(from_onnx(path)), jax.tree.leaves(from_torch(module)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_single_layer_is_taken_too():
    params = init_params(jax.random.key(0), I, H)
    model = to_onnx(params)
    assert [one.name for one in model.graph.input] == ["xs"]
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "time", I]
