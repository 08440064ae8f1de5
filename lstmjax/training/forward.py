"""The network of a configuration, as a function of parameters and arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.config import Config, Loss, Model
from lstmjax.data import About
from lstmjax.dropout import RecurrentDropout, Zoneout, weight_drop
from lstmjax.networks import NetworkParams, network
from lstmjax.training.losses import middle
from lstmjax.types import Array, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class Trained(NamedTuple):
    """A trained network with its configuration and what it must know of the data."""

    params: NetworkParams
    config: Config
    about: About


def predicting(trained: Trained) -> Trained:
    """Return a network as what predicts: of several quantiles the one nearest to the median, with a squared error.

    So whatever looks at networks need not know how their numbers were learned.
    """
    config, params = trained.config, trained.params
    loss = config.loss
    if loss.kind != "numbers":
        return trained
    assert params.head is not None
    head = jax.tree.map(lambda array: array[..., middle(loss) :: loss.width], params.head)
    config = config.model_copy(update={"loss": Loss(name="linear"), "metrics": ()})
    return trained._replace(params=params._replace(head=head), config=config)


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


def with_dropped_weights(params: PyTree, model: Model, key: Array | None) -> tuple[PyTree, Array | None]:
    """Return the parameters that a batch is computed with, and the key of what else is drawn.

    Args:
        params: parameters with `layers`.
        model: section of the configuration.
        key: random key; None: evaluation, nothing is dropped.
    """
    if key is None or not model.weight_drop:
        return params, key
    drops, key = jax.random.split(key)
    return params._replace(layers=weight_drop(params.layers, model.weight_drop, drops)), key


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
        key: random key for dropout, zoneout and dropped weights; None: evaluation.
    """
    params, key = with_dropped_weights(params, model, key)
    return network(
        params, xs, lengths=lengths, return_sequences=per_step, dropout=model.dropout, key=key, **network_options(model)
    )[1]
