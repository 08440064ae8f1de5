"""The table and the picture of several runs."""

import json

import pytest
from training import config, write_sequences

from lstmjax.cli import main
from lstmjax.config import ConfigError
from lstmjax.runs import RunError
from lstmjax.training import Diverged, train
from lstmjax.training.compare import compare_runs, read_runs

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs that differ in two keys, one of them stopped, and one that diverged."""
    import jax

    folder = tmp_path_factory.mktemp("runs")
    write_sequences(folder / "a.npz", ragged=False)
    source = {"source": str(folder / "a.npz")}
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        for n, (rate, hidden) in enumerate([(1e-3, 4), (0.1, 4), (1e-3, 7)]):
            settings = config(data=source, optimizer={"learning_rate": rate}, model={"hidden_size": hidden}, steps=12)
            train(settings, folder / "group" / f"run-{n}", quiet=True)
        (folder / "group" / "run-2" / "result.json").unlink()
        wild = config(data=source, optimizer={"name": "sgd", "learning_rate": 3e38})
        with pytest.raises(Diverged):
            train(wild, folder / "wild", quiet=True)
    return folder


@pytest.mark.thorough
def test_the_table_has_each_run_the_best_first(runs):
    head, *lines = compare_runs(runs)
    assert head.split() == ["run", "status", "step", "best", "accuracy", "parameters", "hidden_size", "name",
                            "learning_rate", "steps"]  # fmt: skip
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert set(cells) == {"group/run-0", "group/run-1", "group/run-2", "wild"}
    result = json.loads((runs / "group" / "run-1" / "result.json").read_text("utf-8"))
    shown = ["trained", "12", f"{result['step']}", f"{result['validation']['accuracy']:.4f}"]
    assert cells["group/run-1"] == [*shown, f"{result['parameters']}", "4", "adamw", "0.1", "12"]
    assert cells["group/run-2"][0] == "stopped"
    assert cells["group/run-2"][4] == "–"  # parameters
    assert cells["wild"][0] == "diverged"
    accuracies = [float(line.split()[4]) for line in lines if line.split()[4] != "–"]
    assert accuracies == sorted(accuracies, reverse=True)
    assert lines[-1].split()[0] == "wild"


def test_runs_are_sorted_by_a_metric_that_is_better_when_low(runs):
    _, *lines = compare_runs(runs, "loss")
    losses = [float(line.split()[4]) for line in lines if line.split()[4] != "–"]
    assert losses == sorted(losses)
    assert len(set(losses)) == 3


def test_the_command_draws_a_picture(runs, tmp_path, capsys):
    picture = tmp_path / "runs.svg"
    assert main(["runs", str(runs), "--plot", str(picture)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{picture}: accuracy of validation over the steps of 3")
    assert "<svg" in picture.read_text("utf-8")


def test_a_run_that_trains_is_running(runs):
    from lstmjax.runs import RunFolder

    with RunFolder.open(runs / "group" / "run-0").locked():
        assert {row.name: row.status for row in read_runs(runs)}["group/run-0"] == "running"


def test_a_damaged_run_is_left_out_with_a_warning(runs, tmp_path, caplog):
    import shutil

    shutil.copytree(runs / "group", tmp_path / "group")
    (tmp_path / "group" / "run-0" / "config.yaml").write_text("model: {hiden_size: 3}\nsteps: 1\n", encoding="utf-8")
    assert [row.name for row in read_runs(tmp_path)] == ["group/run-1", "group/run-2"]
    assert "unknown key model.hiden_size" in caplog.text


def test_what_cannot_be_listed_is_refused(runs, tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        read_runs(tmp_path / "none")
    with pytest.raises(RunError, match="has no run in it"):
        read_runs(tmp_path)
    with pytest.raises(ConfigError, match="--metric is 'mae', but these runs have accuracy, loss"):
        list(compare_runs(runs, "mae"))
    with pytest.raises(ConfigError, match=r"--plot is x\.gif, expected a name that ends in \.png"):
        list(compare_runs(runs, plot=tmp_path.__class__("x.gif")))
