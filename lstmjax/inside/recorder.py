"""Runs the layers of a network as `lstm` does and keeps what each of them computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from lstmjax.arguments import kind
from lstmjax.inside.reduce import Reduce, check_steps, stream
from lstmjax.layer import lstm
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, as_layers, directions
from lstmjax.types import Array, Bidirectional, LSTMParams, PyTree, Step
from lstmjax.wrappers import Inner

if TYPE_CHECKING:
    from jax.typing import ArrayLike

NONE = Step(*[None] * len(Step._fields))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Only:
    """Gives a `Step` that has the named fields only."""

    fields: tuple[str, ...]

    def __call__(self, step: Step) -> Step:
        check_steps(step)
        return NONE._replace(**{name: getattr(step, name) for name in self.fields})


@dataclass(frozen=True)
class Perturb:
    """Adds to what a step computes: handed (None, a `Step` of arrays `[T, ..., H]`, None where nothing is added)."""

    def draw(self, key: Array | None, steps: int, state: PyTree, x: Any) -> tuple[None, Step]:
        return None, NONE

    def __call__(self, inner: Inner, params: PyTree, state: PyTree, x: Array, extras: Any) -> tuple[PyTree, PyTree]:
        added = extras[1]._asdict()
        return inner(params, state, x, tap=lambda name, a: a if added[name] is None else a + added[name])


class Recorder:
    """What `stacked` and `network` run in place of `lstm`; `found` has an entry for each direction that was run.

    One for each call, since it fills as it runs.
    """

    def __init__(
        self,
        fields: tuple[str, ...],
        reduce: Reduce | Callable[[Step], PyTree] | None,
        perturb: PyTree | None,
        params: LSTMParams | Layers | NetworkParams,
    ):
        self.found: list[PyTree] = []
        self._fields, self._single = fields, isinstance(params, LSTMParams)
        self._reduce = reduce if reduce is None or isinstance(reduce, Reduce) else Reduce(reduce)
        layers = params.layers if isinstance(params, NetworkParams) else params
        self._layers = as_layers((params,) if self._single else layers)
        self._added = None if perturb is None else self._flat((perturb,) if self._single else perturb)
        if self._reduce is not None and perturb is not None:
            raise ValueError(
                "perturb is for the values of every step, and reduce does not keep them. Pass one of the two."
            )

    def __call__(
        self,
        params: LSTMParams,
        xs: ArrayLike,
        state: PyTree | None = None,
        *,
        wrappers: tuple = (),
        return_sequences: bool = True,
        emit: str = "h",
        padding: str = "zero",
        **options: Any,
    ) -> tuple[PyTree, Any]:
        """Gives (state, hs) of one direction of one layer, as `lstm` does."""
        if self._reduce is not None:
            state, found, hs = stream(self._reduce, params, xs, state, not self._single, wrappers=wrappers, **options)
            self.found.append(found)
            return state, hs
        if self._added is not None:
            added = self._added[len(self.found)]
            wrappers = (*wrappers, (Perturb(), (None, time_first(added, params, xs, options["time_major"]))))
        names = self._fields if self._single or "h" in self._fields else (*self._fields, "h")
        state, steps = lstm(params, xs, state, wrappers=wrappers, emit=Only(names), **options)
        self.found.append(Only(self._fields)(steps))
        return state, steps.h

    def layered(self) -> tuple[PyTree, ...]:
        """Gives what was found as a tuple with an entry for each layer, a `Bidirectional` for a pair."""
        found = iter(self.found)
        return tuple(
            Bidirectional(next(found), next(found)) if isinstance(layer, Bidirectional) else next(found)
            for layer in self._layers
        )

    def _flat(self, perturb: Any) -> list[Step]:
        """Gives what is added in each direction, in the order in which they are run, or refuses its form."""
        given = perturb if isinstance(perturb, tuple | list) and not isinstance(perturb, Step) else ()
        parts = [layer if isinstance(layer, Bidirectional) else (layer,) for layer in given]
        sizes = [len(directions(layer)) for layer in self._layers]
        flat = [step for part in parts for step in part]
        if [len(part) for part in parts] != sizes or not all(isinstance(step, Step) for step in flat):
            raise TypeError(
                f"perturb is {kind(perturb)} that is not in the form of what trace gives: a Step for "
                "LSTMParams; for layers a tuple with a Step for each, a Bidirectional of two for a pair."
            )
        return flat


def time_first(added: Step, params: LSTMParams, xs: ArrayLike, time_major: bool) -> Step:
    """Gives the arrays of a `Step` with time on the first axis, or refuses their shapes."""
    axis = 0 if time_major else jnp.ndim(xs) - 2

    def first(name: str, a: Array | None) -> Array | None:
        if a is None:
            return None
        shape = (*jnp.shape(xs)[:-1], params.output_size if name == "h" else params.hidden_size)
        if jnp.shape(a) != shape:
            raise ValueError(f"perturb {name} has shape {jnp.shape(a)}, expected {shape}, as trace gives {name}.")
        return jnp.moveaxis(a, axis, 0)

    return Step(*(first(name, a) for name, a in added._asdict().items()))  # type: ignore[arg-type]
