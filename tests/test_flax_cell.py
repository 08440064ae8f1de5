"""Our cells beside Flax's own: every argument that theirs takes, with the same weights."""

import inspect
import warnings
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from modules import B, H, I, P, T, total
from tolerances import assert_close

import lstmjax
import lstmjax.linen
import lstmjax.nnx
from lstmjax.convert import from_linen, from_nnx, to_linen, to_nnx

pytestmark = pytest.mark.usefixtures("frameworks")  # Flax promotes as JAX does by default


def squared(z):
    return z * jnp.abs(z)


def promote_to_float32(arrays, *, dtype=None):
    """A promotion of one's own: everything is float32, whatever it came as."""
    return tuple(None if a is None else jnp.asarray(a, jnp.float32) for a in arrays)


# Arguments of the constructor, and the dtypes of inputs, parameters and carry beside them.
ROWS = {
    "as it is": {},
    "gate_fn": {"gate_fn": jax.nn.hard_sigmoid},
    "gate_fn of one's own": {"gate_fn": lambda z: jnp.clip(z + 0.4, 0, 1)},
    "activation_fn": {"activation_fn": jax.nn.relu},
    "both functions": {"gate_fn": jax.nn.sigmoid, "activation_fn": squared},
    "dtype": {"dtype": jnp.float32},
    "dtype bfloat16": {"dtype": jnp.bfloat16},
    "dtype float16": {"dtype": jnp.float16},
    "whole numbers": {"inputs": "int32"},
    "whole numbers, dtype": {"inputs": "int32", "dtype": jnp.float32},
    "bytes": {"inputs": "uint8"},
    "truth values": {"inputs": "bool"},
    "float16 inputs": {"inputs": "float16"},
    "bfloat16 inputs": {"inputs": "bfloat16", "dtype": jnp.float32},
    "param_dtype": {"param_dtype": jnp.float16},
    "param_dtype, float16 inputs": {"param_dtype": jnp.float16, "inputs": "float16", "carry": "float16"},
    "float16 carry": {"carry": "float16"},
    "whole carry": {"carry": "int32"},
    "carry without a batch": {"batch": ()},
    "inputs without a batch": {"inputs_batch": ()},
}
ONLY_NNX = {"promote_dtype": {"promote_dtype": promote_to_float32, "inputs": "float16", "param_dtype": jnp.bfloat16}}


def draw(row):
    """The options of a row, parameters, carry and inputs."""
    options = {"inputs": "float32", "carry": "float32", "batch": (B,), "inputs_batch": (B,)} | row
    inputs, carry, batch, inputs_batch = (options.pop(name) for name in ("inputs", "carry", "batch", "inputs_batch"))
    rng = np.random.default_rng(0)
    params = lstmjax.init_params(jax.random.key(2), I, H, init="equinox", dtype=options.get("param_dtype", jnp.float32))
    x = jnp.asarray(rng.normal(size=(*inputs_batch, I)) * 3).astype(inputs)
    c, h = (jnp.asarray(rng.normal(size=(*batch, H)) * 2).astype(carry) for _ in range(2))
    return options, params, (c, h), x


def low(options, *arrays):
    """The lowest precision in which the two sides may compute."""
    dtypes = [jnp.dtype(options.get(name) or jnp.float32) for name in ("dtype", "param_dtype")]
    narrow = [d for d in [*dtypes, *(a.dtype for a in arrays)] if d.itemsize < 4 and jnp.issubdtype(d, jnp.floating)]
    return max(narrow, key=lambda d: jnp.finfo(d).eps, default=jnp.dtype(jnp.float32))


