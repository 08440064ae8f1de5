"""The parameters of an agent: their tree, and their initial values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_flags, as_whole, check_key, check_number, check_positive, described, kind
from lstmjax.arrays import floating
from lstmjax.cells import Cell
from lstmjax.checks import state_like
from lstmjax.draws import orthogonal
from lstmjax.init import init_params
from lstmjax.init_stack import InitOptions, init_stacked
from lstmjax.keywords import takes
from lstmjax.networks import Dense
from lstmjax.published import find_cell
from lstmjax.types import Array, Bidirectional, LSTMParams, exported

HIDDEN_GAIN = 2.0**0.5  # of the orthogonal matrices of hidden Dense layers, as PPO's implementations draw them


class Trunk(NamedTuple):
    """An embedding, the LSTM layers above it, and the heads that read the top layer's h."""

    embedding: tuple[Dense, ...]  # an activation behind each; () without an embedding
    layers: tuple[LSTMParams, ...]
    heads: dict[str, tuple[Dense, ...]]  # an activation between them, none behind the last


class AgentParams(NamedTuple):
    """The parameters of an agent: one trunk that all heads share, or a trunk for each of them."""

    trunks: tuple[Trunk, ...]


exported(Trunk, AgentParams)


@takes(InitOptions, init_params)
def init_agent(
    key: Array,
    observation_size: int,
    heads: Mapping[str, int | None],
    *,
    hidden_size: int = 64,
    layers: int = 1,
    embedding: tuple[int, ...] = (64,),
    head: tuple[int, ...] = (64,),
    shared: bool = True,
    scales: Mapping[str, float] | None = None,
    **options: Unpack[InitOptions],
) -> AgentParams:
    """Initialise the parameters of an agent.

    Dense layers are orthogonal, with a gain of √2 below the last one of a head, and zero biases; the LSTM layers are
    those of `init_stacked`.

    Args:
        key: random key.
        observation_size: I, features of one observation.
        heads: each head's name and its number of outputs, such as `{"policy": 4, "value": None}`. None: one number
            without an axis, so that values are `[T, B]` as rewards are.
        hidden_size: H, units of each LSTM layer.
        layers: L, number of LSTM layers.
        embedding: widths of the Dense layers below the LSTM; (): the LSTM reads the observation itself.
        head: widths of the hidden Dense layers of each head.
        shared: whether all heads read one trunk; False: each has an embedding and LSTM layers of its own.
        scales: gain of each head's last layer; 1 for those that are not named. 0.01 for a policy makes the first
            actions nearly uniform.
        cell, projection_size, projection_bias, bias, init, forget_bias, dtype: of the LSTM; see `init_params`.

    Raises:
        ValueError, TypeError: an argument is invalid; the message names it.

    >>> from lstmjax.agents import act
    >>> params = init_agent(jax.random.key(0), 3, {"policy": 4, "value": None}, hidden_size=8)
    >>> state, outputs = act(params, None, jnp.ones((5, 3)), jnp.ones(5, bool))
    >>> outputs["policy"].shape, outputs["value"].shape, state[0][0][0].shape
    ((5, 4), (5,), (5, 8))
    """
    check_key("key", key)
    check_positive("observation_size", observation_size)
    if not isinstance(heads, Mapping) or not heads:
        what = "empty" if isinstance(heads, Mapping) else kind(heads)
        raise TypeError(f"heads is {what}, expected names and sizes, such as {{'policy': 4, 'value': None}}.")
    for name, size in heads.items():
        if size is not None:
            check_positive(f"heads[{name!r}]", size)
    (shared,) = as_flags(shared=shared)
    if any(isinstance(name, str) is False for name in heads):
        raise TypeError(f"heads has the names {list(heads)}, expected strings, such as 'policy'.")
    embedding, head = _widths("embedding", embedding), _widths("head", head)
    if not isinstance(scales, Mapping | None):
        raise TypeError(f"scales is {kind(scales)}, expected gains by name, such as {{'policy': 0.01}}.")
    gains = dict(scales or {})
    for name, gain in gains.items():
        check_number(f"scales[{name!r}]", gain)
    if unknown := gains.keys() - heads.keys():
        raise ValueError(f"scales names {min(unknown)!r}, expected names of heads: {', '.join(heads)}.")
    groups = [dict(heads)] if shared else [{name: size} for name, size in heads.items()]

    def trunk(key: Array, outputs: dict[str, int | None]) -> Trunk:
        below, middle, above = jax.random.split(key, 3)
        widths = (observation_size, *embedding)
        stack = init_stacked(middle, widths[-1], hidden_size, layers, **options)
        keys = jax.random.split(above, len(outputs))
        top = stack[-1].output_size  # type: ignore[union-attr]
        return Trunk(
            _dense_layers(below, widths, HIDDEN_GAIN, options["dtype"]),
            stack,  # type: ignore[arg-type]
            {
                name: _dense_layers(key, (top, *head, size), gains.get(name, 1.0), options["dtype"])
                for key, (name, size) in zip(keys, outputs.items(), strict=True)
            },
        )

    keys = jax.random.split(key, len(groups))
    return AgentParams(tuple(trunk(key, outputs) for key, outputs in zip(keys, groups, strict=True)))


