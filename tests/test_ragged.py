"""Sequences of different lengths: stored without padding, trained and evaluated in buckets."""

import json
import re
import sys
from itertools import combinations
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import tiered
from tolerances import assert_close
from training import config, kill_in_training, lines, same_params, stop_at, write_sequences

from lstmjax import claims
from lstmjax.config import ConfigError
from lstmjax.data import (
    DataError,
    Ragged,
    Sequences,
    batch,
    buckets,
    choose_edges,
    load,
    make_buckets,
    padding,
    read,
    sequences,
)
from lstmjax.data.form import Table
from lstmjax.data.sequences import fingerprint
from lstmjax.report.inspect_run import inspect_run
from lstmjax.runs import RunError, RunFolder
from lstmjax.training import evaluate_run, learning, plan, predict, predict_file
from lstmjax.training.forward import Trained, logits_of
from lstmjax.training.inference import evaluate, predict_scaled
from lstmjax.training.loop import resume, train
from lstmjax.training.losses import LOSSES
from lstmjax.training.plan import new_plan
from lstmjax.training.reading import load_run
from lstmjax.training.recipe import LARGEST, first_state, train_step_of
from lstmjax.training.run_hooks import Interrupted

pytestmark = pytest.mark.usefixtures("promotion", "no_curves")
RANDOM = np.random.default_rng(0)
LENGTHS = {
    "uniform": RANDOM.integers(10, 101, 700),
    "normal": np.clip(RANDOM.normal(60, 25, 5000), 1, None).astype(int),
    "heavy tail": np.maximum(RANDOM.lognormal(4, 1, 9000), 1).astype(int),
    "two kinds": np.concatenate([RANDOM.integers(1, 11, 300), RANDOM.integers(200, 220, 90)]),
    "one long": np.array([50_000] + 5_000 * [1]),
    "few": RANDOM.integers(2, 9, 40),
}


def make_ragged(n=7, longest=6, width=3):
    """The same sequences without and with padding."""
    lengths = RANDOM.integers(1, longest + 1, n)
    padded = np.where(np.arange(longest)[:, None] < lengths[:, None, None], RANDOM.normal(size=(n, longest, width)), 0)
    flat = np.concatenate([x[:length] for x, length in zip(padded, lengths, strict=True)])
    return Ragged(flat.astype(np.float32), lengths.astype(np.int32), longest), padded.astype(np.float32)


INDICES = (3, -1, [4, 0, 4], slice(2, 5), slice(None), np.array([], int), np.arange(7) % 2 == 0)


@pytest.mark.parametrize("rows", INDICES, ids=map(str, range(len(INDICES))))
@pytest.mark.parametrize("rest", [(), (slice(4),), (slice(1, None),), (2, 1), (slice(None), slice(2), 0)[:2], (-1,)])
def test_ragged_data_are_indexed_as_if_padded(rows, rest):
    ragged, padded = make_ragged()
    np.testing.assert_array_equal(ragged[(rows, *rest)], padded[(rows, *rest)])
    if not np.isscalar(rows):
        np.testing.assert_array_equal(ragged.take(rows), padded[rows])


def test_ragged_data_are_arrays_for_who_asks(monkeypatch):
    ragged, padded = make_ragged()
    assert (ragged.shape, ragged.ndim, ragged.dtype, len(ragged)) == (padded.shape, 3, np.float32, 7)
    np.testing.assert_array_equal(np.asarray(ragged.map(lambda x: 2 * x)), 2 * padded)
    words = ragged.map(lambda x: np.where(x[:, 0] > 0, "up", "down").astype(object))
    assert words[0].tolist() == ["up" if x > 0 else "down" if x < 0 else "" for x in padded[0, :, 0]]
    with pytest.raises(IndexError, match="steps and features of ragged data are indexed by whole numbers and slices"):
        ragged[:, [1, 2]]
    monkeypatch.setattr(claims, "available", lambda: 100)
    with pytest.raises(claims.ClaimError, match="7 sequences padded to 6 steps takes 504 bytes of memory"):
        np.asarray(ragged)
    assert ragged[2:4].shape == (2, 6, 3)