def compare(ours, theirs, options, c, x):
    """Values, gradients and dtypes of one step; Flax's f ⊙ c stands in the dtype of c, and so does ours."""
    (state, y), gradient = ours
    (expected, their_y), their_gradient = theirs
    dtype = low(options, c, x)
    assert_close(jax.tree.map(jnp.float32, (state, y)), jax.tree.map(jnp.float32, (expected, their_y)), dtype=dtype)
    assert [a.dtype for a in (*state, y)] == [a.dtype for a in (*expected, their_y)]
    assert_close(
        jax.tree.map(jnp.float32, gradient), jax.tree.map(jnp.float32, their_gradient), gradient=True, dtype=dtype
    )


def seen(out):
    (c, _), y = out
    return total((c, y))


def in_turns(rows, *cells):
    """Each row with one of Flax's two cells, which compute the same: parameters of `theirs` and `row`."""
    return pytest.mark.parametrize(
        ("theirs", "row"), [(cells[n % len(cells)], row) for n, row in enumerate(rows.values())], ids=rows
    )


@in_turns(ROWS | ONLY_NNX, nnx.LSTMCell, nnx.OptimizedLSTMCell)
def test_nnx_cell_is_flaxs(row, theirs):
    options, params, carry, x = draw(row)
    zeros = {"recurrent_kernel_init": nnx.initializers.zeros}  # the orthogonal one knows no half precision
    reference = theirs(I, H, rngs=nnx.Rngs(0), **options, **zeros)
    tree = to_nnx(params, optimized=theirs is nnx.OptimizedLSTMCell)[0]["cell"]
    nnx.update(reference, tree)
    cell = lstmjax.nnx.LSTMCell(I, H, rngs=nnx.Rngs(0), **options)
    kept = {name: value for name, value in options.items() if name != "param_dtype"}
    cell = type(cell).from_params(params, **kept)
    ours = cell(carry, x), nnx.merge(nnx.graphdef(cell), nnx.grad(lambda m: seen(m(carry, x)))(cell)).to_params()
    gradient = from_nnx(nnx.grad(lambda m: seen(m(carry, x)))(reference))[0]
    compare(ours, (reference(carry, x), gradient), options, carry[0], x)


@in_turns(ROWS, linen.OptimizedLSTMCell, linen.LSTMCell)
def test_linen_cell_is_flaxs(row, theirs):
    options, params, carry, x = draw(row)
    variables = {"params": to_linen(params)[0]["params"]["cell"]}
    zeros = {"recurrent_kernel_init": linen.initializers.zeros}  # the orthogonal one knows no half precision
    reference, cell = theirs(H, **options, **zeros), lstmjax.linen.LSTMCell(H, **options)
    held = cell.from_params(params)
    ours = cell.apply(held, carry, x), cell.to_params(jax.grad(lambda v: seen(cell.apply(v, carry, x)))(held))
    gradient = from_linen(jax.grad(lambda v: seen(reference.apply(v, carry, x)))(variables))[0]
    compare(ours, (reference.apply(variables, carry, x), gradient), options, carry[0], x)


@pytest.mark.parametrize("dtype", [None, jnp.float32])
@pytest.mark.parametrize("inputs", ["int32", "float16"])
def test_an_rnn_takes_whole_numbers_and_float16(inputs, dtype):
    _, params, _, _ = draw({})
    xs = jnp.asarray(np.random.default_rng(3).normal(size=(B, T, I)) * 3).astype(inputs)
    (_, expected) = lstmjax.lstm(params, xs.astype(jnp.float32))
    ours = nnx.RNN(lstmjax.nnx.LSTMCell.from_params(params, dtype=dtype))
    assert_close(ours(xs), expected)
    cell = lstmjax.linen.LSTMCell(H, dtype=dtype)
    held = {"params": {"cell": cell.from_params(params)["params"]}}
    assert_close(linen.RNN(cell).apply(held, xs), expected)


