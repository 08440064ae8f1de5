"""How a scan over time is run. A backend is a row of the table; `scan` is the definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from lstmjax import checks
from lstmjax.backends import inplace, scan


@dataclass(frozen=True)
class Backend:
    """One way to run a step over time.

    `run(step, params, state, xs, fixed, stepped, *, keep, reverse, unroll, checkpoint)` gives
    (state, ys), with time on the first axis of xs, stepped and ys; see `scan.run`.
    """

    name: str
    run: Callable


BACKENDS = MappingProxyType({row.name: row for row in (Backend("scan", scan.run), Backend("inplace", inplace.run))})


def choose(name: str) -> Backend:
    """Gives the backend of that name; "auto" is `scan`, the definition."""
    checks.one_of("backend", name, ("auto", *BACKENDS))
    return BACKENDS["scan" if name == "auto" else name]
