"""Do the tasks of `benchmarks/gpu.sh`, one after the other, in the process that has the GPU.

The file `status.json` names the task and the competitor that runs, so that `supervise.py` knows whom to blame if this
process dies. A task's result is one file in `parts`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, draw, find_point

from lstmjax import cell_step, init_params, lstm, stacked
from lstmjax.backends import BACKENDS
from lstmjax.bench import ALL, Results, Row, builders, machine, measure, write_json
from lstmjax.bench.clock import take_turns
from lstmjax.bench.program import gradients, program
from lstmjax.bench.run import BOUNDS, differ
from lstmjax.frameworks import cudnn
from lstmjax.frameworks.base.running import as_users_have_it
from lstmjax.frameworks.torch import timed
from lstmjax.types import LSTMParams

NO_GPU, UNUSABLE = 2, 3
"""What the process returns: JAX has no GPU; the task left it unusable, its result is written."""
TF32 = 2.0**13
"""Products in TF32 have 10 bits of mantissa, float32 has 23."""
TIMED = (
    "lstmjax auto", "lstmjax scan", "lstmjax fused", "lstmjax cudnn", "lax.scan", "lax.scan again", "Flax LSTMCell",
    "Flax OptimizedLSTMCell", "Equinox", "cuDNN by JAX", "PyTorch",
)  # fmt: skip
IN_TF32 = (
    dataclasses.replace(ALL["lstmjax fused"], build=partial(builders.ours, "fused", precision="tensorfloat32")),
    dataclasses.replace(
        ALL["cuDNN by JAX"],
        build=partial(program, partial(cudnn.build_job, precision=jax.lax.Precision.HIGH)),
        platforms=("gpu",),
    ),
    dataclasses.replace(
        ALL["PyTorch"], build=partial(program, partial(timed.build_job, tf32=True)), platforms=("gpu",)
    ),
)
COMPETITORS = (
    *(ALL[name] for name in TIMED),
    *(dataclasses.replace(row, name=f"{row.name}, TF32", rounding=TF32, dtypes=("float32",)) for row in IN_TF32),
)


class Worker:
    """One worker: its folder, and whom it names when it dies."""

    def __init__(self, out: Path) -> None:
        self.out, self.task = out, ""

    def status(self, competitor: str) -> None:
        draft = self.out / "status.draft"
        draft.write_text(json.dumps([self.task, competitor]))
        draft.replace(self.out / "status.json")

    def write(self, tree: Any) -> None:
        draft = self.out / "parts" / f"{self.task}.draft"
        draft.write_text(json.dumps(tree) + "\n")
        draft.replace(draft.with_suffix(".json"))

    def values(self, order: dict) -> None:
        """Compare values and gradients of every backend with the float64 oracle, float32 at full precision."""
        file = self.out / "cases" / f"{order['case']}.npz"
        until = time.monotonic() + 60
        while not file.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"the oracle has not written {file} yet")
            time.sleep(0.1)
        with np.load(file) as arrays:
            reference = dict(arrays)
        with jax.default_device(jax.devices("cpu")[0]):
            case = draw(order["case"], order["rehearse"])
        rows = {name: {"why": "it killed the process"} for name in ("auto", *BACKENDS)}
        backends = [backend for backend in rows if backend not in order["without"]]
        with ThreadPoolExecutor(order["workers"]) as pool:  # to compile takes longest
            programs = {backend: pool.submit(program_of, backend, case) for backend in backends}
            for backend in backends:
                self.status(backend)
                rows[backend] = row = compared(programs[backend].result, case, reference)
                text = row["why"] or in_words(row["differences"])
                say(f"values {order['case']:8} {backend:8} {'DIFFERS: ' if row.get('wrong') else ''}{text}")
        self.write({"case": order["case"], "sizes": str(find_point(order["case"], order["rehearse"])), "rows": rows})

    def bench(self, order: dict) -> None:
        """Time every competitor at one point, forward and in training."""
        point = find_point(order["point"], order["rehearse"])
        competitors = [row for row in COMPETITORS if row.name not in order["without"]]
        results = measure(
            [point],
            competitors,
            dtype=order["dtype"],
            seconds=order["seconds"],
            rounds=2 if order["rehearse"] else None,
            workers=order["workers"],
            starts=self.status,
        )
        killed = [
            Row(row.name, row.kind, why="it killed the process") for row in COMPETITORS if row.name in order["without"]
        ]
        comparisons = tuple(dataclasses.replace(c, rows=(*c.rows, *killed)) for c in results.comparisons)
        draft = self.out / "parts" / "bench.draft"
        write_json(Results(results.machine, comparisons), draft)
        draft.replace(self.out / "parts" / f"{self.task}.json")
        for comparison in comparisons:
            for row in comparison.rows:
                say(f"{point.name:3}{comparison.mode:9}{order['dtype']:9} {row.name:27}{in_ms(row)}")

    def steps(self, order: dict) -> None:
        """Time one step after the other of a batch of one, in µs: each waited for, and queued 50 at a time."""
        rows = []
        for inputs, hidden in ((2, 4),) if order["rehearse"] else ((5, 256), (64, 1024)):
            calls = {}
            for name, build in STEPPERS.items():
                if name in order["without"]:
                    rows.append({"name": name, "hidden": hidden, "why": "it killed the process"})
                    continue
                self.status(name)
                try:
                    with as_users_have_it():  # full precision, as PyTorch is told to
                        waited, queued = build(inputs, hidden)
                    waited()
                    queued()
                except Exception as error:  # whatever a framework raises: the others go on
                    rows.append({"name": name, "hidden": hidden, "why": first_line(error)})
                    continue
                calls |= {(name, "waited"): waited, (name, "queued"): queued}
            self.status("")
            times = take_turns(calls, seconds=order["seconds"] * 3, rounds=2 if order["rehearse"] else None)
            for (name, how), seconds in times.items():
                us = (1e6 * seconds / STEPS).tolist()
                rows.append({"name": name, "hidden": hidden, "inputs": inputs, "how": how, "us": us})
        for row in rows:
            if "us" in row:
                low, middle, high = np.quantile(row["us"], (0.25, 0.5, 0.75))
                text = f"{middle:8.1f} us a step ({low:.1f} to {high:.1f}), {1e6 / middle:8.0f} steps a second, "
                say(f"steps B1 H{row['hidden']:<5}{row['name']:24}{text}{row['how']}")
            else:
                say(f"steps B1 H{row['hidden']:<5}{row['name']:24}{row['why']}")
        self.write({"steps": rows})


def say(line: str) -> None:
    print(line, flush=True)


def first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def in_words(differences: dict[str, float]) -> str:
    worst = max((name for name in differences if name != "ys"), key=lambda name: differences[name])
    return f"outputs {differences['ys']:.1f} eps, gradients {differences[worst]:.1f} eps ({worst})"


def in_ms(row: Any) -> str:
    if not row.seconds:
        return row.why
    low, middle, high = 1e3 * np.quantile(row.seconds, (0.25, 0.5, 0.75))
    first = row.stages.get("compile")
    compiling = "" if first is None else f", compiled in {first:.1f} s"
    return f"{middle:10.3f} ms ({low:.3f} to {high:.3f}){compiling}"


def program_of(backend: str, case: Case) -> Callable[..., Any]:
    """Compile outputs and gradients of a case on one backend, as a function of layers, inputs and weights."""
    options = {} if case.lengths is None else {"lengths": jnp.asarray(case.lengths)}
    if case.resets is not None:
        options["resets"] = jnp.asarray(case.resets)

    def run(layers: Any, xs: Any, weights: Any) -> Any:
        if len(layers) == 1 and isinstance(layers[0], LSTMParams):
            forward = lambda layers, xs: lstm(layers[0], xs, backend=backend, **options)[1]
        else:
            forward = lambda layers, xs: stacked(layers, xs, backend=backend, **options)[1]
        ys, pull = jax.vjp(forward, layers, xs)
        return ys, *pull(weights)

    with as_users_have_it():  # JAX's options are those of a thread
        return jax.jit(run).lower(case.layers, case.xs, case.weights).compile()


def compared(program: Callable[[], Callable[..., Any]], case: Case, reference: dict[str, np.ndarray]) -> dict:
    """Return the differences of a backend's program from the oracle, in eps of float32, or why there are none."""
    try:
        run = program()
        start = time.perf_counter()
        ys, d_layers, d_xs = jax.block_until_ready(run(case.layers, case.xs, case.weights))
        seconds = time.perf_counter() - start
        arrays = {"ys": np.asarray(ys)[: case.compared], **gradients(d_layers, d_xs)}
        differences = differ(arrays, reference, "float32")
        bounds = {name: BOUNDS["float32"]["forward" if name == "ys" else "training"] for name in differences}
        wrong = [name for name, difference in differences.items() if not difference <= bounds[name]]
        return {"why": "", "differences": differences, "wrong": wrong, "first call": seconds}
    except Exception as error:  # a refusal, or whatever XLA raises: the other backends go on
        return {"why": first_line(error)}