def _widths(name: str, value: Any) -> tuple[int, ...]:
    """Return the widths of Dense layers; refuse what is no sequence of them."""
    if isinstance(value, str | None) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} is {described(value)}, expected a tuple of widths, such as (64,); () for no layer.")
    for width in value:
        check_positive(f"a width in {name}", width)
    return tuple(value)


def _dense_layers(key: Array, widths: tuple[int | None, ...], gain: float, dtype: Any) -> tuple[Dense, ...]:
    """Return Dense layers between these widths, the last one with a gain of its own; a width of None is one number."""
    keys = jax.random.split(key, len(widths))
    built = []
    for n, (below, above) in enumerate(itertools.pairwise(widths)):
        assert below is not None  # one number without an axis comes last
        scale = gain if n == len(widths) - 2 else HIDDEN_GAIN
        shape = () if above is None else (above,)
        w = orthogonal(keys[n], (below, above or 1), dtype, scale)
        built.append(Dense(w.reshape(w.shape[0], *shape), jnp.zeros(shape, dtype)))
    return tuple(built)


def initial_state(
    params: AgentParams, batch: int | tuple[int, ...] = (), *, cell: Cell | str | None = None, dtype: Any = None
) -> tuple:
    """Return the state before the first observation: zeros, for each trunk a tuple with an (h, c) for each layer.

    Args:
        params: `AgentParams`.
        batch: the batch axes: how many environments; () for one without a batch axis.
        cell, dtype: as for `act`.

    >>> params = init_agent(jax.random.key(0), 3, {"policy": 4, "value": None}, hidden_size=8, shared=False)
    >>> [[(h.shape, c.shape) for h, c in trunk] for trunk in initial_state(params, 5)]
    [[((5, 8), (5, 8))], [((5, 8), (5, 8))]]
    """
    check_agent(params)
    axes = tuple(as_whole("batch", size) for size in (batch if isinstance(batch, tuple | list) else (batch,)))
    if min(axes, default=0) < 0:
        raise ValueError(f"batch is {batch}, expected the number of environments, 0 or more.")
    feeds = find_cell("vanilla" if cell is None else cell).feeds
    dtype = floating(dtype)

    def zeros(layer: LSTMParams) -> tuple[Array, ...]:
        like = layer if dtype is None else jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), layer)
        return tuple(jnp.zeros(part.shape, part.dtype) for part in state_like(like, axes, feeds))

    return tuple(tuple(map(zeros, trunk.layers)) for trunk in params.trunks)


def check_agent(params: Any) -> None:
    """Refuse what are no parameters of an agent."""
    if not isinstance(params, AgentParams) or not all(isinstance(trunk, Trunk) for trunk in params.trunks):
        raise TypeError(
            f"params is {kind(params)}, expected AgentParams, as init_agent gives them. For LSTM layers without "
            "embedding and heads use lstmjax.stacked."
        )
    for trunk in params.trunks:
        for layer in trunk.layers:
            if isinstance(layer, Bidirectional):
                raise TypeError(
                    "an agent's layer is a Bidirectional pair, which needs the future, expected LSTMParams."
                )
