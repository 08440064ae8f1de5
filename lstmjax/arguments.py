"""Arguments at the public boundary: read as arrays, steps, flags, functions and numbers, or refused by their name."""

from __future__ import annotations

import inspect
import math
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.types import Array, PyTree

SHOWN = 40  # letters of a value that a message shows


def as_array(name: str, value: Any) -> Array:
    """Return the value as an array; an array of JAX as it is.

    Raises:
        TypeError: it is none: None, a word, a list that holds something else than numbers.
        ValueError: lists within it differ in length, or a number is too large.

    >>> as_array("xs", [1.0, None])
    Traceback (most recent call last):
    ...
    TypeError: xs is a list that holds None, expected an array of numbers.
    """
    if isinstance(value, jax.Array):
        return value
    for part in (value, *(value if isinstance(value, list | tuple) else ())):
        _refuse_relatives(name, part)
    try:
        with jax.debug_nans(False), jax.debug_infs(False):  # which are not to see what stands in padding
            array = jnp.asarray(value)
    except OverflowError:
        raise ValueError(f"{name} holds a whole number that is too large for an array. Pass it as float.") from None
    except (TypeError, ValueError, RuntimeError):
        for leaf in _leaves(value):
            _refuse_relatives(name, leaf)
        if _is_ragged(value):
            raise ValueError(
                f"{name} is {described(value)} whose parts differ in length, expected an array. Pad them to one "
                "length, and pass lengths to say how many steps each has."
            ) from None
        raise TypeError(f"{name} is {described(value)}, expected an array of numbers.") from None
    if _is_numpy(value) and array.dtype.kind in "iu" and array.dtype != value.dtype:
        limits = jnp.iinfo(array.dtype)  # JAX would wrap around
        if value.size and not limits.min <= value.min() <= value.max() <= limits.max:
            raise ValueError(f"{name} holds a whole number that is too large for {array.dtype}. Pass it as float.")
    return array


def _refuse_relatives(name: str, value: Any) -> None:
    """Refuse what resembles an array, with the way to make one of it."""
    if hasattr(value, "mask") and hasattr(value, "filled"):
        raise TypeError(
            f"{name} is a masked array of NumPy, expected an array of numbers. Put a number where it is masked: "
            f"{name}.filled(0)."
        )
    if isinstance(value, jax.ShapeDtypeStruct):
        raise TypeError(
            f"{name} is a jax.ShapeDtypeStruct, a shape without numbers, expected an array of numbers. To compute "
            "shapes alone, call the function by jax.eval_shape."
        )
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(
            f"{name} is a tensor of PyTorch with requires_grad, expected an array of numbers. Pass {name}.detach()."
        )


def as_lengths(value: Any, steps: int) -> Array:
    """Return lengths as an array; `[]` are those of an empty batch.

    Args:
        value: the lengths, as the caller passed them.
        steps: T, for messages.

    Raises:
        ValueError: a number is too large for an array, and so for any sequence.
        TypeError: they are no array, as in `as_array`.
    """
    if isinstance(value, list | tuple) and not _leaves(value):
        return jnp.zeros(_size(value) or 0, jnp.int32)
    if _is_numpy(value):
        counts = [int(value.max()), int(value.min())] if value.size and value.dtype.kind in "iu" else []
    else:
        counts = (
            [] if isinstance(value, jax.Array) else [int(n) for n in _leaves(value) if isinstance(n, numbers.Integral)]
        )
    for count in counts:
        if not -(2**31) <= count < 2**31:
            raise ValueError(f"lengths holds {count}, expected 0 to T = {steps}, the number of steps in xs.")
    return as_array("lengths", value)


def checked_steps(
    xs: Any, lengths: Any, mask: Any, resets: Any, time_major: bool
) -> tuple[Array | None, Array | None, Array | None]:
    """Return lengths, mask and resets as arrays, checked against the shape of xs."""
    axis = 0 if time_major else xs.ndim - 2
    mask = as_step_flags("mask", mask, xs.shape[:-1], time_major)
    if lengths is not None:
        lengths = as_lengths(lengths, xs.shape[axis])
        check_lengths(lengths, xs.shape[:axis] + xs.shape[axis + 1 : -1], xs.shape[axis])
    return lengths, mask, as_step_flags("resets", resets, xs.shape[:-1], time_major)


def as_step_flags(
    name: str, value: Any, shape: tuple[int, ...], time_major: bool | None, of: str = "xs"
) -> Array | None:
    """Return a mask or resets as booleans, one for each step of xs, or refuse them; None as it is.

    `of` is the name of xs in the call; `time_major` is None where it has no time axis.
    """
    if value is None:
        return None
    value = as_array(name, value)
    if value.shape != shape:
        layout = {True: "[T, ...]", False: "[..., T]", None: "[...]"}[time_major]
        raise ValueError(
            f"{name} has shape {value.shape}, expected {layout} = {shape}: one boolean a step, on the axes of {of} "
            "without the features."
        )
    if value.dtype != jnp.bool_:
        raise ValueError(f"{name} is {value.dtype}, expected bool. Did you mean {name} > 0?")
    return value


