"""Write a layer as a Scan whose body is the step itself, for any cell, step and wrapper."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from onnx import helper

from lstmjax.frameworks.layouts import ConvertError
from lstmjax.frameworks.onnx.graph import Graph, Name, tensor
from lstmjax.frameworks.onnx.lower import batched, lower
from lstmjax.frameworks.onnx.shared import Run, Shared, valid_steps
from lstmjax.layer import NO_EXTRAS, compose
from lstmjax.types import LSTMParams
from lstmjax.wrappers import Hold, Look


def scan_node(shared: Shared, params: LSTMParams, xs: Name, prefix: str, reverse: bool) -> Run:
    """Add a Scan whose body is the step with its wrappers, as JAX traces it, and return its outputs."""
    graph, body, dtype = shared.graph, Graph(shared.graph), shared.dtype
    sizes = shared.sizes(params)
    shapes = [jax.ShapeDtypeStruct((size,), dtype) for size in (*sizes, params.input_size)]
    flags = [jax.ShapeDtypeStruct((), bool)] if shared.lengths else []
    *state, x = shapes
    wrapped: list[tuple] = [(w, w.draw(None, 1, tuple(state), x)) for w in shared.wrappers]
    wrapped += [(Look("h"), NO_EXTRAS), *[(Hold(None), NO_EXTRAS)] * shared.lengths]
    wrapped_step, fixed, per_step = compose(shared.step, wrapped)
    if jax.tree.leaves(per_step):
        raise ConvertError("a wrapper needs something for each step at evaluation, too, which is not exported")

    def once(state: tuple, x: Any, *valid: Any) -> Any:
        pairs = list(zip(fixed, per_step, strict=True))
        return wrapped_step(params, state, x, ((None, *valid), *pairs[1:]) if valid else tuple(pairs))

    with jax.enable_x64(dtype == np.float64):
        closed, (end, y) = jax.make_jaxpr(once, return_shape=True)(tuple(state), x, *flags)
        names = [body.fresh(word) for word in (*shared.words, "x")]
        if shared.lengths:
            names.append(body.fresh("valid"))
        out = lower(body, closed.jaxpr, closed.consts, list(names))
    structure: Any = jax.tree.structure((end, y))
    if structure != jax.tree.structure((tuple(state), x)) or y.shape != (params.output_size,):
        raise ConvertError("a step of your own is exported if its state is (h, c) and it emits h")
    outputs = []
    for value in out:
        value = value if isinstance(value, str) else batched(body, value, names[0])
        outputs.append(body.add("Identity", value))
    body_inputs = [tensor(name, a.dtype, None) for name, a in zip(names, (*shapes, *flags), strict=True)]
    body_outputs = [tensor(name, dtype, None) for name in outputs]
    sequences = [xs]
    if shared.lengths:
        sequences.append(valid_steps(shared, xs))
    begin = []
    for word, size in zip(shared.words, sizes, strict=True):
        begin.append(prefix + word if shared.state else _zeros(shared, xs, size))
    results = graph.add(
        "Scan", *begin, *sequences, outputs=[graph.fresh(word) for word in (*shared.words, "ys")],
        body=helper.make_graph(body.nodes, f"{prefix}step", body_inputs, body_outputs),
        num_scan_inputs=len(sequences), scan_input_directions=[int(reverse)] * len(sequences),
        scan_output_directions=[int(reverse)],
    )  # fmt: skip
    return Run(results[-1], results[:-1])


def _zeros(shared: Shared, xs: Name, size: int) -> Name:
    """Return zeros `[batch, size]`."""
    graph = shared.graph
    shape = graph.add("Concat", graph.add("Shape", xs, start=1, end=2), graph.ints(size), axis=0)
    return graph.add("Expand", graph.constant(np.zeros((), shared.dtype)), shape)
