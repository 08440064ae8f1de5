"""Eight devices in one process: `XLA_FLAGS=--xla_force_host_platform_device_count=8 python mesh_script.py FOLDER`.

It prints a line for each check that holds.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training import config, same_params, stop_at

from lstmjax import init_network, network
from lstmjax.config import ConfigError
from lstmjax.data import About, Sequences
from lstmjax.training import Interrupted, fit, make_mesh, resume, train
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.plan import new_plan
from lstmjax.training.recipe import (
    NetworkObjective,
    first_state,
    recipe_of,
    restored_form,
    run_key,
    saved_form,
    train_step_of,
)
from lstmjax.training.shards import by_slices, filled_up, on_one_device, placed, placed_batch
from lstmjax.training.step import at_once

folder = Path(sys.argv[1])
B, T, I, O = 13, 5, 3, 4
rng = np.random.default_rng(0)
EIGHT, SPLIT = make_mesh("auto"), make_mesh("data=4,model=2")
assert EIGHT.shape == {"data": 8, "model": 1}
assert SPLIT.shape == {"data": 4, "model": 2}


def close(a, b, bound):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        np.testing.assert_allclose(x, y, rtol=bound, atol=bound * max(1.0, np.abs(y).max()))


def batch_of(per_step, weighted, ragged):
    shape = (B, T) if per_step else (B,)
    return Sequences(
        rng.normal(size=(B, T, I)).astype(np.float32),
        rng.integers(O, size=shape),
        rng.integers(1, T + 1, size=B).astype(np.int32) if ragged else None,
        weight=rng.uniform(0.5, 2, size=B).astype(np.float32) if weighted else None,
    )


def about_of(per_step):
    blank = {"offset": (0.0,) * I, "scale": (1.0,) * I, "features": tuple("xyz"), "fingerprint": 0}
    return About(input_size=I, output_size=O, classes=tuple("abcd"), per_step=per_step, **blank)


CASES = {
    "lengths, labels by step, weights": (
        {"layers": 2, "bidirectional": True},
        {"metrics": ["accuracy", "macro_f1"], "gradients": True, "average": {"decay": 0.9}},
        (True, True, True),
    ),
    "class weights, frozen, clipped": (
        {"cell": "peephole"},
        {"optimizer": {"freeze": "layers.0.w_x", "clip_norm": 0.1}, "on_nan": "skip"},
        (False, True, True),
    ),
    "float64, class weights": (
        {"layers": 2, "dtype": "float64", "param_dtype": "float64"},
        {"metrics": ["accuracy", "macro_f1"], "loss": {"label_smoothing": 0.1}},
        (True, True, True),
    ),
}

for name, (model, more, kind) in CASES.items():
    settings = config(model=model, **more)
    with jax.enable_x64(settings.model.needs_x64):
        weighted = {"class_weights": (0.5, 1.5, 1.0, 1.0), "mean_weight": 9.0} if "class" in name else {}
        recipe = recipe_of(settings, about_of(kind[0]), steps=9, **weighted)
        state = first_state(jax.random.key(0), recipe=recipe, about=about_of(kind[0]))
        batches = [batch_of(*kind) for _ in range(3)]
        objective, key = NetworkObjective(recipe), run_key(0)
        bound = 1e-12 if settings.model.needs_x64 else 1e-6
        expected = jax.jit(at_once(objective))(state.params, None, batches[0], key)
        for mesh in (EIGHT, SPLIT):
            run = jax.jit(by_slices(objective, mesh))
            arguments = placed(state.params, mesh), None, placed_batch(batches[0], mesh), key
            close(on_one_device(run(*arguments)[0]), expected[0], bound)
            if mesh is EIGHT:
                text = run.lower(*arguments).compile().as_text()
                kinds = {leaf.dtype for leaf in jax.tree.leaves((expected[0], expected[2]))}
                count = text.count(" all-reduce(") + text.count(" all-reduce-start(")
                assert 1 <= count <= len(kinds), count
                assert "all-gather" not in text
        ends = []
        for mesh in (None, EIGHT, SPLIT) if "class" in name else (None, EIGHT):
            after = jax.tree.map(jnp.array, state)
            for batch in batches:
                after, info = train_step_of(recipe, mesh)(after, batch, key)
            ends.append(on_one_device(after))
        if mesh is SPLIT:  # the first layer, whose parameters and moments lie in two parts
            w = jax.tree.leaves(after.params.layers[0])[1]  # w_h
            assert w.sharding.spec[-1] == "model"
            moments = [leaf for leaf in jax.tree.leaves(after.moments) if leaf.shape == w.shape]
            assert moments
            assert all(leaf.sharding.spec[-1] == "model" for leaf in moments)
        for end in ends[1:]:
            close(end.params, ends[0].params, bound)
            close(end.sums, ends[0].sums, 1e-6)
    print("ok", name)


class Weighted:
    """A loss in float64, which the configured ones are not even for networks in float64."""

    def total(self, params, rest, batch, key):
        _, logits = network(params, batch["x"])
        sums = {"loss": (((logits - 1) ** 2).mean(-1) * batch["weight"]).sum(), "weight": batch["weight"].sum()}
        return sums["loss"], (sums, rest)

    def divisor(self, sums):
        return sums["weight"]

    def __call__(self, params, rest, batch, key):
        total, (sums, rest) = self.total(params, rest, batch, key)
        return total / self.divisor(sums), (sums, rest)


with jax.enable_x64(True):
    wide = init_network(jax.random.key(2), I, 6, 2, 2, init="equinox", dtype=jnp.float64)
    exact = {"x": rng.normal(size=(16, T, I)), "weight": rng.uniform(size=16)}
    expected = jax.jit(at_once(Weighted()))(wide, None, exact, run_key(0))
    for mesh in (EIGHT, SPLIT):
        run = jax.jit(by_slices(Weighted(), mesh))
        found = run(placed(wide, mesh), None, placed_batch(exact, mesh), run_key(0))
        close(on_one_device(found[0]), expected[0], 1e-12)
print("ok float64")

padded = filled_up(batch_of(True, False, True), 8)
assert len(padded.x) == 16
assert padded.weight.tolist() == [1] * 13 + [0] * 3

# Language models: the carried state, too; bits of the checkpoint are those of one device's form.
for model, bound in ({"layers": 2}, 1e-6), ({"dtype": "float64", "param_dtype": "float64"}, 1e-12):
    settings = config(
        steps=9, evaluate_every=3, batch_size=8, data={"source": "fables", "text": "characters", "segment": 40},
        model=model | {"tie_weights": True}, mesh="data=1",
    )  # fmt: skip
    with jax.enable_x64(settings.model.needs_x64):
        plan = new_plan(settings)
        state = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)
        batches = [plan.batches.draw(seed=0, step=step) for step in range(plan.batches.epoch + 1)]
        ends = []
        for mesh in (None, EIGHT, SPLIT):
            after = jax.tree.map(jnp.array, state)
            for batch in batches:
                after, info = train_step_of(plan.recipe, mesh)(after, batch, run_key(0))
            ends.append(on_one_device(after))
        assert np.abs(np.asarray(jax.tree.leaves(ends[0].rest)[0])).max() > 0.01
        for end in ends[1:]:
            close((end.params, end.rest), (ends[0].params, ends[0].rest), bound)
            close(end.sums, ends[0].sums, 1e-6)
results = [
    train(settings.model_copy(update={"mesh": mesh}), folder / f"text {mesh}", quiet=True)
    for mesh in ("data=1", "auto", "data=2,model=2")
]
for result in results[1:]:
    close(result.trained.params, results[0].trained.params, 1e-12)
assert make_mesh("auto", 6, streams=True).shape == {"data": 6, "model": 1}
assert make_mesh("auto", 20, streams=True).shape == {"data": 5, "model": 1}
with pytest.raises(ConfigError, match=r"streams of a text into 8 parts, but batch_size is 20, which 8 does not divide"):
    make_mesh("data=8", 20, streams=True)
print("ok language models")

# Any loss: a mean over valid steps, whose number differs from slice to slice, and dropout.
x = rng.normal(size=(16, T, I)).astype(np.float32)
mask = (np.arange(T) < rng.integers(1, T + 1, size=16)[:, None]).astype(np.float32)
data = [{"x": x, "mask": mask}]


def loss(params, batch, key):
    _, logits = network(params, batch["x"], return_sequences=True, dropout=0.3, key=key)
    error = ((logits - 1) ** 2).mean(-1) * batch["mask"]
    return error.sum() / batch["mask"].sum()


params = init_network(jax.random.key(1), I, 6, 2, 2, init="equinox")
alone = fit(params, data, loss, optax.adam(0.01), steps=4)
for mesh in ("auto", {"data": 4, "model": 2}):
    close(fit(params, data, loss, optax.adam(0.01), steps=4, mesh=mesh).model, alone.model, 2e-6)
with pytest.raises(ValueError, match=r"expected a leading axis of sequences that data=8 divides"):
    fit(params, [{"x": x[:9], "mask": mask[:9]}], loss, optax.sgd(0.1), steps=1, mesh="auto")
with pytest.raises(ConfigError, match=r"mesh is data=16, which needs 16 devices, but there are 8"):
    fit(params, data, loss, optax.sgd(0.1), steps=1, mesh="data=16")
with pytest.raises(ConfigError, match=r"the parameters are not those of lstmjax layers"):
    fit(jnp.zeros(3), data, lambda p, b, k: (b["x"] @ p).mean(), optax.sgd(0.1), steps=1, mesh="model=2")
print("ok any loss")

# Runs: all devices by default; a checkpoint of eight goes on on one, and back, bit by bit the same state.
settings = config(steps=6, checkpoint_every=2, batch_size=20, model={"hidden_size": 4})
done = {
    mesh: train(settings.model_copy(update={"mesh": mesh}), folder / mesh, quiet=True) for mesh in ("auto", "data=1")
}
close(done["auto"].trained.params, done["data=1"].trained.params, 1e-6)
with pytest.raises(ConfigError, match=r"splits the hidden units into 8 parts, but model.hidden_size is 4"):
    train(settings.model_copy(update={"mesh": "model=8"}), folder / "refused", quiet=True)
assert not (folder / "refused").exists()
print("ok runs")

alone, eight = folder / "alone", folder / "eight"
for run, mesh, other in ((alone, "data=1", "auto"), (eight, "auto", "data=1")):
    stopped = settings.model_copy(update={"mesh": mesh})
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 4)
        with pytest.raises(Interrupted):
            train(stopped, run, quiet=True)
    saved = Checkpoints(run / "checkpoints", settings.fingerprint, read_only=True)
    like = new_plan(settings).like
    step, state = saved.latest(like)
    assert step == 4
    saved_again = saved_form(placed(restored_form(state), EIGHT))  # through eight devices
    same_params(saved_again, state)
    result = resume(run, mesh=other, quiet=True)
    close(result.trained.params, done["data=1"].trained.params, 1e-6)
print("ok goes on")
