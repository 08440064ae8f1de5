import csv
import dataclasses
import io
import signal
import subprocess
import sys

import numpy as np
import pytest
from tolerances import assert_close
from training import config, write_sequences

from lstmjax import __version__
from lstmjax.cli import main
from lstmjax.cli.commands import Train
from lstmjax.cli.parsing import parse
from lstmjax.config import dump_config, load_config, parse_config
from lstmjax.convert import load_weights
from lstmjax.training import progress
from lstmjax.training.reading import load_run

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture
def settings(tmp_path):
    """A configuration file that learns from words on ragged data, with a test part."""
    write_sequences(tmp_path / "a.npz", target="word")
    write_sequences(tmp_path / "b.npz", target="word", seed=4)
    path = tmp_path / "words.yaml"
    data = {"source": str(tmp_path / "a.npz"), "test": str(tmp_path / "b.npz"), "normalize": "standardize"}
    path.write_text(dump_config(config(data=data)), encoding="utf-8")
    return path


def test_train_evaluate_and_predict(settings, tmp_path, capsys):
    run = tmp_path / "run"
    assert (
        main(["train", str(settings), "--run-dir", str(run), "--seed", "3", "--optimizer.learning-rate", "2e-3"]) == 0
    )
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith("test accuracy 0.")
    assert len(shown[-1]) == len("test accuracy 0.1234")
    assert f"run folder {run}" in shown
    assert f"parameters {4 * (3 * 4 + 4 * 4 + 4) + 4 * 2 + 2}" in shown
    saved = load_config(run / "config.yaml")
    assert (saved.seed, saved.optimizer.learning_rate, saved.batch_size) == (3, 2e-3, 8)

    assert main(["evaluate", str(run)]) == 0
    evaluated = capsys.readouterr().out.splitlines()
    assert evaluated[-1] == shown[-1]
    assert main(["evaluate", str(run), "--data", str(tmp_path / "b.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == shown[-1].replace("test", "b.npz")

    kept = tmp_path / "kept.npz"
    assert main(["convert", str(run), str(kept)]) == 2
    said = f"lstmjax: {run}: holds more than LSTM layers and a head: the scale of its inputs. Pass --extra drop"
    assert capsys.readouterr().err.startswith(said)
    assert main(["convert", str(run), str(kept), "--extra", "drop"]) == 0
    assert f"{run}: run folder" in capsys.readouterr().out.splitlines()
    assert_close(load_weights(kept), load_run(run).params)

    assert main(["predict", str(run), str(tmp_path / "b.npz")]) == 0
    text = capsys.readouterr().out
    rows = list(csv.DictReader(text.splitlines()))
    y = np.load(tmp_path / "b.npz")["y"]
    right = np.mean([row["class"] == word for row, word in zip(rows, y, strict=True)])
    assert f"test accuracy {right:.4f}" == shown[-1]
    says = np.array([row["class"] for row in rows])
    for word in ("down", "up"):
        found = [line.split()[1:] for line in evaluated if line.split()[0] == word]
        right = ((says == word) & (y == word)).sum()
        f1 = 2 * right / ((says == word).sum() + (y == word).sum())
        scores = [right / (y == word).sum(), right / (says == word).sum(), f1]
        assert found[0] == [str((y == word).sum()), *(f"{value:.4f}" for value in scores)]
        assert found[-1] == [str(((y == word) & (says == other)).sum()) for other in ("down", "up")]
    assert all(float(row["p_up"]) + float(row["p_down"]) == pytest.approx(1.0, abs=1e-5) for row in rows)

    assert main(["predict", str(run), str(tmp_path / "b.npz"), "--out", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text("utf-8") == text
    assert main(["predict", str(run), str(tmp_path / "b.npz"), "--out", str(tmp_path / "p.npz")]) == 0
    written = np.load(tmp_path / "p.npz")
    assert written["classes"].tolist() == [row["class"] for row in rows]
    assert written["outputs"].shape == (40, 2)
    assert capsys.readouterr().out == (
        f"40 predictions written to {tmp_path / 'p.csv'}\n40 predictions written to {tmp_path / 'p.npz'}\n"
    )

    # An NPY file or a CSV without labels says the same.
    x, lengths = np.load(tmp_path / "b.npz")["x"], np.load(tmp_path / "b.npz")["lengths"]
    table = ["sequence,step,a,b,c"]
    table += [f"s{n},{t},{','.join(map(repr, map(float, x[n, t])))}" for n in range(9) for t in range(lengths[n])]
    (tmp_path / "c.csv").write_text("\n".join(table), "utf-8")
    assert main(["predict", str(run), str(tmp_path / "c.csv")]) == 0
    found = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["sequence"] for row in found] == [f"s{n}" for n in range(9)]
    assert [row["class"] for row in found] == [row["class"] for row in rows[:9]]
    np.save(tmp_path / "one.npy", x[5, : lengths[5]])
    assert main(["predict", str(run), str(tmp_path / "one.npy")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split(",")[1] == rows[5]["class"]

    before = (tmp_path / "c.csv").read_bytes()
    for words, message in (
        (
            ["predict", str(run), str(tmp_path / "c.csv"), "--out", f"{tmp_path}/./c.csv"],
            "c.csv: is the file that is read",
        ),
        (["predict", str(run), str(tmp_path / "one.npy"), "--out", "p.txt"], "p.txt: unknown kind of file to write"),
        (["evaluate", str(run), "--data", str(tmp_path / "d.npz")], "no such file"),
        (["train", str(settings), "--run-dir", str(run)], f"not empty; continue it by --resume {run}"),
        (["train", "--resume", str(run), "--seed", "4"], "for other values start a new run"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "c.csv").read_bytes() == before
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.thorough
def test_ctrl_c_saves_and_says_where(settings, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "step", lambda self, now: signal.raise_signal(signal.SIGTERM))
        assert main(["train", str(settings), "--run-dir", str(run)]) == 143
        assert f"lstmjax: stopped at step 1; continue by: lstmjax train --resume {run}" in capsys.readouterr().err
        patch.setattr(progress.Progress, "step", lambda self, now: signal.raise_signal(signal.SIGINT))
        assert main(["train", "--resume", str(run)]) == 130
        assert "lstmjax: stopped at step 2; continue by: lstmjax train --resume" in capsys.readouterr().err
    assert main(["train", "--resume", str(run)]) == 0
    assert "test accuracy 0." in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train"], "train takes a CONFIG file, such as configs/digits.yaml, or --resume RUN: one of the two"),
        (["train", "a.yaml", "--resume", "runs/a"], "one of the two"),
        (["train", "a.yaml", "b.yaml"], "one of the two"),
        (["train", "wrods.yaml"], "wrods.yaml: no such file; did you mean words.yaml?"),
        (["train", "words.yaml", "--batch-size", "-3"], "command line: batch_size is -3; it should be greater"),
        (["train", "words.yaml", "--model.dropout", "1.5"], "command line: model.dropout is 1.5; it should be less"),
        (["train", "words.yaml", "--batch-size", "500"], "batch_size is 500, but only 32 sequences train"),
        (["train", "words.yaml", "--data.shift", "1"], "data.shift is 1, but"),
        (
            ["train", "words.yaml", "--model.cell", "nfg", "--model.forget-bias", "1"],
            "model: forget_bias is 1.0, but the",
        ),
        (["train", "words.yaml", "--metrics", "accuracy", "auc"], "so write several with commas: --metrics acc"),
        (["train", "words.yaml", "--metrics", "[acc]"], "metrics has 'acc', but"),
        (["train", "words.yaml", "--data.test", "c.npz"], "c.npz: no such file"),
        (
            ["train", "--resume", "nowhere"],
            "nowhere: no such run folder; lstmjax train creates one and prints its path",
        ),
        (["evaluate", "nowhere"], "nowhere: no such run folder"),
        (["predict", ".", "a.npz"], ".: has no config.yaml, so it is not a run folder"),
        (["shapes", "--input", "0", "--hidden", "4"], "input"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(settings, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("lstmjax: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-sise", "3"], "--batch-size"),
        (["--model.hidden-size", "big"], "--model.hidden-size"),
        (["--optimizer.name", "adma"], "'adamw'"),
    ],
)
def test_an_option_that_is_none_is_told_with_the_nearest(settings, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(["train", str(settings), *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_words_of_the_command_line_are_those_of_the_file(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(
        "epochs: 9\nmodel: {hidden_size: 4, bidirectional: true}\noptimizer: {clip_norm: 1.0}\n", "utf-8"
    )
    words = ["--steps", "2", "--model.bidirectional", "false", "--optimizer.clip-norm=null", "--model.residual", "True"]
    words += ["--model.cell", "peephole"]
    assert main(["train", str(tmp_path / "a.yaml"), "--run-dir", str(tmp_path / "run"), *words]) == 0
    saved = load_config(tmp_path / "run" / "config.yaml")
    assert (saved.steps, saved.epochs) == (2, None)
    assert (saved.model.bidirectional, saved.optimizer.clip_norm, saved.model.residual) == (False, None, True)
    assert saved.model.cell == "peephole"


@pytest.mark.parametrize(
    ("words", "section", "value"),
    [
        ("--loss.class-weights balanced", "class_weights", "balanced"),
        ("--loss.class-weights up=3,down=0.5", "class_weights", {"up": 3.0, "down": 0.5}),
        ("--loss.class-weights={up:3,x=y:2}", "class_weights", {"up": 3.0, "x=y": 2.0}),
        ("--loss.class-weights null", "class_weights", None),
        ("--loss.name quantile --loss.class-weights None --loss.quantiles 0.1,0.5", "quantiles", (0.1, 0.5)),
        ("--loss.name quantile --loss.class-weights None --loss.quantiles [0.1,.5]", "quantiles", (0.1, 0.5)),
        ("--metrics [accuracy,auc]", "metrics", ("accuracy", "auc")),
    ],
)
def test_lists_and_weights_are_one_word(tmp_path, words, section, value):
    file = tmp_path / "a.yaml"
    file.write_text("epochs: 9\nloss: {class_weights: {up: 2.0}}\n", "utf-8")
    values = parse(Train, "train", [str(file), *words.split()]).values
    parsed = parse_config(dataclasses.asdict(values), "command line")
    assert (getattr(parsed, section) if section == "metrics" else getattr(parsed.loss, section)) == value


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lstmjax {__version__}\n"
    assert main(["--help"]) == 0
    assert "train --resume RUN" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in ("--run-dir", "--resume", "--seed", "--optimizer.learning-rate", "--model.bidirectional", "CONFIG"):
        assert word in shown


def test_shapes_are_printed(capsys):
    assert main(["shapes", "--input", "5", "--hidden", "256", "--output", "10", "--time", "100", "--batch", "32"]) == 0
    assert "268,288" in capsys.readouterr().out
    assert main(["shapes", "--input", "5", "--hidden", "10", "--cell", "cifg"]) == 0
    assert "3·(I·H + H·H + H) + 2·H = 500 parameters" in capsys.readouterr().out
    assert main(["shapes", "--input", "5", "--hidden", "10", "--bias", "double"]) == 0
    assert "680" in capsys.readouterr().out


def test_a_terminal_without_the_letters_shows_them_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["shapes", "--input", "5", "--hidden", "4"]) == 0
    assert b"x \\xb7 w_x" in out.buffer.getvalue()


def test_a_reader_that_went_away_is_no_failure_of_ours(monkeypatch, capsys):
    class Broken(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Broken())
    assert main(["--version"]) == 141
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["--version"]) == 0
    assert capsys.readouterr().err == ""


def test_what_is_logged_and_what_is_warned_look_alike(tmp_path):
    script = tmp_path / "both.py"
    script.write_text(
        "import logging, sys, warnings\n"
        "import lstmjax.cli as cli\n"
        "from lstmjax.__main__ import main\n"
        "logging.basicConfig()\n"  # as other libraries do
        "def warn(words):\n"
        "    logging.getLogger('lstmjax').warning('a %s', 'word')\n"
        "    warnings.warn('another')\n"
        "    return 0\n"
        "cli._run = warn\n"
        "sys.exit(main())\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["lstmjax: warning: a word", "lstmjax: warning: another"]
