"""NaN and infinity in weights and in inputs are said, by array and by place; and what has no memory is one line."""

import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
import lstmjax.convert.convert_file
from lstmjax import Dense, NetworkParams, init_params, lstm, verify
from lstmjax.cli import main
from lstmjax.convert import load_weights, save_weights
from lstmjax.frameworks.base.architecture import Architecture
from lstmjax.frameworks.base.model import Model
from lstmjax.training import train

T, B, I, H, O = 5, 3, 2, 4, 6
PARAMS = init_params(jax.random.key(0), I, H)
NETWORK = NetworkParams((PARAMS,), Dense(jnp.ones((H, O)), jnp.zeros(O)))
XS = np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("end", "form"), [(".npz", "lstmjax"), (".safetensors", "torch"), (".msgpack", "linen")])
def test_weights_that_are_not_finite_are_told_by_array(tmp_path, end, form, value):
    pytest.importorskip("safetensors")
    path = tmp_path / f"a{end}"
    save_weights((PARAMS._replace(w_h=PARAMS.w_h.at[2, 1, 3].set(value)),), path, form=form, sum_biases=True)
    with pytest.warns(UserWarning, match="NaN or infinity in ") as told:
        (layer,) = load_weights(path)
    name = {"lstmjax": "layers.0.w_h (1 of 64", "torch": "weight_hh_l0 (1 of 64", "linen": "/hf/kernel (1 of 16"}[form]
    assert len(told) == 1
    assert name in str(told[0].message)
    assert str(told[0].message).startswith(f"{path}: NaN or infinity in ")
    np.testing.assert_array_equal(layer.w_h[2, 1, 3], np.float32(value))
    save_weights((PARAMS,), path, form=form, sum_biases=True)
    load_weights(path)  # without a warning, which would be an error


def test_a_head_and_half_precision_that_are_not_finite_are_told(tmp_path):
    pytest.importorskip("safetensors")
    path, half = tmp_path / "a.safetensors", jax.tree.map(lambda a: a.astype(jnp.bfloat16), NETWORK)
    save_weights(half._replace(head=half.head._replace(b=half.head.b.at[1].set(jnp.nan))), path, form="lstmjax")
    with pytest.warns(UserWarning, match=r"NaN or infinity in head.b .1 of 6 numbers."):
        load_weights(path)


def test_convert_and_verify_tell_it_in_a_line(tmp_path, capsys):
    path, xs = tmp_path / "a.npz", tmp_path / "x.npy"
    save_weights((PARAMS._replace(b=PARAMS.b.at[1, 2].set(np.nan)),), path)
    np.save(xs, XS)
    with pytest.warns(UserWarning, match=r"layers.0.b .1 of 16 numbers."):
        list(lstmjax.convert.convert_file.convert_file(path, tmp_path / "b.npz"))
    with pytest.warns(UserWarning, match=r"layers.0.b"):
        verdict = verify(str(path), XS)
    assert not verdict
    assert "cause: NaN or infinity in layers.0.b; NaN agrees with nothing" in str(verdict)
    assert "not found" not in str(verdict)


def test_inputs_that_are_not_finite_are_told_by_their_place(tmp_path, capsys):
    xs, lengths = XS.copy(), np.array([5, 3, 4])
    xs[1, 3, 0] = np.nan
    words = "cause: NaN or infinity in xs, at {} of 15 steps, first at step {} of sequence {}; NaN agrees with nothing"
    verdict = verify(PARAMS, xs)
    assert not verdict
    assert words.format(1, 3, 1) in str(verdict)
    assert "not found" not in str(verdict)
    assert verify(PARAMS, xs, lengths=lengths)  # behind the end of its sequence
    xs[0, 2, 1] = np.nan
    assert words.format(1, 2, 0) in str(verify(PARAMS, xs, lengths=lengths))
    save_weights((PARAMS,), tmp_path / "a.npz")
    np.save(tmp_path / "x.npy", xs)
    assert main(["verify", str(tmp_path / "a.npz"), "--input", str(tmp_path / "x.npy")]) == 1
    told = capsys.readouterr().out
    assert words.format(2, 2, 0) in told
    assert "not found" not in told


THEIRS = "cause: NaN or infinity in {}; NaN agrees with nothing; all other numbers agree"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_recorded_outputs_that_are_not_finite_are_the_cause(value, tmp_path, capsys):
    ys, lengths = np.array(lstm(PARAMS, XS)[1]), np.array([5, 3, 4])
    ys[1, 3, 2] = value
    verdict = verify(ys, XS, params=PARAMS)
    assert not verdict
    assert verdict.search is None  # no cause explains it, and none is tried
    assert verdict.place[:6] == (0, None, 1, 3, 2, "h")
    assert THEIRS.format("outputs of theirs, at 1 of 15 steps, first at step 3 of sequence 1") in str(verdict)
    assert verify(ys, XS, params=PARAMS, lengths=lengths)  # behind the end of its sequence
    save_weights((PARAMS,), tmp_path / "a.npz")
    for name, a in {"x": XS, "y": ys}.items():
        np.save(tmp_path / f"{name}.npy", a)
    files = [str(tmp_path / name) for name in ("a.npz", "x.npy", "y.npy")]
    assert main(["verify", files[0], "--input", files[1], "--outputs", files[2]]) == 1
    told = capsys.readouterr().out
    assert THEIRS.format("outputs of theirs, at 1 of 15 steps, first at step 3 of sequence 1") in told
    assert "not found" not in told
    last = verify(ys[:, 3], XS[:, :4], params=PARAMS)  # the last step alone
    assert THEIRS.format("outputs of theirs, at the last step of 1 of 3 sequences, first of sequence 1") in str(last)
    ys[2, 1] += 0.5
    text = str(verify(ys, XS, params=PARAMS))
    assert "first: layer 0, step 1 of sequence 2, " in text
    assert text.endswith("first at step 3 of sequence 1; NaN agrees with nothing; other numbers differ, too")


