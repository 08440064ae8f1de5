"""What is on the report's page of arrays; test_report_run.py has that of a run, test_report_page.py how it looks."""

import html
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import data_of, unpacked

from lstmjax import Dense, NetworkParams, init_network, init_params, network
from lstmjax.data import markers, order
from lstmjax.inside import Question, rank_units, trace
from lstmjax.report import page, report
from lstmjax.report.choose import choose
from lstmjax.report.collect import Settings
from lstmjax.report.pack import PLANS, PageArray, pack
from lstmjax.report.questions import Known, remembered

pytestmark = pytest.mark.usefixtures("promotion")


@pytest.mark.parametrize("bits", [8, 16])
def test_packed_numbers_come_back_within_half_a_step(bits):
    values = np.random.default_rng(1).normal(3.0, 20.0, (7, 5))
    back, error = unpacked(json.loads(json.dumps(pack(values, bits))))
    assert np.abs(back - values).max() <= error < 200 / 2**bits
    assert back.min() == values.min()
    assert "data" not in pack(np.full((2, 3), 0.25), bits)


@pytest.fixture(scope="module")
def sequences():
    random = np.random.default_rng(2)
    return random.normal(size=(5, 6, 3)).astype(np.float32), np.array([6, 2, 5, 6, 3]), np.array([1, 0, 1, 1, 0])


@pytest.fixture(scope="module")
def params():
    """A pair of four units in each direction, and two units on top."""
    below, above = jax.random.split(jax.random.key(4))
    pair = init_network(below, 3, 4, 1, bidirectional=True).layers
    return NetworkParams((*pair, init_params(above, 8, 2)), Dense(jnp.array([[0.5, -1.0], [2.0, 0.25]]), jnp.zeros(2)))


@pytest.fixture(scope="module")
def tree(params, sequences):
    xs, lengths, labels = sequences
    with jax.numpy_dtype_promotion("standard"):
        return data_of(report(params, xs, lengths=lengths, labels=labels, examples=(3, 1), classes=["no", "yes"]).html)


def test_the_page_holds_the_gates_of_every_layer_and_direction(tree, params, sequences):
    xs, lengths, _ = sequences
    assert [part["label"] for part in tree["parts"]] == ["layer 1, forward", "layer 1, reverse", "layer 2"]
    assert [field["name"] for field in tree["fields"]] == list("ifgoch")
    assert [example["steps"] for example in tree["examples"]] == [lengths[3], lengths[1]]
    one = trace(params, xs[1, : lengths[1]])  # by itself, without padding
    for part, step in zip(tree["examples"][1]["parts"], [*one[0], one[1]], strict=True):
        for name, packed in part.items():
            values, error = unpacked(packed)
            assert np.abs(values - np.asarray(getattr(step, name), np.float64)).max() <= error + 1e-6
    for row, example in zip((3, 1), tree["examples"], strict=True):
        assert (unpacked(example["input"])[0] == xs[row, : lengths[row]]).all()  # to the last bit


def test_what_the_network_says_at_each_step_is_what_it_says_of_each_beginning(tree, params, sequences):
    xs, lengths, _ = sequences
    for row, example in zip((3, 1), tree["examples"], strict=True):
        values, error = unpacked(example["overTime"]["values"])
        assert example["overTime"]["outputs"] == [0, 1]
        assert values.shape == (lengths[row], 2)
        for t, chances in enumerate(values):
            expected = jax.nn.softmax(network(params, xs[row, : t + 1])[1])
            assert np.abs(chances - np.asarray(expected)).max() <= error + 1e-5
        assert values[-1] == pytest.approx(example["outputs"], abs=error + 1e-5)


@pytest.mark.thorough
def test_too_many_beginnings_are_left_out_with_a_word(params, sequences, monkeypatch):
    xs, lengths, _ = sequences
    monkeypatch.setattr("lstmjax.report.collect.MAX_PREFIXES", 5)
    tree = data_of(report(params, xs[:4], lengths=lengths[:4], examples=(0,)).html)
    assert tree["examples"][0]["overTime"] is None
    assert tree["notes"][0].startswith("Predictions over time are left out: there are more than")


