"""A call of the native kernel on arrays whose batch or networks are split over devices: each device runs its part.

Without this, the compiler would gather the arrays on every device. Inside `jax.shard_map` it is not needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from lstmjax.types import Array

SPLIT = "nb"
"""The axes that may be split: networks and rows."""


def split(
    run: Callable[..., tuple[Array, ...]], axes: Sequence[str], result_axes: Sequence[str], arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """Run a call on arrays that the compiler may split over devices.

    Args:
        run: the call, as a function of its arrays.
        axes: the axes of the arrays, a letter each.
        result_axes: the axes of the results. A result without "b" is a sum over rows.
        arrays: the arrays; one with a single axis is absent.
    """
    from jax.experimental.custom_partitioning import custom_partitioning

    results = jax.eval_shape(run, *arrays)
    inside, outside = _existing(axes, arrays), _existing(result_axes, results)

    def partition(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]) -> tuple:
        del results
        where: dict[str, Any] = {}
        for letters, argument in zip(inside, arguments, strict=True):
            for letter, name in zip(letters, argument.sharding.spec, strict=False):
                if letter in SPLIT and name is not None:
                    where.setdefault(letter, name)

        def sharding(letters: str) -> NamedSharding:
            return NamedSharding(mesh, PartitionSpec(*(where.get(letter) for letter in letters)))

        def run_part(*arrays: Array) -> tuple[Array, ...]:
            outputs = run(*arrays)
            if "b" not in where:
                return outputs
            return tuple(
                jax.lax.psum(a, where["b"]) if letters and "b" not in letters else a
                for a, letters in zip(outputs, outside, strict=True)
            )

        return mesh, run_part, tuple(map(sharding, outside)), tuple(map(sharding, inside))

    words = [" ".join(letters) or f"absent{n}" for n, letters in enumerate((*inside, *outside))]
    in_order = dict.fromkeys(factor for word in words for factor in word.split())  # as Shardy wants them
    splittable = custom_partitioning(run)
    splittable.def_partition(
        partition,
        sharding_rule=f"{', '.join(words[: len(inside)])} -> {', '.join(words[len(inside) :])}",
        need_replication_factors=tuple(factor for factor in in_order if factor not in SPLIT),
    )
    return splittable(*arrays)


def is_split() -> bool:
    """Return whether a call is one that the compiler may split: there are several devices, outside of `shard_map`."""
    return jax.local_device_count("cpu") > 1 and not jax.sharding.get_abstract_mesh().manual_axes


@functools.cache
def jaxpr() -> Any:
    """Return the jaxpr of an array that may be split.

    JAX gives a program its devices while it lowers it only where it sees such a primitive in an equation, or in the
    jaxprs among an equation's parameters. The backward call is bound where neither shows it, in `linear`.
    """

    def shared(a: Array) -> tuple[Array, ...]:
        return split(lambda a: (a,), ["ij"], ["ij"], [a])

    return jax.make_jaxpr(shared)(jax.ShapeDtypeStruct((1, 1), "float32"))


def _existing(axes: Sequence[str], arrays: Sequence[Any]) -> list[str]:
    """Return the axes of each array; none for an absent one."""
    return [letters if a.ndim > 1 else "" for letters, a in zip(axes, arrays, strict=True)]
