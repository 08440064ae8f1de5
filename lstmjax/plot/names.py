"""Summaries of parameters, states and traces as text: each array with the names of its axes and its range."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import types
from lstmjax.networks import HEAD_AXES, Dense, NetworkParams
from lstmjax.plot.sheet import length_of
from lstmjax.types import Bidirectional, GateParams, LSTMParams, Norms, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike

AXES: MappingProxyType[type, dict[str, tuple[str, ...]]] = MappingProxyType(
    {
        LSTMParams: {name: tuple(axes) for name, axes in types.AXES[LSTMParams].items()} | {"w_r": ("3H", "3", "H")},
        GateParams: {  # one gate's, without the axes of gates and of peepholes
            name: tuple(letter for letter in types.AXES[LSTMParams][name] if letter not in "GK")
            for name in GateParams._fields
        },
        Norms: {name: tuple(axes) for name, axes in types.AXES[Norms].items()},
        Dense: {name: tuple(axes) for name, axes in HEAD_AXES.items()},
        Step: {name: ("B", "T", "P" if name == "h" else "H") for name in Step._fields},
    }
)
"""The last axes of the arrays of each class, by the letters of `types.py`."""

STATE = ("h", "c", "i", "f", "o")
"""The arrays of a state, in this order."""

OURS = (LSTMParams, GateParams, Norms, Dense, Step, Bidirectional, NetworkParams)


def is_array(value: Any) -> bool:
    """Return True for an array with numbers in it, False for a tracer or a shape."""
    return isinstance(value, np.ndarray) or (isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer))


def is_state(value: Any) -> bool:
    """Return True for a state: a plain tuple of h, c and the gates that a cell feeds back."""
    return type(value) is tuple and 2 <= len(value) <= len(STATE) and all(map(is_array, value))


def is_ours(node: Any) -> bool:
    """Return True for an instance of a class of ours, a state, or a tuple or list of these."""
    listed = type(node) in (tuple, list) and len(node) > 0 and all(map(is_ours, node))
    return isinstance(node, OURS) or is_state(node) or listed


def children(node: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (name, path, value) for each child of a node that is not None."""
    if is_state(node):
        yield from ((name, f"[{n}]", value) for n, (name, value) in enumerate(zip(STATE, node, strict=False)))
    elif hasattr(node, "_fields"):
        yield from ((name, f".{name}", value) for name, value in node._asdict().items() if value is not None)
    elif isinstance(node, tuple | list):
        yield from ((f"[{n}]", f"[{n}]", value) for n, value in enumerate(node))
    elif isinstance(node, dict):
        yield from ((str(key), f"[{key!r}]", value) for key, value in node.items())


def title(node: Any) -> str:
    """Return the class of a node, with the number of parameters if it holds parameters."""
    if is_state(node):
        return f"state ({', '.join(name for name, _, _ in children(node))})"
    layers = isinstance(node, tuple | list) and not hasattr(node, "_fields")
    name = f"{len(node)} layers" if layers else type(node).__name__
    arrays = [leaf for leaf in jax.tree.leaves(node) if is_array(leaf)]
    if isinstance(node, LSTMParams) and node.w_x.ndim == 3:
        name += f": {node.input_size} features into {node.hidden_size} units"
    if isinstance(node, Step | Bidirectional) and not _holds(node, LSTMParams):
        return name
    if isinstance(node, OURS) or _holds(node, LSTMParams):
        return f"{name}, {sum(leaf.size for leaf in arrays):,} parameters"
    return name


def _holds(node: Any, kind: type) -> bool:
    leaves = jax.tree.leaves(node, is_leaf=lambda value: isinstance(value, kind))
    return any(isinstance(leaf, kind) for leaf in leaves)


def axes_of(node: Any, name: str, array: Any) -> tuple[str, ...]:
    """Return the letter of each axis of an array in a node; "" for an axis without a letter."""
    letters = ("B", "P" if name == "h" else "H") if is_state(node) else AXES.get(type(node), {}).get(name, ())
    if letters and not _projected(node):
        letters = tuple("H" if letter == "P" and not isinstance(node, Dense) else letter for letter in letters)
    letters = letters[max(len(letters) - array.ndim, 0) :]
    return ("",) * (array.ndim - len(letters)) + letters