@pytest.mark.thorough
def test_with_one_direction_every_step_is_a_beginning(sequences):
    xs, lengths, _ = sequences
    params = init_network(jax.random.key(9), 3, 4, 14)
    example = data_of(report(params, xs, lengths=lengths, examples=(2,)).html)["examples"][0]
    values, error = unpacked(example["overTime"]["values"])
    assert values.shape == (lengths[2], 12)  # of 14 outputs
    expected = np.asarray(jax.nn.softmax(network(params, xs[2, :3])[1]))[example["overTime"]["outputs"]]
    assert np.abs(values[2] - expected).max() <= error + 1e-5
    assert int(np.argmax(example["outputs"])) in example["overTime"]["outputs"]


@pytest.mark.parametrize(
    ("loss", "per_step", "score"),
    [
        ("softmax", False, lambda logits: logits.max()),
        pytest.param("sigmoid", False, lambda logits: np.abs(logits).sum(), marks=pytest.mark.thorough),
        ("linear", True, lambda logits: logits.sum()),
    ],
)
def test_saliency_is_the_slope_of_the_score(params, sequences, loss, per_step, score):
    xs, lengths, _ = sequences
    options = {"lengths": lengths, "loss": loss, "per_step": per_step}
    values, error = unpacked(data_of(report(params, xs, examples=(2,), **options).html)["examples"][0]["saliency"])
    assert values.shape == (lengths[2], 3)

    def score_of(t, feature, by):
        changed = xs[2, : lengths[2]].copy()
        changed[t, feature] += by
        return float(score(np.asarray(network(params, changed, return_sequences=per_step)[1], np.float64)))

    for t, feature in ((0, 0), (2, 1), (lengths[2] - 1, 2)):
        slope = (score_of(t, feature, 0.01) - score_of(t, feature, -0.01)) / 0.02
        assert values[t, feature] == pytest.approx(slope, abs=error + 2e-3)


def test_results_count_what_is_wrong_over_all_sequences(tree, params, sequences):
    xs, lengths, labels = sequences
    chances = np.asarray(jax.nn.softmax(network(params, xs, lengths=lengths)[1]))
    says, outcome = chances.argmax(1), tree["outcome"]
    assert outcome["matrix"] == [[int(((labels == a) & (says == b)).sum()) for b in range(2)] for a in range(2)]
    assert (outcome["right"], outcome["count"], outcome["of"]) == ((says == labels).sum(), 5, "sequences")
    wrong = [n for n in np.argsort(-chances.max(1), kind="stable").tolist() if says[n] != labels[n]]
    assert wrong
    assert [entry["name"] for entry in outcome["wrong"]] == [f"sequence {n}" for n in wrong]
    assert [entry["chance"] for entry in outcome["wrong"]] == pytest.approx(chances.max(1)[wrong].tolist(), abs=1e-5)
    assert [entry["example"] for entry in outcome["wrong"]] == [{3: 0, 1: 1}.get(n) for n in wrong]
    for n, (count, recall, precision, f1) in enumerate(outcome["scores"]):
        right = ((labels == n) & (says == n)).sum()
        assert count == (labels == n).sum()
        assert recall == pytest.approx(right / count)
        assert precision == (None if not (says == n).any() else pytest.approx(right / (says == n).sum()))
        assert f1 == pytest.approx(2 * right / ((labels == n).sum() + (says == n).sum()), abs=1e-5)


def test_results_of_steps_leave_out_padding(params, sequences):
    xs, lengths, _ = sequences
    labels = np.random.default_rng(6).integers(0, 2, (5, 6))
    outcome = data_of(report(params, xs, lengths=lengths, labels=labels, per_step=True).html)["outcome"]
    assert (outcome["of"], outcome["count"]) == ("steps", lengths.sum())
    says = np.asarray(network(params, xs, lengths=lengths, return_sequences=True)[1]).argmax(-1)
    valid = np.arange(6) < lengths[:, None]
    assert outcome["wrongs"] == (says != labels)[valid].sum() == len(outcome["wrong"])
    for entry in outcome["wrong"]:
        row = int(entry["name"].split()[1])
        assert says[row, entry["step"]] == entry["says"] != entry["label"] == labels[row, entry["step"]]


