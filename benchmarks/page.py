"""Make the tables of docs/benchmarks.md from the stored results: what was measured is never typed in.

    python benchmarks/page.py                                 # write the page again
    lstmjax bench --json run.json
    python benchmarks/page.py --store run.json intel-jax012   # benchmarks/results/intel-jax012.json, from a run
    python benchmarks/page.py --store run.json intel-jax012 --note "the machine was busy at B"

A table stands between the lines `<!-- table NAME -->` and `<!-- end -->`, where NAME is a file in benchmarks/results;
`<!-- means NAME NAME -->` is a table of the geometric means of several. A file is a run of `lstmjax bench`, raw times
included, or a record: a table of numbers with its machine, versions, date and command.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.bench import growth as curves
from lstmjax.bench import read_json, steps
from lstmjax.bench.competitors import AUTO, OURS, REFERENCE
from lstmjax.bench.points import GRID, STREAMING
from lstmjax.bench.results import Comparison, Results
from lstmjax.bench.standing import geometric_mean, judge, noise, ratio

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
RECORD, RUN = "lstmjax record 1", "lstmjax bench 1"
BLOCK = re.compile(r"<!-- (table|means) ([\w. -]+?) -->\n.*?<!-- end -->", re.DOTALL)
Record = dict[str, Any]


def read(name: str) -> Record:
    """Return a stored result as a record: columns, rows of numbers, and where they come from."""
    path = RESULTS / f"{name}.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    if tree["format"] == RECORD:
        return tree
    results = read_json(path)
    if results.growth:
        record = curve_of(results)
    elif results.comparisons[0].mode == STREAMING:
        record = steps_of(results)
    else:
        record = summary_of(results)
    machine = {name: getattr(results.machine, name) for name in ("cpu", "device", "cpus", "python", "versions", "peak")}
    return {
        "command": results.command or "lstmjax bench",
        "date": results.machine.date[:10],
        "machine": machine | {"kernel": results.machine.kernel},
        "notes": list(results.notes),
        **record,
    }


def summary_of(results: Results) -> Record:
    """Return the ratios of a run: the best peer's time over each of ours, PyTorch's over auto's, and the noise."""
    names = list(dict.fromkeys(r.name for c in results.comparisons for r in c.timed().values() if r.kind == OURS))
    rows = []
    for comparison in results.comparisons:
        timed = comparison.timed()
        standings = {name: judge(comparison, name) for name in names}
        bests = [s.best.name for s in standings.values() if s is not None and s.best is not None]
        point = comparison.point
        row: list = [point.name if point.networks == 1 else str(point), comparison.mode, bests[0] if bests else None]
        for standing in standings.values():
            if standing is None or standing.best is None:
                row.append(None)
            else:
                row.append([standing.best.median, "!"] if standing.loss else standing.best.median)
        both = AUTO in timed and "PyTorch" in timed
        row.append(ratio(timed["PyTorch"], timed[AUTO]).median if both else None)
        row.append(known_noise(comparison))
        milliseconds = np.quantile(timed[AUTO].seconds, (0.5, 0.25, 0.75)) * 1e3 if AUTO in timed else None
        row.append(None if milliseconds is None else "{:.3g} ({:.3g} to {:.3g})".format(*milliseconds))
        rows.append(row)
    ours = [name.removeprefix("lstmjax ") for name in names]
    columns = ["point", "mode", "best peer", *ours, "PyTorch", "noise", "auto, ms (quartiles)"]
    return {"kind": "summary", "columns": columns, "digits": [2] * len(columns), "rows": rows}


def known_noise(comparison: Comparison) -> float | None:
    """Return the noise, or None where no program was timed twice."""
    value = noise(comparison)
    return None if math.isnan(value) else value


def steps_of(results: Results) -> Record:
    """Return the times of a step in µs, medians, and what those of auto are above the kernel's own."""
    names = list(dict.fromkeys(name for c in results.comparisons for name in c.timed() if name != REFERENCE))
    rows = []
    for comparison in results.comparisons:
        times = steps.microseconds(comparison)
        medians = [float(np.median(times[name])) if name in times else None for name in names]
        both = AUTO in times and steps.KERNEL in times
        above = float(np.median(times[AUTO] - times[steps.KERNEL])) if both else None
        rows.append([str(comparison.point), *medians, above, known_noise(comparison)])
    columns = ["sizes", *names, "auto over the kernel", "noise"]
    return {"kind": "streaming", "columns": columns, "digits": [0] + [1] * (len(columns) - 1), "rows": rows}


def curve_of(results: Results) -> Record:
    """Return the times of a curve in ms, the first mode's."""
    mode = results.comparisons[0].mode
    found = curves.curve(results, mode)
    sizes = sorted({int(size) for pair in found.values() for size in pair[0]})
    columns = [results.growth, *(f"{name}, ms" for name in found)]
    times = [dict(zip(at.tolist(), (1e3 * seconds).tolist(), strict=True)) for at, seconds in found.values()]
    rows = [[size, *(column.get(size) for column in times)] for size in sizes]
    return {"kind": "growth", "mode": mode, "columns": columns, "digits": [0] + [3] * len(times), "rows": rows}


def cell(value: Any, digits: int, column: str) -> str:
    """Return the text of a number, of a pair of a number and a mark, or of nothing; negative digits: as 1.2e-03."""
    if value is None:
        return "–"
    if isinstance(value, list):
        number, mark = value
        return f"{cell(number, digits, column)}{mark}"
    if isinstance(value, str):
        return value
    if column == "noise":
        return f"{value:.1%}"
    if digits < 0:
        return f"{value:.1e}"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows)]


