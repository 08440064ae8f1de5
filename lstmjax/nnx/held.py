"""How an NNX module holds the functional parameters: one `nnx.Param` for each array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from flax import nnx as flax_nnx

from lstmjax.arguments import check_floating, check_positive
from lstmjax.types import Array

if TYPE_CHECKING:
    from jax.typing import DTypeLike

Rngs = flax_nnx.Rngs | flax_nnx.RngStream | Array
"""Sources of a key: `nnx.Rngs` (its stream "dropout"), a stream, or a key itself."""

M = TypeVar("M", bound="Held")


class Held(flax_nnx.Module):
    """A module with a NamedTuple of parameters as attributes, under the names of its fields.

    An array becomes an `nnx.Param`, a NamedTuple a `Held`, a tuple an `nnx.List`, and None stays None.
    A single Param around the NamedTuple would not survive the second `nnx.Optimizer.update`.
    """

    def __init__(self, params: Any) -> None:
        self.kind = type(params)
        for name, value in zip(params._fields, params, strict=True):
            setattr(self, name, _hold(value))

    def held(self) -> Any:
        """Return the NamedTuple, with the arrays themselves."""
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
    """Return a module of class `cls` that holds `params`, without drawing as its constructor does."""
    module = cls.__new__(cls)
    module.__setstate__(Held(params).__getstate__())  # as unpickling does
    return module


def check_sizes(param_dtype: DTypeLike, **sizes: int) -> None:
    """Refuse sizes that are not positive, under the names of Flax, and a param_dtype that is not floating-point."""
    for name, size in sizes.items():
        check_positive(name, size)
    check_floating("param_dtype", param_dtype)