def test_the_fingerprint_is_that_of_padded_data(monkeypatch):
    """So that runs of earlier versions, which padded them, know their data again."""
    ragged, padded = make_ragged()
    y = np.arange(7)
    assert fingerprint(Sequences(ragged, y, ragged.lengths)) == fingerprint(Sequences(padded, y, ragged.lengths))
    monkeypatch.setattr(sequences, "FREE", -(10**6))  # as if the padding were too large to be summed
    known = fingerprint(Sequences(ragged, y, ragged.lengths))
    other = ragged.map(lambda x: np.where(np.arange(len(x))[:, None] == len(x) - 1, -x, x))
    assert known != fingerprint(Sequences(other, y, ragged.lengths))


# Buckets


@pytest.mark.parametrize("name", LENGTHS)
def test_buckets_need_little_padding(name):
    lengths, size = LENGTHS[name], 16
    edges = choose_edges(lengths, lengths.max(), size)
    parts = make_buckets(lengths, edges, size)
    assert padding(lengths, parts.computed) < buckets.LIMIT < padding(lengths, len(lengths) * lengths.max())
    assert list(edges) == sorted(set(edges))
    assert edges[-1] == lengths.max()
    assert len(edges) <= buckets.MOST
    assert parts.batches <= 2 * np.ceil(len(lengths) / size) + 1
    assert all(bucket.rows <= size for bucket in parts.content)
    computed = sum(bucket.steps * bucket.rows * bucket.batches for bucket in parts.content)
    assert padding(lengths, computed) == 1 - lengths.sum() / computed
    np.testing.assert_array_equal(np.sort(np.concatenate([b.members for b in parts.content])), np.arange(len(lengths)))
    for bucket in parts.content:
        assert (lengths[bucket.members] <= bucket.steps).all()


def test_the_buckets_are_the_best_ones():
    lengths = RANDOM.integers(1, 13, 60) ** 2
    ends = np.unique(lengths)

    def steps(edges, fewest):
        places = np.searchsorted(edges, lengths)
        enough = np.bincount(places, minlength=len(edges)).min() >= fewest
        return np.array(edges)[places].sum() if enough else np.inf

    for fewest in (1, 6):
        for edges in buckets._best_edges(lengths, fewest)[:4]:
            others = ((*some, ends[-1]) for some in combinations(ends[:-1].tolist(), len(edges) - 1))
            assert steps(edges, fewest) == min(steps(other, fewest) for other in others)


def test_little_padding_needs_no_buckets():
    lengths = np.array(8 * [9, 10, 10, 9, 8])
    assert choose_edges(lengths, 10, 2) is None
    assert choose_edges(lengths, 20, 2) == (10,)  # of a file that pads all of them to twice their length


def test_an_epoch_of_buckets_takes_each_sequence_once():
    lengths, size = LENGTHS["uniform"], 16
    parts = make_buckets(lengths, choose_edges(lengths, 100, size), size)
    epochs = [[parts.batch(seed=7, step=e * parts.batches + s) for s in range(parts.batches)] for e in range(2)]
    for epoch in epochs:
        assert sorted(np.concatenate([rows for _, rows in epoch]).tolist()) == list(range(len(lengths)))
        assert {bucket.rows - len(rows) for bucket, rows in epoch} <= {0, 1}
    first, second = ([bucket.steps for bucket, _ in epoch] for epoch in epochs)
    assert first != second  # buckets are mixed, anew in each epoch
    assert first != sorted(first)
    assert set(epochs[0][0][1].tolist()) != set(epochs[1][0][1].tolist())
    other = parts.batch(seed=8, step=0)
    assert other[1].tolist() != epochs[0][0][1].tolist()
    _, again = parts.batch(seed=7, step=0)  # from the cache, or not
    np.testing.assert_array_equal(again, epochs[0][0][1])


# Training


def plan_of(tmp_path, **sections):
    target = sections.pop("target", "word")
    write_sequences(tmp_path / "a.npz", target=target, n=50, t=9)
    loss = "linear" if target.startswith("number") else "softmax"
    tree = {
        "data": {"source": str(tmp_path / "a.npz"), "normalize": "none"},
        "loss": {"name": loss},
        "batch_size": 8,
    } | sections
    return config(**tree)


