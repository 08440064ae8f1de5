"""The temporal-order task: what is generated, and runs that learn it."""

import signal
from itertools import chain

import jax
import numpy as np
import pytest
from training import config

from lstmjax.config import Data
from lstmjax.data import DataError, load, markers, order
from lstmjax.data.order import SYMBOLS
from lstmjax.init_stack import init_network
from lstmjax.training import progress
from lstmjax.training.apply import evaluate_run
from lstmjax.training.inference import predict
from lstmjax.training.loop import resume, train
from lstmjax.training.reading import load_run
from lstmjax.training.run_hooks import Interrupted


def words(data):
    """The sequences as text."""
    length = np.full(len(data.x), data.x.shape[1]) if data.lengths is None else data.lengths
    return ["".join(SYMBOLS[s] for s in x[:n].argmax(axis=-1)) for x, n in zip(data.x, length, strict=True)]


@pytest.mark.parametrize("length", [100, 25])
def test_the_task_is_that_of_the_paper(length):
    data = order(length).test
    texts = words(data)
    assert len(texts) == 2560
    tenth = length // 10
    found = {"length": set(), "first": set(), "second": set()}
    for text, label in zip(texts, data.y, strict=True):
        first, second = (t for t, symbol in enumerate(text) if symbol in "XY")
        assert label == text[first] + text[second]
        assert (text[0], text[-1]) == ("E", "B")
        assert set(text[1:first] + text[first + 1 : second] + text[second + 1 : -1]) <= set("abcd")
        for name, value in (("length", len(text)), ("first", first), ("second", second)):
            found[name].add(value)
    assert found["length"] == set(range(length, length + tenth + 1))
    assert found["first"] == set(range(tenth, 2 * tenth + 1))
    assert found["second"] == set(range(5 * tenth, 6 * tenth + 1))
    # Inputs have one 1 at each step that is there, and nothing behind; the classes and symbols are drawn alike.
    np.testing.assert_array_equal(data.x.sum(axis=-1), data.valid())
    assert set(np.unique(data.x)) == {0.0, 1.0}
    share = np.unique(data.y, return_counts=True)[1] / 2560
    np.testing.assert_allclose(share, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 2560))
    count = np.array(["".join(texts).count(letter) for letter in "abcd"])
    np.testing.assert_allclose(count / count.sum(), 0.25, atol=4 * np.sqrt(0.25 * 0.75 / count.sum()))


def test_a_batch_follows_from_seed_and_step_and_parts_share_nothing():
    parts = order()
    drawn = {(seed, step): words(parts.draw(64, seed=seed, step=step)) for seed in (0, 1, 2) for step in (0, 1, 2)}
    again = order().draw(64, seed=2, step=1)
    assert words(again) == drawn[2, 1]
    every = [*words(parts.train), *words(parts.validation), *words(parts.test), *chain(*drawn.values())]
    assert len(set(every)) == len(every)
    np.testing.assert_array_equal(order().test.x, parts.test.x)


def test_what_is_loaded_is_what_the_network_sees():
    parts, about = load(Data(source="order", length=20))
    assert about.features == SYMBOLS
    assert about.classes == ("XX", "XY", "YX", "YY")
    assert (about.offset, about.scale) == ((0.0,) * 8, (1.0,) * 8)
    batch, raw = (p.draw(5, seed=3, step=4) for p in (parts, order(20)))
    np.testing.assert_array_equal(batch.x, raw.x)
    assert [about.classes[n] for n in batch.y] == raw.y.tolist()
    assert batch.y.dtype == np.int32
    assert batch.features is None  # it is handed to jit
    assert load(Data(source="order", length=30))[1].fingerprint != about.fingerprint


def test_markers_are_where_the_text_has_them():
    data = order(40).validation
    first, second = markers(data)
    assert (first[0], second[0]) == ("first marker", "second marker")
    for n, text in enumerate(words(data)):
        at = [t for t, symbol in enumerate(text) if symbol in "XY"]
        assert [first[1][n], second[1][n]] == [text[t] == "X" for t in at]
        assert first[2][n].tolist() == [at[0] + 1, at[1]]
        assert second[2][n].tolist() == [at[1] + 1, len(text)]


def test_what_has_no_two_markers_is_told():
    data = order(20).validation.take(slice(0, 3))
    x = data.x.copy()
    x[1, :, 6:] = 0.0
    with pytest.raises(DataError, match=r"^x\[1\] has 0 markers \(X or Y\), expected two; the task has no others$"):
        markers(data._replace(x=x))
    with pytest.raises(DataError, match=r"^x has 7 features, expected the task's 8: E, B, a, b, c, d, X, Y$"):
        markers(data._replace(x=x[..., :7]))


def test_input_gates_begin_closed_one_more_than_the_other():
    params = init_network(jax.random.key(0), 3, 4, 2, 2, bidirectional=True, input_bias=-1.0, input_bias_step=-5.0)
    plain = init_network(jax.random.key(0), 3, 4, 2, 2, bidirectional=True)
    for layer, other in zip(params.layers, plain.layers, strict=True):
        for part, before in zip(layer, other, strict=True):
            assert part.gate("i").b.tolist() == [-1.0, -6.0, -11.0, -16.0]
            np.testing.assert_array_equal(part.b[1:], before.b[1:])
            np.testing.assert_array_equal(part.w_x, before.w_x)
    double = init_network(jax.random.key(0), 3, 4, 2, init="torch", input_bias=-2.0).layers[0]
    assert (double.b + double.b_h)[0].tolist() == [-2.0] * 4
    for options, message in (
        ({"cell": "nig"}, "the cell 'nig' has no input gate"),
        ({"bias": None}, "the parameters have no bias"),
    ):
        with pytest.raises(ValueError, match=f"^input_bias is given, but {message}. Leave input_bias out.$"):
            init_network(jax.random.key(0), 3, 4, 2, input_bias=-1.0, **options)
    with pytest.raises(
        ValueError, match=r"^input_bias_step is -5.0, but there is no input_bias to step from. Pass both.$"
    ):
        init_network(jax.random.key(0), 3, 4, 2, input_bias_step=-5.0)


@pytest.mark.thorough
@pytest.mark.usefixtures("promotion")
def test_a_run_without_epochs_goes_on_exactly_and_can_be_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
    settings = config(
        model={"input_bias": -1.0, "input_bias_step": -5.0}, data={"source": "order", "length": 20}, steps=20,
        evaluate_every=None,
    )  # fmt: skip
    whole = train(settings, tmp_path / "whole")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("whole: 228 parameters, new sequences, 20 steps")
    assert [line.split()[1] for line in shown[2:]] == [f"{step}/20" for step in range(2, 21, 2)]  # ten in all
    seen = []

    def count(self, now):
        seen.append(None)
        if len(seen) == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "step", count)
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "run", quiet=True)
    result = resume(tmp_path / "run", quiet=True)
    for a, b in zip(*map(jax.tree.leaves, (whole.trained.params, result.trained.params)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert result.test == whole.test
    for part, count in (("train", 1024), ("validation", 1024), ("test", 2560)):
        assert next(evaluate_run(tmp_path / "run", part)).endswith(f", {count} sequences")
    data = order(20).test.take(slice(0, 4))
    assert set(predict(load_run(tmp_path / "run"), data.x, data.lengths).classes) <= {"XX", "XY", "YX", "YY"}