def check_lengths(value: Any, batch: tuple[int, ...], steps: int) -> None:
    """Refuse lengths unless they are whole numbers from 0 to T, one for each sequence.

    Values are looked at where they are known while tracing.
    """
    if value.shape != batch:
        hint = " Did you pass (time, batch, features)? Then pass time_major=True." if value.shape == (steps,) else ""
        raise ValueError(
            f"lengths has shape {value.shape}, expected {batch}: one number a sequence, the batch axes of xs.{hint}"
        )
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"lengths is {value.dtype}, expected whole numbers (int32).")
    if not isinstance(value, jax.core.Tracer):  # the values are known: not under jit, grad or vmap
        if isinstance(value, jax.Array) and value.is_fully_addressable:
            value = jax.device_get(value)  # NumPy compiles nothing
        with jax.ensure_compile_time_eval():  # even while a function that closes over them is traced
            extremes = int(value.max(initial=0)), int(value.min(initial=0))
        for extreme in extremes:
            if not 0 <= extreme <= steps:
                raise ValueError(f"lengths holds {extreme}, expected 0 to T = {steps}, the number of steps in xs.")


def as_arrays(name: str, tree: PyTree) -> PyTree:
    """Return a tree with each leaf as an array; a leaf that is none is refused as in `as_array`, with its place."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree)):  # a step of an agent waits for this
        return tree
    return jax.tree_util.tree_map_with_path(lambda at, leaf: as_array(name + jax.tree_util.keystr(at), leaf), tree)


def check_arrays(name: str, tree: PyTree) -> None:
    """Refuse a tree with a leaf that is no array, nor a `jax.ShapeDtypeStruct` that stands for one."""
    for at, leaf in jax.tree.leaves_with_path(tree):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            as_array(name + jax.tree_util.keystr(at), leaf)


def as_flags(**flags: Any) -> tuple[Any, ...]:
    """Return flags as True, False or None; refuse what is none of them: words such as "no" would count as True."""
    for name, value in flags.items():
        if isinstance(value, jax.core.Tracer):
            raise TypeError(
                f"{name} is traced, expected True or False, since other programs are compiled for it. Make it a "
                "static argument of jax.jit."
            )
        if not isinstance(value, bool | int | None) and getattr(value, "shape", None) != ():
            raise TypeError(f"{name} is {described(value)}, expected True or False.")
    return tuple(None if value is None else bool(value) for value in flags.values())


def check_function(name: str, value: object, signature: str) -> None:
    """Refuse what cannot be called; `signature` is how it will be."""
    if not callable(value):
        raise TypeError(f"{name} is {described(value)}, expected a function {signature}.")


def check_number(name: str, value: Any) -> None:
    """Refuse what is no finite number; one that is traced is not known yet."""
    if isinstance(value, jax.core.Tracer) and value.shape == ():
        return
    if not _is_real(value) or not _is_finite(value):
        raise ValueError(f"{name} is {described(value)}, expected a finite number.")


def _is_real(value: Any) -> bool:
    """Return whether a value is a real number, or an array that is one."""
    if isinstance(value, numbers.Real):
        return not isinstance(value, bool)
    return _is_array(value) and value.shape == () and value.dtype.kind in "fiuV"  # V: bfloat16


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number or a fraction beyond float64
        return False


def as_units(name: str, value: Any, units: int, dtype: Any) -> Any:
    """Return a number, or an array `[H]` with one for each unit.

    Args:
        name: name of the argument, for messages.
        value: the number or the array; one that is traced is checked by its shape only.
        units: H.
        dtype: dtype in which the numbers must be finite.

    Raises:
        ValueError: it is neither, or a number is not finite in the dtype.
    """
    if not isinstance(value, numbers.Number | str | None):
        _refuse_relatives(name, value)
        value = value if _is_array(value) else as_array(name, value)
    shape: tuple[int, ...] = getattr(value, "shape", ())
    if shape == ():
        check_number(name, value)
    if isinstance(value, numbers.Real):
        value = float(value)  # a Fraction is no number to JAX
    if shape not in ((), (units,)):
        raise ValueError(f"{name} has shape {shape}, expected a number, or one for each unit, [H] = ({units},).")
    if not any(jnp.issubdtype(jnp.result_type(value), real) for real in (jnp.floating, jnp.integer)):
        raise ValueError(f"{name} is {jnp.result_type(value)}, expected real numbers.")
    if isinstance(value, jax.core.Tracer) or not getattr(value, "is_fully_addressable", True):
        return value  # its values are not known
    dtype = jnp.dtype(dtype if jnp.dtype(dtype).itemsize <= 4 else jnp.result_type(float))  # 64 bits if JAX has them
    limits = jnp.finfo(dtype)
    infinite = float(limits.max) * (1 + float(limits.eps) / 4)  # what is nearer to the largest number is rounded to it
    for at, number in enumerate([value] if shape == () else jax.device_get(value).tolist()):
        if not abs(float(number)) < infinite:  # also if it is NaN
            place = f"[{at}]" if shape else ""
            raise ValueError(f"{name}{place} is {number}, expected a number that is finite in {dtype}.")
    return value


def as_whole(name: str, value: Any) -> int:
    """Return a whole number, or refuse what is none."""
    try:
        return operator.index(value)
    except TypeError:  # also of an array of several numbers
        raise TypeError(f"{name} is {described(value)}, expected a whole number.") from None


def _is_numpy(value: object) -> bool:
    """Tell whether a value is an array or a number of NumPy, which this module does not import."""
    return hasattr(value, "__array_interface__") and not isinstance(value, jax.Array)


def _is_array(value: object) -> bool:
    """Return whether a value is an array, of JAX or of NumPy."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def described(value: Any) -> str:
    """Return what a value is, in words; of a list, what does not belong in it."""
    if value is None or isinstance(value, str | numbers.Number):
        shown = repr(value)
        return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
    if _is_array(value):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    strange = [leaf for leaf in _leaves(value) if not isinstance(leaf, numbers.Number) and not _is_array(leaf)]
    if not isinstance(value, list | tuple) or not strange:
        return kind(value)
    return f"a {type(value).__name__} that holds {described(strange[0])}"