@pytest.mark.parametrize("target", tiered(["word", "class_each_step", "number_each_step"], first=["class_each_step"]))
def test_gradients_of_an_epoch_are_those_of_the_padded_data(tmp_path, target):
    """Each batch alone, and all of them together: neither padding nor small batches give a label another weight."""
    settings = plan_of(tmp_path, target=target, optimizer={"name": "sgd", "learning_rate": 1.0})
    plan = new_plan(settings)
    train, model = plan.parts.train, settings.model
    loss = LOSSES[settings.loss.name].value
    assert len(plan.about.buckets) > 2
    key = jax.random.key(0)
    state = first_state(key, recipe=plan.recipe, about=plan.about)

    @jax.jit
    def summed(params, x, y, lengths, weight):
        """The loss by its formula, on data padded to T."""
        logits = logits_of(params, x, lengths, model=model, per_step=plan.about.per_step)
        values = loss(logits, y, 0.0)
        if values.ndim == 2:
            values = jnp.where(jnp.arange(x.shape[1])[None, :] < lengths[:, None], values, 0.0).sum(axis=1)
        return (weight * values).sum()

    labels = train.lengths.sum() if plan.about.per_step else len(train.x)
    mean = float(labels / plan.batches.epoch)
    total = jax.tree.map(jnp.zeros_like, state.params)
    for step in range(plan.batches.epoch):
        rows = plan.batches.draw(seed=0, step=step)
        assert rows.x.shape[1] in plan.about.buckets
        before = jax.tree.map(jnp.array, state.params)
        after, _ = train_step_of(plan.recipe)(jax.tree.map(jnp.array, state), rows, key)
        gradient = jax.tree.map(jnp.subtract, before, after.params)
        wide = [(0, 0), (0, 9 - rows.x.shape[1])]
        x = np.pad(rows.x, [*wide, (0, 0)], constant_values=1e3)
        y = np.pad(rows.y, wide + (rows.y.ndim - 2) * [(0, 0)]) if plan.about.per_step else rows.y
        weight = (rows.weight * (rows.lengths if plan.about.per_step else 1)).sum()
        assert weight / mean < LARGEST
        expected = jax.grad(summed)(before, x, y, rows.lengths, rows.weight)
        assert_close(gradient, jax.tree.map(lambda g: g / mean, expected), gradient=True)
        total = jax.tree.map(jnp.add, total, gradient)
    every = jax.grad(summed)(before, train.x, train.y, train.lengths, np.ones(len(train.x), np.float32))
    assert_close(total, jax.tree.map(lambda g: g / mean, every), gradient=True)


def test_a_batch_counts_as_four_at_most(tmp_path):
    """One with far more labels than others, in which a mean over steps would be a step beyond measure."""
    settings = plan_of(tmp_path, target="class_each_step", optimizer={"name": "sgd", "learning_rate": 1.0})
    plan = new_plan(settings)
    key, rows = jax.random.key(0), plan.batches.draw(seed=0, step=0)
    state = first_state(key, recipe=plan.recipe, about=plan.about)
    gradients = []
    for mean_weight in (None, float(rows.lengths[rows.weight > 0].sum()) / 10):
        copy = jax.tree.map(jnp.array, state)
        recipe = plan.recipe._replace(mean_weight=mean_weight)
        after, _ = train_step_of(recipe)(copy, rows, key)
        gradients.append(jax.tree.map(jnp.subtract, state.params, after.params))
    assert_close(gradients[1], jax.tree.map(lambda g: 4 * g, gradients[0]), gradient=True)


