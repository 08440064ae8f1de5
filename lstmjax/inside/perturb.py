"""Perturbations: arrays added to the values of each step, with respect to which gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from lstmjax.arguments import kind
from lstmjax.inside.record import EMPTY
from lstmjax.layered import Layers
from lstmjax.stack import directions
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step
from lstmjax.wrappers import Inner

if TYPE_CHECKING:
    from jax.typing import ArrayLike


@dataclass(frozen=True)
class Perturb:
    """Add to the values of a step; its extras are (None, `Step` of arrays `[T, ..., H]`, None where nothing is added).

    It adds to a value before the step uses it, by the step's `tap`.
    """

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[None, Step]:
        return None, EMPTY

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        added = extras[1]._asdict()
        return inner(params, state, x, tap=lambda name, a: a if added[name] is None else a + added[name])


def perturbed(run: Callable[..., tuple[PyTree, PyTree]], perturbations: Sequence[Step]) -> Callable:
    """Return `run`, which is called as `lstm` is, with perturbations.

    Args:
        run: what runs one direction of one layer.
        perturbations: a `Step` of arrays for each direction, in the order in which they are run, with time on the axis
            that it has in xs. The function that comes back is for one pass through the layers.
    """
    remaining = iter(perturbations)

    def run_perturbed(
        params: LSTMParams, xs: ArrayLike, state: PyTree | None = None, *, wrappers: tuple = (), **options: Any
    ) -> tuple[PyTree, PyTree]:
        scanned = time_first(next(remaining), params, xs, options["time_major"])
        return run(params, xs, state, wrappers=(*wrappers, (Perturb(), (None, scanned))), **options)

    return run_perturbed


def in_order(perturb: Any, layers: Layers) -> list[Step]:
    """Return the `Step` of each direction of the layers, in the order in which they are run.

    Raises:
        TypeError: perturb is not built as the layers are.
    """
    several = isinstance(perturb, tuple | list) and not isinstance(perturb, Step)
    by_layer = [layer if isinstance(layer, Bidirectional) else (layer,) for layer in perturb] if several else []
    sizes = [len(directions(layer)) for layer in layers]
    steps = [step for pair in by_layer for step in pair]
    if [len(pair) for pair in by_layer] != sizes or not all(isinstance(step, Step) for step in steps):
        raise TypeError(
            f"perturb is {kind(perturb)} that is not in the form of what trace gives: a Step for "
            "LSTMParams; for layers a tuple with a Step for each, a Bidirectional of two for a pair."
        )
    return steps


def time_first(perturbation: Step, params: LSTMParams, xs: ArrayLike, time_major: bool) -> Step:
    """Return the arrays of a `Step` with time on their first axis.

    Raises:
        ValueError: an array does not have the shape of the values that it is added to.
    """
    axis = 0 if time_major else jnp.ndim(xs) - 2
    batch = jnp.shape(xs)[:-1]
    arrays = {}
    for name, a in perturbation._asdict().items():
        if a is None:
            continue
        shape = (*batch, params.output_size if name == "h" else params.hidden_size)
        if jnp.shape(a) != shape:
            raise ValueError(f"perturb {name} has shape {jnp.shape(a)}, expected {shape}, as trace gives {name}.")
        arrays[name] = jnp.moveaxis(a, axis, 0)
    return EMPTY._replace(**arrays)