@pytest.mark.thorough
def test_results_of_switches_and_numbers(params, sequences):
    xs, lengths, labels = sequences
    targets = np.stack([labels, 1 - labels], 1).astype(np.float32)
    logits = np.asarray(network(params, xs, lengths=lengths)[1], np.float64)
    options = {"lengths": lengths, "labels": targets}
    on = data_of(report(params, xs, loss="sigmoid", **options).html)["outcome"]
    assert on["right"] == ((logits > 0) == (targets > 0.5)).all(1).sum()
    says = logits[:, 0] > 0
    assert on["scores"][0][:2] == [labels.sum(), pytest.approx((says & (labels == 1)).sum() / labels.sum())]
    numbers = data_of(report(params, xs, loss="linear", **options).html)["outcome"]
    for n, (root, mean, r2) in enumerate(numbers["scores"]):
        error = logits[:, n] - targets[:, n]
        assert root == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
        assert mean == pytest.approx(np.abs(error).mean(), rel=1e-4)
        assert r2 == pytest.approx(1 - (error**2).sum() / ((targets[:, n] - targets[:, n].mean()) ** 2).sum(), abs=1e-4)
    assert np.allclose(numbers["prediction"], logits, atol=1e-4)
    assert [entry["error"] for entry in numbers["worst"]] == pytest.approx(
        sorted(np.sqrt(((logits - targets) ** 2).mean(1)), reverse=True), rel=1e-4
    )


def test_predictions_and_losses_are_those_of_the_network(tree, params, sequences):
    xs, lengths, labels = sequences
    chances = jax.nn.softmax(network(params, xs, lengths=lengths)[1])
    for row, example in zip((3, 1), tree["examples"], strict=True):
        assert example["outputs"] == pytest.approx(np.asarray(chances[row]).tolist(), abs=1e-5)
        assert example["target"] == labels[row]
        assert example["loss"] == pytest.approx(-float(jnp.log(chances[row, labels[row]])), abs=1e-5)
        best = int(chances[row].argmax())
        assert example["right"] == (best == labels[row])
        assert example["verdict"].startswith(f"{('no', 'yes')[best]} ({100 * float(chances[row, best]):.1f}%)")


def test_the_gradient_is_that_of_the_loss(tree, params, sequences):
    """∂L/∂h of the last valid step of the top layer is what the head hands down."""
    xs, lengths, labels = sequences
    chances = jax.nn.softmax(network(params, xs, lengths=lengths)[1])
    for row, example in zip((3, 1), tree["examples"], strict=True):
        down = params.head.w @ (chances[row] - jax.nn.one_hot(labels[row], 2))
        assert example["flow"][2]["h"][-1] == pytest.approx(float(jnp.linalg.norm(down)), rel=1e-4)
        assert all(len(flow[name]) == lengths[row] for flow in example["flow"] for name in "ch")
    assert tree["flow"] == "L is the softmax loss of the labels"


def test_saturation_is_counted_over_all_sequences(tree, params, sequences):
    xs, lengths, _ = sequences
    valid = np.arange(6) < lengths[:, None]
    found = tree["saturation"]
    assert f"Over {lengths.sum()} steps of 5 sequences" in found["says"]
    assert [list(part) for part in found["parts"]] == [list("ifgo")] * 3
    o = np.asarray(trace(params, xs, lengths=lengths)[0].forward.o)[valid]
    assert found["parts"][0]["o"]["left"] == pytest.approx((o < 0.1).mean(0).tolist(), abs=1e-5)
    assert found["parts"][0]["o"]["right"] == pytest.approx((o > 0.9).mean(0).tolist(), abs=1e-5)


def test_the_model_is_told_with_its_shapes(tree, params):
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert tree["model"]["parameters"] == f"{total:,}"
    assert tree["facts"][:2] == ["2 LSTM layers, 2 or 4 units", f"{total:,} parameters"]
    assert tree["model"]["layers"][2]["rows"][0] == ["w_x", "x · w_x", "(I, 4, H)", "(8, 4, 2)", "4·I·H = 64"]


def enlarged(tree, steps, units, examples=1):
    """A page's tree with arrays of another size in it."""
    random = np.random.default_rng(3)
    one = tree["examples"][0] | {
        "steps": steps,
        "input": PageArray(random.normal(size=(steps, 3))),
        "parts": [{name: PageArray(random.normal(size=(steps, units)), name) for name in "ifgoch"}],
        "flow": [{name: random.normal(size=steps).tolist() for name in "ch"}],
    }
    fields = [{"name": name} for name in "ifgoch"]
    return tree | {
        "examples": [one] * examples,
        "notes": [],
        "parts": [{"label": "", "units": units}],
        "fields": fields,
    }


