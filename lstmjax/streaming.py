"""One step at a time, outside of JAX: `compile_step` packs the weights once, for a control loop or a live signal."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import checks
from lstmjax.arguments import as_array, as_arrays, as_flags, check_positive, kind, one_of
from lstmjax.arrays import as_shapes, cast, floating, input_shape
from lstmjax.backends import Chooser, Request, native, native_stream
from lstmjax.cells import Cell
from lstmjax.layer import lstm
from lstmjax.parameters import parameters_of
from lstmjax.stack import as_states
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree
from lstmjax.wrappers import Wrapper

if TYPE_CHECKING:
    from jax.typing import ArrayLike, DTypeLike

    from lstmjax.networks import NetworkParams
    from lstmjax.stack import Layers

BACKENDS = ("auto", "native", "jax")
INSTEAD = "backend='jax'"


class Steps(Protocol):
    """What runs the steps: inputs that are checked, and the leaves of the state in order. Threads take turns."""

    def one(self, x: np.ndarray) -> np.ndarray:
        """Run one step."""

    def several(self, xs: np.ndarray) -> np.ndarray:
        """Run several, `[..., n, I]`."""

    def get(self) -> list[np.ndarray]:
        """Return copies of the leaves of the state."""

    def set(self, leaves: Sequence[np.ndarray]) -> None:
        """Set them."""

    def copy(self) -> Steps:
        """Return another one in the same state."""


def compile_step(
    params: LSTMParams | Layers | NetworkParams,
    *,
    batch_size: int | None = None,
    state: PyTree | None = None,
    residual: bool = False,
    cell: Cell | str | None = None,
    wrappers: tuple[Wrapper, ...] = (),
    dtype: DTypeLike | None = None,
    backend: str = "auto",
) -> CompiledStep:
    """Prepare a network to run one step at a time on arrays of NumPy; return an object that holds weights and state.

    Where the native kernel is built and knows the network, it is called directly, with weights that are packed here: a
    step costs a few microseconds more than its arithmetic. Elsewhere the step is a program of JAX, which costs tens of
    microseconds more. `step.backend` says which it is, and `step.reason` why it is not the kernel. Later changes of
    `params` do not reach it. It is for inference outside of JAX's transformations; inside of them use `cell_step`.

    Args:
        params: `LSTMParams`, a tuple of them from the bottom up, or `NetworkParams`. A `Bidirectional` pair is refused:
            its reverse direction begins at the last step.
        batch_size: B, how many sequences run side by side; None: one, and arrays without a batch axis.
        state: the state to begin in and to reset to, as `lstm`, `stacked` or `network` take it for xs `[T, I]` or
            `[B, T, I]`; None: zeros.
        residual, cell, wrappers, dtype: as for `stacked`. Without a key, wrappers are in evaluation mode.
        backend: "native", which never falls back on another; "jax"; or "auto": native if it can.

    Returns:
        A `CompiledStep`.

    Raises:
        ValueError, TypeError: an argument does not fit the others, or the backend that is named refuses; the message
            says why.

    Example:
        >>> from lstmjax import init_network
        >>> step = compile_step(init_network(jax.random.key(0), input_size=5, hidden_size=64, output_size=2))
        >>> step(np.ones(5, np.float32)).shape            # one step: [O], or [H] without a head
        (2,)
        >>> step(np.ones((10, 5), np.float32)).shape      # the next ten
        (10, 2)
        >>> h, c = step.state[0]                          # of the first layer, after eleven steps
        >>> step.reset()
    """
    parameters = parameters_of(params)
    if batch_size is not None:
        check_positive("batch_size", batch_size)
    (residual,) = as_flags(residual=residual)
    one_of("backend", backend, BACKENDS)
    for n, layer in enumerate(parameters.layers):
        if isinstance(layer, Bidirectional):
            raise ValueError(
                f"layer {n} is a Bidirectional pair, whose reverse direction begins at the last step, so that no step "
                "can be computed before it is there. Run the sequence by stacked or network, or train one direction."
            )
    dtype, params = floating(dtype), _copied("params", params)
    options = {"cell": cell, "wrappers": _without_extras(wrappers), "dtype": dtype}
    if parameters.run is not lstm:
        options["residual"] = residual
    elif residual:
        raise ValueError("residual=True is for several layers, but params is one layer. Leave it out.")
    batch = () if batch_size is None else (int(batch_size),)
    program = Program(parameters.run, tuple(options.items()), batch)
    state = None if state is None else _copied("state", state)
    requests, like = program.trace(params, state)
    if dtype is not None:
        params = cast(params, dtype)
    reason = _refusal(requests, backend)
    if backend == "native" and reason is not None:
        raise ValueError(f"backend='native' cannot run this: {reason}")
    begin = _leaves(params, state, like)
    steps: Steps
    if reason is None:
        steps = native_stream.NativeSteps(_packed(params, residual), batch)
        steps.set(begin)
    else:
        steps = JaxSteps(program, params, tree_of(like), begin)
    return CompiledStep(steps, program, as_shapes(params), like, begin, reason)


class CompiledStep:
    """A network that runs one step at a time, as `compile_step` returns it.

    Calling it runs the next step: `y = step(x)`, with x `[I]` or, with a batch, `[B, I]`. An axis of time before the
    features makes it several steps, `[n, I]` or `[B, n, I]`, as that many calls would run them. y is a new array of
    NumPy, `[..., O]` of a network with a head, `[..., P]` of layers.

    Threads may use objects of their own at once; if they use the same, one waits for the other.

    Attributes:
        backend: "native", the kernel, or "jax", a compiled program of JAX.
        reason: why it is not the kernel; None if it is.
    """

    def __init__(
        self, steps: Steps, program: Program, params: PyTree, like: PyTree, begin: list[np.ndarray], reason: str | None
    ) -> None:
        self.backend = "native" if reason is None else "jax"
        self.reason = reason
        self._steps, self._program, self._params, self._like, self._begin = steps, program, params, like, begin
        first: Any = parameters_of(params).layers[0]
        self._layer, self._shape = first, (*program.batch, first.input_size)
        self._dtype, self._tree = np.dtype(first.w_x.dtype), tree_of(like)
        self._one = steps.one

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Run the next step, or several.

        Args:
            x: `[I]` or `[B, I]`, or with an axis of time, `[n, I]` or `[B, n, I]`; of NumPy or JAX, in the dtype of the
                parameters, or of any dtype of real numbers if `dtype` was passed to `compile_step`.

        Returns:
            The outputs of the step, or of each of the steps.

        Raises:
            ValueError, TypeError: x does not fit; the state is as it was.
        """
        if type(x) is np.ndarray and x.shape == self._shape and x.dtype == self._dtype:
            return self._one(x)
        array = self._checked(x)
        return self._one(array) if array.ndim == len(self._shape) else self._steps.several(array)

    def _checked(self, x: Any) -> np.ndarray:
        """Return inputs as an array in the dtype of the parameters, or refuse them."""
        if isinstance(x, jax.core.Tracer):
            raise TypeError(
                "x is traced, but a compiled step runs outside of JAX's transformations, on the numbers of an array. "
                "Inside of jax.jit, grad or vmap call cell_step, lstm or network."
            )
        array = as_array("x", x)
        shape = input_shape(array, dict(self._program.options)["dtype"])
        batch = self._program.batch
        layout = "[B, I]" if batch else "[I]"
        checks.check_features("x", shape, self._layer, layout)
        if array.ndim not in (len(batch) + 1, len(batch) + 2) or array.shape[: len(batch)] != batch:
            several = "[B, n, I]" if batch else "[n, I]"
            made = f"batch_size={batch[0]}" if batch else "batch_size=None"
            raise ValueError(
                f"x has shape {array.shape}, expected {layout} = {self._shape}, or {several} for n steps. The step was "
                f"compiled with {made}; pass another to compile_step for another batch."
            )
        return np.asarray(array, self._dtype)

    @property
    def state(self) -> PyTree:
        """The state after the last step, as `lstm`, `stacked` or `network` return it, in arrays of NumPy: a copy.

        It can be set, to go on from another one.
        """
        return self._tree.unflatten(self._steps.get())

    @state.setter
    def state(self, state: PyTree) -> None:
        if state is None:
            raise TypeError("state is None, expected a state such as step.state. To begin again: step.reset().")
        same = tree_of(state) == self._tree
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(self._like), strict=True) if same else ()
        if not same or any(type(a) is not np.ndarray or a.shape != z.shape or a.dtype != z.dtype for a, z in pairs):
            state = _copied("state", state)
            self._program.trace(self._params, state)  # refuses one that does not fit
        self._steps.set(_leaves(self._params, state, self._like))

    def reset(self, where: ArrayLike | None = None) -> None:
        """Return to the state that the step began in.

        Args:
            where: which sequences of the batch, bool `[B]`; None: all of them.
        """
        if where is None:
            self._steps.set(self._begin)
            return
        flags = np.asarray(as_array("where", where))
        if flags.shape != self._program.batch or flags.dtype != np.bool_ or not self._program.batch:
            expected = f"bool [B] = {self._program.batch}" if self._program.batch else "None, since there is no batch"
            raise ValueError(f"where has shape {flags.shape} and dtype {flags.dtype}, expected {expected}.")
        pairs = zip(self._begin, self._steps.get(), strict=True)
        self._steps.set([np.where(flags[:, None], begin, now) for begin, now in pairs])

    def copy(self) -> CompiledStep:
        """Return another one with the same weights, which are shared, and a state of its own, the present one."""
        other = object.__new__(CompiledStep)
        other.__dict__ |= self.__dict__ | {"_steps": self._steps.copy()}
        other._one = other._steps.one
        return other

    def __copy__(self) -> CompiledStep:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> CompiledStep:
        return self.copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a compiled step cannot be pickled. Pickle its params and its state, and compile it again.")

    def __repr__(self) -> str:
        batch = f", batch_size={self._program.batch[0]}" if self._program.batch else ""
        why = "" if self.reason is None else f": {self.reason}"
        return f"<CompiledStep of {kind(self._params).split(' ', 1)[1]}{batch}, backend {self.backend}{why}>"


