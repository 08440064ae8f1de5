"""The table of backends, and the choice among them."""

from __future__ import annotations

from types import MappingProxyType

from lstmjax.arguments import one_of
from lstmjax.backends import cpu, cudnn, fused, inplace, native, scan
from lstmjax.backends.request import Backend, Chooser, Request, nothing

BACKENDS = MappingProxyType(
    {
        row.name: row
        for row in (
            Backend("scan", scan.run, nothing, "the definition: jax.lax.scan of the step"),
            Backend(
                "fused",
                fused.run,
                fused.refuses,
                "the plain scan; in training saves z and the state, weight gradients after the backward scan",
                cpu.forms,
                fused.declines,
            ),
            Backend(
                "cudnn",
                cudnn.run,
                cudnn.refuses,
                "cuDNN's LSTM, forward and backward, on NVIDIA GPUs in float32",
                declines=cudnn.declines,
            ),
            Backend(
                "native",
                native.run,
                native.refuses,
                "the compiled kernel, forward and backward, on CPUs in float32",
                native.forms,
                native.declines,
            ),
            Backend(
                "inplace",
                inplace.run,
                inplace.refuses,
                "outputs written where they belong; for emitting many values of a step",
                cpu.forms,
            ),
        )
    }
)
AUTO = ("cudnn", "native", "fused", "scan")
"""What "auto" tries, in this order, until one neither refuses nor declines; the last one never does."""


def choose(backend: Chooser, request: Request) -> str:
    """Return the name of the backend that serves a request: the named one, or for "auto" the first of `AUTO` that can.

    Raises:
        ValueError: there is no backend of that name, or the named one refuses; the message says why.
    """
    name = backend(request) if callable(backend) else backend
    one_of("backend", name, ("auto", *BACKENDS))
    if name == "auto":
        rows = (BACKENDS[row] for row in AUTO)
        return next(row.name for row in rows if row.refuses(request) is None and row.declines(request) is None)
    reason = BACKENDS[name].refuses(request)
    if reason is not None:
        raise ValueError(f"backend={name!r} cannot run this: {reason}")
    return name
