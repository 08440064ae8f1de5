"""A language model: an embedding of tokens, a stack of LSTM layers, and a head that predicts the next token."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array, as_flags, check_key, check_positive, check_rate, kind
from lstmjax.backends import Chooser
from lstmjax.cells import Cell
from lstmjax.init import init_params
from lstmjax.init_stack import InitOptions, init_network
from lstmjax.keywords import takes
from lstmjax.layered import drop
from lstmjax.networks import Dense, LanguageParams, NetworkParams, Tied, network
from lstmjax.types import Array, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


class LanguageOptions(TypedDict, total=False):
    """The keywords of `network` that `language` takes."""

    lengths: ArrayLike | None
    """Valid steps of each sequence, whole numbers `[...]`; None: all T."""
    mask: ArrayLike | None
    """Valid steps, bool `[..., T]`. With lengths: both."""
    resets: ArrayLike | None
    """Bool `[..., T]`, True at the first token of each text."""
    residual: bool
    """Whether what enters a layer is added to its outputs, from the second layer on."""
    wrappers: tuple[Wrapper, ...]
    """Wrappers around the step of every layer."""
    cell: Cell | str | None
    """The cell, a name in `CELLS` or a `Cell`; None: the vanilla cell."""
    dtype: DTypeLike | None
    """Dtype of the computation; None: that of the parameters."""
    checkpoint: int | str | None
    """As for `lstm`."""
    unroll: int
    """As for `lstm`."""
    backend: Chooser
    """As for `lstm`."""


@takes(InitOptions, init_params)
def init_language(
    key: Array,
    vocabulary_size: int,
    hidden_size: int,
    layers: int = 1,
    *,
    embedding_size: int | None = None,
    tie_weights: bool = False,
    input_bias: ArrayLike | None = None,
    input_bias_step: float = 0.0,
    **options: Unpack[InitOptions],
) -> LanguageParams:
    """Initialise the parameters for `language`: those of `init_network`, and an embedding of normal rows of length 1.

    All other arguments are those of `init_network`.

    Args:
        vocabulary_size: V, number of tokens.
        embedding_size: E, width of the embedding; None: that of h.
        tie_weights: use the embedding as the weights of the head, too. E must then be the width of h.

    >>> params = init_language(jax.random.key(0), 50, 64, 2, tie_weights=True)
    >>> params.embedding.shape, params.head.b.shape
    ((50, 64), (50,))
    """
    check_key("key", key)
    check_positive("vocabulary_size", vocabulary_size)
    check_positive("hidden_size", hidden_size)
    (tie_weights,) = as_flags(tie_weights=tie_weights)
    width = hidden_size if options["projection_size"] is None else options["projection_size"]
    if embedding_size is None:
        embedding_size = width
    check_positive("embedding_size", embedding_size)
    if tie_weights and embedding_size != width:
        raise ValueError(
            f"embedding_size is {embedding_size}, but tie_weights=True needs the width of h, {width}. Leave "
            f"embedding_size out, or pass projection_size={embedding_size}."
        )
    below, above = jax.random.split(key)
    params = init_network(
        above, embedding_size, hidden_size, vocabulary_size, layers, input_bias=input_bias,
        input_bias_step=input_bias_step, **options,
    )  # fmt: skip
    rows = jax.random.normal(below, (vocabulary_size, embedding_size), options["dtype"])
    head = Tied(params.head.b) if tie_weights else params.head
    return LanguageParams(rows / jnp.asarray(embedding_size**0.5, rows.dtype), params.layers, head)


@takes(LanguageOptions, network)
def language(
    params: LanguageParams,
    tokens: ArrayLike,
    state: tuple | None = None,
    *,
    dropout: float = 0.0,
    key: Array | None = None,
    **options: Unpack[LanguageOptions],
) -> tuple[tuple, Array]:
    """Run a language model over tokens; return the states and the logits of the next token after each.

    It is `network` over the rows of the embedding, with logits of every step. `state` continues an earlier call, so
    that a long text can be read in segments, with the gradient cut between them.

    Args:
        params: `LanguageParams`.
        tokens: numbers of tokens, whole numbers `[..., T]` from 0 to V − 1.
        state: a tuple with an (h, c) for each layer, as a former call returned it; None: zeros.
        dropout: rate of dropout behind the embedding, between layers and before the head; needs `key`.
        key: random key for dropout and wrappers; None: evaluation.
        lengths, mask, resets, residual, wrappers, cell, dtype, checkpoint, unroll, backend: as for `network`.

    Returns:
        (state, logits `[..., T, V]`).

    Raises:
        ValueError: a token is not in the vocabulary. (Under `jax.jit` its logits are NaN, as values cannot be read.)

    >>> params = init_language(jax.random.key(0), 50, 16)
    >>> state, logits = language(params, jnp.zeros((3, 7), jnp.int32))
    >>> logits.shape
    (3, 7, 50)
    """
    inner, xs, runs = embedded(params, tokens, dropout=dropout, key=key)
    return network(inner, xs, state, return_sequences=True, dropout=dropout, key=runs, **options)


def embedded(
    params: LanguageParams, tokens: ArrayLike, *, dropout: float = 0.0, key: Array | None = None
) -> tuple[NetworkParams, Array, Array | None]:
    """Return what `language` passes to `network`: its parameters, its inputs `[..., T, E]`, and its key.

    With it everything that looks into a network looks into a language model: `trace(*embedded(params, tokens)[:2])`.

    Args:
        params, tokens, dropout, key: as for `language`.
    """
    if not isinstance(params, LanguageParams):
        raise TypeError(f"params is {kind(params)}, expected LanguageParams, as init_language returns them.")
    check_rate("dropout", dropout)
    tokens = as_array("tokens", tokens)
    _check_tokens(tokens, params.vocabulary_size)
    # By default JAX would take the last token for one that is too large, without a word.
    xs = params.embedding.at[tokens].get(mode="fill", fill_value=jnp.nan)
    runs = None
    if key is not None:
        check_key("key", key)
        runs, drops = jax.random.split(key)
        xs = drop(drops, xs, float(dropout))
    w = params.embedding.T if isinstance(params.head, Tied) else params.head.w
    return NetworkParams(params.layers, Dense(w, params.head.b)), xs, runs


def one_hot_network(params: LanguageParams) -> NetworkParams:
    """Return the network that computes the same logits from tokens as one-hot vectors `[..., T, V]`.

    Its first layer's input weights are the embedding times those of the language model: the row of a token is what the
    token adds to each gate. So what shows the features of a network by name shows tokens.

    >>> params = init_language(jax.random.key(0), 50, 16)
    >>> logits = network(one_hot_network(params), jax.nn.one_hot(jnp.arange(7), 50), return_sequences=True)[1]
    >>> bool(jnp.allclose(logits, language(params, jnp.arange(7))[1], atol=1e-6))
    True
    """
    first, *above = params.layers
    assert isinstance(first, LSTMParams)
    w_x = jnp.einsum("ve,egh->vgh", params.embedding, first.w_x, precision="highest")
    w = params.embedding.T if isinstance(params.head, Tied) else params.head.w
    return NetworkParams((first._replace(w_x=w_x), *above), Dense(w, params.head.b))


def _check_tokens(tokens: Array, size: int) -> None:
    """Refuse what is no number of a token, as far as it can be known."""
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens are {tokens.dtype}, expected whole numbers from 0 to {size - 1}.")
    if tokens.ndim < 1:
        raise ValueError("tokens is a single number, expected [..., T]. For one token pass it in a list.")
    if isinstance(tokens, jax.core.Tracer) or not tokens.size:
        return
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"tokens has {low if low < 0 else high}, but the vocabulary has {size} tokens, numbered from 0 to "
            f"{size - 1}. Is it the vocabulary of this network?"
        )


def zero_state(params: LanguageParams, batch: tuple[int, ...], options: LanguageOptions) -> PyTree:
    """Return the state before the first token, in the shapes and dtypes in which `language` returns it.

    Args:
        params: arrays, or their shapes and dtypes.
        batch: the batch axes.
        options: keywords of `language` on which the state depends: cell, dtype, wrappers.
    """
    tokens = jax.ShapeDtypeStruct((*batch, 1), jnp.int32)
    state, _ = jax.eval_shape(partial(language, **options), params, tokens)
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)


def filtered(logits: Array, *, temperature: ArrayLike, top_k: int | None = None, top_p: float | None = None) -> Array:
    """Return logits of which the tokens are drawn: divided by the temperature, −∞ for those that are left out.

    Args:
        logits: `[..., V]`.
        temperature: above 0; 1 leaves the probabilities, lower values sharpen them.
        top_k: keep the so many likeliest tokens; None: all.
        top_p: of these, keep the likeliest ones whose probabilities sum up to this, at least one (Holtzman et al.
            2020); None: all.

    >>> logits = filtered(jnp.log(jnp.array([0.1, 0.5, 0.4])), temperature=1.0, top_p=0.8)
    >>> jnp.isfinite(logits).tolist()  # the last two have 0.9 together, and the second alone not 0.8
    [False, True, True]
    """
    logits = logits / jnp.asarray(temperature, logits.dtype)
    size = logits.shape[-1]
    if top_k is not None and top_k < size:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < jnp.broadcast_to(least, logits.shape), -jnp.inf, logits)
    if top_p is not None and top_p < 1.0:
        order = jnp.argsort(-logits, axis=-1)
        p = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1), axis=-1)
        before = jnp.cumsum(p, axis=-1) - p  # of the likelier ones; 0 for the likeliest
        dropped = jnp.take_along_axis(before >= top_p, jnp.argsort(order, axis=-1), axis=-1)
        logits = jnp.where(dropped, -jnp.inf, logits)
    return logits
