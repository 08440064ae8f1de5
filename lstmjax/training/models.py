"""Models of any kind as parameters and functions: functional parameters, NNX modules, linen modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.training.step import Objective
from lstmjax.types import Array, PyTree

Loss = Callable[[Any, Any, Array], Any]
"""loss(model, batch, key) -> a scalar, or (a scalar, a dict of scalars to report)."""


class Parted(NamedTuple):
    """A model as what is learned, what else it carries, and how the two make a model again."""

    params: PyTree
    carried: PyTree | None  # what is not learned and may change in a step: running means, random keys; None: nothing
    join: Callable[[PyTree, PyTree, Array | None], Any]  # (params, carried, key) -> what the loss takes as its model
    carried_of: Callable[[Any], PyTree]  # the carried of such a model after the loss has called it
    joined: Callable[[PyTree, PyTree], Any]  # (params, carried) -> the model in the form in which the user passed it


def parted(model: Any) -> Parted:
    """Return the parts of a model.

    Args:
        model: a pytree of parameters; an `nnx.Module`, whose `nnx.Param` are learned; or a pair of a linen module and
            its variables, whose collection "params" is learned.
    """
    nnx, linen = sys.modules.get("flax.nnx"), sys.modules.get("flax.linen")  # a model of theirs has loaded them
    if nnx is not None and isinstance(model, nnx.Module):
        return _nnx(model, nnx)
    if linen is not None and isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], linen.Module):
        return _linen(*model)
    leaves = jax.tree.leaves(model)
    if not leaves or not all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves):
        raise TypeError(
            f"model is a {type(model).__name__}, expected a pytree of real parameters, an nnx.Module, or a pair of a "
            "linen module and its variables."
        )
    return identity(model)


def identity(params: PyTree) -> Parted:
    """Return the parts of a pytree of parameters, which is its own model."""
    return Parted(params, None, lambda params, carried, key: params, lambda bound: None, lambda params, carried: params)


def _nnx(model: Any, nnx: Any) -> Parted:
    graph, params, carried = nnx.split(model, nnx.Param, ...)

    def join(params: PyTree, carried: PyTree, key: Array | None) -> Any:
        return nnx.merge(graph, params, carried, copy=True)  # variables of its own, which the loss may change

    def carried_of(bound: Any) -> PyTree:
        return nnx.split(bound, nnx.Param, ...)[2]

    return Parted(params, carried, join, carried_of, lambda params, carried: nnx.merge(graph, params, carried))


def _linen(module: Any, variables: Mapping[str, Any]) -> Parted:
    if "params" not in variables:
        raise ValueError(
            f"model is a linen module with the collections {', '.join(variables)}, expected 'params' among them; pass "
            "(module, module.init(key, xs))."
        )
    carried = {name: tree for name, tree in variables.items() if name != "params"}

    def join(params: PyTree, carried: PyTree, key: Array | None) -> Any:
        rngs = None if key is None else {"dropout": key, "params": key}
        return module.bind({"params": params, **carried}, rngs=rngs, mutable=list(carried) or False)

    def carried_of(bound: Any) -> PyTree:
        return {name: bound.variables[name] for name in carried}

    return Parted(variables["params"], carried, join, carried_of, lambda params, carried: {"params": params, **carried})


def objective_of(loss: Loss, model: Parted) -> Objective:
    """Return the objective that `make_train_step` takes, of a loss of a model and a batch.

    Its sums are the loss and the scalars that the loss reports, and "batches", the number of batches.
    """

    def objective(params: PyTree, carried: PyTree, batch: Any, key: Array) -> tuple[Array, tuple[PyTree, PyTree]]:
        bound = model.join(params, carried, key)
        returned = loss(bound, batch, key)
        value, more = returned if isinstance(returned, tuple) else (returned, MappingProxyType({}))
        if not isinstance(more, Mapping):
            raise TypeError(
                f"loss returns a {type(more).__name__} beside its scalar, expected a dict of scalars to report."
            )
        numbers = {"loss": value, **more}
        for name, number in numbers.items():
            if jnp.shape(number) != ():
                raise ValueError(
                    f"loss returns {name} of shape {jnp.shape(number)}, expected a scalar; take the mean of the batch."
                )
        sums = {name: jnp.asarray(number, jnp.float32) for name, number in numbers.items()}
        return value, (sums | {"batches": jnp.ones((), jnp.float32)}, model.carried_of(bound))

    return objective


def means_of(sums: Mapping[str, Array]) -> dict[str, float]:
    """Return the means over batches of the sums of an `objective_of`."""
    count = float(sums["batches"])
    return {name: float(total) / count if count else float("nan") for name, total in sums.items() if name != "batches"}
