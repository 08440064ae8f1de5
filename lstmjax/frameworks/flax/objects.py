"""How an object of Flax runs its LSTM layers: a cell, `RNN`, `Bidirectional` or `Sequential`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import kind
from lstmjax.cells import Cell
from lstmjax.frameworks.base.architecture import Architecture, same_cell
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.published import CELLS, find_cell, with_activations
from lstmjax.stack import directions
from lstmjax.types import GATES, Bidirectional, LSTMParams

ALONE = "Pass the weights alone: nnx.state(module, nnx.Param), or the variables"


@dataclass(frozen=True)
class Recurrent:
    """How an object runs one LSTM layer."""

    where: str  # what messages about the layer begin with
    module: Any  # the RNN, Bidirectional or cell
    cells: tuple[Any, ...]  # Flax's cells, one for each direction
    row: Cell  # what they compute
    merge: str = "concat"
    direction: str = "forward"  # as in `Architecture.directions`
    time_major: bool = False  # whether time is the first axis of its inputs


def described(flax: Any, module: Any, where: str = "") -> Recurrent:
    """Return how a cell, an `RNN` or a `Bidirectional` is run.

    Args:
        flax: the namespace of the module, `flax.linen` or `flax.nnx`.
        module: the cell, `RNN` or `Bidirectional`.
        where: what messages begin with.

    Raises:
        ConvertError: it is run in a way that no stack of layers can be.
    """
    if isinstance(module, flax.Bidirectional):
        _check_call(module, flax.Bidirectional, where)
        # Bidirectional overrides time_major, reverse and keep_order of its two RNNs, so that only their cells count.
        forward, row = _of_rnn(flax, module.forward_rnn, f"{where}forward_rnn: ")
        backward, other = _of_rnn(flax, module.backward_rnn, f"{where}backward_rnn: ")
        if not same_cell(row, other):
            raise ConvertError(
                f"{where}the cells of the two directions have other functions: {row.name!r} and {other.name!r}. They "
                "can be taken one by one: from forward_rnn.cell and backward_rnn.cell"
            )
        merge = _merge(module, forward, where)
        return Recurrent(where, module, (forward, backward), row, merge, time_major=bool(module.time_major))
    if isinstance(module, flax.RNN):
        cell, row = _of_rnn(flax, module, where)
        direction = "forward"
        if module.reverse:
            direction = "reverse" if module.keep_order else "turned"
        return Recurrent(where, module, (cell,), row, direction=direction, time_major=bool(module.time_major))
    return Recurrent(where, module, (module,), _row(flax, module, where))


def is_recurrent(flax: Any, module: Any) -> bool:
    """Return whether a module is a layer for `described`, or another kind of cell, which it refuses."""
    return isinstance(module, flax.RNN | flax.Bidirectional | flax.RNNCellBase)


def in_sequence(flax: Any, modules: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Return the recurrent modules of a `Sequential`, and what it runs after the last one, with words for messages.

    Dropout is left out, since it does nothing at evaluation.

    Raises:
        ConvertError: something that changes numbers stands before the last recurrent module.
    """
    flat = [item for item in _flattened(flax, modules) if not isinstance(item[1], flax.Dropout)]
    count = max((n for n, (_, module) in enumerate(flat, start=1) if is_recurrent(flax, module)), default=0)
    for name, module in flat[:count]:
        if not is_recurrent(flax, module):
            raise ConvertError(
                f"{name}{called(module)} stands before an LSTM layer, and layers alone would leave it out. Take the "
                "layers one by one, and put it between them yourself"
            )
    return flat[:count], flat[count:]


