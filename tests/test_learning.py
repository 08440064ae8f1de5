"""Gate statistics across the checkpoints of a run, against each checkpoint read by itself."""

import jax
import numpy as np
import pytest
from tolerances import assert_close
from training import config, write_sequences

from lstmjax.data import Sequences, digits
from lstmjax.inside import saturation, trace
from lstmjax.runs import RunError
from lstmjax.training import learning, load_checkpoints, load_run, train

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pictures: they would take longer than the steps."""
    monkeypatch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ten steps that keeps each third one."""
    settings = config(steps=10, evaluate_every=5, keep_every=3, optimizer={"learning_rate": 0.05})
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        return train(settings, tmp_path_factory.mktemp("kept") / "run", quiet=True)


def test_a_run_keeps_the_steps_that_it_was_asked_to(run):
    steps = [step for step, _ in load_checkpoints(run.run_dir)]
    assert steps == sorted({0, 3, 6, 9, 10, run.step})


def test_statistics_are_those_of_each_checkpoint(run):
    x = digits().validation.x[:20]
    found = learning(run.run_dir, x)
    same = learning(run.run_dir, at_most=20)
    assert all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(same)))
    x = run.trained.about.scaled(Sequences(x)).x
    assert found.steps.tolist() == [step for step, _ in load_checkpoints(run.run_dir)]
    for n, (_, trained) in enumerate(load_checkpoints(run.run_dir)):
        expected = saturation(trace(trained.params, x))
        (own,) = jax.tree.map(lambda a, n=n: a[n], found.statistics)
        assert int(own.count) == 20 * 8
        assert_close(own.mean, expected[0].mean)
        assert_close(own.right, expected[0].right)
        np.testing.assert_allclose(own.std.f, expected[0].std.f, atol=3e-4)
    assert np.abs(np.diff(found.statistics[0].mean.f, axis=0)).max() > 1e-3  # they learn


def test_the_network_before_training_is_that_of_the_seed(run):
    (step, first), *_, (last, trained) = load_checkpoints(run.run_dir)
    assert (step, last) == (0, 10)
    again = load_run(run.run_dir)
    assert jax.tree.structure(first.params) == jax.tree.structure(again.params)
    moved = [
        float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (first.params, trained.params)), strict=True)
    ]
    assert all(0 < move < 10 * 0.06 for move in moved)  # ten steps of Adam, each at most about the learning rate


def test_sequences_of_ones_own_are_scaled_as_in_training(run, tmp_path):
    x = digits().validation.x[:6]
    lengths = np.array([8, 1, 0, 5, 8, 2])
    found = learning(run.run_dir, x, lengths)
    assert found.statistics[0].count.tolist() == [lengths.sum()] * len(found.steps)
    path = tmp_path / "a.npz"
    write_sequences(path)
    own = train(
        config(data={"source": str(path), "normalize": "standardize"}, steps=2, keep_every=1),
        tmp_path / "own",
        quiet=True,
    )
    whole = learning(own.run_dir, low=0.2, high=0.8)
    assert whole.steps.tolist() == [0, 1, 2]
    write_sequences(path, seed=1)
    with pytest.raises(RunError, match="the data have changed since this run began; restore them, or pass xs"):
        learning(own.run_dir)
    raw, _, lengths = write_sequences(tmp_path / "same.npz")
    assert learning(own.run_dir, raw, lengths, at_most=3).statistics[0].count.tolist() == [lengths[:3].sum()] * 3
