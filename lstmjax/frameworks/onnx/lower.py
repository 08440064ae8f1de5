"""Write a step as ONNX nodes, from its jaxpr, primitive by primitive.

Hence the exported model computes the equations of `cell.py`, which are not written again, and a cell or a step of your
own can be exported, too. The step is traced without batch axes. Values that depend on its state or its input are
batched in ONNX, `[batch, ...]`; all others are computed here, and become constants.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from jax.extend import core

from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.onnx.graph import Graph, Name, type_of

Value = Name | np.ndarray
"""The name of a batched value, or a constant."""

Lower = Callable[[Graph, list[Any], Any], Any]
"""lower(graph, inputs, equation) returns the name of the output, or the names."""

CAPITALISED = (
    "abs", "add", "and", "ceil", "cos", "div", "erf", "exp", "floor", "log", "max", "min", "mul", "neg", "not", "or",
    "pow", "sign", "sin", "sqrt", "sub", "tanh",
)  # fmt: skip
"""Primitives whose operators have the same names, but for the first letter."""
OTHER_NAMES = {
    "add_any": "Add",
    "copy": "Identity",
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "logistic": "Sigmoid",
    "lt": "Less",
    "stop_gradient": "Identity",
}
SAME = MappingProxyType({name: name.capitalize() for name in CAPITALISED} | OTHER_NAMES)
"""Primitives that are one operator of ONNX, element by element."""

CALLS = frozenset(("closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "remat2"))
"""Primitives that run an inner jaxpr once, on their inputs; a loop has an inner jaxpr, too, but runs it repeatedly."""


def _reshape(graph: Graph, value: Value, shape: tuple[int, ...]) -> Name:
    return graph.add("Reshape", _named(graph, value), graph.ints(0, *shape))  # 0: the size of the batch


def _broadcast(graph: Graph, inputs: list[Any], equation: Any) -> Name:
    shape, at = equation.params["shape"], equation.params["broadcast_dimensions"]
    before = equation.invars[0].aval.shape
    aligned = tuple(before[at.index(axis)] if axis in at else 1 for axis in range(len(shape)))
    value = inputs[0] if aligned == before else _reshape(graph, inputs[0], aligned)
    return value if aligned == tuple(shape) else graph.add("Expand", value, graph.ints(1, *shape))


def _dot(graph: Graph, inputs: list[Any], equation: Any) -> Name:
    (contract, batch), (lhs, rhs) = equation.params["dimension_numbers"], inputs
    ranks = [var.aval.ndim for var in equation.invars]
    if any(batch[0]) or len(contract[0]) != 1 or isinstance(lhs, str) == isinstance(rhs, str) or max(ranks) > 2:
        raise ConvertError("dot_general is exported as the product of a vector and a constant matrix only")
    which = int(isinstance(rhs, str))  # 0 if lhs is batched, 1 if rhs is
    value, matrix, axis = inputs[which], np.asarray(inputs[1 - which]), contract[1 - which][0]
    assert isinstance(value, str)
    if ranks[which] != 1:
        raise ConvertError("dot_general is exported as the product of a vector and a constant matrix only")
    matrix = np.moveaxis(matrix, axis, 0)
    return graph.add("MatMul", value, graph.constant(matrix.astype(equation.outvars[0].aval.dtype)))


def _split(graph: Graph, inputs: list[Any], equation: Any) -> list[Name]:
    sizes = [int(n) for n in equation.params["sizes"]]
    axis = equation.params["axis"] + 1
    return graph.add("Split", inputs[0], graph.ints(*sizes), outputs=[graph.fresh("part") for _ in sizes], axis=axis)


def _unstack(graph: Graph, inputs: list[Any], equation: Any) -> list[Name]:
    axis = equation.params["axis"] + 1
    return [
        graph.add("Gather", inputs[0], graph.constant(np.int64(n)), axis=axis) for n in range(len(equation.outvars))
    ]


def _concatenate(graph: Graph, inputs: list[Any], equation: Any) -> Name:
    like = next(value for value in inputs if isinstance(value, str))
    parts = [value if isinstance(value, str) else batched(graph, value, like) for value in inputs]
    return graph.add("Concat", *parts, axis=equation.params["dimension"] + 1)


def _slice(graph: Graph, inputs: list[Any], equation: Any) -> Name:
    p = equation.params
    axes = range(1, len(p["start_indices"]) + 1)
    strides = p["strides"] or [1] * len(axes)
    parts = (p["start_indices"], p["limit_indices"], axes, strides)
    return graph.add("Slice", inputs[0], *(graph.ints(*map(int, part)) for part in parts))


def _reduce(op: str) -> Lower:
    def lower(graph: Graph, inputs: list[Any], equation: Any) -> Name:
        axes = graph.ints(*(axis + 1 for axis in equation.params["axes"]))
        return graph.add(op, inputs[0], axes, keepdims=0)

    return lower


def _number(like: Any, value: float) -> np.ndarray:
    return np.asarray(value, like.aval.dtype)


OTHERS: MappingProxyType[str, Lower] = MappingProxyType(
    {
        "broadcast_in_dim": _broadcast,
        "clamp": lambda g, v, e: g.add("Min", g.add("Max", *_names(g, v[1::-1])), _named(g, v[2])),
        "concatenate": _concatenate,
        "convert_element_type": lambda g, v, e: g.add("Cast", v[0], to=type_of(e.params["new_dtype"])),
        "dot_general": _dot,
        "expm1": lambda g, v, e: g.add("Sub", g.add("Exp", v[0]), g.constant(_number(e.invars[0], 1))),
        "integer_pow": lambda g, v, e: g.add("Pow", v[0], g.constant(_number(e.invars[0], e.params["y"]))),
        "log1p": lambda g, v, e: g.add("Log", g.add("Add", v[0], g.constant(_number(e.invars[0], 1)))),
        "ne": lambda g, v, e: g.add("Not", g.add("Equal", *_names(g, v))),
        "reduce_max": _reduce("ReduceMax"),
        "reduce_min": _reduce("ReduceMin"),
        "reduce_prod": _reduce("ReduceProd"),
        "reduce_sum": _reduce("ReduceSum"),
        "reshape": lambda g, v, e: _reshape(g, v[0], e.params["new_sizes"]),
        "rsqrt": lambda g, v, e: g.add("Reciprocal", g.add("Sqrt", v[0])),
        "select_n": lambda g, v, e: g.add("Where", *_names(g, [v[0], v[2], v[1]])),
        "slice": _slice,
        "split": _split,
        "square": lambda g, v, e: g.add("Mul", v[0], v[0]),
        "squeeze": lambda g, v, e: _reshape(g, v[0], e.outvars[0].aval.shape),
        "transpose": lambda g, v, e: g.add("Transpose", v[0], perm=[0, *(n + 1 for n in e.params["permutation"])]),
        "unstack": _unstack,
    }
)
"""Primitives that need other operators, or attributes."""


def lower(graph: Graph, jaxpr: Any, constants: Any, inputs: list[Value]) -> list[Value]:
    """Add the nodes of a jaxpr to a graph, and return its outputs.

    Raises:
        ConvertError: a primitive is in neither of the two tables.
    """
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def value_of(atom: Any) -> Value:
        kind: Any = atom.aval
        return np.asarray(atom.val, kind.dtype) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [value_of(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            closed = hasattr(inner, "jaxpr")
            out: Any = lower(graph, inner.jaxpr if closed else inner, inner.consts if closed else (), operands)
        elif not any(isinstance(value, str) for value in operands):
            out = equation.primitive.bind(*operands, **equation.params)
            out = [np.asarray(a) for a in (out if equation.primitive.multiple_results else [out])]
        elif name in SAME:
            out = [graph.add(SAME[name], *_names(graph, operands))]
        elif name in OTHERS:
            out = OTHERS[name](graph, operands, equation)
            out = [out] if isinstance(out, str) else out
        else:
            raise ConvertError(f"the step uses {name}, which is not exported to ONNX")
        values |= dict(zip(equation.outvars, out, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def batched(graph: Graph, value: np.ndarray, like: Name) -> Name:
    """Return a constant, repeated for each entry of the batch of another value."""
    batch = graph.add("Shape", like, start=0, end=1)
    shape = graph.add("Concat", batch, graph.ints(*value.shape), axis=0)
    return graph.add("Expand", graph.constant(value), shape)


def _named(graph: Graph, value: Value) -> Name:
    return value if isinstance(value, str) else graph.constant(value)


def _names(graph: Graph, values: list[Value]) -> list[Name]:
    return [_named(graph, value) for value in values]
