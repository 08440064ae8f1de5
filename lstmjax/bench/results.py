"""The results of a benchmark as data, written to JSON and read from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lstmjax.bench.machine import Machine
from lstmjax.bench.points import BenchError, Point
from lstmjax.writing import write_text

FORMAT = "lstmjax bench 1"


@dataclass(frozen=True)
class Row:
    """One competitor at one point."""

    name: str
    kind: str
    seconds: tuple[float, ...] = ()  # of each round; empty: it was not timed
    why: str = ""  # the reason why it was not timed
    wrong: bool = False  # it was not timed because it computes something else
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds: trace, lower, compile, first run
    temporaries: int | None = None  # bytes, as the compiled program states
    resident: int | None = None  # bytes by which the process grew at its first run
    differences: Mapping[str, float] = field(default_factory=dict)  # from the reference, in eps; the largest counts


@dataclass(frozen=True)
class Comparison:
    """All competitors at one point in one mode; the n-th time of each belongs to the same round."""

    point: Point
    mode: str  # "forward" or "training"
    dtype: str
    rows: tuple[Row, ...]

    def timed(self) -> dict[str, Row]:
        """Return the rows that have times, by name."""
        return {row.name: row for row in self.rows if row.seconds}


@dataclass(frozen=True)
class Results:
    """The results of one run of the benchmark."""

    machine: Machine
    comparisons: tuple[Comparison, ...]
    growth: str | None = None  # "T", "H" or "B", which grows from point to point
    command: str = ""  # that measured it, where it was one
    notes: tuple[str, ...] = ()  # what a reader must know of this run


def write_json(results: Results, path: Path) -> None:
    """Write everything, raw times included."""
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(results)}, indent=1)
    write_text(path, text + "\n")


def read_json(path: Path) -> Results:
    """Read what `write_json` wrote.

    Raises:
        BenchError: there is no such file, or it holds no results of this benchmark.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree.pop("format") != FORMAT:
            raise ValueError
        comparisons = tuple(_comparison(branch) for branch in tree.pop("comparisons"))
        if not comparisons or tree.get("growth") not in (None, "T", "H", "B"):
            raise ValueError
        notes = tuple(tree.pop("notes", ()))
        return Results(Machine(**tree.pop("machine")), comparisons, notes=notes, **tree)
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file") from None
    except OSError as error:
        raise BenchError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BenchError(
            f"{path}: holds no results of lstmjax bench; write them by lstmjax bench --json FILE"
        ) from None


def _comparison(tree: dict[str, Any]) -> Comparison:
    rows = tuple(Row(**row | {"seconds": tuple(row["seconds"])}) for row in tree.pop("rows"))
    return Comparison(point=Point(**tree.pop("point")), rows=rows, **tree)
