"""The scale of features and of targets: found in the training part, undone wherever a number leaves the library."""

import json
import re

import jax
import numpy as np
import pytest
from pages import data_of
from training import config, lines, write_sequences

from lstmjax.cli import main
from lstmjax.config import Data
from lstmjax.data import load
from lstmjax.data.ragged import Ragged
from lstmjax.data.scaling import described, merged_moments, moments, on_unit_scale, standardising
from lstmjax.data.sequences import Sequences
from lstmjax.training import load_run, predict, resume, train
from lstmjax.training.apply import evaluate_run

pytestmark = pytest.mark.usefixtures("promotion")

FEATURES = {
    # values of a feature, and whether it needs no scaling
    "noise": (lambda random, n: random.normal(0.3, 1.2, n), True),
    "switch that is rarely on": (lambda random, n: (random.random(n) < 0.01).astype(float), True),
    "pixels": (lambda random, n: random.integers(0, 17, n) / 16, True),
    "constant": (lambda random, n: np.full(n, 0.7), True),
    "temperature": (lambda random, n: random.normal(21.0, 1.0, n), False),
    "load": (lambda random, n: random.normal(500.0, 30.0, n), False),
    "returns": (lambda random, n: random.normal(0.0, 0.001, n), False),
    "nearly constant": (lambda random, n: random.normal(0.5, 0.001, n), False),
    "large constant": (lambda random, n: np.full(n, 500.0), False),
    "large noise": (lambda random, n: random.normal(0.0, 40.0, n), False),
}


def columns(seed=3, n=2000):
    random = np.random.default_rng(seed)
    return np.stack([draw(random, n) for draw, _ in FEATURES.values()], axis=1)


def test_what_is_not_on_a_unit_scale_is_scaled():
    known = merged_moments([columns()], len(FEATURES))
    assert dict(zip(FEATURES, on_unit_scale(known).tolist(), strict=True)) == {
        k: good for k, (_, good) in FEATURES.items()
    }
    scaling = standardising(known, ~on_unit_scale(known))
    scaled = (columns() - scaling.offset) / scaling.scale
    for n, (name, (_, good)) in enumerate(FEATURES.items()):
        if good:
            np.testing.assert_array_equal(scaled[:, n], columns()[:, n])
        else:
            expected = 0.0 if name == "large constant" else 1.0
            np.testing.assert_allclose([scaled[:, n].mean(), scaled[:, n].std()], [0.0, expected], atol=1e-9)


