"""Writers of numbers: TensorBoard's event files, and those of others."""

import sys

import jax.numpy as jnp
import optax
import pytest
from training import config, lines, stop_at, write_sequences

from lstmjax.config import ConfigError
from lstmjax.training import Interrupted, Writing, fit, resume, train
from lstmjax.training.writers import numbers

pytestmark = pytest.mark.usefixtures("promotion")


class Kept:
    """A writer that keeps what it gets, as one for MLflow would send it."""

    def __init__(self):
        self.written, self.closed = [], 0

    def write(self, values, step):
        self.written.append((step, dict(values)))

    def close(self):
        self.closed += 1


def events(folder):
    """The numbers in event files by name, as (step, value), read by the format's own messages."""
    from tensorboardX import SummaryWriter  # noqa: F401
    from tensorboardX.proto.event_pb2 import Event

    numbers = {}
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            place += 16 + size  # length, its checksum, the message, its checksum
            if event.HasField("session_log"):  # what came after this step is void
                numbers = {name: [pair for pair in pairs if pair[0] < event.step] for name, pairs in numbers.items()}
            for value in event.summary.value:
                numbers.setdefault(value.tag, []).append((event.step, value.simple_value))
    return numbers


@pytest.fixture
def settings(tmp_path):
    write_sequences(tmp_path / "a.npz", ragged=False)
    return config(data={"source": str(tmp_path / "a.npz")}, writers=["tensorboard"], gradients=True)


def test_event_files_hold_what_metrics_jsonl_holds(settings, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Interrupted):
            train(settings, run, quiet=True)
    resume(run, quiet=True)
    numbers = events(run / "tensorboard")
    records = lines(run)
    assert [step for step, _ in numbers["validation/loss"]] == [2, 4, 6]
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "gradient/norm"):
        part, key = name.split("/")
        assert numbers[name] == [(record["step"], pytest.approx(record[part][key], rel=1e-6)) for record in records]


def test_without_tensorboardx_the_extra_is_named(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"pip install 'lstmjax\[tensorboard\]'"):
        train(settings, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_unknown_writer_is_refused():
    with pytest.raises(ConfigError, match="writers has 'tensorbord', expected tensorboard"):
        config(writers=["tensorbord"])


def test_writers_do_not_change_what_a_run_is():
    assert config(writers=["tensorboard"]).fingerprint == config().fingerprint


def test_any_writer_is_a_hook_of_fit_and_train(tmp_path):
    kept, other = Kept(), Kept()
    data = [jnp.eye(2)]
    fit(
        jnp.zeros(2), data, lambda params, batch, key: ((batch @ params - 3.0) ** 2).mean(), optax.sgd(0.5),
        steps=4, evaluate_every=2, hooks=[Writing(kept)],
    )  # fmt: skip
    assert [step for step, _ in kept.written] == [2, 4]
    assert kept.written[0][1]["train/loss"] > kept.written[1][1]["train/loss"]
    assert kept.closed == 1
    write_sequences(tmp_path / "a.npz", ragged=False)
    train(config(data={"source": str(tmp_path / "a.npz")}), tmp_path / "run", quiet=True, hooks=[Writing(other)])
    records = lines(tmp_path / "run")
    assert [step for step, _ in other.written] == [record["step"] for record in records]
    for (_, values), record in zip(other.written, records, strict=True):
        del values["steps_per_second"], record["check"]
        assert values == dict(numbers(record))
