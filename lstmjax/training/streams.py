"""Train and evaluate a language model on a text: parallel streams whose state is carried, the gradient cut."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.config import Config, Loss, Model
from lstmjax.data import DataError, Tokens
from lstmjax.language_model import language, zero_state
from lstmjax.networks import LanguageParams
from lstmjax.training.forward import Trained, wrappers_of
from lstmjax.training.loss_sums import Sums, sums_of
from lstmjax.training.metrics import metrics_of
from lstmjax.types import Array, PyTree

SEGMENT = 50  # tokens of a segment if the configuration states none
CHUNK = 256  # tokens of each stream that are evaluated at once
LONG = 50_000  # tokens of a stream of evaluation at least, where there are several
STREAMS = 64  # of evaluation at most


class Segment(NamedTuple):
    """The batch of a step: T successive tokens of B streams, and the token after each."""

    tokens: np.ndarray  # [B, T]
    y: np.ndarray  # [B, T]
    fresh: np.ndarray  # bool [B], whether a stream begins here, with a state of zeros


class Streams(NamedTuple):
    """The training part as B streams of equal length, one behind the other in the text, read side by side.

    An epoch reads each stream once from its beginning. What is left over at its end, less than a segment, is left out
    at the beginning or the end, by a number that is drawn for each epoch.
    """

    tokens: Tokens
    rows: int  # B
    steps: int  # T

    @property
    def length(self) -> int:
        """The number of tokens of each stream that are predicted in an epoch at most."""
        return self.tokens.count // self.rows - 1

    @property
    def epoch(self) -> int:
        """The number of segments in an epoch."""
        return self.length // self.steps

    def draw(self, *, seed: int, step: int) -> Segment:
        """Return the batch of a step, a function of (seed, step)."""
        epoch, place = divmod(step, self.epoch)
        over = self.length - self.epoch * self.steps
        offset = int(np.random.default_rng([seed, epoch]).integers(0, over + 1)) + place * self.steps
        starts = offset + np.arange(self.rows) * (self.length + 1)
        rows = np.stack([self.tokens.read(start, start + self.steps + 1) for start in starts.tolist()])
        return Segment(rows[:, :-1], rows[:, 1:], np.full(self.rows, place == 0))


def make_streams(tokens: Tokens, rows: int, steps: int | None) -> Streams:
    """Return the streams of a training part.

    Raises:
        DataError: it is too short for one segment of each.
    """
    streams = Streams(tokens, rows, steps or SEGMENT)
    if streams.epoch < 1:
        needed = rows * (streams.steps + 1)
        raise DataError(
            f"the training part has {tokens.count:,} tokens, but batch_size {rows} streams of data.segment "
            f"{streams.steps} tokens need {needed:,}; set one of the two lower"
        )
    return streams


def stream_options(model: Model) -> Any:
    """Return the options that `language` takes from a configuration, without dropout."""
    return {
        "residual": model.residual,
        "wrappers": wrappers_of(model),
        "cell": model.cell,
        "dtype": jnp.dtype(model.dtype),
    }


def begun(state: PyTree, fresh: Any) -> PyTree:
    """Return the state `[B, ...]` from which a segment begins: the carried one, or zeros in rows that are fresh."""

    def begin(array: Array) -> Array:
        rows = jnp.asarray(fresh).reshape(-1, *(1,) * (array.ndim - 1))
        return jnp.where(jnp.broadcast_to(rows, array.shape), jnp.zeros_like(array), array)

    return jax.tree.map(begin, state)


def evaluate_stream(trained: Trained, tokens: Tokens) -> dict[str, float]:
    """Return the mean loss and the metrics over a part of a text, every token of it but the first predicted once.

    The state is carried from the beginning to the end. A part of more than 100,000 tokens is read as several streams
    of 50,000 or more, of which each begins with a state of zeros.

    Args:
        trained: a language model.
        tokens: the part.
    """
    config = trained.config
    names = metrics_of(config)
    options: dict[str, Any] = {"model": config.model, "loss": config.loss, "metrics": names}
    with jax.enable_x64(config.model.needs_x64):
        state, sums = None, []
        for chunk, lengths in _chunks(tokens):
            state = _zeros(trained, chunk) if state is None else state
            of_chunk, state = _evaluate_segment(trained.params, state, chunk, lengths, **options)
            sums.append(of_chunk)
        total: Sums = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), axis=0), *sums)
    values = total.means(config.loss, names)
    return {name: values[name] for name in ("loss", *names)}


@partial(jax.jit, static_argnames=("model", "loss", "metrics"))
def _evaluate_segment(
    params: LanguageParams,
    state: PyTree,
    chunk: Segment,
    lengths: Array,
    *,
    model: Model,
    loss: Loss,
    metrics: tuple[str, ...],
) -> tuple[Sums, PyTree]:
    state, logits = language(params, chunk.tokens, state, **stream_options(model))
    return sums_of(logits, chunk.y, None, lengths, loss=loss, metrics=metrics), state


def largest_chunk(params: PyTree, config: Config, tokens: Tokens) -> tuple[Segment, jax.stages.Lowered]:
    """Return a segment of an evaluation, and the program that evaluates it, not compiled yet.

    Args:
        params: parameters, or their shapes and dtypes.
        config: configuration of the run.
        tokens: the part.
    """
    chunk, lengths = next(_chunks(tokens))
    state = zero_state(params, chunk.tokens.shape[:1], stream_options(config.model))
    names = metrics_of(config)
    program = _evaluate_segment.lower(
        params, state, chunk, lengths, model=config.model, loss=config.loss, metrics=names
    )
    return chunk, program


class Scores(NamedTuple):
    """What a language model says of a text: of each token but the first, from all before it."""

    tokens: np.ndarray  # [N − 1], numbers in the vocabulary
    log_probability: np.ndarray  # [N − 1], natural logarithm
    likeliest: np.ndarray  # [N − 1], number of the token that it expected


def score_stream(trained: Trained, tokens: Tokens) -> Scores:
    """Return the log probability of each token of a text but the first; minus its mean is the loss of a text.

    The state is carried as in `evaluate_stream`.

    Args:
        trained: a language model.
        tokens: the text.
    """
    count = tokens.count - 1
    scores = Scores(np.zeros(count, np.int32), np.zeros(count, np.float32), np.zeros(count, np.int32))
    bounds, state = _bounds(count), None
    with jax.enable_x64(trained.config.model.needs_x64):
        for number, (chunk, lengths) in enumerate(_chunks(tokens)):
            state = _zeros(trained, chunk) if state is None else state
            values, state = _score_segment(trained.params, state, chunk, model=trained.config.model)
            for row, (first, length) in enumerate(zip((bounds[:-1] + number * CHUNK).tolist(), lengths, strict=True)):
                for field, array in zip(scores, (chunk.y, *values), strict=True):
                    field[first : first + length] = np.asarray(array)[row, :length]
    return scores


@partial(jax.jit, static_argnames=("model",))
def _score_segment(
    params: LanguageParams, state: PyTree, chunk: Segment, *, model: Model
) -> tuple[tuple[Array, Array], PyTree]:
    state, logits = language(params, chunk.tokens, state, **stream_options(model))
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    y = jnp.asarray(chunk.y)
    return (jnp.take_along_axis(log_p, y[..., None], axis=-1)[..., 0], logits.argmax(axis=-1)), state


def _zeros(trained: Trained, chunk: Segment) -> PyTree:
    """Return the state before the first segment."""
    params: Any = trained.params
    return zero_state(params, chunk.tokens.shape[:1], stream_options(trained.config.model))


def _bounds(count: int) -> np.ndarray:
    """Return where the streams of evaluation begin and end in a text of which `count` tokens are predicted."""
    rows = min(max(count // LONG, 1), STREAMS)
    return np.linspace(0, count, rows + 1).astype(np.int64)


def _chunks(tokens: Tokens) -> Iterator[tuple[Segment, np.ndarray]]:
    """Yield successive segments of the streams of evaluation, and how many tokens of each stream count in each."""
    bounds = _bounds(tokens.count - 1)
    rows = len(bounds) - 1
    for place in range(0, int(np.diff(bounds).max()), CHUNK):
        read = np.zeros((rows, CHUNK + 1), np.int32)
        lengths = np.clip(np.diff(bounds) - place, 0, CHUNK).astype(np.int32)
        for n, (start, count) in enumerate(zip((bounds[:-1] + place).tolist(), lengths.tolist(), strict=True)):
            if count:
                read[n, : count + 1] = tokens.read(start, start + count + 1)
        yield Segment(read[:, :-1], read[:, 1:], np.full(rows, place == 0)), lengths
