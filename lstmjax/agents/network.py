"""The network of an agent: embedding, LSTM layers, heads. `act` runs one step of it, `unroll` a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp

from lstmjax.agents.parameters import AgentParams, Trunk, check_agent
from lstmjax.arguments import as_array, as_arrays, as_flags, as_step_flags, as_whole, check_function, kind
from lstmjax.arrays import cast_inputs, floating
from lstmjax.backends import Chooser
from lstmjax.cell import product
from lstmjax.cells import Cell
from lstmjax.keywords import takes
from lstmjax.networks import Dense
from lstmjax.stack import stacked
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike

Activation = Callable[[Array], Array]


class AgentOptions(TypedDict, total=False):
    """What an agent is beside its parameters."""

    activation: Activation
    """Behind each Dense layer but a head's last: a function of an array, the same one at every call."""
    cell: Cell | str | None
    """The cell, a name in `CELLS` or a `Cell`; None: the vanilla cell."""
    residual: bool
    """Whether what enters a layer is added to its outputs, from the second layer on."""


class RunOptions(AgentOptions, total=False):
    """The keywords of `act` and `unroll`: pass the same to both."""

    reset_state: PyTree | None
    """The state that a first observation begins with, as `state`; None: zeros."""
    dtype: Any
    """Dtype of the computation; None: that of the parameters."""
    backend: Chooser
    """How the layers are run; see `lstm`."""


def unroll(
    params: AgentParams,
    state: tuple | None,
    observations: ArrayLike,
    firsts: ArrayLike | None,
    *,
    time_major: bool = True,
    burn_in: int = 0,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    reset_state: PyTree | None = None,
    activation: Activation = jax.nn.relu,
    cell: Cell | str | None = None,
    residual: bool = False,
    dtype: Any = None,
    backend: Chooser = "auto",
) -> tuple[tuple, dict[str, Array]]:
    """Run the agent over a trajectory; return the state after it, and what the heads say at every step.

    The numbers are those of `act`, step by step, and so are the gradients.

    Args:
        params: `AgentParams`.
        state: the state before the first step of the trajectory, which the rollout stored or began with; None: zeros.
            If the trajectory begins within an episode, that is not zero.
        observations: `[T, ..., I]`, time first, as `jax.lax.scan` stacks a rollout.
        firsts: bool `[T, ...]`: firsts[t] is True where observations[t] is the first of an episode; see `episodes`.
            None: no episode begins.
        time_major: time is the first axis; False: the last one before the features, `[..., T, I]`, as elsewhere in
            this library.
        burn_in: how many of the first steps only bring the state up to date (Kapturowski et al. 2019): they have no
            gradient, and no outputs are returned for them.
        checkpoint, unroll: as for `lstm`: compute segments again in the backward pass; steps per iteration.
        reset_state: the state that a first observation begins with, as `state`; None: zeros.
        activation: behind each Dense layer but a head's last. Compiled code is cached by it: name a function.
        cell: the cell of the LSTM layers; None: vanilla.
        residual: add what enters a layer to its outputs, from the second layer on.
        dtype: dtype of the computation; None: that of the parameters.
        backend: how the layers are run; see `lstm`.

    Returns:
        (state, outputs): outputs[name] is `[T, ..., O]`, or `[T, ...]` for a head of one number; T without burn-in.

    Raises:
        ValueError, TypeError: an argument does not fit the others; the message names it.

    >>> import jax.numpy as jnp
    >>> from lstmjax.agents import init_agent
    >>> params = init_agent(jax.random.key(0), 3, {"policy": 4, "value": None}, hidden_size=8)
    >>> firsts = jnp.zeros((20, 5), bool).at[0].set(True)
    >>> state, outputs = unroll(params, None, jnp.ones((20, 5, 3)), firsts)
    >>> outputs["policy"].shape, outputs["value"].shape
    ((20, 5, 4), (20, 5))
    """
    observations = as_array("observations", observations)
    if observations.ndim < 2:
        raise ValueError(
            f"observations has shape {observations.shape}, expected [T, ..., I], time first; for one step call act."
        )
    (time_major,) = as_flags(time_major=time_major)
    firsts = as_step_flags("firsts", firsts, observations.shape[:-1], time_major, "observations")
    steps = observations.shape[0 if time_major else -2]
    skipped = as_whole("burn_in", burn_in)
    if not 0 <= skipped <= steps:
        raise ValueError(f"burn_in is {burn_in}, expected 0 to T = {steps}, the number of steps in observations.")
    options: RunOptions = {
        "reset_state": reset_state, "activation": activation, "cell": cell, "residual": residual, "dtype": dtype,
        "backend": backend,
    }  # fmt: skip
    return _run(params, state, observations, firsts, time_major, skipped, checkpoint, unroll, options)


