"""Every row of the table of cells against its own NumPy oracle: values, and gradients by complex numbers."""

import dataclasses
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T, random_like, values_and_pull
from tiers import tiered
from tolerances import assert_close

import lstmjax
from lstmjax import (
    CELLS,
    Bidirectional,
    Cell,
    LSTMParams,
    Step,
    cell_step,
    clip_cell,
    clip_inputs,
    find_cell,
    init_params,
    lstm,
    stacked,
)
from lstmjax.oracle_cells import STEPS, run

TINY = 1e-30


def drawn(name, seed=0, *, inputs=I, width=None, bias="single", projection_bias=False):
    """Parameters of a cell with every number random, xs `[B, T, I]`, and a state."""
    rng = np.random.default_rng(seed)
    width = P if name == "projection" else width
    how = {"cell": name, "projection_size": width, "projection_bias": projection_bias, "bias": bias}
    shape = partial(init_params, jax.random.key(0), inputs, H, **how)
    dtype = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32
    params = random_like(rng, jax.eval_shape(partial(shape, dtype=dtype)))
    params = jax.tree.map(lambda a: 0.6 * a, params)
    xs = jnp.asarray(rng.normal(size=(B, T, inputs)))
    sizes = [width or H, H, *(H for _ in find_cell(name).feeds)]
    return params, xs, tuple(jnp.asarray(rng.normal(size=(B, n)) * 0.5) for n in sizes)


def numbers(tree):
    return jax.tree.map(np.asarray, tree)


def of_oracle(name, params, xs, state):
    """The oracle on each sequence of a batch."""
    each = [run(name, params, xs[n], tuple(s[n] for s in state)) for n in range(len(xs))]
    return jax.tree.map(lambda *a: np.stack(a), *each)


def test_every_row_has_an_oracle_and_a_paper():
    assert STEPS.keys() == CELLS.keys()
    assert all(row.paper and hash(row) for row in CELLS.values())
    assert CELLS["np"] is CELLS["vanilla"]
    assert len({row.name for row in CELLS.values()}) == len(CELLS) - 1


def compare_values(name, arguments, actual):
    params, xs, state = arguments
    steps, end = of_oracle(name, numbers(params), np.asarray(xs), numbers(state))
    assert_close(actual, jax.tree.map(jnp.asarray, (end, Step(*steps))))


# Each is of the form of another row; their values are always compared.
LIKE_OTHERS = {"np", "nfg", "nog", "noaf", "cifg_mirror", "projection", "layer_norm", "hard_sigmoid_sixth"}
GRADIENTS = [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name for name in CELLS]
BIASES = [(name, bias) for name in ("vanilla", "cifg", "fgr", "layer_norm") for bias in ("double", None)]
BIASES += [(name, "single") for name in CELLS if name in LIKE_OTHERS]  # of the others beside their gradients


@pytest.mark.parametrize(("name", "bias"), BIASES)
@pytest.mark.usefixtures("x64")
def test_values_are_the_oracles(name, bias):
    arguments = drawn(name, bias=bias)
    compare_values(name, arguments, jax.jit(partial(lstm, cell=name, emit="step"))(*arguments))


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.usefixtures("x64")
def test_values_and_gradients_are_the_oracles(name):
    """The gradient of a random sum of everything, along each coordinate axis of everything that goes in."""
    compare_with_oracle(name, drawn(name, 1), partial(lstm, cell=name, emit="step"))


def compare_with_oracle(name, arguments, f):
    """Values and gradients of f(params, xs, state) with those of a step of the oracle, by its name or itself."""
    weights = random_like(np.random.default_rng(2), jax.eval_shape(f, *arguments))
    values, grads = values_and_pull(f, arguments, weights)
    compare_values(name, arguments, values)
    (end, steps), leaves = numbers(weights), jax.tree.leaves(numbers(arguments))
    structure = jax.tree.structure(arguments)

    def slope(leaf, place):
        moved = [a.astype(complex) for a in leaves]
        moved[leaf][place] += 1j * TINY
        shown, after = of_oracle(name, *jax.tree.unflatten(structure, moved))
        pairs = zip(jax.tree.leaves((after, tuple(shown))), jax.tree.leaves((end, tuple(steps))), strict=True)
        return sum((a * w).sum() for a, w in pairs).imag / TINY

    expected = [
        np.array([slope(n, place) for place in np.ndindex(a.shape)]).reshape(a.shape) for n, a in enumerate(leaves)
    ]
    assert_close(grads, jax.tree.unflatten(structure, map(jnp.asarray, expected)), gradient=True)


