"""The cells of TensorFlow Lite: its published numbers, the numbers that its runtime gives, and gradients.

`tensorflow_lite.json` has weights, inputs and outputs as numbers. "kernel tests" are those of lstm_test.cc and
unidirectional_sequence_lstm_test.cc in tflite/kernels of github.com/google-ai-edge/LiteRT (commit f674577; formerly in
tensorflow/lite/kernels), with its own bound of 1e-5. None of them limits anything, so that "LiteRT 2.3.0" has what the
interpreter of ai-edge-litert 2.3.0 gave for every combination of what the operator can do, without delegates.
"""

import dataclasses
import json
from functools import partial
from pathlib import Path

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T
from test_cells import compare_with_oracle, drawn
from test_flow import MASK, weighted
from test_paths import check_whole
from tiers import tiered
from tolerances import VALUE, assert_close

import lstmjax.linen
import lstmjax.nnx
from lstmjax import (
    CELLS,
    LSTMParams,
    cell_step,
    clip_cell,
    clip_inputs,
    clip_projection,
    init_network,
    init_params,
    init_stacked,
    lstm,
    oracle_cells,
    shapes,
    stacked,
    tensorflow_lite_cell,
)
from lstmjax.convert import load_weights, save_weights
from lstmjax.frameworks import LAYOUTS
from lstmjax.frameworks.base.layouts import ConvertError, check_writable
from lstmjax.inside import gradient_flow, gradient_paths, gradient_spans
from lstmjax.published import GateNorm, unbiased
from lstmjax.replica import verify

NUMBERS = json.loads((Path(__file__).parent / "tensorflow_lite.json").read_text())
KERNEL, RUNTIME = NUMBERS["kernel tests"], NUMBERS["LiteRT 2.3.0"]
WEIGHTS = {name: np.reshape(a, RUNTIME["shapes"][name]) for name, a in RUNTIME["weights"].items()}
BOUND = 1e-5  # of its kernel tests, absolute


def of_kernel_test(name):
    """Parameters, cell, xs `[B, T, I]` and ys of a kernel test; its matrices are `[H, I]`, one for each gate."""
    case = KERNEL[name]
    case = {key: KERNEL[value[3:]][key] if isinstance(value, str) else value for key, value in case.items()}
    inputs, hidden, width = case["sizes"]
    arrays = {key: np.asarray(case[key], np.float32) for key in case if key not in ("sizes", "gates")}
    params = LSTMParams(
        arrays["w_x"].reshape(-1, hidden, inputs).transpose(2, 0, 1),
        arrays["w_h"].reshape(-1, hidden, width).transpose(2, 0, 1),
        arrays["b"],
        w_p=arrays["w_p"].reshape(width, hidden).T if "w_p" in arrays else None,
        w_c=arrays.get("w_c"),
        gain=arrays.get("gain"),
        b_p=arrays.get("b_p"),
    )
    cell = tensorflow_lite_cell(cifg=len(case["gates"]) == 3, peephole="w_c" in case, layer_norm="gain" in case)
    return jax.tree.map(jnp.asarray, params), cell, arrays["xs"], arrays["ys"]


@pytest.mark.parametrize("name", KERNEL)
def test_the_published_numbers(name):
    params, cell, xs, ys = of_kernel_test(name)
    np.testing.assert_allclose(lstm(params, xs, cell=cell)[1], ys, rtol=0, atol=BOUND)


def of_runtime(run):
    """Parameters of one run, a part of the weights that all share."""
    keep = [k for k in range(4) if not (run["cifg"] and k == 0)]
    recurrent = WEIGHTS["w_h projected" if run["projection"] else "w_h"]
    return LSTMParams(
        WEIGHTS["w_x"][keep].transpose(2, 0, 1),
        recurrent[keep].transpose(2, 0, 1),
        WEIGHTS["b"][keep],
        w_p=WEIGHTS["w_p"].T if run["projection"] else None,
        w_c=WEIGHTS["w_c"][1 if run["cifg"] else 0 :] if run["peephole"] else None,
        gain=WEIGHTS["gain"][keep] if run["layer_norm"] else None,
        b_p=WEIGHTS["b_p"] if run["bias"] else None,
    )


