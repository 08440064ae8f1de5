"""What --dry-run says: counted by hand, and nothing is written."""

import jax
import pytest
from training import config, write_sequences

from lstmjax.claims import words
from lstmjax.cli import main
from lstmjax.config import ConfigError, dump_config
from lstmjax.limits import check_network, copies
from lstmjax.training.dry_run import dry_run, size_of
from lstmjax.training.plan import new_plan

pytestmark = pytest.mark.usefixtures("promotion")
PARAMETERS = 4 * (3 * 4 + 4 * 4 + 4) + 4 * 2 + 2


@pytest.fixture
def settings(tmp_path):
    write_sequences(tmp_path / "a.npz", ragged=False)
    return config(
        data={"source": str(tmp_path / "a.npz")}, optimizer={"accumulate": 2}, average={"decay": 0.9}, gradients=True
    )


def test_it_says_what_training_takes_and_writes_nothing(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "--dry-run", "c.yaml", "--batch-size", "16"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr().out
    assert "sequences: train 32, validate 8" in shown
    assert f"= {PARAMETERS}\n" in shown
    assert "(16, 6, 3)" in shown  # B, T, I
    assert f"  parameters: {words(4 * PARAMETERS)}" in shown
    assert f"  averaged parameters: {words(4 * PARAMETERS + 4)}" in shown  # and the count of steps
    assert f"  sums of gradients: {words(4 * PARAMETERS + 12)}" in shown
    assert "updates: 3, each by 2 batches" in shown
    assert "validations: 3; checkpoints: 3" in shown
    assert shown.endswith("nothing was trained or written (--dry-run)\n")


def test_data_and_the_evaluation_are_counted(settings, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    assert main(["train", "--dry-run", str(tmp_path / "c.yaml")]) == 0
    shown = capsys.readouterr().out
    assert f"  data: {words(40 * (6 * 3 * 4 + 4))}\n" in shown  # x as float32 and y as int32
    assert (
        f"  a chunk of the validation part: {words(128 * (6 * 3 * 4 + 4 + 4))}, and " in shown
    )  # filled up by weights


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_has_an_embedding(tmp_path, capsys, tied):
    data = {"source": "fables", "text": "characters", "segment": 7}
    settings = config(data=data, batch_size=4, model={"tie_weights": tied})
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    assert main(["train", "--dry-run", str(tmp_path / "c.yaml")]) == 0
    shown = capsys.readouterr().out
    plan = new_plan(settings)
    size = len(plan.about.classes)
    assert f"characters: train {plan.parts.train.count:,}, validate {plan.parts.validation.count:,}" in shown
    assert f"({size}, 4), {4 * size} parameters" in shown
    assert ("its transpose is the w of the head" in shown) == tied
    total = sum(leaf.size for leaf in jax.tree.leaves(plan.like.params))
    assert (f"All parameters: 144 + {5 * size} = {total}" if tied else f"head below {total} parameters") in shown
    assert f"  parameters: {words(4 * total)}" in shown


def test_a_regression_has_no_probabilities(tmp_path, capsys):
    write_sequences(tmp_path / "a.npz", target="number")
    settings = config(data={"source": str(tmp_path / "a.npz")}, loss={"name": "linear"})
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    assert main(["train", "--dry-run", str(tmp_path / "c.yaml")]) == 0
    assert "softmax" not in capsys.readouterr().out


def test_epochs_are_counted_in_batches(settings, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(dump_config(settings), encoding="utf-8")
    assert main(["train", str(tmp_path / "c.yaml"), "--dry-run", "--epochs", "5"]) == 0
    assert "steps: 20 = 5 epochs of 4 batches" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["adamw", "adam_keras", "sgd", "rmsprop", "lion"])
def test_the_copies_are_those_of_the_state(tmp_path, name):
    settings = config(
        optimizer={"name": name, "accumulate": 3}, average={"decay": 0.9}, gradients=True, model={"hidden_size": 37}
    )
    like = new_plan(settings).like
    one = size_of(like.params)
    held = copies(settings)
    assert size_of(like.moments) // one == held[name] + held["accumulated gradients"]
    assert (size_of(like.average) // one, size_of(like.gradients) // one) == (1, 1)
    assert sum(held.values()) == held[name] + 5
    assert jax.tree.leaves(like.params)[0].dtype.itemsize == 4


def test_a_network_is_refused_for_its_copies(tmp_path):
    plain = config()
    averaged = config(average={"decay": 0.9}, gradients=True, optimizer={"accumulate": 2})
    room = 4 * 5 * (3 * 4 * (8 + 4) + 4 * 10)  # of the copies of four arrays, and a little
    check_network(plain, 8, 10, room)
    with pytest.raises(ConfigError, match="adamw, accumulated gradients, averaged parameters and sums of gradients"):
        check_network(averaged, 8, 10, room)


def test_what_training_could_not_start_from_is_refused(settings):
    with pytest.raises(ConfigError, match=r"init_from: .*nowhere: no such run folder or weights file"):
        list(dry_run(settings.model_copy(update={"init_from": "/nowhere"})))
