"""Each metric against its definition, counted label by label in Python, and against scikit-learn."""

import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import config, lines, write_sequences

from lstmjax import config as configuration
from lstmjax.config import ConfigError, Loss
from lstmjax.data import DataError, Sequences
from lstmjax.init_stack import init_network
from lstmjax.report.inspect_run import inspect_run
from lstmjax.training import evaluate_run, export_run, load_run, predict, train
from lstmjax.training.forward import Trained, predicting
from lstmjax.training.inference import measured
from lstmjax.training.loss_sums import Sums, sums_of
from lstmjax.training.losses import LOSSES, loss_of, points
from lstmjax.training.metrics import METRICS, collected_of, metrics_of
from lstmjax.training.plan import new_plan

pytestmark = pytest.mark.usefixtures("promotion", "no_curves")

N, O = 60, 4
SECTIONS = {
    "classes": Loss(name="softmax"), "switches": Loss(name="sigmoid"), "numbers": Loss(name="linear"),
}  # fmt: skip


def draw(kind, seed=0):
    """Logits with many equal ones, labels of which the last class is rare, and weights."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, O)).round(1).astype(np.float32)
    y = {
        "classes": np.minimum(rng.integers(0, O + 2, N), O - 1).astype(np.int32),
        "switches": (rng.uniform(size=(N, O)) < 0.4).astype(np.float32),
        "numbers": (logits + rng.normal(size=(N, O))).astype(np.float32),
    }[kind]
    return logits, y, rng.integers(1, 4, N).astype(np.float32)


def computed(name, kind, logits, y, weight):
    """The metric as training and evaluation compute it, in two batches."""
    section = SECTIONS[kind]
    if METRICS[name, kind].collected is not None:
        outputs = np.asarray(LOSSES[section.name].readout(jnp.asarray(logits)))
        return collected_of((name,), section, outputs, y, weight, "it")[name]
    total = Sums.zero(section, (name,), O)
    for rows in (slice(0, 25), slice(25, N)):
        sums = sums_of(
            jnp.asarray(logits[rows]), jnp.asarray(y[rows]), weight[rows], None, loss=section, metrics=(name,)
        )
        more = None if sums.more is None else {key: total.more[key] + value for key, value in sums.more.items()}
        total = Sums(total.loss + sums.loss, total.metric + sums.metric, total.weight + sums.weight, more)
    return total.means(section, (name,))[name]


def f1(hits, of_labels, of_predictions):
    return 2 * hits / (of_labels + of_predictions) if of_labels + of_predictions else 0.0


def counted(name, kind, logits, y, weight):
    """The metric by its definition, in Python's numbers."""
    rows = range(len(logits))
    w = [float(value) for value in weight]
    p = np.asarray(LOSSES["softmax"].readout(jnp.asarray(logits)))  # with the same ties
    if kind == "classes":
        best = [max(range(O), key=lambda k, n=n: logits[n, k]) for n in rows]
        columns = [([best[n] == k for n in rows], [y[n] == k for n in rows], p[:, k]) for k in range(O)]
    elif kind == "switches":
        columns = [([logits[n, k] > 0 for n in rows], [y[n, k] > 0.5 for n in rows], logits[:, k]) for k in range(O)]
    else:
        columns = [(None, None, logits[:, k]) for k in range(O)]

    def total(values):
        return sum(value * w[n] for n, value in enumerate(values))

    if name == "accuracy":
        if kind == "classes":
            return total([best[n] == y[n] for n in rows]) / sum(w)
        return sum(total([a == b for a, b in zip(on, label, strict=True)]) for on, label, _ in columns) / O / sum(w)
    if name == "balanced_accuracy":
        recalls = [total([a and b for a, b in zip(on, label, strict=True)]) / total(label) for on, label, _ in columns]
        return sum(recalls) / O
    if name == "macro_f1":
        scores = [
            f1(total([a and b for a, b in zip(on, label, strict=True)]), total(label), total(on))
            for on, label, _ in columns
        ]
        return sum(scores) / O
    if name == "auc":
        areas = []
        for _, label, score in columns:
            won = pairs = 0.0
            for a, b in product(rows, rows):
                if label[a] and not label[b]:
                    won += w[a] * w[b] * (1.0 if score[a] > score[b] else 0.5 if score[a] == score[b] else 0.0)
                    pairs += w[a] * w[b]
            areas.append(won / pairs)
        return sum(areas) / O
    if name in ("perplexity", "bits_per_character", "bits_per_byte"):
        surprise = total([-math.log(p[n, y[n]]) for n in rows]) / sum(w)
        return math.exp(surprise) if name == "perplexity" else surprise / math.log(2)
    errors = y.astype(float) - logits
    if name == "mae":
        return total([np.abs(errors[n]).mean() for n in rows]) / sum(w)
    squares = total([(errors[n] ** 2).mean() for n in rows]) / sum(w)
    if name in ("mse", "rmse"):
        return squares if name == "mse" else math.sqrt(squares)
    parts = []
    for k in range(O):
        mean = total(y[:, k].astype(float)) / sum(w)
        parts.append(1 - total(errors[:, k] ** 2) / total((y[:, k] - mean) ** 2))
    return sum(parts) / O


