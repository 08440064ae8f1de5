"""The T-maze (Bakker 2001), in JAX: a cue at the start tells where to turn at the end of a corridor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.arguments import check_positive
from lstmjax.types import Array

FORWARD, LEFT, RIGHT = range(3)
WASTED = -0.1  # reward for an action that does not move the agent, as in the paper


class TMazeState(NamedTuple):
    """The state of one maze."""

    cue: Array  # bool []: the goal is on the left
    position: Array  # int32 []: 0 at the start, `length` at the junction
    time: Array  # int32 []: steps since the start


@dataclass(frozen=True)
class TMaze:
    """A T-maze whose corridor is `length` steps long, with gymnax's interface; it resets itself in the same step.

    Observations `[4]`: the cue says left, the cue says right (both 0 but at the start), in the corridor, at the
    junction. Actions: 0 forward, 1 left, 2 right. A turn in the corridor, or a step forward at the junction, costs 0.1.
    A turn at the junction ends the episode: reward 1 where the cue said, else −1. After 2 · length + 10 steps it is
    truncated. Without a memory of the cue no more than half of the turns can be right.

    Attributes:
        length: steps from the start to the junction, at least 1.

    Example:
        >>> maze = TMaze(3)
        >>> observation, state = maze.reset(jax.random.key(0))
        >>> for action in (FORWARD, FORWARD, FORWARD, LEFT):
        ...     observation, state, reward, terminated, truncated, _ = maze.step(jax.random.key(1), state, action)
        >>> bool(terminated), abs(float(reward)), int(state.position)
        (True, 1.0, 0)
    """

    length: int

    observation_size = 4
    actions = 3

    def __post_init__(self) -> None:
        check_positive("length", self.length)

    def reset(self, key: Array) -> tuple[Array, TMazeState]:
        """Return the first observation and the state of a new maze."""
        state = TMazeState(jax.random.bernoulli(key), jnp.int32(0), jnp.int32(0))
        return self.observe(state), state

    def observe(self, state: TMazeState) -> Array:
        """Return the observation of a state, float32 `[4]`."""
        begin, end = state.position == 0, state.position == self.length
        flags = [begin & state.cue, begin & ~state.cue, ~end, end]
        return jnp.stack(flags).astype(jnp.float32)

    def step(self, key: Array, state: TMazeState, action: Array | int) -> tuple:
        """Return (observation, state, reward, terminated, truncated, info); after an end those of a new maze.

        `info` has the flag "correct": the episode ended with the turn that the cue told.
        """
        action = jnp.asarray(action)
        at_junction = state.position == self.length
        forward = action == FORWARD
        terminated = at_junction & ~forward
        correct = terminated & ((action == LEFT) == state.cue)
        reward = jnp.where(terminated, jnp.where(correct, 1.0, -1.0), jnp.where(forward & ~at_junction, 0.0, WASTED))
        position = jnp.where(forward & ~at_junction, state.position + 1, state.position)
        after = TMazeState(state.cue, position, state.time + 1)
        truncated = ~terminated & (after.time >= 2 * self.length + 10)
        done = terminated | truncated
        observation, new = self.reset(key)
        after_observation = self.observe(after)
        state = jax.tree.map(lambda a, b: jnp.where(done, a, b), new, after)
        info = {"correct": correct, "final_observation": after_observation}
        return jnp.where(done, observation, after_observation), state, reward, terminated, truncated, info
