"""List and compare runs: a table, the best one first, and a picture."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lstmjax.claims import counted
from lstmjax.config import Config, ConfigError, flat
from lstmjax.errors import UserError
from lstmjax.runs import RunError, RunFolder
from lstmjax.training.metrics import metrics_of, sign_of
from lstmjax.writing import draft

log = logging.getLogger("lstmjax")
FORMATS = (".png", ".svg", ".pdf")
NONE = "–"


class Row(NamedTuple):
    """What is known of a run."""

    name: str
    status: str  # "trained", "running", "diverged" or "stopped"
    step: int  # of the latest validation; 0: there was none
    best: int | None  # step whose network is the best one
    values: dict[str, float]  # of validation at that step, by metric
    test: dict[str, float]
    parameters: int | None  # None: not known before the end
    config: Config
    records: list[dict[str, Any]]


def compare_runs(folder: Path, metric: str | None = None, plot: Path | None = None) -> Iterator[str]:
    """Yield the lines of `lstmjax runs`, and draw the picture.

    Args:
        folder: folder in which, or in whose folders, the runs are.
        metric: metric of validation to sort by; None: the one that chooses the network of most of the runs.
        plot: picture to write; None: none.

    Raises:
        UserError: there are no runs, or none with that metric, or the picture cannot be written.
    """
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot is {plot}, expected a name that ends in {', '.join(FORMATS)}")
    rows = read_runs(folder)
    name = _metric(rows, metric)
    rows = ordered(rows, name)
    yield from table(rows, name)
    if plot is not None:
        from lstmjax.plot.compared import compared

        drawn = {
            row.name: [(record["step"], record["validation"][name]) for record in row.records]
            for row in rows
            if row.records and name in row.records[0]["validation"]
        }
        if not drawn:
            raise RunError(f"{folder}: no run was validated yet, so that there is nothing to draw")
        with draft(plot) as place:
            compared(drawn, name).savefig(place, dpi=120, format=plot.suffix[1:].lower())
        yield f"{plot}: {name} of validation over the steps of {counted(len(drawn), 'run')}"


def read_runs(folder: Path) -> list[Row]:
    """Return what is known of each run in a folder; one that cannot be read is warned of, and left out.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; lstmjax train writes runs to runs/, or to its --run-dir")
    rows = []
    for path in _folders(folder):
        try:
            rows.append(_row(path, folder))
        except UserError as error:
            log.warning("%s; this run is left out", error)
    if not rows:
        raise RunError(f"{folder}: has no run in it that can be read; lstmjax train writes runs")
    return rows


def _folders(folder: Path) -> list[Path]:
    """Return the run folders in a folder, itself included; run folders are not searched for others."""
    paths = []
    for place, names, files in os.walk(folder):
        if "config.yaml" in files and ("checkpoints" in names or "data.json" in files):
            paths.append(Path(place))
            names.clear()
        names[:] = sorted(name for name in names if not name.startswith("."))
    return paths


def _row(path: Path, folder: Path) -> Row:
    run = RunFolder.open(path)
    metric = metrics_of(run.config)[0]
    records, result = run.records(metric), run.read_result(metric)
    if run.is_trained():
        status = "running"
    elif run.divergence() is not None:
        status = "diverged"
    else:
        status = "stopped" if result is None else "trained"
    if result is not None:
        best, values, test = result["step"], result["validation"], result["test"] or {}
    else:
        sign = sign_of(run.config)
        chosen = max(records, key=lambda record: sign * record["validation"][metric], default=None)
        best, values, test = (None, {}, {}) if chosen is None else (chosen["step"], chosen["validation"], {})
    return Row(
        str(path.relative_to(folder)) if path != folder else path.absolute().name,
        status,
        records[-1]["step"] if records else 0,
        best,
        values,
        test,
        None if result is None else result["parameters"],
        run.config,
        records,
    )


def _metric(rows: Sequence[Row], metric: str | None) -> str:
    """Return the metric to sort by.

    Raises:
        ConfigError: no run has it.
    """
    known = Counter(name for row in rows for name in (*metrics_of(row.config), "loss"))
    if metric is None:
        return Counter(metrics_of(row.config)[0] for row in rows).most_common(1)[0][0]
    if metric not in known:
        raise ConfigError(f"--metric is {metric!r}, but these runs have {', '.join(known)}")
    return metric


def ordered(rows: Sequence[Row], name: str) -> list[Row]:
    """Return runs with the best metric first; those without one come last, by name."""

    def key(row: Row) -> tuple[bool, float, str]:
        if name not in row.values:
            return True, 0.0, row.name
        return False, -_sign(row.config, name) * row.values[name], row.name

    return sorted(rows, key=key)


def _sign(config: Config, name: str) -> int:
    if name == "loss":
        return -1
    return sign_of(config.model_copy(update={"metrics": (name,)}))


def table(rows: Sequence[Row], name: str) -> Iterator[str]:
    """Yield the lines of the table of runs: the metric to sort by first, and each key in which they differ."""
    others = list(dict.fromkeys(n for row in rows for n in metrics_of(row.config) if n != name))
    tested = any(name in row.test for row in rows)
    keys = differing([row.config for row in rows])
    head = ["run", "status", "step", "best", name, *(["test"] if tested else []), *others, "parameters", *_short(keys)]
    lines = [head]
    for row in rows:
        values = [_number(row.values.get(name)), *([_number(row.test.get(name))] if tested else [])]
        values += [_number(row.values.get(other)) for other in others]
        settings = flat(row.config.model_dump(mode="json"))
        count = NONE if row.parameters is None else f"{row.parameters:,}"
        of_run = [row.name, row.status, f"{row.step}", NONE if row.best is None else f"{row.best}"]
        lines.append([*of_run, *values, count, *(_word(settings.get(key)) for key in keys)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or NONE
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def differing(configs: Sequence[Config]) -> list[str]:
    """Return the keys, with dots, in which configurations differ."""
    trees = [flat(config.model_dump(mode="json")) for config in configs]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return [key for key in keys if any(tree.get(key) != trees[0].get(key) for tree in trees)]


def _short(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key, or all of it where two would be the same."""
    counts = Counter(key.rpartition(".")[2] for key in keys)
    return [key if counts[key.rpartition(".")[2]] > 1 else key.rpartition(".")[2] for key in keys]