@dataclasses.dataclass(frozen=True)
class Program:
    """The call of the library that some steps stand for; compiled code is kept by it."""

    run: Callable  # `lstm`, `stacked` or `network`
    options: tuple[tuple[str, Any], ...]
    batch: tuple[int, ...]

    def __call__(self, params: PyTree, xs: Array, state: PyTree, backend: Chooser = "auto") -> tuple[PyTree, Array]:
        """Run steps `[..., n, I]` from a state; return the state after them and all outputs."""
        return self.run(params, xs, state, return_sequences=True, backend=backend, **dict(self.options))

    def trace(self, params: PyTree, state: PyTree) -> tuple[list[Request], PyTree]:
        """Check everything by shapes; return what each layer asks of a backend, and the shapes of the state."""
        requests: list[Request] = []

        def note(request: Request) -> str:
            requests.append(request)
            return "scan"

        first: Any = parameters_of(params).layers[0]
        xs = jax.ShapeDtypeStruct((*self.batch, 1, jnp.shape(first.w_x)[-3]), first.w_x.dtype)
        like, _ = jax.eval_shape(partial(self, backend=note), params, xs, state)
        return requests, like


class JaxSteps:
    """The steps as a compiled program of JAX, with the methods of `Steps`."""

    def __init__(self, program: Program, params: PyTree, tree: Any, leaves: Sequence[np.ndarray]) -> None:
        self.program, self.params, self.tree, self.lock = program, params, tree, threading.Lock()
        self.state: PyTree
        self.set(leaves)
        first: Any = parameters_of(params).layers[0]
        self.one(np.zeros((*program.batch, first.input_size), first.w_x.dtype))  # compiles
        self.set(leaves)

    def one(self, x: np.ndarray) -> np.ndarray:
        """Run one step; return the outputs `[..., O]`."""
        return self.several(x[..., None, :])[..., 0, :]

    def several(self, xs: np.ndarray) -> np.ndarray:
        """Run the steps of inputs `[..., n, I]`; return the outputs `[..., n, O]`."""
        with self.lock:
            self.state, ys = _advance(self.params, self.state, xs, program=self.program)
        return np.array(ys)

    def get(self) -> list[np.ndarray]:
        """Return copies of the leaves of the state."""
        with self.lock:
            return [np.array(leaf) for leaf in jax.tree.leaves(self.state)]

    def set(self, leaves: Sequence[np.ndarray]) -> None:
        """Set them."""
        state = self.tree.unflatten([jnp.array(leaf, copy=True) for leaf in leaves])
        with self.lock:
            self.state = state

    def copy(self) -> JaxSteps:
        """Return another one with the same parameters, in the same state."""
        return JaxSteps(self.program, self.params, self.tree, self.get())


