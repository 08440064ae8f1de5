"""Training on eight virtual devices, in a process of their own, against one device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lstmjax.config import ConfigError, parse_config
from lstmjax.config.devices import parse_mesh

HERE = Path(__file__).parent


@pytest.mark.thorough
def test_eight_devices_train_as_one_does(tmp_path):
    """Raw gradients, parameters and statistics; language models; any loss; checkpoints of eight on one and back."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags}
    path = os.pathsep.join([str(HERE.parent), str(HERE), environment.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, str(HERE / "mesh_script.py"), str(tmp_path)],
        env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.count("ok ") == 8


@pytest.mark.parametrize("text", ["data=0", "batch=2", "data=2,data=4", "4", "", "data=2;model=2", "data=-1"])
def test_other_words_than_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="it should be auto, or the sizes of the axes data and model"):
        parse_config({"steps": 1, "mesh": text})


def test_a_mesh_changes_no_fingerprint():
    a, b = (parse_config({"steps": 1, "mesh": text}) for text in ("auto", " data=4, model = 2"))
    assert a.fingerprint == b.fingerprint
    assert parse_mesh(b.mesh) == (4, 2)