@pytest.mark.parametrize("stored", ["padded", "ragged"])
def test_what_needs_little_padding_is_trained_as_ever(tmp_path, capsys, monkeypatch, stored):
    x, y, _ = write_sequences(tmp_path / "a.npz", t=6)
    lengths = np.where(np.arange(len(x)) % 4, 6, 5)
    np.savez(tmp_path / "a.npz", x=x, y=y, lengths=lengths)
    settings = config(data={"source": str(tmp_path / "a.npz"), "normalize": "standardize"}, steps=2)
    parts, about = load(settings.data)
    if stored == "ragged":
        data = read(tmp_path / "a.npz")
        flat = Ragged(data.valid_steps(), data.lengths, 6)
        table = Table(data._replace(x=flat))
        monkeypatch.setattr(sys.modules["lstmjax.data.load"], "read_as", lambda path, form, **_: table)
    plan = new_plan(settings)
    assert isinstance(plan.parts.train.x, Ragged) == (stored == "ragged")
    assert plan.about == about  # with the same fingerprint and scale
    assert (plan.about.buckets, plan.recipe.mean_weight) == (None, None)
    for step in (0, 5):
        expected = batch(parts.train, 8, seed=3, step=step)
        found = plan.batches.draw(seed=3, step=step)
        valid = expected.valid()
        np.testing.assert_array_equal(found.x[valid], expected.x[valid])
        np.testing.assert_array_equal(found.y, expected.y)
        np.testing.assert_array_equal(found.lengths, expected.lengths)
        assert found.x.shape == (8, 6, 3)
        assert found.weight is None
    result = train(settings, tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[3] == "padding: 3.6% of the steps (all batches have 6 steps)"
    assert np.isfinite(result.validation["loss"])


def issue_csv(path, count):
    """One sequence of so many steps, and so many of one."""
    rows = [f"long,{t},{t % 3},2,a" for t in range(count)]
    rows += [f"s{n},0,{n % 7},-2,{'ab'[n % 2]}" for n in range(count)]
    path.write_text("\n".join(["sequence,step,p,q,label", *rows]), encoding="utf-8")


@pytest.mark.thorough
def test_one_very_long_sequence_takes_its_own_memory(tmp_path, monkeypatch, capsys):
    """Trained, validated, predicted, inspected: no array is larger than the steps of the file."""
    count, sizes = 3000, []
    issue_csv(tmp_path / "a.csv", count)
    pad = Ragged._padded

    def record(self, rows, width):
        sizes.append(len(rows) * width)
        return pad(self, rows, width)

    monkeypatch.setattr(Ragged, "_padded", record)
    source = str(tmp_path / "a.csv")
    settings = config(data={"source": source, "validation": source}, steps=20, evaluate_every=20, batch_size=32)
    result = train(settings, tmp_path / "run")
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:4] == [
        "inputs standardised: p 0 to 6 (mean 1.999, deviation 1.83)",
        "inputs as they are: q -2 to 2",
        "padding: 0.13% of the steps (buckets of 1, 3,000 steps)",
    ]
    assert np.isfinite(result.validation["loss"])
    evaluated = [*evaluate_run(result.run_dir, "validation")]
    assert evaluated[-1] == f"validation accuracy {result.validation['accuracy']:.4f}"
    predicted = [*predict_file(result.run_dir, source)]
    assert [line.split(",")[0] for line in predicted[:4]] == ["sequence", "long", "s0", "s1"]
    assert len(predicted) == count + 2
    pages = [*inspect_run(result.run_dir, source, tmp_path / "a.html")]
    assert pages[0] == f"4 of {count + 1} sequences of a.csv shown"
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "Looked at: 511 of 3001 sequences of a.csv, those of the first 512 that have at most 1 step." in text
    assert learning(result.run_dir).statistics[0].count[0] == 511
    assert max(sizes) == count


@pytest.mark.thorough
def test_the_results_of_a_page_are_those_of_all_sequences(tmp_path, monkeypatch):
    """Of the network and of another one that scales its inputs, in the memory of the steps of the file."""
    count, sizes = 3000, []
    issue_csv(tmp_path / "a.csv", count)
    data = {"source": str(tmp_path / "a.csv"), "validation": str(tmp_path / "a.csv")}
    runs = [
        train(config(data=data | {"normalize": normalize}, steps=4), tmp_path / normalize, quiet=True)
        for normalize in ("standardize", "none")
    ]
    pad = Ragged._padded

    def record(self, rows, width):
        sizes.append(len(rows) * width)
        return pad(self, rows, width)

    monkeypatch.setattr(Ragged, "_padded", record)
    lines_of_page = [*inspect_run(runs[0].run_dir, out=tmp_path / "a.html", compare=runs[1].run_dir)]
    assert lines_of_page[0] == f"4 of {count + 1} sequences of the validation part shown"
    assert max(sizes) <= count
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "Looked at: 511 of 3001 sequences of the validation part, those of the first 512 that" in text
    tree = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    raw = read(tmp_path / "a.csv")
    for run, outcome in zip(runs, (tree["outcome"], tree["other"]["outcome"]), strict=True):
        says = np.concatenate([predict(run.trained, raw.x[:1]).classes, predict(run.trained, raw.x[1:, :1]).classes])
        assert (outcome["count"], outcome["right"]) == (count + 1, (says == raw.y).sum())
    linked = [entry for entry in tree["outcome"]["wrong"] if entry["example"] is not None]
    assert linked
    for entry in linked:
        example = tree["examples"][entry["example"]]
        assert entry["name"] == example["name"]
        assert (entry["says"], entry["label"]) == (int(np.argmax(example["outputs"])), example["target"])
    names = [example["name"] for example in tree["examples"]]
    wrong = [name for name in names if "label" in tree["examples"][names.index(name)]["verdict"]]
    assert {entry["name"] for entry in linked} == set(wrong)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run on a CSV file with buckets that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    random = np.random.default_rng(5)
    rows = []
    for n, length in enumerate(random.choice([2, 5, 7], 60)):
        label = "ab"[n % 2]
        rows += [f"s{n},{t},{random.normal() + n % 2:.4f},{label}" for t in range(length)]
    (folder / "a.csv").write_text("\n".join(["sequence,step,p,label", *rows]), encoding="utf-8")
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        return train(ragged(folder / "a.csv"), folder / "run", quiet=True)


