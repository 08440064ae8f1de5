"""Gate statistics across the checkpoints of a run, against each checkpoint read by itself."""

import jax
import numpy as np
import pytest
from tolerances import assert_close
from training import config, write_sequences

from lstmjax.data import Sequences, load
from lstmjax.inside import saturation, trace
from lstmjax.runs import RunError
from lstmjax.training import learning, load_checkpoints, load_run, train

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ten steps that keeps each third one, on 40 sequences, 8 of them for validation."""
    path = tmp_path_factory.mktemp("kept") / "a.npz"
    write_sequences(path)
    settings = config(
        data={"source": str(path), "normalize": "standardize"}, steps=10, evaluate_every=5, keep_every=3,
        optimizer={"learning_rate": 0.05},
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        return train(settings, path.parent / "run", quiet=True)


@pytest.mark.thorough
def test_a_run_keeps_the_steps_that_it_was_asked_to(run):
    steps = [step for step, _ in load_checkpoints(run.run_dir)]
    assert steps == sorted({0, 3, 6, 9, 10, run.step})


@pytest.mark.thorough
def test_statistics_are_those_of_each_checkpoint(run, tmp_path):
    raw, _, lengths = write_sequences(tmp_path / "same.npz")
    found = learning(run.run_dir, raw, lengths, at_most=8)  # scaled as in training
    x, lengths = run.trained.about.scaled(Sequences(raw)).x[:8], lengths[:8]
    assert found.steps.tolist() == [step for step, _ in load_checkpoints(run.run_dir)]
    for n, (_, trained) in enumerate(load_checkpoints(run.run_dir)):
        (expected,) = saturation(trace(trained.params, x, lengths=lengths), lengths=lengths)
        (own,) = jax.tree.map(lambda a, n=n: a[n], found.statistics)
        assert int(own.count) == lengths.sum()
        assert_close(own.mean, expected.mean)
        assert_close(own.right, expected.right)
        np.testing.assert_allclose(own.std.f, expected.std.f, atol=3e-4)
    assert np.abs(np.diff(found.statistics[0].mean.f, axis=0)).max() > 1e-3  # they learn


def test_the_network_before_training_is_that_of_the_seed(run):
    (step, first), *_, (last, trained) = load_checkpoints(run.run_dir)
    assert (step, last) == (0, 10)
    assert jax.tree.structure(first.params) == jax.tree.structure(load_run(run.run_dir).params)
    pairs = zip(*map(jax.tree.leaves, (first.params, trained.params)), strict=True)
    assert all(0 < np.abs(a - b).max() < 10 * 0.06 for a, b in pairs)  # ten steps of Adam, each about the learning rate


def test_without_sequences_it_is_the_validation_part_if_that_is_still_there(run):
    found = learning(run.run_dir)
    parts, _ = load(run.trained.config.data)
    assert set(found.statistics[0].count.tolist()) == {parts.validation.lengths.sum()}
    path = run.run_dir.parent / "a.npz"
    write_sequences(path, seed=1)
    with pytest.raises(RunError, match="the data have changed since this run began; restore them, or pass xs"):
        learning(run.run_dir)
    write_sequences(path)
