"""`benchmarks/gpu.sh`, rehearsed on a CPU: tiny sizes, missing packages, and a competitor that ends the process."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lstmjax.bench import read_json

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.sh"
MISSING = ("pydantic", "tyro", "haiku", "keras", "tqdm", "psutil", "matplotlib", "onnx", "onnxruntime", "h5py")


@pytest.fixture
def machine(tmp_path):
    """The environment of a machine that lacks packages, and whose Equinox ends the process that imports it."""
    lines = ("import sys", *(f"sys.modules[{name!r}] = None" for name in MISSING))
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
    (tmp_path / "equinox").mkdir()
    (tmp_path / "equinox" / "__init__.py").write_text("import os\nos._exit(7)")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHON": sys.executable}


def rehearse(out, environment, *options):
    command = ["bash", str(SCRIPT), "--rehearse", "--out", str(out), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_it_runs_without_what_such_a_machine_lacks_and_survives_a_competitor_that_dies(tmp_path, machine):
    out = tmp_path / "results"
    run = rehearse(out, machine, "--only", "values-resets,steps,float32-A")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "the worker ended with 7 at Equinox in float32-A; again without it" in run.stdout

    results = json.loads((out / "results.json").read_text())
    rows = results["values-resets"]["rows"]
    for backend in ("auto", "scan", "fused", "inplace"):
        assert max(rows[backend]["differences"].values()) < 16
    assert "it runs on NVIDIA GPUs" in rows["cudnn"]["why"]
    ways = {(row["name"], row.get("how")) for row in results["steps"]["steps"]}
    assert {("lstmjax cell_step", "waited"), ("Flax OptimizedLSTMCell", "queued")} <= ways

    timed = read_json(out / "float32.json")
    assert [comparison.mode for comparison in timed.comparisons] == ["forward", "training"]
    for comparison in timed.comparisons:
        rows = {row.name: row for row in comparison.rows}
        assert len(rows["lstmjax fused"].seconds) == len(rows["Flax LSTMCell"].seconds) == 2
        assert rows["Equinox"].why == "it killed the process"
        assert rows["cuDNN by JAX"].why == "runs on gpu only"
    assert "largest difference from the float64 oracle" in run.stdout


def test_all_that_only_a_gpu_runs_is_rehearsed_with_calls_of_cudnn_in_plain_jax(tmp_path, machine):
    tests = Path(__file__).parent
    lines = f"""
import sys
sys.path.append({str(tests)!r})
if any(word.endswith("work.py") for word in sys.orig_argv):
    import fake_cudnn
    fake_cudnn.install(setattr)
"""
    (tmp_path / "sitecustomize.py").write_text(lines)
    (tmp_path / "equinox" / "__init__.py").write_text("raise ImportError")
    out = tmp_path / "results"
    run = rehearse(out, machine, "--only", "values-lengths,float32-A")
    assert run.returncode == 0, run.stdout + run.stderr

    results = json.loads((out / "results.json").read_text())
    rows = results["values-lengths"]["rows"]
    assert max(rows["cudnn"]["differences"].values()) < 16
    assert "it runs on CPUs, but the platform is gpu" in rows["native"]["why"]
    assert results["machine"]["platform"] == "gpu"
    for comparison in read_json(out / "float32.json").comparisons:
        rows = {row.name: row for row in comparison.rows}
        for name in ("lstmjax cudnn", "cuDNN by JAX", "cuDNN by JAX, TF32", "lstmjax fused, TF32"):
            assert len(rows[name].seconds) == 2, rows[name].why
        assert rows["PyTorch"].why


def test_a_run_that_measures_nothing_fails(tmp_path, machine):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise SystemExit(9)")
    run = rehearse(tmp_path / "results", machine, "--only", "steps")
    assert run.returncode == 1
    assert run.stdout.count("the worker ended with 9 at its timing in its start") == 2
    assert "NOTHING was measured" in run.stdout


class Unkilled:
    """A worker that Equinox holds up, and that does not end when it is killed."""

    returncode = None

    def __init__(self, command, env):
        (Path(command[2]) / "status.json").write_text(json.dumps(["float32-A", "Equinox"]))

    def poll(self):
        return None

    def wait(self, timeout=None):
        assert timeout is not None, "the run would wait without limit"
        raise subprocess.TimeoutExpired("worker", timeout)

    def kill(self):
        pass


def test_the_run_goes_on_beside_a_worker_that_does_not_end(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.with_name("gpu"))
    supervise = importlib.import_module("supervise")
    monkeypatch.setattr(supervise.subprocess, "Popen", Unkilled)
    monkeypatch.setattr(supervise, "STALLED", -1.0)
    task = supervise.Task("float32-A", {"do": "bench"}, seconds=100, until=1.0, workers=1)
    assert supervise.Run(tmp_path, 10, {})._one_worker([task]) == [task]
    assert task.without == ["Equinox"]
    expected = "the worker did not end when it was killed at Equinox in float32-A; again without it"
    assert expected in capsys.readouterr().out


def test_an_unknown_task_is_refused(tmp_path, machine):
    run = rehearse(tmp_path / "results", machine, "--only", "values-Z")
    assert run.returncode == 2
    assert "there is no task 'values-Z'; expected some of values-A, " in run.stderr
