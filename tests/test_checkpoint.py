import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from training import damage, flip

from lstmjax import init_network
from lstmjax.sums import sealed
from lstmjax.training.checkpoint import CheckpointError, Checkpoints

pytestmark = pytest.mark.usefixtures("promotion")


class Tree(NamedTuple):
    params: object
    moments: object
    step: object


def make(step=0, seed=0):
    """A real state: NamedTuples with None in them, and Optax' own."""
    params = init_network(jax.random.key(seed), 3, 4, 2, bidirectional=True, init="torch", projection_size=2)
    return Tree(params, optax.adamw(1e-3).init(params), np.int32(step))


def abstract(tree):
    return jax.eval_shape(lambda: tree)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_what_was_saved_comes_back_bit_by_bit(tmp_path, caplog):
    tree = make(3)
    with Checkpoints(tmp_path / "c", "f") as saved:
        saved.save(3, tree, 0.5)
    caplog.clear()
    with Checkpoints(tmp_path / "c", "f", read_only=True) as saved:
        step, found = saved.latest(abstract(tree))
    assert step == 3
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []  # reading is no reason to warn
    same(found, tree)


def test_the_last_two_and_the_best_are_kept(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.3, 4: None, 5: 0.4, 6: None, 7: 0.2}
    with Checkpoints(tmp_path / "c", "f") as saved:
        for step, score in scores.items():
            saved.save(step, make(step, seed=step), score)
        assert saved.steps() == [2, 6, 7]
        step, found = saved.best(abstract(make()))
        assert step == 2
        same(found, make(2, seed=2))
        assert saved.latest(abstract(make()))[0] == 7
        with pytest.raises(OSError, match="step 3 was not saved, a later one is there"):
            saved.save(3, make(3), 0.0)
    assert not (tmp_path / "c" / ".trash").exists()


def test_certain_steps_are_kept_too(tmp_path):
    scores = {1: 0.9, 2: 0.1, 3: 0.3, 4: None, 5: 0.4, 6: None, 7: 0.2, 8: 0.1}
    with Checkpoints(tmp_path / "c", "f", keep_every=3) as saved:
        for step, score in scores.items():
            saved.save(step, np.float32(step), score)
        assert saved.steps() == [1, 3, 6, 7, 8]
    damage(tmp_path / "c" / "6")
    with Checkpoints(tmp_path / "c", "f", read_only=True) as saved:
        found = list(saved.each(jax.ShapeDtypeStruct((), np.float32)))
    assert found == [(1, 1.0), (3, 3.0), (7, 7.0), (8, 8.0)]


@pytest.mark.parametrize("how", [flip, lambda data: data[: len(data) // 2], lambda data: b""], ids=["flip", "cut", "0"])
def test_damage_is_told_in_one_line_and_the_step_before_is_taken(tmp_path, caplog, how):
    with Checkpoints(tmp_path / "c", "f") as saved:
        for step in (1, 2):
            saved.save(step, make(step, seed=step), float(step))
    damage(tmp_path / "c" / "2", how)
    with Checkpoints(tmp_path / "c", "f") as saved:
        step, found = saved.latest(abstract(make()))
        assert step == 1
        same(found, make(1, seed=1))
        assert saved.steps() == [1]  # the damaged one is gone, so that step 2 can be saved again
        saved.save(2, make(2, seed=2), 2.0)
        assert saved.best(abstract(make()))[0] == 2
    lines = [record.getMessage() for record in caplog.records if record.name == "lstmjax"]
    assert len(lines) == 1
    assert "checkpoint of step 2 is damaged" in lines[0]
    assert "\n" not in lines[0]


def test_wrong_values_in_whole_files_are_told(tmp_path, caplog):
    with Checkpoints(tmp_path / "c", "f") as saved:
        for step in (1, 2):
            saved.save(step, make(step, seed=step), float(step))
    about = tmp_path / "c" / "2" / "about" / "metadata"
    text = json.loads(about.read_text("utf-8"))
    text["crc"]["params.head.w"] += 1
    about.write_text(json.dumps(sealed(text | {"check": None})), "utf-8")
    (tmp_path / "c" / ".sums" / "2.json").unlink()  # as a kill right after saving leaves it
    with Checkpoints(tmp_path / "c", "f", read_only=True) as saved:
        assert saved.latest(abstract(make()))[0] == 1
        assert saved.steps() == [1, 2]
    assert "checkpoint of step 2 is damaged (the checksum of params.head.w is wrong)" in caplog.text


def test_nothing_whole_is_told(tmp_path):
    with Checkpoints(tmp_path / "c", "f") as saved:
        saved.save(1, make(1), 0.5)
    damage(tmp_path / "c" / "1", flip)
    with (
        Checkpoints(tmp_path / "c", "f", read_only=True) as saved,
        pytest.raises(CheckpointError, match="no checkpoint that can be read; start the run anew"),
    ):
        saved.latest(abstract(make()))
    with pytest.raises(CheckpointError, match="no such folder"):
        Checkpoints(tmp_path / "nowhere", "f", read_only=True)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    with Checkpoints(tmp_path / "c", "one") as saved:
        saved.save(1, make(1), 0.5)
    with (
        Checkpoints(tmp_path / "c", "two") as saved,
        pytest.raises(CheckpointError, match=r"saved with another configuration \(one\) than config.yaml has now"),
    ):
        saved.latest(abstract(make()))


FULL_DISK = """
import resource, sys
from pathlib import Path
from lstmjax.training.checkpoint import Checkpoints
from test_checkpoint import make

with Checkpoints(Path(sys.argv[1]), "f") as saved:
    saved.save(1, make(1), 0.5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
    try:
        saved.save(2, make(2), 0.6)
    except OSError as error:
        print(error)
    print(saved.steps())
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are there on POSIX systems only")
def test_a_full_disk_is_told_in_one_line(tmp_path):
    """In a process of its own: what orbax leaves of a write that failed goes with it."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run" / "c")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    message, steps = run.stdout.splitlines()
    assert "could not be saved" in message
    assert "earlier steps are intact" in message
    assert steps == "[1]"
