"""A run's folder in other hands: damaged, deleted, held by another process, on a full disk, read while it grows."""

import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import jax
import numpy as np
import pytest
from training import config, write_sequences

from lstmjax import runs
from lstmjax.cli import main
from lstmjax.config import dump_config
from lstmjax.data import load
from lstmjax.errors import UserError
from lstmjax.runs import RunError, RunFolder, about_sum
from lstmjax.sums import file_sums
from lstmjax.training import progress
from lstmjax.training.checkpoint import Checkpoints
from lstmjax.training.finite import Diverged
from lstmjax.training.loop import resume, train
from lstmjax.training.plan import new_plan
from lstmjax.training.reading import load_run
from lstmjax.training.recipe import first_state, run_key, train_step_of
from lstmjax.writing import WriteError

pytestmark = pytest.mark.usefixtures("promotion", "quick")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")


@pytest.fixture(scope="module")
def quick():
    """No run draws its curves: it would take longer than its steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, quick):
    """A run that has ended, whose best checkpoint is not the latest, with its data beside it."""
    folder = tmp_path_factory.mktemp("whole")
    write_sequences(folder / "a.npz", target="word")
    write_sequences(folder / "b.npz", target="word", seed=4)
    data = {"source": str(folder / "a.npz"), "test": str(folder / "b.npz"), "normalize": "standardize"}
    with jax.numpy_dtype_promotion("standard"):
        result = train(config(data=data, steps=8), folder / "run", quiet=True)
    assert result.step == 2
    return result


@pytest.fixture
def run(whole, tmp_path):
    """A copy of that run."""
    return Path(shutil.copytree(whole.run_dir, tmp_path / "run"))


def commands(run, out):
    data = str(run.parent / "b.npz") if (run.parent / "b.npz").exists() else None
    return {
        "evaluate": ["evaluate", str(run)],
        "predict": ["predict", str(run), data or str(out / "x.npy")],
        "export": ["export", str(run), str(out / "x.onnx")],
        "convert": ["convert", str(run), str(out / "x.npz"), "--extra", "drop"],
        "inspect": ["inspect", str(run), "--out", str(out / "x.html"), "--examples", "1"],
        "resume": ["train", "--resume", str(run)],
    }


def words(name, run, out):
    np.save(out / "x.npy", np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32))
    return commands(run, out)[name]


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a.params), jax.tree.leaves(b.params))) and a.about == b.about


def one_line(capsys, code):
    """What went wrong, which is one line and no traceback."""
    shown = capsys.readouterr().err
    assert code in (1, 2)
    assert shown.startswith("lstmjax: ")
    assert shown.count("\n") == 1
    return shown


READING = ("evaluate", "predict", "export", "convert", "inspect")


def attempt(read):
    """What a function returns, or None if it refuses; any other error fails the test."""
    with suppress(UserError):
        return read()


# What predicting depends on


@pytest.mark.thorough
def test_each_changed_byte_of_the_data_is_seen_or_harmless(run):
    path, folder = run / "data.json", RunFolder.open(run)
    data, about = path.read_bytes(), folder.read_about()
    with Checkpoints(run / "checkpoints", folder.config.fingerprint, read_only=True) as saved:
        recorded = saved.data_sum()
    assert recorded == about_sum(about)
    random, changed = np.random.default_rng(0), 0
    for at in range(len(data)):
        for value in {data[at] ^ 1 << int(random.integers(8)), *b"0 \xff"} - {data[at]}:
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            found = attempt(folder.read_about) or about
            if found != about:
                changed += 1
                assert about_sum(found) != recorded
    assert changed > 100


@pytest.mark.parametrize("name", READING)
def test_a_changed_digit_of_the_scale_stops_what_would_be_wrong(run, tmp_path, capsys, name):
    text = (run / "data.json").read_text("utf-8")
    scale = json.loads(text)["scale"][1]
    (run / "data.json").write_text(text.replace(repr(scale), repr(scale + 2)), "utf-8")
    shown = one_line(capsys, main(words(name, run, tmp_path)))
    assert "data.json: is not what training wrote, by the checksum in the checkpoints; put it back" in shown
    assert f"lstmjax train --resume {run}" in shown


@pytest.mark.parametrize("harm", [None, b"", b"{", b"\xff"], ids=["gone", "empty", "cut", "no UTF-8"])
def test_resuming_writes_the_data_anew_and_says_so(run, caplog, harm):
    before = (run / "data.json").read_text("utf-8")
    (run / "data.json").unlink()
    if harm is not None:
        (run / "data.json").write_bytes(harm)
    with pytest.raises(RunError, match=r"data.json: is (missing|damaged); put it back, or write it anew"):
        load_run(run)
    resume(run, quiet=True)
    reason = "is missing" if harm is None else "is not what was saved"
    assert f"data.json: {reason}; it is written anew from the data" in caplog.text
    assert (run / "data.json").read_text("utf-8") == before


# Every file, harmed


def harms(data, random):
    at = int(random.integers(len(data)))
    yield data[:at] + bytes([data[at] ^ 1 << int(random.integers(8))]) + data[at + 1 :]
    yield data[:at] + b"\0\0" + data[at + 2 :]
    yield data[: len(data) // 2]
    yield None


@pytest.mark.thorough
def test_every_harm_to_every_file_is_refused_said_or_harmless(whole, run, caplog):
    """What is used is what was trained, or a line says that it is not; no harm ends in another kind of error."""
    random = np.random.default_rng(1)
    expected, result = load_run(run), RunFolder.open(run).read_result("accuracy")
    outcomes = {"refused": 0, "said": 0, "harmless": 0}
    # Of the checkpoints the one that is used and the latest; what orbax writes twice is harmed in one of them.
    spared = ("checkpoints/6/", "checkpoints/8/state/ocdbt", "commit_success.txt", "curves.png")
    files = [p for p in run.rglob("*") if p.is_file() and not any(name in str(p) for name in spared)]
    for path in sorted(files):
        data = path.read_bytes()
        for harmed in harms(data, random):
            path.unlink() if harmed is None else path.write_bytes(harmed)
            caplog.clear()
            found, folder = attempt(lambda: load_run(run)), attempt(lambda: RunFolder.open(run))
            if folder is not None:
                attempt(lambda folder=folder: folder.records("accuracy"))
                assert attempt(lambda folder=folder: folder.read_result("accuracy")) in (result, None)
            kind = "refused" if found is None else "said" if caplog.records else "harmless"
            outcomes[kind] += 1
            assert kind != "harmless" or same(found, expected), path
            assert all("\n" not in record.getMessage() for record in caplog.records)
            path.write_bytes(data)
    assert min(outcomes.values()) > 5
    assert same(load_run(run), expected)


@pytest.mark.parametrize(
    ("file", "harm"),
    [("result.json", b'{"step": 2, "parameters": 138, "validation": {}, "test": null}'), ("result.json", b"\xff")],
)
def test_a_damaged_result_is_said_and_computed_again(run, whole, tmp_path, caplog, capsys, file, harm):
    before = (run / file).read_bytes()
    (run / file).write_bytes(harm)
    assert main(words("inspect", run, tmp_path)) == 0
    assert f"{file}: is damaged, and left out; it is computed again by lstmjax train --resume" in caplog.text
    assert resume(run, quiet=True).test == whole.test
    assert (run / file).read_bytes() == before


@pytest.mark.parametrize("name", ["inspect", "resume"])
@pytest.mark.parametrize("harm", [("loss", "lors"), ("0.", "9."), ('"step": 4', '"step": 5')], ids=lambda pair: pair[0])
def test_a_flipped_bit_in_the_metrics_names_the_line(run, tmp_path, capsys, name, harm):
    first, second, *others = (run / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([first, second.replace(*harm), *others]), "utf-8")
    shown = one_line(capsys, main(words(name, run, tmp_path)))
    assert "metrics.jsonl:2: is not a line that training wrote; remove it" in shown


@pytest.mark.parametrize(("kept", "said"), [(0, "4 of 4 lines up to step 8, the first one of step 2"), (3, "1 of 4")])
def test_resuming_says_which_metrics_are_gone(run, caplog, kept, said):
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    (run / "metrics.jsonl").unlink()
    if kept:
        (run / "metrics.jsonl").write_text("".join(lines[:kept]), "utf-8")
    resume(run, quiet=True)
    assert f"metrics.jsonl: lacks {said}" in caplog.text


def test_a_run_without_its_checkpoints_is_told(run, caplog, capsys):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="holds no checkpoint; go on with the run: lstmjax train --resume"):
        load_run(run)
    resume(run, quiet=True)
    assert "checkpoints: holds no checkpoint any more; training begins anew" in caplog.text


# What is used is what was chosen


def test_the_best_checkpoint_gone_is_said_by_every_command(run, tmp_path, caplog, capsys):
    shutil.rmtree(run / "checkpoints" / "2")
    result = (run / "result.json").read_bytes()
    for name in ("evaluate", "predict", "export", "convert", "resume", "evaluate"):
        caplog.clear()
        assert main(words(name, run, tmp_path)) == 0
        (said,) = (record.getMessage() for record in caplog.records)
        assert "the checkpoint of step 2, which validation chose, is gone; step 6 is used instead" in said
    assert (run / "result.json").read_bytes() == result  # what the lost one was worth


@pytest.mark.parametrize("file", ["about/metadata", "state/manifest.ocdbt"])
def test_the_best_checkpoint_damaged_is_said(run, caplog, file):
    (run / "checkpoints" / "2" / file).write_bytes(b"\0\0")
    load_run(run)
    assert "the checkpoint of step 2, which validation chose, cannot be used; step 6 is used instead" in caplog.text


def as_before(run):
    """Turns a run into one from before checkpoints said of themselves what they are worth."""
    for folder in (run / "checkpoints").glob("[0-9]*"):
        about = json.loads((folder / "about" / "metadata").read_text("utf-8"))
        score = about["score"]
        kept = {key: about[key] for key in ("fingerprint", "crc")}
        (folder / "about" / "metadata").write_text(json.dumps(kept), "utf-8")
        (folder / "metrics").mkdir()
        (folder / "metrics" / "metrics").write_text(json.dumps({"score": score}), "utf-8")
        (run / "checkpoints" / ".sums" / f"{folder.name}.json").write_text(json.dumps(file_sums(folder)), "utf-8")
    result = json.loads((run / "result.json").read_text("utf-8"))
    del result["check"]
    (run / "result.json").write_text(json.dumps(result), "utf-8")


def test_runs_from_before_are_read_and_gone_on_with(run, whole, caplog):
    as_before(run)
    assert same(load_run(run), whole.trained)
    assert resume(run, quiet=True).test == whole.test
    assert caplog.records == []


@pytest.mark.parametrize("harm", [b'{"sc\0\0e": 0.5}', b'{"score": 0.1}', None], ids=["zeros", "digit", "gone"])
def test_a_damaged_score_from_before_changes_no_choice(run, whole, caplog, harm):
    as_before(run)
    path = run / "checkpoints" / "2" / "metrics" / "metrics"
    path.unlink()
    if harm is not None:
        path.write_bytes(harm)
    assert same(load_run(run), whole.trained)  # result.json says which one it is
    assert "the score of step 2 cannot be read" in caplog.text
    (run / "result.json").unlink()
    load_run(run)
    assert resume(run, quiet=True).step == 6


# Two processes


def test_a_folder_is_locked_before_it_is_found_empty(tmp_path):
    pytest.importorskip("fcntl", reason="folders are locked on POSIX systems only")
    held = "run: another process is training in this folder; wait for it, or stop it first"
    with RunFolder.create(tmp_path / "run", config()) as first:
        with pytest.raises(RunError, match=held):
            train(config(seed=1), tmp_path / "run", quiet=True)
        with pytest.raises(RunError, match=held):
            resume(tmp_path / "run", quiet=True)
        (first.path / "config.yaml").unlink()  # not even then
        with pytest.raises(RunError, match=held):
            train(config(seed=1), tmp_path / "run", quiet=True)
    assert train(config(seed=1, steps=2), tmp_path / "run", quiet=True).run_dir == tmp_path / "run"


def test_folders_that_are_not_lockable_have_a_lock_in_them(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="folders are locked on POSIX systems only")
    flock = fcntl.flock

    def refuse_folders(descriptor, kind):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(9, "Bad file descriptor")
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", refuse_folders)
    with RunFolder.create(tmp_path / "run", config()) as first:
        assert first.is_trained()
        with pytest.raises(RunError, match="another process is training"), first.locked():
            pass
    assert not first.is_trained()


def test_default_folders_of_one_second_have_names_of_their_own(tmp_path, monkeypatch):
    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 27, 14, 12, 31)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "datetime", Frozen)
    for name in ("a-20261127-141231", "a-20261127-141231-2", "a-20261127-141231-3"):
        with RunFolder.create(None, config(), "a") as run:
            assert run.path == tmp_path / "runs" / name


@pytest.mark.parametrize("left", [(), ("config.yaml.new",), (".lock", "config.yaml.new")])
def test_what_a_kill_leaves_before_there_is_a_configuration_is_taken(tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("see", "utf-8")
    with pytest.raises(RunError, match=r"not a run folder.*; if a run was stopped as it began, start it anew: lstmjax"):
        resume(tmp_path / "run", quiet=True)
    with RunFolder.create(tmp_path / "run", config()) as run:
        assert (run.path / "config.yaml").read_text("utf-8") == dump_config(config())


def test_a_run_that_has_only_begun_asks_for_patience(tmp_path):
    pytest.importorskip("fcntl", reason="folders are locked on POSIX systems only")
    _, about = load(config().data)
    with RunFolder.create(tmp_path / "run", config()) as run:
        with pytest.raises(RunError, match=r"data.json: is not written yet, as the run has only begun; wait for it"):
            load_run(run.path)
        run.write_about(about)
        with pytest.raises(RunError, match="is being trained and has no checkpoint yet; wait for the first one"):
            load_run(run.path)
        (run.path / "config.yaml").unlink()
        with pytest.raises(RunError, match=r"the run has only begun, and its config.yaml is not written yet; wait"):
            load_run(run.path)


def test_a_checkpoint_that_vanishes_while_it_is_read_is_neither_damaged_nor_gone(tmp_path, caplog):
    with Checkpoints(tmp_path / "c", "f") as saved:
        for step in (1, 2):
            saved.save(step, np.float32(step), float(step))

        class Slow(Checkpoints):
            """Reads slowly: meanwhile two more are saved, and what was the best is deleted."""

            def _about(self, step):
                about = super()._about(step)
                if step == 2 and saved.steps() == [1, 2]:
                    for later in (3, 4):
                        saved.save(later, np.float32(later), float(later))
                return about

        with Slow(tmp_path / "c", "f", read_only=True, growing=True) as reader:
            assert reader.best(jax.ShapeDtypeStruct((), np.float32)) == (4, 4.0)
    assert saved.steps() == [3, 4]
    assert caplog.records == []


# Numbers that are none


def wild(folder, **values):
    write_sequences(folder / "a.npz", target="number")
    return config(
        data={"source": str(folder / "a.npz")}, loss={"name": "linear"},
        optimizer={"name": "sgd", "learning_rate": 100.0}, steps=40, evaluate_every=20, **values,
    )  # fmt: skip


def first_bad_step(settings):
    """Looks at the loss of each step."""
    plan = new_plan(settings)
    recipe, key = plan.recipe, jax.random.key(settings.seed)
    state = first_state(key, recipe=recipe, about=plan.about)
    for step in range(settings.steps):
        rows = plan.batches.draw(seed=settings.seed, step=step)
        state, info = train_step_of(recipe)(state, rows, run_key(settings.seed))
        if not np.isfinite(float(info.loss)):
            return step + 1
    return None


def test_the_first_bad_step_is_named_and_nothing_is_promised(tmp_path):
    settings = wild(tmp_path)
    step = first_bad_step(settings)
    assert 2 < step < 20
    with pytest.raises(
        Diverged,
        match=rf"^the training loss is (nan|inf) at step {step}; lower .* optimizer.clip_norm\. "
        r"The first NaN or infinity was, at step \d+, in .*$",
    ):
        train(settings, tmp_path / "run", quiet=True)
    late = settings.model_copy(update={"checkpoint_every": 1, "evaluate_every": 1})
    with pytest.raises(Diverged, match=r"clip_norm\. What was saved before is in .*run2.checkpoints$"):
        train(late, tmp_path / "run2", quiet=True)


def test_a_stopped_run_whose_state_is_no_number_is_not_saved(tmp_path, monkeypatch):
    settings, seen = wild(tmp_path), []

    def count(self, now):
        seen.append(None)
        if len(seen) == 19:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(progress.Progress, "step", count)
    with pytest.raises(Diverged, match=f"at step {first_bad_step(settings)};"):
        train(settings, tmp_path / "run", quiet=True)
    assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*")) == []


@pytest.fixture
def bad(run):
    """A run whose checkpoints all hold a NaN, as they were saved before it was looked for."""
    folder = RunFolder.open(run)
    plan = new_plan(folder.config)
    with Checkpoints(folder.checkpoints, folder.config.fingerprint) as saved:
        _, state = saved.latest(plan.like)
    shutil.rmtree(folder.checkpoints)
    head = state.params.head
    bad = state._replace(params=state.params._replace(head=head._replace(w=head.w * np.nan)))
    with Checkpoints(folder.checkpoints, folder.config.fingerprint, data=about_sum(plan.about)) as saved:
        for step in (2, 8):
            saved.save(step, bad._replace(step=np.int32(step)), 0.5 - step)
    return run


def test_weights_that_are_no_numbers_are_said(bad, tmp_path, caplog, capsys):
    for name in ("evaluate", "predict", "export", "convert"):
        caplog.clear()
        assert main(words(name, bad, tmp_path)) == 0
        assert "the weights of step 2 hold NaN or infinity (head.w): no output of theirs is finite" in caplog.text
        expected = name == "predict"
        assert ("the outputs of 4 of 4 sequences are not finite, first of 0" in caplog.text) == expected
        expected = name == "evaluate"
        assert ("the loss over test is not finite" in caplog.text) == expected
    capsys.readouterr()
    assert "the network gives NaN or infinity for the test part, which no page can show" in one_line(
        capsys, main(words("inspect", bad, tmp_path))
    )


def test_nothing_goes_on_from_a_state_that_is_no_number(bad):
    message = r"params.head.w holds NaN or infinity at step 8.*or remove .*checkpoints.8 to go on from step 2"
    with pytest.raises(Diverged, match=message):
        resume(bad, quiet=True)


# A full disk


@FULL
@pytest.mark.parametrize("name", ["convert", "export", "predict", "inspect"])
def test_a_full_disk_is_one_line_with_file_and_remedy(run, tmp_path, capsys, name):
    given = words(name, run, tmp_path)
    if name == "predict":
        given += ["--out", str(tmp_path / "x.csv")]
    out = next(word for word in reversed(given) if word.startswith(str(tmp_path / "x.")))
    Path(f"{out}.new").symlink_to("/dev/full")
    shown = one_line(capsys, main(given))
    expected = (
        f"lstmjax: {out}: cannot be written (No space left on device); make room there, or write to another place\n"
    )
    assert shown == expected
    assert not os.path.lexists(f"{out}.new")


@FULL
@pytest.mark.parametrize("file", ["config.yaml.new", "data.json.new", "metrics.jsonl", "result.json.new"])
def test_a_run_on_a_full_disk_names_the_file(tmp_path, monkeypatch, file):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(runs, "REMNANTS", {*runs.REMNANTS, file})
    (tmp_path / "run" / file).symlink_to("/dev/full")
    name = file.removesuffix(".new")
    with pytest.raises(WriteError, match=rf"run/{name}: cannot be written \(No space left on device\); make room"):
        train(config(steps=2), tmp_path / "run", quiet=True)


@FULL
def test_standard_output_on_a_full_disk(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["--version"]) == 1
        monkeypatch.undo()
    message = "lstmjax: standard output: cannot be written (No space left on device); make room there"
    assert capsys.readouterr().err.startswith(message)
