"""Language models: against the oracle, the gradient through segments, evaluation with a carried state, sampling."""

import csv
import io
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import data_of, unpacked
from tiers import tiered
from tolerances import assert_close
from training import config, kill_in_training, lines, same_params

from lstmjax import (
    LanguageParams,
    Tied,
    init_language,
    init_params,
    language,
    lstm,
    oracle,
    truncated_gradient,
    weight_drop,
)
from lstmjax.cli import main
from lstmjax.config import ConfigError
from lstmjax.data import DataError, Tokens, Vocabulary, fables
from lstmjax.language_model import filtered
from lstmjax.training import evaluate, load_run, resume, sample_text, train
from lstmjax.training.forward import Trained, logits_of
from lstmjax.training.plan import new_plan
from lstmjax.training.recipe import StreamObjective, first_state
from lstmjax.training.streams import Segment, make_streams

pytestmark = pytest.mark.usefixtures("promotion")

V, E, H, L, B, T = 7, 4, 5, 2, 3, 6


def on_fables(**sections):
    """A tiny language model: four streams of segments of seven tokens."""
    data = {"source": "fables", "text": "characters", "segment": 7} | sections.pop("data", {})
    base = {"batch_size": 4, "steps": 8, "data": data, "model": {"hidden_size": H, "init": "equinox"}}
    return config(**(base | sections))


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, V, (B, T)).astype(np.int32)


@pytest.mark.parametrize("tied", tiered([False, True], first=[True]))
def test_it_is_the_oracle_over_the_rows_of_the_embedding(tokens, x64, tied):
    width = {"projection_size": E} if tied else {}
    cell = "projection" if tied else "vanilla"
    params = init_language(
        jax.random.key(0), V, H, L, embedding_size=E, tie_weights=tied, dtype=jnp.float64, cell=cell, **width
    )
    state, logits = language(params, tokens, cell=cell)
    assert logits.shape == (B, T, V)
    assert isinstance(params.head, Tied) == tied
    for n in range(B):
        if tied:  # the oracle's stack has no peepholes; the layer is tested against another one elsewhere
            h = jnp.asarray(params.embedding)[tokens[n]]
            for layer in params.layers:
                _, h = lstm(layer, h, cell=cell)
        else:
            (_, steps), _ = oracle.stacked(params.layers, np.asarray(params.embedding)[tokens[n]])
            h = steps.h
        w = np.asarray(params.embedding).T if tied else np.asarray(params.head.w)
        assert_close(logits[n], np.asarray(h) @ w + np.asarray(params.head.b))
    first, _ = language(params, tokens[:, :2], cell=cell)
    again, later = language(params, tokens[:, 2:], first, cell=cell)
    assert_close(later, logits[:, 2:])
    assert_close(again, state)


def test_the_gradient_of_a_tied_embedding_is_the_sum_of_its_two_uses(tokens, x64):
    params = init_language(jax.random.key(0), V, H, tie_weights=True, dtype=jnp.float64)
    apart = init_language(jax.random.key(0), V, H, dtype=jnp.float64)
    apart = apart._replace(embedding=params.embedding, layers=params.layers)
    apart = apart._replace(head=apart.head._replace(w=params.embedding.T, b=params.head.b))

    def loss(params):
        return jnp.square(language(params, tokens)[1]).sum()

    tied, two = jax.grad(loss)(params), jax.grad(loss)(apart)
    assert_close(tied.embedding, two.embedding + two.head.w.T, gradient=True)


def test_it_starts_from_rows_of_length_1():
    params = init_language(jax.random.key(1), 400, 300, projection_size=200, cell="projection")
    lengths = np.linalg.norm(np.asarray(params.embedding), axis=1)
    assert params.embedding.shape == (400, 200)
    assert abs(lengths.mean() - 1) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [[0, V]]}, "tokens has 7, but the vocabulary has 7 tokens, numbered from 0 to 6"),
        ({"tokens": [[-1, 2]]}, "tokens has -1, but the vocabulary"),
        ({"tokens": [[0.5]]}, "tokens are float32, expected whole numbers from 0 to 6"),
        ({"tokens": 3}, r"tokens is a single number, expected \[..., T\]"),
        ({"params": init_params}, "expected LanguageParams, as init_language returns them"),
        ({"dropout": 2.0}, "dropout is 2.0, expected"),
    ],
)
def test_what_does_not_fit_is_told(change, message):
    params = init_language(jax.random.key(0), V, H)
    with pytest.raises((ValueError, TypeError), match=message):
        language(**({"params": params, "tokens": [[1]]} | change))


