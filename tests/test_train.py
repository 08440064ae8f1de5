import io
import shutil
import signal
import sys
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiers import tiered
from training import config, damage, kill_in_training, lines, same_params, stop_at, write_sequences

from lstmjax.config import ConfigError, Optimizer, load_config
from lstmjax.data import digits, labelled
from lstmjax.networks import network
from lstmjax.runs import RunError, RunFolder
from lstmjax.training import plan, progress
from lstmjax.training.finite import Diverged
from lstmjax.training.forward import logits_of
from lstmjax.training.inference import evaluate, predict
from lstmjax.training.loop import resume, train
from lstmjax.training.losses import LOSSES
from lstmjax.training.optimizers import RULES, SCHEDULES, make_optimizer, make_schedule
from lstmjax.training.reading import load_run
from lstmjax.training.recipe import shifted
from lstmjax.training.run_hooks import Interrupted

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture
def curves():
    """For the tests that look at the picture of their run."""


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """The other runs draw none: it would take longer than their steps."""
    if "curves" not in request.fixturenames:
        monkeypatch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped, with everything that draws random numbers."""
    with jax.numpy_dtype_promotion("standard"):
        folder = tmp_path_factory.mktemp("whole") / "run"
        return train(drawn(), folder, quiet=True)


def drawn():
    model = {"hidden_size": 5, "bidirectional": True, "dropout": 0.3, "recurrent_dropout": 0.2, "zoneout": 0.1}
    return config(
        model=model, data={"shift": 1}, steps=14, evaluate_every=4, batch_size=300,
        optimizer={"schedule": "cosine", "warmup_steps": 2, "clip_norm": 1.0, "weight_decay": 0.01},
        loss={"label_smoothing": 0.1},
    )  # fmt: skip


def test_real_digits_are_learned(tmp_path, capsys, curves):
    settings = config(
        model={"hidden_size": 48, "init": "default"}, steps=180, batch_size=64, evaluate_every=60,
        optimizer={"learning_rate": 1e-2},
    )  # fmt: skip
    result = train(settings, tmp_path / "run")
    assert result.validation["accuracy"] > 0.85
    assert result.last_line == f"test accuracy {result.test['accuracy']:.4f}"
    # What is reported is what the parameters do, counted by hand.
    parts = digits()
    prediction = predict(result.trained, parts.test.x)
    assert np.mean(prediction.classes.astype(int) == parts.test.y) == pytest.approx(result.test["accuracy"], abs=1e-9)
    np.testing.assert_allclose(prediction.outputs.sum(axis=1), 1.0, rtol=1e-5)
    assert result.parameters == 4 * (8 * 48 + 48 * 48 + 48) + 48 * 10 + 10
    # The folder.
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.yaml", "data.json", "metrics.jsonl", "curves.png", "result.json", "checkpoints"}
    assert (tmp_path / "run" / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    records = lines(tmp_path / "run")
    assert [record["step"] for record in records] == [60, 120, 180]
    assert records[0]["train"]["loss"] > records[1]["train"]["loss"] > records[2]["train"]["loss"]
    best = max(records, key=lambda record: (record["validation"]["accuracy"], -record["validation"]["loss"]))
    assert (result.step, result.validation) == (best["step"], best["validation"])
    same_params(load_run(tmp_path / "run").params, result.trained.params)
    # What a user sees without a terminal: a line at each validation.
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in shown[2:]] == ["60/180", "120/180", "180/180"]
    assert shown[1] == "inputs: 8 features from 0 to 16, divided by 16"
    assert "validation accuracy 0." in shown[2]
    # The test part is read once: a second start of a finished run reads what was found.
    again = resume(tmp_path / "run", quiet=True)
    assert (again.test, again.step) == (result.test, result.step)


def test_the_same_seed_gives_the_same_run(whole, tmp_path):
    result = train(drawn(), tmp_path / "run", quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(tmp_path / "run") == lines(whole.run_dir)


@pytest.mark.parametrize(
    ("step", "signum"), tiered([(1, "SIGINT"), (4, "SIGTERM"), (6, "SIGHUP"), (8, "SIGQUIT")], first=[(4, "SIGTERM")])
)
def test_a_run_that_was_stopped_goes_on_exactly(whole, tmp_path, monkeypatch, step, signum):
    signum = getattr(signal, signum)
    with monkeypatch.context() as patch:
        stop_at(patch, step, signum)
        with pytest.raises(Interrupted) as stopped:
            train(drawn(), tmp_path / "run", quiet=True)
    assert (stopped.value.step, stopped.value.signum) == (step, signum)
    assert f"continue by: lstmjax train --resume {tmp_path / 'run'}" in str(stopped.value)
    result = resume(tmp_path / "run", quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(tmp_path / "run") == lines(whole.run_dir)
    assert result.test == whole.test


@pytest.mark.thorough
def test_a_run_that_was_killed_goes_on_exactly(whole, tmp_path):
    kill_in_training(drawn(), tmp_path / "run")
    result = resume(tmp_path / "run", quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(tmp_path / "run") == lines(whole.run_dir)


def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(whole, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        with pytest.raises(Interrupted):
            train(drawn(), tmp_path / "run", quiet=True)
    damage(tmp_path / "run" / "checkpoints" / "10")
    result = resume(tmp_path / "run", quiet=True)
    assert "checkpoint of step 10 is damaged" in caplog.text
    same_params(result.trained.params, whole.trained.params)
    assert lines(tmp_path / "run") == lines(whole.run_dir)


def test_what_changed_since_is_told(whole, tmp_path):
    write_sequences(tmp_path / "a.npz", target="number")
    settings = config(data={"source": str(tmp_path / "a.npz")}, loss={"name": "linear"}, steps=2)
    result = train(settings, tmp_path / "run", quiet=True)
    assert result.last_line.startswith("validation mse ")
    text = (tmp_path / "run" / "config.yaml").read_text("utf-8")
    (tmp_path / "run" / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"), "utf-8")
    with pytest.raises(ValueError, match="saved with another configuration"):
        resume(tmp_path / "run", quiet=True)
    write_sequences(tmp_path / "a.npz", target="number", seed=9)
    with pytest.raises(RunError, match="the data have changed since this run began"):
        resume(tmp_path / "run", quiet=True)
    with pytest.raises(RunError, match=f"not empty; continue it by --resume {whole.run_dir}"):
        train(settings, whole.run_dir, quiet=True)
    with pytest.raises(RunError, match="no such run folder"):
        resume(tmp_path / "nowhere", quiet=True)


def test_a_picture_that_fails_costs_a_line_not_the_run(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr("lstmjax.training.curves.draw_curves", fail)
    result = train(config(steps=2), tmp_path / "run", quiet=True)
    assert result.test is not None
    assert "curves.png: could not be drawn (no ink)" in caplog.text


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    write_sequences(tmp_path / "a.npz", target="number")
    wild = config(
        data={"source": str(tmp_path / "a.npz")}, loss={"name": "linear"},
        optimizer={"name": "sgd", "learning_rate": 1e30}, steps=40, evaluate_every=20,
    )  # fmt: skip
    with pytest.raises(Diverged, match=r"at step 2; lower optimizer\.learning_rate or set optimizer\.clip_norm\. The "):
        train(wild, tmp_path / "run", quiet=True)
    with pytest.raises(
        RunError, match=r"run: training diverged .*is (inf|nan) at step 2; .*start a new run with other"
    ):
        load_run(tmp_path / "run")
    with pytest.raises(Diverged, match="at step 2;"):
        resume(tmp_path / "run", quiet=True)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_whose_loss_is_no_number_stops_the_run(tmp_path, part):
    write_sequences(tmp_path / "a.npz", target="number")
    x, y, lengths = write_sequences(tmp_path / "b.npz", target="number")
    np.savez(tmp_path / "b.npz", x=x, y=np.full_like(y, 1e30), lengths=lengths)  # its square is infinite in float32
    far = config(
        data={"source": str(tmp_path / "a.npz"), part: str(tmp_path / "b.npz")}, loss={"name": "linear"}, steps=2
    )
    with pytest.raises(Diverged, match=rf"the {part} loss is (inf|nan) at step 2; lower optimizer\.learning_rate"):
        train(far, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "result.json").exists()


def test_what_other_hands_did_to_the_folder_is_told_or_made_good(tmp_path):
    run = tmp_path / "run"
    result = train(config(steps=2), run, quiet=True)
    before = (run / "result.json").read_text("utf-8")
    for garbage in ("{", "[]", '{"step": 2, "validation": 3, "test": null}'):
        (run / "result.json").write_text(garbage, "utf-8")
        assert resume(run, quiet=True).test == result.test
        assert (run / "result.json").read_text("utf-8") == before
    for garbage in ("no line", '{"step": []}', "[3]"):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(f"{garbage}\n")
        with pytest.raises(RunError, match=r"metrics.jsonl:2: is not a line that training wrote; remove it"):
            resume(run, quiet=True)
        (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text("utf-8").replace(f"{garbage}\n", ""))


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    pytest.importorskip("fcntl", reason="folders are locked on POSIX systems only")
    train(config(steps=2), tmp_path / "run", quiet=True)
    message = "run: another process is training in this folder; wait for it, or stop it first"
    with RunFolder.open(tmp_path / "run").locked(), pytest.raises(RunError, match=message):
        resume(tmp_path / "run", quiet=True)
    resume(tmp_path / "run", quiet=True)


def test_a_signal_before_the_first_step_is_served_with_the_hint(tmp_path, monkeypatch):
    first = plan.first_state

    def slow(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return first(*args, **options)

    monkeypatch.setattr(plan, "first_state", slow)
    with pytest.raises(Interrupted, match=r"stopped at step 1; continue by: lstmjax train --resume "):
        train(config(), tmp_path / "run", quiet=True)


class Terminal(io.StringIO):
    """A terminal, as far as it is asked."""

    def isatty(self):
        return True


class Broken(Terminal):
    """A pipe whose reader went away."""

    def write(self, text):
        raise BrokenPipeError


RECORD = {
    "step": 1, "train": {"loss": 1.0, "accuracy": 0.5}, "validation": {"loss": 2.0, "accuracy": 0.25},
    "steps_per_second": 9.0,
}  # fmt: skip


@pytest.mark.parametrize("stream", [None, Broken()], ids=["closed", "broken"])
def test_progress_that_nobody_reads_stops_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress(3) as shown:
        shown.say("begin")
        shown.step(lambda: RECORD["train"])
        shown.validated(RECORD)
        shown.step(lambda: RECORD["train"])
        assert shown._bar.n == (2 if stream else 0)


def test_a_narrow_terminal_shows_validation(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.Progress(1000) as shown:
        shown.validated(RECORD)
        shown.step(lambda: RECORD["train"])
        frame = shown._bar.format_meter(**shown._bar.format_dict | {"ncols": 80, "elapsed": 99.0})
    assert "val=0.2500" in frame
    assert len(frame) <= 80
    assert "step 1/1000  loss 1.0000  accuracy 0.5000  validation accuracy 0.2500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "loss", "shape"),
    [
        pytest.param("word", "softmax", (40, 2), marks=pytest.mark.thorough),
        pytest.param("switch", "sigmoid", (40, 2), marks=pytest.mark.thorough),
        pytest.param("number", "linear", (40, 1), marks=pytest.mark.thorough),
        ("class_each_step", "softmax", (40, 6, 2)),
        pytest.param("number_each_step", "linear", (40, 6, 1), marks=pytest.mark.thorough),
    ],
)
def test_every_loss_learns_from_ragged_files(tmp_path, target, loss, shape):
    x, y, lengths = write_sequences(tmp_path / "a.npz", target=target)
    settings = config(
        data={"source": str(tmp_path / "a.npz"), "normalize": "standardize"}, loss={"name": loss}, steps=100,
        evaluate_every=50, optimizer={"learning_rate": 0.03},
    )  # fmt: skip
    result = train(settings, tmp_path / "run", quiet=True)
    records = lines(tmp_path / "run")
    assert records[1]["train"]["loss"] < 0.8 * records[0]["train"]["loss"]
    prediction = predict(load_run(tmp_path / "run"), x, lengths)
    assert prediction.outputs.shape == shape
    # Padding changes nothing, a file's own metric is what NumPy counts.
    other = predict(result.trained, np.where(np.arange(6)[None, :, None] < lengths[:, None, None], x, 1e6), lengths)
    valid = np.arange(6) < lengths[:, None] if len(shape) == 3 else slice(None)
    np.testing.assert_array_equal(prediction.outputs[valid], other.outputs[valid])
    if loss == "softmax":
        found = np.mean(prediction.classes[valid] == y.astype(str)[valid])
    elif loss == "sigmoid":
        found = np.mean((prediction.outputs > 0.5) == y)
    else:
        found = np.mean((prediction.outputs.squeeze(-1)[valid] - y.reshape(shape[:-1])[valid]) ** 2)
    metric = evaluate(result.trained, labelled(str(tmp_path / "a.npz"), result.trained.about, loss))
    assert metric[LOSSES[loss].metric] == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"dtype": "bfloat16"}, marks=pytest.mark.thorough),
        pytest.param({"dtype": "float64", "param_dtype": "float64"}, marks=pytest.mark.thorough),
        {"projection_size": 2, "bias": "double", "layers": 2, "residual": True},
        pytest.param(
            {"bidirectional": True, "merge": "sum", "init": "torch", "bias": None}, marks=pytest.mark.thorough
        ),
    ],
    ids=["bfloat16", "float64", "projection", "sum"],
)
def test_every_model_trains_and_comes_back(tmp_path, model):
    result = train(config(model=model, steps=2), tmp_path / "run", quiet=True)
    found = load_run(tmp_path / "run")
    same_params(found.params, result.trained.params)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(found.params)} == {model.get("param_dtype", "float32")}
    assert np.isfinite(result.validation["loss"])


def test_another_cell_trains_and_comes_back(tmp_path):
    result = train(config(model={"cell": "peephole"}, steps=2), tmp_path / "run", quiet=True)
    found = load_run(tmp_path / "run")
    assert result.parameters == 4 * (8 * 4 + 4 * 4 + 4) + 3 * 4 + 4 * 10 + 10
    assert np.all(found.params.layers[0].w_c)
    xs = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    _, expected = network(found.params, xs, cell="peephole")
    np.testing.assert_array_equal(logits_of(found.params, xs, model=found.config.model), expected)


def test_a_run_from_before_there_was_a_choice_of_cells_goes_on(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole.run_dir, run)
    text = (run / "config.yaml").read_text("utf-8")
    assert "  cell: vanilla\n" in text
    (run / "config.yaml").write_text(text.replace("  cell: vanilla\n", ""), "utf-8")
    same_params(load_run(run).params, whole.trained.params)
    assert resume(run, quiet=True).test == whole.test


def test_a_model_that_makes_no_sense_is_told_before_any_work(tmp_path):
    wrong = config(model={"bidirectional": True, "residual": True, "layers": 2})
    with pytest.raises(ConfigError, match=r"^model.residual does not go with model.bidirectional for a label per seq"):
        train(wrong, tmp_path / "run", quiet=True)
    for cell in ("nfg", "no_forget_gate"):
        with pytest.raises(ConfigError, match=f"model: forget_bias is 1.0, but the cell '{cell}' has no forget gate"):
            train(config(model={"cell": cell, "forget_bias": 1.0}), tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="epochs is 2000000000, which makes 286000000000 steps; they should be less"):
        train(config(epochs=2 * 10**9, steps=None), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_shifts_move_the_image_and_nothing_else():
    x = np.random.default_rng(0).normal(size=(50, 4, 5)).astype(np.float32)
    moved = np.asarray(shifted(jax.random.key(3), jnp.asarray(x), 1))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    places = set()
    for n in range(len(x)):
        fits = [(a, b) for a, b in product(range(3), repeat=2) if (padded[n, a : a + 4, b : b + 5] == moved[n]).all()]
        assert len(fits) == 1
        places.update(fits)
    assert len(places) == 9  # all of them, the middle one too


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_goes_downhill(name):
    rule = make_optimizer(Optimizer(name=name, learning_rate=0.02, momentum=0.5), 100)
    x = jnp.array([1.5, -2.0, 0.7])
    state, update = rule.init(x), jax.jit(rule.update)
    for _ in range(100):
        updates, state = update(2 * x, state, x)
        x = optax.apply_updates(x, updates)
    assert float(jnp.square(x).sum()) < 0.2 * (1.5**2 + 2.0**2 + 0.7**2)


def test_adamw_is_that_of_optax():
    ours = make_optimizer(Optimizer(learning_rate=0.01, weight_decay=0.1), 10)
    theirs = optax.adamw(0.01, weight_decay=0.1)
    x = {"w": jnp.array([1.5, -2.0])}
    one, other = ours.init(x), theirs.init(x)
    for n in range(4):
        gradient = {"w": jnp.array([0.3 * n, -1.0])}
        a, one = ours.update(gradient, one, x)
        b, other = theirs.update(gradient, other, x)
        np.testing.assert_allclose(a["w"], b["w"], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_adam_keras_is_its_formula():
    """By gradients of the size of ε; against Keras itself in test_training_replica."""
    gradients = np.random.default_rng(0).normal(size=(6, 4)) * np.array([1e-9, 1e-7, 1e-5, 1.0])
    rule = make_optimizer(Optimizer(name="adam_keras", learning_rate=0.01), 10)
    state, m, v = rule.init(jnp.zeros(4)), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        updates, state = rule.update(jnp.asarray(gradient), state)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = -0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        np.testing.assert_allclose(updates, expected, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_rise_and_end_where_they_should(name):
    schedule = make_schedule(Optimizer(learning_rate=0.5, schedule=name, warmup_steps=4, final_fraction=0.1), 20)
    values = [float(schedule(step)) for step in range(21)]
    np.testing.assert_allclose(values[:5], [0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-6)
    ends = {"constant": 0.5, "cosine": 0.05, "linear": 0.05}
    assert values[20] == pytest.approx(ends[name], rel=1e-5)
    with pytest.raises(ConfigError, match="warmup_steps is 4, but there are only 4 training steps"):
        make_schedule(Optimizer(warmup_steps=4), 4)


def test_losses_are_their_formulas():
    random = np.random.default_rng(0)
    logits = random.normal(size=(7, 3)).astype(np.float32)
    y = random.integers(0, 3, 7)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = 0.8 * np.eye(3)[y] + 0.2 / 3
    np.testing.assert_allclose(LOSSES["softmax"].value(logits, y, 0.2), -(target * np.log(p)).sum(axis=1), rtol=1e-5)
    z = random.integers(0, 2, (7, 3)).astype(np.float32)
    s = 1 / (1 + np.exp(-logits.astype(np.float64)))
    soft = 0.8 * z + 0.1
    expected = -(soft * np.log(s) + (1 - soft) * np.log(1 - s)).mean(axis=1)
    np.testing.assert_allclose(LOSSES["sigmoid"].value(jnp.asarray(logits), jnp.asarray(z), 0.2), expected, rtol=1e-5)
    np.testing.assert_allclose(
        LOSSES["linear"].value(jnp.asarray(logits), jnp.asarray(z), 0.0), ((logits - z) ** 2).mean(axis=1), rtol=1e-5
    )


def test_training_only_changes_what_draws(whole):
    params, model = whole.trained.params, whole.trained.config.model
    xs = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    still, again = (logits_of(params, xs, model=model) for _ in range(2))
    np.testing.assert_array_equal(still, again)
    assert not np.allclose(still, logits_of(params, xs, model=model, key=jax.random.key(0)), atol=1e-3)


@pytest.mark.slow
def test_five_seeds_reach_the_floor(tmp_path):
    settings = load_config(Path(__file__).parent.parent / "configs" / "digits.yaml")
    runs = [train(settings.model_copy(update={"seed": s}), tmp_path / str(s), quiet=True) for s in range(5)]
    assert np.mean([run.test["accuracy"] for run in runs]) >= 0.97
