"""Steps of a network in the native kernel, called by ctypes: weights packed once, no XLA, one thread.

A call of a program of XLA costs tens of microseconds, and packing the weights for the kernel as many; a call of these
functions costs about two. They run the same tile as `native_call`, so that a step has the bits of a sequence.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmjax.backends import native_library

BRIEF = 2_000_000
"""Multiplications up to which a call keeps Python's lock, about 100 µs.

A thread that gives the lock up for a short call waits for other threads to give it back, up to 5 ms."""


class Functions(NamedTuple):
    """The functions of native/stream.h."""

    network_new: Any
    network_free: Any
    stream_new: Any
    stream_free: Any
    run: Any  # with Python's lock
    state: Any
    run_without_lock: Any


@functools.cache
def functions() -> Functions | str:
    """Return the functions of the library, or the reason why there are none."""
    library = native_library.load()
    if library.reason is not None:
        return library.reason
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    arguments = {
        "network_new": (size, size, pointer, size, flag, pointer, pointer, pointer),
        "network_free": (pointer,),
        "stream_new": (pointer, size, pointer),
        "stream_free": (pointer,),
        "stream_run": (pointer, size, pointer, size, pointer, size),
        "stream_state": (pointer, flag, pointer, size),
    }
    unlocked, locked = ctypes.CDLL(str(library.path)), ctypes.PyDLL(str(library.path))

    def function(name: str, load: Any = locked) -> Any:
        symbol = getattr(load, f"lstmjax_{name}")
        symbol.argtypes, symbol.restype = arguments[name], ctypes.c_char_p
        return symbol

    try:
        loaded = [
            *(function(name) for name in arguments),
            function("stream_run", unlocked),
        ]  # in the order of the fields
    except AttributeError as error:
        return f"the native kernel is older than this lstmjax: {library.path}: {error}. {native_library.REBUILD}"
    return Functions(*loaded)


def _checked(error: bytes | None) -> None:
    if error is not None:
        raise RuntimeError(f"the native kernel refuses a call of lstmjax: {error.decode()}; please report it.")


class Handle:
    """A pointer to what the library has made; it is freed with this object."""

    def __init__(self, make: Any, free: Any, *arguments: Any) -> None:
        pointer = ctypes.c_void_p()
        _checked(make(*arguments, ctypes.byref(pointer)))
        self.pointer = pointer
        weakref.finalize(self, free, pointer.value)


class Packed(NamedTuple):
    """A network with its weights packed, which is never changed: streams in several threads may share it."""

    handle: Handle
    inputs: int
    hidden: tuple[int, ...]
    outputs: int  # O of the head, or H of the last layer
    work: int  # multiplications of a step of one sequence


def pack(
    layers: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], head: Sequence[np.ndarray], residual: bool
) -> Packed:
    """Pack the weights of layers from the bottom up, and of a dense layer above them.

    Args:
        layers: of each w_x `[I, 4, H]`, w_h `[H, 4, H]` and b `[4, H]`, float32.
        head: w `[H, O]` and b `[O]`, or nothing.
        residual: what enters a layer is added to its outputs, from the second layer on.
    """
    library = functions()
    assert isinstance(library, Functions), library
    arrays = [np.ascontiguousarray(a, np.float32) for a in (*(a for layer in layers for a in layer), *head)]
    inputs, hidden = layers[0][0].shape[0], tuple(layer[1].shape[0] for layer in layers)
    outputs = head[1].shape[0] if head else 0
    handle = Handle(
        library.network_new,
        library.network_free,
        inputs,
        len(layers),
        (ctypes.c_int64 * len(layers))(*hidden),
        outputs,
        residual,
        (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)),
        (ctypes.c_int64 * len(arrays))(*(a.size for a in arrays)),
    )
    return Packed(handle, inputs, hidden, outputs or hidden[-1], sum(a.size for a in arrays))


class NativeSteps:
    """The steps of a batch of sequences; it has the methods of `streaming.Steps`. Threads take turns."""

    def __init__(self, packed: Packed, batch: tuple[int, ...]) -> None:
        library = functions()
        assert isinstance(library, Functions), library
        rows = int(np.prod(batch))
        self.packed, self.batch, self.rows, self.library = packed, batch, rows, library
        self.stream = Handle(library.stream_new, library.stream_free, packed.handle.pointer, rows)
        self.lock = threading.Lock()
        # One step goes through arrays whose addresses are known: to ask NumPy for an address costs a microsecond.
        self.x, self.y = (np.zeros((*batch, n), np.float32) for n in (packed.inputs, packed.outputs))
        self.once = self._function(1)
        self.arguments = self._arguments(1, self.x, self.y)

    def _function(self, steps: int) -> Any:
        brief = self.packed.work * self.rows * steps <= BRIEF
        return self.library.run if brief else self.library.run_without_lock

    def _arguments(self, steps: int, xs: np.ndarray, ys: np.ndarray) -> tuple:
        size, pointer = ctypes.c_int64, ctypes.c_void_p
        arrays = (pointer(xs.ctypes.data), size(xs.size), pointer(ys.ctypes.data), size(ys.size))
        return self.stream.pointer, size(steps), *arrays

    def one(self, x: np.ndarray) -> np.ndarray:
        """Run one step on float32 inputs of the shape of `self.x`; return the outputs `[..., O]`."""
        with self.lock:
            self.x[...] = x
            error = self.once(*self.arguments)
            y = self.y.copy()
        if error is not None:
            _checked(error)
        return y

    def several(self, xs: np.ndarray) -> np.ndarray:
        """Run the steps of float32 inputs `[..., n, I]`; return the outputs `[..., n, O]`."""
        xs = np.ascontiguousarray(xs)
        ys = np.empty((*xs.shape[:-1], self.packed.outputs), np.float32)
        with self.lock:
            _checked(self._function(xs.shape[-2])(*self._arguments(xs.shape[-2], xs, ys)))
        return ys

    def get(self) -> list[np.ndarray]:
        """Return copies of h and c `[..., H]` of each layer."""
        flat = np.empty(self.rows * 2 * sum(self.packed.hidden), np.float32)
        with self.lock:
            _checked(self.library.state(self.stream.pointer, 0, flat.ctypes.data, flat.size))
        sizes = [self.rows * width for width in self.packed.hidden for _ in "hc"]
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return [part.reshape(*self.batch, -1) for part in parts]

    def set(self, leaves: Sequence[np.ndarray]) -> None:
        """Set h and c of each layer."""
        flat = np.concatenate([np.asarray(leaf, np.float32).reshape(-1) for leaf in leaves])
        with self.lock:
            _checked(self.library.state(self.stream.pointer, 1, flat.ctypes.data, flat.size))

    def copy(self) -> NativeSteps:
        """Return another stream through the same weights, in the same state."""
        other = NativeSteps(self.packed, self.batch)
        other.set(self.get())
        return other