def test_tokens_out_of_the_vocabulary_are_loud_in_a_program(tokens):
    params = init_language(jax.random.key(0), V, H)
    _, logits = jax.jit(language)(params, jnp.asarray([[1, V, 2]]))
    assert np.isfinite(logits[0, 0]).all()
    assert np.isnan(logits[0, 1:]).all()


def test_a_tied_embedding_of_another_width_is_refused():
    with pytest.raises(ValueError, match="embedding_size is 4, but tie_weights=True needs the width of h, 5"):
        init_language(jax.random.key(0), V, H, embedding_size=4, tie_weights=True)


# Dropped weights


def test_the_dropped_weights_are_those_that_every_step_multiplies_by(x64):
    """Against the oracle with the masked matrix, values and gradients."""
    params = init_params(jax.random.key(0), E, H, dtype=jnp.float64)
    xs = np.random.default_rng(0).normal(size=(B, T, E))
    dropped = weight_drop(params, 0.4, jax.random.key(1))
    kept = np.asarray(dropped.w_h) != 0
    assert 0.4 < kept.mean() < 0.8
    masked = params._replace(w_h=np.where(kept, np.asarray(params.w_h) / 0.6, 0.0))

    def run(params):
        return lstm(weight_drop(params, 0.4, jax.random.key(1)), xs)[1]

    ys, pull = jax.vjp(run, params)
    cotangent = np.random.default_rng(1).normal(size=ys.shape)
    (gradient,) = pull(jnp.asarray(cotangent))
    total = np.zeros_like(masked.w_h)
    for n in range(B):
        (_, steps), back = oracle.lstm(masked, xs[n])
        assert_close(ys[n], steps.h)
        total += back(None, oracle.Steps(h=cotangent[n])).params.w_h
    assert_close(gradient.w_h, np.where(kept, total / 0.6, 0.0), gradient=True)
    assert (np.asarray(gradient.w_h)[~kept] == 0).all()
    assert (np.asarray(gradient.w_h)[kept] != 0).all()
    assert np.abs(np.asarray(ys) - np.asarray(lstm(params, xs)[1])).max() > 1e-3


@pytest.mark.parametrize("stream", tiered([False, True], first=[True]))
def test_training_computes_with_dropped_weights_and_evaluation_without(stream):
    """A rate close to 1 leaves nothing of w_h: the loss is that of a network without it, and w_h gets no gradient."""
    model = {"hidden_size": H, "init": "equinox", "weight_drop": 0.9999999}
    settings = on_fables(model=model) if stream else config(model=model)
    plan = new_plan(settings)
    state = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)
    batch, key = plan.batches.draw(seed=0, step=0), jax.random.key(3)
    from lstmjax.training.recipe import NetworkObjective

    objective = (StreamObjective if stream else NetworkObjective)(plan.recipe)
    bare = plan.recipe._replace(model=plan.recipe.model.model_copy(update={"weight_drop": 0.0}))
    without = (StreamObjective if stream else NetworkObjective)(bare)
    (value, _), gradient = jax.value_and_grad(objective, has_aux=True)(state.params, state.rest, batch, key)
    (layer,) = state.params.layers
    cut = state.params._replace(layers=(layer._replace(w_h=jnp.zeros_like(layer.w_h)),))
    assert float(value) == pytest.approx(float(without(cut, state.rest, batch, key)[0]), rel=1e-6)
    assert float(value) != pytest.approx(float(without(state.params, state.rest, batch, key)[0]), rel=1e-6)
    assert not np.asarray(gradient.layers[0].w_h).any()
    assert np.asarray(gradient.layers[0].w_x).any()
    if not stream:
        x = np.asarray(batch.x)
        np.testing.assert_array_equal(
            logits_of(state.params, x, model=plan.recipe.model), logits_of(state.params, x, model=bare.model)
        )


