"""Compute logits, metrics and predictions of a trained network, as functions of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.config import Config, Model
from lstmjax.data import About, Buckets, Ragged, Sequences, choose_edges, filled, make_buckets
from lstmjax.data.buckets import EVALUATED
from lstmjax.dropout import RecurrentDropout, Zoneout
from lstmjax.networks import NetworkParams, network
from lstmjax.training.losses import LOSSES
from lstmjax.types import Array
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike

CHUNK = 128  # sequences evaluated at once; the same size for all data, so that few programs are compiled


class Trained(NamedTuple):
    """A trained network with its configuration and what it must know of the data."""

    params: NetworkParams
    config: Config
    about: About


class Prediction(NamedTuple):
    """Predictions for N sequences, or for N × T steps if each step has a label; those after its end mean nothing."""

    outputs: np.ndarray | Ragged  # [N, O] or [N, T, O]: probabilities, or the numbers of a regression
    classes: np.ndarray | Ragged | None  # [N] or [N, T]: names of the likeliest classes (softmax)


def wrappers_of(model: Model) -> tuple[Wrapper, ...]:
    """Return the wrappers around each step of the configured network."""
    wrappers: tuple[Wrapper, ...] = ()
    if model.recurrent_dropout:
        wrappers += (RecurrentDropout(model.recurrent_dropout),)
    if model.zoneout:
        wrappers += (Zoneout(model.zoneout, model.zoneout),)
    return wrappers


def network_options(model: Model) -> dict[str, Any]:
    """Return the options that `network` and `gate_statistics` take from a configuration, without dropout."""
    return {
        "merge": model.merge,
        "residual": model.residual,
        "wrappers": wrappers_of(model),
        "cell": model.cell,
        "dtype": jnp.dtype(model.dtype),
    }


def logits_of(
    params: NetworkParams,
    xs: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    model: Model,
    per_step: bool = False,
    key: Array | None = None,
) -> Array:
    """Return the logits of the configured network, `[B, O]` or `[B, T, O]`.

    Args:
        params: parameters of the network.
        xs: inputs `[B, T, I]`, scaled as in training.
        lengths: valid steps `[B]`; None: all.
        model: what the parameters alone do not determine: cell, dropout, residual connections, dtype.
        per_step: whether to return logits of every step; False: of the last valid step.
        key: random key for dropout and zoneout; None: evaluation.
    """
    return network(
        params, xs, lengths=lengths, return_sequences=per_step, dropout=model.dropout, key=key, **network_options(model)
    )[1]


class Sums(NamedTuple):
    """Running sums over labels; dividing by `weight` gives means."""

    loss: Array
    metric: Array
    weight: Array

    @classmethod
    def zero(cls) -> Sums:
        return cls(*(jnp.zeros((), jnp.float32) for _ in cls._fields))

    def means(self, metric: str) -> dict[str, float]:
        """Return the means as a dictionary with the keys "loss" and `metric`."""
        return {"loss": float(self.loss / self.weight), metric: float(self.metric / self.weight)}


def sums_of(
    logits: Array,
    y: Any,
    weight: ArrayLike | None,
    lengths: Any,
    *,
    loss: str,
    smoothing: float,
    target_scale: tuple[float, ...] | None = None,
) -> Sums:
    """Return the sums over the sequences of a batch, or over their valid steps.

    Args:
        logits: `[B, O]` or `[B, T, O]`.
        y: targets in the form that the loss takes; see `lstmjax.data.load`.
        weight: of each sequence, `[B]`; None: 1.
        lengths: valid steps `[B]`; None: all.
        loss: a row of `LOSSES`.
        smoothing: label smoothing.
        target_scale: by what the targets were divided, `[O]`: the metric is in the units of the data. (The offset
            would cancel, as metrics of numbers are of differences, and cost digits.) None: they were not.
    """
    row = LOSSES[loss]
    logits = logits.astype(jnp.float32)
    weights = jnp.ones(logits.shape[:1]) if weight is None else jnp.asarray(weight)
    if logits.ndim == 3:
        steps = jnp.arange(logits.shape[1])[None, :]
        valid = jnp.ones(logits.shape[:2], bool) if lengths is None else steps < lengths[:, None]
        weights = weights[:, None] * valid
    value = row.value(logits, y, smoothing)
    if target_scale is not None:
        scale = jnp.broadcast_to(jnp.asarray(target_scale, jnp.float32), logits.shape)
        logits, y = logits * scale, y * scale
    measure = row.measure(logits, y)
    return Sums((weights * value).sum(), (weights * measure).sum(), weights.sum())


@partial(jax.jit, static_argnames=("model", "loss", "per_step", "target_scale"))
def _evaluate_chunk(
    params: NetworkParams,
    chunk: Sequences,
    *,
    model: Model,
    loss: str,
    per_step: bool,
    target_scale: tuple[float, ...] | None,
) -> Sums:
    logits = logits_of(params, chunk.array, chunk.lengths, model=model, per_step=per_step)
    return sums_of(logits, chunk.y, chunk.weight, chunk.lengths, loss=loss, smoothing=0.0, target_scale=target_scale)


_logits_chunk = partial(jax.jit, static_argnames=("model", "per_step"))(logits_of)


def evaluate(trained: Trained, data: Sequences) -> dict[str, float]:
    """Return the mean loss and the metric ("accuracy" or "mse") over labelled sequences.

    The loss of a regression is that of the scaled targets, which training minimises; the metric is in the units of the
    data.

    Args:
        trained: the network.
        data: sequences, scaled and labelled as `lstmjax.data.load` and `labelled` return them.
    """
    config, about = trained.config, trained.about
    options: dict[str, Any] = {
        "model": config.model, "loss": config.loss.name, "per_step": about.per_step, "target_scale": about.target_scale,
    }  # fmt: skip
    with jax.enable_x64(config.model.needs_x64):
        chunks = [
            _evaluate_chunk(trained.params, chunk, **options) for _, chunk in _chunks(data, per_step=about.per_step)
        ]
        total = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64)), *chunks)
    return total.means(LOSSES[config.loss.name].metric)


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
    outputs: np.ndarray | Ragged | None = None
    with jax.enable_x64(model.needs_x64):
        for rows, chunk in _chunks(data._replace(y=None), per_step=about.per_step):
            logits = _logits_chunk(trained.params, chunk.x, chunk.lengths, model=model, per_step=about.per_step)
            values = about.unscaled_targets(np.asarray(readout(logits))[: len(rows)])
            if outputs is None:
                outputs = _room(data, values, per_step=about.per_step)
            _put(outputs, rows, values)
    assert outputs is not None
    return outputs


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
