"""What a trained network gives: logits, metrics and predictions, as functions on arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.config import Config, Model
from lstmjax.data import About, Sequences
from lstmjax.dropout import RecurrentDropout, Zoneout
from lstmjax.networks import NetworkParams, network
from lstmjax.training.losses import LOSSES
from lstmjax.types import Array
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike

CHUNK = 128  # sequences computed at once outside training; one size for all parts compiles once


class Trained(NamedTuple):
    """A network with what is needed to use it."""

    params: NetworkParams
    config: Config
    about: About


class Prediction(NamedTuple):
    """What a network says of N sequences; with a label at each step, of N × T steps."""

    outputs: np.ndarray  # [N, O] or [N, T, O]: probabilities, or the numbers of a regression
    classes: np.ndarray | None  # [N] or [N, T]: names of the likeliest classes (softmax)


def wrappers_of(model: Model) -> tuple[Wrapper, ...]:
    """Gives what stands around each step of the network that a configuration describes."""
    wrappers: tuple[Wrapper, ...] = ()
    if model.recurrent_dropout:
        wrappers += (RecurrentDropout(model.recurrent_dropout),)
    if model.zoneout:
        wrappers += (Zoneout(model.zoneout, model.zoneout),)
    return wrappers


def logits_of(
    params: NetworkParams,
    xs: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    model: Model,
    per_step: bool = False,
    key: Array | None = None,
) -> Array:
    """Gives the logits of the network that a configuration describes, `[B, O]` or `[B, T, O]`.

    Args:
        params: parameters of the network.
        xs: inputs `[B, T, I]`, scaled as in training.
        lengths: valid steps `[B]`; None: all.
        model: what the parameters do not say: cell, dropout, residual connections, dtype.
        per_step: logits at each step, or of the last valid one.
        key: random key for dropout and zoneout; None: evaluation.
    """
    return network(
        params,
        xs,
        lengths=lengths,
        return_sequences=per_step,
        merge=model.merge,
        residual=model.residual,
        dropout=model.dropout,
        key=key,
        wrappers=wrappers_of(model),
        cell=model.cell,
        dtype=jnp.dtype(model.dtype),
    )[1]


class Sums(NamedTuple):
    """Running sums over labels; divided by `weight` they are means."""

    loss: Array
    metric: Array
    weight: Array

    @classmethod
    def zero(cls) -> Sums:
        return cls(*(jnp.zeros((), jnp.float32) for _ in cls._fields))

    def means(self, metric: str) -> dict[str, float]:
        """Gives the means by name: "loss", and the metric under its own."""
        return {"loss": float(self.loss / self.weight), metric: float(self.metric / self.weight)}


def sums_of(logits: Array, y: Any, weight: ArrayLike | None, lengths: Any, *, loss: str, smoothing: float) -> Sums:
    """Gives the sums over a batch: of sequences, or of their valid steps.

    Args:
        logits: `[B, O]` or `[B, T, O]`.
        y: as the loss wants it; see `lstmjax.data.load`.
        weight: of each sequence, `[B]`; None: 1.
        lengths: valid steps `[B]`; None: all.
        loss: a row of `LOSSES`.
        smoothing: label smoothing.
    """
    row = LOSSES[loss]
    logits = logits.astype(jnp.float32)
    weights = jnp.ones(logits.shape[:1]) if weight is None else jnp.asarray(weight)
    if logits.ndim == 3:
        steps = jnp.arange(logits.shape[1])[None, :]
        valid = jnp.ones(logits.shape[:2], bool) if lengths is None else steps < lengths[:, None]
        weights = weights[:, None] * valid
    value, measure = row.value(logits, y, smoothing), row.measure(logits, y)
    return Sums((weights * value).sum(), (weights * measure).sum(), weights.sum())


@partial(jax.jit, static_argnames=("model", "loss", "per_step"))
def _evaluate_chunk(
    params: NetworkParams, chunk: Sequences, weight: Array, *, model: Model, loss: str, per_step: bool
) -> Sums:
    logits = logits_of(params, chunk.x, chunk.lengths, model=model, per_step=per_step)
    return sums_of(logits, chunk.y, weight, chunk.lengths, loss=loss, smoothing=0.0)


_logits_chunk = partial(jax.jit, static_argnames=("model", "per_step"))(logits_of)


def evaluate(trained: Trained, data: Sequences) -> dict[str, float]:
    """Gives the mean loss and the metric ("accuracy" or "mse") over labelled sequences.

    Args:
        trained: the network.
        data: sequences, scaled and labelled as `lstmjax.data.load` and `labelled` give them.
    """
    config = trained.config
    options = {"model": config.model, "loss": config.loss.name, "per_step": trained.about.per_step}
    with jax.enable_x64(config.model.needs_x64):
        chunks = [_evaluate_chunk(trained.params, *chunk, **options) for chunk in _chunks(data)]
        total = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64)), *chunks)
    return total.means(LOSSES[config.loss.name].metric)


def predict(trained: Trained, xs: ArrayLike, lengths: ArrayLike | None = None) -> Prediction:
    """Gives the classes and their probabilities, or the numbers of a regression.

    Args:
        trained: the network.
        xs: inputs `[N, T, I]` in the units of the training data: they are scaled here as they were there.
        lengths: valid steps `[N]`; None: all T.
    """
    model, about = trained.config.model, trained.about
    data = about.scaled(Sequences(np.asarray(xs), None, None if lengths is None else np.asarray(lengths, np.int32)))
    readout = LOSSES[trained.config.loss.name].readout
    with jax.enable_x64(model.needs_x64):
        parts = [
            np.asarray(readout(_logits_chunk(trained.params, c.x, c.lengths, model=model, per_step=about.per_step)))
            for c, _ in _chunks(data)
        ]
    outputs = np.concatenate(parts)[: len(data.x)]
    return Prediction(
        outputs, None if about.classes is None else np.array(about.classes, object)[outputs.argmax(axis=-1)]
    )


def _chunks(data: Sequences) -> Iterator[tuple[Sequences, np.ndarray]]:
    """Gives the sequences in chunks of one size, so that they compile once, with weight 0 for what fills up."""
    count = len(data.x)
    size = CHUNK
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        weight = (rows < count).astype(np.float32)
        yield data._replace(names=None, features=None).take(np.minimum(rows, count - 1)), weight
