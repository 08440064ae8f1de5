"""The table of competitors. One that is not installed, or cannot run a network, is listed with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import MappingProxyType

from lstmjax.backends import BACKENDS
from lstmjax.bench import builders
from lstmjax.bench.points import BenchError, Point
from lstmjax.bench.program import Program, program
from lstmjax.frameworks import FRAMEWORKS
from lstmjax.frameworks.base.timing import JAX_PEER, Job, Timed

OURS, CONTROL = "ours", "control"
"""Kinds, beside those of frameworks: lstmjax, and the same program a second time."""


@dataclass(frozen=True)
class Competitor:
    """One row. `build(job)` returns a `Program`; the other fields say where it does not take part."""

    name: str
    kind: str
    build: Callable[[Job], Program]
    packages: tuple[str, ...] = ()
    trains: bool = True
    pairs: bool = True  # two directions
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    platforms: tuple[str, ...] = ("cpu", "gpu", "tpu")
    rounding: float = 1.0  # how much coarser its products are than its dtype's: 2¹³ in TF32, of 10 bits instead of 23

    def refuses(self, point: Point, mode: str, dtype: str, platform: str) -> str | None:
        """Return the reason why it does not take part, or None."""
        missing = [name for name in self.packages if find_spec(name) is None]
        reasons = (
            (bool(missing), f"{' and '.join(missing)} not installed"),
            (platform not in self.platforms, f"runs on {' and '.join(self.platforms)} only"),
            (mode == "training" and not self.trains, "runs networks, and trains none"),
            (point.directions == 2 and not self.pairs, "has no layer of two directions"),
            (dtype not in self.dtypes, f"computes in {' and '.join(self.dtypes)} only"),
        )
        return next((reason for holds, reason in reasons if holds), None)


def _of_framework(row: Timed) -> Competitor:
    """Return the competitor of a row of a framework."""
    build = partial(program, row.build)
    return Competitor(row.name, row.kind, build, row.packages, row.trains, row.pairs, row.dtypes, row.platforms)


REFERENCE = "lstmjax scan"
"""Its outputs and gradients are those that all others are compared with."""
AUTO = "lstmjax auto"
CONTROLS = ("lax.scan", "lax.scan again")

ALL = MappingProxyType(
    {
        row.name: row
        for row in (
            *(Competitor(f"lstmjax {name}", OURS, partial(builders.ours, name)) for name in ("auto", *BACKENDS)),
            Competitor(CONTROLS[0], JAX_PEER, builders.plain),
            Competitor(CONTROLS[1], CONTROL, builders.plain),
            *(_of_framework(row) for framework in FRAMEWORKS.values() for row in framework.timed),
        )
    }
)
"""All of them by name, ours first."""


def find_competitors(names: str | None, table: Mapping[str, Competitor] = ALL) -> list[Competitor]:
    """Return the competitors of these names, separated by commas; None: all of the table.

    The reference, `REFERENCE`, takes part in any case, since all others are compared with it.

    Raises:
        BenchError: an unknown name, or no name.
    """
    chosen = list(table) if names is None else [name.strip() for name in names.split(",") if name.strip()]
    if not chosen:
        raise BenchError(f"no competitor is named; expected some of {', '.join(table)}")
    unknown = [name for name in chosen if name not in table]
    if unknown:
        raise BenchError(f"there is no competitor {unknown[0]!r}; expected some of {', '.join(table)}")
    return [row for name, row in table.items() if name in (*chosen, REFERENCE)]
