"""Run the tasks of `benchmarks/gpu.sh` in a process of their own, within the time, and keep what they wrote.

A worker runs one task after the other. A competitor that kills the process, hangs, or leaves the GPU unusable costs its
own result: the worker begins again without it. Everything that is known is written after each task.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
NO_GPU, UNUSABLE = 2, 3
"""What a worker returns: JAX has no GPU; a task left it unusable, its result is written."""
REFERENCE = "lstmjax scan"
"""The others are compared with it: without it there is no benchmark."""
STALLED = 60.0
"""Seconds after which a competitor that has not returned is given up."""
STARTS = 2
"""How often a worker may die before its first task, as where a GPU was not free yet."""
UNKILLED = 15.0
"""Seconds to wait for a worker that was killed; then the run goes on beside it."""
FOLLOWED = 0.5  # seconds between two looks at the worker


@dataclass
class Task:
    """One task: what the worker is told, how long it may take, and the share of all time after which it is left out."""

    name: str  # also that of its result, a file
    order: dict
    seconds: float
    until: float
    workers: int = 8  # programs that are compiled at once; one, after the worker was killed while several were
    without: list[str] = field(default_factory=list)  # competitors that killed the worker


def tasks(rehearse: bool) -> list[Task]:
    """Return all tasks, the most telling first."""

    def values(case: str, until: float) -> Task:
        return Task(f"values-{case}", {"do": "values", "case": case}, 100, until)

    def timed(point: str, dtype: str, until: float) -> Task:
        return Task(f"{dtype}-{point}", {"do": "bench", "point": point, "dtype": dtype}, 110, until)

    if rehearse:
        cases, points, narrow = ["A", "Bi", "lengths", "resets"], "A", "A"
        seconds = 0.0
    else:
        cases, points, narrow = ["A", "Bi", "lengths", "resets", "D", "E", "F"], "ADCGEBF", "ACG"
        seconds = 2.0
    rows = [values(case, 0.35) for case in cases]
    rows += [Task("steps", {"do": "steps"}, 60, 0.4)]
    rows += [timed(point, "float32", 0.78) for point in points]
    if not rehearse:
        rows += [values(case, 0.85) for case in "CBG"]
    rows += [timed(point, "bfloat16", 0.92) for point in narrow]
    for task in rows:
        task.order |= {"rehearse": rehearse, "seconds": seconds}
        task.workers = 2 if rehearse else 8
    return rows


class Run:
    """One run of the script: its clock, its folder, and the worker."""

    def __init__(self, out: Path, minutes: float, environment: dict[str, str]) -> None:
        self.start, self.total = time.monotonic(), 60 * minutes
        self.out, self.environment = out, environment
        self.notes: list[str] = []
        self.starts = STARTS
        (out / "parts").mkdir(parents=True, exist_ok=True)
        for stale in (out / "parts").iterdir():
            stale.unlink()

    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def note(self, line: str) -> None:
        print(f"[{self.elapsed():4.0f} s] {line}", flush=True)
        self.notes.append(line)

    def work(self, queue: list[Task]) -> None:
        """Run all tasks for which there is time."""
        while queue:
            queue = self._in_time(queue)
            if queue:
                queue = self._one_worker(queue)
            self.write()

    def _in_time(self, queue: list[Task]) -> list[Task]:
        late = [task for task in queue if self.elapsed() > task.until * self.total]
        for task in late:
            self.note(f"{task.name}: left out, there was no time for it")
        return [task for task in queue if task not in late]

    def _one_worker(self, queue: list[Task]) -> list[Task]:
        """Run tasks until one ends its worker, or time is up; return what remains to be done."""
        status = self.out / "status.json"
        status.unlink(missing_ok=True)
        orders = [
            {
                **task.order,
                "name": task.name,
                "without": task.without,
                "workers": task.workers,
                "until": task.until * self.total - self.elapsed(),
            }
            for task in queue
        ]
        command = [sys.executable, str(HERE / "work.py"), str(self.out), json.dumps(orders)]
        worker = subprocess.Popen(command, env=self.environment)
        done, began, current = self._done(), time.monotonic(), ("", "")
        stepped = began
        while worker.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(FOLLOWED)
            now = self._done()
            if now != done:
                done = now
                self.write()
            before, current = current, self._status(status)
            if current != before:
                stepped = time.monotonic()
            if current[0] != before[0]:
                began = stepped
            task = next((task for task in queue if task.name == current[0]), None)
            limit = 90.0 if task is None else task.seconds  # before the first task the worker starts JAX
            stalled = current[1] != "" and time.monotonic() - stepped > STALLED
            if stalled or time.monotonic() - began > limit or self.elapsed() > 0.97 * self.total:
                worker.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):  # a process inside the driver may not end at once
                    worker.wait(UNKILLED)
                break
        name, competitor = self._status(status)
        remaining = [task for task in queue if task.name not in self._done()]
        if worker.returncode == 0:
            return []
        if worker.returncode == NO_GPU:
            raise SystemExit(1)
        if worker.returncode == UNUSABLE:
            self.note(f"{name}: the GPU could not be used after it; a new process goes on")
            return remaining
        if self.elapsed() > 0.97 * self.total:
            self.note(f"{name or 'the start of JAX'}: stopped, time is up")
            return []
        code = worker.returncode
        end = "did not end when it was killed" if code is None else f"ended with {code}"
        why = f"the worker {end} at {competitor or 'its timing'} in {name or 'its start'}"
        failed = next((task for task in remaining if task.name == name), None)
        if failed is None:
            self.starts -= 1
            self.note(f"{why}{'; again' if self.starts else ''}")
            return remaining if self.starts else []
        if failed.order["do"] != "steps" and failed.workers > 1:  # those that compile several programs at once
            self.note(f"{why}, or while others were compiled; again, one at a time")
            failed.workers = 1
            return remaining
        if competitor not in ("", REFERENCE):
            self.note(f"{why}; again without it")
            for task in remaining:
                task.without = [*task.without, competitor]
            return remaining
        self.note(f"{why}; left out")
        return [task for task in remaining if task is not failed]

    def _done(self) -> set[str]:
        return {path.stem for path in (self.out / "parts").glob("*.json")}

    def tasks_done(self) -> set[str]:
        """Return the names of the tasks that have a result, which may be that they failed."""
        return self._done() - {"machine"}

    @staticmethod
    def _status(path: Path) -> tuple[str, str]:
        try:
            task, competitor = json.loads(path.read_text())
        except (OSError, ValueError):
            return "", ""
        return task, competitor

    def write(self) -> None:
        """Write all results so far: one file for the values and steps, one for each dtype as `lstmjax bench` has it."""
        results: dict = {"format": "lstmjax gpu 1", "command": sys.argv, "seconds": self.elapsed(), "notes": self.notes}
        timed: dict[str, dict] = {}
        for path in sorted((self.out / "parts").glob("*.json"), key=lambda path: path.stat().st_mtime):
            part = json.loads(path.read_text())
            if "comparisons" in part:
                dtype = part["comparisons"][0]["dtype"]
                if dtype in timed:
                    timed[dtype]["comparisons"] += part["comparisons"]
                else:
                    timed[dtype] = part
            else:
                results[path.stem] = part
        for name, tree in {"results": results, **timed}.items():
            draft = self.out / f"{name}.draft"
            draft.write_text(json.dumps(tree, indent=1) + "\n")
            draft.replace(self.out / f"{name}.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu.sh", description=__doc__.partition("\n")[0])
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--only", default=None, help="names of tasks, such as values-A,steps,float32-C")
    parser.add_argument("--minutes", type=float, default=7.5, help="all of it takes no longer; default: 7.5")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results; default: $OUT or gpu-results")
    options = parser.parse_args()
    out = options.out or Path(os.environ.get("OUT") or "gpu-results")
    environment = dict(os.environ)
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):  # the worker draws the inputs on the CPU
        environment["JAX_PLATFORMS"] = f"{platforms},cpu"
    if options.rehearse:
        environment["JAX_PLATFORMS"] = "cpu"
        environment.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiled fast, not well
    chosen = tasks(options.rehearse)
    if options.only is not None:
        names = options.only.split(",")
        unknown = sorted(set(names) - {task.name for task in chosen})
        if unknown:
            parser.error(f"there is no task {unknown[0]!r}; expected some of {', '.join(t.name for t in chosen)}")
        chosen = [task for task in chosen if task.name in names]
    run = Run(out, options.minutes, environment)
    command = [sys.executable, str(HERE / "cases.py"), str(out), json.dumps(options.rehearse)]
    on_cpu = {**environment, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    truth = subprocess.Popen(command, env=on_cpu, start_new_session=True)  # a group: it has processes of its own
    try:
        run.work(chosen)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(truth.pid, signal.SIGKILL)
        truth.wait()
        run.write()
    code = subprocess.run([sys.executable, str(HERE / "table.py"), str(out)], env=environment, check=False).returncode
    run.note(f"written to {out}: results.json, and float32.json and bfloat16.json for lstmjax bench --read")
    if not run.tasks_done():
        run.note("NOTHING was measured")
        return 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
