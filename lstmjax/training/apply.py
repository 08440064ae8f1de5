"""Apply the network of a run to data: what `lstmjax evaluate` and `lstmjax predict` do."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.claims import ClaimError, counted
from lstmjax.data import About, DataError, Ragged, Sequences, Tokens, labelled, load, text_of, unlabelled
from lstmjax.runs import RunError
from lstmjax.training.forward import Trained
from lstmjax.training.inference import Prediction, measured, predict_scaled
from lstmjax.training.metrics import metrics_of
from lstmjax.training.reading import load_run
from lstmjax.training.scores import confusion, score_lines
from lstmjax.training.streams import evaluate_stream, score_stream
from lstmjax.writing import draft

log = logging.getLogger("lstmjax")


def evaluate_run(run: str | Path, part: str = "test", data: str | Path | None = None) -> Iterator[str]:
    """Evaluate the best checkpoint of a run; yield a line with the loss, the scores of each class, and the metric.

    Args:
        run: the run's folder.
        part: "train", "validation" or "test" of the run's own data.
        data: a file of labelled sequences, or a text for a language model, to evaluate on instead of a part.

    Raises:
        UserError: no such run, or the data cannot be used.
    """
    trained = load_run(run)
    config, about = trained.config, trained.about
    sequences: Any  # `Tokens` for a language model
    if about.is_stream and data is not None:
        name, sequences = Path(data).name, text_of(str(data), about)
    elif data is not None:
        name, sequences = Path(data).name, labelled(str(data), about, config.loss.name)
    else:
        parts, current = load(config.data, config.loss.name)
        if not current.has_same_data(about):
            raise RunError(f"{run}: the data have changed since this run began; name a file by --data")
        name, sequences = part, getattr(parts, part)
        if sequences is None:
            raise RunError(f"{run}: its data have no {part} part; name a file by --data, or say --part validation")
    if about.is_stream:
        yield from _text_lines(trained, sequences, run, name)
        return
    by_class = about.classes is not None and config.loss.name == "softmax"
    values, outputs = measured(trained, sequences, name, outputs=by_class)
    if not all(map(math.isfinite, values.values())):
        log.warning("%s: the loss over %s is not finite", run, name)
    first, *others = metrics_of(config)
    yield f"{name} loss {values['loss']:.4f}, {counted(len(sequences.x), 'sequence')}"
    if by_class and outputs is not None:
        yield from _class_lines(trained.about, outputs, sequences)
    for metric in (*others, first):  # the one that chooses the network stands last
        yield f"{name} {metric} {values[metric]:.4f}"


def _text_lines(trained: Trained, tokens: Tokens, run: str | Path, name: str) -> Iterator[str]:
    """Yield the loss and the metrics over a text."""
    values = evaluate_stream(trained, tokens)
    if not all(map(math.isfinite, values.values())):
        log.warning("%s: the loss over %s is not finite", run, name)
    first, *others = metrics_of(trained.config)
    yield f"{name} loss {values['loss']:.4f}, {tokens.count} {trained.about.text}"
    for metric in (*others, first):
        yield f"{name} {metric} {values[metric]:.4f}"


def _class_lines(about: About, outputs: np.ndarray | Ragged, data: Sequences) -> Iterator[str]:
    """Yield the scores of each class over labelled sequences, or over their valid steps."""
    labels, classes = data.y, about.classes
    assert labels is not None
    assert classes is not None
    if about.per_step:
        labels = labels[data.valid()]
    if isinstance(outputs, Ragged):
        outputs = outputs.flat
    elif about.per_step:
        outputs = outputs[data.valid()]
    matrix = confusion(labels, outputs.argmax(axis=-1), len(classes))
    yield from score_lines(matrix, classes, "steps" if about.per_step else "sequences")


def predict_file(run: str | Path, path: str | Path, out: str | Path | None = None) -> Iterator[str]:
    """Predict the sequences in a file; yield lines of CSV, or a line that says where they were written.

    Of a language model these are the tokens of a text, each but the first with the logarithm of its probability after
    all before it, and the token that the network expected.

    Args:
        run: the run's folder.
        path: a file of any kind that can be trained on, or NPY; labels in it are ignored. A text for a language model.
        out: a CSV or NPZ file to write to; None: yield the lines.

    Raises:
        UserError: no such run, or the file cannot be used.
    """
    if out is not None and Path(out).suffix.lower() not in (".csv", ".npz"):
        raise DataError(f"{out}: unknown kind of file to write; expected a name that ends in .csv or .npz")
    if out is not None and Path(out).exists() and Path(path).exists() and Path(out).samefile(path):
        raise DataError(f"{out}: is the file that is read; give another one by --out")
    trained = load_run(run)
    if trained.about.is_stream:
        yield from _scored(trained, path, out)
        return
    data = unlabelled(path, trained.about)
    prediction = predict_scaled(trained, trained.about.scaled(data, str(path)))
    _warn_of_outputs(prediction.outputs, data, path)
    if out is None:
        yield from _table(trained, prediction, data).splitlines()
        return
    with draft(Path(out)) as place:
        if Path(out).suffix.lower() == ".npz":
            words = None if prediction.classes is None else _as_array(prediction.classes, out).astype(str)
            arrays = {"outputs": _as_array(prediction.outputs, out), "classes": words, "lengths": data.lengths}
            with place.open("wb") as file:
                np.savez(file, **{k: array for k, array in arrays.items() if array is not None})  # type: ignore[arg-type]
        else:
            place.write_text(_table(trained, prediction, data), encoding="utf-8")
    yield f"{counted(len(data.x), 'prediction')} written to {out}"


def _scored(trained: Trained, path: str | Path, out: str | Path | None) -> Iterator[str]:
    """Yield or write what a language model says of each token of a text."""
    words = np.array(trained.about.classes, object)
    scores = score_stream(trained, text_of(str(path), trained.about))
    if bad := int((~np.isfinite(scores.log_probability)).sum()):
        log.warning("%s: the log probabilities of %d of %d tokens are not finite", path, bad, len(scores.tokens))
    columns = {
        "token": words[scores.tokens],
        "log_probability": scores.log_probability,
        "likeliest": words[scores.likeliest],
    }
    if out is None:
        yield from _token_lines(columns)
        return
    with draft(Path(out)) as place:
        if Path(out).suffix.lower() == ".npz":
            with place.open("wb") as file:
                texts = {name: columns[name].astype(str) for name in ("token", "likeliest")}
                np.savez(file, log_probability=scores.log_probability, **texts)
        else:
            with place.open("w", encoding="utf-8", newline="") as file:
                file.writelines(f"{line}\n" for line in _token_lines(columns))
    yield f"{counted(len(scores.tokens), 'prediction')} written to {out}"


def _token_lines(columns: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield lines of CSV; the first token has no prediction, so that places begin with 1."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="").writerow
    for n, row in enumerate([tuple(columns), *zip(*columns.values(), strict=True)]):
        text.seek(0)
        text.truncate()
        place = "place" if n == 0 else n
        write([place, *(value if isinstance(value, str) else f"{value:.6g}" for value in row)])
        yield text.getvalue()


def _table(trained: Trained, prediction: Prediction, data: Sequences) -> str:
    about, quantiles = trained.about, trained.config.loss.quantiles
    return table(prediction, data, about.classes, about.target_names, quantiles)


def _as_array(values: np.ndarray | Ragged, out: str | Path) -> np.ndarray:
    """Return what is written to an NPZ file, which holds padded arrays only."""
    try:
        return np.asarray(values)
    except ClaimError as error:
        raise DataError(f"{out}: cannot be written ({error}); write a .csv file, which has no padding") from None


def _warn_of_outputs(outputs: np.ndarray | Ragged, data: Sequences, path: str | Path) -> None:
    """Warn of sequences whose outputs are NaN or infinite."""
    if isinstance(outputs, Ragged):
        bad = np.logical_or.reduceat(~np.isfinite(outputs.flat).all(axis=1), outputs.starts)
    else:
        bad = ~np.isfinite(outputs)
        if bad.ndim == 3:
            bad &= data.valid()[..., None]
        bad = bad.reshape(len(bad), -1).any(axis=1)
    rows = np.flatnonzero(bad)
    if len(rows):
        name = data.names[rows[0]] if data.names else rows[0]
        log.warning(
            "%s: the outputs of %d of %d sequences are not finite, first of %s", path, len(rows), len(bad), name
        )


def table(
    prediction: Prediction,
    data: Sequences,
    classes: tuple[str, ...] | None,
    targets: tuple[str, ...],
    quantiles: tuple[float, ...] = (),
) -> str:
    """Return predictions as CSV with the columns sequence, step (if each step has a label), class and numbers.

    Args:
        prediction: of the sequences.
        data: the sequences.
        classes: names of the classes; None: the predictions are numbers.
        targets: names of these.
        quantiles: of each number; (): one number each.
    """
    outputs, labels = prediction
    per_step = outputs.ndim == 3
    if classes:
        numbers = [f"p_{c}" for c in classes]
    elif quantiles:
        numbers = [f"{name}_q{q:g}" for name in targets for q in quantiles]
    else:
        numbers = list(targets)
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(["sequence", *(["step"] if per_step else []), *(["class"] if classes else []), *numbers])

    def write_row(place: list, label: object, values: np.ndarray) -> None:
        write([*place, *([] if label is None else [label]), *(f"{value:.6g}" for value in values)])

    for n in range(len(outputs)):
        name = data.names[n] if data.names else n
        if not per_step:
            write_row([name], None if labels is None else labels[n], outputs[n])
            continue
        steps = outputs.shape[1] if data.lengths is None else int(data.lengths[n])
        values, words = outputs[n, :steps], None if labels is None else labels[n, :steps]
        for t in range(steps):
            write_row([name, t], None if words is None else words[t], values[t])
    return text.getvalue()
