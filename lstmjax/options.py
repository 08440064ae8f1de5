"""The options of a run, the keywords of `lstm`, `stacked` and `network`, as one thing for everything derived of them.

These three functions spell their keywords out. What runs them for a purpose of its own (`trace`, `gradient_flow`,
`explain_backend`, the Flax modules) takes a `TypedDict` of this file as `**options`, by the decorator `takes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import jax

from lstmjax.arguments import as_flags
from lstmjax.backends import Chooser
from lstmjax.cell import Emit
from lstmjax.cells import Cell
from lstmjax.keywords import accepted, takes
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.parameters import parameters_of
from lstmjax.stack import stacked
from lstmjax.types import Array, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

Run = Callable[..., tuple[PyTree, PyTree]]
"""What runs one direction of one layer: it is called as `lstm` is."""


class StackOptions(TypedDict, total=False):
    """How layers are put on top of each other."""

    merge: str
    """How a pair's outputs are joined: "concat" or "sum"."""
    residual: bool
    """Whether what enters a layer is added to its outputs, from the second layer on."""


class StepOptions(TypedDict, total=False):
    """How one layer runs in one direction where each of its steps is differentiated."""

    lengths: ArrayLike | None
    """Valid steps of each sequence, whole numbers `[...]`; None: all T."""
    reverse: bool
    """Run from the last valid step to the first."""
    wrappers: tuple[Wrapper | tuple[Wrapper, tuple], ...]
    """What happens around the step, as at evaluation."""
    cell: Cell | str | None
    """The cell, a name in `CELLS` or a `Cell`; None: the vanilla cell."""


class LayerOptions(StackOptions, total=False):
    """What trained layers are run with again, at evaluation, for what they compute."""

    wrappers: tuple[Wrapper, ...]
    """Wrappers around the step, at evaluation."""
    cell: Cell | str | None
    """The cell, a name in `CELLS` or a `Cell`; None: the vanilla cell."""
    dtype: DTypeLike | None
    """Dtype of the computation; None: that of the parameters."""


class PassOptions(StackOptions, total=False):
    """A plain pass over a sequence, without wrappers and resets."""

    cell: Cell | str | None
    """The cell, a name in `CELLS` or a `Cell`; None: the vanilla cell."""
    lengths: ArrayLike | None
    """Valid steps of each sequence, whole numbers `[...]`; None: all T."""
    mask: ArrayLike | None
    """Valid steps, bool `[..., T]`. With lengths: both."""
    reverse: bool
    """Run from the last valid step to the first; for `LSTMParams` only."""


class ModuleOptions(StackOptions, total=False):
    """What is fixed for a network, and so a field of a Flax module."""

    dropout: float
    """Rate of dropout between layers, and before the head of a network."""
    wrappers: tuple[Wrapper | tuple[Wrapper, tuple], ...]
    """What happens around the step, the first one closest to the cell."""
    time_major: bool
    """Whether time is the first axis of xs, mask, resets and what is returned."""
    dtype: DTypeLike | None
    """Dtype of the computation; None: that of the parameters."""
    checkpoint: int | str | None
    """None, "sqrt" or a segment length: compute segments again in the backward pass."""
    unroll: int
    """Steps per iteration of the compiled loop."""
    backend: Chooser
    """How the scan is run: "auto", a name in `backends.BACKENDS`, or a function of the `Request`."""


@dataclass(kw_only=True)
class ModuleFields:
    """`ModuleOptions` as the fields of a linen module, which is a dataclass."""

    merge: str = "concat"
    residual: bool = False
    dropout: float = 0.0
    wrappers: tuple[Wrapper, ...] = ()
    time_major: bool = False
    dtype: Any = None
    checkpoint: int | str | None = None
    unroll: int = 1
    backend: str = "auto"


class RunOptions(PassOptions, ModuleOptions, total=False):
    """Everything that says how `lstm`, `stacked` or `network` run, but for what they return."""

    resets: ArrayLike | None
    """Steps before which the state returns to `reset_state`, bool `[..., T]`."""
    reset_state: PyTree | None
    """The state that a reset returns to, as `state`; None: zeros."""
    key: Array | None
    """Random key for dropout and wrappers; None: evaluation."""
    step: Run
    """The step to scan."""