def _projected(node: Any) -> bool:
    if isinstance(node, LSTMParams):
        return node.w_p is not None
    if isinstance(node, Step) or is_state(node):
        h, c = (node.h, node.c) if isinstance(node, Step) else node[:2]
        return h is not None and c is not None and h.shape[-1] != c.shape[-1]
    return isinstance(node, GateParams) and node.w_h.shape[-2] != node.w_h.shape[-1]


def shape_of(axes: tuple[str, ...], array: Any) -> str:
    """Return a shape with the letters of its axes, such as (I 5, G 4, H 256)."""
    parts = [
        f"{letter} {n}" if letter and letter != str(n) else str(n) for letter, n in zip(axes, array.shape, strict=True)
    ]
    return f"({', '.join(parts)})"


def numbers(array: Any) -> str:
    """Return the range, mean and standard deviation of an array, or of its magnitudes if it is complex, as text."""
    if not array.size:
        return "empty"
    if not jnp.issubdtype(array.dtype, jnp.number):
        return ""  # flags, random keys, text
    complex_ = jnp.issubdtype(array.dtype, jnp.complexfloating)
    value = np.abs(np.asarray(array)) if complex_ else np.asarray(array).astype(np.float64)
    finite = value[np.isfinite(value)]
    texts = []
    if finite.size:
        texts.append(f"{np.min(finite):.3g} to {np.max(finite):.3g}, mean {finite.mean():.3g} ± {finite.std():.2g}")
    if finite.size < value.size:
        texts.append(f"{value.size - finite.size:,} not finite")
    return ("magnitudes " if complex_ else "") + ", ".join(texts)


def valid_part(node: Any, array: Any, lengths: ArrayLike | None) -> Any:
    """Return the numbers of an array of a `Step` at valid steps, `[N, H]`; other arrays as they are.

    Args:
        node: what the array is in.
        array: `[..., T, H]` of a `Step`.
        lengths: valid steps `[...]`; None: all T.
    """
    if lengths is None or not isinstance(node, Step):
        return array
    *batch, steps, _ = array.shape
    length_of(lengths, None, tuple(batch), steps)  # refuses lengths that do not fit
    ends = np.broadcast_to(np.asarray(lengths), batch)
    return np.asarray(array)[np.arange(steps) < ends[..., None]]


def summary(tree: Any, *, lengths: ArrayLike | None = None) -> str:
    """Return parameters, a state or a trace as text, a line for each array: axes, dtype, range, mean and deviation.

    Args:
        tree: `LSTMParams`, `NetworkParams`, a state, a `Step`, or any tree of these.
        lengths: valid steps of each sequence of a trace, as for `lstm`: padding does not count in the numbers. None:
            all steps are valid.

    >>> import jax.numpy as jnp
    >>> print(summary(LSTMParams(jnp.ones((5, 4, 3)), jnp.zeros((3, 4, 3)))))
    LSTMParams: 5 features into 3 units, 96 parameters
      w_x  (I 5, G 4, H 3)  float32  1 to 1, mean 1 ± 0
      w_h  (H 3, G 4, H 3)  float32  0 to 0, mean 0 ± 0
    """
    rows = list(_rows("", tree, 0, lengths))
    widths = [max((len(row[k]) for row in rows if len(row) > 1), default=0) for k in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), *row[3:]]) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _rows(name: str, node: Any, depth: int, lengths: ArrayLike | None) -> Iterator[tuple[str, ...]]:
    indent = "  " * depth
    label = f"{indent}{name}: " if name else indent
    below = list(children(node))
    if not below:
        yield (f"{label}{leaf(node, ('',) * np.ndim(node))}",) if is_array(node) else (f"{label}{node!r}",)
        return
    yield (f"{label}{title(node)}",)
    for child, _, value in below:
        if is_array(value):
            text = numbers(valid_part(node, value, lengths))
            yield (f"{indent}  {child}", shape_of(axes_of(node, child, value), value), str(value.dtype), text)
        else:
            yield from _rows(child, value, depth + 1, lengths)


def leaf(array: Any, axes: tuple[str, ...], valid: Any = None) -> str:
    """Return an array in one line: shape with letters, dtype, range, mean and standard deviation.

    Args:
        array, axes: the array, and the letters of its axes.
        valid: its numbers that count; None: all.
    """
    return f"{shape_of(axes, array)}  {array.dtype}  {numbers(array if valid is None else valid)}".rstrip()
