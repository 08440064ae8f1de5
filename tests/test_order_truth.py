"""The case with a known answer: some unit must hold the first marker, and the tools must find it.

What is measured is what `benchmarks/order_seeds.py` prints.
"""

import runpy
from pathlib import Path

import pytest

from lstmjax.config import load_config
from lstmjax.data import load
from lstmjax.training.loop import train

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("promotion")


def found(tmp_path, monkeypatch, **changes):
    """What the tools say of configs/order.yaml, trained with changes."""
    monkeypatch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)
    config = load_config(ROOT / "configs" / "order.yaml")
    data = config.data.model_copy(update={"length": changes.pop("length", 100)})
    result = train(config.model_copy(update={"data": data, **changes}), tmp_path / "run", quiet=True)
    look = runpy.run_path(str(ROOT / "benchmarks" / "order_seeds.py"))["look"]
    return look(result.trained, load(data)[0].test.take(slice(0, 256)))


def is_the_truth(answer):
    assert answer.accuracy >= 0.99
    assert answer.auc >= 0.95
    # Without the first marker, half of the answers are right at best; the rest is what 256 draws may be off.
    assert answer.without <= 0.5 + 2 * (0.25 / 256) ** 0.5
    assert answer.forget >= 0.95
    # Between the markers most of its gradient comes along the cell; with all cell paths cut nothing is left.
    assert answer.along_the_cell > 0.5
    assert answer.recurrent_alone < 1e-3


def test_the_unit_that_holds_the_first_marker_is_found(tmp_path, monkeypatch):
    is_the_truth(found(tmp_path, monkeypatch, length=30, steps=500, evaluate_every=500))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_is_found_over_five_seeds(tmp_path, monkeypatch, seed):
    is_the_truth(found(tmp_path, monkeypatch, seed=seed))