@takes(RunOptions, unroll)
def act(
    params: AgentParams,
    state: tuple | None,
    observation: ArrayLike,
    first: ArrayLike | None,
    **options: Unpack[RunOptions],
) -> tuple[tuple, dict[str, Array]]:
    """Run the agent for one step; return the state after it, and what the heads say.

    It computes what `unroll` computes for a trajectory of one step, in one compiled program.

    Args:
        params: `AgentParams`.
        state: what `initial_state` or the last call returned; None: zeros.
        observation: `[..., I]`; whole numbers and booleans are cast to the dtype of the parameters.
        first: bool `[...]`: True at the first observation of an episode: the state returns to `reset_state` before
            this observation is seen, and no gradient crosses. None: no episode begins.
        reset_state, activation, cell, residual, dtype, backend: see `unroll`.

    Returns:
        (state, outputs): outputs[name] is `[..., O]`, or `[...]` for a head of one number.

    Raises:
        ValueError, TypeError: an argument does not fit the others; the message names it.

    >>> import jax.numpy as jnp
    >>> from lstmjax.agents import init_agent
    >>> params = init_agent(jax.random.key(0), 3, {"policy": 2}, hidden_size=8)
    >>> state, outputs = act(params, None, jnp.ones(3), True)
    >>> state, outputs = act(params, state, jnp.ones(3), False)
    >>> outputs["policy"].shape
    (2,)
    """
    observation = as_array("observation", observation)
    if not observation.ndim:
        raise ValueError("observation is a single number, expected [..., I], the features of one step.")
    first = as_step_flags("first", first, observation.shape[:-1], None, "observation")
    return _run(params, state, observation, first, True, 0, None, 1, options, single_step=True)


def _run(
    params: AgentParams, state: Any, observations: Array, firsts: Array | None, time_major: bool, burn_in: int,
    checkpoint: Any, unroll: int, options: RunOptions, *, single_step: bool = False,
) -> tuple[tuple, dict[str, Array]]:  # fmt: skip
    """Check what `act` and `unroll` share, and run the program; `single_step`: observations have no time axis."""
    check_agent(params)
    params = as_arrays("params", params)
    state = as_trunks("state", state, params)
    reset_state = as_trunks("reset_state", options["reset_state"], params)
    check_function("activation", options["activation"], "of an array")
    (residual,) = as_flags(residual=options["residual"])
    check_observations(
        params, observations, "observation" if single_step else "observations", single_step or time_major
    )
    static = Static(
        options["activation"], options["cell"], residual, floating(options["dtype"]), options["backend"],
        time_major, burn_in, checkpoint, unroll, single_step,
    )  # fmt: skip
    return _program(params, state, reset_state, observations, firsts, static=static)


class Static(NamedTuple):
    """The options of a run that are no arrays: what a program is compiled for."""

    activation: Activation
    cell: Any
    residual: bool
    dtype: Any
    backend: Any
    time_major: bool
    burn_in: int
    checkpoint: int | str | None
    unroll: int
    single_step: bool


