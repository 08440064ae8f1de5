"""The environments of `recurrent_ppo.py`: gymnax with velocities masked, and the T-maze of `lstmjax.agents`."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.agents import TMaze


@dataclass(frozen=True)
class Task:
    """An environment that resets itself in the same step, and what the agent may see and do."""

    reset: Callable  # reset(key) -> (observation, state)
    step: Callable  # step(key, state, action) -> (observation, state, reward, terminated, truncated, info)
    seen: tuple[int, ...]  # which numbers of an observation the agent sees
    actions: int | None  # number of actions; None: one real number
    limit: float = 1.0  # of a real action


def see(task: Task, observation: jax.Array) -> jax.Array:
    """Return what the agent sees of observations `[..., I]`."""
    return observation[..., jnp.array(task.seen)]


def gymnax_task(name: str, seen: tuple[int, ...], actions: int | None, limit: float = 1.0) -> Task:
    """Return an environment of gymnax, whose dynamics are Gymnasium's v1 but for the left wall of the mountain car."""
    import gymnax  # pip install '.[agents]'

    environment, how = gymnax.make(name)

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple:
        observation, state, *others = environment.step(key, state, action, how)
        if name == "MountainCarContinuous-v0":  # Gymnasium stops the car at the wall; gymnax lets it keep its speed
            stopped = (state.position <= how.min_position) & (state.velocity < 0)
            state = state.replace(velocity=jnp.where(stopped, 0.0, state.velocity))
        return observation, state, *others

    return Task(lambda key: environment.reset(key, how), step, seen, actions, limit)


def tmaze_task(length: int) -> Task:
    """Return a T-maze; see `TMaze`."""
    maze = TMaze(length)
    return Task(maze.reset, maze.step, tuple(range(maze.observation_size)), maze.actions)


def count(text: str) -> int:
    """Return a number of at least 1 from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def output_file(text: str) -> Path:
    """Return the file that a training writes; refuse, before it begins, a path that could not be written after it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder, or in a folder that is not there")
    return path