def test_the_array_that_is_not_finite_is_named():
    _, steps = lstm(PARAMS, XS, emit="step")
    gates = {name: np.array(getattr(steps, name)) for name in ("f", "o", "h")}
    gates["o"][0, 2, 1] = np.nan
    text = str(verify(gates, XS, params=PARAMS))
    assert THEIRS.format("o of theirs, at 1 of 15 steps, first at step 2 of sequence 0") in text
    assert "step 2 of sequence 0, output gate o, unit 1: theirs nan, ours " in text
    logits = np.array(lstm(PARAMS, XS)[1] @ NETWORK.head.w)
    logits[2, 4, 5] = np.inf
    for theirs in (logits, [np.array(steps.h), logits]):
        text = str(verify(theirs, XS, params=NETWORK))
        assert THEIRS.format("the head's outputs of theirs, at 1 of 15 steps, first at step 4 of sequence 2") in text


def test_outputs_of_a_model_that_is_no_plain_stack_are_named_too():
    model = Model((PARAMS,), Architecture(directions=("turned",)))
    ys = np.array(model(XS))
    assert verify(ys, XS, params=model)
    ys[1, 3, 2] = np.nan
    text = str(verify(ys, XS, params=model))
    assert THEIRS.format("outputs of theirs, at 1 of 15 steps, first at step 3 of sequence 1") in text
    text = str(verify(ys[:, -2], XS[:, 1:], params=model))  # the last step alone
    assert "outputs of theirs, at the last step of 1 of 3 sequences, first of sequence 1; NaN agrees with" in text


def test_nan_above_a_layer_with_a_fault_does_not_hide_the_fault():
    above = init_params(jax.random.key(1), H, H)
    wrong = PARAMS._replace(b=PARAMS.b.at[1].add(1.0))
    below = np.array(lstm(wrong, XS)[1])
    top = np.array(lstm(above, below)[1])
    top[0, 0, 0] = np.nan
    verdict = verify([below, top], XS, params=(PARAMS, above))
    assert verdict.cause.name == "forget bias added twice"
    assert "NaN" not in str(verdict)


def test_overflow_on_our_side_is_the_cause():
    growing = PARAMS._replace(w_h=PARAMS.w_h * 3e4)
    cell = lstmjax.with_activations(lstmjax.CELLS["vanilla"], activation_fn=lambda z: z)
    params = jax.tree.map(lambda a: np.asarray(a, np.float16), growing)
    theirs = np.ones((B, T, H), np.float16)
    verdict = verify(theirs, XS, params=params, cell=cell)
    assert not verdict
    assert "cause: NaN or infinity in outputs of ours, at " in str(verdict)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY\x01\x00v\x00", "cannot be read as NPY"),
        (b"", "cannot be read as NPY"),
        (b"no array", "cannot be read"),
    ],
)
def test_inputs_that_are_no_array_are_one_line(tmp_path, capsys, content, message):
    save_weights((PARAMS,), tmp_path / "a.npz")
    (tmp_path / "x.npy").write_bytes(content)
    assert main(["verify", str(tmp_path / "a.npz"), "--input", str(tmp_path / "x.npy")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_no_memory_is_one_line(tmp_path, capsys, monkeypatch, error):
    def full(*arguments, **options):
        raise error

    monkeypatch.setattr(lstmjax.convert.convert_file, "convert_file", full)
    assert main(["convert", "a.npz", str(tmp_path / "b.npz")]) == 1
    assert capsys.readouterr().err == (
        "lstmjax: there is not enough memory; give less data, smaller batches or a smaller model\n"
    )


def test_another_error_of_jax_is_raised(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr(lstmjax.convert.convert_file, "convert_file", broken)
    with pytest.raises(RuntimeError, match="something else"):
        main(["convert", "a.npz", "b.npz"])


def test_every_file_of_weights_is_read_by_whom_the_user_lets(tmp_path):
    pytest.importorskip("safetensors")
    mask = os.umask(0o027)
    for name in ("a.safetensors", "a.npz"):
        save_weights((PARAMS,), tmp_path / name)
    os.umask(mask)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.safetensors", "a.npz")}
    assert modes == {0o640}


def test_train_takes_a_configuration_only():
    for config, kind in (({}, "dict"), (None, "NoneType"), ("digits.yaml", "str")):
        with pytest.raises(TypeError, match=rf"^config is a {kind}, expected a Config, as load_config.path. gives it"):
            train(config)


def test_lstm_itself_takes_nan_as_it_comes():
    """Only files and verdicts are looked through: looking at values costs time, and under jit there are none."""
    assert np.isnan(lstm(PARAMS, XS * np.float32(np.nan))[1]).all()