def test_weights_are_dropped_in_every_layer_and_direction_alone():
    from lstmjax import init_stacked

    layers = init_stacked(jax.random.key(0), E, H, 2, bidirectional=True)
    dropped = weight_drop(layers, 0.5, jax.random.key(1))
    masks = [np.asarray(part.w_h) == 0 for pair in dropped for part in pair]
    assert len({mask.tobytes() for mask in masks}) == 4
    assert weight_drop(layers, 0.5, None) is layers
    assert not weight_drop(layers, 1.0, jax.random.key(1))[0].forward.w_h.any()
    with pytest.raises(TypeError, match=r"layers holds .*expected LSTMParams: pass the layers"):
        weight_drop({"w": jnp.ones(3)}, 0.5, jax.random.key(0))


# Streams


def test_streams_read_every_token_once_in_order():
    text = Tokens(np.arange(100, dtype=np.uint32), np.arange(100, dtype=np.int32), 0, 100)
    streams = make_streams(text, 3, 5)
    assert (streams.length, streams.epoch) == (32, 6)
    batches = [streams.draw(seed=1, step=step) for step in range(12)]
    assert [batch.fresh.tolist() for batch in batches] == ([[True] * 3] + [[False] * 3] * 5) * 2
    for epoch in (batches[:6], batches[6:]):
        read = np.concatenate([batch.tokens for batch in epoch], axis=1)
        assert read.shape == (3, 30)
        assert (np.diff(read, axis=1) == 1).all()
        assert (np.diff(read[:, 0]) == 33).all()
        assert 0 <= read[0, 0] <= 2
    assert all((batch.y == batch.tokens + 1).all() for batch in batches)
    with pytest.raises(DataError, match=r"100 tokens, but batch_size 20 streams of data.segment 50 tokens need 1,020"):
        make_streams(text, 20, None)


def test_training_is_truncated_backpropagation_with_the_state_carried(x64):
    """Three segments: the gradients and the state are those of `truncated_gradient`; of one segment those of all."""
    model = {"hidden_size": H, "init": "equinox", "dtype": "float64", "param_dtype": "float64"}
    plan = new_plan(on_fables(model=model))
    objective = StreamObjective(plan.recipe)
    first = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)
    batches = [plan.batches.draw(seed=0, step=step) for step in range(3)]
    gradient_of = jax.jit(jax.grad(objective, has_aux=True))
    params, rest, total = first.params, first.rest, None
    for batch in batches:
        gradient, (_, rest) = gradient_of(params, rest, batch, jax.random.key(0))
        total = gradient if total is None else jax.tree.map(jnp.add, total, gradient)

    def loss(params, state, inputs):
        tokens, y = inputs
        state, logits = language(params, tokens, state)
        p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(p, y[..., None], axis=-1).sum() / (4 * 7), state

    inputs = tuple(np.concatenate([getattr(batch, name) for batch in batches], axis=1) for name in ("tokens", "y"))
    _, expected, state = truncated_gradient(loss, params, None, inputs, segment=7)
    assert_close(total, expected, gradient=True)
    assert_close(rest, state)
    _, uncut, _ = truncated_gradient(loss, params, None, inputs)
    assert np.abs(np.asarray(uncut.layers[0].w_h - total.layers[0].w_h)).max() > 1e-6
    whole = Segment(*inputs, np.full(4, True))
    gradient, _ = gradient_of(params, first.rest, whole, jax.random.key(0))
    assert_close(jax.tree.map(lambda a: 3 * a, gradient), uncut, gradient=True)


def test_an_epoch_begins_with_a_state_of_zeros():
    plan = new_plan(on_fables())
    state = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)
    ones = jax.tree.map(jnp.ones_like, state.rest)
    batch = plan.batches.draw(seed=0, step=plan.batches.epoch)
    objective = StreamObjective(plan.recipe)
    losses = [float(objective(state.params, rest, batch, jax.random.key(0))[0]) for rest in (state.rest, ones)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("long", [False, True])
def test_a_part_is_evaluated_as_a_whole(monkeypatch, long):
    """Each token but the first once, from all before it; a long part as streams of their own."""
    from lstmjax.training import streams

    monkeypatch.setattr(streams, "CHUNK", 32)
    monkeypatch.setattr(streams, "LONG", 200 if long else 10_000)
    plan = new_plan(on_fables(metrics=["bits_per_character", "perplexity"]))
    params = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about).params
    part = plan.parts.validation
    values = evaluate(Trained(params, on_fables(metrics=["bits_per_character", "perplexity"]), plan.about), part)
    tokens = part.read(0, part.count)
    bounds = [0, 250, 500] if long else [0, 500]
    assert part.count == 501
    surprise = 0.0
    for start, stop in itertools.pairwise(bounds):
        _, logits = language(params, tokens[start:stop])
        p = jax.nn.log_softmax(logits)
        surprise -= float(p[jnp.arange(stop - start), tokens[start + 1 : stop + 1]].sum())
    assert values["loss"] == pytest.approx(surprise / 500, rel=1e-5)
    assert values["bits_per_character"] == pytest.approx(surprise / 500 / np.log(2), rel=1e-5)
    assert values["perplexity"] == pytest.approx(np.exp(surprise / 500), rel=1e-4)


# Runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
        return train(everything(), tmp_path_factory.mktemp("language") / "run", quiet=True)


def everything():
    return on_fables(
        model={
            "hidden_size": H, "layers": 2, "init": "equinox", "weight_drop": 0.3, "dropout": 0.2, "tie_weights": True
        },
        steps=24, evaluate_every=3, checkpoint_every=6, average={"decay": 0.7}, optimizer={"accumulate": 2},
        data={"segment": 40, "test_fraction": 0.1}, metrics=["bits_per_character", "accuracy"],
    )  # fmt: skip


@pytest.mark.thorough
def test_a_run_that_was_killed_goes_on_exactly(whole, tmp_path):
    """The carried state is part of the checkpoint; there are 11 steps in an epoch, so that it is not zero."""
    run = tmp_path / "run"
    kill_in_training(everything(), run)
    result = resume(run, quiet=True)
    same_params(result.trained.params, whole.trained.params)
    assert lines(run) == lines(whole.run_dir)
    assert (result.validation, result.test) == (whole.validation, whole.test)


def test_a_run_is_read_evaluated_and_sampled(whole, capsys):
    run = str(whole.run_dir)
    trained = load_run(run)
    same_params(trained.params, whole.trained.params)
    assert isinstance(trained.params, LanguageParams)
    assert set(trained.about.classes) == {*fables()[:1755], "<unk>"}  # of the training part alone
    assert main(["evaluate", run]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith(", 251 characters")
    assert printed[-1] == f"test bits_per_character {whole.test['bits_per_character']:.4f}"
    assert main(["sample", run, "--prompt", "The ", "--length", "9", "--seed", "3", "--top-k", "5"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("The ")
    assert text == "The " + "".join(sample_text(run, "The ", length=9, seed=3, top_k=5)) + "\n"
    assert len(text) == 14


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["convert", "RUN", "a.pt"],
            "is a language model, which reads tokens, so that lstmjax cannot exchange its weights",
        ),
        (["convert", "RUN", "a.pt"], "use lstmjax export, or its layers in Python"),
        (["predict", "RUN", "nothing.txt"], "nothing.txt: no such file"),
        (["export", "RUN", "a.pt"], "unknown kind of file; expected a name that ends in .onnx or .stablehlo"),
        (["sample", "RUN", "--prompt", "Ω"], "the character 'Ω' does not occur in the text that the network learned"),
        (["sample", "RUN", "--prompt", ""], "--prompt has 0 characters, expected 1 or more"),
        (["sample", "RUN", "--prompt", "a", "--temperature", "-1"], "--temperature is -1.0, expected 0 or more"),
        (["sample", "RUN", "--prompt", "a", "--top-p", "0"], "--top-p is 0.0, expected a probability above 0"),
        (["sample", "RUN", "--prompt", "a", "--top-k", "0"], "--top-k is 0, expected 1 or more"),
        (["sample", "RUN", "--prompt", "a", "--length", "0"], "--length is 0, expected 1 or more"),
    ],
)
def test_what_it_cannot_do_is_told(whole, words, message, capsys):
    assert main([str(whole.run_dir) if word == "RUN" else word for word in words]) != 0
    assert message in capsys.readouterr().err


def text_and_tokens(whole, tmp_path):
    path, text = tmp_path / "a.txt", fables()[300:345]
    path.write_text(text, encoding="utf-8")
    return path, np.asarray(Vocabulary(whole.trained.about.classes, "characters").numbers(text))