def _flattened(flax: Any, module: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the modules and functions of a `Sequential`, also of those within it; of another module yield itself."""
    if not isinstance(module, flax.Sequential):
        yield where, module
        return
    _check_call(module, flax.Sequential, where)
    for n, layer in enumerate(module.layers):
        yield from _flattened(flax, layer, f"{where}layers[{n}]: ")


def called(module: Any) -> str:
    """Return the name of a function, or of the class of a module."""
    return getattr(module, "__name__", type(module).__name__)


def architecture_of(layers: list[Recurrent]) -> Architecture:
    """Return how a network of these layers is run.

    Raises:
        ConvertError: they differ in their cells or merges, which a stack has in common.
    """
    row, merges = layers[0].row, {layer.merge for layer in layers if len(layer.cells) == 2}
    for layer in layers[1:]:
        if not same_cell(layer.row, row):
            raise ConvertError(
                f"{layers[0].where}has the functions of {row.name!r}, and {layer.where}those of {layer.row.name!r}; a "
                "stack has one cell for all. Take the layers one by one"
            )
    if len(merges) > 1:
        raise ConvertError(
            "merge_fn is concatenation in one Bidirectional and a sum in another; a stack has one for all. Take the "
            "layers one by one"
        )
    check_axes(layers)
    merge = merges.pop() if merges else "concat"
    return Architecture(row, merge, stated=True, directions=tuple(layer.direction for layer in layers))


def check_axes(layers: list[Recurrent]) -> None:
    """Refuse layers of which one has time as its first axis, and another the batch."""
    if len({layer.time_major for layer in layers}) > 1:
        raise ConvertError(
            "time_major is True in one layer and False in another, so that time and batch change places between them. "
            "Take the layers one by one"
        )


def check_run(layers: list[Recurrent], cell: Cell | str, merge: str, time_major: bool, bare: str) -> None:
    """Refuse layers that `stacked` with these options would not run like their object.

    Args:
        layers: how the object runs them.
        cell, merge, time_major: the options of `stacked`.
        bare: how to get the weights alone, in words.
    """
    row, architecture = find_cell(cell), architecture_of(layers)
    remedy = f"or take the model, which runs as it says (model_from_nnx, model_from_linen), or {bare}"
    if not same_cell(architecture.cell, row):
        raise ConvertError(
            f"{layers[0].where}gate_fn and activation_fn make it the cell {architecture.cell.name!r}, but cell is "
            f"{row.name!r}. Pass {_argument(architecture.cell)}, here and to stacked, {remedy}"
        )
    if any(len(layer.cells) == 2 for layer in layers) and architecture.merge != merge:
        raise ConvertError(
            f"merge_fn joins the directions by {architecture.merge!r}, but merge is {merge!r}. Pass "
            f"merge={architecture.merge!r}, here and to stacked, {remedy}"
        )
    for layer in layers:
        if layer.direction != "forward":
            order, turned = "keep_order=True", ""
            if layer.direction == "turned":
                order, turned = "keep_order=False", ", and turn its outputs"
            raise ConvertError(
                f"{layer.where}it runs with reverse=True and {order}, which a stack of layers cannot say. Run it with "
                f"lstm(params, xs, reverse=True){turned}, {remedy}"
            )
        if layer.time_major != time_major:
            raise ConvertError(
                f"{layer.where}time_major is {layer.time_major}, but time_major is {time_major} here. Pass "
                f"time_major={layer.time_major}, here and to stacked, {remedy}"
            )


def _argument(row: Cell) -> str:
    if CELLS.get(row.name) == row:
        return f"cell={row.name!r}"
    return "cell=with_activations('vanilla', gate_fn, activation_fn)"


def _of_rnn(flax: Any, module: Any, where: str) -> tuple[Any, Cell]:
    """Return the cell of an RNN, and what it computes."""
    if not isinstance(module, flax.RNN):
        raise ConvertError(f"{where}it is {kind(module)}, expected an RNN of an LSTM cell")
    _check_call(module, flax.RNN, where)
    return module.cell, _row(flax, module.cell, f"{where}cell: ")


def _row(flax: Any, cell: Any, where: str) -> Cell:
    known = (flax.LSTMCell, flax.OptimizedLSTMCell)
    if not isinstance(cell, known):
        place = type(cell).__module__
        ours = "; ours gives its weights itself, cell.to_params()" if place.startswith("lstmjax.") else ""
        raise ConvertError(f"{where}it is {kind(cell)} of {place}, expected Flax's LSTMCell or OptimizedLSTMCell{ours}")
    base = flax.LSTMCell if isinstance(cell, flax.LSTMCell) else flax.OptimizedLSTMCell
    _check_call(cell, base, where)
    _check_carry(cell, base, where)
    _check_products(flax, cell, where)
    return with_activations("vanilla", cell.gate_fn, cell.activation_fn)


def _check_call(module: Any, base: type, where: str) -> None:
    """Refuse a derived class whose step or loop is not Flax's."""
    if type(module).__call__ is not base.__call__:
        raise ConvertError(
            f"{where}{type(module).__name__} has a __call__ of its own, so that what it computes with the weights of "
            f"{base.__name__} is not known. {ALONE}"
        )


def _check_carry(cell: Any, base: Any, where: str) -> None:
    """Refuse a cell that begins with a carry other than zeros, by a trial of its initialiser."""
    if type(cell).initialize_carry is not base.initialize_carry:
        raise ConvertError(
            f"{where}{type(cell).__name__} has an initialize_carry of its own, so that what it begins with is not "
            f"known. {ALONE}, and the state to begin with to lstm or stacked"
        )
    if cell.carry_init is None:
        return
    hidden = getattr(cell, "hidden_features", None) or cell.features
    if np.any(np.asarray(cell.carry_init(jax.random.key(0), (2, hidden), jnp.float32))):
        name = getattr(cell.carry_init, "__name__", repr(cell.carry_init))
        raise ConvertError(
            f"{where}carry_init is {name}, which does not begin with zeros, and layers do not store what they begin "
            f"with. {ALONE}, and the state to begin with to lstm or stacked"
        )


def _check_products(flax: Any, cell: Any, where: str) -> None:
    """Refuse an NNX cell whose Linear layers were replaced, or that promotes dtypes by a function of the caller."""
    names = ("dense_i", "dense_h", *(f"{side}{gate}" for side in "ih" for gate in (*GATES, "f_")))
    for name in names:
        inner = getattr(cell, name, None)
        if inner is not None and type(inner).__call__ is not flax.Linear.__call__:
            raise ConvertError(f"{where}{name} is {kind(inner)}, expected Flax's Linear. {ALONE}")
    fault = other_promotion(flax, cell)
    if fault:
        raise ConvertError(f"{where}{fault}, which layers do not store. {ALONE}")


def other_promotion(flax: Any, module: Any) -> str:
    """Return, in words, that a module promotes dtypes by a function of the caller; "" if by Flax's."""
    promote = getattr(module, "promote_dtype", None)
    dtypes = flax.nn.dtypes if hasattr(flax, "nn") else flax.dtypes
    if promote is None or promote is dtypes.promote_dtype:
        return ""
    return f"promote_dtype is {getattr(promote, '__name__', repr(promote))}"


def check_dtype(layer: Recurrent, weights: LSTMParams | Bidirectional) -> None:
    """Refuse a cell that computes in another dtype than that of its weights."""
    for cell, part in zip(layer.cells, directions(weights), strict=True):
        fault = other_dtype(cell, part.w_x) or _other_carry(cell, part.w_x)
        if fault:
            raise ConvertError(f"{layer.where}{fault}. {ALONE}, cast to the dtype in which they are to be run")


def other_dtype(module: Any, weights: Any) -> str:
    """Return, in words, that a module computes in another dtype than that of its weights; "" if in the same."""
    if module.dtype is None or jax.dtypes.canonicalize_dtype(module.dtype) == weights.dtype:
        return ""
    return f"dtype is {jnp.dtype(module.dtype).name}, but the weights are {weights.dtype}"


def _other_carry(cell: Any, weights: Any) -> str:
    """Return, in words, that a cell begins with a carry of another dtype than its weights; "" if of the same.

    Flax makes the carry of param_dtype, and without a dtype computes in what carry, inputs and weights promote to.
    """
    if cell.dtype is not None or jax.dtypes.canonicalize_dtype(cell.param_dtype) == weights.dtype:
        return ""
    carry = jnp.dtype(cell.param_dtype).name
    return (
        f"the weights are {weights.dtype}, but param_dtype is {carry}, in which Flax makes the carry, so that it does "
        "not compute in the dtype of the weights"
    )


def _merge(module: Any, cell: Any, where: str) -> str:
    """Return how a Bidirectional joins its directions, by a trial of its function on random numbers."""
    hidden = getattr(cell, "hidden_features", None) or cell.features
    a, b = (jnp.asarray(np.random.default_rng(n).normal(size=(2, 3, hidden)), jnp.float32) for n in range(2))
    joined = np.asarray(module.merge_fn(a, b))
    for name, expected in (("concat", np.concatenate([a, b], axis=-1)), ("sum", np.add(a, b))):
        if joined.shape == expected.shape and np.allclose(joined, expected, rtol=1e-6, atol=1e-6):
            return name
    called = getattr(module.merge_fn, "__name__", repr(module.merge_fn))
    raise ConvertError(
        f"{where}merge_fn is {called}, which neither puts the directions side by side nor adds them up. Take them as "
        "layers of one direction, from forward_rnn.cell and backward_rnn.cell, and join what they give yourself"
    )