@partial(jax.jit, static_argnames="program", donate_argnums=1)
def _advance(params: PyTree, state: PyTree, xs: Array, *, program: Program) -> tuple[PyTree, Array]:
    return program(params, xs, state)


def tree_of(tree: PyTree) -> Any:
    """Return the structure of a tree."""
    return jax.tree.structure(tree)


def _copied(name: str, tree: PyTree) -> PyTree:
    """Return a tree with its leaves as arrays that nobody else has."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                f"{name} is traced, but a step is compiled outside of JAX's transformations. Inside of jax.jit, grad "
                "or vmap call cell_step, lstm or network."
            )
    return jax.tree.map(lambda a: jnp.array(a, copy=True), as_arrays(name, tree))


def _without_extras(wrappers: Any) -> Any:
    """Return the wrappers as a tuple; refuse those that bring their extras, which are those of a sequence."""
    if not isinstance(wrappers, tuple | list):
        return wrappers  # refused by `lstm`
    for wrapper in wrappers:
        if isinstance(wrapper, tuple):
            raise ValueError(
                f"wrappers holds {kind(wrapper)}, expected wrappers alone: what a wrapper brings with it is for the "
                "steps of one sequence."
            )
    return tuple(wrappers)


def _leaves(params: PyTree, state: PyTree, like: PyTree) -> list[np.ndarray]:
    """Return the leaves of a state that fits, on the batch and in the dtypes of `like`; None stands for zeros."""
    parameters = parameters_of(params)
    if state is None:
        states: Any = (None,) * len(parameters.layers)
    else:
        states = (state,) if parameters.run is lstm else as_states(parameters.layers, "state", state)
    likes = (like,) if parameters.run is lstm else like
    leaves = []
    for entry, shapes in zip(states, likes, strict=True):
        for n, z in enumerate(shapes):
            value = np.zeros((), z.dtype) if entry is None else np.asarray(entry[n]).astype(z.dtype)
            leaves.append(np.array(np.broadcast_to(value, z.shape)))
    return leaves


def _refusal(requests: Sequence[Request], backend: str) -> str | None:
    """Return the reason why the kernel does not run the steps of these layers, or None."""
    if backend == "jax":
        return "backend='jax' was passed."
    for request in requests:
        if backend == "native":  # it computes on the host, wherever JAX does
            request = dataclasses.replace(request, platform="cpu")
        reason = native.refuses(request, INSTEAD)
        if reason is not None:
            return reason
    functions = native_stream.functions()
    if isinstance(functions, str):
        return f"{functions} Or pass {INSTEAD}."
    return native.DEBUGGING if backend == "auto" and native.debugging() else None


def _packed(params: PyTree, residual: bool) -> native_stream.Packed:
    parameters = parameters_of(params)
    layers = []
    for layer in parameters.layers:
        assert isinstance(layer, LSTMParams)
        biases = [np.asarray(b) for b in (layer.b, layer.b_h) if b is not None]
        b = sum(biases, start=np.zeros(layer.w_x.shape[1:], np.float32))
        layers.append((np.asarray(layer.w_x), np.asarray(layer.w_h), b))
    head = () if parameters.head is None else tuple(np.asarray(a) for a in parameters.head)
    return native_stream.pack(layers, head, residual)