@pytest.mark.parametrize(("name", "kind"), METRICS)
def test_every_metric_is_its_definition(name, kind):
    logits, y, weight = draw(kind)
    for w in (weight, np.ones_like(weight)):
        assert computed(name, kind, logits, y, w) == pytest.approx(counted(name, kind, logits, y, w), rel=2e-6)


@pytest.mark.parametrize(("name", "kind"), METRICS)
def test_every_metric_is_that_of_scikit_learn(name, kind):
    metrics = pytest.importorskip("sklearn.metrics")
    logits, y, weight = draw(kind, seed=1)
    logits, weight = logits.astype(float), weight.astype(float)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    best, on, given = logits.argmax(axis=1), logits > 0, {"sample_weight": weight}
    expected = {
        ("accuracy", "classes"): lambda: metrics.accuracy_score(y, best, **given),
        ("accuracy", "switches"): lambda: np.mean(
            [metrics.accuracy_score(y[:, k], on[:, k], **given) for k in range(O)]
        ),
        ("balanced_accuracy", "classes"): lambda: metrics.balanced_accuracy_score(y, best, **given),
        ("macro_f1", "classes"): lambda: metrics.f1_score(y, best, average="macro", **given),
        ("macro_f1", "switches"): lambda: metrics.f1_score(y, on, average="macro", **given),
        ("auc", "classes"): lambda: metrics.roc_auc_score(y, p, average="macro", multi_class="ovr", **given),
        ("auc", "switches"): lambda: metrics.roc_auc_score(y, logits, average="macro", **given),
        ("perplexity", "classes"): lambda: np.exp(metrics.log_loss(y, p, labels=range(O), **given)),
        ("bits_per_character", "classes"): lambda: metrics.log_loss(y, p, labels=range(O), **given) / np.log(2),
        ("bits_per_byte", "classes"): lambda: metrics.log_loss(y, p, labels=range(O), **given) / np.log(2),
        ("mae", "numbers"): lambda: metrics.mean_absolute_error(y, logits, **given),
        ("mse", "numbers"): lambda: metrics.mean_squared_error(y, logits, **given),
        ("rmse", "numbers"): lambda: np.sqrt(metrics.mean_squared_error(y, logits, **given)),
        ("r2", "numbers"): lambda: metrics.r2_score(y, logits, **given),
    }
    found = computed(name, kind, logits.astype(np.float32), y, weight.astype(np.float32))
    assert found == pytest.approx(expected[name, kind](), rel=2e-6)


def test_a_class_that_is_neither_label_nor_prediction_does_not_count():
    logits, y = np.eye(3, 4, dtype=np.float32)[[0, 1, 1, 0]], np.array([0, 1, 0, 0], np.int32)
    weight = np.ones(4, np.float32)
    assert computed("macro_f1", "classes", logits, y, weight) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert computed("balanced_accuracy", "classes", logits, y, weight) == pytest.approx((2 / 3 + 1) / 2)


