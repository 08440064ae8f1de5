"""Parameters, states and traces in notebooks: a tree that folds, drawn by treescope, which comes with Flax.

The NamedTuples get no further methods, and treescope no further handlers: `show` draws one tree with a renderer that
has a handler for it, and `rich` registers that with the display formatter of the running IPython.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps

from lstmjax.plot.names import OURS, axes_of, children, is_array, is_ours, leaf, summary, title, valid_part
from lstmjax.plot.sheet import MAPS, limits
from lstmjax.types import Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from treescope.rendering_parts import RenderableAndLineAnnotations

MOST = (24, 96)
"""The most rows and columns of an array's small picture; a larger array is averaged down to about that."""

Places: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

PLACES: MappingProxyType[tuple[bool, int], Places] = MappingProxyType(
    {
        (False, 1): ((), (0,)),
        (False, 2): ((0,), (1,)),
        (False, 3): ((0,), (2, 1)),  # the gate blocks side by side
        (True, 2): ((1,), (0,)),  # time from left to right
    }
)
"""The axes of an array that are rows and those that are columns, by (there is a time axis, number of axes)."""


@dataclass(frozen=True, repr=False)
class Shown:
    """A tree that a notebook shows folded and coloured, and that prints as its `summary`."""

    tree: Any
    lengths: Any = None

    def __repr__(self) -> str:
        return summary(self.tree, lengths=self.lengths)

    def _repr_html_(self) -> str:
        return to_html(self.tree, self.lengths)


def show(tree: Any, *, lengths: ArrayLike | None = None) -> Shown:
    """Return parameters, a state or a trace as an object that a notebook shows and that `print` writes as text.

    Each array is a line with its axes and their letters, its dtype, range, mean and standard deviation, and a small
    picture folded below it. The arrays of a `Step` are unfolded, with time from left to right.

    Args:
        tree: `LSTMParams`, `NetworkParams`, a state (h, c), a `Step`, or any tree of these.
        lengths: valid steps of each sequence of a trace, as for `lstm`: padding is neither drawn nor counted in the
            numbers. None: all steps are valid.

    >>> import jax.numpy as jnp
    >>> show((jnp.zeros((3, 4)), jnp.ones((3, 4))))
    state (h, c)
      h  (B 3, H 4)  float32  0 to 0, mean 0 ± 0
      c  (B 3, H 4)  float32  1 to 1, mean 1 ± 0
    """
    return Shown(tree, lengths)


def rich() -> None:
    """Let this notebook show parameters and traces as `show` does, wherever they are the last line of a cell.

    Raises:
        RuntimeError: this is not a notebook.
    """
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        shell = None
    else:
        shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        raise RuntimeError("rich() is for notebooks, and this is none. Use print(lstmjax.plot.show(tree)).")
    formatter = shell.display_formatter.formatters["text/html"]
    for kind in OURS:
        formatter.for_type(kind, to_html)


def to_html(tree: Any, lengths: ArrayLike | None = None) -> str:
    """Return a tree as HTML that folds, for the output of a notebook or for a page; arguments as for `show`."""
    import treescope

    renderer = treescope.active_renderer.get().extended_with(handlers=[partial(_node, lengths=lengths)])
    with treescope.active_renderer.set_scoped(renderer):
        return treescope.render_to_html(tree)


def _node(
    node: Any, path: str | None, subtree_renderer: Callable, *, lengths: ArrayLike | None
) -> RenderableAndLineAnnotations:
    """Draw a node of one of our classes; treescope draws everything else."""
    from treescope import rendering_parts as parts

    if not is_ours(node):
        return NotImplemented
    lines = []
    for name, step, value in children(node):
        below = None if path is None else path + step
        bold = parts.custom_style(parts.text(f"{name}  "), "font-weight: bold")
        drawn = _array(node, name, value, below, lengths) if is_array(value) else subtree_renderer(value, path=below)
        lines.append(parts.build_full_line_with_annotations(parts.siblings_with_annotations(bold, drawn)))
    return _folding(title(node), parts.indented_children(lines), path, opened=True)


def _array(
    node: Any, name: str, array: Any, path: str | None, lengths: ArrayLike | None
) -> RenderableAndLineAnnotations:
    """Draw an array as a line with a small picture folded below it."""
    from treescope import rendering_parts as parts

    axes = axes_of(node, name, array)
    if array.size < 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        return parts.build_one_line_tree_node(leaf(array, axes), path=path)
    valid = valid_part(node, array, lengths)
    drawn = np.asarray(array)
    if lengths is not None and isinstance(node, Step):
        drawn = drawn[..., : _first_length(lengths), :]
    if not drawn.size:  # the sequence that is drawn has no valid step
        return parts.build_one_line_tree_node(leaf(array, axes, valid), path=path)
    picture = _picture(node, name, drawn, axes)
    return _folding(leaf(array, axes, valid), parts.indented_children([picture]), path, opened=isinstance(node, Step))


def _first_length(lengths: ArrayLike) -> int:
    """Return the valid steps of the first sequence of a batch, which is the one that is drawn."""
    return int(np.asarray(lengths).reshape(-1)[0])


def _folding(label: str, below: Any, path: str | None, *, opened: bool) -> RenderableAndLineAnnotations:
    """Draw a line that unfolds what is below it, with the button that copies its path."""
    from treescope import rendering_parts as parts

    return parts.build_custom_foldable_tree_node(
        label=parts.text(label),
        contents=parts.siblings(parts.build_copy_button(path), parts.fold_condition(expanded=below)),
        expand_state=parts.ExpandState.EXPANDED if opened else parts.ExpandState.COLLAPSED,
    )


def _picture(node: Any, name: str, array: np.ndarray, axes: tuple[str, ...]) -> Any:
    """Draw an array, of a batch the first, as colours: time from left to right, gate blocks side by side."""
    import treescope

    first = array.ndim - min(array.ndim, 3 if "G" in axes else 2)
    value, axes = array[(0,) * first].astype(np.float32), axes[first:]
    rows, columns = PLACES["T" in axes, value.ndim]
    labels = {}
    for axis, letter in enumerate(axes):
        most = MOST[0] if axis in rows or value.ndim == 3 else MOST[1]
        block = -(-value.shape[axis] // most)
        labels[axis] = f"{letter or 'axis'} {value.shape[axis]}" + (f", means of {block}" if block > 1 else "")
        value = _averaged(value, axis, block)
    low, high = limits(name if isinstance(node, Step) else "", value)
    colours = colormaps[MAPS[low == 0]](np.linspace(0, 1, 33))[:, :3]
    return treescope.render_array(
        value,
        rows=rows,
        columns=columns,
        axis_labels=labels,
        vmin=low,
        vmax=high,
        continuous=True,
        around_zero=False,
        trim_outliers=False,
        colormap=[tuple(int(part) for part in colour) for colour in (255 * colours).round()],
        pixels_per_cell=4,
    ).treescope_part


def _averaged(value: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Return the means of blocks of an axis, of which the last may be shorter."""
    starts = np.arange(0, value.shape[axis], block)
    sizes = np.diff(np.append(starts, value.shape[axis])).astype(value.dtype)
    sums = np.add.reduceat(value, starts, axis=axis)
    return sums / np.expand_dims(sizes, tuple(k for k in range(value.ndim) if k != axis))
