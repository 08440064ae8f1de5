"""The example of recurrent PPO: a shortened training in a short T-maze, seeds by vmap, and the stored returns."""

import argparse
import dataclasses
import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PUBLISHED = {"CartPole-v1": 500.0, "Pendulum-v1": -217.933, "MountainCarContinuous-v0": 91.469}  # RL-Zoo's ppo_lstm


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        return importlib.import_module("recurrent_ppo")


@pytest.mark.thorough
def test_training_learns_and_every_seed_by_itself(example):
    task = example.tmaze_task(2)
    usual = example.TASKS["TMaze-10"][1]
    settings = dataclasses.replace(usual, steps=64 * 6 * 12, environments=64, rollout=6, chunk=6, hidden=8, rate=1e-2)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        train = jax.jit(jax.vmap(example.make_train(task, settings)))
        keys = jax.random.split(jax.random.key(0), 2)
        params, _, curve = train(keys)
        again = train(keys[::-1])[2]
    returns = np.asarray(curve["return"])
    assert returns.shape == (2, 12)
    assert (returns[:, -3:].mean(1) > returns[:, 1:4].mean(1) + 0.1).all()
    np.testing.assert_allclose(again["return"][::-1], returns, rtol=1e-3, atol=1e-3)
    assert params["agent"].trunks[0].layers[0].w_x.shape[0] == 2


def test_output_that_could_not_be_written_is_refused_before_training(example, tmp_path):
    assert example.output_file(str(tmp_path / "returns.json")) == tmp_path / "returns.json"
    for path in (tmp_path, tmp_path / "missing" / "returns.json"):
        with pytest.raises(argparse.ArgumentTypeError, match="is a folder, or in a folder that is not there"):
            example.output_file(str(path))
    with pytest.raises(argparse.ArgumentTypeError, match="'0' is no whole number of at least 1"):
        example.count("0")


def test_the_example_is_short():
    assert len((EXAMPLES / "recurrent_ppo.py").read_text().splitlines()) < 300


@pytest.mark.parametrize("task", PUBLISHED)
def test_stored_returns_of_ten_seeds_reach_the_published_ones(task):
    runs = [json.loads(path.read_text()) for path in sorted((EXAMPLES / "returns").glob("*.json"))]
    final = [score for run in runs if run["task"] == task for score in run["final"]]
    assert len(final) == 10
    assert np.median(final) >= PUBLISHED[task]


LENGTHS = [50, 100, 250, 500]


def stored(length, memory):
    runs = [json.loads(path.read_text()) for path in sorted((EXAMPLES / "returns").glob("tmaze-*.json"))]
    return [
        right
        for run in runs
        for right in run["correct"]
        if run["task"] == f"TMaze-{length}" and run["settings"]["memory"] == memory
    ]


@pytest.mark.parametrize("length", LENGTHS)
def test_stored_seeds_turn_right_in_every_t_maze(length):
    assert stored(length, True) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("length", LENGTHS)
def test_without_a_memory_half_of_the_stored_turns_are_right(length):
    right = stored(length, False)
    assert len(right) == 3
    assert np.abs(np.array(right) - 0.5).max() < 0.15  # three standard deviations of 100 turns


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_stored_t_mazes_were_run_with_the_settings_of_the_table(example, length, memory):
    settings = example.TASKS[f"TMaze-{length}"][1]
    if not memory:
        settings = dataclasses.replace(settings, memory=False, biases=example.Settings.biases)
    files = list((EXAMPLES / "returns").glob(f"tmaze-{length}-{'[0-9]' if memory else 'no-memory-[0-9]'}.json"))
    assert len(files) == 3
    for file in files:
        run = json.loads(file.read_text())["settings"]
        assert run == json.loads(json.dumps(dataclasses.asdict(settings))), file.name


def test_the_turn_depends_on_the_units_with_the_best_stored_auc_together_and_on_none_alone():
    cue = json.loads((EXAMPLES / "cue-tmaze-50.json").read_text())
    best = sum(unit["auc"] == 1.0 for unit in cue["units"])
    assert cue["correct"] == cue["correct with noise"] == 1.0
    assert 1 < best < len(cue["units"])
    assert cue["turns changed by the n best"][best - 1] == 1.0
    assert cue["by each alone"] == [0.0] * len(cue["units"])


def test_stored_trainings_with_flax_cell_and_with_ours_return_the_same_until_rounding_shows():
    table = json.loads((EXAMPLES.parent / "benchmarks" / "results" / "amd-agents-returns-jax010.json").read_text())
    assert len(table["rows"]) == 6
    for dtype, _, _, flax, ours, equal, updates in table["rows"]:
        assert equal >= {"float64": 80, "float32": 10}[dtype]
        assert (flax == ours) == (equal == updates)
    assert sum(row[5] == row[6] for row in table["rows"]) == 2
