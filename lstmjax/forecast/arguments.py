"""Arguments of forecasting: read as arrays and whole numbers, or refused by their name. JAX is not called here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.arguments import as_flags, as_whole, check_function, check_real, described


def as_numbers(name: str, value: Any) -> np.ndarray:
    """Return numbers in float64; what is None among them is missing, NaN."""
    try:
        array = np.asarray(value)
        # NumPy would drop the imaginary part, and take dates and text for numbers
        if value is not None and array.dtype.kind not in "cmMSU":
            return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):  # also of lists within it that differ in length
        pass
    raise TypeError(f"{name} is {described(value)}, expected an array of numbers, NaN where one is missing.")


def as_array(name: str, value: Any) -> np.ndarray:
    """Return an array as it is, of whatever dtype."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} is {described(value)} whose parts differ in length, expected an array.") from None


def array_or_objects(value: Any) -> np.ndarray:
    """Return an array; an empty one of objects `[0, 0]` where lists within the value differ in length."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.zeros((0, 0), object)


def as_whole_numbers(name: str, value: Any, of: str) -> np.ndarray:
    """Return whole numbers, int64 `[N]`; `of` says in words what they are."""
    array = array_or_objects(value)
    if array.ndim == 1 and len(array) == 0:
        return np.zeros(0, np.int64)
    if array.dtype.kind == "b":
        raise ValueError(f"{name} has the dtype bool, expected whole numbers: {of}. Pass np.flatnonzero({name}).")
    if array.dtype.kind not in "iu" or array.ndim != 1:
        what = described(value) if array.dtype.kind == "O" else f"an array of shape {array.shape} and {array.dtype}"
        raise ValueError(f"{name} is {what}, expected whole numbers [N]: {of}.")
    return array.astype(np.int64)


def as_which(which: Any, count: int) -> np.ndarray:
    """Return numbers of series, int64 `[N]`; refuse none at all, and those that no series has."""
    numbers = as_whole_numbers("which", which, "the series to forecast")
    if not len(numbers):
        raise ValueError("which is empty, expected the number of a series at least. None stands for all of them.")
    outside = (numbers < 0) | (numbers >= count)
    if outside.any():
        raise ValueError(
            f"which has {numbers[outside][0]}, expected whole numbers from 0 to {count - 1}: there are {count} series."
        )
    return numbers


def as_seed(name: str, value: Any) -> int:
    """Return a seed; refuse what is no whole number of 32 bits, of which a random key would take the last ones."""
    seed = as_whole(name, value)
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value}, expected a whole number, such as 0.")
    if not -(2**31) <= seed < 2**32:
        raise ValueError(f"{name} is {seed}, expected a whole number of 32 bits: from {-(2**31)} to {2**32 - 1}.")
    return seed


def as_seeds(value: Any) -> tuple[int, ...]:
    """Return different seeds, one at least."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"seeds is {described(value)}, expected a whole number for each network, such as range(5).")
    seeds = tuple(as_seed(f"seeds[{k}]", seed) for k, seed in enumerate(value))
    if not seeds:
        raise ValueError("seeds is empty, expected a whole number for each network.")
    if len({seed % 2**32 for seed in seeds}) < len(seeds):
        raise ValueError(
            f"seeds is {seeds}, expected different ones: networks of one seed are the same. Pass range({len(seeds)})."
        )
    return seeds


def as_flag(name: str, value: Any) -> bool:
    """Return True or False; refuse what is neither."""
    (flag,) = as_flags(**{name: value})
    if flag is None:
        raise TypeError(f"{name} is None, expected True or False.")
    return flag


def as_path(name: str, value: Any) -> Path:
    """Return a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {described(value)}, expected the path of a file or a folder.")
    return Path(value)


def as_levels(name: str, value: Any) -> np.ndarray:
    """Return levels of quantiles, float64 `[Q]`."""
    levels = as_numbers(name, value)
    if levels.ndim != 1 or not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"{name} is {value!r}, expected levels [Q] from 0 to 1, such as [0.1, 0.5, 0.9].")
    return levels


def check_is(name: str, value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Refuse what is not of a kind; None is refused, too."""
    if not isinstance(value, kind):
        kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"{name} is {described(value)}, expected {kinds}. {remedy}")


def check_steps(name: str, value: Any) -> None:
    """Refuse a number of steps that is not whole, or below 0."""
    if as_whole(name, value) < 0:
        raise ValueError(f"{name} is {value}, expected a whole number of at least 0.")


def check_factor(name: str, value: Any) -> None:
    """Refuse a factor of the spread that is no finite number above 0."""
    check_real(
        name, value, lambda factor: 0.0 < factor < np.inf, "a finite number above 0; 1 leaves samples as they are"
    )


def check_share(name: str, value: Any) -> None:
    """Refuse a share of targets that an interval cannot cover."""
    check_real(name, value, lambda share: 0.0 < share < 1.0, "a share above 0 and below 1, such as 0.8")


def check_mapping(name: str, value: object, of: str) -> None:
    """Refuse what is no dict; `of` says in words what it holds."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {described(value)}, expected a dict with {of}.")


def check_column(name: str, value: object) -> None:
    """Refuse what is no name of a column."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {described(value)}, expected the name of a column.")


def listed(value: Any) -> Any:
    """Return what an iterator yields as a list, and any other value as it is."""
    return list(value) if isinstance(value, Iterator) else value


def has_entries(value: object) -> bool:
    """Return whether a value is a list, a tuple, an array or the like, and no text."""
    return (
        hasattr(value, "__len__")
        and hasattr(value, "__iter__")
        and not isinstance(value, str | bytes | Mapping)
        and getattr(value, "shape", None) != ()
    )


def as_names(name: str, value: Any) -> tuple[str, ...]:
    """Return names, of a list or of whatever else has them; refuse a single name, or nothing, in the place of them."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        hint = f": [{value!r}]" if isinstance(value, str) else ", such as [] for none"
        raise TypeError(f"{name} is {described(value)}, expected a list of names{hint}.")
    names = tuple(value)
    for k, entry in enumerate(names):
        check_column(f"{name}[{k}]", entry)
    return names


def check_called(name: str, value: Callable | None, signature: str) -> None:
    """Refuse what is neither None nor a function."""
    if value is not None:
        check_function(name, value, signature)