def ragged(path, **sections):
    model = {"hidden_size": 4, "dropout": 0.3, "init": "equinox"}
    data = {"source": str(path), "normalize": "standardize"}
    return config(data=data, model=model, steps=36, evaluate_every=4, batch_size=8, **sections)


@pytest.mark.slow  # test_train kills one, and a streamed run of buckets goes on in test_stream
def test_a_run_with_buckets_that_was_killed_goes_on_exactly(whole, tmp_path):
    settings = RunFolder.open(whole.run_dir).config
    stored = json.loads((whole.run_dir / "data.json").read_text("utf-8"))
    assert len(stored["buckets"]) > 2
    kill_in_training(settings, tmp_path / "run")
    (tmp_path / "run" / "data.json").write_text("{", encoding="utf-8")
    result = resume(tmp_path / "run", quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(tmp_path / "run") == lines(whole.run_dir)
    assert json.loads((tmp_path / "run" / "data.json").read_text("utf-8")) == stored


def test_a_run_keeps_the_buckets_with_which_it_began(whole, tmp_path, monkeypatch):
    """Also if another version would choose others."""
    settings, edges = ragged(whole.run_dir.parent / "a.csv"), (3, 7)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "new_buckets", lambda *_: edges)
        patch.setattr(plan.Schedule, "saves", lambda self, done: done in (6, 36))
        expected = train(settings, tmp_path / "whole", quiet=True)
        stop_at(patch, 6)
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "run", quiet=True)
    result = resume(tmp_path / "run", quiet=True)
    assert result.trained.about.buckets == edges
    same_params(load_run(tmp_path / "run").params, result.trained.params)
    latest = [RunFolder.open(run).checkpoints / "36" for run in (tmp_path / "whole", tmp_path / "run")]
    assert all(path.is_dir() for path in latest)
    assert lines(tmp_path / "run") == lines(expected.run_dir)


def test_a_run_of_a_version_without_buckets_goes_on_as_it_began(whole, tmp_path, monkeypatch, capsys):
    settings = ragged(whole.run_dir.parent / "a.csv")
    with monkeypatch.context() as patch:
        patch.setattr(plan, "new_buckets", lambda *_: None)
        expected = train(settings, tmp_path / "whole", quiet=True)
        stop_at(patch, 6)
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "run", quiet=True)
    run = tmp_path / "run"
    stored = json.loads((run / "data.json").read_text("utf-8"))
    assert stored.pop("buckets") is None
    (run / "data.json").write_text(json.dumps(stored), encoding="utf-8")  # as that version wrote it
    result = resume(run)
    said = capsys.readouterr().out.splitlines()[3]
    assert said.endswith("(all batches have 7 steps, as in the version of lstmjax that began this run)")
    same_params(result.trained.params, expected.trained.params)
    assert lines(run) == lines(expected.run_dir)
    assert lines(run) != lines(whole.run_dir)
    assert [*evaluate_run(run, "validation")] == [*evaluate_run(expected.run_dir, "validation")]
    (run / "data.json").unlink()
    assert resume(run, quiet=True).trained.about.buckets is None
    path = Path(settings.data.source)
    changed = tmp_path / "b.csv"
    changed.write_text(path.read_text("utf-8").replace("s3,0,", "s3,0,1"), encoding="utf-8")
    text = (run / "config.yaml").read_text("utf-8")
    (run / "config.yaml").write_text(text.replace(str(path), str(changed)), encoding="utf-8")
    with pytest.raises(RunError, match="the data have changed since this run began"):
        resume(run, quiet=True)


# Evaluation and prediction


