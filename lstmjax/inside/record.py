"""What a step emits while a recorder watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from lstmjax import checks
from lstmjax.arguments import kind
from lstmjax.types import PyTree, Step

EMPTY = Step(*[None] * len(Step._fields))  # type: ignore[arg-type]
"""A `Step` without any field."""


@dataclass(frozen=True)
class Record:
    """Emit the pair (`Step` with some of its fields, statistic of the step): an `emit` that hashes by its values.

    Args:
        fields: the fields that are emitted; the others are None.
        statistic: a function of the `Step`, whose values are emitted as floating-point numbers; None: no statistic.
    """

    fields: tuple[str, ...]
    statistic: Callable[[Step], PyTree] | None = None

    @property
    def step_fields(self) -> tuple[str, ...] | None:
        """The fields, or None with a statistic, which is for one step: what a backend that has all steps looks for."""
        return self.fields if self.statistic is None else None

    def __call__(self, step: Step) -> tuple[Step, PyTree]:
        if not isinstance(step, Step):
            raise TypeError(
                f"the step emits {kind(step)} and no Step, so there is nothing to trace. Give your step the "
                "keyword emit and return emitted(emit, Step(...))."
            )
        selected = select(step, self.fields)
        if self.statistic is None:
            return selected, None
        dtype = checks.cell_dtype(step.c.dtype)
        return selected, jax.tree.map(lambda a: a.astype(dtype), self.statistic(step))


def select(step: Step, fields: tuple[str, ...]) -> Step:
    """Return a `Step` with the named fields of another, None in the others."""
    return EMPTY._replace(**{name: getattr(step, name) for name in fields})
