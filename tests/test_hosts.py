"""Several real processes that train together, over Gloo, on this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from training import config, lines

from lstmjax.config import dump_config
from lstmjax.errors import ConfigError
from lstmjax.launch import Hosts, hosts_of
from lstmjax.training import load_run, resume, train

pytestmark = pytest.mark.usefixtures("promotion")
HERE = Path(__file__).parent
COMMAND = (sys.executable, "-m", "lstmjax", "train")


def start(words, count, environment=()):
    """Start processes of one training; each by a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    clean = os.environ | dict(environment)
    path = os.pathsep.join([str(HERE.parent), clean.get("PYTHONPATH", "")])
    return [
        subprocess.Popen(
            [*COMMAND, *map(str, words), "--coordinator", address, "--processes", str(count), "--process", str(n)],
            env=clean | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n in range(count)
    ]  # fmt: skip


def ends(processes, timeout):
    results = []
    for process in processes:
        out, err = process.communicate(timeout=timeout)
        results.append((process.returncode, out, err))
    return results


def child_of(process):
    """The process that trains; the one that was started watches over it."""
    [number] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(number)


def wait_for_lines(run, count, processes):
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_text("utf-8").count("\n") < count:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


def written(settings, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(dump_config(settings), encoding="utf-8")
    return path


@pytest.mark.thorough
def test_two_processes_train_as_one_does(tmp_path):
    settings = config(steps=4, batch_size=9)  # an odd batch: the second process has a sequence of weight 0 in it
    (first, out, err), (second, nothing, _) = ends(
        start([written(settings, tmp_path), "--run-dir", tmp_path / "two"], 2), 200
    )
    assert (first, second) == (0, 0), err
    assert "2 devices of 2 processes: the batch in 2 slices" in out
    assert "step" not in nothing
    alone = train(settings, tmp_path / "alone", quiet=True)
    for a, b in zip(load_run(tmp_path / "two").params.layers[0], alone.trained.params.layers[0], strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(lines(tmp_path / "two"), lines(tmp_path / "alone"), strict=True):
        assert a["step"] == b["step"]
        assert a["train"]["loss"] == pytest.approx(b["train"]["loss"], rel=1e-5)


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="looks for a process in /proc")
@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_all_leave_when_one_is_killed_and_the_run_goes_on(tmp_path, victim):
    settings = config(steps=3000, evaluate_every=50)
    run = tmp_path / "run"
    processes = start([written(settings, tmp_path), "--run-dir", run], 2)
    wait_for_lines(run, 2, processes)
    os.kill(child_of(processes[victim]), signal.SIGKILL)
    began = time.monotonic()
    results = ends(processes, 30)
    assert time.monotonic() - began < 30
    assert [result[0] for result in results] == [137 if n == victim else 75 for n in range(2)], results
    assert "another process of this training is lost" in results[1 - victim][2]
    steps = sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    assert steps[-1] >= 50
    shorter = dump_config(settings)  # what was saved is intact: one process goes on from it
    assert shorter == (run / "config.yaml").read_text("utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "lstmjax", "train", "--resume", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    wait_for_lines(run, steps[-1] // 50 + 2, [process])
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"from step {steps[-1]}" in out
    assert "damaged" not in err


@pytest.mark.thorough
def test_a_signal_to_one_stops_all_with_the_state_saved_and_three_go_on(tmp_path):
    settings = config(steps=3000, evaluate_every=50)
    run = tmp_path / "run"
    processes = start([written(settings, tmp_path), "--run-dir", run], 2)
    wait_for_lines(run, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    results = ends(processes, 60)
    assert [code for code, _, _ in results] == [143, 143], results
    assert f"continue by: lstmjax train --resume {run}" in results[0][2]
    last = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    more = start(["--resume", run], 3)
    wait_for_lines(run, last // 50 + 2, more)
    more[0].send_signal(signal.SIGINT)
    results = ends(more, 60)
    assert [code for code, _, _ in results] in ([130, 143, 143], [143, 143, 143]), results
    assert f"from step {last}" in results[0][1]


@pytest.mark.thorough
@pytest.mark.parametrize("text", [False, True])
def test_a_checkpoint_of_two_processes_goes_on_on_one_device_and_on_eight(tmp_path, text):
    """In float64, so that hundreds of steps are those of a run that was never stopped."""
    data = {"source": "fables", "text": "characters", "segment": 20} if text else {}
    model = {"dtype": "float64", "param_dtype": "float64"}
    settings = config(steps=2000, evaluate_every=50, batch_size=8, model=model, data=data)
    run = tmp_path / "run"
    processes = start([written(settings, tmp_path), "--run-dir", run], 2)
    wait_for_lines(run, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    results = ends(processes, 100)
    assert [code for code, _, _ in results] == [143, 143], results
    one, eight = (Path(shutil.copytree(run, tmp_path / name)) for name in ("one", "eight"))
    more = subprocess.run(
        [*COMMAND, "--resume", str(eight), "--mesh", "auto"], capture_output=True, text=True, timeout=200,
        env=os.environ
        | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"}
        | {"PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip
    assert more.returncode == 0, more.stderr
    assert "8 devices: the batch in 8 slices" in more.stdout
    expected = train(settings, tmp_path / "alone", quiet=True).trained.params
    for params in (resume(one, mesh="data=1", quiet=True).trained.params, load_run(eight).params):
        assert jax.tree.structure(params) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.thorough
def test_all_refuse_what_the_first_refuses(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine.txt").write_text("something")
    results = ends(start([written(config(), tmp_path), "--run-dir", run], 2), 100)
    assert [code for code, _, _ in results] == [2, 2]
    assert "exists and is not empty" in results[0][2]
    assert "process 0: " in results[1][2]
    assert "exists and is not empty" in results[1][2]


SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]", "SLURM_PROCID": "2"}


def test_processes_come_from_options_the_environment_or_slurm():
    by_names = {"LSTMJAX_COORDINATOR": "a:1", "LSTMJAX_PROCESSES": "3", "LSTMJAX_PROCESS": "2"}
    assert hosts_of("b:2", "2", "1", by_names) == Hosts("b:2", 2, 1)
    assert hosts_of(None, None, None, by_names | SLURM) == Hosts("a:1", 3, 2)
    assert hosts_of(None, None, None, SLURM) == Hosts(None, 4, 2)
    assert hosts_of(None, None, None, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a script of sbatch
    assert hosts_of("b:2", 1, 0) is None


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("a:1", None, None), "--processes and --process are missing"),
        (("a", 2, 0), "--coordinator is 'a'; it should be HOST:PORT"),
        (("a:1", 2, 2), "--process is 2 of 2 processes; it should be from 0 to 1"),
        (("a:1", "two", 0), "--processes is 'two'; it should be a whole number"),
    ],
)
def test_parts_that_do_not_fit_are_refused(words, text):
    with pytest.raises(ConfigError, match=text):
        hosts_of(*words, {})