OPTIONS = ("cifg", "peephole", "layer_norm", "cell_clip", "proj_clip")


@pytest.mark.usefixtures("x64")
def test_the_numbers_of_the_runtime_in_every_combination():
    """The step, compiled once for each form of the parameters, and the oracle: both within float32 of LiteRT."""
    assert len(RUNTIME["outputs"]) == 80
    for run in RUNTIME["outputs"]:
        params, how = of_runtime(run), {name: run[name] for name in OPTIONS}
        xs, width = WEIGHTS["x"][0], params.w_h.shape[0]
        expected = np.reshape(run["y"], (len(xs), width))
        state = np.zeros(width), np.zeros(params.w_x.shape[-1])
        steps, _ = oracle_cells.run(oracle_cells.tensorflow_lite(**how), params, xs, state)
        bound = 2 * VALUE["float32"]
        np.testing.assert_allclose(steps.h, expected, rtol=0, atol=bound)
        params, state = jax.tree.map(jnp.asarray, (params, state))
        for x, y in zip(xs, expected, strict=True):
            state, h = cell_step(params, state, x, cell=tensorflow_lite_cell(**how))
            np.testing.assert_allclose(h, y, rtol=0, atol=bound)


CASES = {  # options of the cell, and of the parameters
    "layer norm, projection with a bias, limits": (
        {"peephole": True, "layer_norm": True, "cell_clip": 0.7, "proj_clip": 0.9},
        {"width": P, "projection_bias": True},
    ),
    "cifg, layer norm, two biases": ({"cifg": True, "layer_norm": True}, {"bias": "double"}),
    "cifg alone, no bias, a limit of c": ({"cifg": True, "cell_clip": 0.5}, {"bias": None}),
    "cifg, peepholes, layer norm, no bias": ({"cifg": True, "peephole": True, "layer_norm": True}, {"bias": None}),
}


@pytest.mark.parametrize(
    ("name", "backend"),
    tiered([(name, "fused") for name in CASES], first=[(next(iter(CASES)), "fused")]),  # test_backends has the others
)
@pytest.mark.usefixtures("x64")
def test_values_and_gradients_are_the_oracles(name, backend):
    how, of = CASES[name]
    options = {"cifg": False, "peephole": False, "layer_norm": False} | how
    cell = tensorflow_lite_cell(**how)
    arguments = drawn(cell, 1, **of)
    f = partial(lstm, cell=cell, emit="step", backend=backend)
    compare_with_oracle(oracle_cells.tensorflow_lite(**options), arguments, f)
    if how.get("cell_clip"):  # some numbers are limited, and some are not
        steps = f(*arguments)[1]
        for values, limit in ((steps.c, how["cell_clip"]), (steps.h, how.get("proj_clip", 0))):
            share = np.mean(np.isclose(np.abs(values), limit))
            assert 0 < share < 1 or not limit


EVERYTHING = clip_projection(
    clip_cell(
        dataclasses.replace(
            CELLS["fgr"], name="everything", has=("w_c", "w_r", "gain"), join=unbiased, normalise=GateNorm(1e-8)
        ),
        0.7,
    ),
    0.9,
)
"""Gates fed back as well, so that every part of the step is in it."""


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_the_paths_of_the_gradient_add_up_in_a_cell_with_everything():
    params, xs, state = drawn(EVERYTHING, width=P, projection_bias=True)
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, P)))
    how = {"mask": MASK, "reverse": True, "cell": EVERYTHING}
    paths = gradient_paths(params, xs, loss, state, **how)
    check_whole(paths, MASK)
    assert_close(paths.total, gradient_flow(params, xs, loss, state, fields="c", **how).c, gradient=True)
    recurrent = jax.tree.map(jnp.zeros_like, (params.w_h, params.w_c, params.w_r))
    alone = params._replace(**dict(zip(("w_h", "w_c", "w_r"), recurrent, strict=True)))
    spans = gradient_spans(alone, xs, loss, state, **how)
    assert_close(spans.cell, spans.whole, gradient=True)  # nothing but the cell is there