def test_a_carry_comes_back_as_it_came_so_that_a_scan_takes_it():
    _, params, _, _ = draw({})
    xs = jnp.asarray(np.random.default_rng(3).normal(size=(B, T, I)), jnp.float32)
    cell = lstmjax.nnx.LSTMCell.from_params(params, dtype=jnp.bfloat16)
    flax = nnx.LSTMCell(I, H, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    nnx.update(flax, to_nnx(params)[0]["cell"])
    start = (jnp.full((B, H), 0.5, jnp.float32), jnp.full((B, H), -0.5, jnp.float32))
    ours, theirs = (nnx.RNN(c, return_carry=True)(xs, initial_carry=start) for c in (cell, flax))
    assert jax.tree.map(lambda a: a.dtype, ours) == jax.tree.map(lambda a: a.dtype, theirs)
    assert_close(ours, theirs, dtype=jnp.bfloat16)


def test_an_rnn_with_no_carry_returns_the_dtypes_that_the_docs_state():
    xs = jnp.ones((B, T, I), jnp.float32)
    ours, theirs = (m.LSTMCell(I, H, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)) for m in (lstmjax.nnx, nnx))
    assert [nnx.RNN(cell)(xs).dtype for cell in (ours, theirs)] == [jnp.bfloat16, jnp.float32]
    ours, theirs = (linen.RNN(m.LSTMCell(H, dtype=jnp.bfloat16)) for m in (lstmjax.linen, linen))
    dtypes = [rnn.init_with_output(jax.random.key(0), xs)[0].dtype for rnn in (ours, theirs)]
    assert dtypes == [jnp.bfloat16, jnp.float32]


def test_a_row_with_functions_is_a_row_of_the_table_where_there_is_one():
    cell = lstmjax.nnx.LSTMCell(I, H, gate_fn=nnx.sigmoid, activation_fn=nnx.tanh, rngs=nnx.Rngs(0))
    assert cell.cell == "vanilla"
    hard = lstmjax.nnx.LSTMCell(I, H, gate_fn=nnx.hard_sigmoid, rngs=nnx.Rngs(0))
    assert hard.cell == lstmjax.CELLS["hard_sigmoid_sixth"]
    named = lstmjax.nnx.LSTMCell(I, H, cell="cifg", activation_fn=nnx.relu, rngs=nnx.Rngs(0))
    assert (named.cell.g, named.cell.squash, named.cell.blocks) == (nnx.relu, nnx.relu, ("i", "g", "o"))
    assert hash(named.cell) == hash(lstmjax.published.with_activations("cifg", None, nnx.relu))


# --- initial values ---------------------------------------------------------------------------------


class Asked:
    """An initialiser that writes down how it is called, and gives numbers by the shape."""

    def __init__(self):
        self.calls = []

    def __call__(self, key, shape, dtype):
        self.calls.append((tuple(shape), jnp.dtype(dtype)))
        return jnp.full(shape, prod(shape) / 7, dtype)


INITIALIZERS = ("kernel_init", "recurrent_kernel_init", "bias_init")


def nnx_params(module):
    return module.to_params() if hasattr(module, "to_params") else from_nnx(module)[0]