@partial(jax.jit, static_argnames=("static",))
def _program(
    params: AgentParams, state: tuple, reset_state: tuple, observations: Array, firsts: Array | None, *, static: Static
) -> tuple[tuple, dict[str, Array]]:
    if static.single_step:
        observations = observations[None]
        firsts = None if firsts is None else firsts[None]
    if static.burn_in:
        (early, observations), (early_firsts, firsts) = (
            split_time(a, static.burn_in, static.time_major, features)
            for a, features in ((observations, 1), (firsts, 0))
        )
        still = jax.lax.stop_gradient((params, state, reset_state))
        state, _ = _trunks(*still, jax.lax.stop_gradient(early), early_firsts, static)
    state, outputs = _trunks(params, state, reset_state, observations, firsts, static)
    if static.single_step:
        outputs = jax.tree.map(lambda y: y[0], outputs)
    return state, outputs


def _trunks(
    params: AgentParams, state: tuple, reset_state: tuple, observations: Array, firsts: Array | None, static: Static
) -> tuple[tuple, dict[str, Array]]:
    states, outputs = [], {}
    for trunk, begin, reset in zip(params.trunks, state, reset_state, strict=True):
        xs = embedded(trunk, observations, static.activation, static.dtype)
        state, hs = stacked(
            trunk.layers, xs, begin, resets=firsts, reset_state=reset, time_major=static.time_major, cell=static.cell,
            residual=static.residual, dtype=static.dtype, checkpoint=static.checkpoint, unroll=static.unroll,
            backend=static.backend,
        )  # fmt: skip
        states.append(state)
        for name, head in trunk.heads.items():
            outputs[name] = _dense(head, hs, static.activation, static.dtype, last=True)
    return tuple(states), outputs


def split_time(a: Array | None, at: int, time_major: bool, features: int) -> tuple[Any, Any]:
    """Return an array in two along time, of which `features` axes stand behind; None twice for None."""
    if a is None:
        return None, None
    axis = 0 if time_major else a.ndim - 1 - features
    return jax.lax.slice_in_dim(a, 0, at, axis=axis), jax.lax.slice_in_dim(a, at, None, axis=axis)


def embedded(trunk: Trunk, observations: Array, activation: Activation, dtype: Any = None) -> Array:
    """Return what the LSTM of a trunk reads: observations `[..., I]` behind the embedding."""
    inputs = trunk.embedding[0].w if trunk.embedding else trunk.layers[0].w_x
    xs = cast_inputs(observations, inputs.dtype if dtype is None else dtype)
    return _dense(trunk.embedding, xs, activation, dtype, last=False)


def _dense(layers: tuple[Dense, ...], ys: Array, activation: Activation, dtype: Any, *, last: bool) -> Array:
    """Run Dense layers; `last`: without an activation behind the last one."""
    for n, layer in enumerate(layers):
        w, b = (layer.w, layer.b) if dtype is None else (layer.w.astype(dtype), layer.b.astype(dtype))
        ys = product("dense", (ys, w), bias=(b,)).astype(w.dtype)
        if not last or n < len(layers) - 1:
            ys = activation(ys)
    return ys


def check_observations(params: AgentParams, observations: Array, name: str, time_major: bool) -> None:
    """Refuse observations that do not have the features that the parameters expect."""
    if jnp.issubdtype(observations.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} is {observations.dtype}, expected real numbers. Pass real and imaginary parts as features."
        )
    for trunk in params.trunks:
        size = trunk.embedding[0].w.shape[0] if trunk.embedding else trunk.layers[0].input_size
        if observations.shape[-1] != size:
            raise ValueError(
                f"{name} has {observations.shape[-1]} features on its last axis, shape {observations.shape}, but the "
                f"parameters expect I = {size}. Flatten each observation, reshape(..., -1), or initialise the agent "
                f"with observation_size={observations.shape[-1]}."
            )


def as_trunks(name: str, state: Any, params: AgentParams) -> tuple:
    """Return a state as a tuple with an entry for each trunk; None for each where it is None."""
    count = len(params.trunks)
    if state is None:
        return (None,) * count
    if not isinstance(state, tuple | list) or len(state) != count:
        has = f"has {len(state)} entries" if isinstance(state, tuple | list) else f"is {kind(state)}"
        raise ValueError(
            f"{name} {has}, expected a tuple with an entry for each of {count} trunk{'s' if count > 1 else ''}, each a "
            "tuple with an (h, c) for each layer, as initial_state, act and unroll give it."
        )
    return tuple(state)
