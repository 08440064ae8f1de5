"""Plant one fault at a time in a copy of the package, and see that the tests of a tier catch it.

    python tests/plant_faults.py [--marks "not slow and not thorough"] [NAME ...]

Each row of FAULTS replaces one text of one file. The tests run in the copy, those of the row's files that the marks
select, until the first failure. Prints a line for each, and exits with 1 if a fault was not caught.
`tests/test_faults.py` keeps the table true to the source.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Fault(NamedTuple):
    """A text of a file, what it is replaced by, and the files of tests that look there."""

    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


FAULTS = {
    "the input and the forget gate change places": Fault(
        "lstmjax/cell.py", "cell.carry(params, f * c + i * g)", "cell.carry(params, i * c + f * g)", ("cell", "oracle")
    ),
    "the output gate's peephole sees the old c": Fault(
        "lstmjax/cell.py",
        'c = tapped("c", cell.carry(params, f * c + i * g))\n    z_o = tapped("z_o", pre_activation("o", c))',
        'z_o = tapped("z_o", pre_activation("o", c))\n    c = tapped("c", cell.carry(params, f * c + i * g))',
        ("cells", "oracle"),
    ),
    "the state goes on through padding": Fault(
        "lstmjax/wrappers.py", "state = select(valid, new, state)", "state = new", ("layer", "wrappers")
    ),
    "a reset is forgotten": Fault(
        "lstmjax/wrappers.py", "inner(params, select(flag, initial, state), x)", "inner(params, state, x)", ("layer",)
    ),
    "NaN in padding reaches the gradient": Fault(
        "lstmjax/arrays.py",
        "xs = jnp.where(valid[..., None], xs, 0)  # before the product: NaN · 0 is NaN in every gradient\n    if dtype",
        "xs = xs + 0\n    if dtype",
        ("layer", "trace"),
    ),
    "the last output is that of padding": Fault(
        "lstmjax/layer.py",
        "remember = place is None and (not request.return_sequences",
        "remember = place is None and (False",
        ("layer",),
    ),
    "a gradient misses the recurrent product": Fault(
        "lstmjax/backends/fused.py",
        "return z, e + multiply(*terms) if terms else e",
        "return z, e",
        ("fused", "gradients"),
    ),
    "the gradient of the input is lost": Fault(
        "lstmjax/backends/fused.py",
        'if source == "x" and of_x in tangent_of:',
        'if source == "x" and of_x is None:',
        ("fused", "gradients"),
    ),
    "dropout does not scale what it keeps": Fault(
        "lstmjax/dropout.py",
        "jnp.where(keep, 1.0 / (1.0 - self.rate), 0.0)",
        "jnp.where(keep, 1.0, 0.0)",
        ("dropout", "wrappers"),
    ),
    "zoneout at evaluation mixes the wrong way round": Fault(
        "lstmjax/dropout.py",
        "rate * old + (1.0 - rate) * new",
        "rate * new + (1.0 - rate) * old",
        ("wrappers", "dropout"),
    ),
    "the gradient crosses a segment": Fault(
        "lstmjax/truncated.py", "return reach // segment - 1", "return reach // segment", ("truncated",)
    ),
    "half precision keeps c in half precision": Fault(
        "lstmjax/carry.py",
        "c, *fed = (_on(batch, part).astype(cell_dtype(wide))",
        "c, *fed = (_on(batch, part).astype(wide)",
        ("modules", "linen", "nnx"),
    ),
    "two biases both have the forget bias": Fault(
        "lstmjax/init.py",
        "b_h = None if b_h is None else b_h.at[k].set(0.0)",
        "b_h = None if b_h is None else b_h.at[k].set(forget)",
        ("init",),
    ),
    "PyTorch's second bias is lost": Fault(
        "lstmjax/frameworks/torch/module.py",
        '"b": "bias_ih", "b_h": "bias_hh"',
        '"b": "bias_ih", "b_h": "bias_ih"',
        ("convert", "forms"),
    ),
    "Haiku's gates are read in another order": Fault(
        "lstmjax/frameworks/haiku.py", 'order="igfo"', 'order="ifgo"', ("convert", "files")
    ),
    "Haiku's forget bias is not added": Fault(
        "lstmjax/frameworks/haiku.py", "always=True, added=1.0", "always=True, added=0.0", ("convert", "files")
    ),
    "a verdict agrees with everything": Fault(
        "lstmjax/replica/diagnosis.py",
        "return self.difference.relative <= self.bound",
        "return self.difference.relative <= 1e9",
        ("verify",),
    ),
    "open gates are counted from another limit": Fault(
        "lstmjax/inside/statistics.py",
        "right = _each(lambda name, gate: count(gate > limit(name, high)), gates)",
        "right = _each(lambda name, gate: count(gate > limit(name, low)), gates)",
        ("statistics",),
    ),
    "the batches of every epoch are those of the first": Fault(
        "lstmjax/data/batches.py",
        "return _order(count, seed, epoch)[place",
        "return _order(count, seed, 0)[place",
        ("data", "train"),
    ),
    "a step counts as two": Fault(
        "lstmjax/training/step.py", "done = state.step + 1", "done = state.step + 2", ("train", "checkpoint")
    ),
    "an NNX module resets to zeros": Fault(
        "lstmjax/nnx/layers.py", "            reset_state=reset_state,\n", "", ("modules",)
    ),
    "a linen module emits h only": Fault("lstmjax/linen/layers.py", "            emit=emit,\n", "", ("modules",)),
    "a linen network runs without its mask": Fault(
        "lstmjax/linen/layers.py",
        "            mask=mask,\n            resets=resets,\n            return_sequences",
        "            resets=resets,\n            return_sequences",
        ("modules",),
    ),
    "inplace loses a tangent": Fault(
        "lstmjax/backends/inplace.py",
        "directions = tree.flatten_up_to(tangents)",
        "directions = tree.flatten_up_to(tangents)\n    directions[-1] = SymbolicZero(directions[-1].aval)",
        ("backends",),
    ),
    "inplace writes to the place before": Fault(
        "lstmjax/backends/inplace.py",
        "jax.lax.dynamic_update_index_in_dim(all, a, t, axis)",
        "jax.lax.dynamic_update_index_in_dim(all, a, t - 1, axis)",
        ("backends",),
    ),
    "Student's t has another power": Fault(
        "lstmjax/forecast/likelihoods.py",
        "outer = 0.5 * (nu + 1.0) * (2.0",
        "outer = 0.5 * (nu + 1.01) * (2.0",
        ("forecast_densities",),
    ),
    "labels are not smoothed": Fault(
        "lstmjax/training/losses.py",
        "optax.smooth_labels(target, smoothing)",
        "target",
        ("train", "learning", "config"),
    ),
}


def catches(fault: Fault, marks: str) -> bool:
    """Return whether the tests fail with the fault planted.

    Raises:
        RuntimeError: they could not be collected, or none was selected.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("lstmjax", "tests", "configs", "docs", "notebooks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, copy / name)
        path = copy / fault.file
        path.write_text(path.read_text("utf-8").replace(fault.text, fault.replacement), "utf-8")
        files = [f"tests/test_{name}.py" for name in fault.tests]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", marks, *files]
        environment = os.environ | {"PYTHONPATH": str(copy)}
        ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):
        raise RuntimeError(ended.stdout[-2000:] + ended.stderr[-2000:])
    return ended.returncode == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to plant; all, if none is named")
    parser.add_argument("--marks", default="not slow and not thorough", help="the tests that run, as for pytest -m")
    arguments = parser.parse_args()
    missed = []
    for name in arguments.names or FAULTS:
        caught = catches(FAULTS[name], arguments.marks)
        print(f"{'caught' if caught else 'MISSED'}  {name}", flush=True)
        missed += [] if caught else [name]
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
