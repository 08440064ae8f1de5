"""Everything that a network computes on its way, as data: every gate, c and h at every step of every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from lstmjax.arguments import as_array, as_flags, kind, one_of
from lstmjax.cell import cell_step
from lstmjax.cells import Cell
from lstmjax.inside.layered import check_model, in_form_of, of_one_layer
from lstmjax.inside.recorder import Recorder
from lstmjax.inside.reduce import Reduce
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike


def trace(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    state: PyTree | None = None,
    *,
    fields: str | tuple[str, ...] | None = None,
    reduce: Reduce | Callable[[Step], PyTree] | None = None,
    perturb: PyTree | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    time_major: bool = False,
    merge: str = "concat",
    residual: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    wrappers: tuple = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    dtype: DTypeLike | None = None,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    backend: str = "auto",
) -> Any:
    """Gives every gate, pre-activation, c, m and h at every step, of every layer and direction.

    The numbers are those of the forward pass itself: the same step emits them, and only the rounding of the last bit
    may depend on what a program is compiled to give. It is a pure function of arrays: jit it (with `fields` and
    `reduce` closed over), vmap it, differentiate it.

    Args:
        params: `LSTMParams`; or a `Bidirectional` pair; or layers, as `stacked` takes them; or `NetworkParams`.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        state: where to start, as for `lstm`, `stacked` or `network`; of a pair alone a pair.
        fields: names of the fields of `Step` that are wanted, one or several; the others are None. None: all.
        reduce: stream a statistic instead of giving T arrays: a function of a `Step` whose mean over the valid steps of
            each sequence is wanted, or a `Reduce`. The function is handed steps with any leading axes and keeps them.
            Without `key` and `perturb`.
        perturb: what is added to the values of each step, in the form of what `trace` gives, None where nothing is: the
            gradient with respect to zeros here is the gradient with respect to that value. h and c are those that
            the cell makes, before a wrapper such as zoneout mixes them with the old ones.
        lengths, mask, resets, reset_state, time_major, wrappers, cell, step, dtype, checkpoint, unroll, backend: as
            for `lstm`; at steps that are not valid all fields are 0.
        reverse: as for `lstm`, for `LSTMParams` only; a `Bidirectional` pair has its reverse direction anyway.
        merge, residual, dropout, key: as for `network` or `stacked`; the same key draws the same masks as there.

    Returns:
        For `LSTMParams` a `Step` of arrays `[..., T, H]` (h `[..., T, P]`), or `[T, ..., H]` with `time_major`; a
        reverse direction's too stand beside the x that they are of. For a pair alone a `Bidirectional` of two. For
        layers and networks a tuple with a `Step` for each layer, a `Bidirectional` of two for a pair. With `reduce`:
        what it gives in place of each `Step`.

    Raises:
        ValueError: an argument does not fit the others; the message says which.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstmjax import init_network, init_params
        >>> params = init_params(jax.random.key(0), 5, 256)
        >>> steps = trace(params, jnp.ones((32, 100, 5)), fields=("f", "c"))
        >>> steps.f.shape, steps.c.shape, steps.i
        ((32, 100, 256), (32, 100, 256), None)
        >>> deep = init_network(jax.random.key(0), 5, 8, 3, layers=2, bidirectional=True)
        >>> trace(deep, jnp.ones((32, 100, 5)))[1].reverse.z_o.shape
        (32, 100, 8)
        >>> mean = trace(params, jnp.ones((32, 100, 5)), reduce=lambda step: step.f)
        >>> mean.shape
        (32, 256)
    """
    check_model(params)
    xs = as_array("xs", xs)
    reverse, time_major, residual = as_flags(reverse=reverse, time_major=time_major, residual=residual)
    form = params
    params, state, reset_state, perturb = of_one_layer(params, state, reset_state, perturb)
    recorder = Recorder(chosen(fields), reduce, perturb, params)
    automatic = isinstance(backend, str) and backend == "auto"
    options: dict[str, Any] = {
        "lengths": lengths,
        "mask": mask,
        "resets": resets,
        "reset_state": reset_state,
        "time_major": time_major,
        "key": key,
        "wrappers": wrappers,
        "cell": cell,
        "step": step,
        "dtype": dtype,
        "checkpoint": checkpoint,
        "unroll": unroll,
        # Where nothing is turned or computed again, many outputs are written in place: benchmarks/trace.py.
        "backend": "inplace" if automatic and checkpoint is None and not time_major else backend,
    }
    if isinstance(params, LSTMParams):
        recorder(params, xs, state, reverse=reverse, **options)
        return recorder.found[0]
    if reverse:
        raise ValueError("reverse is for LSTMParams; for layers make the layer a Bidirectional pair.")
    layers: Any = params
    if isinstance(params, NetworkParams):
        layers, options["key"] = params.layers, None if key is None else jax.random.split(key)[0]  # as network has it
    stacked(layers, xs, state, merge=merge, residual=residual, dropout=dropout, run=recorder, **options)
    return in_form_of(form, recorder.layered())


def chosen(fields: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Gives the names of the fields that are wanted, in the order of `Step`, or refuses them."""
    if fields is None:
        return Step._fields
    if not isinstance(fields, str | tuple | list):
        raise TypeError(f"fields is {kind(fields)}, expected names of Step: 'c', or ('i', 'f').")
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    for name in names:
        one_of("fields", name, Step._fields)
    return tuple(name for name in Step._fields if name in names)
