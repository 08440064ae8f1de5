"""docs/benchmarks.md is what `benchmarks/page.py` makes of the stored results."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from lstmjax.bench import Comparison, Results, Row, read_json, write_json
from lstmjax.bench.competitors import ALL, AUTO, CONTROLS
from lstmjax.bench.machine import Machine
from lstmjax.bench.points import GRID

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
MACHINE = Machine("2000-01-02T03:04+00:00", "cpu", "cpu", "a CPU", 2, "3.11", {"jax": "0.10"}, {}, 0.5, 100.0, "kernel")
TIMES = {AUTO: 1.0, "lstmjax scan": 2.0, "Haiku": 1.5, "PyTorch": 3.0, CONTROLS[0]: 1.7, CONTROLS[1]: 1.7}


@pytest.fixture
def page():
    return runpy.run_path(str(ROOT / "benchmarks" / "page.py"))


def test_the_page_is_what_is_made_of_the_results(page):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page["page"](text) == text, "run python benchmarks/page.py"


def test_every_result_is_shown_and_says_where_it_comes_from():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    shown = re.findall(r"<!-- table ([\w.-]+) -->", text)
    assert sorted(shown) == [path.stem for path in FILES]
    for path in FILES:
        tree = json.loads(path.read_text())
        assert tree["command"]
        assert tree["machine"]["cpu"]
        assert tree["machine"]["versions"]["jax"]
        assert re.match(r"20\d\d-\d\d-\d\d", tree.get("date") or tree["machine"]["date"])
        assert tree["format"] == "lstmjax bench 1" or "raw times" in tree["recorded"]


def test_a_run_is_stored_with_its_times_and_becomes_a_table(page, tmp_path, monkeypatch):
    rows = tuple(Row(name, ALL[name].kind, (1e-3 * t, 1.23456789e-3 * t)) for name, t in TIMES.items())
    comparison = Comparison(GRID["A"], "training", "float32", rows)
    write_json(Results(MACHINE, (comparison,), command="lstmjax bench --points A"), tmp_path / "run.json")
    monkeypatch.setitem(page["store"].__globals__, "RESULTS", tmp_path)
    page["store"](tmp_path / "run.json", "stored", ["it was busy"])
    stored = read_json(tmp_path / "stored.json")
    np.testing.assert_allclose(stored.comparisons[0].rows[0].seconds, rows[0].seconds, rtol=1e-4)
    text = "\n".join(page["table"]("stored"))
    where = "a CPU, 2 CPUs, Python 3.11, jax 0.10, matrix products 100 GFLOP/s, kernel, 2000-01-02.*"
    assert text.startswith(f"*`lstmjax bench --points A`, {where}\n")
    assert "| A | training | Haiku | 1.50 | 0.75! | 3.00 | 0.0% | 1.12 (1.06 to 1.18) |" in text
    assert "| mean of A to G | training |  | 1.50 | 0.75 | 3.00 |  |  |" in text
    assert text.endswith("- it was busy")
