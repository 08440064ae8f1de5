"""Where episodes begin: `first` flags from the `done` of gymnax, Gymnasium and dm_env.

An observation is of one of three kinds, the step types of dm_env:

- FIRST: the first one of an episode. The agent's state is reset before it is seen.
- MID: any other one that the agent acts on.
- LAST: the final one of an episode that the environment shows before it resets. The action taken on it is ignored,
  so that the step from it is none to learn from.

`done[t]` is what the step from observation t returned, terminated or truncated. What stands at t + 1 after it depends
on the environment:

- "same_step" (gymnax, Brax, Gymnasium's `AutoresetMode.SAME_STEP`, Gym before 1.0): the environment has been reset, and
  observation t + 1 is the FIRST of the next episode. The final observation is in `info`.
- "next_step" (the default of Gymnasium 1's vector environments, EnvPool): observation t + 1 is the LAST of the old
  episode. The next step ignores its action, has reward 0, and returns the FIRST of the next episode as t + 2.
- dm_env says the kinds itself: pass its step types to `of_step_types`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import as_array, as_flags, one_of
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import ArrayLike


class Kind(IntEnum):
    """The kinds of observations, numbered as dm_env's `StepType`."""

    FIRST = 0
    MID = 1
    LAST = 2


class Episodes(NamedTuple):
    """Which observations begin episodes, and which steps count; T steps."""

    first: Array  # bool [T, ...]: for `unroll`
    valid: Array  # bool [T, ...]: the step from this observation was taken by the agent; mask the loss with it
    kind: Array  # int8 [...]: of the observation after the last step; the `start` of the next rollout


def same_step(kind: Array, done: Array) -> Array:
    """Return the kind of the next observation where `done` resets at once."""
    return jnp.where(done, Kind.FIRST, Kind.MID).astype(jnp.int8)


def next_step(kind: Array, done: Array) -> Array:
    """Return the kind of the next observation where the step after `done` resets."""
    return jnp.where(kind == Kind.LAST, Kind.FIRST, jnp.where(done, Kind.LAST, Kind.MID)).astype(jnp.int8)


AUTORESETS: MappingProxyType[str, Callable[[Array, Array], Array]] = MappingProxyType(
    {"same_step": same_step, "next_step": next_step}
)
"""How environments reset themselves, by name: functions of the kind of an observation and the `done` of the step."""


def next_kind(kind: ArrayLike, done: ArrayLike, *, autoreset: str = "same_step") -> Array:
    """Return the kind of the observation that a step returned; for loops that act step by step.

    Args:
        kind: `Kind` of the observation that was acted on, `[...]`.
        done: bool `[...]`, terminated or truncated, as the step returned it.
        autoreset: a name in `AUTORESETS`; see the head of this module.

    Returns:
        int8 `[...]`; `kind == Kind.FIRST` is the `first` of `act`.

    >>> int(next_kind(Kind.MID, True)), int(next_kind(Kind.MID, True, autoreset="next_step"))
    (0, 2)
    """
    one_of("autoreset", autoreset, tuple(AUTORESETS))
    kinds, done = _kinds("kind", kind), _flags("done", done)
    if kinds.ndim and kinds.shape != done.shape:
        raise ValueError(
            f"kind has shape {kinds.shape}, but done has {done.shape}, expected one Kind for each environment, or one "
            "for all."
        )
    return AUTORESETS[autoreset](kinds, done)