def test_the_names_are_those_of_the_configuration():
    table = {}
    for name, kind in METRICS:
        table.setdefault(kind, []).append(name)
    assert {kind: tuple(names) for kind, names in table.items()} == dict(configuration.METRICS)
    assert {name: row.kind for name, row in LOSSES.items()} == dict(configuration.KINDS)


# Losses


def test_losses_of_numbers_are_their_formulas():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 3, 2))
    error = y - logits
    for section, expected in (
        (Loss(name="absolute"), np.abs(error)),
        (Loss(name="huber", delta=0.4), np.where(np.abs(error) < 0.4, error**2 / 2, 0.4 * (np.abs(error) - 0.2))),
    ):
        found = loss_of(section).value(jnp.asarray(logits), jnp.asarray(y), 0.0)
        np.testing.assert_allclose(found, expected.mean(axis=-1), rtol=1e-5)
    q = np.array([0.1, 0.5, 0.8])
    section = Loss(name="quantile", quantiles=tuple(q.tolist()))
    logits = rng.normal(size=(5, 3, 6))
    error = y[..., None] - logits.reshape(5, 3, 2, 3)
    expected = np.where(error > 0, q * error, (q - 1) * error).mean(axis=(-1, -2))
    np.testing.assert_allclose(loss_of(section).value(jnp.asarray(logits), jnp.asarray(y), 0.0), expected, rtol=1e-5)
    np.testing.assert_array_equal(points(logits, section), logits.reshape(5, 3, 2, 3)[..., 1])


