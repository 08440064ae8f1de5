"""The learning-rate finder."""

import jax
import numpy as np
import pytest
from training import config, write_sequences

from lstmjax.cli import main
from lstmjax.config import ConfigError, dump_config
from lstmjax.training.lr_find import MEMORY, measure_rates

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_sequences(folder / "a.npz", ragged=False)
    return config(data={"source": str(folder / "a.npz")}, optimizer={"name": "sgd", "momentum": 0.0, "accumulate": 2})


@pytest.fixture(scope="module")
def found(settings):
    with jax.numpy_dtype_promotion("standard"):
        return measure_rates(settings, 1e-3, 100.0, 40)


@pytest.mark.thorough
def test_rates_rise_evenly_and_losses_are_those_of_training(found, settings):
    count = len(found.rates)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-3, 100.0, 40)[:count])
    from lstmjax.training.plan import new_plan
    from lstmjax.training.recipe import NetworkObjective, first_state, run_key

    plan = new_plan(settings)  # by hand: two batches, one step of gradient descent
    params = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about).params
    objective = NetworkObjective(plan.recipe)
    of_batch = jax.jit(jax.value_and_grad(lambda p, b, k: objective(p, None, b, k)[0]))
    for update in range(2):
        sums = []
        for n in (2 * update, 2 * update + 1):
            sums.append(of_batch(params, plan.batches.draw(seed=0, step=n), jax.random.fold_in(run_key(0), n)))
        assert found.losses[update] == pytest.approx(float(sums[0][0] + sums[1][0]) / 2, rel=1e-5)
        rate = np.float32(found.rates[update])
        params = jax.tree.map(lambda p, a, b, rate=rate: p - rate * (a + b) / 2, params, sums[0][1], sums[1][1])
    assert found.smoothed[1] == pytest.approx((MEMORY * found.losses[0] + found.losses[1]) / (1 + MEMORY))


def test_a_language_model_has_rates():
    """The losses are those of a training whose learning rate rises, with the state carried from step to step."""
    from lstmjax.training.plan import new_plan
    from lstmjax.training.recipe import StreamObjective, first_state, run_key

    data = {"source": "fables", "text": "characters", "segment": 40}
    text = config(data=data, optimizer={"name": "sgd", "momentum": 0.0})
    rates = measure_rates(text, 0.1, 1.0, 10)
    plan = new_plan(text)
    state = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)
    params, carried = state.params, state.rest
    step = jax.jit(jax.value_and_grad(StreamObjective(plan.recipe), has_aux=True))
    for n, rate in enumerate(np.geomspace(0.1, 1.0, 10).astype(np.float32)):
        batch, key = plan.batches.draw(seed=0, step=n), jax.random.fold_in(run_key(0), n)
        (value, (_, carried)), gradient = step(params, carried, batch, key)
        assert rates.losses[n] == pytest.approx(float(value), rel=1e-5)
        params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, gradient)


@pytest.mark.thorough
def test_the_steepest_fall_is_before_the_lowest_loss(found):
    assert found.steepest is not None
    assert 1e-3 < found.steepest <= found.lowest < 100.0
    assert found.lowest == found.rates[found.smoothed.argmin()]


def test_the_command_writes_its_picture_alone(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    assert main(["lr-find", "c.yaml", "--low", "1e-3", "--high", "10", "--steps", "20"]) == 0
    assert "--optimizer.learning-rate" in capsys.readouterr().out.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "lr-find.png"]
    assert (tmp_path / "lr-find.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_limits_are_refused(settings):
    with pytest.raises(ConfigError, match="--low is 2 and --high is 1"):
        measure_rates(settings, 2.0, 1.0)
    with pytest.raises(ConfigError, match="--steps is 3, expected 10"):
        measure_rates(settings, steps=3)


def test_rates_are_those_of_the_network_that_training_starts_from(settings, tmp_path):
    from lstmjax.training.loop import train
    from lstmjax.training.plan import initial_of, new_plan
    from lstmjax.training.recipe import NetworkObjective, run_key

    with jax.numpy_dtype_promotion("standard"):
        train(settings.model_copy(update={"seed": 5}), tmp_path / "run", quiet=True)
        fine = settings.model_copy(update={"init_from": str(tmp_path / "run")})
        plan = new_plan(fine)
        objective = NetworkObjective(plan.recipe)
        params = initial_of(fine, plan).params
        losses = [
            objective(params, None, plan.batches.draw(seed=0, step=n), jax.random.fold_in(run_key(0), n))[0]
            for n in (0, 1)
        ]
        assert measure_rates(fine, 1e-3, 1.0, 10).losses[0] == pytest.approx(float(sum(losses)) / 2, rel=1e-5)
        assert measure_rates(settings, 1e-3, 1.0, 10).losses[0] != pytest.approx(float(sum(losses)) / 2, rel=1e-4)
