"""Print the tables of a run of `benchmarks/gpu.sh` from its files: `python benchmarks/gpu/table.py FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lstmjax.bench import Results, lines, read_json
from lstmjax.bench.competitors import OURS


def values(results: dict) -> Iterator[str]:
    """Yield a line for each case: the largest difference of each backend from the float64 oracle, in eps of float32."""
    cases = {name: part for name, part in results.items() if name.startswith("values-") and "rows" in part}
    backends = list(dict.fromkeys(backend for part in cases.values() for backend in part["rows"]))
    yield "largest difference from the float64 oracle, eps of float32, outputs/gradients (-: refused or failed)"
    yield f"{'case':10}{'sizes':40}" + "".join(f"{backend:>14}" for backend in backends)
    for part in cases.values():
        cells = ""
        for backend in backends:
            differences = part["rows"].get(backend, {}).get("differences")
            if differences is None:
                cells += f"{'-':>14}"
                continue
            slopes = max(d for name, d in differences.items() if name != "ys")
            cells += f"{differences['ys']:.1f}/{slopes:.1f}".rjust(14)
        yield f"{part['case']:10}{part['sizes']:40}{cells}"


def steps(results: dict) -> Iterator[str]:
    """Yield a line for each way to step: µs of one step of one sequence, and steps a second."""
    yield "one step of one sequence, us (steps a second): each waited for, and 50 queued"
    rows = results.get("steps", {}).get("steps", [])
    for name, hidden in dict.fromkeys((row["name"], row["hidden"]) for row in rows):
        chosen = [row for row in rows if row["name"] == name and row["hidden"] == hidden]
        medians = {row["how"]: float(np.median(row["us"])) for row in chosen if "us" in row}
        if medians:
            cells = "".join(f"{medians[how]:12.1f} ({1e6 / medians[how]:.0f})" for how in ("waited", "queued"))
        else:
            cells = f"  {chosen[0]['why']}"
        yield f"H{hidden:<6}{name:26}{cells}"


def wrong(results: dict, timed: list[Results]) -> list[str]:
    """Return what of ours computes something else than it should."""
    rows = [(name, *row) for name, part in results.items() for row in part_rows(part).items()]
    values = [f"{backend} in {name}" for name, backend, row in rows if row.get("wrong")]
    return values + [
        f"{row.name} at {comparison.point.name}, {comparison.mode}, {comparison.dtype}"
        for run in timed
        for comparison in run.comparisons
        for row in comparison.rows
        if row.kind == OURS and row.wrong
    ]


def part_rows(part: object) -> dict:
    return part.get("rows", {}) if isinstance(part, dict) else {}


def main(out: Path) -> int:
    results = json.loads((out / "results.json").read_text())
    timed = [read_json(path) for path in (out / "float32.json", out / "bfloat16.json") if path.exists()]
    blocks = [values(results), steps(results), *(lines(run) for run in timed)]
    for block in blocks:
        print()
        for line in block:
            print(line)
    failed = wrong(results, timed)
    if failed:
        print(f"\nDIFFERS: {'; '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
