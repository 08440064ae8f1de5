"""A rollout on a page: observations, actions and rewards beside every gate, one episode a row."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.agents.network import Activation, AgentOptions, check_observations, embedded
from lstmjax.agents.parameters import AgentParams, check_agent
from lstmjax.arguments import as_array, as_arrays
from lstmjax.cells import Cell
from lstmjax.keywords import takes
from lstmjax.networks import NetworkParams
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    import os

    from jax.typing import ArrayLike

    from lstmjax.inside import Unit
    from lstmjax.report.page import Page


def by_episode(rollout: PyTree, firsts: ArrayLike) -> tuple[PyTree, np.ndarray]:
    """Cut a rollout into its episodes, one a row, as `trace`, `rank_units` and `inspect_agent` take them.

    What stands before the first episode that begins in the rollout is left out; the last one of each environment may be
    cut by the rollout's end.

    Args:
        rollout: any pytree of arrays `[T, B, ...]`, time first.
        firsts: bool `[T, B]`.

    Returns:
        (episodes, lengths): NumPy arrays `[N, longest, ...]`, zeros behind the end of each episode, and their steps
        `[N]`, those of the first environment first.

    >>> steps = jnp.arange(10).reshape(5, 2)
    >>> rows, lengths = by_episode(steps, jnp.zeros((5, 2), bool).at[0, 0].set(True).at[2].set(True))
    >>> rows.tolist(), lengths.tolist()
    ([[0, 2, 0], [4, 6, 8], [5, 7, 9]], [2, 3, 3])
    """
    firsts = np.asarray(as_array("firsts", firsts))
    arrays = jax.tree.map(np.asarray, as_arrays("rollout", rollout))
    if firsts.ndim != 2 or firsts.dtype != bool:
        raise ValueError(f"firsts is {firsts.dtype} {firsts.shape}, expected bool [T, B].")
    for at, a in jax.tree.leaves_with_path(arrays):
        if a.shape[:2] != firsts.shape:
            raise ValueError(
                f"rollout{jax.tree_util.keystr(at)} has shape {a.shape}, expected [T, B, ...] = {firsts.shape} "
                "as firsts."
            )
    bounds = []
    for b in range(firsts.shape[1]):
        begins = [*np.flatnonzero(firsts[:, b]), len(firsts)]
        bounds += [(b, begin, end) for begin, end in itertools.pairwise(begins)]
    if not bounds:
        raise ValueError("firsts is False everywhere: no episode begins in the rollout. Roll out for longer.")
    lengths = np.array([end - begin for _, begin, end in bounds], np.int32)

    def rows(a: np.ndarray) -> np.ndarray:
        out = np.zeros((len(bounds), np.max(lengths), *a.shape[2:]), a.dtype)
        for row, (b, begin, end) in zip(out, bounds, strict=True):
            row[: end - begin] = a[begin:end, b]
        return out

    return jax.tree.map(rows, arrays), lengths


class InspectOptions(AgentOptions, total=False):
    """Which part of an agent a page shows, and the names of what it reads."""

    trunk: int
    """Which of the agent's trunks."""
    features: Sequence[str] | None
    """Names of the numbers of an observation."""


def page_network(
    params: AgentParams,
    observations: Array,
    rollout: Mapping[str, ArrayLike],
    *,
    trunk: int = 0,
    activation: Activation = jax.nn.relu,
    cell: Cell | str | None = None,
    residual: bool = False,
    features: Sequence[str] | None = None,
) -> tuple[Any, Array, list[str], dict[str, Any]]:
    """Return what `report` shows of an agent: network, inputs `[N, T, I]`, their names, and options of the layers.

    The network is one of LSTM layers, and of a head if the trunk has one without hidden layers. Its inputs are what the
    LSTM reads, the observations, and the rollout's arrays by name; those that it does not read have weights of 0.
    """
    if not 0 <= trunk < len(params.trunks):
        raise ValueError(f"trunk is {trunk}, but the agent has trunks 0 to {len(params.trunks) - 1}.")
    part = params.trunks[trunk]
    columns, words = [embedded(part, observations, activation)], []
    size = observations.shape[-1]
    seen = [f"observation {n}" for n in range(size)] if features is None else list(features)
    if len(seen) != size:
        raise ValueError(f"features has {len(seen)} names, expected {size}, one for each number of an observation.")
    if part.embedding:
        words += [f"embedding {n}" for n in range(columns[0].shape[-1])]
        columns.append(observations)
    words += seen
    for name, values in rollout.items():
        array = as_array(name + "s", values)
        if array.shape[:2] != observations.shape[:2] or array.ndim > 3:
            raise ValueError(f"{name}s has shape {array.shape}, expected [N, T] = {observations.shape[:2]}.")
        array = array if array.ndim == 3 else array[..., None]
        columns.append(array)
        words += [name] if array.shape[-1] == 1 else [f"{name} {n}" for n in range(array.shape[-1])]
    first, *others = part.layers
    dtype = first.w_x.dtype
    xs = jnp.concatenate([column.astype(dtype) for column in columns], axis=-1)
    ignored = jnp.zeros((xs.shape[-1] - first.input_size, *first.w_x.shape[1:]), dtype)
    layers: Any = (first._replace(w_x=jnp.concatenate([first.w_x, ignored])), *others)
    single = [head[0] for head in part.heads.values() if len(head) == 1 and head[0].w.ndim == 2]
    network: Any = NetworkParams(layers, single[0]) if single else layers
    return network, xs, words, {"cell": cell, "residual": residual, "per_step": bool(single)}


@takes(InspectOptions, page_network)
def inspect_agent(
    params: AgentParams,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    remembers: Sequence[tuple[str, tuple[Unit, ...]]] = (),
    title: str = "A recurrent agent, seen inside",
    path: str | os.PathLike | None = None,
    **options: Unpack[InspectOptions],
) -> Page:
    """Write the page of `lstmjax inspect` for an agent: every gate, with the rollout along the axis.

    An episode is a row and begins from the zero state. The page shows the observation, the action and the reward of
    each step as inputs of the first layer; those that the LSTM does not read have weights of 0, which changes no
    number.

    Args:
        params: `AgentParams`.
        observations: `[N, T, I]`, an episode a row, as `by_episode` cuts them.
        actions: of each step, `[N, T]` or `[N, T, A]`.
        rewards: what each step returned, `[N, T]`.
        lengths: steps of each episode, `[N]`; None: all T.
        names: names of the episodes.
        remembers: for each question its name and its units, as `rank_units` returns them.
        title: the title of the page.
        path: the file to write, .html; None: none.
        trunk: which of the agent's trunks.
        activation, cell, residual: as for `unroll`.
        features: names of the numbers of an observation.

    Returns:
        A `Page`: a notebook shows it, and `.html` is the text.

    Raises:
        ValueError, TypeError: an argument does not fit the others; the message names it.
    """
    from lstmjax.report.page import report  # the page needs what training brings along

    check_agent(params)
    params, observations = as_arrays("params", params), as_array("observations", observations)
    if observations.ndim != 3:
        raise ValueError(f"observations has shape {observations.shape}, expected [N, T, I]: an episode a row.")
    check_observations(params, observations, "observations", False)
    network, xs, features, of_layers = page_network(
        params, observations, {"action": actions, "reward": rewards}, **options
    )
    return report(
        network, xs, lengths=lengths, features=features, names=names, remembers=remembers, title=title, path=path,
        **of_layers,
    )  # fmt: skip
