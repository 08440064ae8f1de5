"""What a layer asks of a backend, and what a backend is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from lstmjax.types import PyTree, Step


def platform() -> str:
    """Return where computations run by default: "cpu", "gpu" or "tpu"."""
    device: Any = jax.config.values["jax_default_device"]
    return jax.default_backend() if device is None else getattr(device, "platform", str(device))


def explicitly_sharded(*arrays: PyTree) -> bool:
    """Return whether a mesh has explicit axes, that of the context or of an array: those arrays cannot merge axes.

    `jax.make_mesh` makes explicit axes, and arrays that are put on them carry them in their type.
    """
    meshes = [jax.sharding.get_abstract_mesh()]
    meshes += [jax.typeof(a).sharding.mesh for a in jax.tree.leaves(arrays) if isinstance(a, jax.Array)]
    return any(mesh.explicit_axes for mesh in meshes)


@dataclass(frozen=True)
class Request:
    """What one layer in one direction asks for: all that is known while tracing.

    Compiled code is cached by it. It has no values: of params, xs and state it has the shapes and dtypes, by which JAX
    caches compiled code anyway. `mode` is "inference", "training" (a gradient is wanted) or None, since a call cannot
    know whether it will be differentiated.
    """

    step: Callable  # resolved, without its wrappers: a `CellStep` for ours
    wrappers: tuple
    emit: Any
    return_sequences: bool  # all outputs, or the last one
    valid: str | None  # how valid steps are given: None, "lengths", or "mask", which may have holes
    padding: str  # "zero" or "hold": outputs at steps that are not valid
    resets: bool
    reverse: bool
    checkpoint: int | str | None
    unroll: int
    axis: int  # of time in the arrays that the caller passes and receives
    params: PyTree = field(compare=False, repr=False)
    xs: Any = field(compare=False, repr=False)  # [T, ..., I]
    state: PyTree = field(compare=False, repr=False)
    platform: str = field(default_factory=platform)  # "cpu", "gpu" or "tpu"
    mode: str | None = None
    dtype: Any = None  # that params and xs are cast to
    explicit: bool = field(default_factory=explicitly_sharded)  # whether arrays may be sharded over explicit mesh axes

    def __post_init__(self) -> None:
        for name in ("params", "xs", "state"):
            shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), getattr(self, name))
            object.__setattr__(self, name, shapes)


def step_fields(emit: Any) -> tuple[str, ...] | None:
    """Return the fields of a `Step` that an `emit` selects, if it returns them as they are, or None.

    A function says so by an attribute `step_fields`; it must then take a `Step` of series, too.
    """
    return Step._fields if emit == "step" else getattr(emit, "step_fields", None)


def nothing(request: Request) -> None:
    """Return None: nothing is refused, nothing is declined, and there is one form."""


@dataclass(frozen=True)
class Backend:
    """One way to run a step over time.

    `run(step, params, state, xs, fixed, scanned, *, request)` returns (state, ys), with time on the first axis of xs,
    scanned and ys; see `scan.run`. `refuses(request)` returns the reason why it cannot serve a request, a sentence with
    the remedy, or None. `about` is one line for `explain_backend`, and `forms(request)` describes which of its forms
    runs, if there are several.

    `declines(request)` returns the reason why "auto" passes it over although it could serve: another backend is quicker
    for these sizes, on this platform, in this mode. A backend that the caller names runs all the same.
    """

    name: str
    run: Callable
    refuses: Callable[[Request], str | None]
    about: str
    forms: Callable[[Request], str | None] = nothing
    declines: Callable[[Request], str | None] = nothing


Chooser = str | Callable[[Request], str]
"""What a layer accepts as `backend`: "auto", a name, or a function of the `Request` that returns one of them."""
