"""The search for values: its file, its trials, its end, and kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from training import config, lines, write_sequences

from lstmjax.cli import main
from lstmjax.config import ConfigError, dump_config, load_config
from lstmjax.runs import RunError
from lstmjax.training import sweep as sweeps
from lstmjax.training.sweep import resume_sweep, sweep
from lstmjax.training.sweep_space import candidate, check_space, parse_space

pytestmark = [pytest.mark.usefixtures("promotion", "no_curves")]
SPACE = {
    "trials": 5, "startup_trials": 2, "seed": 3,
    "search": {
        "optimizer.learning_rate": {"low": 0.01, "high": 0.09, "step": 0.08},  # few programs are compiled
        "model.hidden_size": {"low": 3, "high": 4},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_sequences(folder / "a.npz", n=80, ragged=False)
    return config(data={"source": str(folder / "a.npz")}, steps=12)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """A sweep from its beginning to its end, as its folder and its lines."""
    pytest.importorskip("optuna")
    import jax

    folder = tmp_path_factory.mktemp("sweep") / "one"
    with jax.numpy_dtype_promotion("standard"):
        return folder, list(sweep(settings, parse_space(SPACE), folder))


def trials_of(folder):
    import optuna

    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'sweep.db'}")
    return [(trial.params, trial.state.name, trial.value, trial.intermediate_values) for trial in study.get_trials()]


def test_trials_are_runs_and_the_best_one_is_printed(whole, settings):
    folder, shown = whole
    trials = trials_of(folder)
    assert len(trials) == 5
    states = [state for _, state, _, _ in trials]
    assert {"COMPLETE", "PRUNED"} >= set(states)
    values = {}
    for n, (params, state, value, reported) in enumerate(trials):
        run = folder / f"trial-{n}"
        saved = load_config(run / "config.yaml")
        assert saved.optimizer.learning_rate == params["optimizer.learning_rate"]
        assert saved.model.hidden_size == params["model.hidden_size"]
        of_run = {line["step"]: line["validation"]["accuracy"] for line in lines(run)}
        assert reported == of_run
        assert (max(of_run) < 12) == (state == "PRUNED")
        if state == "COMPLETE":
            assert value == max(of_run.values())
            values[n] = value
    best = next(n for n, value in values.items() if value == max(values.values()))
    assert shown[-1] == f"best trial {best}, validation accuracy {values[best]:.4f}"
    printed = yaml.safe_load(
        "\n".join(shown[shown.index(next(s for s in shown if s.startswith("configuration"))) + 1 : -1])
    )
    assert printed["model"]["hidden_size"] == trials[best][0]["model.hidden_size"]


@pytest.mark.thorough
def test_trials_that_are_worse_than_the_median_are_pruned(tmp_path):
    """With step sizes of next to nothing and some that learn; the error is better when it is low."""
    pytest.importorskip("optuna")
    write_sequences(tmp_path / "a.npz", ragged=False, target="number")
    settings = config(data={"source": str(tmp_path / "a.npz")}, loss={"name": "linear"}, steps=12)
    rates = [1e-9, 0.05]
    space = parse_space({"trials": 4, "startup_trials": 2, "search": {"optimizer.learning_rate": rates}})
    shown = list(sweep(settings, space, tmp_path / "one"))
    trials = trials_of(tmp_path / "one")
    pruned = [n for n, (_, state, _, _) in enumerate(trials) if state == "PRUNED"]
    assert [params["optimizer.learning_rate"] for params, *_ in trials[:3]] == [0.05, 0.05, 1e-9]
    assert pruned == [2]
    assert all("pruned: worse than the median" in shown[1 + n] for n in pruned)
    assert all(lines(tmp_path / "one" / f"trial-{n}")[-1]["step"] < 12 for n in pruned)
    lowest = min(value for _, state, value, _ in trials if state == "COMPLETE")
    assert shown[-1].endswith(f"validation mse {lowest:.4f}")


@pytest.mark.thorough
def test_it_goes_on_exactly_after_a_kill(whole, settings, tmp_path):
    folder = tmp_path / "one"
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False), encoding="utf-8")
    code = "import sys; from lstmjax.cli import main; sys.exit(main())"
    words = ["sweep", str(tmp_path / "c.yaml"), str(tmp_path / "s.yaml"), "--run-dir", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}, cwd=Path(__file__).parent,
    )  # fmt: skip
    third = folder / "trial-2" / "metrics.jsonl"
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        if third.exists() and third.read_text("utf-8").count("\n") >= 2:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    shown = list(resume_sweep(folder))
    assert trials_of(folder) == trials_of(whole[0])
    assert shown[-1] == whole[1][-1]


def test_it_can_get_more_trials_by_the_command(settings, tmp_path, capsys):
    pytest.importorskip("optuna")
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SPACE | {"trials": 1}), encoding="utf-8")
    words = ["sweep", str(tmp_path / "c.yaml"), str(tmp_path / "s.yaml"), "--run-dir", str(tmp_path / "one")]
    assert main(words) == 0
    assert main(["sweep", "--resume", str(tmp_path / "one"), "--trials", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in shown if line.startswith("trial ")] == ["trial 0", "trial 1"]
    assert shown[-1].startswith("best trial ")
    assert main(["sweep", str(tmp_path / "c.yaml")]) == 2
    assert "sweep takes CONFIG and SPACE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"optimizer.lerning_rate": [1e-3]}, "unknown key; did you mean optimizer.learning_rate?"),
        ({"learning_rate": [1e-3]}, "unknown key; did you mean optimizer.learning_rate?"),
        ({"model": [1]}, "search.model: unknown key"),
        ({"steps": [10, 20]}, "search.steps: it cannot be searched"),
        ({"model.layers": 3}, r"search.model.layers is 3; it should be a list"),
        ({"model.layers": []}, "search.model.layers is an empty list"),
        ({"model.layers": [1, 2, 1]}, "search.model.layers names a value twice"),
        ({"model.layers": {"low": 3, "high": 2}}, "low is 3 and high is 2"),
        ({"model.layers": {"low": 1}}, "search.model.layers: high is"),
        ({"model.layers": {"low": 1, "hihg": 2}}, "unknown key hihg; did you mean high?"),
        ({"model.dropout": {"low": 0.0, "high": 0.5, "log": True}}, "has no logarithm"),
        ({"model.dropout": {"low": 0.1, "high": 0.5, "log": True, "step": 0.1}}, "log and step do not go together"),
        ({}, "search names no key"),
    ],
)
def test_a_space_is_checked(search, said):
    with pytest.raises(ConfigError, match=said.replace("?", r"\?").replace("(", r"\(")):
        parse_space({"search": search}, "s.yaml")


def test_values_that_the_configuration_refuses_are_refused_before_any_trial(settings, tmp_path):
    space = parse_space({"search": {"model.dropout": {"low": 0.5, "high": 1.5}}})
    with pytest.raises(ConfigError, match=r"search\.model\.dropout 1\.5: model\.dropout is 1\.5"):
        check_space(space, settings)
    with pytest.raises(ConfigError, match="unknown key trails; did you mean trials"):
        parse_space({"trails": 3, "search": {"model.layers": [1]}}, "s.yaml")
    assert candidate(settings, {"model.layers": 2}).model.layers == 2
    with pytest.raises(RunError, match=r"has no base\.yaml, so it is no sweep"):
        list(resume_sweep(tmp_path))


def test_without_optuna_the_extra_is_named(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'lstmjax\[sweep\]'"):
        list(sweeps.sweep(settings, parse_space(SPACE), tmp_path / "one"))
    assert not (tmp_path / "one").exists()
