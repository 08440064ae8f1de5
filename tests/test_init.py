"""Initial values: the statistics of every preset, and those of the frameworks themselves where they are at hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import GATES, PRESETS, Bidirectional, init_params, init_stacked

I, H, P = 30, 40, 24
F = GATES.index("f")


def drawn(init, **options):
    return init_params(jax.random.key(1), I, H, init=init, **options)


def check_uniform(values, bound):
    """All within the bound, reaching it, and of its standard deviation."""
    values = np.asarray(values).ravel()
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.98 * bound
    check_moments(values, bound / math.sqrt(3))


def check_moments(values, std):
    """Mean 0 and this standard deviation, within four of their own standard errors (less for short tails)."""
    values = np.asarray(values, np.float64).ravel()
    assert abs(values.mean()) < 4 * std / math.sqrt(values.size)
    assert abs(values.std() / std - 1) < 4 / math.sqrt(2 * values.size)


def check_orthonormal_rows(matrix):
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5)


def joint(w):
    return np.asarray(w).reshape(w.shape[0], -1)


def glorot(w):
    return math.sqrt(6 / (w.shape[0] + 4 * H))


UNIFORM = 1 / math.sqrt(H)
INPUT = {
    "default": lambda w: check_moments(w, 1 / math.sqrt(I)),
    "torch": lambda w: check_uniform(w, UNIFORM),
    "keras": lambda w: check_uniform(w, glorot(w)),
    "flax": lambda w: check_moments(w, 1 / math.sqrt(I)),
    "flax_optimized_nnx": lambda w: check_moments(w, 1 / math.sqrt(I)),
    "haiku": lambda w: check_moments(w, 0.8796 / math.sqrt(I + H)),  # a normal cut at 2 has 0.8796 of its deviation
    "equinox": lambda w: check_uniform(w, UNIFORM),
}
RECURRENT = {
    "default": "gate",
    "torch": INPUT["torch"],
    "keras": "joint",
    "flax": "gate",
    "flax_optimized_nnx": "joint",
    "haiku": INPUT["haiku"],
    "equinox": INPUT["equinox"],
}
BIAS = {"torch": "uniform", "equinox": "uniform", "flax": 0.0, "flax_optimized_nnx": 0.0}  # all others: f is 1


@pytest.mark.parametrize("init", PRESETS)
def test_the_input_weights_have_their_distribution(init):
    INPUT[init](drawn(init).w_x)


@pytest.mark.parametrize("init", ["default", "flax", "flax_optimized_nnx"])
def test_lecun_normal_is_cut_at_two_deviations(init):
    w = np.abs(drawn(init).w_x)
    cut = 2 / math.sqrt(I) / 0.87962566103423978
    assert 0.97 * cut < w.max() <= cut * (1 + 1e-6)


@pytest.mark.parametrize("init", PRESETS)
def test_the_recurrent_weights_have_their_distribution(init):
    w, kind = drawn(init).w_h, RECURRENT[init]
    if callable(kind):
        kind(w)
        return
    per_gate = [np.asarray(w[:, k]) for k in range(4)]
    if kind == "gate":
        for matrix in per_gate:
            check_orthonormal_rows(matrix)
        assert np.abs(per_gate[0] - per_gate[1]).max() > 0.1  # a draw of its own for each
    else:
        check_orthonormal_rows(joint(w))
        assert np.abs(per_gate[0] @ per_gate[0].T - np.eye(H)).max() > 0.1  # no gate is orthogonal alone


@pytest.mark.parametrize("init", PRESETS)
def test_the_biases_are_those_of_the_framework(init):
    params = drawn(init)
    assert (params.b_h is not None) == (init == "torch")
    if BIAS.get(init) == "uniform":
        check_uniform(params.b, UNIFORM)
        return
    expected = np.zeros((4, H))
    expected[F] = BIAS.get(init, 1.0)
    np.testing.assert_array_equal(params.b, expected)


def test_torch_draws_two_biases_and_so_a_triangular_sum():
    params = drawn("torch")
    check_uniform(params.b_h, UNIFORM)
    check_moments(params.b + params.b_h, UNIFORM * math.sqrt(2 / 3))


@pytest.mark.parametrize("init", PRESETS)
@pytest.mark.parametrize("bias", ["single", "double"])
def test_a_forget_bias_is_the_total(init, bias):
    params = drawn(init, bias=bias, forget_bias=2.5)
    np.testing.assert_array_equal(params.b[F], np.full(H, 2.5))
    other = drawn(init, bias=bias)
    keep = [k for k in range(4) if k != F]
    np.testing.assert_array_equal(params.b[np.array(keep)], other.b[np.array(keep)])
    if bias == "double":
        np.testing.assert_array_equal(params.b_h[F], np.zeros(H))


@pytest.mark.parametrize("init", PRESETS)
def test_a_preset_with_two_biases_keeps_its_total_forget_bias(init):
    params = drawn(init, bias="double")
    if BIAS.get(init) != "uniform":
        np.testing.assert_array_equal(params.b[F] + params.b_h[F], np.full(H, BIAS.get(init, 1.0)))


@pytest.mark.parametrize("init", PRESETS)
def test_sizes_and_what_exists(init):
    params = drawn(init, projection_size=P, bias=None)
    assert [None if a is None else a.shape for a in params[:5]] == [(I, 4, H), (P, 4, H), None, None, (H, P)]
    if init == "torch":
        check_uniform(params.w_p, UNIFORM)
    else:
        check_moments(params.w_p, 1 / math.sqrt(H))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("init", PRESETS)
def test_the_dtype_is_that_of_all_fields(init, dtype):
    fields = jax.tree.leaves(drawn(init, dtype=dtype, projection_size=P))
    assert {str(a.dtype) for a in fields} == {dtype}
    assert all(np.isfinite(np.asarray(a, np.float32)).all() for a in fields)


def test_keys_draw_and_fields_are_independent():
    one, same, other = (init_params(jax.random.key(k), I, I, init="torch") for k in (0, 0, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (one, same, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 0.01
    assert np.abs(one.w_x - one.w_h).max() > 0.01
    assert np.abs(one.b - one.b_h).max() > 0.01


def test_stacks_are_fed_by_the_layer_below():
    layers = init_stacked(jax.random.key(0), 5, 10, 3, bidirectional=True, projection_size=4)
    assert [type(layer) for layer in layers] == [Bidirectional] * 3
    assert [layer.forward.w_x.shape[0] for layer in layers] == [5, 8, 8]
    assert np.abs(layers[1].forward.w_x - layers[1].reverse.w_x).max() > 0.01
    summed = init_stacked(jax.random.key(0), 5, 10, 2, bidirectional=True, merge="sum")
    assert [layer.reverse.w_x.shape[0] for layer in summed] == [5, 10]
    plain = init_stacked(jax.random.key(0), 5, 10, 2)
    assert [layer.w_x.shape[0] for layer in plain] == [5, 10]


# The frameworks' own values must pass the checks that ours do


def blocks(w, order="ifgo"):
    """Matrices of gates, in a framework's order, as `[N, G, H]`."""
    return jnp.stack([w[gate] for gate in order], axis=1)