def test_a_second_network_is_beside_the_first(tree, params, sequences):
    xs, lengths, labels = sequences
    second = init_network(jax.random.key(8), 3, 2, 2)
    options = {"lengths": lengths, "labels": labels, "examples": (3, 1), "classes": ["no", "yes"]}
    both = data_of(report(params, xs, compare={"params": second, "xs": xs / 2, "title": "small"}, **options).html)
    alone = data_of(report(second, xs / 2, title="small", **options).html)
    assert both["examples"] == tree["examples"]
    assert (both["other"]["title"], both["other"]["facts"]) == ("small", alone["facts"])
    for one, expected in zip(both["other"]["examples"], alone["examples"], strict=True):
        assert one == {key: value for key, value in expected.items() if key not in ("input", "saliency", "flow")}
    assert both["other"]["outcome"]["scores"] == alone["outcome"]["scores"]
    assert tree["other"] is None


def test_a_page_is_as_small_as_it_says(tree):
    text = page.assemble(enlarged(tree, 200, 256), 2_000_000)
    assert len(text.encode()) < 2_000_000
    assert PLANS[0].note in data_of(text)["notes"][0]
    assert data_of(text)["notes"][-1].startswith(f"This page holds 1 example in {len(text) / 1e6:.2f} MB")


@pytest.mark.parametrize(("megabytes", "n", "fields"), [(1.6, 1, "ifgoch"), (1.2, 2, "ifgoch"), (0.6, 3, "fc")])
def test_what_does_not_fit_is_reduced_and_said(tree, megabytes, n, fields):
    text = page.assemble(enlarged(tree, 200, 256, examples=2), int(megabytes * 1e6))
    assert len(text) <= megabytes * 1e6
    found = data_of(text)
    assert PLANS[n].note in found["notes"][0]
    assert [field["name"] for field in found["fields"]] == list(fields)
    assert list(found["examples"][0]["parts"][0]) == list(fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 60_000}, "MB for the arrays, but only f and c are here, to 8 bit, they take 0.0 MB. Show fewer"),
        ({"loss": "hinge"}, "loss is 'hinge', expected one of 'softmax', 'sigmoid', 'linear', 'absolute', "),
        ({"examples": (0, 5)}, "examples is [0, 5], expected different rows of xs, 0 to 4; at least one."),
        ({"lengths": np.array([6, 0, 5, 6, 3])}, "expected 5 whole numbers from 1 to T = 6."),
        ({"labels": np.array([1, 0])}, "labels has shape (2,), but xs has 5 sequences; give one label for each."),
        ({"labels": np.full(5, 0.5)}, "labels is float64 (5,), but the loss softmax of these sequences expects"),
        ({"labels": np.array([0, 0, 0, 2, 0])}, "labels holds 0 to 2, expected classes 0 to 1."),
        ({"classes": ["a"]}, "classes has 1 names, but the network has 2 outputs; give one for each."),
        ({"features": ["a"]}, "features has 1 names, but xs has 3 features at each step; give one for each."),
        ({"names": ["a"]}, "names has 1 names, but xs has 5 sequences; give one for each."),
        ({"times": [["a"]]}, "times has 1 names, but xs has 5 sequences; give one for each."),
        ({"times": [["a"]] * 5}, "times[0] has 1 names, but that sequence has 6 valid steps."),
        ({"shown": np.zeros((5, 6, 2))}, "shown has shape (5, 6, 2), but xs (5, 6, 3); expected the same inputs"),
        ({"xs": np.zeros(3)}, "xs has shape (3,), expected [N, T, I], or one sequence [T, I], with numbers in it."),
        (
            {"xs": np.full((5, 6, 3), np.nan)},
            "xs holds numbers that are not finite at valid steps; fill or remove them",
        ),
        ({"compare": {"param": 1}}, "compare has 'param', expected arguments of report: params, xs, lengths"),
        ({"compare": {"title": "b"}}, "compare has no 'params'; pass those of the second network."),
        ({"remembers": [("who", [(2, "forward", 0, 0.9)])]}, "remembers: 'who' names layer 2 forward, which is not"),
    ],
)
def test_what_does_not_fit_is_refused(params, sequences, options, message):
    xs, lengths, labels = sequences
    options = {"xs": xs, "lengths": lengths, "labels": labels, "examples": (3, 1)} | options
    with pytest.raises(ValueError, match=re.escape(message)):
        report(params, **options)


