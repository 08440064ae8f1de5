"""Flax: `LSTMCell` and `OptimizedLSTMCell` of linen and NNX, in an `RNN` or a `Bidirectional`, and msgpack files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import kind
from lstmjax.cells import Cell
from lstmjax.convert.flax_object import Recurrent, check_dtype, check_run, described, in_sequence, is_recurrent
from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, Layout, as_layers, natural, read, to_jax, write
from lstmjax.convert.names import Contents, flat, nested
from lstmjax.stack import Layers, directions
from lstmjax.types import GATES, Bidirectional, LSTMParams

DIRECTIONS = ("forward_rnn", "backward_rnn")


def from_linen(
    variables: Any, module: Any = None, *, cell: Cell | str = "vanilla", merge: str = "concat", time_major: bool = False
) -> Layers:
    """Read the LSTM layers of linen variables, bit by bit.

    Variables are weights alone; the module says how they are run. With a module the layers are returned only if
    `stacked`, called with this cell, merge and time_major, runs them as the module does. Without a module they are
    assumed to be those of Flax's cells with sigmoid and tanh, run forward, with the directions of a pair side by side.

    Args:
        variables: what `init` of a cell, an `RNN`, a `Bidirectional` or a module with several of them returns, or the
            "params" in it; or a bound module. Several layers are read in the order of their names (RNN_2 before
            RNN_10). A cell that a compact method passes to an RNN is named separately, as LSTMCell_0, and the names
            do not say which two cells are a pair: join them by `Bidirectional(*layers[:2])`.
        module: the module of the variables: a cell, an `RNN`, a `Bidirectional`, or a `Sequential` of them; a head
            after them is left out.
        cell: the cell that the layers will run with; `with_activations` makes one of gate_fn and activation_fn.
        merge: how the directions of a pair will be joined, "concat" or "sum".
        time_major: whether time will be the first axis.

    Returns:
        A tuple of `LSTMParams` or `Bidirectional` pairs. Flax's carry is (c, h), the state here (h, c).

    Raises:
        ConvertError: there is no LSTM cell, its arrays do not fit, or the module runs it in another way.
    """
    variables, module = with_module(variables, module)
    if module is None:
        return _of_variables(variables)
    layers, recurrent = linen_layers(variables, module)
    check_run(recurrent, cell, merge, time_major, "leave module out, for the weights alone")
    return layers


def from_nnx(source: Any, *, cell: Cell | str = "vanilla", merge: str = "concat", time_major: bool = False) -> Layers:
    """Read the LSTM layers of an NNX module or state, bit by bit.

    The layers of a module are returned only if `stacked`, called with this cell, merge and time_major, runs them as the
    module does; `model_from_nnx` returns a model that runs them in any way that Flax can. A module of a class of your
    own is refused: what its `__call__` does with its layers cannot be read from it.

    Args:
        source: a cell, an `nnx.RNN`, an `nnx.Bidirectional`, or an `nnx.Sequential` of them; what stands behind the
            last of them, such as a head, is left out. Or a state of any module, `nnx.state(module, nnx.Param)`: the
            weights alone, in the order of their names, which are assumed to be those of Flax's cells with sigmoid and
            tanh, run forward.
        cell, merge, time_major: how the layers will be run; see `from_linen`.

    Returns:
        A tuple of `LSTMParams` or `Bidirectional` pairs. Flax's carry is (c, h), the state here (h, c).

    Raises:
        ConvertError: there is no LSTM cell, its arrays do not fit, or the module runs it in another way.
    """
    from flax import nnx

    if isinstance(source, nnx.Module):
        layers, recurrent = nnx_layers(source)
        check_run(recurrent, cell, merge, time_major, "pass nnx.state(module, nnx.Param), the weights alone")
        return layers
    tree = nnx.to_pure_dict(source) if isinstance(source, nnx.State) else source
    return to_jax(tuple(cells(LAYOUTS["nnx"], tree).values()))


def nnx_layers(module: Any) -> tuple[Layers, list[Recurrent]]:
    """Return the LSTM layers of an NNX module, and how it runs each of them.

    Raises:
        ConvertError: there is none, its arrays do not fit, or it is run in a way that no stack of layers can be.
    """
    from flax import nnx

    recurrent = [described(nnx, inner, where) for where, inner in nnx_modules(module)]
    layers: list[LSTMParams | Bidirectional] = []
    for layer in recurrent:
        trees = [nnx.to_pure_dict(nnx.state(cell, nnx.Param)) for cell in layer.cells]
        parts = [_cell(LAYOUTS["nnx"], tree, layer.where) for tree in trees]
        layers.append(Bidirectional(*parts) if len(parts) == 2 else parts[0])
        check_dtype(layer, layers[-1])
    return to_jax(tuple(layers)), recurrent


def nnx_modules(module: Any) -> list[tuple[str, Any]]:
    """Return the outermost recurrent modules of an NNX module, in the order in which it runs them, with their names.

    Raises:
        ConvertError: there is none; a `Sequential` has another module between them; or the module is a class of the
            caller's, whose call cannot be read.
    """
    from flax import nnx

    every = {path: inner for path, inner in nnx.iter_modules(module) if is_recurrent(nnx, inner)}
    outer = [path for path in every if not any(path[:n] in every for n in range(len(path)))]
    if not outer:
        held = ", ".join(map(str, nnx.to_pure_dict(nnx.state(module, nnx.Param))))
        raise ConvertError(f"there is no LSTM cell in it, {kind(module)}; it holds {held or 'nothing'}")
    if not isinstance(module, nnx.Sequential):
        if is_recurrent(nnx, module):
            return [("", module)]
        raise ConvertError(_unread(module, sorted(outer, key=lambda path: [natural(name) for name in path])))
    recurrent = list(in_sequence(nnx, module))
    missing = [path for path in outer if not any(every[path] is inner for _, inner in recurrent)]
    if missing:
        raise ConvertError(_unread(module, missing))
    return recurrent


def _unread(module: Any, paths: list[Any]) -> str:
    """Return why LSTM layers at these paths of an NNX module are refused."""
    listed = ", ".join(f"module.{'.'.join(map(str, path))}" for path in paths)
    return (
        f"module is {kind(module)}, expected a cell, an RNN, a Bidirectional or a Sequential of them. What another "
        f"class does with its layers ({listed}), and in which order, cannot be read from it. Pass one layer, or "
        "nnx.state(module, nnx.Param), the weights alone, in the order of their names. To verify it, run it yourself: "
        "verify(lambda xs: module(xs), xs, params=...)"
    )


def _of_variables(variables: Any) -> Layers:
    return to_jax(tuple(cells(LAYOUTS["linen"], variables.get("params", variables)).values()))


def with_module(variables: Any, module: Any) -> tuple[Any, Any]:
    """Return variables and their module; a bound module, passed as variables, has both."""
    if isinstance(variables, Mapping):
        return variables, module
    from flax import linen

    if not isinstance(variables, linen.Module):
        raise ConvertError(f"variables is {kind(variables)}, expected a mapping, as init gives it")
    if variables.scope is None:
        raise ConvertError(
            f"variables is {kind(variables)} that is not bound and holds no weights. Pass its variables, and the "
            "module behind them"
        )
    unbound, variables = variables.unbind()
    return variables, unbound


def linen_layers(variables: Any, module: Any) -> tuple[Layers, list[Recurrent]]:
    """Return the LSTM layers of variables, and how their module runs each of them.

    Raises:
        ConvertError: they do not fit each other, or the module is run in a way that no stack of layers can be.
    """
    from flax import linen

    if not isinstance(module, linen.Sequential) and not is_recurrent(linen, module):
        raise ConvertError(
            f"module is {kind(module)}, expected a cell, an RNN, a Bidirectional or a Sequential of linen. A module of "
            "your own says what it does only while it runs: pass those in it, or leave it out, for the weights alone"
        )
    recurrent = [described(linen, inner, where) for where, inner in in_sequence(linen, module)]
    layers = _of_variables(variables)
    expected, counts = [len(layer.cells) for layer in recurrent], [len(directions(layer)) for layer in layers]
    if expected != counts:
        raise ConvertError(
            f"module has {len(recurrent)} recurrent layers of {_listed(expected)} directions, but the "
            f"variables {len(layers)} of {_listed(counts)}. Are they the variables of this module?"
        )
    for layer, weights in zip(recurrent, layers, strict=True):
        check_dtype(layer, weights)
    return layers, recurrent


def _listed(counts: list[int]) -> str:
    return ", ".join(map(str, counts)) or "no"


def to_linen(layers: Any, *, sum_biases: bool = False) -> tuple[dict[str, Any], ...]:
    """Return for each layer the variables of `linen.RNN(linen.LSTMCell(H))`, or of a `linen.Bidirectional` of two.

    `OptimizedLSTMCell` has the same variables. Flax's LSTM always has biases; they are zeros for layers without biases.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        sum_biases: add two biases up; without it they are refused, since Flax has one.

    Raises:
        ConvertError: Flax's LSTM has no place for something.
    """
    layout = LAYOUTS["linen"]
    trees = (_to(layout, n, layer, sum_biases, "if", False) for n, layer in enumerate(as_layers(layers)))
    return tuple({"params": to_jax(tree)} for tree in trees)


def to_nnx(layers: Any, *, optimized: bool = False, sum_biases: bool = False) -> tuple[dict[str, Any], ...]:
    """Return for each layer the pure dict of `nnx.RNN(nnx.LSTMCell(I, H))`, or of an `nnx.Bidirectional` of two.

    `nnx.update(module, tree)` sets the parameters of a module. See `to_linen`.

    Args:
        layers, sum_biases: as for `to_linen`.
        optimized: whether the cells are `nnx.OptimizedLSTMCell`, whose parameters are fused.
    """
    layout = LAYOUTS["nnx"]
    trees = (_to(layout, n, layer, sum_biases, "if_", optimized) for n, layer in enumerate(as_layers(layers)))
    return tuple(to_jax(tree) for tree in trees)


def cells(layout: Layout, tree: Any) -> dict[str, LSTMParams | Bidirectional]:
    """Return the layers in a tree by their paths, in the order of their names, as NumPy arrays.

    Raises:
        ConvertError: there is none, or its arrays do not fit.
    """
    layers: dict[str, Any] = {}

    def visit(tree: Any, path: str) -> None:
        if not isinstance(tree, Mapping):
            return
        names = set(map(str, tree))
        if {"hi", "hf", "ii", "io"} <= names or {"dense_h", "dense_i"} <= names:
            layers[path] = _cell(layout, tree, path)
        elif set(DIRECTIONS) <= names:
            before = set(layers)
            for name in DIRECTIONS:
                visit(tree[name], f"{path}{name}/")
            parts = [layers.pop(name) for name in list(layers) if name not in before]
            if len(parts) != 2:
                raise ConvertError(
                    f"{path}forward_rnn and backward_rnn hold {len(parts)} LSTM cells, expected one each"
                )
            layers[path] = Bidirectional(*parts)
        else:
            for name in sorted(tree, key=natural):
                visit(tree[name], f"{path}{name}/")

    visit(tree, "")
    if not layers:
        raise ConvertError(f"there is no LSTM cell in it; it holds {', '.join(map(str, tree))}")
    return layers


def _cell(layout: Layout, tree: Any, path: str) -> LSTMParams:
    """Read a cell: of `OptimizedLSTMCell`, with fused kernels, or of `LSTMCell`, with a module for each gate."""
    if "dense_h" in tree:
        inputs, hidden = ["dense_i"], ["dense_h"]
    else:
        inputs, hidden = [f"i{gate}" for gate in GATES], [f"h{gate}" for gate in GATES]
        if "if_" in tree:  # as NNX calls it, since "if" is a keyword of Python
            inputs[inputs.index("if")] = "if_"
    missing = [name for name in (*inputs, *hidden) if name not in tree]
    if missing:
        raise ConvertError(f"{path}: {', '.join(missing)} is missing; there are {', '.join(map(str, tree))}")
    bias = _joined(tree, hidden, "bias", path) if "bias" in _folder(tree[hidden[0]]) else None
    w_x, w_h = _joined(tree, inputs, "kernel", path), _joined(tree, hidden, "kernel", path)
    return read(layout, Fused(w_x, w_h, bias), path)


def _joined(tree: Any, names: list[str], leaf: str, path: str) -> np.ndarray:
    """Return the kernels or biases of these modules side by side."""
    missing = [f"{name}/{leaf}" for name in names if leaf not in _folder(tree[name])]
    if missing:
        raise ConvertError(f"{path}{', '.join(missing)} is missing")
    arrays = [np.asarray(tree[name][leaf]) for name in names]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1 or () in shapes:
        raise ConvertError(f"{path}{leaf} of {', '.join(names)} has shapes {sorted(shapes)}, expected one for all")
    return np.concatenate(arrays, axis=-1)


def _folder(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _to(layout: Layout, n: int, layer: Any, sum_biases: bool, forget: str, optimized: bool) -> dict[str, Any]:
    """Return the tree of a layer; `forget` is the name of the module with the input weights of the forget gate."""

    def cell(params: LSTMParams) -> dict[str, Any]:
        fused = write(layout, params, sum_biases=sum_biases, where=f"layer {n}: ")
        assert fused.b is not None
        if optimized:
            return {"cell": {"dense_i": {"kernel": fused.w_x}, "dense_h": {"kernel": fused.w_h, "bias": fused.b}}}
        x, h, b = (np.split(a, len(GATES), axis=-1) for a in fused[:3])
        tree: dict[str, Any] = {}
        for k, gate in enumerate(GATES):
            tree[forget if gate == "f" else f"i{gate}"] = {"kernel": x[k]}
            tree[f"h{gate}"] = {"kernel": h[k], "bias": b[k]}
        return {"cell": tree}

    parts = [cell(part) for part in directions(layer)]
    return parts[0] if len(parts) == 1 else dict(zip(DIRECTIONS, parts, strict=True))


def read_msgpack(path: Path) -> Contents:
    """Read a file that `flax.serialization.to_bytes` wrote; its arrays have names such as params/cell/ii/kernel."""
    from flax.serialization import msgpack_restore

    tree = msgpack_restore(path.read_bytes())
    if not isinstance(tree, Mapping):
        raise ConvertError(f"holds a {type(tree).__name__}, expected a tree of arrays")
    return Contents(flat(tree, "/"))


def write_msgpack(contents: Contents, path: Path) -> None:
    """Write a file that `flax.serialization.msgpack_restore` reads as a tree."""
    from flax.serialization import msgpack_serialize

    path.write_bytes(msgpack_serialize(nested(contents.arrays, "/")))
