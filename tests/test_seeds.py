"""Several seeds in one command: each is the run alone, by one program or one after the other, through kills."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_close
from training import config, lines, same_params, stop_at, write_sequences

from lstmjax.cli import main
from lstmjax.config import ConfigError, dump_config
from lstmjax.runs import RunError
from lstmjax.training import Diverged, Interrupted, load_run, train
from lstmjax.training.seeds import resume_seeds, train_seeds

pytestmark = pytest.mark.usefixtures("promotion", "no_curves")
SEEDS = (4, 5, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_sequences(folder / "even.npz", ragged=False)
    write_sequences(folder / "ragged.npz", t=30)
    return folder


def settings(folder, name="even", **sections):
    """Dropout, an average and early stopping: all that depends on the seed or adds to the state."""
    return config(
        data={"source": str(folder / f"{name}.npz")}, seed=4, steps=12, evaluate_every=3,
        model={"dropout": 0.2, "recurrent_dropout": 0.1}, average={"decay": 0.8}, **sections,
    )  # fmt: skip


@pytest.fixture(scope="module")
def together(folder, tmp_path_factory):
    import jax

    with jax.numpy_dtype_promotion("standard"):
        return train_seeds(settings(folder), 3, tmp_path_factory.mktemp("together") / "runs", quiet=True)


def test_one_program_trains_what_each_seed_alone_does(together, folder, tmp_path):
    assert together.way == "3 seeds, trained by one program"
    assert tuple(together.results) == SEEDS
    seen = set()
    for seed in SEEDS:
        alone = train(settings(folder).model_copy(update={"seed": seed}), tmp_path / str(seed), quiet=True)
        one = together.results[seed]
        assert one.run_dir == together.folder / f"seed-{seed}"
        assert_close(one.trained.params, alone.trained.params)
        assert one.step == alone.step
        assert one.validation == pytest.approx(alone.validation, rel=1e-5)
        assert [line["step"] for line in lines(one.run_dir)] == [line["step"] for line in lines(alone.run_dir)]
        assert load_run(one.run_dir).config.seed == seed
        seen.add(float(np.asarray(alone.trained.params.head.w)[0, 0]))
    assert len(seen) == 3


def test_language_models_of_several_seeds_are_those_of_each_alone(tmp_path):
    """The state that is carried belongs to each."""
    data = {"source": "fables", "text": "characters", "segment": 40}
    text = config(data=data, seed=4, steps=12, evaluate_every=6, model={"tie_weights": True, "weight_drop": 0.2})
    together = train_seeds(text, 2, tmp_path / "runs", quiet=True)
    assert together.way == "2 seeds, trained by one program"
    for seed, result in together.results.items():
        alone = train(text.model_copy(update={"seed": seed}), tmp_path / str(seed), quiet=True)
        assert_close(result.trained.params, alone.trained.params)
        assert result.validation == pytest.approx(alone.validation, rel=1e-5)


def test_the_lines_are_mean_spread_and_each(together):
    shown = list(together.lines())
    values = [result.validation["accuracy"] for result in together.results.values()]
    assert shown[0] == f"run folder {together.folder}"
    assert [line.split(":")[0] for line in shown[2:5]] == [f"seed {seed}" for seed in SEEDS]
    assert f"validation accuracy {values[0]:.4f}" in shown[2]
    mean = f"validation accuracy {statistics.mean(values):.4f} ± {np.std(values, ddof=1):.4f} (3 seeds,"
    assert shown[5].startswith(mean)


def test_they_go_on_exactly_after_a_signal(together, folder, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(Interrupted, match=f"lstmjax train --resume {runs}"):
            train_seeds(settings(folder), 3, runs, quiet=True)
    again = resume_seeds(runs, quiet=True)
    for seed in SEEDS:
        same_params(again.results[seed].trained.params, together.results[seed].trained.params)
        assert lines(again.results[seed].run_dir) == lines(together.results[seed].run_dir)


@pytest.mark.thorough
def test_they_go_on_exactly_after_a_kill(together, folder, tmp_path):
    runs = tmp_path / "runs"
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(settings(folder)), encoding="utf-8")
    code = "import sys; from lstmjax.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", str(path), "--seeds", "3", "--run-dir", str(runs)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": Path(__file__).parent}
    process = subprocess.Popen(command, **quiet, env=os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"})
    second = runs / "seed-5" / "metrics.jsonl"  # of the three the middle one: the last one lacks its checkpoint
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if second.exists() and second.read_text("utf-8").count("\n") >= 2:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    again = resume_seeds(runs, quiet=True)
    for seed in SEEDS:
        same_params(again.results[seed].trained.params, together.results[seed].trained.params)
        assert lines(again.results[seed].run_dir) == lines(together.results[seed].run_dir)


def test_a_run_that_is_a_step_ahead_waits_for_the_others(together, folder, tmp_path):
    import shutil

    runs = tmp_path / "runs"
    shutil.copytree(together.folder, runs)
    for path in runs.glob("seed-*/result.json"):
        path.unlink()
    shutil.rmtree(runs / "seed-5" / "checkpoints" / "12")
    again = resume_seeds(runs, quiet=True)
    for seed in SEEDS:
        same_params(again.results[seed].trained.params, together.results[seed].trained.params)


@pytest.mark.thorough
def test_buckets_are_trained_one_after_the_other(folder, tmp_path):
    ragged = settings(folder, "ragged")
    runs = train_seeds(ragged, 2, tmp_path / "runs", quiet=True)
    assert runs.way.startswith(
        "2 seeds, trained one after the other: batches of different seeds differ in their shapes"
    )
    alone = train(ragged.model_copy(update={"seed": 5}), tmp_path / "alone", quiet=True)
    same_params(runs.results[5].trained.params, alone.trained.params)
    assert resume_seeds(tmp_path / "runs", quiet=True).results[5].validation == alone.validation


@pytest.mark.thorough
def test_early_stopping_is_of_each_seed(folder, tmp_path):
    stopping = settings(folder, stopping={"patience": 2}).model_copy(update={"steps": 60})
    runs = train_seeds(stopping, 3, tmp_path / "runs", quiet=True)
    ends = [lines(result.run_dir)[-1]["step"] for result in runs.results.values()]
    alone = [
        lines(train(stopping.model_copy(update={"seed": seed}), tmp_path / str(seed), quiet=True).run_dir)[-1]["step"]
        for seed in SEEDS
    ]
    assert ends == alone
    assert min(ends) < 60


@pytest.mark.thorough
def test_seeds_that_all_diverge_are_reported(folder, tmp_path):
    wild = settings(folder, optimizer={"name": "sgd", "learning_rate": 3e38})
    runs = train_seeds(wild, 2, tmp_path / "runs", quiet=True)
    assert all(isinstance(result, Diverged) for result in runs.results.values())
    with pytest.raises(Diverged, match="diverged with every seed"):
        list(runs.lines())


def test_the_command_prints_the_mean_and_goes_on(folder, tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(settings(folder)), encoding="utf-8")
    runs = tmp_path / "runs"
    assert main(["train", str(path), "--seeds", "2", "--run-dir", str(runs)]) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[-1].startswith("validation accuracy 0.")
    assert "± " in first[-1]
    assert main(["train", "--resume", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first[-1]


def test_wrong_numbers_and_damage_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="--seeds is 0, expected 1 to 100"):
        train_seeds(settings(folder), 0, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "seeds.json").write_text(json.dumps({"seeds": 2}), encoding="utf-8")
    with pytest.raises(RunError, match=r"seeds\.json: is damaged"):
        resume_seeds(tmp_path)
