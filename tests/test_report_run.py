"""The page of a run, by `lstmjax inspect`; what is on a page of arrays is tested in test_report.py."""

import jax
import numpy as np
import pytest
from pages import data_of, unpacked
from training import config, write_sequences

from lstmjax.cli import main
from lstmjax.config import dump_config
from lstmjax.training import learning, load_run, predict

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that learned words from ragged sequences in units of their own, with a test part."""
    folder = tmp_path_factory.mktemp("run")
    write_sequences(folder / "a.npz", target="word")
    write_sequences(folder / "b.npz", target="word", seed=4)
    data = {"source": str(folder / "a.npz"), "test": str(folder / "b.npz"), "normalize": "standardize"}
    (folder / "words.yaml").write_text(dump_config(config(data=data)), encoding="utf-8")
    with jax.numpy_dtype_promotion("standard"):
        assert main(["train", str(folder / "words.yaml"), "--run-dir", str(folder / "r <b>")]) == 0
    return folder / "r <b>"


def test_inspect_writes_a_page_of_the_runs_test_part(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["inspect", str(run), "--out", str(out), "--examples", "3"]) == 0
    text = out.read_text("utf-8")
    assert (
        capsys.readouterr().out
        == f"3 of 40 sequences of the test part shown\n{len(text) / 1e6:.2f} MB written to {out}\n"
    )
    assert "<title>r &lt;b&gt;</title>" in text
    tree = data_of(text)
    assert [example["name"].split()[0] for example in tree["examples"]] == ["test"] * 3
    labels = [tree["outputs"][example["target"]] for example in tree["examples"]]
    assert sorted(labels[:2]) == ["down", "up"]
    assert tree["examples"][-1]["why"] == "the largest loss"
    raw = np.load(run.parent / "b.npz")
    row = int(tree["examples"][0]["name"].split()[1])
    shown, _ = unpacked(tree["examples"][0]["input"])
    assert np.abs(shown - raw["x"][row, : raw["lengths"][row]]).max() <= 1e-5  # in the file's units
    assert tree["curves"]["steps"] == [2, 4, 6]
    assert [panel["name"] for panel in tree["curves"]["panels"]] == ["loss", "accuracy"]
    assert tree["remembers"][0]["question"] == "class up"
    aucs = [auc for _, _, auc in tree["remembers"][0]["ranking"]]
    assert len(aucs) == 4
    assert aucs == sorted(aucs, reverse=True)
    assert any(fact.startswith("test accuracy 0.") for fact in tree["facts"])


def test_a_run_is_shown_with_its_command_and_beside_another_and_as_it_learned(run, tmp_path, capsys):
    other = tmp_path / run.name  # in another folder
    with jax.numpy_dtype_promotion("standard"):
        words = ["--seed", "5", "--keep-every", "2", "--model.hidden-size", "3"]
        assert main(["train", str(run / "config.yaml"), "--run-dir", str(other), *words]) == 0
    capsys.readouterr()
    out = tmp_path / "both.html"
    assert main(["inspect", str(other), "--compare", str(run), "--out", str(out), "--examples", "2"]) == 0
    assert f"beside {run}\n" in capsys.readouterr().out
    tree = data_of(out.read_text("utf-8"))
    assert (tree["title"], tree["other"]["title"]) == (str(other), str(run))
    assert tree["run"]["command"] == f"lstmjax train {other / 'config.yaml'}"
    chosen, defaults = dict(tree["run"]["chosen"]), dict(tree["run"]["defaults"])
    assert (chosen["seed"], chosen["model.hidden_size"], chosen["steps"]) == ("5", "3", "6")
    assert (defaults["model.cell"], "seed" in defaults) == ("vanilla", False)
    assert dict(tree["other"]["run"]["chosen"])["model.hidden_size"] == "4"
    assert [part["units"] for part in tree["other"]["parts"]] == [4]

    # What the other one says is what it says of the file.
    raw = np.load(run.parent / "b.npz")
    says = predict(load_run(run), raw["x"], raw["lengths"])
    for example, second in zip(tree["examples"], tree["other"]["examples"], strict=True):
        row = int(example["name"].split()[1])
        assert second["outputs"] == pytest.approx(says.outputs[row].tolist(), abs=1e-5)
    right = (says.classes == raw["y"]).sum()
    assert (tree["other"]["outcome"]["right"], tree["other"]["outcome"]["count"]) == (right, 40)
    assert len(tree["other"]["curves"]["steps"]) == 3

    learned = learning(other)
    assert tree["learning"]["steps"] == learned.steps.tolist() == [0, 2, 4, 6]
    for name in ("mean", "left", "right"):
        for gate, values in zip("if", getattr(learned.statistics[0], name)[:2], strict=True):
            found, error = unpacked(tree["learning"]["parts"][0][gate][name])
            assert np.abs(found - values).max() <= error + 1e-6
    assert tree["other"].keys().isdisjoint({"learning", "saturation", "model"})


def test_runs_on_other_data_are_not_compared(run, tmp_path, capsys):
    write_sequences(tmp_path / "c.npz", target="word", i=4)
    (tmp_path / "c.yaml").write_text(dump_config(config(data={"source": str(tmp_path / "c.npz")})), encoding="utf-8")
    with jax.numpy_dtype_promotion("standard"):
        assert main(["train", str(tmp_path / "c.yaml"), "--run-dir", str(tmp_path / "c")]) == 0
    assert main(["inspect", str(run), "--compare", str(tmp_path / "c")]) == 2
    message = f"--compare {tmp_path / 'c'}: features at each step: 4, but {run} has 3; compare runs on the same data"
    assert message in capsys.readouterr().err


def test_the_page_of_a_run_stands_in_its_folder_and_can_be_opened(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) == 1)
    for second in (False, True):
        assert main(["inspect", str(run), "--examples", "1", "--open"]) == 0
        out = capsys.readouterr().out
        assert f"written to {run / 'report.html'}\n" in out
        assert ("no browser could be opened" in out) == second
    assert opened == [(run / "report.html").as_uri()] * 2
    np.save("new.npy", np.load(run.parent / "b.npz")["x"][:1])
    assert main(["inspect", str(run), "--input", "new.npy"]) == 0
    assert f"written to {run / 'report-new.html'}\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["new.npy"]


def test_inspect_looks_at_a_file(run, tmp_path, capsys):
    x = np.load(run.parent / "b.npz")["x"][:2]
    np.save(tmp_path / "x.npy", x)
    assert main(["inspect", str(run), "--input", str(tmp_path / "x.npy"), "--out", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out.startswith("2 of 2 sequences of x.npy shown\n")
    tree = data_of((tmp_path / "x.html").read_text("utf-8"))
    assert [example["why"] for example in tree["examples"]] == ["", "the least sure"]
    assert tree["flow"] == "L is the softmax loss of what the network itself says: there are no labels"
    assert tree["remembers"] == []


def test_a_file_is_looked_at_without_the_data_of_the_run(run, tmp_path, capsys):
    source = tmp_path / "a.npz"
    source.write_bytes((run.parent / "a.npz").read_bytes())
    with jax.numpy_dtype_promotion("standard"):
        words = ["--data.source", str(source), "--keep-every", "2", "--run-dir", str(tmp_path / "r")]
        assert main(["train", str(run / "config.yaml"), *words]) == 0
    source.unlink()
    new = run.parent / "b.npz"
    assert main(["inspect", str(tmp_path / "r"), "--input", str(new), "--out", str(tmp_path / "x.html")]) == 0
    tree = data_of((tmp_path / "x.html").read_text("utf-8"))
    assert tree["learning"] is None
    assert f"How the gates learned is left out: {source}: no such file" in " ".join(tree["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such run folder"),
        (["RUN", "--out", "page.pdf"], "page.pdf: unknown kind of file to write; expected a name that ends in .html"),
        (["RUN", "--examples", "0"], "--examples is 0; expected 1 or more"),
        (["RUN", "--input", "a.npz"], "a.npz: no such file"),
        (
            ["RUN", "--out", "not/there/page.html"],
            "not/there/page.html: there is no folder not/there; name a file in a",
        ),
        (["RUN", "--out", "folder.html"], "folder.html: is a folder; name a file in a folder that is there"),
    ],
)
def test_inspect_refuses_in_one_line(run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    assert main(["inspect", *(str(run) if word == "RUN" else word for word in words)]) in (1, 2)
    shown = capsys.readouterr().err
    assert shown.startswith("lstmjax: ")
    assert message in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder.html"]
