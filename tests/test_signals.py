import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from training import config

from lstmjax.config import dump_config
from lstmjax.signals import SAVING, interruptible, noted
from lstmjax.training import plan
from lstmjax.training.loop import train

HELD = pytest.mark.skipif(sys.platform == "win32", reason="signals between processes are those of POSIX systems")


@pytest.fixture
def acted():
    """What came through to handlers that were there before."""
    came = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SAVING}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SAVING, ids=str)
def test_the_first_signal_is_noted_and_the_second_acts(acted, number):
    with noted() as stop:
        assert stop.signum is None
        signal.raise_signal(number)
        assert (stop.signum, acted) == (number, [])
        signal.raise_signal(number)
        assert acted == [number]
    signal.raise_signal(number)
    assert acted == [number, number]


@HELD
def test_what_nohup_ignores_stays_ignored(acted):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with noted() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.signum is None
    assert signal.signal(signal.SIGHUP, before) is signal.SIG_IGN


def test_an_interrupt_that_lands_in_a_callback_comes_again():
    class Callback:
        def __del__(self):  # what is raised here goes nowhere
            signal.raise_signal(signal.SIGINT)
            sum(range(10))

    def work():
        callback = Callback()
        del callback
        time.sleep(10)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert time.monotonic() - began < 5


def test_a_signal_before_there_is_anything_to_save_acts_at_once(tmp_path, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background does not leave
    load = plan.load

    def slow(*arguments):
        signal.raise_signal(signal.SIGINT)
        return load(*arguments)

    monkeypatch.setattr(plan, "load", slow)
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def interrupted_at(module, words):
    """Run a command, which Ctrl-C ends when a module is imported."""
    script = f"""
import signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder)
from lstmjax.__main__ import main
sys.exit(main())
"""
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)


@pytest.mark.thorough
@HELD
@pytest.mark.parametrize("module", ["pydantic", "tyro", "jax", "orbax.checkpoint"])
def test_ctrl_c_while_modules_load_is_one_line(tmp_path, module):
    (tmp_path / "a.yaml").write_text(dump_config(config()), "utf-8")
    words = ["train", str(tmp_path / "a.yaml"), "--run-dir", str(tmp_path / "run")]
    run = interrupted_at(module, words)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "lstmjax: stopped\n")
    assert not (tmp_path / "run").exists()


@HELD
@pytest.mark.parametrize("resume", [["--resume", "runs/my run"], ["--resume=runs/my run"]])
def test_ctrl_c_while_modules_load_says_how_to_go_on(resume):
    run = interrupted_at("pydantic", ["forecast", *resume])
    expected = f"lstmjax: stopped; continue by: lstmjax forecast {shlex.join(resume)}\n"
    assert (run.returncode, run.stdout, run.stderr) == (130, "", expected)


def test_the_command_is_the_one_that_takes_care_of_ctrl_c_first():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["scripts"] == {"lstmjax": "lstmjax.__main__:main"}
    light = "import sys, lstmjax.signals; assert not {'pydantic', 'tyro', 'numpy', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)
