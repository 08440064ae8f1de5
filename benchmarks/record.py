"""Write the table of a script as a record of benchmarks/results, with its machine and versions; see page.py."""

import json
from collections.abc import Sequence
from pathlib import Path

from lstmjax.bench.machine import look

RAW = "Medians and ratios only: the raw times, and so their spread, are not on record."


def write(
    path: Path,
    command: str,
    columns: Sequence[str],
    digits: Sequence[int],
    rows: Sequence[Sequence],
    *,
    recorded: str = RAW,
    notes: Sequence[str] = (),
) -> None:
    """Write a table to a file: its columns, the digits after the point of each, its rows, and what is not in it."""
    machine = look("float32")
    head = {
        "format": "lstmjax record 1",
        "command": command,
        "date": machine.date[:10],
        "machine": {
            "cpu": machine.cpu,
            "cpus": machine.cpus,
            "python": machine.python,
            "versions": {"jax": machine.versions["jax"]},
            "peak": machine.peak,
            "kernel": machine.kernel,
        },
        "recorded": recorded,
        "columns": list(columns),
        "digits": list(digits),
        "notes": list(notes),
    }
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n  {lines}]}}\n', encoding="utf-8")
