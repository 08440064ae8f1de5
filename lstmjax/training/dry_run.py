"""Say what a training would do and need, before anything starts: shapes, parameters, memory, steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import jax
import numpy as np

from lstmjax.claims import available, words
from lstmjax.config import Config
from lstmjax.data import Ragged, Tokens
from lstmjax.dimensions import shapes
from lstmjax.networks import Dense, LanguageParams, NetworkParams, Tied
from lstmjax.training import inference, streams
from lstmjax.training.plan import Plan, initial_of, new_plan, schedule_of
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

    The memory is that of the compiled programs, as XLA reports it, and of the data; Python itself comes on top.

    Args:
        config: configuration of the run.
        seeds: number of networks; None: one.

    Raises:
        UserError: the configuration or the data cannot be used.
    """
    check_writers(config)
    with jax.enable_x64(config.model.needs_x64):
        plan = new_plan(config)
        initial_of(config, plan)  # what training would refuse is refused here
        batch = plan.batches.draw(seed=config.seed, step=0)
        rows, steps = (int(n) for n in np.shape(jax.tree.leaves(batch)[0])[:2])
        if plan.batches.largest is not None:
            rows, steps = plan.batches.largest
        yield from _data(plan)
        yield ""
        model = config.model
        cell = None if model.cell == "vanilla" else model.cell
        params = plan.like.params
        if isinstance(params, LanguageParams):
            yield from _embedding(params)
            params = _above_the_embedding(params)
        table = shapes(params, time=steps, batch=rows, merge=model.merge, cell=cell)
        if config.loss.name != "softmax":  # nothing sums to 1
            table = replace(table, flow=tuple(row for row in table.flow if row.name != "p"))
        yield str(table)
        yield ""
        yield from _memory(config, plan, batch if plan.about.is_stream else _like(batch, rows, steps))
        yield ""
        yield from _steps(config, plan, seeds)


def _embedding(params: LanguageParams) -> Iterator[str]:
    size, width = params.embedding.shape
    yield f"Embedding: a row of E numbers for each of V tokens, ({size}, {width}), {size * width:,} parameters"
    if isinstance(params.head, Tied):
        yield f"  its transpose is the w of the head below, whose {size * width:,} parameters are these"
    else:
        yield f"  with the layers and the head below {parameter_count(params):,} parameters"
    yield ""


def parameter_count(params: PyTree) -> int:
    """Return the number of trained numbers."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def _above_the_embedding(params: LanguageParams) -> NetworkParams:
    """Return the shapes of the network that reads the rows of the embedding."""
    if not isinstance(params.head, Tied):
        return NetworkParams(params.layers, params.head)
    w = jax.ShapeDtypeStruct(params.embedding.shape[::-1], params.embedding.dtype)
    return NetworkParams(params.layers, Dense(w, params.head.b))  # type: ignore[arg-type]


def _data(plan: Plan) -> Iterator[str]:
    parts = plan.parts
    counted = {"train": parts.train, "validate": parts.validation, "test": parts.test}
    what = plan.about.text if plan.about.is_stream and plan.about.text else "sequences"
    counts = {word: _count(part) for word, part in counted.items() if part is not None}
    if parts.draw is not None:
        counts["train"] = 0
    shown = [f"{word} {count:,}" if count else f"{word} new ones at each step" for word, count in counts.items()]
    yield f"{what}: {', '.join(shown)}"
    if plan.batches.description:
        yield plan.batches.description


def _count(part: Any) -> int:
    """Return the number of sequences, or of tokens."""
    return int(part.count) if isinstance(part, Tokens) else len(part.x)


def _in_memory(part: Any) -> int:
    """Return the bytes that the arrays of a part take in the memory; those on the disk take none."""
    if isinstance(part, Tokens):
        return 0 if isinstance(part.raw, np.memmap) else int(part.count) * part.raw.itemsize
    x = part.x.flat if isinstance(part.x, Ragged) else part.x
    arrays = (x, part.y, part.lengths, part.weight)
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


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
    of_step = _temporary(train_step_of(plan.recipe).lower(state, batch, run_key(config.seed)))  # type: ignore[attr-defined]
    yield f"  a batch: {words(size_of(batch))}"
    yield f"  gradients, activations and the like within a step: {_known(of_step)}"
    validation, params = plan.parts.validation, state.params
    if plan.about.is_stream:
        chunk, program = streams.largest_chunk(params, config, cast(Any, validation))
    else:
        chunk, program = inference.largest_chunk(params, config, plan.about, validation)
    of_chunk = _temporary(program)
    yield f"  a chunk of the validation part: {words(size_of(chunk))}, and {_known(of_chunk)} while it is evaluated"
    data = sum(_in_memory(part) for part in plan.parts[:3] if part is not None)
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    yield f"  data: {words(data)}" + (" in the memory of the machine" if limit else "")
    # A step and an evaluation follow each other; the batch of the next step is there during both.
    total = (
        size_of(state) + size_of(batch) + max(of_step or 0, size_of(chunk) + (of_chunk or 0)) + (0 if limit else data)
    )
    yield f"  together: {words(total)}, of {words(limit or available())} that are available"


def _temporary(program: jax.stages.Lowered) -> int | None:
    """Return the bytes that a program needs beside its arguments and results; None: XLA does not say."""
    analysis = program.compile().memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def _known(size: int | None) -> str:
    return "not known here" if size is None else words(size)


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
