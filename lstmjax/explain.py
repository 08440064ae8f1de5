"""What a call would run, and why: each backend of the table with its reason."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from lstmjax import backends
from lstmjax.arguments import as_array, as_lengths, check_arrays, check_key, one_of
from lstmjax.cell import Emit, cell_step
from lstmjax.cells import Cell
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams, network
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

MODES = ("inference", "training")


class Answer(NamedTuple):
    """What is said of one backend: it "runs", "refuses", is "passed over", or "could run"; and why."""

    backend: str
    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.backend} {self.word}: {self.reason}"


@dataclass(frozen=True)
class Choice:
    """What one layer runs in one direction. `name` is the backend, or None where the one that is named refuses."""

    name: str | None
    verdicts: tuple[Answer, ...]  # the one that was asked for first, then the others in the order of the table

    def __str__(self) -> str:
        return "\n  ".join(map(str, self.verdicts))


@dataclass(frozen=True)
class Choices:
    """What several layers run: `layers` has a `Choice` for each, a `Bidirectional` of two for a pair."""

    layers: tuple[Choice | Bidirectional, ...]

    def __str__(self) -> str:
        """Return each choice once, under the layers that it is for."""
        places: dict[Choice, list[str]] = {}
        for n, layer in enumerate(self.layers):
            for choice, direction in zip(*_parts(layer), strict=True):
                places.setdefault(choice, []).append(f"layer {n}{direction}")
        blocks = ([f"{', '.join(where)}:", *str(choice).splitlines()] for choice, where in places.items())
        return "\n".join("\n  ".join(block) for block in blocks)


def explain_backend(
    params: LSTMParams | Layers | NetworkParams,
    xs: ArrayLike,
    state: PyTree | None = None,
    *,
    mode: str = "inference",
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    time_major: bool = False,
    return_sequences: bool | None = None,
    emit: Emit = "h",
    padding: str = "zero",
    merge: str = "concat",
    residual: bool = False,
    dropout: float = 0.0,
    key: Array | None = None,
    wrappers: tuple[Wrapper | tuple[Wrapper, tuple], ...] = (),
    cell: Cell | str | None = None,
    step: Callable[..., tuple[PyTree, PyTree]] = cell_step,
    dtype: DTypeLike | None = None,
    checkpoint: int | str | None = None,
    unroll: int = 1,
    backend: backends.Chooser = "auto",
) -> Choice | Choices:
    """Return which backend `lstm`, `stacked` or `network` would run with these arguments, and why not the others.

    Nothing is computed: the call itself is traced for its shapes, and what it asks of the backends is noted. Of arrays,
    here as there, shapes and dtypes count, so that each may be a `jax.ShapeDtypeStruct`. All other arguments are
    those of the call.

    Args:
        params: what `lstm`, `stacked` or `network` is called with.
        xs: inputs `[..., T, I]`, or `[T, ..., I]` with `time_major`.
        mode: what is explained, the forward pass ("inference") or the one whose gradient is wanted ("training"). The
            call itself need not say it: it finds out when it is differentiated.
        return_sequences: None: as the call has it, all steps of layers and the last one of a network.

    Returns:
        A `Choice` for one layer; `Choices` of several. Each prints as text, a line for each backend. A backend that is
        named and refuses is told here, where the call would raise.

    Raises:
        ValueError: as the call would raise it, or an option is given that the call does not have.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstmjax import init_params
        >>> choice = explain_backend(init_params(jax.random.key(0), 5, 8), jnp.ones((2, 7, 5)), backend="scan")
        >>> choice.name
        'scan'
        >>> print(str(choice).splitlines()[0])
        scan runs: the definition: jax.lax.scan of the step
    """
    one_of("mode", mode, MODES)
    for name, tree in (("params", params), ("state", state), ("reset_state", reset_state)):
        check_arrays(name, tree)
    if key is not None and not isinstance(key, jax.ShapeDtypeStruct):
        check_key("key", key)
    call = _call(params)
    options = {
        "reverse": reverse, "time_major": time_major, "return_sequences": return_sequences, "emit": emit,
        "padding": padding, "merge": merge, "residual": residual, "dropout": dropout, "wrappers": wrappers,
        "cell": cell, "step": step, "dtype": dtype, "checkpoint": checkpoint, "unroll": unroll,
    }  # fmt: skip
    options = dict(_options(call, options))
    requests: list[backends.Request] = []

    def note(request: backends.Request) -> str:
        requests.append(dataclasses.replace(request, mode=mode))
        return "scan"

    def traced(params: PyTree, xs: Array, state: PyTree, key: Array | None, arrays: dict[str, Any]) -> Any:
        return call(params, xs, state, key=key, backend=note, **arrays, **options)

    xs = _array("xs", xs)
    if lengths is not None and not isinstance(lengths, jax.ShapeDtypeStruct):
        lengths = as_lengths(lengths, xs.shape[0 if time_major else max(xs.ndim - 2, 0)] if xs.ndim else 0)
    arrays = {
        "lengths": lengths,
        "mask": None if mask is None else _array("mask", mask),
        "resets": None if resets is None else _array("resets", resets),
        "reset_state": reset_state,
    }
    jax.eval_shape(traced, params, xs, state, key, arrays)
    choices = iter([chosen(backend, request) for request in requests])
    if call is lstm:
        return next(choices)
    layers: Any = params.layers if isinstance(params, NetworkParams) else params
    pairs = (isinstance(layer, Bidirectional) for layer in layers)
    return Choices(tuple(Bidirectional(next(choices), next(choices)) if pair else next(choices) for pair in pairs))


def chosen(backend: backends.Chooser, request: backends.Request) -> Choice:
    """Return the choice for a request, with a verdict on every backend."""
    named = backend(request) if callable(backend) else backend
    one_of("backend", named, ("auto", *backends.BACKENDS))
    refused = named != "auto" and backends.BACKENDS[named].refuses(request) is not None
    name = None if refused else backends.choose(named, request)
    verdicts = [Answer(row, *_verdict(row, request, name, named)) for row in backends.BACKENDS]
    return Choice(name, tuple(sorted(verdicts, key=lambda verdict: verdict.backend != (name or named))))


def _verdict(row: str, request: backends.Request, name: str | None, named: str) -> tuple[str, str]:
    backend = backends.BACKENDS[row]
    reason = backend.refuses(request)
    if reason is not None:
        return "refuses", reason
    if row == name:
        return "runs", "; ".join(filter(None, (backend.about, backend.forms(request))))
    slower = backend.declines(request)
    if slower is not None and named == "auto":
        return "passed over", slower
    return "could run", backend.about


def _call(params: Any) -> Callable:
    """Return the function that these parameters are for; the parameters of a user's step are for `lstm`."""
    if isinstance(params, NetworkParams):
        return network
    parts = () if isinstance(params, LSTMParams | Bidirectional) or not isinstance(params, tuple | list) else params
    return stacked if parts and all(isinstance(part, LSTMParams | Bidirectional) for part in parts) else lstm


def _options(call: Callable, options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options that differ from their defaults, or refuse one that the function does not have."""
    defaults, has = inspect.signature(explain_backend).parameters, inspect.signature(call).parameters
    for name, value in options.items():
        default = defaults[name].default
        changed = value is not default and not (isinstance(value, type(default)) and value == default)
        if changed and name not in has:
            raise ValueError(
                f"{name} is {value!r}, but {call.__name__}, which these params are for, has no {name}. Leave it out."
            )
        if changed:
            yield name, value


def _array(name: str, value: Any) -> Any:
    """Return what has a shape and a dtype: the value itself, or an array of a list."""
    return value if isinstance(value, jax.ShapeDtypeStruct) else as_array(name, value)


def _parts(layer: Choice | Bidirectional) -> tuple[tuple, tuple[str, ...]]:
    return (tuple(layer), (" forward", " reverse")) if isinstance(layer, Bidirectional) else ((layer,), ("",))