def test_torchs_own_values_have_these_distributions():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.LSTM(I, H, proj_size=P)
    for name, value in layer.named_parameters():
        check_uniform(value.detach().numpy(), UNIFORM)
        assert name in {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"}


@pytest.mark.parametrize("name", ["LSTMCell", "OptimizedLSTMCell"])
def test_flax_linens_own_values_have_these_distributions(name):
    linen = pytest.importorskip("flax.linen")
    cell = getattr(linen, name)(H)
    tree = cell.init(jax.random.key(0), cell.initialize_carry(jax.random.key(1), (1, I)), jnp.ones((1, I)))["params"]
    INPUT["flax"](blocks({g: tree[f"i{g}"]["kernel"] for g in GATES}))
    for gate in GATES:
        check_orthonormal_rows(np.asarray(tree[f"h{gate}"]["kernel"]))
        np.testing.assert_array_equal(tree[f"h{gate}"]["bias"], np.zeros(H))
        assert "bias" not in tree[f"i{gate}"]


def test_flax_nnxs_own_values_have_these_distributions():
    nnx = pytest.importorskip("flax.nnx")
    cell = nnx.LSTMCell(I, H, rngs=nnx.Rngs(0))
    INPUT["flax"](blocks({g: getattr(cell, {"f": "if_"}.get(g, f"i{g}")).kernel[...] for g in GATES}))
    for gate in GATES:
        check_orthonormal_rows(np.asarray(getattr(cell, f"h{gate}").kernel[...]))
        np.testing.assert_array_equal(getattr(cell, f"h{gate}").bias[...], np.zeros(H))
    cell = nnx.OptimizedLSTMCell(I, H, rngs=nnx.Rngs(0))
    INPUT["flax_optimized_nnx"](cell.dense_i.kernel[...])
    check_orthonormal_rows(np.asarray(cell.dense_h.kernel[...]))
    np.testing.assert_array_equal(cell.dense_h.bias[...], np.zeros(4 * H))
