"""Say what a training would do and need, before anything starts: shapes, parameters, memory, steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from lstmjax.claims import available, words
from lstmjax.config import Config
from lstmjax.dimensions import shapes
from lstmjax.training.loop import Plan, new_plan, schedule_of
from lstmjax.training.recipe import restored_form, run_key, train_step_of
from lstmjax.training.step import TrainState
from lstmjax.training.writers import check_writers
from lstmjax.types import PyTree

PARTS = {
    "params": "parameters",
    "moments": "moments of the optimizer",
    "average": "averaged parameters",
    "gradients": "sums of gradients",
}
"""What the fields of a state are, in words; others are a few numbers."""


def dry_run(config: Config, seeds: int | None = None) -> Iterator[str]:
    """Yield the lines of `lstmjax train CONFIG --dry-run`: the data are read and the step is compiled, nothing else.

    The memory is that of the compiled step, as XLA reports it; the data and Python itself come on top.

    Args:
        config: configuration of the run.
        seeds: number of networks; None: one.

    Raises:
        UserError: the configuration or the data cannot be used.
    """
    check_writers(config)
    with jax.enable_x64(config.model.needs_x64):
        plan = new_plan(config)
        batch = plan.batches.draw(seed=config.seed, step=0)
        rows, steps = (int(n) for n in np.shape(batch.x)[:2])
        if plan.batches.largest is not None:
            rows, steps = plan.batches.largest
        yield from _data(plan)
        yield ""
        model = config.model
        cell = None if model.cell == "vanilla" else model.cell
        yield str(shapes(plan.like.params, time=steps, batch=rows, merge=model.merge, cell=cell))
        yield ""
        yield from _memory(config, plan, _like(batch, rows, steps))
        yield ""
        yield from _steps(config, plan, seeds)


def _data(plan: Plan) -> Iterator[str]:
    parts = plan.parts
    counted = {"train": parts.train, "validate": parts.validation, "test": parts.test}
    counts = {word: len(part.x) for word, part in counted.items() if part is not None}
    if parts.draw is not None:
        counts["train"] = 0
    shown = [f"{word} {count:,}" if count else f"{word} new ones at each step" for word, count in counts.items()]
    yield f"sequences: {', '.join(shown)}"
    if plan.batches.description:
        yield plan.batches.description


def _like(batch: PyTree, rows: int, steps: int) -> PyTree:
    """Return the shapes of the largest batch, by those of another one: the axes of B, and of T where there is one."""
    b, t = np.shape(batch.x)[:2]

    def larger(array: Any) -> jax.ShapeDtypeStruct:
        shape = np.shape(array)
        first = (rows,) if shape[:1] == (b,) else shape[:1]
        second = (steps,) if len(shape) > 1 and shape[1] == t and shape[0] == b else shape[1:2]
        return jax.ShapeDtypeStruct((*first, *second, *shape[2:]), jax.dtypes.canonicalize_dtype(array.dtype))

    return jax.tree.map(larger, batch)


def _memory(config: Config, plan: Plan, batch: PyTree) -> Iterator[str]:
    """Yield the memory that training takes, by what it is for."""
    state = jax.eval_shape(restored_form, plan.like)
    yield "Memory of training"
    for name in TrainState._fields:
        size = size_of(getattr(state, name))
        if name in PARTS and size:
            yield f"  {PARTS[name]}: {words(size)}"
    compiled = train_step_of(plan.recipe).lower(state, batch, run_key(config.seed)).compile()  # type: ignore[attr-defined]
    analysis = compiled.memory_analysis()
    temporary = 0 if analysis is None else int(analysis.temp_size_in_bytes)
    of_step = "gradients, activations and the like within a step"
    yield f"  a batch: {words(size_of(batch))}"
    yield f"  {of_step}: {words(temporary) if analysis is not None else 'not known here'}"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    total = size_of(state) + size_of(batch) + temporary
    yield f"  together: {words(total)}, of {words(limit or available())} that are available"


def size_of(tree: PyTree) -> int:
    """Return the bytes of all arrays of a tree, which may be shapes and dtypes alone."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _steps(config: Config, plan: Plan, seeds: int | None) -> Iterator[str]:
    steps, schedule = plan.recipe.steps, schedule_of(config, plan)
    done = range(1, steps + 1)
    epochs = "" if config.epochs is None else f" = {config.epochs:,} epochs of {plan.batches.epoch:,} batches"
    yield f"steps: {steps:,}{epochs}"
    if config.optimizer.accumulate > 1:
        yield f"updates: {steps // config.optimizer.accumulate:,}, each by {config.optimizer.accumulate} batches"
    validated = sum(map(schedule.validates, done))
    yield f"validations: {validated:,}; checkpoints: {sum(map(schedule.saves, done)):,}, or more if it stops early"
    if seeds is not None:
        yield f"networks: {seeds}, each with these steps and this memory"
    yield "nothing was trained or written (--dry-run)"