def test_a_network_that_computes_no_numbers_is_refused(params, sequences):
    xs, lengths, labels = sequences
    top = jax.tree.map(lambda a: a.at[..., 0].set(jnp.nan), params.layers[1])
    broken = params._replace(layers=(params.layers[0], top))
    with pytest.raises(ValueError, match=r"i \(input gate\) of layer 2, unit 0, is nan at step 0 of example 0"):
        report(broken, xs, lengths=lengths, labels=labels, examples=(3, 1))


def test_without_a_head_or_labels_the_page_says_what_the_gradient_is_of():
    xs = np.random.default_rng(4).normal(size=(7, 3)).astype(np.float32)
    alone = data_of(report(init_params(jax.random.key(5), 3, 2), xs).html)
    assert (alone["outputs"], alone["flow"]) == (
        None,
        "L is half the square of the last h of the top layer: there is no head",
    )
    flow = alone["examples"][0]["flow"][0]["h"]
    h = unpacked(alone["examples"][0]["parts"][0]["h"])[0][-1]
    assert flow[-1] == pytest.approx(np.linalg.norm(h), rel=1e-3)


def test_letters_are_told_from_other_inputs():
    xs = np.eye(3, dtype=np.float32)[np.array([[2, 0, 1, 1]])]
    xs[0, 3] = 0.0
    params = init_params(jax.random.key(6), 3, 2)
    tree = data_of(report(params, xs, features=["a", "b", "c"]).html)
    assert (tree["input"]["kind"], tree["examples"][0]["input"]) == ("text", [2, 0, 1, -1])
    assert data_of(report(params, xs).html)["input"]["kind"] == "signal"
    rows = np.random.default_rng(1).random((1, 4, 3, 5)).reshape(1, 4, 15).astype(np.float32)
    for scale, kind in ((1.0, "image"), (np.r_[1e3, np.ones(14)], "signal")):  # a feature in another unit
        wide = (rows * scale).astype(np.float32)
        assert data_of(report(init_params(jax.random.key(6), 15, 2), wide).html)["input"]["kind"] == kind
    assert data_of(report(params, 0.5 * xs, features=["a", "b", "c"]).html)["input"]["kind"] == "signal"


def test_examples_are_of_different_classes_and_the_worst_is_among_them():
    kinds, losses = np.array([1, 1, 0, 0, 2, 0]), np.array([0.1, 0.3, 0.2, 0.9, 0.1, 0.2])
    assert choose(kinds, losses, 3, known=True) == {2: "", 0: "", 3: "the largest loss"}
    assert choose(kinds, losses, 1, known=False) == {3: "the least sure"}
    assert list(choose(kinds, losses, 9, known=True)) == [2, 0, 4, 1, 5, 3]


def test_every_part_of_the_program_is_on_the_page():
    folder = Path(page.__file__).parent / "page"
    assert {path.stem for path in folder.glob("*.js")} == set(page.SCRIPTS)
    assert {path.name for path in folder.iterdir() if path.suffix != ".js"} == {"page.html", "page.css"}


@pytest.mark.thorough
def test_of_the_order_task_the_two_markers_are_asked():
    data = order(20).test.take(slice(6))
    params = init_network(jax.random.key(7), 8, 3, 4)
    how = Settings("softmax", False, "concat", False, (), None, None)
    found = dict(remembered(Known(params, data._replace(y=np.zeros(6)), None, how), ("XX", "XY", "YX", "YY"), "order"))
    traced = trace(params, data.x, lengths=data.lengths, fields="c")
    assert list(found) == ["first marker", "second marker"]
    for row in markers(data):
        expected = rank_units(traced, Question(*row))
        assert [unit[:3] for unit in found[row[0]]] == [unit[:3] for unit in expected]
        assert [unit.auc for unit in found[row[0]]] == pytest.approx([unit.auc for unit in expected])


@pytest.mark.thorough
def test_a_page_shows_itself_in_a_notebook_and_prints_as_its_path(params, sequences, tmp_path):
    page = report(params, sequences[0], examples=(0,))
    assert str(page) == "a page that is in no file yet; call .save(path)"
    frame = page._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts" srcdoc="')
    assert html.unescape(frame.split('srcdoc="')[1].split('"')[0]) == page.html
    saved = page.save(tmp_path / "page.html")
    assert str(saved) == str(tmp_path / "page.html")
    assert saved.path.read_text("utf-8") == page.html
    assert re.fullmatch(r"<Page of 0\.\d\d MB, .*page\.html>", repr(saved))
