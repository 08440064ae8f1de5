"""What `lstmjax inspect` asks of every unit: what is known of the data decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.data import Sequences, markers
from lstmjax.inside import Question, Unit, rank_units
from lstmjax.networks import NetworkParams
from lstmjax.report.collect import Ends, How, compute_cells
from lstmjax.types import PyTree, Step

Ranked = tuple[str, tuple[Unit, ...]]
MOST = 20  # classes; of more nobody reads a list each


class Known(NamedTuple):
    """A network, labelled sequences as it sees them, and what it has when it has read them."""

    params: NetworkParams
    data: Sequences
    ends: Ends | None  # not needed by what is asked of the order task
    how: How


def of_order(known: Known, classes: tuple[str, ...]) -> Iterator[Ranked]:
    """Gives the units by how well c holds each marker: the first until the second comes, the second until the end."""
    data = known.data
    lengths = None if data.lengths is None else jnp.asarray(data.lengths)
    traced = compute_cells(known.params, jnp.asarray(data.x), lengths, how=known.how)
    for row in markers(data):
        question = Question(*row)
        yield question.name, rank_units(traced, question)


def of_classes(known: Known, classes: tuple[str, ...]) -> Iterator[Ranked]:
    """Gives for each class the units by how well c tells it from the others, where each direction has read all."""
    data = known.data
    assert data.y is not None
    assert known.ends is not None
    ends = jax.tree.map(_as_step, known.ends.states, is_leaf=_is_state)
    once = np.tile([0, 1], (len(data.x), 1))
    asked = range(len(classes)) if len(classes) > 2 else [1]  # of two classes one question is enough
    for n in [n for n in asked if 0 < (data.y == n).sum() < len(data.y)][:MOST]:
        yield f"class {classes[n]}", rank_units(ends, Question(f"class {classes[n]}", data.y == n, once))


def _as_step(state: tuple) -> Step:
    """Gives the last state as what one step computed."""
    return Step(*(state[1][:, None] if name == "c" else None for name in Step._fields))  # type: ignore[arg-type]


def _is_state(node: PyTree) -> bool:
    return type(node) is tuple and hasattr(node[0], "shape")


ASK: MappingProxyType[str, Callable[[Known, tuple[str, ...]], Iterator[Ranked]]] = MappingProxyType({"order": of_order})
"""What is asked of data that are known; of others, the classes."""


def remembered(known: Known, classes: tuple[str, ...] | None, source: str) -> list[Ranked]:
    """Gives each question with the units from the best to the worst; none where there is nothing to ask.

    Args:
        known: what is looked at.
        classes: names of the classes; None: there are none.
        source: `data.source` of the run.
    """
    if classes is None or known.data.y is None or known.data.y.ndim > 1:
        return []
    return list(ASK.get(source, of_classes)(known, classes))