@pytest.mark.parametrize("target", tiered(["word", "class_each_step"], first=["class_each_step"]))
def test_buckets_evaluate_and_predict_what_each_sequence_gives_alone(tmp_path, target):
    settings = plan_of(tmp_path, target=target)
    plan = new_plan(settings)
    params = first_state(jax.random.key(3), recipe=plan.recipe, about=plan.about).params
    per_step = plan.about.per_step
    trained = Trained(params, settings, plan.about)
    raw = read(tmp_path / "a.npz")
    flat = Ragged(raw.x[raw.valid()], raw.lengths, raw.x.shape[1])
    alone = [
        jax.nn.softmax(logits_of(params, raw.x[n : n + 1, : raw.lengths[n]], model=settings.model, per_step=per_step))[
            0
        ]
        for n in range(len(raw.x))
    ]
    for x in (raw.x, flat):
        prediction = predict(trained, x, raw.lengths)
        for n, expected in enumerate(alone):
            found = prediction.outputs[n, : raw.lengths[n]] if per_step else prediction.outputs[n]
            assert_close(found, expected)
        assert prediction.outputs.shape == ((50, 9, 2) if per_step else (50, 2))
    scaled = predict_scaled(trained, Sequences(flat, None, raw.lengths))
    assert isinstance(scaled.outputs, Ragged) == per_step
    np.testing.assert_array_equal(np.asarray(scaled.classes), prediction.classes)
    data = plan.parts.train
    losses = []
    for n, length in enumerate(data.lengths):
        logits = logits_of(params, data.x[n : n + 1, :length], model=settings.model, per_step=per_step)[0]
        label = data.y[n, :length] if per_step else data.y[n]
        losses += np.atleast_1d(LOSSES["softmax"].value(logits, label, 0.0)).tolist()
    assert evaluate(trained, data)["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_predictions_of_a_csv_are_in_its_order(tmp_path, monkeypatch):
    """With a label at each step, for which only the valid steps have a place in memory."""
    write_sequences(tmp_path / "a.npz", target="class_each_step", i=2)
    result = train(config(data={"source": str(tmp_path / "a.npz")}, steps=2), tmp_path / "run", quiet=True)
    issue_csv(tmp_path / "a.csv", 40)
    rows = [line.split(",") for line in predict_file(result.run_dir, tmp_path / "a.csv")][1:]
    assert [row[:2] for row in rows] == [["long", str(t)] for t in range(40)] + [[f"s{n}", "0"] for n in range(40)]
    data = read(tmp_path / "a.csv", labels=False)
    expected = predict(result.trained, data.x)
    assert expected.outputs.shape == (41, 40, 2)
    numbers = [[float(p) for p in row[3:]] for row in rows]
    np.testing.assert_allclose(numbers[:40], expected.outputs[0], atol=1e-6)
    np.testing.assert_allclose(numbers[40:], expected.outputs[1:, 0], atol=1e-6)
    assert [row[2] for row in rows[40:]] == expected.classes[1:, 0].tolist()
    [*predict_file(result.run_dir, tmp_path / "a.csv", tmp_path / "o.npz")]
    np.testing.assert_array_equal(np.load(tmp_path / "o.npz")["outputs"], expected.outputs)
    monkeypatch.setattr(claims, "available", lambda: 10_000)
    with pytest.raises(DataError, match=r"o.npz: cannot be written \(41 sequences padded .*; write a .csv file, which"):
        list(predict_file(result.run_dir, tmp_path / "a.csv", tmp_path / "o.npz"))


def test_a_batch_that_is_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    issue_csv(tmp_path / "a.csv", 3000)
    settings = config(data={"source": str(tmp_path / "a.csv"), "validation": str(tmp_path / "a.csv")})
    monkeypatch.setattr("lstmjax.limits.available", lambda: 160_000)
    message = r"^a batch of 1 sequence of 3,000 steps takes 168 kB of memory at least, and 160 kB are available; cut "
    with pytest.raises(ConfigError, match=message):
        train(settings, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_what_is_looked_at_is_not_mostly_padding():
    lengths = np.array([5, 9, 10**7, 3, 10**6])
    rows, steps = buckets.few(lengths, 10**7, 5)
    assert (rows.tolist(), steps) == ([0, 1, 3], 9)
    assert buckets.few(lengths, 10**7, 2)[0].tolist() == [0, 1]
    for equal in (np.full(600, 9000), np.full(3, 10**7)):  # as large as ever, if it is not padding
        rows, steps = buckets.few(equal, equal[0], 512)
        assert (len(rows), steps) == (min(len(equal), 512), equal[0])