def caption(record: Record) -> str:
    """Return where the numbers of a table come from."""
    machine = record["machine"]
    versions = [f"{name} {number}" for name, number in machine.get("versions", {}).items()]
    parts = [
        f"`{record['command']}`",
        machine.get("device") if machine.get("device") not in (None, "cpu") else None,
        machine["cpu"],
        f"{machine['cpus']} CPUs",
        f"Python {machine['python']}" if machine.get("python") else None,
        *versions,
        f"matrix products {machine['peak']:.0f} GFLOP/s" if machine.get("peak") else None,
        machine.get("kernel") or None,
        record["date"],
    ]
    text = ", ".join(part for part in parts if part)
    return f"*{text}. {record['recorded']}*" if record.get("recorded") else f"*{text}.*"


def table(name: str) -> list[str]:
    """Return the lines of a table with its caption and notes."""
    record = read(name)
    columns, digits = record["columns"], record["digits"]
    rows = [[cell(v, d, c) for v, d, c in zip(row, digits, columns, strict=True)] for row in record["rows"]]
    if record.get("kind") == "growth":
        rows = [with_slopes(record, n, row) for n, row in enumerate(rows)]
    if record.get("kind") == "summary":
        modes = dict.fromkeys(row[1] for row in record["rows"] if row[0] in GRID)
        rows += [mean_row(record, mode) for mode in modes]
    notes = [f"- {note}" for note in record.get("notes", [])]
    return [caption(record), "", *markdown(columns, rows), *(["", *notes] if notes else [])]


def with_slopes(record: Record, n: int, row: list[str]) -> list[str]:
    """Return a row of a curve with the slope in logarithms since the size before, where both were measured."""
    if n == 0:
        return row
    size, before = record["rows"][n][0], record["rows"][n - 1]
    out = row[:1]
    for text, now, then in zip(row[1:], record["rows"][n][1:], before[1:], strict=True):
        known = now is not None and then is not None
        slope = f" ^{math.log(now / then) / math.log(size / before[0]):.2f}" if known else ""
        out.append(text + slope)
    return out


def numbers(record: Record, mode: str, column: str) -> list[float]:
    """Return the ratios of a column at the points of the grid."""
    if column not in record["columns"]:
        return []
    at = record["columns"].index(column)
    values = [row[at] for row in record["rows"] if row[0] in GRID and row[1] == mode]
    return [value[0] if isinstance(value, list) else value for value in values if value is not None]


def mean(values: list[float]) -> str:
    return f"{geometric_mean(values):.2f}" if values else "–"


def mean_row(record: Record, mode: str) -> list[str]:
    texts = []
    for column, row in zip(record["columns"], zip(*record["rows"], strict=True), strict=True):
        ratios = all(value is None or isinstance(value, (float, list)) for value in row) and column != "noise"
        texts.append(mean(numbers(record, mode, column)) if ratios else "")
    return ["mean of A to G", mode, *texts[2:]]


def means(names: str) -> list[str]:
    """Return a table of the geometric means over A to G of several runs."""
    rows = []
    for name in names.split():
        record = read(name)
        machine = record["machine"]
        values = [mean(numbers(record, mode, c)) for mode in ("training", "forward") for c in ("auto", "PyTorch")]
        rows.append([machine["cpu"], machine["versions"]["jax"], *values])
    head = "best JAX peer over auto", "PyTorch over auto"
    columns = ["machine", "JAX", *(f"{mode}, {title}" for mode in ("training", "forward") for title in head)]
    return markdown(columns, rows)


def page(text: str) -> str:
    """Return the text of the page with every table made anew."""

    def made(block: re.Match) -> str:
        kind, names = block.groups()
        lines = table(names) if kind == "table" else means(names)
        return "\n".join([f"<!-- {kind} {names} -->", "", *lines, "", "<!-- end -->"])

    return BLOCK.sub(made, text)


def store(run: Path, name: str, notes: Sequence[str]) -> Path:
    """Write a run of `lstmjax bench --json` among the results, its times with five digits, a competitor on a line."""
    read_json(run)  # refuses what is no such file
    tree = json.loads(run.read_text(encoding="utf-8"))
    tree["notes"] = [*tree.get("notes", []), *notes]
    lines = []
    for comparison in tree.pop("comparisons"):
        rows = comparison.pop("rows")
        for row in rows:
            row["seconds"] = [float(f"{seconds:.5g}") for seconds in row["seconds"]]
        texts = ",\n  ".join(json.dumps(row) for row in rows)
        lines.append(f'{json.dumps(comparison)[:-1]}, "rows": [\n  {texts}]}}')
    text = f'{json.dumps(tree)[:-1]},\n "comparisons": [\n ' + ",\n ".join(lines) + "]}\n"
    out = RESULTS / f"{name}.json"
    out.write_text(text, encoding="utf-8")
    read_json(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--store", nargs=2, metavar=("RUN", "NAME"), help="a file of lstmjax bench --json, and its name"
    )
    parser.add_argument("--note", action="append", default=[], help="what a reader of that run must know")
    options = parser.parse_args()
    if options.store:
        print(store(Path(options.store[0]), options.store[1], options.note))
        return
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