def test_limits_are_put_upon_limits():
    """A limit of c keeps what the cell does with c, and a second one the first."""
    normed = CELLS["layer_norm_carried"]
    params, xs, state = drawn("layer_norm_carried", 3)
    _, plain = lstm(params, xs, state, emit="c", cell=normed)
    (_, cs), (_, tight) = (
        lstm(params, xs, state, emit="c", cell=cell)
        for cell in (clip_cell(normed, 50.0), clip_cell(clip_cell(normed, 0.1), 50.0))
    )
    np.testing.assert_array_equal(cs, plain)
    assert jnp.abs(tight).max() == pytest.approx(0.1)
    _, steps = lstm(params, xs, state, emit="step", cell=clip_inputs(clip_inputs(normed, 0.3), 0.5))
    np.testing.assert_allclose(steps.i, jax.nn.sigmoid(jnp.clip(steps.z_i, -0.3, 0.3)), rtol=1e-6)


FULL = partial(
    init_params, jax.random.key(0), I, H, cell="layer_norm_per_gate", projection_size=P, projection_bias=True
)


def test_parameters_begin_and_are_counted():
    params = FULL()
    assert (params.gain == 1).all()
    assert params.gain.shape == (4, H)
    assert params.b_p.shape == (P,)
    assert not params.b_p.any()
    assert params.gate("f").gain.shape == (H,)
    how = {"cell": "layer_norm_per_gate", "projection": P, "projection_bias": True}
    table, planned = shapes(params, cell="layer_norm_per_gate"), shapes(input=I, hidden=H, **how)
    assert table.parameters == planned.parameters == sum(a.size for a in jax.tree.leaves(params))
    assert "h     m · w_p + b_p" in str(table)
    assert f"4·(I·H + P·H + H) + H·P + P + 7·H = {table.parameters:,}" in str(table)
    (one, two), network = (
        init_stacked(jax.random.key(0), I, H, 2, **FULL.keywords),
        init_network(jax.random.key(0), I, H, 3, **FULL.keywords),
    )
    assert one.b_p.shape == two.b_p.shape == network.layers[0].b_p.shape == (P,)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_of_ours_keep_them(suffix, tmp_path):
    params = drawn("layer_norm_per_gate", width=P, projection_bias=True)[0]
    save_weights(params, tmp_path / f"x{suffix}")
    (again,) = load_weights(tmp_path / f"x{suffix}")
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frameworks_have_no_place_for_them(layout):
    row, vanilla = LAYOUTS[layout], init_params(jax.random.key(0), I, H)
    with pytest.raises(ConvertError, match=r"has no place for gain \(layer normalisation\)"):
        check_writable(row, vanilla._replace(gain=jnp.ones((4, H))))
    with pytest.raises(ConvertError, match="has no place for b_p: its LSTM has no bias of a projection"):
        check_writable(row, vanilla._replace(w_p=jnp.ones((H, H)), b_p=jnp.ones(H)))


@pytest.mark.usefixtures("x64")
def test_verify_runs_the_oracle_and_names_another_epsilon():
    params, xs, _ = jax.tree.map(np.asarray, drawn("layer_norm_per_gate", 4, width=P, projection_bias=True))
    assert verify(params, xs, cell="layer_norm_per_gate").agree
    small = params._replace(w_x=params.w_x * 0.01, w_h=params.w_h * 0.01, w_c=params.w_c * 0.01)
    coarse = dataclasses.replace(CELLS["layer_norm_per_gate"], normalise=GateNorm(1e-3))
    theirs = lstm(jax.tree.map(jnp.asarray, small), xs, cell=coarse)[1]
    verdict = verify(np.asarray(theirs), xs, params=small, cell="layer_norm_per_gate")
    assert verdict.cause.name == "epsilon"
    assert "theirs has ε = 0.001 in its layer normalisation" in str(verdict)


