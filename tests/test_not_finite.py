"""NaN and infinity in weights and in inputs are said, by array and by place; and what has no memory is one line."""

import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax.convert.commands
from lstmjax import Dense, NetworkParams, init_params, lstm, verify
from lstmjax.cli import main
from lstmjax.convert import load_weights, save_weights
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
        list(lstmjax.convert.commands.convert_file(path, tmp_path / "b.npz"))
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

    monkeypatch.setattr(lstmjax.convert.commands, "convert_file", full)
    assert main(["convert", "a.npz", str(tmp_path / "b.npz")]) == 1
    assert capsys.readouterr().err == (
        "lstmjax: there is not enough memory; give less data, smaller batches or a smaller model\n"
    )


def test_another_error_of_jax_is_raised(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr(lstmjax.convert.commands, "convert_file", broken)
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