def test_predictions_are_the_probability_of_each_token(whole, tmp_path, capsys):
    path, numbers = text_and_tokens(whole, tmp_path)
    run = str(whole.run_dir)
    assert main(["predict", run, str(path)]) == 0
    head, *rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert head == ["place", "token", "log_probability", "likeliest"]
    log_p = jax.nn.log_softmax(language(whole.trained.params, numbers[:-1])[1])
    words = whole.trained.about.classes
    assert [row[0] for row in rows] == [str(n) for n in range(1, 45)]
    assert [row[1] for row in rows] == [words[n] for n in numbers[1:]]
    np.testing.assert_allclose([float(row[2]) for row in rows], log_p[np.arange(44), numbers[1:]], atol=1e-5)
    assert [row[3] for row in rows] == [words[int(n)] for n in log_p.argmax(axis=-1)]
    assert main(["evaluate", run, "--data", str(path)]) == 0
    loss = float(re.search(r"loss ([\d.]+), 45 characters", capsys.readouterr().out)[1])
    assert loss == pytest.approx(-np.mean([float(row[2]) for row in rows]), abs=1e-4)
    assert main(["predict", run, str(path), "--out", str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["token"].tolist() == [row[1] for row in rows]
    assert main(["predict", run, str(path), "--out", str(tmp_path / "a.csv")]) == 0
    text = (tmp_path / "a.csv").read_bytes().decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [head, *rows]


def test_long_texts_are_predicted_stream_by_stream_in_their_order(whole, monkeypatch):
    from lstmjax.training import streams

    monkeypatch.setattr(streams, "CHUNK", 32)
    monkeypatch.setattr(streams, "LONG", 200)
    plan = new_plan(everything())
    part = plan.parts.train
    scores = streams.score_stream(whole.trained, part)
    assert scores.tokens.tolist() == part.read(1, part.count).tolist()
    assert -scores.log_probability.mean() == pytest.approx(evaluate(whole.trained, part)["loss"], rel=1e-5)


def test_exported_models_go_on_from_their_state(whole, tmp_path):
    """ONNX Runtime and StableHLO, in two pieces of a text, against `language` over all of it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    _, numbers = text_and_tokens(whole, tmp_path)
    tokens = np.stack([numbers[:40], numbers[5:]]).astype(np.int64)
    _, logits = language(whole.trained.params, tokens)
    run = str(whole.run_dir)
    assert main(["export", run, str(tmp_path / "a.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    assert names == ["tokens", "layers.0.h", "layers.0.c", "layers.1.h", "layers.1.c"]
    state = {name: np.zeros((2, H), np.float32) for name in names[1:]}
    for piece, expected in ((tokens[:, :17], logits[:, :17]), (tokens[:, 17:], logits[:, 17:])):
        outputs = dict(
            zip([t.name for t in session.get_outputs()], session.run(None, {"tokens": piece} | state), strict=True)
        )
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)
        np.testing.assert_allclose(outputs["probabilities"], jax.nn.softmax(expected), atol=1e-5)
        state = {name: outputs[f"{name}.last"] for name in names[1:]}
    assert main(["export", run, str(tmp_path / "a.stablehlo"), "--lengths"]) == 0
    exported = jax.export.deserialize((tmp_path / "a.stablehlo").read_bytes())
    state = tuple((jnp.zeros((2, H)), jnp.zeros((2, H))) for _ in range(2))
    for piece, ends, expected in (
        (tokens[:, :17], [17, 17], logits[:, :17]), (tokens[:, 17:], [23, 9], logits[:, 17:]),
    ):  # fmt: skip
        outputs = exported.call(jnp.asarray(piece, jnp.int32), jnp.asarray(ends, jnp.int32), state)
        for n, end in enumerate(ends):
            np.testing.assert_allclose(outputs["logits"][n, :end], expected[n, :end], atol=1e-5)
        state = outputs["state"]


def test_a_page_shows_the_tokens_and_what_the_model_expected(whole, tmp_path, capsys):
    path, numbers = text_and_tokens(whole, tmp_path)
    assert main(["inspect", str(whole.run_dir), "--input", str(path), "--out", str(tmp_path / "a.html")]) == 0
    assert "1 of 1 pieces of 44 tokens of a.txt, each read from a state of zeros shown" in capsys.readouterr().out
    tree = data_of((tmp_path / "a.html").read_text("utf-8"))
    assert tree["input"] == {"kind": "text", "features": list(whole.trained.about.classes)}
    example = tree["examples"][0]
    assert example["target"] == numbers[1:].tolist()
    p, error = unpacked(example["outputs"])
    expected = jax.nn.softmax(language(whole.trained.params, numbers[:-1])[1])
    np.testing.assert_allclose(p, expected, atol=error + 1e-5)
    assert main(["inspect", str(whole.run_dir), "--out", str(tmp_path / "b.html")]) == 0
    assert "2 of 2 pieces of 100 tokens of the test part" in capsys.readouterr().out


def test_sampling_is_what_the_whole_network_says(whole):
    """At temperature 0 each token is the likeliest after all before it."""
    trained = whole.trained
    vocabulary = Vocabulary(trained.about.classes, "characters")
    text = "A Lion "
    for piece in sample_text(trained, text, length=5, temperature=0):
        _, logits = language(trained.params, vocabulary.numbers(text))
        logits = np.array(logits[-1])
        if vocabulary.unknown is not None:
            logits[vocabulary.unknown] = -np.inf
        assert trained.about.classes[int(logits.argmax())] == piece
        text += piece


def test_draws_have_the_probabilities_they_should():
    logits = jnp.log(jnp.asarray([0.4, 0.1, 0.3, 0.2]))
    p = jax.nn.softmax(filtered(logits, temperature=0.5))
    np.testing.assert_allclose(p, np.square([0.4, 0.1, 0.3, 0.2]) / 0.3, rtol=1e-5)
    p = jax.nn.softmax(filtered(logits, temperature=1.0, top_k=3))
    np.testing.assert_allclose(p, [4 / 9, 0, 3 / 9, 2 / 9], rtol=1e-5)
    p = jax.nn.softmax(filtered(logits, temperature=1.0, top_p=0.65))
    np.testing.assert_allclose(p, [4 / 7, 0, 3 / 7, 0], rtol=1e-5)
    p = jax.nn.softmax(filtered(logits, temperature=1.0, top_p=0.01))
    np.testing.assert_allclose(p, [1, 0, 0, 0])
    p = jax.nn.softmax(filtered(logits, temperature=1.0, top_k=2, top_p=0.9))  # of the two, .4/.7 and .3/.7
    np.testing.assert_allclose(p, [4 / 7, 0, 3 / 7, 0], rtol=1e-5)


@pytest.mark.thorough
def test_the_next_word_is_learned_from_the_three_before_it(tmp_path, monkeypatch, capsys):
    """The tutorial's task: words as numbers, a classification of the next one."""
    monkeypatch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
    data = {"source": "fable", "validation": "fable", "text": "words", "window": 3, "normalize": "none"}
    settings = config(data=data, model={"hidden_size": 8, "layers": 2, "init": "equinox"})
    plan = new_plan(settings)
    words = plan.about.classes
    assert (len(words), plan.about.input_size, len(plan.parts.train.x)) == (112, 1, 201)
    assert words[:3] == (",", "the", ".")  # by frequency
    numbers = plan.parts.train.x[4, :, 0].astype(int)
    assert [words[n] for n in numbers] == ["mice", "had", "a"]
    assert words[plan.parts.train.y[4]] == "general"
    result = train(settings, tmp_path / "run", name="fable")
    assert "is the text of training itself, so that it measures what was memorised" in capsys.readouterr().out
    text = "".join(sample_text(result.run_dir, "the mice had", length=4, temperature=0))
    assert len(Vocabulary(words, "words").numbers(text)) == 4
    with pytest.raises(ConfigError, match="prompt has 2 words, expected 3 or more"):
        sample_text(result.run_dir, "the mice")


def test_a_network_of_another_vocabulary_is_no_beginning(whole, tmp_path):
    (tmp_path / "a.txt").write_text(fables().replace("q", "é").replace("é", "ß", 1) * 2, encoding="utf-8")
    settings = everything().model_dump() | {"init_from": str(whole.run_dir)}
    settings["data"] |= {"source": str(tmp_path / "a.txt")}
    with pytest.raises(ConfigError, match="has another vocabulary, so that its embedding means other tokens"):
        train(config(**settings), tmp_path / "run", quiet=True)
