"""What is built on a layer is lowered for GPUs and TPUs, too: agents, forecasts, basins, texts, every cell and loss.

See tests/test_lowering.py. Only calls of XLA and of JAX's random numbers on GPUs are allowed.
"""

import dataclasses
import importlib
from functools import partial
from pathlib import Path

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_lowering import FLAGS, LENGTHS, PARAMS, PLATFORMS, XS, B, H, I, calls, lowered

from lstmjax import (
    CELLS,
    Bidirectional,
    RecurrentDropout,
    Zoneout,
    init_language,
    init_network,
    init_params,
    init_stacked,
    language,
    lstm,
    network,
    stacked,
    truncated_gradient,
)
from lstmjax.agents import TMaze, act, chunk_states, init_agent, initial_state, minibatches, unroll
from lstmjax.config import Loss
from lstmjax.forecast import LIKELIHOODS, Design, Training, from_arrays
from lstmjax.forecast.fitting import _train
from lstmjax.forecast.forecaster import _forecast
from lstmjax.forecast.network import init_forecaster, normal_of
from lstmjax.forecast.windows import on_device, table_of, training_origins
from lstmjax.frameworks.onnx.activations import Affine, HardSigmoid, ScaledTanh, ThresholdedRelu
from lstmjax.hydrology import Design as BasinDesign
from lstmjax.hydrology import init_basins, synthetic_basins
from lstmjax.hydrology.fitting import by_member, ensemble_loss
from lstmjax.hydrology.network import NETWORKS
from lstmjax.inside import fixed_points, gate_statistics
from lstmjax.language_model import filtered
from lstmjax.linen import ScannedRNN
from lstmjax.nnx import LSTMNetwork
from lstmjax.training.losses import LOSSES, loss_of

RANDOM = {"cu_threefry2x32_ffi", "hip_threefry2x32_ffi"}
"""JAX's own kernels of random numbers on GPUs."""

ORTHOGONAL = {"Qr", "ProductOfElementaryHouseholderReflectors"} | {
    f"{library}_{name}_ffi" for library in ("cusolver", "hipsolver") for name in ("geqrf", "orgqr")
}
"""JAX's own QR decomposition, on TPUs and on GPUs, by which orthogonal initial weights are drawn."""


def exported(function, *arguments):
    """The calls of libraries in a program, lowered for all platforms, that are not JAX's own."""
    program = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert program.platforms == PLATFORMS
    return calls(program.mlir_module()) - RANDOM


def trained(loss, optimizer, params, *arguments):
    """One step of training: gradient and update."""

    def step(params, state, *arguments):
        value, gradient = jax.value_and_grad(loss)(params, *arguments)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return exported(step, params, optimizer.init(params), *arguments)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(cell):
    params = init_params(jax.random.key(0), I, H, cell=cell)
    run = partial(lstm, cell=cell, lengths=LENGTHS, resets=FLAGS)
    assert calls(lowered(lambda params, xs: run(params, xs)[1], params, XS)) == set()


def test_wrappers_that_draw():
    wrappers = RecurrentDropout(0.2), Zoneout(0.1, 0.2)
    layers = (
        Bidirectional(*init_stacked(jax.random.key(0), I, H, layers=1, bidirectional=True)[0]),
        init_params(jax.random.key(1), 2 * H, 3),
    )

    def loss(layers, key):
        return (stacked(layers, XS, wrappers=wrappers, dropout=0.3, key=key, lengths=LENGTHS)[1] ** 2).sum()

    assert exported(jax.value_and_grad(loss), layers, jax.random.key(2)) == set()


def test_truncated_gradients_and_statistics():
    deep = init_network(jax.random.key(0), I, H, 2)

    def loss(params, state, xs):
        state, ys = stacked(params.layers, xs, state)
        return (ys**2).sum(), state

    gradient = partial(truncated_gradient, loss, segment=2, reach=4)
    assert exported(lambda params, xs: gradient(params, None, xs), deep, XS) == set()
    assert exported(lambda params, xs: gate_statistics(params, xs), PARAMS, XS) == set()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_trainer(name):
    section = Loss(name=name, quantiles=(0.1, 0.5) if name == "quantile" else ())
    row, deep = loss_of(section), init_network(jax.random.key(0), I, H, 2)
    labels = jnp.array([0, 1, 1]) if row.kind == "classes" else jnp.ones((B, 1 if name == "quantile" else 2))

    def loss(params, xs, labels):
        logits = network(params, xs)[1]
        return (
            row.value(logits, labels, 0.0).mean()
            + 0 * row.readout(logits).sum()
            + 0 * row.measure(logits, labels).sum()
        )

    assert exported(jax.value_and_grad(loss), deep, XS, labels) == set()


def test_language_models():
    params = init_language(jax.random.key(0), 11, H, layers=2)
    tokens = jnp.array([[1, 2, 3, 4], [5, 6, 7, 10]])

    def loss(params, tokens, key):
        state, logits = language(params, tokens, dropout=0.2, key=key)
        return (logits**2).mean() + (state[0][0] ** 2).sum()

    assert exported(jax.value_and_grad(loss), params, tokens, jax.random.key(1)) == set()

    def write(params, token, key):
        logits = filtered(language(params, token[:, None])[1][:, 0], temperature=0.7, top_k=5, top_p=0.9)
        return jax.random.categorical(key, logits)

    assert exported(write, params, tokens[:, 0], jax.random.key(1)) == set()