def test_the_quantile_loss_is_least_at_the_quantile():
    y = jnp.asarray(np.random.default_rng(0).normal(size=(1001, 1)))
    section = Loss(name="quantile", quantiles=(0.25,))
    tried = np.linspace(-2, 2, 401)
    losses = [float(loss_of(section).value(jnp.full((1001, 1), t), y, 0.0).mean()) for t in tried]
    assert tried[int(np.argmin(losses))] == pytest.approx(np.quantile(y, 0.25), abs=0.02)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "target"), [("absolute", "number"), ("huber", "number_each_step"), ("quantile", "number_each_step")]
)
def test_every_loss_of_numbers_is_learned_and_read_in_units(tmp_path, name, target):
    x, y, lengths = write_sequences(tmp_path / "a.npz", target=target)
    np.savez(tmp_path / "a.npz", x=x, y=y * 20 + 500, lengths=lengths)
    loss = {"name": name} | ({"quantiles": [0.2, 0.5, 0.9]} if name == "quantile" else {})
    metrics = ["r2", "mae", "rmse", *(["pinball"] if name == "quantile" else [])]
    settings = config(
        data={"source": str(tmp_path / "a.npz")}, loss=loss, metrics=metrics, steps=60, evaluate_every=20,
        optimizer={"learning_rate": 0.03}, batch_size=16,
    )  # fmt: skip
    result = train(settings, tmp_path / "run", quiet=True)
    assert result.last_line == f"validation r2 {result.validation['r2']:.4f}"
    assert result.step == max(lines(result.run_dir), key=lambda record: record["validation"]["r2"])["step"]
    trained = load_run(result.run_dir)
    from lstmjax.data import load

    parts, about = load(settings.data, name)
    raw = about.unscaled(parts.validation)
    outputs = predict(trained, raw.x, raw.lengths).outputs
    width = 3 if name == "quantile" else 1
    assert outputs.shape[-1] == width
    valid = parts.validation.valid() if target == "number_each_step" else slice(None)
    truth = about.unscaled_targets(parts.validation.y)[valid][..., 0].astype(float)
    found = outputs[valid].reshape(-1, width).astype(float)
    error = truth - found[:, width // 2]
    assert result.validation["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-3)
    assert result.validation["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3)
    assert result.validation["r2"] == pytest.approx(1 - (error**2).mean() / truth.var(), abs=1e-3)
    if name == "quantile":
        q = np.array([0.2, 0.5, 0.9])
        all_errors = truth[:, None] - found
        pinball = np.maximum(q * all_errors, (q - 1) * all_errors).mean()
        assert result.validation["pinball"] == pytest.approx(pinball, rel=1e-3)
        assert list(evaluate_run(result.run_dir, "validation"))[-1] == result.last_line


# Weights


def test_weighted_sequences_are_repeated_ones(tmp_path):
    """A sequence of weight 2 counts as two, in the loss, its gradient, and every metric."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 5, 3)).astype(np.float32), rng.integers(0, 2, 9).astype(np.int32)
    weight = rng.integers(1, 4, 9)
    repeated = np.repeat(np.arange(9), weight)
    settings = config(metrics=["balanced_accuracy", "auc", "perplexity"])
    write_sequences(tmp_path / "a.npz", ragged=False)
    about = new_plan(config(data={"source": str(tmp_path / "a.npz")})).about
    trained = Trained(init_network(jax.random.key(0), 3, 4, 2, init="equinox"), settings, about)
    one, outputs = measured(trained, Sequences(x, y, weight=weight.astype(np.float32)))
    other, _ = measured(trained, Sequences(x[repeated], y[repeated]))
    assert one == pytest.approx(other, rel=1e-5)
    assert outputs.shape == (9, 2)


def test_class_weights_are_factors_of_the_loss_whose_mean_is_one(tmp_path):
    write_sequences(tmp_path / "a.npz", target="word", ragged=False)
    data = {"source": str(tmp_path / "a.npz")}

    def plan_of(weights):
        return new_plan(config(data=data, loss={"class_weights": weights}))

    y = plan_of(None).parts.train.y
    counts = np.bincount(y)
    assert plan_of(None).recipe.class_weights is None
    np.testing.assert_allclose(plan_of("balanced").recipe.class_weights, len(y) / (2 * counts), rtol=1e-12)
    factors = np.array(plan_of({"up": 3}).recipe.class_weights)
    assert factors[1] / factors[0] == pytest.approx(3)
    assert factors[y].mean() == pytest.approx(1)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(len(y), 2)))
    plain = LOSSES["softmax"].value(logits, y, 0.0)
    sums = sums_of(logits, jnp.asarray(y), None, None, loss=Loss(), class_weights=tuple(factors.tolist()))
    np.testing.assert_allclose(sums.loss, (factors[y] * np.asarray(plain)).sum(), rtol=1e-5)
    assert float(sums.weight) == len(y)
    with pytest.raises(ConfigError, match=r"loss\.class_weights has 'sideways'; the classes are down, up"):
        plan_of({"sideways": 2})


# Runs


def test_a_run_writes_and_prints_every_metric(tmp_path, capsys):
    write_sequences(tmp_path / "a.npz", target="class_each_step")
    names = ["macro_f1", "auc", "accuracy"]
    settings = config(data={"source": str(tmp_path / "a.npz")}, metrics=names, steps=4)
    result = train(settings, tmp_path / "run")
    shown = capsys.readouterr().out.splitlines()
    first, last = lines(result.run_dir)
    assert list(first["validation"]) == ["loss", *names]
    assert list(first["train"]) == ["loss", "macro_f1", "accuracy"]  # auc needs all outputs at once
    validated = "  ".join(f"{name} {last['validation'][name]:.4f}" for name in names)
    assert f"validation {validated}  " in shown[-1]
    assert metrics_of(settings) == tuple(names)
    evaluated = list(evaluate_run(result.run_dir, "validation"))
    assert evaluated[-1] == f"validation macro_f1 {result.validation['macro_f1']:.4f}"
    assert f"validation auc {result.validation['auc']:.4f}" in evaluated


@pytest.mark.parametrize("target", ["word", "class_each_step"])
def test_a_class_that_does_not_train_is_warned_of(tmp_path, caplog, target):
    x, y, lengths = write_sequences(tmp_path / "a.npz", target=target)
    new_plan(config(data={"source": str(tmp_path / "a.npz"), "validation": str(tmp_path / "a.npz")}))
    assert "cannot learn" not in caplog.text
    one, labels = y[-1] if y.ndim == 1 else 0, y[:, 0] if y.ndim == 2 else y
    kept = np.flatnonzero(labels == one) if y.ndim == 1 else np.arange(len(y))
    np.savez(tmp_path / "b.npz", x=x[kept], y=y[kept] if y.ndim == 1 else np.zeros_like(y), lengths=lengths[kept])
    new_plan(config(data={"source": str(tmp_path / "b.npz"), "validation": str(tmp_path / "a.npz")}))
    valid = np.arange(x.shape[1]) < lengths[:, None]
    other = y != one if y.ndim == 1 else (y == 1)[valid]
    assert f"validation: {other.sum()} of {other.size} labels are of classes that the training part" in caplog.text


def test_a_metric_that_labels_do_not_define_is_refused_before_training(tmp_path):
    x, y, lengths = write_sequences(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=x, y=np.zeros_like(y), lengths=lengths)
    data = {"source": str(tmp_path / "a.npz"), "test": str(tmp_path / "b.npz")}
    with pytest.raises(DataError, match="test: has no label of class '1', so that auc means nothing; give other"):
        train(config(data=data, metrics=["auc"]), tmp_path / "run", quiet=True)
    np.savez(tmp_path / "b.npz", x=x, y=np.full(len(y), 2.5), lengths=lengths)
    with pytest.raises(DataError, match="test: y_0 is always the same, so that r2 means nothing"):
        train(config(data=data, loss={"name": "linear"}, metrics=["r2"]), tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"metrics": ["r2"]},
            "metrics has 'r2', but those of loss.name: softmax are accuracy, balanced_accuracy, macro",
        ),
        ({"metrics": ["auc", "auc"]}, "metrics names one twice: auc, auc; name each once"),
        (
            {"loss": {"name": "huber", "label_smoothing": 0.1}},
            "label_smoothing is for classes; set it to 0 for loss.na",
        ),
        ({"loss": {"name": "quantile"}}, "loss.quantiles and loss.name: quantile go together; give both or neither"),
        ({"loss": {"name": "quantile", "quantiles": [0.5, 0.2]}}, "give each once, in ascending order"),
        ({"loss": {"name": "quantile", "quantiles": [1.5]}}, "loss.quantiles is .*should be less than 1"),
        ({"loss": {"delta": 2.0}}, "loss.delta is for loss.name: huber; remove it for softmax"),
        ({"loss": {"name": "sigmoid", "class_weights": "balanced"}}, "loss.class_weights is for loss.name: softmax"),
        ({"loss": {"class_weights": {"up": -1.0}}}, "loss.class_weights"),
    ],
)
def test_values_that_make_no_sense_are_told(sections, message):
    with pytest.raises(ConfigError, match=message):
        config(**sections)


@pytest.mark.thorough
def test_quantiles_are_exported_and_looked_at(tmp_path):
    """The files compute every quantile; the page shows the one in the middle."""
    onnxruntime = pytest.importorskip("onnxruntime")
    x, y, _ = write_sequences(tmp_path / "a.npz", target="number", ragged=False)
    np.savez(tmp_path / "a.npz", x=x, y=y * 20 + 500)
    loss = {"name": "quantile", "quantiles": [0.2, 0.5, 0.9]}
    data = {"source": str(tmp_path / "a.npz")}
    result = train(config(data=data, loss=loss, steps=2), tmp_path / "run", quiet=True)
    expected = predict(result.trained, x).outputs
    list(export_run(result.run_dir, tmp_path / "a.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    np.testing.assert_allclose(session.run(["logits"], {"xs": x})[0], expected, rtol=1e-5)
    list(export_run(result.run_dir, tmp_path / "a.stablehlo"))
    exported = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    np.testing.assert_allclose(exported.call(x)["logits"], expected, rtol=1e-5)
    shown = predict(predicting(result.trained), x).outputs
    np.testing.assert_allclose(shown, expected[:, 1:2], rtol=1e-6)
    page = list(inspect_run(result.run_dir, examples=1))
    assert any("report.html" in line for line in page)
