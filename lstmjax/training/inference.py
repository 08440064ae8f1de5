"""Compute logits, metrics and predictions of a trained network, as functions of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from lstmjax.config import Config, Loss, Model
from lstmjax.data import About, Buckets, Ragged, Sequences, choose_edges, filled, make_buckets
from lstmjax.data.buckets import EVALUATED
from lstmjax.networks import NetworkParams
from lstmjax.training.forward import Trained, logits_of
from lstmjax.training.loss_sums import Sums, sums_of
from lstmjax.training.losses import LOSSES, points
from lstmjax.training.metrics import collected_of, metrics_of, needs_outputs
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike


CHUNK = 128  # sequences evaluated at once; the same size for all data, so that few programs are compiled


class Prediction(NamedTuple):
    """Predictions for N sequences, or for N × T steps if each step has a label; those after its end mean nothing."""

    outputs: np.ndarray | Ragged  # [N, O] or [N, T, O]: probabilities, or the numbers of a regression
    classes: np.ndarray | Ragged | None  # [N] or [N, T]: names of the likeliest classes (softmax)


@partial(jax.jit, static_argnames=("model", "loss", "metrics", "per_step", "target_scale", "outputs"))
def _evaluate_chunk(
    params: NetworkParams,
    chunk: Sequences,
    *,
    model: Model,
    loss: Loss,
    metrics: tuple[str, ...],
    per_step: bool,
    target_scale: tuple[float, ...] | None,
    outputs: bool,
) -> tuple[Sums, Array | None]:
    logits = logits_of(params, chunk.array, chunk.lengths, model=model, per_step=per_step)
    sums = sums_of(logits, chunk.y, chunk.weight, chunk.lengths, loss=loss, metrics=metrics, target_scale=target_scale)
    return sums, LOSSES[loss.name].readout(logits) if outputs else None


_logits_chunk = partial(jax.jit, static_argnames=("model", "per_step"))(logits_of)


def evaluate(trained: Trained, data: Sequences, part: str = "the data") -> dict[str, float]:
    """Return the mean loss and the metrics of the configuration over labelled sequences.

    The loss of a regression is that of the scaled targets, which training minimises; the metrics are in the units of
    the data.

    Args:
        trained: the network.
        data: sequences, scaled and labelled as `lstmjax.data.load` and `labelled` return them.
        part: what they are, for messages.

    Raises:
        DataError: a metric is not defined on these labels.
    """
    return measured(trained, data, part, outputs=False)[0]


def measured(
    trained: Trained, data: Sequences, part: str = "the data", *, outputs: bool = True
) -> tuple[dict[str, float], np.ndarray | Ragged | None]:
    """Return what `evaluate` does, and the outputs of the network as `outputs_of` does, from one pass over the data.

    Args:
        trained: the network.
        data: sequences, scaled and labelled.
        part: what they are, for messages.
        outputs: whether the outputs are wanted; False: they are None unless a metric needs them.
    """
    config, about = trained.config, trained.about
    names = metrics_of(config)
    outputs = outputs or needs_outputs(names, config.loss)
    options = _options(config, about, outputs)
    sums, collected = [], Collected(about, data)
    with jax.enable_x64(config.model.needs_x64):
        for rows, chunk in _chunks(data, per_step=about.per_step):
            of_chunk, values = _evaluate_chunk(trained.params, chunk, **options)
            sums.append(of_chunk)
            if values is not None:
                collected.put(rows, np.asarray(values))
        total = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), axis=0), *sums)
    values = total.means(config.loss, names)
    if needs_outputs(names, config.loss):
        values |= collected_of(
            names, config.loss, *_flat(collected.outputs, data, about, config.loss), part, about.target_names
        )
    return {name: values[name] for name in ("loss", *names)}, collected.outputs


def _options(config: Config, about: About, outputs: bool) -> dict[str, Any]:
    """Return the static arguments of the program that evaluates a chunk."""
    return {
        "model": config.model, "loss": config.loss, "metrics": metrics_of(config), "per_step": about.per_step,
        "target_scale": about.target_scale, "outputs": outputs,
    }  # fmt: skip


def largest_chunk(
    params: PyTree, config: Config, about: About, data: Sequences
) -> tuple[Sequences, jax.stages.Lowered]:
    """Return the largest chunk of an evaluation, and the program that evaluates it, not compiled yet.

    Args:
        params: parameters, or their shapes and dtypes.
        config: configuration of the run.
        about: of its data.
        data: sequences, scaled and labelled.
    """
    chunk = max((chunk for _, chunk in _chunks(data, per_step=about.per_step)), key=lambda chunk: chunk.array.size)
    outputs = needs_outputs(metrics_of(config), config.loss)
    return chunk, _evaluate_chunk.lower(params, chunk, **_options(config, about, outputs))


def _flat(
    outputs: np.ndarray | Ragged | None, data: Sequences, about: About, loss: Loss
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predictions `[M, O]`, labels in the units of the data and weights `[M]`, of sequences or valid steps."""
    assert outputs is not None
    assert data.y is not None
    weights = np.ones(len(data.x)) if data.weight is None else np.asarray(data.weight, np.float64)
    labels = data.y if loss.kind == "classes" else about.unscaled_targets(data.y)
    if about.per_step:
        valid = data.valid()
        weights = np.broadcast_to(weights[:, None], valid.shape)[valid]
        labels = labels[valid]
        outputs = outputs.flat if isinstance(outputs, Ragged) else outputs[valid]
    predicted: Any = points(outputs, loss)
    return predicted, labels, weights


