"""Write text by a trained network, token by token: what `lstmjax sample` does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.config import ConfigError, Model
from lstmjax.data import Vocabulary
from lstmjax.errors import Named
from lstmjax.language_model import filtered, language
from lstmjax.networks import LanguageParams
from lstmjax.training.forward import Trained, logits_of
from lstmjax.training.reading import load_run
from lstmjax.training.streams import stream_options
from lstmjax.types import Array, PyTree


class Candidates(NamedTuple):
    """Which tokens may be drawn; hashable, as a program is compiled for it."""

    top_k: int | None
    top_p: float | None
    unknown: int | None  # the number that stands for unknown tokens, which is never drawn


def sample_text(
    run: str | Path | Trained,
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the text that a network writes behind a prompt, piece by piece, each as soon as it is drawn.

    Args:
        run: folder of a run on a text, or its network, as `load_run` returns it.
        prompt: the text before; a network with `data.window` needs so many tokens at least.
        length: number of tokens: characters, bytes or words.
        temperature: 1 draws by the probabilities of the network; lower values prefer likely tokens, 0 takes the
            likeliest one.
        top_k: draw from the so many likeliest tokens only; None: from all.
        top_p: draw from the likeliest tokens that have this probability together; None: from all.
        seed: seed of the draws; the same one writes the same text.

    Raises:
        ConfigError: an argument is out of its range, or the run has not learned a text.
        DataError: the prompt holds something that the network does not know.
    """
    _check(length, temperature, top_k, top_p, seed)
    trained = run if isinstance(run, Trained) else load_run(run)
    about = trained.about
    if about.text is None or about.classes is None:
        raise ConfigError(
            f"{run if not isinstance(run, Trained) else 'run'}: has not learned a text, so that it writes none"
        )
    vocabulary = Vocabulary(about.classes, about.text)
    numbers = vocabulary.numbers(prompt)
    least = about.window or 1
    if len(numbers) < least:
        raise ConfigError(
            Named("prompt"), f" has {len(numbers)} {about.text}, expected {least} or more; give a longer one"
        )
    return _written(
        trained, vocabulary, prompt, numbers, length, temperature, Candidates(top_k, top_p, vocabulary.unknown), seed
    )


def _written(
    trained: Trained,
    vocabulary: Vocabulary,
    prompt: str,
    numbers: list[int],
    length: int,
    temperature: float,
    candidates: Candidates,
    seed: int,
) -> Iterator[str]:
    with jax.enable_x64(trained.config.model.needs_x64):
        draws = _by_window if trained.about.window else _by_state
        yield from vocabulary.decoder(prompt).pieces(draws(trained, numbers, length, temperature, candidates, seed))


def _by_state(
    trained: Trained, numbers: list[int], length: int, temperature: float, candidates: Candidates, seed: int
) -> Iterator[int]:
    """Yield numbers of tokens; each enters the network once, and the state remembers it."""
    key, state = jax.random.key(seed), None
    tokens = np.asarray(numbers, np.int32)
    options: dict[str, Any] = {"model": trained.config.model, "candidates": candidates}
    for n in range(length):
        token, state = _next(trained.params, state, tokens, jax.random.fold_in(key, n), temperature, **options)
        yield int(token)
        tokens = token[None]


@partial(jax.jit, static_argnames=("model", "candidates"))
def _next(
    params: LanguageParams,
    state: PyTree,
    tokens: Array,
    key: Array,
    temperature: float,
    *,
    model: Model,
    candidates: Candidates,
) -> tuple[Array, PyTree]:
    state, logits = language(params, tokens, state, **stream_options(model))
    return _drawn(key, logits[-1], temperature, candidates), state


def _by_window(
    trained: Trained, numbers: list[int], length: int, temperature: float, candidates: Candidates, seed: int
) -> Iterator[int]:
    """Yield numbers of tokens; the network sees the last ones of a window each time."""
    about, key, numbers = trained.about, jax.random.key(seed), list(numbers)
    assert about.window is not None
    offset, scale = np.float32(about.offset[0]), np.float32(about.scale[0])
    for n in range(length):
        x = (np.asarray(numbers[-about.window :], np.float32)[None, :, None] - offset) / scale
        token = _next_of_window(
            trained.params, x, jax.random.fold_in(key, n), temperature,
            model=trained.config.model, candidates=candidates,
        )  # fmt: skip
        numbers.append(int(token))
        yield int(token)


@partial(jax.jit, static_argnames=("model", "candidates"))
def _next_of_window(
    params: PyTree, x: Array, key: Array, temperature: float, *, model: Model, candidates: Candidates
) -> Array:
    return _drawn(key, logits_of(params, x, model=model)[0], temperature, candidates)


def _drawn(key: Array, logits: Array, temperature: float, candidates: Candidates) -> Array:
    """Return the number of a token, int32 `[]`; it is never that of unknown ones."""
    logits = logits.astype(jnp.float32)
    if candidates.unknown is not None:
        logits = logits.at[candidates.unknown].set(-jnp.inf)
    cold = jnp.asarray(temperature, jnp.float32) == 0
    warmth = jnp.where(cold, 1.0, temperature)
    warm = filtered(logits, temperature=warmth, top_k=candidates.top_k, top_p=candidates.top_p)
    token = jnp.where(cold, jnp.argmax(logits), jax.random.categorical(key, warm))
    return token.astype(jnp.int32)


def _check(length: int, temperature: float, top_k: int | None, top_p: float | None, seed: int) -> None:
    if length < 1:
        raise ConfigError(Named("length"), f" is {length}, expected 1 or more tokens")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(Named("temperature"), f" is {temperature}, expected 0 or more; 1 is that of training")
    if top_k is not None and top_k < 1:
        raise ConfigError(Named("top_k"), f" is {top_k}, expected 1 or more tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(Named("top_p"), f" is {top_p}, expected a probability above 0, up to 1")
    if not 0 <= seed < 2**32:
        raise ConfigError(Named("seed"), f" is {seed}, expected 0 to {2**32 - 1}")