@pytest.mark.thorough
@pytest.mark.usefixtures("x64")
def test_verify_names_a_peephole_that_sees_the_old_c():
    params, xs, _ = jax.tree.map(np.asarray, drawn("layer_norm_per_gate", 5))

    def step(state, x):
        raw = x @ params.w_x.transpose(1, 0, 2) + state[0] @ params.w_h.transpose(1, 0, 2)  # [G, H]
        seen = raw + np.stack([*params.w_c[:2], np.zeros(H), params.w_c[2]]) * state[1]  # o sees the old c, too
        normal = (seen - seen.mean(-1, keepdims=True)) / np.sqrt(seen.var(-1, keepdims=True) + 1e-8)
        i, f, g, o = normal * params.gain + params.b
        c = state[1] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        return np.tanh(c) / (1 + np.exp(-o)), c

    theirs = []
    for x in xs:
        states = [(np.zeros(H), np.zeros(H))]
        for now in x:
            states.append(step(states[-1], now))
        theirs.append([h for h, _ in states[1:]])
    verdict = verify(np.array(theirs), xs, params=params, cell="layer_norm_per_gate")
    assert "sees the old c" in verdict.cause.sentence
    assert verdict.cause.difference.relative < 1e-12


REFUSED = {  # those of the core stand in test_messages.py
    "projection_bias is True, but projection is None": lambda: shapes(input=I, hidden=H, projection_bias=True),
    "the cell 'vanilla, h clipped at 0.5' limits a projected h, but projection is None": lambda: shapes(
        input=I, hidden=H, cell=clip_projection("vanilla", 0.5)
    ),
    "proj_clip is -1.0, expected a number above 0. For no limit pass 0": lambda: tensorflow_lite_cell(proj_clip=-1.0),
    "proj_clip is None, expected a number above 0. For no limit pass 0": lambda: tensorflow_lite_cell(proj_clip=None),
    "cell_clip is True, expected a number above 0": lambda: tensorflow_lite_cell(cell_clip=True),
    "limit is nan, expected a number above 0": lambda: clip_inputs("vanilla", float("nan")),
    "limit is None, expected a number above 0": lambda: clip_projection("vanilla", None),
    "limit is True, expected a number above 0": lambda: clip_cell("vanilla", True),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_refused_by_name(words):
    with pytest.raises(ValueError, match=words):
        REFUSED[words]()


HOW = {"cell": "layer_norm_per_gate", "projection_size": P, "projection_bias": True}


def test_modules_of_nnx_hold_them():
    module = lstmjax.nnx.LSTM(I, H, **HOW, rngs=flax.nnx.Rngs(0))
    params = jax.tree.map(lambda a: a + 0.1, module.to_params())
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, I)), jnp.float32)
    assert params[0].b_p.shape == (P,)
    again = lstmjax.nnx.LSTM.from_params(params, cell=HOW["cell"])
    np.testing.assert_array_equal(again(xs)[1], stacked(params, xs, cell=HOW["cell"])[1])
    assert lstmjax.nnx.LSTMCell(I, H, **HOW, rngs=flax.nnx.Rngs(0)).to_params().gain.shape == (4, H)


def test_modules_of_linen_hold_them():
    module, xs = lstmjax.linen.LSTM(H, **HOW), jnp.ones((B, T, I))
    variables = jax.tree.map(lambda a: a + 0.1, module.init(jax.random.key(0), xs))
    (params,) = module.to_params(variables)
    assert params.b_p.shape == (P,)
    np.testing.assert_array_equal(module.apply(variables, xs)[1], stacked((params,), xs, cell=HOW["cell"])[1])
    without = lstmjax.linen.LSTM(H, **HOW | {"projection_bias": False})
    with pytest.raises(ValueError, match="is not built as this LSTM says"):
        without.apply(variables, xs)
