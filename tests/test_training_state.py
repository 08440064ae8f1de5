"""What training carries beside its parameters: each part by its definition, and all of them through a kill."""

import json

import jax
import numpy as np
import optax
import pytest
from training import config, kill_in_training, lines, same_params, stop_at, write_sequences

from lstmjax import init_network
from lstmjax.config import ConfigError
from lstmjax.convert import save_weights
from lstmjax.training import Interrupted, load_checkpoints, load_run, resume, train
from lstmjax.training.paths import leaf_names
from lstmjax.training.recipe import recipe_of, structure

pytestmark = pytest.mark.usefixtures("promotion", "no_curves")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and a file of weights to begin from."""
    folder = tmp_path_factory.mktemp("data")
    write_sequences(folder / "a.npz")
    params = init_network(jax.random.key(9), 3, 4, 5, init="equinox")
    save_weights(params, folder / "start.safetensors")
    return folder


def on_file(folder, **sections):
    return config(data={"source": str(folder / "a.npz")}, **sections)


def everything(folder):
    """All that adds to the state, with a step size that makes validation rise and fall."""
    return on_file(
        folder, steps=24, evaluate_every=3, checkpoint_every=6,
        optimizer={"learning_rate": 0.05, "accumulate": 2, "freeze": ["layers.0.w_x"], "schedule": "cosine"},
        stopping={"patience": 6, "min_delta": 0.01}, plateau={"patience": 2, "factor": 0.3, "cooldown": 1},
        average={"decay": 0.7}, gradients=True, on_nan="skip",
        init_from=str(folder / "start.safetensors"), init_fresh=["head.*"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        return train(everything(folder), tmp_path_factory.mktemp("whole") / "run", quiet=True)


@pytest.mark.thorough
def test_everything_goes_on_exactly_after_a_kill(whole, folder, tmp_path):
    run = tmp_path / "run"
    kill_in_training(everything(folder), run)
    result = resume(run, quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(run) == lines(whole.run_dir)
    assert result.validation == whole.validation
    for mine, theirs in zip(load_checkpoints(run), load_checkpoints(whole.run_dir), strict=True):
        assert mine[0] == theirs[0]
        same_params(mine[1].params, theirs[1].params)


@pytest.mark.parametrize("step", [1, 8])  # before any validation; in the middle of an accumulation's two batches
def test_everything_goes_on_exactly_after_a_signal(whole, folder, tmp_path, monkeypatch, step):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Interrupted):
            train(everything(folder), run, quiet=True)
    result = resume(run, quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(run) == lines(whole.run_dir)


def test_everything_is_written_down(whole):
    records = lines(whole.run_dir)
    assert set(records[0]) == {
        "step", "train", "validation", "raw", "gradient", "skipped", "learning_rate_scale", "check"
    }  # fmt: skip
    assert all(record["gradient"]["norm"] > 0 and record["skipped"] == 0 for record in records)
    assert records[0]["raw"] != records[0]["validation"]
    assert min(record["learning_rate_scale"] for record in records) < 1
    assert (load_run(whole.run_dir).config, whole.step) == (whole.trained.config, whole.step)
    same_params(load_run(whole.run_dir).params, whole.trained.params)


def test_frozen_and_initial_parameters_are_those_of_the_file(whole, folder):
    (step, first), *_ = load_checkpoints(whole.run_dir)
    start = init_network(jax.random.key(9), 3, 4, 5, init="equinox")
    assert step == 0
    same_params(first.params.layers, start.layers)
    assert first.params.head.w.shape == (4, 2)
    (trained,) = whole.trained.params.layers
    np.testing.assert_allclose(trained.w_x, start.layers[0].w_x, rtol=1e-6)  # the average of equal numbers
    assert np.abs(trained.w_h - start.layers[0].w_h).max() > 1e-3


def test_a_state_without_these_is_that_of_earlier_versions(folder):
    """Old run folders go on, as their checkpoints name the same arrays."""
    from lstmjax.training.plan import new_plan

    plan = new_plan(on_file(folder))
    names = set(leaf_names(plan.like))
    params = {"layers.0.w_x", "layers.0.w_h", "layers.0.b", "head.w", "head.b"}
    moments = {f"moments.0.{moment}.{name}" for moment in ("mu", "nu") for name in params}
    assert names == {
        *(f"params.{name}" for name in params), *moments, "moments.0.count", "moments.1.count", "step",
        "sums.loss", "sums.metric", "sums.weight",
    }  # fmt: skip
    read = recipe_of(on_file(folder), plan.about)  # as a run is opened
    assert leaf_names(structure(read, plan.about)) == leaf_names(plan.like)


def test_a_run_stops_early_with_its_best_network(folder, tmp_path, capsys):
    settings = on_file(
        folder, steps=80, evaluate_every=2, checkpoint_every=40, stopping={"patience": 4},
        optimizer={"name": "sgd", "momentum": 0.0, "learning_rate": 0.05},
    )  # fmt: skip
    result = train(settings, tmp_path / "run")
    records = lines(tmp_path / "run")
    accuracies = [record["validation"]["accuracy"] for record in records]
    assert len(records) < 40
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 1 + 4  # the first of equal ones, and four more
    assert result.validation["accuracy"] == max(accuracies)
    assert "no improvement in 4 evaluations" in capsys.readouterr().out
    again = resume(tmp_path / "run", quiet=True)
    assert (again.step, again.validation) == (result.step, result.validation)
    assert lines(tmp_path / "run") == records


def test_accumulated_batches_are_one_large_one(tmp_path):
    """Two batches of 8 of the digits are the mean gradient of 16: with SGD, the same parameters."""
    sgd = {"name": "sgd", "momentum": 0.0, "learning_rate": 0.1}
    settings = config(optimizer=sgd | {"accumulate": 2}, steps=4, evaluate_every=4)
    result = train(settings, tmp_path / "run", quiet=True)
    from lstmjax.training.plan import new_plan
    from lstmjax.training.recipe import NetworkObjective, first_state

    plan = new_plan(settings)
    params = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about).params
    gradient_of = jax.jit(jax.grad(lambda p, b: NetworkObjective(plan.recipe)(p, None, b, jax.random.key(0))[0]))
    for first in (0, 2):
        pair = [gradient_of(params, plan.batches.draw(seed=0, step=first + n)) for n in range(2)]
        params = jax.tree.map(lambda p, a, b: p - 0.1 * (a + b) / 2, params, *pair)
    for mine, theirs in zip(jax.tree.leaves(result.trained.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_frozen_parameters_get_no_moments(folder):
    from lstmjax.training.plan import new_plan

    plan = new_plan(on_file(folder, optimizer={"freeze": ["layers.*"]}))
    moments = [name for name in leaf_names(plan.like.moments) if ".mu." in name]
    assert [name.split(".mu.")[1] for name in moments] == ["head.w", "head.b"]


def test_a_network_of_a_run_is_where_another_one_starts(folder, tmp_path):
    first = train(on_file(folder, steps=2), tmp_path / "first", quiet=True)
    second = train(on_file(folder, steps=2, init_from=str(first.run_dir)), tmp_path / "second", quiet=True)
    (_, start), *_ = load_checkpoints(second.run_dir)
    same_params(start.params, first.trained.params)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"optimizer": {"freeze": ["layer.*"]}},
            r"optimizer.freeze: 'layer.\*' matches no parameter; there are layers",
        ),
        ({"optimizer": {"freeze": ["*"]}}, "optimizer.freeze matches every parameter, so that there is nothing to tr"),
        ({"optimizer": {"accumulate": 7}}, "optimizer.accumulate is 7, but there are only 6 training steps"),
        ({"init_from": "nowhere"}, "init_from: .*nowhere: no such run folder or weights file"),
        (
            {"init_from": "START"},
            r"has head.w of shape \(4, 5\), but this network has head.w of shape \(4, 2\); change",
        ),
        ({"init_from": "START", "init_fresh": ["heads.*"]}, r"init_fresh: 'heads.\*' matches no parameter"),
        ({"init_from": "START", "init_fresh": ["head.*"], "model": {"layers": 2}}, "has no layers.1.w_x, but this"),
        (
            {"init_from": "START", "init_fresh": ["head.*"], "model": {"bias": None}},
            "has layers.0.b, which this network",
        ),
        ({"init_from": "a.npz"}, "init_from: .*a.npz"),
    ],
)
def test_what_does_not_fit_is_told(folder, tmp_path, monkeypatch, sections, message):
    monkeypatch.chdir(folder)
    if sections.get("init_from") == "START":
        sections = sections | {"init_from": str(folder / "start.safetensors")}
    with pytest.raises(ConfigError, match=message):
        train(on_file(folder, **sections), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()  # so that the same command works when this is mended


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"stopping": {"min_delta": 0.1}}, "stopping: stopping.min_delta is for stopping.patience; give that too"),
        ({"init_fresh": ["head.*"]}, "init_fresh is for init_from; give that too, or remove it"),
        ({"average": {"decay": 1.0}}, "average.decay is 1.0; it should be less than 1"),
        ({"plateau": {"factor": 0.0}}, "plateau.factor is 0.0; it should be greater than 0"),
        ({"on_nan": "ignore"}, "on_nan is 'ignore'; it should be 'stop' or 'skip'"),
    ],
)
def test_values_that_make_no_sense_are_told(sections, message):
    with pytest.raises(ConfigError, match=message):
        config(**sections)


def test_batches_that_are_not_finite_are_skipped_by_a_run(tmp_path, capsys):
    x, y, _ = write_sequences(tmp_path / "a.npz", target="number", n=64, ragged=False)
    y[3] = 1e30  # its square is infinite in float32
    np.savez(tmp_path / "a.npz", x=x, y=y)
    write_sequences(tmp_path / "b.npz", target="number", ragged=False)
    data = {"source": str(tmp_path / "a.npz"), "validation": str(tmp_path / "b.npz"), "normalize_targets": "none"}
    settings = config(data=data, loss={"name": "linear"}, on_nan="skip", steps=16, evaluate_every=8)
    train(settings, tmp_path / "run")
    assert [record["skipped"] for record in lines(tmp_path / "run")] == [1, 2]  # once an epoch of eight batches
    assert "skipped 2 batches" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))["validation"]["loss"] < 1e3
    assert optax.tree.norm(load_run(tmp_path / "run").params) < 100
