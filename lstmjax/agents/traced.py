"""Look inside an agent: every gate along a rollout, and the question which units remember its cue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from lstmjax.agents.network import AgentParams, RunOptions, as_trunks, check_agent, check_observations, embedded, unroll
from lstmjax.arguments import as_array, as_arrays, as_step_flags
from lstmjax.inside import Question, trace
from lstmjax.keywords import takes

if TYPE_CHECKING:
    from jax.typing import ArrayLike


@takes(RunOptions, unroll)
def trace_agent(
    params: AgentParams,
    state: tuple | None,
    observations: ArrayLike,
    firsts: ArrayLike | None,
    *,
    fields: str | tuple[str, ...] | None = None,
    time_major: bool = True,
    **options: Unpack[RunOptions],
) -> tuple:
    """Return every gate, c and h of every LSTM layer at every step of a trajectory.

    The numbers are those of `unroll`; they are indexed as its observations are, so that observations, actions and
    rewards of the rollout stand beside them.

    Args:
        params, state, observations, firsts, time_major: as for `unroll`.
        fields: names of fields of `Step`, one or several; None: all.
        reset_state, activation, cell, residual, dtype, backend: as for `unroll`.

    Returns:
        For each trunk a tuple with a `Step` for each layer, arrays `[T, ..., H]`, as `trace` gives it.

    >>> import jax, jax.numpy as jnp
    >>> from lstmjax.agents import init_agent
    >>> params = init_agent(jax.random.key(0), 3, {"policy": 4}, hidden_size=8)
    >>> (steps,), = trace_agent(params, None, jnp.ones((20, 5, 3)), None, fields="c")
    >>> steps.c.shape
    (20, 5, 8)
    """
    check_agent(params)
    params, observations = as_arrays("params", params), as_array("observations", observations)
    check_observations(params, observations, "observations", time_major)
    firsts = as_step_flags("firsts", firsts, observations.shape[:-1], time_major, "observations")
    traces = []
    states = (as_trunks("state", state, params), as_trunks("reset_state", options["reset_state"], params))
    for trunk, begin, reset in zip(params.trunks, *states, strict=True):
        xs = embedded(trunk, observations, options["activation"], options["dtype"])
        traces.append(
            trace(
                trunk.layers, xs, begin, fields=fields, resets=firsts, reset_state=reset, time_major=time_major,
                cell=options["cell"], residual=options["residual"], dtype=options["dtype"], backend=options["backend"],
            )
        )  # fmt: skip
    return tuple(traces)


def cue_question(name: str, labels: Any, seen: Any, needed: Any) -> Question:
    """Return the question whether a unit remembers a cue, for `lstmjax.inside.rank_units` and `separation`.

    Args:
        name: what the cue says: "goal on the left".
        labels: bool `[N]`, one for each episode.
        seen: the step at which each episode's cue was last seen, whole numbers `[N]` or one for all.
        needed: the step at which it is needed: the junction of a T-maze.

    Returns:
        `Question`, with spans from the step after `seen` to `needed`. Values are `[N, T, H]`: an episode a row.

    >>> cue_question("left", [True, False], 0, [5, 7]).spans.tolist()
    [[1, 6], [1, 8]]
    """
    labels = np.asarray(labels)
    seen, needed = (np.broadcast_to(np.asarray(steps), labels.shape) for steps in (seen, needed))
    return Question(name, labels, np.stack([seen + 1, needed + 1], axis=1))
