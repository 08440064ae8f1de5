"""Record what a network computes: every gate, c and h at every step of every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from lstmjax.arguments import as_array, kind, one_of
from lstmjax.backends import BACKENDS, Request
from lstmjax.inside.perturb import in_order, perturbed
from lstmjax.inside.record import Record, select
from lstmjax.inside.reduce import Reduce, stream
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.options import RunOptions, run_layers, with_flags
from lstmjax.parameters import parameters_of
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def kernel_or_inplace(request: Request) -> str:
    """Return the backend of a trace in which nothing is turned or computed again.

    Without the kernel, many outputs are written in place: benchmarks/trace.py.
    """
    kernel = BACKENDS["native"]
    serves = kernel.refuses(request) is None and kernel.declines(request) is None
    return "native" if serves else "inplace"


@takes(RunOptions, lstm, stacked)
def trace(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: ArrayLike,
    state: PyTree | None = None,
    *,
    fields: str | tuple[str, ...] | None = None,
    reduce: Reduce | Callable[[Step], PyTree] | None = None,
    perturb: PyTree | None = None,
    **options: Unpack[RunOptions],
) -> Any:
    """Return every gate, pre-activation, c, m and h at every step, of every layer and direction.

    The numbers are those of the forward pass itself: the same step, or the native kernel, emits them. Only the
    rounding of the last bit may depend on what a compiled program returns. It is a pure function of arrays: jit it
    (with `fields` and `reduce` closed over), vmap it, differentiate it.

    Args:
        params: `LSTMParams`; or a `Bidirectional` pair; or layers, as `stacked` takes them; or `NetworkParams`.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        state: the state to start from, as for `lstm`, `stacked` or `network`; for a pair alone, a pair.
        fields: names of fields of `Step`, one or several; the others are None. None: all fields.
        reduce: a statistic to compute while the sequence runs, in place of arrays over T: a function of a `Step`, whose
            mean over the valid steps of each sequence is returned, or a `Reduce`. The function gets steps with any
            leading axes and keeps these. Without `key` and `perturb`.
        perturb: arrays to add to the values of each step, in the form that `trace` returns, None where nothing is
            added: the gradient with respect to zeros here is the gradient with respect to that value. h and c are
            those that the cell computes, before a wrapper such as zoneout mixes them with the old ones.
        lengths, mask, resets, reset_state, time_major, wrappers, cell, step, dtype, checkpoint, unroll, backend: as
            for `lstm`; at steps that are not valid all fields are 0.
        reverse: as for `lstm`, for `LSTMParams` only; a `Bidirectional` pair has its reverse direction anyway.
        merge, residual, dropout, key: as for `network` or `stacked`; the same key draws the same masks as there.

    Returns:
        For `LSTMParams` a `Step` of arrays `[..., T, H]` (h `[..., T, P]`), or `[T, ..., H]` with `time_major`. In a
        reverse direction too, the values at t are those of the step that processed xs[t]. For a pair alone a
        `Bidirectional` of two. For layers and networks a tuple with a `Step` for each layer, a `Bidirectional` of two
        for a pair. With `reduce`, its result in place of each `Step`.

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
    parameters_of(params)
    xs, options = as_array("xs", xs), with_flags(options)
    backend = options["backend"]
    automatic = isinstance(backend, str) and backend == "auto"
    if automatic and options["checkpoint"] is None and not options["time_major"]:
        options["backend"] = kernel_or_inplace
    return record(params, xs, state, options, field_names(fields), reduce=reduce, perturb=perturb)


def record(
    params: LSTMParams | Bidirectional | Layers | NetworkParams,
    xs: Array,
    state: PyTree | None,
    options: RunOptions,
    fields: tuple[str, ...],
    *,
    reduce: Reduce | Callable[[Step], PyTree] | None = None,
    perturb: PyTree | None = None,
) -> Any:
    """Return what `trace` returns, for arguments that it has checked."""
    parameters = parameters_of(params)
    if reduce is not None and perturb is not None:
        raise ValueError("perturb is for the values of every step, and reduce does not keep them. Pass one of the two.")
    if reduce is not None and not isinstance(reduce, Reduce):
        reduce = Reduce(reduce)
    recorder = Recorder(fields, reduce, with_h=not isinstance(params, LSTMParams))
    run: Callable = recorder
    if perturb is not None:
        run = perturbed(recorder, in_order(parameters.in_layers(perturb), parameters.layers))
    run_layers(params, xs, state, run, options)
    return parameters.result(recorder.records)


class Recorder:
    """A function that `stacked` and `network` run in place of `lstm`, and that records what each direction computes.

    Its `records` have an entry for each direction that was run: a `Step`, or the statistic of a `Reduce`. It is for one
    pass through the layers.

    Args:
        fields: the fields of `Step` to record.
        reduce: the statistic to record in place of them.
        with_h: a layer above needs h.
    """

    def __init__(self, fields: tuple[str, ...], reduce: Reduce | None, *, with_h: bool):
        self.records: list[PyTree] = []
        self._fields, self._reduce, self._with_h = fields, reduce, with_h

    def __call__(
        self,
        params: LSTMParams,
        xs: ArrayLike,
        state: PyTree | None = None,
        *,
        return_sequences: bool = True,
        emit: str = "h",
        padding: str = "zero",
        **options: Any,
    ) -> tuple[PyTree, Any]:
        """Return (state, hs) of one direction of one layer, as `lstm` does."""
        if self._reduce is not None:
            state, statistic, hs = stream(self._reduce, params, xs, state, self._with_h, options)
            self.records.append(statistic)
            return state, hs
        fields = self._fields
        if self._with_h and "h" not in fields:
            fields = (*fields, "h")
        state, (step, _) = lstm(params, xs, state, emit=Record(fields), **options)
        self.records.append(select(step, self._fields))
        return state, step.h


def field_names(fields: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of the selected fields in the order of `Step`; None: all of them."""
    if fields is None:
        return Step._fields
    if not isinstance(fields, str | tuple | list):
        raise TypeError(f"fields is {kind(fields)}, expected names of Step: 'c', or ('i', 'f').")
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    for name in names:
        one_of("fields", name, Step._fields)
    return tuple(name for name in Step._fields if name in names)