def test_a_limited_cell_and_limited_inputs():
    params, xs, state = drawn("vanilla", 3)
    _, cs = lstm(params, xs, state, emit="c", cell=clip_cell("vanilla", 0.1))
    assert jnp.abs(cs).max() == pytest.approx(0.1)
    _, steps = lstm(params, 9 * xs, state, emit="step", cell=clip_inputs("vanilla", 0.5))
    np.testing.assert_allclose(steps.i, jax.nn.sigmoid(jnp.clip(steps.z_i, -0.5, 0.5)), rtol=1e-6)
    assert jnp.abs(steps.z_i).max() > 0.5


@pytest.mark.parametrize("name", CELLS)
def test_an_untrained_peephole_cell_is_the_vanilla_one(name):
    fresh = init_params(jax.random.key(0), I, H, cell=name, projection_size=P if name == "projection" else None)
    row = CELLS[name]
    assert fresh.w_x.shape == (I, len(row.blocks), H)
    assert (fresh.w_c is not None) == ("w_c" in row.has)
    if "w_c" in row.has:
        assert not fresh.w_c.any()
    if "f" in row.blocks:
        assert (fresh.gate("f", row.blocks).b == 1).all()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(fresh))


# One of each form: other parameters, fewer blocks, a wider state, a projection.
@pytest.mark.parametrize("name", tiered(["peephole", "cifg", "fgr", "projection", "layer_norm_carried"], first=["fgr"]))
def test_stacks_half_precision_and_vmap(name):
    width, lengths = P if name == "projection" else H, np.array([T, 2, 0])
    (ahead, xs, _), (back, *_), (above, *_) = (drawn(name, n, inputs=i) for n, i in enumerate((I, I, 2 * width)))
    layers = Bidirectional(ahead, back), above

    @jax.jit
    def both(layers, xs):
        def run(xs, lengths):
            return stacked(layers, xs, cell=name, lengths=lengths)[1]

        return run(xs, lengths), jax.vmap(run)(xs, jnp.asarray(lengths))

    ys, alone = both(layers, xs)
    assert ys.shape == (B, T, width)
    assert not ys[1, 2:].any()
    np.testing.assert_allclose(alone, ys, atol=2e-6)
    half = jax.eval_shape(lambda: stacked(layers, xs, cell=name, dtype=jnp.bfloat16)[1])
    assert half.dtype == jnp.bfloat16


def softplus_candidate(z):
    return jax.nn.softplus(z)


def test_a_cell_of_ones_own():
    mine = dataclasses.replace(CELLS["peephole"], name="mine", g=softplus_candidate)
    params, xs, state = drawn("peephole", 5)
    (h, _), steps = lstm(params, xs, state, cell=mine, emit="step")
    np.testing.assert_allclose(steps.g, jax.nn.softplus(steps.z_g), rtol=1e-6)
    (same, _), _ = lstm(params, xs, state, step=partial(cell_step, cell=mine), emit="step")
    np.testing.assert_array_equal(h, same)
    assert isinstance(mine, Cell)
    assert isinstance(params, LSTMParams)


def test_a_cell_shows_as_its_name_and_what_it_changes():
    assert repr(CELLS["vanilla"]) == "Cell('vanilla')"
    assert repr(CELLS["peephole"]) == "Cell('peephole', has=('w_c',))"
    mine = dataclasses.replace(CELLS["vanilla"], name="mine", g=jax.nn.softplus)
    assert repr(mine) == "Cell('mine', g=softplus)"
    assert "0x" not in f"{inspect.signature(lstmjax.init_params)}"
    assert all("0x" not in repr(cell) for cell in CELLS.values())