class SequenceOptions(TypedDict, total=False):
    """How a layer whose cell is settled runs over a sequence: the keywords of `lstm` but cell and step."""

    lengths: ArrayLike | None
    """Valid steps of each sequence, whole numbers `[...]`; None: all T."""
    mask: ArrayLike | None
    """Valid steps, bool `[..., T]`. With lengths: both."""
    resets: ArrayLike | None
    """Steps before which the state returns to `reset_state`, bool `[..., T]`."""
    reset_state: PyTree | None
    """The state that a reset returns to, as `state`; None: zeros."""
    reverse: bool
    """Run from the last valid step to the first."""
    time_major: bool
    """Whether time is the first axis of xs, mask, resets and what is returned."""
    emit: Emit
    """What ys holds."""
    padding: str
    """ys at steps that are not valid: "zero" or "hold"."""
    key: Array | None
    """Random key for wrappers; None: evaluation."""
    wrappers: tuple[Wrapper | tuple[Wrapper, tuple], ...]
    """What happens around the step, the first one closest to the cell."""
    dtype: DTypeLike | None
    """Dtype of the computation; None: that of the parameters."""
    checkpoint: int | str | None
    """None, "sqrt" or a segment length: compute segments again in the backward pass."""
    unroll: int
    """Steps per iteration of the compiled loop."""
    backend: Chooser
    """How the scan is run: "auto", a name in `backends.BACKENDS`, or a function of the `Request`."""


class CallOptions(RunOptions, total=False):
    """All keywords of a call, but for `return_sequences`, whose default depends on the function."""

    emit: Emit
    """What ys holds."""
    padding: str
    """ys at steps that are not valid: "zero" or "hold"."""


@takes(RunOptions, lstm, stacked)
def with_defaults(**options: Unpack[RunOptions]) -> RunOptions:
    """Return all options of a run, with their defaults where none is passed."""
    return options


def run_layers(params: Any, xs: ArrayLike, state: PyTree | None, run: Run, options: RunOptions) -> None:
    """Run the layers of params, without the head of a network, for what `run` sees of them.

    Args:
        params: `LSTMParams`, layers as `stacked` takes them, or `NetworkParams`.
        xs, state: as for `lstm` or `stacked`.
        run: called for each layer and direction from the bottom up.
        options: all of them, as `takes` completes them.

    Raises:
        ValueError: reverse, with other params than `LSTMParams`.
    """
    if isinstance(params, NetworkParams):
        params = params.layers
        if options["key"] is not None:
            options = {**options, "key": jax.random.split(options["key"])[0]}  # what `network` hands to its layers
    outputs(params, xs, state, run, options, return_sequences=True)


def outputs(
    params: Any, xs: ArrayLike, state: PyTree | None, run: Run, options: RunOptions, *, return_sequences: bool
) -> Array:
    """Return the ys of `lstm` or `stacked`, or the logits of `network`; arguments as for `run_layers`."""
    parameters = parameters_of(params)
    call = parameters.run
    keywords = accepted(call, options) | {"return_sequences": return_sequences}
    if call is lstm:
        return run(params, xs, state, **keywords)[1]
    if options["reverse"]:
        raise ValueError("reverse is for LSTMParams; for layers make the layer a Bidirectional pair.")
    if call is stacked:
        params, state = parameters.layers, parameters.in_layers(state)
        keywords["reset_state"] = parameters.in_layers(options["reset_state"])
    return call(params, xs, state, run=run, **keywords)[1]


def with_flags(options: RunOptions) -> RunOptions:
    """Return options whose flags are True or False; refuse words and arrays in their place."""
    reverse, time_major, residual = as_flags(
        reverse=options["reverse"], time_major=options["time_major"], residual=options["residual"]
    )
    return {**options, "reverse": bool(reverse), "time_major": bool(time_major), "residual": bool(residual)}
