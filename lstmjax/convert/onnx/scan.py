"""A layer as a Scan whose body is the step itself; for every cell, every step and every wrapper."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from onnx import helper

from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.onnx.graph import Graph, Name, tensor
from lstmjax.convert.onnx.lower import batched, lower
from lstmjax.convert.onnx.shared import Run, Shared, valid_steps
from lstmjax.layer import NO_EXTRAS, compose
from lstmjax.types import LSTMParams
from lstmjax.wrappers import Hold, Look


def scan_node(shared: Shared, params: LSTMParams, xs: Name, way: str, reverse: bool) -> Run:
    """Gives the outputs of a Scan whose body is the step, with what stands around it, as JAX traces it."""
    graph, body, dtype = shared.graph, Graph(shared.graph), shared.dtype
    sizes = shared.sizes(params)
    shapes = [jax.ShapeDtypeStruct((size,), dtype) for size in (*sizes, params.input_size)]
    flags = [jax.ShapeDtypeStruct((), bool)] * shared.lengths
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
        names = [body.fresh(word) for word in (*shared.words, "x", *["valid"] * shared.lengths)]
        out = lower(body, closed.jaxpr, closed.consts, list(names))
    found: Any = jax.tree.structure((end, y))
    if found != jax.tree.structure((tuple(state), x)) or y.shape != (params.output_size,):
        raise ConvertError("a step of your own is exported if its state is (h, c) and it emits h")
    outputs = []
    for value in out:
        value = value if isinstance(value, str) else batched(body, value, names[0])
        outputs.append(body.add("Identity", value))
    kinds = [a.dtype for a in (*shapes, *flags)]
    described = [tensor(name, kind, None) for name, kind in zip(names, kinds, strict=True)]
    ends = [tensor(name, dtype, None) for name in outputs]
    scanned = [xs, *([valid_steps(shared, xs)] if shared.lengths else [])]
    back = int(reverse)
    begin = [
        way + word if shared.state else _zeros(shared, xs, size) for word, size in zip(shared.words, sizes, strict=True)
    ]
    named = graph.add(
        "Scan", *begin, *scanned, outputs=[graph.fresh(word) for word in (*shared.words, "ys")],
        body=helper.make_graph(body.nodes, f"{way}step", described, ends), num_scan_inputs=len(scanned),
        scan_input_directions=[back] * len(scanned), scan_output_directions=[back],
    )  # fmt: skip
    return Run(named[-1], named[:-1])


def _zeros(shared: Shared, xs: Name, size: int) -> Name:
    """Gives zeros `[batch, size]`."""
    graph = shared.graph
    shape = graph.add("Concat", graph.add("Shape", xs, start=1, end=2), graph.ints(size), axis=0)
    return graph.add("Expand", graph.constant(np.zeros((), shared.dtype)), shape)
