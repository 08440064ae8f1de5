"""How an NNX module holds the functional parameters: one `nnx.Param` for each array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from flax import nnx as flax_nnx

from lstmjax.arguments import check_floating, check_positive
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import DTypeLike

Rngs = flax_nnx.Rngs | flax_nnx.RngStream | Array
"""What keys come from: `nnx.Rngs` (its stream "dropout"), one stream, or one key as it stands."""

M = TypeVar("M", bound="Held")


class Held(flax_nnx.Module):
    """Holds a NamedTuple of parameters under the names of its fields.

    An array becomes an `nnx.Param`, a NamedTuple a `Held`, a tuple an `nnx.List`; None holds
    nothing. One Param around a whole NamedTuple would not survive the second `nnx.Optimizer.update`.
    """

    def __init__(self, params: Any) -> None:
        self.kind = type(params)
        for name, value in zip(params._fields, params, strict=True):
            setattr(self, name, _hold(value))

    def held(self) -> Any:
        """Gives the NamedTuple back, of the arrays themselves."""
        return self.kind(*(_release(getattr(self, name)) for name in self.kind._fields))


def _hold(value: Any) -> Any:
    if isinstance(value, tuple):
        return Held(value) if hasattr(value, "_fields") else flax_nnx.List([_hold(part) for part in value])
    return None if value is None else flax_nnx.Param(value)


def _release(value: Any) -> Any:
    if isinstance(value, flax_nnx.List):
        return tuple(_release(part) for part in value)
    if isinstance(value, Held):
        return value.held()
    return None if value is None else value.get_value()


def holding(cls: type[M], params: Any) -> M:
    """Gives a module of class `cls` that holds `params`, without the draws of its constructor."""
    module = cls.__new__(cls)
    module.__setstate__(Held(params).__getstate__())  # as unpickling does
    return module


def check_sizes(param_dtype: DTypeLike, **sizes: int) -> None:
    """Refuses, by the names that Flax gives them, what the functions know under others."""
    for name, size in sizes.items():
        check_positive(name, size)
    check_floating("param_dtype", param_dtype)