def _leaves(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value]
    return [leaf for part in value for leaf in _leaves(part)]


def _is_ragged(value: Any) -> bool:
    """Return whether a list of numbers has lists in it that differ in length."""
    if not isinstance(value, list | tuple):
        return False
    return all(isinstance(leaf, numbers.Number) or _is_array(leaf) for leaf in _leaves(value)) and _size(value) is None


def _size(value: Any) -> tuple[int, ...] | None:
    """Return the sizes of lists within lists, or None where they differ."""
    if not isinstance(value, list | tuple):
        return tuple(value.shape) if _is_array(value) else ()
    sizes = {_size(part) for part in value}
    size = sizes.pop() if len(sizes) == 1 else None
    return None if size is None and value else (len(value), *(size or ()))


def kind(value: object) -> str:
    """Return what a value is, for messages: its type with an article; of a tuple, how much it holds.

    >>> kind(jnp.ones(3)), kind([1]), kind((1, 2, 3)), kind(None)
    ('an array', 'a list', 'a tuple of 3', 'None')
    """
    if value is None:
        return "None"
    if type(value) is tuple:
        return f"a tuple of {len(value)}"
    return "an array" if isinstance(value, jax.Array) else f"a {type(value).__name__}"


def one_of(name: str, value: object, options: Sequence[object]) -> None:
    """Refuse a value that is not one of the options."""
    if not any(value is option or (isinstance(value, type(option)) and value == option) for option in options):
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, options))}.")


def check_positive(name: str, value: Any) -> None:
    """Refuse a size that is not a whole number of at least 1."""
    try:
        size = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:  # also of an array of several numbers
        size = 0
    if size < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1.")


def check_counts(settings: object, *names: str) -> None:
    """Refuse fields of settings that are no plain whole numbers of at least 1; programs are kept by their hashes."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1.")


def check_above_0(settings: object, *names: str) -> None:
    """Refuse fields of settings that are no finite numbers above 0."""
    for name in names:
        check_real(name, getattr(settings, name), lambda number: 0.0 < number < math.inf, "a finite number above 0")


def check_real(name: str, value: Any, fits: Callable[[Any], bool], expected: str) -> None:
    """Refuse what is no real number, or one that does not fit; `expected` says in words which do."""
    if not _is_real(value) or not fits(value):
        raise ValueError(f"{name} is {described(value)}, expected {expected}.")


def check_floating(name: str, dtype: Any) -> None:
    """Refuse a dtype that is not floating-point."""
    try:
        dtype = jnp.dtype(dtype)
    except TypeError:
        dtype = repr(dtype)
    if isinstance(dtype, str) or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} is {dtype}, expected a floating-point dtype such as float32 or bfloat16.")


def check_key(name: str, key: Any) -> None:
    """Refuse anything but a random key; old-style keys, uint32 `[2]`, are accepted."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and (dtype != jnp.uint32 or jnp.ndim(key) != 1):
        raise TypeError(f"{name} is {key!r}, expected a random key: jax.random.key(0).")


def check_hashable(name: str, value: object) -> None:
    """Refuse a function that is not hashable, since compiled code is cached by it."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} holds a {type(value).__name__} that is not hashable, so that compiled code cannot be kept by "
            "it. Use a module-level function or a frozen dataclass without arrays; arrays go through params."
        ) from None


def check_rate(name: str, value: Any) -> None:
    """Refuse what is no probability; 1 is one, which leaves zeros (PyTorch, Keras and Flax take it, too)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"{name} is {value!r}, expected a probability from 0 to 1.")


def hooks(step: Callable) -> tuple[str, ...]:
    """Return which of the keywords aux, product, tap and emit a step takes, except those bound by a partial."""
    named = inspect.signature(step).parameters
    everything = any(p.kind is p.VAR_KEYWORD for p in named.values())
    bound = getattr(step, "keywords", {})
    return tuple(n for n in ("aux", "product", "tap", "emit") if (everything or n in named) and n not in bound)