STEPS = 50
"""Steps of one call that is timed."""
Stepper = Callable[[int, int], tuple[Callable[[], Any], Callable[[], Any]]]


def chain(step: Callable, state: Any, wait: Callable[[Any], Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return 50 steps that are each waited for, and 50 of which only the last one is."""

    def waited() -> Any:
        s = state
        for _ in range(STEPS):
            s = wait(step(s))
        return s

    def queued() -> Any:
        s = state
        for _ in range(STEPS):
            s = step(s)
        return wait(s)

    return waited, queued


def ours(inputs: int, hidden: int) -> Any:
    params = init_params(jax.random.key(0), inputs, hidden)
    x, zeros = jnp.ones((1, inputs)), jnp.zeros((1, hidden))
    compiled = (
        jax.jit(lambda params, state, x: cell_step(params, state, x)[0]).lower(params, (zeros, zeros), x).compile()
    )
    return chain(lambda state: compiled(params, state, x), (zeros, zeros), jax.block_until_ready)


def flax(inputs: int, hidden: int) -> Any:
    from flax import linen

    cell = linen.OptimizedLSTMCell(hidden)
    x, zeros = jnp.ones((1, inputs)), jnp.zeros((1, hidden))
    variables = cell.init(jax.random.key(0), (zeros, zeros), x)
    compiled = jax.jit(lambda v, carry, x: cell.apply(v, carry, x)[0]).lower(variables, (zeros, zeros), x).compile()
    return chain(lambda carry: compiled(variables, carry, x), (zeros, zeros), jax.block_until_ready)


def torch(layer: bool, inputs: int, hidden: int) -> Any:
    import torch

    on_gpu = jax.default_backend() == "gpu"
    device = "cuda" if on_gpu else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def wait(state: Any) -> Any:
        if on_gpu:
            torch.cuda.synchronize()
        return state

    def step(state: Any) -> Any:
        with torch.inference_mode():
            return module(x, state)[1] if layer else module(x, state)

    if layer:
        module, shape = torch.nn.LSTM(inputs, hidden, batch_first=True).to(device), (1, 1)
    else:
        module, shape = torch.nn.LSTMCell(inputs, hidden).to(device), (1,)
    x, zeros = torch.ones(*shape, inputs, device=device), torch.zeros(*shape, hidden, device=device)
    return chain(step, (zeros, zeros), wait)


STEPPERS: dict[str, Stepper] = {
    "lstmjax cell_step": ours,
    "Flax OptimizedLSTMCell": flax,
    "PyTorch LSTM, T = 1": partial(torch, True),
    "PyTorch LSTMCell": partial(torch, False),
}


def usable() -> bool:
    """Return whether the device still computes."""
    try:
        x = jnp.arange(1024.0)
        return bool(jnp.sum(x) == 1023 * 512) and torch_usable()
    except Exception:
        return False


def torch_usable() -> bool:
    if jax.default_backend() != "gpu" or "torch" not in sys.modules:
        return True
    torch = sys.modules["torch"]
    return not torch.cuda.is_available() or float(torch.ones(8, device="cuda").sum()) == 8


def main(out: Path, orders: list[dict]) -> int:
    worker, begin = Worker(out), time.monotonic()
    rehearse = orders[0]["rehearse"]
    if jax.default_backend() != "gpu" and not rehearse:
        say(f"JAX runs on {jax.default_backend()} here, not on a GPU; --rehearse tries this script on a CPU.")
        return NO_GPU
    if rehearse:
        machine.PROBED = dict.fromkeys(machine.PROBED, 64)
    if not (out / "parts" / "machine.json").exists():
        worker.task = "machine"
        for package in ("flax", "equinox", "torch"):
            if importlib.util.find_spec(package) is None:
                say(f"{package} is not installed: left out")
        try:
            facts = machine.look("float32")
            say(str(facts))
            worker.write(dataclasses.asdict(facts))
        except Exception as error:  # the values need none of these facts
            traceback.print_exc()
            worker.write({"failed": first_line(error)})
    for order in orders:
        worker.task = order["name"]
        if time.monotonic() - begin > order["until"]:
            worker.write({"failed": "left out, there was no time for it"})
            say(f"{order['name']}: left out, there was no time for it")
            continue
        worker.status("")
        say(f"-- {order['name']}")
        try:
            getattr(worker, order["do"])(order)
        except Exception as error:  # the other tasks go on; the script says which one failed
            traceback.print_exc()
            worker.write({"failed": first_line(error)})
        if not usable():
            return UNUSABLE
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