class Collected:
    """The outputs of all sequences, put in their places chunk by chunk.

    Attributes:
        outputs: `[N, O]`, `[N, T, O]` or `Ragged`, in the units of the data; None before the first chunk.
    """

    def __init__(self, about: About, data: Sequences):
        self.about, self.data = about, data
        self.outputs: np.ndarray | Ragged | None = None

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Put the outputs of some sequences in their places; a chunk may be filled up with others behind them."""
        about = self.about
        values = unscaled(values[: len(rows)], about)
        if self.outputs is None:
            self.outputs = _room(self.data, values, per_step=about.per_step)
        _put(self.outputs, rows, values)


def unscaled(values: np.ndarray, about: About) -> np.ndarray:
    """Return outputs `[..., O·Q]` in the units of the data; of Q quantiles each has the scale of its number."""
    if about.target_scale is None:
        return values
    by_number = np.swapaxes(values.reshape(*values.shape[:-1], about.output_size, -1), -1, -2)
    return np.swapaxes(about.unscaled_targets(by_number), -1, -2).reshape(values.shape)


def predict(trained: Trained, xs: ArrayLike | Ragged, lengths: ArrayLike | None = None) -> Prediction:
    """Return the classes and their probabilities, or the numbers of a regression, as arrays.

    Args:
        trained: the network.
        xs: inputs `[N, T, I]` in the units of the training data, not scaled yet; a `Ragged` has its own lengths. NaN is
            filled in as in training, if the run fills missing values.
        lengths: valid steps `[N]`; None: all T.
    """
    if isinstance(xs, Ragged):
        data = Sequences(xs, None, xs.lengths)
    else:
        data = Sequences(np.asarray(xs), None, None if lengths is None else np.asarray(lengths, np.int32))
    data = trained.about.scaled(trained.about.prepared(data))
    outputs, classes = predict_scaled(trained, data)
    return Prediction(np.asarray(outputs), None if classes is None else np.asarray(classes))


def predict_scaled(trained: Trained, data: Sequences) -> Prediction:
    """Return the predictions for sequences scaled as in training; those of each step of a `Ragged` x are `Ragged`."""
    outputs, classes = outputs_of(trained, data), trained.about.classes
    if classes is None:
        return Prediction(outputs, None)
    words = np.array(classes, object)
    if isinstance(outputs, Ragged):
        return Prediction(outputs, outputs.map(lambda flat: words[flat.argmax(axis=-1)]))
    return Prediction(outputs, words[outputs.argmax(axis=-1)])


def outputs_of(trained: Trained, data: Sequences) -> np.ndarray | Ragged:
    """Return the probabilities, or the numbers of a regression: `[N, O]`, or `[N, T, O]` if each step has a label.

    Those of each step of a `Ragged` x are `Ragged`.

    Args:
        trained: the network.
        data: sequences, scaled as `lstmjax.data.load` and `labelled` return them.
    """
    model, about = trained.config.model, trained.about
    readout = LOSSES[trained.config.loss.name].readout
    collected = Collected(about, data)
    with jax.enable_x64(model.needs_x64):
        for rows, chunk in _chunks(data._replace(y=None), per_step=about.per_step):
            logits = _logits_chunk(trained.params, chunk.x, chunk.lengths, model=model, per_step=about.per_step)
            collected.put(rows, np.asarray(readout(logits)))
    assert collected.outputs is not None
    return collected.outputs


def _room(data: Sequences, values: np.ndarray, *, per_step: bool) -> np.ndarray | Ragged:
    """Return zeros for the outputs of all sequences, of the dtype and width of some."""
    width = values.shape[-1]
    if per_step and isinstance(data.x, Ragged):
        lengths = data.x.lengths
        return Ragged(np.zeros((int(lengths.sum(dtype=np.int64)), width), values.dtype), lengths, data.x.longest)
    shape = data.x.shape[:2] if per_step else data.x.shape[:1]
    return np.zeros((*shape, width), values.dtype)


def _put(outputs: np.ndarray | Ragged, rows: np.ndarray, values: np.ndarray) -> None:
    """Write the outputs of some sequences where they belong."""
    if isinstance(outputs, Ragged):
        for row, value in zip(rows.tolist(), values, strict=True):
            start, length = outputs.starts[row], outputs.lengths[row]
            outputs.flat[start : start + length] = value[:length]
    elif values.ndim == 3:
        outputs[rows, : values.shape[1]] = values
    else:
        outputs[rows] = values


def _chunks(data: Sequences, *, per_step: bool) -> Iterator[tuple[np.ndarray, Sequences]]:
    """Yield sequences in chunks, with their indices; a chunk may be filled up at weight 0.

    Where padding all of them to the longest one would be a large part of the work, or of the memory, sequences of
    similar lengths are evaluated together.
    """
    count, longest = data.x.shape[:2]
    buckets = None if data.lengths is None else _buckets(data.lengths.tobytes(), str(data.lengths.dtype), longest)
    if buckets is None:
        for start in range(0, count, CHUNK):
            rows = np.arange(start, min(start + CHUNK, count))
            yield rows, filled(data, rows, CHUNK, longest, per_step=per_step)
        return
    for bucket in buckets.content:
        for rows in np.array_split(bucket.members, bucket.batches):
            yield rows, filled(data, rows, bucket.rows, bucket.steps, per_step=per_step)


@lru_cache(maxsize=4)  # a run evaluates the same sequences many times
def _buckets(lengths: bytes, dtype: str, longest: int) -> Buckets | None:
    array = np.frombuffer(lengths, dtype)
    edges = choose_edges(array, longest, CHUNK, limit=EVALUATED)
    return None if edges is None else make_buckets(array, edges, CHUNK)
