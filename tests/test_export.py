"""A trained run in a file that runs without this library, with what predicting gives."""

from pathlib import Path

import jax
import numpy as np
import pytest
from training import config, write_sequences

from lstmjax import init_params, lstm
from lstmjax.cli import main
from lstmjax.convert import ConvertError, to_stablehlo
from lstmjax.training import export_run, predict, train

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("flatbuffers")

MODELS = {
    "class": {"layers": 2, "bidirectional": True, "zoneout": 0.1, "dropout": 0.2},
    "number_each_step": {"layers": 2, "residual": True, "projection_size": 3, "cell": "cifg"},
}


@pytest.mark.slow
@pytest.mark.usefixtures("promotion")
def test_a_model_says_that_it_computes_in_the_dtype_of_the_parameters(tmp_path):
    write_sequences(tmp_path / "data.npz")
    train(config(model={"dtype": "bfloat16"}, data={"source": str(tmp_path / "data.npz")}), tmp_path / "run")
    lines = list(export_run(tmp_path / "run", tmp_path / "a.onnx"))
    assert lines[-2] == "it computes in float32, the dtype of the parameters, and not in bfloat16"


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("target", MODELS)
def test_a_run_goes_out_and_predicts_the_same(target, tmp_path, capsys):
    """By the command line, from ragged sequences in the units of the data, into both kinds of file."""
    data, run = tmp_path / "data.npz", tmp_path / "run"
    x, _, lengths = write_sequences(data, target=target)
    loss = {"name": "softmax" if target == "class" else "linear"}
    made = config(model=MODELS[target], data={"source": str(data), "normalize": "standardize"}, loss=loss)
    trained = train(made, run).trained
    expected = predict(trained, x, lengths).outputs
    capsys.readouterr()
    output = "probabilities" if target == "class" else "logits"
    for kind in ("onnx", "stablehlo"):
        path = tmp_path / f"model.{kind}"
        assert main(["export", str(run), str(path), "--lengths"]) == 0
        said = capsys.readouterr().out
        assert said.startswith("input xs (batch, time, 3)\ninput lengths (batch)\noutput logits (batch, ")
        assert said.endswith(f"written to {path}\n")
        valid = np.arange(x.shape[1]) < lengths[:, None]
        found = _run(path, x, lengths.astype(np.int32))[output]
        if target != "class":
            found, expected = found[valid], expected[valid] if expected.ndim == 3 else expected
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if target == "class":
        assert onnx.load(tmp_path / "model.onnx").metadata_props[0].value == '["0", "1"]'


def _run(path: Path, x, lengths):
    if path.suffix == ".stablehlo":
        return jax.export.deserialize(bytearray(path.read_bytes())).call(x, lengths)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {"xs": x, "lengths": lengths}), strict=True))


def test_what_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "a.onnx")]) == 2
    assert "none: no such run folder" in capsys.readouterr().err
    params = init_params(jax.random.key(0), 2, 3)
    with pytest.raises(ConvertError, match="cannot be exported for any number of sequences and steps, as checkpoint="):
        to_stablehlo(lambda xs: lstm(params, xs, checkpoint="sqrt")[1], 2)
    with pytest.raises(ConvertError, match="there is no folder"):
        to_stablehlo(lambda xs: lstm(params, xs)[1], 2, tmp_path / "none" / "a.stablehlo")


def test_stablehlo_takes_any_batch_and_time(tmp_path):
    params = init_params(jax.random.key(0), 2, 3)
    path = tmp_path / "lstm.stablehlo"
    to_stablehlo(lambda xs: lstm(params, xs, time_major=True)[1], 2, path, time_major=True)
    again = jax.export.deserialize(bytearray(path.read_bytes()))
    for time, batch in ((5, 2), (1, 4)):
        xs = jax.random.normal(jax.random.key(time), (time, batch, 2))
        np.testing.assert_allclose(again.call(xs), lstm(params, xs, time_major=True)[1], atol=1e-6)