def episodes(
    done: ArrayLike, start: ArrayLike = Kind.FIRST, *, autoreset: str = "same_step", time_major: bool = True
) -> Episodes:
    """Return which observations of a rollout begin episodes, from the `done` of its steps.

    first[t] is about the observation that step t started from, the one stored beside done[t]; it is never done[t]
    itself: with "same_step" it is done[t - 1], with "next_step" done[t - 2].

    Args:
        done: bool `[T, ...]`, terminated or truncated: done[t] was returned by the step from observation t.
        start: the kind of observation 0, `[...]` or one for all: FIRST after a reset, for further rollouts the `kind`
            that this function returned for the one before.
        autoreset: a name in `AUTORESETS`; see the head of this module. For dm_env use `of_step_types`.
        time_major: whether time is the first axis of done; False: the last one.

    Raises:
        ValueError: an argument does not fit; the message names it.

    >>> done = jnp.array([False, False, True, False, False])
    >>> print(episodes(done).first)
    [ True False False  True False]
    >>> vector = episodes(done, autoreset="next_step")
    >>> print(vector.first, vector.valid)
    [ True False False False  True] [ True  True  True False  True]
    """
    one_of("autoreset", autoreset, tuple(AUTORESETS))
    (time_major,) = as_flags(time_major=time_major)
    done = _flags("done", done)
    if not done.ndim:
        raise ValueError("done is a single flag, expected [T, ...], one for each step; for one step use next_kind.")
    axis = 0 if time_major else done.ndim - 1
    steps = jnp.moveaxis(done, axis, 0)
    start = _kinds("start", start)
    if start.ndim and start.shape != steps.shape[1:]:
        raise ValueError(
            f"start has shape {start.shape}, expected {steps.shape[1:]}, a Kind for each environment, or one for all."
        )
    follow = AUTORESETS[autoreset]

    def body(kind: Array, done: Array) -> tuple[Array, Array]:
        return follow(kind, done), kind

    last, kinds = jax.lax.scan(body, jnp.broadcast_to(start, steps.shape[1:]), steps)
    return _of_kinds(jnp.moveaxis(kinds, 0, axis), last)


def of_step_types(step_types: ArrayLike, *, time_major: bool = True) -> Episodes:
    """Return which observations of a rollout begin episodes, from the step types of dm_env.

    Args:
        step_types: whole numbers `[T + 1, ...]`: the `step_type` of each TimeStep, with that of the one that the last
            step returned: 0 first, 1 mid, 2 last.
        time_major: whether time is the first axis; False: the last one.

    >>> print(of_step_types(jnp.array([0, 1, 2, 0, 1])).first)
    [ True False False  True]
    """
    (time_major,) = as_flags(time_major=time_major)
    kinds = _kinds("step_types", step_types)
    if not kinds.ndim or not kinds.shape[0 if time_major else -1]:
        raise ValueError(f"step_types has shape {kinds.shape}, expected [T + 1, ...], one for each TimeStep.")
    kinds = jnp.moveaxis(kinds, 0 if time_major else -1, 0)
    steps = jnp.moveaxis(kinds[:-1], 0, 0 if time_major else -1)
    return _of_kinds(steps, kinds[-1])


def _of_kinds(kinds: Array, last: Array) -> Episodes:
    return Episodes(kinds == Kind.FIRST, kinds != Kind.LAST, last)


def _kinds(name: str, value: Any) -> Array:
    """Return kinds as int8; refuse flags, which would count the other way round, and, where known, other numbers."""
    value = as_array(name, value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(
            f"{name} is {value.dtype} {value.shape}, expected whole numbers: a Kind (0 first, 1 mid, 2 last). Of flags "
            "that are True at first observations make kinds by jnp.where(first, Kind.FIRST, Kind.MID)."
        )
    if not isinstance(value, jax.core.Tracer):
        known = np.asarray(value)
        if ((known < Kind.FIRST) | (known > Kind.LAST)).any():
            raise ValueError(f"{name} holds {known.min()} to {known.max()}, expected a Kind: 0 first, 1 mid, 2 last.")
    return value.astype(jnp.int8)


def _flags(name: str, value: Any) -> Array:
    value = as_array(name, value)
    if value.dtype != jnp.bool_:
        raise ValueError(f"{name} is {value.dtype}, expected bool: terminated | truncated. Did you mean {name} > 0?")
    return value
