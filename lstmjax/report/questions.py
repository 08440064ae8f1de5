"""The questions of `lstmjax inspect` about every unit, which depend on the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.data import Sequences, markers
from lstmjax.inside import Question, Unit, rank_units
from lstmjax.inside.record import EMPTY
from lstmjax.networks import NetworkParams
from lstmjax.report.collect import Ends, Settings, compute_cells
from lstmjax.types import PyTree, Step

Ranked = tuple[str, tuple[Unit, ...]]
MAX_CLASSES = 20  # nobody reads a list for each of more classes


class Known(NamedTuple):
    """A network, labelled sequences as it sees them, and its results at their ends."""

    params: NetworkParams
    data: Sequences
    ends: Ends | None  # not needed for the order task
    settings: Settings


def of_order(known: Known, classes: tuple[str, ...]) -> Iterator[Ranked]:
    """Rank the units by how well c holds each marker: the first until the second comes, the second until the end."""
    data = known.data
    lengths = None if data.lengths is None else jnp.asarray(data.lengths)
    traced = compute_cells(known.params, jnp.asarray(data.x), lengths, settings=known.settings)
    for row in markers(data):
        question = Question(*row)
        yield question.name, rank_units(traced, question, lengths=data.lengths)


def of_classes(known: Known, classes: tuple[str, ...]) -> Iterator[Ranked]:
    """Rank the units for each class by how well their last c tells it from the other classes."""
    data = known.data
    assert data.y is not None
    assert known.ends is not None
    ends = jax.tree.map(_as_step, known.ends.states, is_leaf=_is_state)
    once = np.tile([0, 1], (len(data.x), 1))
    numbers = range(len(classes)) if len(classes) > 2 else [1]  # one question is enough for two classes
    present = [n for n in numbers if 0 < (data.y == n).sum() < len(data.y)]
    for n in present[:MAX_CLASSES]:
        yield f"class {classes[n]}", rank_units(ends, Question(f"class {classes[n]}", data.y == n, once))


def _as_step(state: tuple) -> Step:
    """Return the c of the last state as a `Step` of one step."""
    return EMPTY._replace(c=state[1][:, None])


def _is_state(node: PyTree) -> bool:
    return type(node) is tuple and hasattr(node[0], "shape")


QUESTIONS: MappingProxyType[str, Callable[[Known, tuple[str, ...]], Iterator[Ranked]]] = MappingProxyType(
    {"order": of_order}
)
"""The questions about data of a known source; about others, `of_classes`."""


def remembered(known: Known, classes: tuple[str, ...] | None, source: str) -> list[Ranked]:
    """Return each question with its units from the best to the worst; no questions without classes or labels.

    Args:
        known: the network and the data.
        classes: names of the classes; None: there are none.
        source: `data.source` of the run.
    """
    if classes is None or known.data.y is None or known.data.y.ndim > 1:
        return []
    return list(QUESTIONS.get(source, of_classes)(known, classes))