def linen_params(module, features):
    carry = (jnp.ones((B, features)), jnp.ones((B, features)))
    variables = module.init(jax.random.key(0), carry, jnp.ones((B, I)))
    return module.to_params(variables) if hasattr(module, "to_params") else from_linen(variables)[0]


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_initialisers_are_called_as_flax_calls_them(kind, param_dtype):
    found = []
    for ours in (True, False):
        asked = {name: Asked() for name in INITIALIZERS}
        options = asked | {"param_dtype": jnp.dtype(param_dtype)}
        if kind == "nnx":
            cell = (lstmjax.nnx if ours else nnx).LSTMCell(I, H, rngs=nnx.Rngs(0), **options)
            params = nnx_params(cell)
        else:
            params = linen_params((lstmjax.linen if ours else linen).LSTMCell(H, **options), H)
        found.append((params, {name: set(one.calls) for name, one in asked.items()}))
    (ours, our_calls), (theirs, their_calls) = found
    assert our_calls == their_calls
    assert jax.tree.map(lambda a: a.dtype, ours) == jax.tree.map(lambda a: a.dtype, theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_initialisers_draw_each_gate_apart():
    draws = {
        "nnx": lstmjax.nnx.LSTMCell(
            I, H, recurrent_kernel_init=nnx.initializers.orthogonal(), kernel_init=nnx.initializers.normal(3.0),
            bias_init=nnx.initializers.uniform(0.1), rngs=nnx.Rngs(0),
        ).to_params(),
        "linen": linen_params(
            lstmjax.linen.LSTMCell(
                H, recurrent_kernel_init=linen.initializers.orthogonal(), kernel_init=linen.initializers.normal(3.0),
                bias_init=linen.initializers.uniform(0.1),
            ),
            H,
        ),
    }  # fmt: skip
    for params in draws.values():
        gates = [params.gate(name) for name in "ifgo"]
        for gate in gates:
            np.testing.assert_allclose(gate.w_h @ gate.w_h.T, np.eye(H), atol=1e-5)
            assert 0 <= float(gate.b.min()) < float(gate.b.max()) < 0.1  # no forget bias on top
        assert len({float(gate.w_h[0, 0]) for gate in gates}) == 4
        assert float(jnp.std(params.w_x)) > 1


def test_one_initialiser_leaves_the_others_to_the_preset():
    ones = lstmjax.nnx.LSTMCell(I, H, kernel_init=nnx.initializers.ones, init="torch", rngs=nnx.Rngs(5)).to_params()
    plain = lstmjax.nnx.LSTMCell(I, H, init="torch", rngs=nnx.Rngs(5)).to_params()
    assert_close(ones, plain._replace(w_x=jnp.ones((I, 4, H))))
    both = lstmjax.nnx.LSTMCell(
        I, H, bias="double", bias_init=nnx.initializers.ones, projection_size=P, forget_bias=3.0, rngs=nnx.Rngs(5)
    ).to_params()
    np.testing.assert_array_equal(both.b[:, 0], [1, 3, 1, 1])
    np.testing.assert_array_equal(both.b_h[:, 0], [1, 0, 1, 1])
    assert both.w_p.shape == (H, P)


def test_a_linen_cell_takes_its_width_from_the_carry():
    other, xs = H + 3, jnp.ones((B, I))
    carry = (jnp.ones((B, other)), jnp.ones((B, other)))
    for module in (linen.LSTMCell(H), lstmjax.linen.LSTMCell(H)):
        variables = module.init(jax.random.key(0), carry, xs)
        assert module.apply(variables, carry, xs)[1].shape == (B, other)
    assert module.to_params(variables).w_h.shape == (other, 4, other)
    assert [a.shape for a in module.initialize_carry(jax.random.key(0), (B, I))] == [(B, H), (B, H)]
    with pytest.raises(ValueError, match=rf"carry c has shape \(3, {H}\), expected \(3, {other}\)"):
        module.apply(variables, (jnp.ones((B, H)), jnp.ones((B, H))), xs)
    with pytest.raises(ValueError, match=rf"carry c has shape \(3, {H}\), expected \(3, {other}\)"):
        module.init(jax.random.key(0), (jnp.ones((B, H)), jnp.ones((B, other))), xs)


# --- the carry to start from ------------------------------------------------------------------------


def test_carry_init_and_keep_rngs_draw_flaxs_numbers():
    normal = nnx.initializers.normal(1.0)
    with warnings.catch_warnings():  # Flax warns of both arguments
        warnings.simplefilter("ignore")
        theirs = nnx.LSTMCell(I, H, carry_init=normal, keep_rngs=True, rngs=nnx.Rngs(0, carry=7))
    ours = lstmjax.nnx.LSTMCell(I, H, carry_init=normal, keep_rngs=True, rngs=nnx.Rngs(0, carry=7))
    for _ in range(2):  # the stream goes on
        assert_close(ours.initialize_carry((B, I)), theirs.initialize_carry((B, I)))
    assert_close(*(cell.initialize_carry((I,), nnx.Rngs(carry=3)) for cell in (ours, theirs)))
    ones = nnx.initializers.ones
    assert_close(*(cell.initialize_carry((I,), nnx.Rngs(carry=3), ones) for cell in (ours, theirs)))
    xs = jnp.ones((B, T, I))
    params = ours.to_params()
    nnx.update(theirs, to_nnx(params)[0]["cell"])
    assert_close(nnx.RNN(ours)(xs, rngs=nnx.Rngs(carry=1)), nnx.RNN(theirs)(xs, rngs=nnx.Rngs(carry=1)))
    by_linen = [
        m.LSTMCell(H, carry_init=normal).initialize_carry(jax.random.key(4), (B, I)) for m in (lstmjax.linen, linen)
    ]
    assert_close(*by_linen)


# --- metadata of parameters -------------------------------------------------------------------------


def test_nnx_metadata_is_flaxs_with_an_axis_of_gates():
    mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    parts = nnx.with_partitioning(nnx.initializers.orthogonal(), ("data", "model"))
    options = {
        "kernel_metadata": {"out_sharding": (None, "model"), "note": "input"},
        "recurrent_kernel_init": parts,
        "bias_init": nnx.with_metadata(nnx.initializers.ones, decay=False),
        "bias_metadata": {"out_sharding": jax.sharding.PartitionSpec("model")},
    }
    with jax.set_mesh(mesh):
        ours, theirs = (m.LSTMCell(I, H, rngs=nnx.Rngs(0), **options) for m in (lstmjax.nnx, nnx))
        flat = [dict(nnx.to_flat_state(nnx.get_partition_spec(nnx.state(cell, nnx.Param)))) for cell in (ours, theirs)]
    ours_spec, theirs_spec = ({path: spec.get_value() for path, spec in one.items()} for one in flat)
    for path, field in ((("ii", "kernel"), "w_x"), (("hf", "kernel"), "w_h"), (("ho", "bias"), "b")):
        *before, last = theirs_spec[path]
        assert tuple(ours_spec[field,]) == (*before, None, last)
    assert (ours.w_x.note, theirs.ii.kernel.note) == ("input", "input")
    assert ours.b.decay is theirs.hi.bias.decay is False
    assert ours.w_h.get_value().sharding.spec == jax.sharding.PartitionSpec("data", None, "model")
    with jax.set_mesh(mesh):
        assert nnx.RNN(ours)(jnp.ones((B, T, I))).shape == (B, T, H)


def test_linen_boxes_are_flaxs_with_an_axis_of_gates():
    options = {
        "kernel_init": linen.with_partitioning(linen.initializers.normal(), (None, "model")),
        "recurrent_kernel_init": linen.with_logical_partitioning(linen.initializers.normal(), ("data", "model")),
        "bias_init": linen.with_partitioning(linen.initializers.ones, ("model",)),
    }
    xs = jnp.ones((B, T, I))
    rnn = linen.RNN(lstmjax.linen.LSTMCell(H, **options))
    variables = rnn.init(jax.random.key(0), xs)
    spec = linen.get_partition_spec(variables)["params"]["cell"]["cell"]
    theirs = linen.get_partition_spec(linen.RNN(linen.LSTMCell(H, **options)).init(jax.random.key(0), xs))
    theirs = theirs["params"]["cell"]
    for expected, actual in (
        (theirs["ii"]["kernel"], spec.w_x),
        (theirs["hg"]["kernel"], spec.w_h),
        (theirs["hi"]["bias"], spec.b),
    ):
        *before, last = expected
        assert tuple(actual) == (*before, None, last)
    assert isinstance(variables["params"]["cell"]["cell"].w_h, linen.LogicallyPartitioned)
    assert_close(rnn.apply(variables, xs), rnn.apply(linen.unbox(variables), xs))
    params = lstmjax.linen.LSTMCell.to_params({"params": variables["params"]["cell"]})
    assert_close(rnn.apply(variables, xs), lstmjax.lstm(params, xs)[1])
    np.testing.assert_array_equal(params.b, np.ones((4, H)))


# --- the same names ---------------------------------------------------------------------------------

KINDS = {"nnx": (lstmjax.nnx.LSTMCell, nnx.LSTMCell), "linen": (lstmjax.linen.LSTMCell, linen.LSTMCell)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["__init__", "__call__", "initialize_carry"])
def test_every_argument_that_flax_has_is_there(kind, method):
    ours, theirs = (inspect.signature(getattr(cell, method)).parameters for cell in KINDS[kind])
    assert not theirs.keys() - ours.keys()
    of_every_module = inspect.signature(linen.RNNCellBase).parameters.keys()  # linen's parent and name
    ours, theirs = ({n: p for n, p in one.items() if n not in of_every_module} for one in (ours, theirs))
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind, name
        assert ours[name].default is not parameter.empty or parameter.default is parameter.empty, name
    places = [[n for n, p in one.items() if p.kind is p.POSITIONAL_OR_KEYWORD] for one in (ours, theirs)]
    assert places[0] == places[1]


def test_every_attribute_that_flax_has_is_there():
    layers = {"ii", "if_", "ig", "io", "hi", "hf", "hg", "ho"}
    theirs = nnx.LSTMCell(I, H, dtype=jnp.float32, rngs=nnx.Rngs(0))
    ours = lstmjax.nnx.LSTMCell(I, H, dtype=jnp.float32, rngs=nnx.Rngs(0))
    names = {name for name in vars(theirs) if not name.startswith("_")} - layers
    assert names >= {"in_features", "hidden_features", "gate_fn", "activation_fn", "param_dtype", "promote_dtype"}
    for name in names - {"gate_fn", "activation_fn"}:  # their own name for the same function
        assert getattr(ours, name) == getattr(theirs, name), name
    z = jnp.linspace(-3.0, 3.0, 7)
    for name in ("gate_fn", "activation_fn"):
        assert_close(getattr(ours, name)(z), getattr(theirs, name)(z))
    held = lstmjax.nnx.LSTMCell.from_params(ours.to_params())
    assert (held.in_features, held.hidden_features, held.param_dtype, held.rngs) == (I, H, jnp.float32, None)


def init_linen(**options):
    return lstmjax.linen.LSTMCell(H, **options).init(jax.random.key(0), (jnp.ones(H), jnp.ones(H)), jnp.ones(I))


def make_nnx(**options):
    return lstmjax.nnx.LSTMCell(I, H, rngs=nnx.Rngs(0), **options)


REFUSED = {
    "gate_fn is 'hard'": {"gate_fn": "hard"},
    "kernel_init is 'zeros'": {"kernel_init": "zeros"},
    "bias is None, so there is no bias for bias_init": {"bias": None, "bias_init": nnx.initializers.ones},
    r"bias_init gives an array of shape \(2,\), expected \(4,\)": {"bias_init": lambda key, shape, dtype: jnp.ones(2)},
}  # fmt: skip


@pytest.mark.parametrize("build", [make_nnx, init_linen])
@pytest.mark.parametrize("words", REFUSED)
def test_refusals_name_the_argument(build, words):
    with pytest.raises((ValueError, TypeError), match=words):
        build(**REFUSED[words])


def test_strict_promotion_is_respected():
    """Who asks JAX to refuse mixed dtypes gets that from our cell as from Flax's."""
    cells = make_nnx(), nnx.LSTMCell(I, H, rngs=nnx.Rngs(0))
    for cell in cells:
        carry = cell.initialize_carry((B, I), nnx.Rngs(0))
        with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="no available implicit dtype"):
            cell(carry, jnp.ones((B, I), jnp.float16))
