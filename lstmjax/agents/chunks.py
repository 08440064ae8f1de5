"""Rollouts cut into chunks for truncated gradients, with the states at their beginnings; minibatches of sequences.

A chunk's gradient stops at its beginning. Where the state comes from there: it was stored when the agent acted
(`chunk_starts`), is computed again with the parameters of today (`chunk_states`), or is brought up to date over the
steps before the chunk (`burn_in`, Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement
Learning").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp

from lstmjax.agents.network import RunOptions, as_trunks, check_observations, unroll
from lstmjax.agents.parameters import AgentParams, check_agent, initial_state
from lstmjax.arguments import as_array, as_arrays, as_step_flags, as_whole, check_key, check_positive
from lstmjax.keywords import takes
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def chunk(rollout: PyTree, length: int, *, burn_in: int = 0) -> PyTree:
    """Cut a rollout into chunks, each a sequence of its own, side by side with those of all environments.

    Chunk k has the steps from k · length to (k + 1) · length + burn_in. Its last `length` steps are to be learned; the
    burn-in before them overlaps with the chunk before. Pass `burn_in` on to `unroll`.

    Args:
        rollout: any pytree of arrays `[T, B, ...]`, time first: observations, firsts, actions, advantages.
        length: steps of a chunk, without its burn-in.
        burn_in: steps before them, for the state alone.

    Returns:
        The tree with arrays `[burn_in + length, N · B, ...]`: sequence k · B + b is chunk k of environment b.

    Raises:
        ValueError: T − burn_in is no multiple of length, or the arrays differ in T or B.

    >>> steps = jnp.arange(6)[:, None] + jnp.array([[0, 100]])  # T = 6, B = 2
    >>> print(chunk(steps, 3))
    [[  0 100   3 103]
     [  1 101   4 104]
     [  2 102   5 105]]
    >>> print(chunk(steps, 2, burn_in=2).T)
    [[  0   1   2   3]
     [100 101 102 103]
     [  2   3   4   5]
     [102 103 104 105]]
    """
    rollout = as_arrays("rollout", rollout)
    count = _count(rollout, length, burn_in)
    rows = length * jnp.arange(count)[None, :] + jnp.arange(burn_in + length)[:, None]  # [L, N]

    def cut(a: Array) -> Array:
        chunks = a[rows]  # [L, N, B, ...]
        return chunks.reshape(chunks.shape[0], -1, *a.shape[2:])

    return jax.tree.map(cut, rollout)


def chunk_starts(states: PyTree, length: int, *, burn_in: int = 0) -> PyTree:
    """Select the states at the beginnings of chunks from those that a rollout stored.

    Args:
        states: the state before each step of the rollout, arrays `[T, B, ...]`.
        length, burn_in: as for `chunk`; the states are those before the burn-in.

    Returns:
        States `[N · B, ...]` in the order of the sequences of `chunk`.
    """
    states = as_arrays("states", states)
    count = _count(states, length, burn_in, "states")
    return jax.tree.map(lambda a: a[: count * length : length].reshape(-1, *a.shape[2:]), states)


@takes(RunOptions, unroll)
def chunk_states(
    params: AgentParams,
    state: tuple | None,
    observations: ArrayLike,
    firsts: ArrayLike | None,
    length: int,
    *,
    burn_in: int = 0,
    **options: Unpack[RunOptions],
) -> tuple:
    """Compute the states at the beginnings of chunks with these parameters, in one pass without gradient.

    Args:
        params, state, observations, firsts: as for `unroll`, with one batch axis: `[T, B, I]` and `[T, B]`.
        length, burn_in: as for `chunk`.
        reset_state, activation, cell, residual, dtype, backend: as for `unroll`.

    Returns:
        States `[N · B, ...]` in the order of the sequences of `chunk`.
    """
    check_agent(params)
    observations = as_array("observations", observations)
    if observations.ndim != 3:
        raise ValueError(
            f"observations has shape {observations.shape}, expected [T, B, I], time first, with one batch axis: add it "
            "with observations[:, None], or flatten several."
        )
    firsts = as_step_flags("firsts", firsts, observations.shape[:-1], True, "observations")
    check_observations(params, observations, "observations", True)
    count = _count((observations, firsts), length, burn_in, "observations")
    params, state, options["reset_state"] = jax.lax.stop_gradient((params, state, options["reset_state"]))
    begin = initial_state(params, observations.shape[1], cell=options["cell"], dtype=options["dtype"])
    if state is not None:  # it may come without batch axes
        state = as_trunks("state", as_arrays("state", state), params)
        alike: bool = jax.tree.structure(state) == jax.tree.structure(begin)  # type: ignore[operator]
        if not alike or not all(
            a.shape in (b.shape, b.shape[1:]) for a, b in zip(*map(jax.tree.leaves, (state, begin)), strict=True)
        ):
            raise ValueError(
                f"state has arrays of shapes {[a.shape for a in jax.tree.leaves(state)]}, expected those of "
                f"initial_state(params, {observations.shape[1]}): {[a.shape for a in jax.tree.leaves(begin)]}, or "
                "without their first axis for all environments alike."
            )
        begin = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), state, begin)

    def body(state: tuple, inputs: PyTree) -> tuple[tuple, tuple]:
        return unroll(params, state, *inputs, **options)[0], state

    segments = jax.tree.map(lambda a: a[: count * length].reshape(count, length, *a.shape[1:]), (observations, firsts))
    _, states = jax.lax.scan(body, begin, segments)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), states)


def minibatches(key: Array, count: int, sequences: PyTree, states: PyTree = None) -> tuple[PyTree, PyTree]:
    """Shuffle sequences and deal them out into minibatches: of environments, or of the chunks that `chunk` cut.

    A sequence is never cut, so that its state stays beside it.

    Args:
        key: random key.
        count: number of minibatches.
        sequences: any pytree of arrays `[T, N, ...]`: N environments, or N chunks.
        states: the state before each sequence, arrays `[N, ...]`; None: there is none.

    Returns:
        (sequences, states): arrays `[count, T, N / count, ...]` and `[count, N / count, ...]`, for `jax.lax.scan`.

    Raises:
        ValueError: N is no multiple of count, or the arrays differ in N.

    >>> parts, _ = minibatches(jax.random.key(0), 2, jnp.ones((5, 6, 3)))
    >>> parts.shape
    (2, 5, 3, 3)
    """
    check_key("key", key)
    check_positive("count", count)
    sequences, states = as_arrays("sequences", sequences), as_arrays("states", states)
    _, number = _sizes(sequences, "sequences", 2)
    if states is not None and jax.tree.leaves(states):
        (of_states,) = _sizes(states, "states", 1)
        if of_states != number:
            raise ValueError(
                f"states has {of_states} rows, but sequences holds {number} sequences. Pass the state before each "
                "sequence: of chunks, from chunk_starts or chunk_states."
            )
    if number % count:
        raise ValueError(f"count is {count}, expected a number that divides {number}, the number of sequences.")
    order = jax.random.permutation(key, number).reshape(count, -1)

    def deal(a: Array) -> Array:
        return jnp.moveaxis(a[:, order], 1, 0)

    return jax.tree.map(deal, sequences), jax.tree.map(lambda a: a[order], states)


def _count(rollout: PyTree, length: Any, burn_in: Any, name: str = "rollout") -> int:
    """Return N, the number of chunks of each environment."""
    check_positive("length", length)
    early = as_whole("burn_in", burn_in)
    steps, _ = _sizes(rollout, name, 2)
    if early < 0:
        raise ValueError(f"burn_in is {burn_in}, expected 0 or more steps.")
    learned = steps - early
    if learned < length or learned % length:
        beside = f" behind a burn_in of {early}" if early else ""
        raise ValueError(
            f"length is {length}, but {name} has T = {steps} steps, expected a multiple of length{beside}. A step is "
            "never left out: roll out for N · length + burn_in steps."
        )
    return learned // length


def _sizes(tree: PyTree, name: str, axes: int) -> tuple[int, ...]:
    """Return the first sizes of all arrays of a tree, which must agree."""
    shapes = {a.shape[:axes] for a in jax.tree.leaves(tree)}
    if len(shapes) != 1 or len(next(iter(shapes))) < axes:
        expected = "[T, B, ...], time first" if axes == 2 else "[N, ...]"
        seen = ", ".join(str(a.shape) for a in jax.tree.leaves(tree)) or "nothing"
        raise ValueError(f"{name} has arrays of shapes {seen}, expected the same {expected} in each.")
    return next(iter(shapes))
