"""Missing values are refused, filled in a stated way, or masked; no NaN reaches a network."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from training import config

from lstmjax.config import Columns, Data
from lstmjax.data import DataError, Ragged, Sequences, load, sequences_from, unlabelled
from lstmjax.data.form import Form
from lstmjax.data.missing import filled, fitted
from lstmjax.training import predict, train
from lstmjax.training.apply import evaluate_run, predict_file

NAN = np.nan
X = np.array(
    [
        [[1.0, NAN], [NAN, 20.0], [3.0, NAN]],
        [[NAN, 40.0], [NAN, 10.0], [9.0, 9.0]],  # the last step is padding
    ],
    np.float32,
)
LENGTHS = np.array([3, 2], np.int32)
MEANS = (2.0, 70 / 3)


def given(ragged):
    valid = np.arange(3) < LENGTHS[:, None]
    return Sequences(Ragged(X[valid], LENGTHS, 3) if ragged else X, None, LENGTHS, None, ("a", "b"))


EXPECTED = {
    "mean": [[[1, MEANS[1]], [2, 20], [3, MEANS[1]]], [[2, 40], [2, 10], [0, 0]]],
    "forward": [[[1, MEANS[1]], [1, 20], [3, 20]], [[2, 40], [2, 10], [0, 0]]],
    "mask": [[[1, MEANS[1], 0, 1], [2, 20, 1, 0], [3, MEANS[1], 0, 1]], [[2, 40, 1, 0], [2, 10, 1, 0], [0, 0, 0, 0]]],
}


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("missing", EXPECTED)
def test_missing_values_become_what_is_stated(missing, ragged):
    data = given(ragged)
    form = fitted(Form(missing=missing), data, (data,))
    np.testing.assert_allclose(form.fill, MEANS, rtol=1e-7)
    result = filled(data, form, "x")
    np.testing.assert_allclose(np.asarray(result.x), EXPECTED[missing], rtol=1e-6)
    assert result.features == (("a", "b", "a missing", "b missing") if missing == "mask" else ("a", "b"))


def test_a_value_is_not_carried_from_one_sequence_into_the_next():
    """Random data with gaps everywhere, against a loop."""
    random = np.random.default_rng(0)
    lengths = random.integers(1, 7, 40).astype(np.int32)
    flat = random.normal(size=(lengths.sum(), 3)).astype(np.float32)
    flat[random.random(flat.shape) < 0.5] = NAN
    data = Sequences(Ragged(flat, lengths, 6), None, lengths, None, ("a", "b", "c"))
    form = fitted(Form(missing="forward"), data, (data,))
    found = filled(data, form, "x").x.flat
    expected, start = [], 0
    for length in lengths:
        last = np.array(form.fill, np.float32)
        for row in flat[start : start + length]:
            last = np.where(np.isnan(row), last, row)
            expected.append(last)
        start += length
    np.testing.assert_array_equal(found, expected)


def table(seed=0, gaps=True):
    random = np.random.default_rng(seed)
    n, t = 24, 5
    a, b = random.normal(20, 3, n * t), random.normal(size=n * t)
    columns = {
        "sequence": np.repeat(np.arange(n), t), "step": np.tile(np.arange(t), n), "a": a, "b": b,
        "label": np.repeat(np.where(a.reshape(n, t).mean(axis=1) > 20, "high", "low"), t),
    }  # fmt: skip
    frame = pa.table(columns)
    if not gaps:
        return frame
    holes = pa.array(np.where(random.random(n * t) < 0.3, None, a).tolist(), pa.float64())
    return frame.set_column(2, "a", holes)


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".npz"])
@pytest.mark.parametrize("missing", EXPECTED)
def test_files_with_missing_values_train_without_nan(missing, kind, tmp_path):
    import pyarrow.csv

    path, frame = tmp_path / f"a{kind}", table()
    if kind == ".parquet":
        pyarrow.parquet.write_table(frame, path)
    elif kind == ".csv":
        pyarrow.csv.write_csv(frame, path)
    else:
        x = np.stack([frame.column(name).to_numpy() for name in "ab"], axis=1).reshape(24, 5, 2)
        np.savez(path, x=x, y=frame.column("label").to_numpy().astype(str)[::5])
    with pytest.raises(DataError, match=r"missing"):
        load(Data(source=str(path)))
    parts, about = load(Data(source=str(path), missing=missing))
    assert all(np.isfinite(part.array).all() for part in parts[:2])
    (line, *_) = [line for line in parts.notes if line.startswith("missing values")]
    assert "a 2" in line or "a 3" in line or "feature 0 " in line
    width = 3 if missing == "mask" else 2
    assert about.input_size == width == parts.train.x.shape[-1]
    # The means are those of the training part alone.
    raw = np.stack([frame.column(name).to_numpy() for name in "ab"], axis=1).reshape(24, 5, 2)
    rows = parts.split["sequences"]["train"]
    rows = [int(row) for row in rows]
    np.testing.assert_allclose(about.form.fill, np.nanmean(raw[rows].reshape(-1, 2), axis=0), rtol=1e-6)
    new = unlabelled(path, about)
    assert np.isfinite(new.array).all()
    assert new.x.shape[-1] == width


@pytest.mark.usefixtures("promotion")
def test_a_run_fills_in_what_it_predicts_as_it_learned(tmp_path):
    pyarrow.parquet.write_table(table(), tmp_path / "a.parquet")
    data = {"source": str(tmp_path / "a.parquet"), "missing": "mask", "split": "index", "test_fraction": 0.25}
    result = train(config(data=data, steps=4), tmp_path / "run", quiet=True)
    split = json.loads((tmp_path / "run" / "split.json").read_text("utf-8"))
    assert (split["by"], split["counts"]) == ("index", {"train": 13, "validation": 5, "test": 6})
    assert split["sequences"]["test"] == [str(n) for n in range(18, 24)]
    rows = [*predict_file(tmp_path / "run", tmp_path / "a.parquet")]
    raw = np.stack([table().column(name).to_numpy() for name in "ab"], axis=1).reshape(24, 5, 2)
    outputs = predict(result.trained, raw.astype(np.float32)).outputs
    np.testing.assert_allclose([[float(v) for v in row.split(",")[2:]] for row in rows[1:]], outputs, rtol=1e-5)
    assert np.isfinite(outputs).all()
    assert [*evaluate_run(tmp_path / "run")][-1] == result.last_line


def test_what_cannot_be_filled_is_told(tmp_path):
    frame = table()
    frame = frame.set_column(3, "b", pa.array([None] * len(frame), pa.float64()))
    pyarrow.parquet.write_table(frame, tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"'b' is missing everywhere in the training part, so that?|'b' is missing everywhere"
    ):
        load(Data(source=str(tmp_path / "a.parquet"), missing="mean"))
    pyarrow.parquet.write_table(table(gaps=False), tmp_path / "a.parquet")
    parts, about = load(Data(source=str(tmp_path / "a.parquet"), missing="mask"))
    assert "missing values: none in the training part" in parts.notes
    pyarrow.parquet.write_table(table(), tmp_path / "b.parquet")
    with pytest.raises(
        DataError, match=r"b.parquet: 'a' has missing values, but had none in training, so that the network"
    ):
        unlabelled(tmp_path / "b.parquet", about)


def test_a_missing_category_is_none_of_them(tmp_path):
    frame = table(gaps=False).append_column("city", pa.array([["Rome", None, "Bern"][n % 3] for n in range(120)]))
    for missing, expected in (("mask", [1 / 2, 1 / 2, 1.0]), ("forward", [0.0, 1.0])):
        data, form = sequences_from(frame, Columns(categorical=("city",)), missing=missing)
        names = ("a", "b", "city=Bern", "city=Rome", *(("city missing",) if missing == "mask" else ()))
        assert data.features == names
        assert data.x[0, 1, 2:].tolist() == expected
        assert data.x[0, 2, 2:].tolist() == [1.0, 0.0, *([0.0] if missing == "mask" else [])]
        again, _ = sequences_from(frame, like=form)
        np.testing.assert_array_equal(again.x, data.x)