@pytest.mark.parametrize("ragged", [False, True])
def test_moments_by_blocks_are_those_of_all_steps(ragged, monkeypatch):
    monkeypatch.setattr("lstmjax.data.scaling.BLOCK", 7)
    random = np.random.default_rng(0)
    lengths = random.integers(1, 12, 9).astype(np.int32)
    x = random.normal(1e4, 2.0, (9, 11, 3)).astype(np.float32)
    valid = np.arange(11) < lengths[:, None]
    data = Sequences(Ragged(x[valid], lengths, 11) if ragged else x, None, lengths)
    known = moments(data)
    steps = x[valid].astype(np.float64)
    np.testing.assert_allclose(known.mean, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(known.deviation, steps.std(axis=0), rtol=1e-10)
    np.testing.assert_array_equal([known.low, known.high], [steps.min(axis=0), steps.max(axis=0)])
    holes = steps.copy()
    holes[::3, 1] = np.nan
    known = merged_moments(np.array_split(holes, 4), 3)
    np.testing.assert_allclose(known.mean, np.nanmean(holes, axis=0), rtol=1e-12)
    np.testing.assert_allclose(known.deviation, np.nanstd(holes, axis=0), rtol=1e-10)


def test_the_log_names_every_range_but_does_not_run_on():
    known = merged_moments([np.random.default_rng(1).normal(5, 2, (40, 30))], 30)
    (line,) = described("inputs", known, standardising(known, np.ones(30, bool)), [f"f{n}" for n in range(30)])
    assert re.fullmatch(r"inputs standardised: f0 .* \(mean .*, deviation .*\), and 22 more from -?\d.* to \d.*", line)


def test_what_the_package_brings_is_not_scaled_anew():
    for source, scale in (("digits", 16.0), ("order", 1.0)):
        for normalize in ("auto", "none"):
            about = load(Data(source=source, normalize=normalize, length=20 if source == "order" else None))[1]
            assert (set(about.offset), set(about.scale), about.target_scale) == ({0.0}, {scale}, None)


# Targets


def loads(path, *, per_step=False, seed=0):
    """Targets around 500 that follow from inputs around 20: what was predicted as 39 before targets were scaled."""
    random = np.random.default_rng(seed)
    x = random.normal(20.0, 1.0, (60, 5, 2)).astype(np.float32)
    total = (x - 20).sum(axis=2).cumsum(axis=1)
    y = np.stack([500 + 20 * total, 0.001 * total - 3], axis=2).astype(np.float32)
    lengths = random.integers(2, 6, 60)
    if not per_step:
        y = y[np.arange(60), lengths - 1]
    np.savez(path, x=x, y=y, lengths=lengths)
    return x, y, lengths


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loads")
    loads(folder / "a.npz")
    settings = config(
        model={"hidden_size": 8}, data={"source": str(folder / "a.npz")}, loss={"name": "linear"}, steps=60,
        evaluate_every=30, optimizer={"learning_rate": 0.03},
    )  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        return train(settings, folder / "run", quiet=True)


def test_targets_of_any_size_are_learned_and_predicted_in_their_units(run):
    x, y, lengths = loads(run.run_dir.parent / "b.npz", seed=1)
    outputs = predict(run.trained, x, lengths).outputs
    baseline = np.square(y - y.mean(axis=0)).mean(axis=0)
    assert (np.square(outputs - y).mean(axis=0) < 0.3 * baseline).all()
    (*_, line) = evaluate_run(run.run_dir, data=run.run_dir.parent / "b.npz")
    assert line == f"b.npz mse {np.square(outputs.astype(np.float64) - y).mean():.4f}"
    about = run.trained.about
    parts, same = load(run.trained.config.data, "linear")
    assert same.has_same_data(about)
    assert about.target_offset[0] == pytest.approx(500, abs=30)
    np.testing.assert_allclose(parts.train.y.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(parts.train.y.std(axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        about.scaled_targets(about.unscaled_targets(parts.validation.y)), parts.validation.y, rtol=1e-4, atol=1e-4
    )


def test_the_mse_is_in_the_units_of_the_data_in_training_and_validation(run):
    parts, about = load(run.trained.config.data, "linear")
    y = about.unscaled_targets(parts.validation.y)
    x = about.unscaled(parts.validation).x
    expected = np.square(predict(run.trained, x, parts.validation.lengths).outputs - y).mean()
    assert run.validation["mse"] == pytest.approx(expected, rel=1e-4)
    assert run.validation["loss"] < 1.0 < run.validation["mse"]
    assert all(record["train"]["mse"] > 10 * record["train"]["loss"] for record in lines(run.run_dir))


@pytest.mark.thorough
def test_files_and_pages_are_in_the_units_of_the_data(run, tmp_path, capsys):
    import onnxruntime as ort

    x, _y, lengths = loads(tmp_path / "b.npz", seed=1)
    expected = predict(run.trained, x, lengths).outputs
    for name in ("a.onnx", "a.stablehlo"):
        assert main(["export", str(run.run_dir), str(tmp_path / name), "--lengths"]) == 0
    inputs = {"xs": x, "lengths": lengths.astype(np.int32)}
    (found,) = ort.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"]).run(None, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes())).call(*inputs.values())["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert main(["predict", str(run.run_dir), str(tmp_path / "b.npz"), "--out", str(tmp_path / "p.csv")]) == 0
    written = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(written, expected, rtol=1e-5)
    assert main(["inspect", str(run.run_dir), "--out", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text("utf-8")
    tree = json.loads(re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    about = run.trained.about
    parts, _ = load(run.trained.config.data, "linear")
    truth = about.unscaled_targets(parts.validation.y)
    for example in tree["examples"]:
        row = int(example["name"].split()[-1])
        np.testing.assert_allclose(example["target"], truth[row], rtol=1e-4)
        alone = predict(
            run.trained, about.unscaled(parts.validation).x[row : row + 1], parts.validation.lengths[row : row + 1]
        )
        np.testing.assert_allclose(example["outputs"], alone.outputs[0], rtol=1e-4)
    capsys.readouterr()
    assert main(["convert", str(run.run_dir), str(tmp_path / "a.npz")]) == 2
    assert "the scale of its inputs, the scale of its targets" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_run_of_a_version_that_did_not_scale_goes_on_as_it_began(tmp_path):
    """Its config.yaml lacks the key, and its data.json the scale."""
    loads(tmp_path / "a.npz", per_step=True)
    data = {"source": str(tmp_path / "a.npz"), "normalize": "none", "normalize_targets": "none"}
    settings = config(data=data, loss={"name": "linear"}, steps=4)
    whole = train(settings, tmp_path / "run", quiet=True)
    assert whole.trained.about.target_scale is None
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text("utf-8").replace("  normalize_targets: none\n", ""), encoding="utf-8")
    path = tmp_path / "run" / "data.json"
    stored = json.loads(path.read_text("utf-8"))
    assert (stored.pop("target_offset"), stored.pop("target_scale")) == (None, None)
    path.write_text(json.dumps(stored), encoding="utf-8")
    again = resume(tmp_path / "run", quiet=True)
    assert again.validation == whole.validation
    assert load_run(tmp_path / "run").about.target_scale is None
    assert [*evaluate_run(tmp_path / "run", "validation")][-1] == f"validation mse {whole.validation['mse']:.4f}"


def test_nothing_depends_on_the_padding_of_targets(tmp_path):
    x, y, lengths = loads(tmp_path / "a.npz", per_step=True)
    parts, about = load(Data(source=str(tmp_path / "a.npz")), "linear")
    valid = np.arange(5) < lengths[:, None]
    assert (parts.train.y[~parts.train.valid()] == 0).all()
    noisy = np.where(valid[..., None], y, np.random.default_rng(2).normal(0, 1e6, y.shape)).astype(np.float32)
    np.savez(tmp_path / "b.npz", x=x, y=noisy, lengths=lengths)
    other, same = load(Data(source=str(tmp_path / "b.npz")), "linear")
    assert (same.target_scale, same.target_offset) == (about.target_scale, about.target_offset)
    np.testing.assert_array_equal(other.validation.y, parts.validation.y)


def test_classes_have_no_scale(tmp_path):
    for target, loss in (("class", "softmax"), ("switch", "sigmoid")):
        write_sequences(tmp_path / "a.npz", target=target)
        assert load(Data(source=str(tmp_path / "a.npz")), loss)[1].target_scaling is None


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.9)])
def test_targets_have_the_names_of_their_columns(tmp_path, capsys, quantiles):
    """In the log, in predictions and on the page; a sequence of which there is one is no plural."""
    random = np.random.default_rng(0)
    lines = ["sequence,step,a,load,cost"]
    for n in range(20):
        load_, cost = random.normal(5, 2, 2)
        lines += [f"s{n},{t},{random.normal():.4f},{load_:.4f},{cost:.4f}" for t in range(3)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "b.csv").write_text("\n".join(lines[:4]), encoding="utf-8")
    loss = {"name": "quantile", "quantiles": list(quantiles)} if quantiles else {"name": "linear"}
    settings = config(
        data={"source": str(tmp_path / "a.csv"), "columns": {"target": ["load", "cost"]}}, loss=loss, steps=2
    )
    train(settings, tmp_path / "run")
    assert re.search(r"targets standardised: load .*, cost ", capsys.readouterr().out)
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "b.csv")]) == 0
    names = ["load_q0.1", "load_q0.9", "cost_q0.1", "cost_q0.9"] if quantiles else ["load", "cost"]
    assert capsys.readouterr().out.splitlines()[0] == ",".join(["sequence", *names])
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "b.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(", 1 sequence")
    assert main(["inspect", str(tmp_path / "run"), "--input", str(tmp_path / "b.csv")]) == 0
    assert capsys.readouterr().out.startswith("1 of 1 sequence of b.csv shown\n")
    assert data_of((tmp_path / "run" / "report-b.html").read_text("utf-8"))["outputs"] == ["load", "cost"]