SERIES = from_arrays([np.arange(1.0, 30.0), np.arange(2.0, 28.0) ** 2], season=4)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize(
    ("form", "likelihood"),
    [*(("autoregressive", name) for name in LIKELIHOODS), ("handoff", "quantiles"), ("handoff", "student_t")],
)
def test_forecasters(form, likelihood):
    positive = likelihood in ("log_normal", "negative_binomial")
    design = Design(
        horizon=3, context=8, season=4, hidden_size=H, form=form, likelihood=likelihood, lags=(1, 4),
        base="none" if positive else "both", scaling="mean" if positive else "standard", dropout=0.1,
    )  # fmt: skip
    training, normal, table = Training(steps=2, batch_size=3), normal_of(SERIES), on_device(SERIES, design)
    params = init_forecaster(jax.random.key(0), design, SERIES)
    carry, number = (params, training.optimizer().init(params), params), jnp.zeros((), jnp.int32)
    origins = training_origins(SERIES, design)
    step = partial(_train, steps=2, design=design, training=training)
    assert exported(step, carry, table, origins, jax.random.key(1), number, normal) == set()
    which, where = jnp.array([0, 1]), jnp.array([20, 22])
    forecast = partial(_forecast, design=design, samples=5)
    assert exported(forecast, params, table, which, where, jax.random.key(2), normal) == set()


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("cell", NETWORKS)
def test_models_of_basins(cell):
    basins, _ = synthetic_basins(2, years=1, seed=1)
    design = BasinDesign(hidden_size=H, cell=cell, window=9)
    model = init_basins(basins, ("1990-01-01", "1990-11-30"), design, seeds=(0, 1))
    batch = {
        "table": table_of(basins), "basin": np.zeros((2, B), np.int32), "day": np.full((2, B), 40, np.int32),
        "seed": np.arange(2, dtype=np.int32),
    }  # fmt: skip

    def loss(params, batch, key):
        return ensemble_loss(params, batch, key, setting=model.setting, seeds=model.seeds)[0]

    params = jax.tree.map(jnp.asarray, model.params)
    assert trained(loss, by_member(optax.adam(1e-3)), params, batch, jax.random.key(1)) == set()


def test_agents():
    params = init_agent(jax.random.key(0), I, {"policy": 3, "value": None}, hidden_size=H)
    state, firsts = initial_state(params, B), jnp.asarray(FLAGS.T)
    xs = XS.swapaxes(0, 1)

    def loss(params, xs, state):
        after, outputs = unroll(params, state, xs, firsts, burn_in=1)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves((after, outputs)))

    assert exported(jax.value_and_grad(loss), params, xs, state) == set()
    assert exported(lambda *a: act(*a), params, state, xs[0], firsts[0]) == set()
    assert exported(lambda *a: chunk_states(*a, 2, burn_in=1), params, state, xs, firsts) == set()
    assert exported(lambda key, xs: minibatches(key, 3, xs), jax.random.key(1), xs) == set()
    maze = TMaze(5)
    assert exported(lambda key: maze.step(key, maze.reset(key)[1], jnp.int32(1)), jax.random.key(1)) == set()


def test_modules_in_scans_of_agents():
    module, inputs = ScannedRNN(), (XS.swapaxes(0, 1), jnp.asarray(FLAGS.T))
    carry = jnp.zeros((B, H)), jnp.zeros((B, H))
    variables = module.init(jax.random.key(0), carry, inputs)

    def loss(variables, carry, inputs):
        after, ys = module.apply(variables, carry, inputs)
        return (ys**2).sum() + sum((a**2).sum() for a in after)

    assert exported(jax.value_and_grad(loss), variables, carry, inputs) == set()


def test_nnx_modules():
    model = LSTMNetwork(I, H, 2, layers=2, bidirectional=True, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)

    def loss(state, xs):
        return (nnx.merge(graph, state)(xs, lengths=LENGTHS) ** 2).sum()

    assert exported(jax.value_and_grad(loss, argnums=(0, 1)), state, XS) == set()


def test_stacks_read_from_onnx():
    """With activations that only ONNX has."""
    activations = {
        "i": HardSigmoid(0.2, 0.5),
        "f": Affine(0.1, 0.5),
        "g": ThresholdedRelu(0.1),
        "o": ScaledTanh(1.0, 0.5),
    }
    cell = dataclasses.replace(CELLS["vanilla"], name="read from ONNX", **activations)
    assert calls(lowered(lambda params, xs: lstm(params, xs, cell=cell)[1], PARAMS, XS)) == set()


def test_the_search_for_fixed_points():
    """JAX has no eigenvalues of general matrices on TPUs."""
    starts = tuple(jnp.ones((B, H)) * n for n in (0.1, -0.2))

    def search(params, x):
        return fixed_points(params, x, starts, iterations=3)

    traced = jax.jit(search).trace(PARAMS, XS[0, 0])
    for platform in ("cuda", "rocm"):
        names = calls(traced.lower(lowering_platforms=(platform,)).as_text())
        assert all(name.startswith(("cu", "hip")) for name in names), names  # JAX's own, for equations and eigenvalues
    with pytest.raises(NotImplementedError, match="'eig'"):
        traced.lower(lowering_platforms=("tpu",))


def test_recurrent_ppo(monkeypatch):
    """The whole training of the example, in which two seeds are a vmap."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    example = importlib.import_module("recurrent_ppo")
    task, settings = example.tmaze_task(2), example.TASKS["TMaze-10"][1]
    settings = dataclasses.replace(settings, steps=4 * 6, environments=4, rollout=6, chunk=6, hidden=H)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        train = jax.vmap(example.make_train(task, settings))
        assert exported(train, jax.random.split(jax.random.key(0), 2)) <= ORTHOGONAL
