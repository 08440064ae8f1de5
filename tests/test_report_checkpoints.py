"""What the page shows of the checkpoints of a run: the slider redraws the map."""

import re
import shutil

import jax
import numpy as np
import pytest
from browser import chromium
from test_report import data_of, unpacked
from training import config, write_sequences

from lstmjax import Bidirectional, init_network
from lstmjax.cli import main
from lstmjax.config import dump_config
from lstmjax.inside import Gates, GateStatistics, trace
from lstmjax.report import checkpoints, report
from lstmjax.report import details as module
from lstmjax.report.details import RunDetails
from lstmjax.training import Learning, load_checkpoints

pytestmark = pytest.mark.usefixtures("promotion")
STEPS = (0, 5, 9)
LENGTHS = np.array([6, 4, 5])
XS = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
NETWORKS = [init_network(jax.random.key(n), 2, 4, 3, bidirectional=True) for n in range(3)]


def details(steps=STEPS):
    """A run with a checkpoint at each of some steps."""
    gates = [Gates(*np.random.default_rng(1).random((4, len(steps), 4))) for _ in range(8)]
    count = np.full(len(steps), 20)
    pair = Bidirectional(GateStatistics(*gates[:4], count), GateStatistics(*gates[4:], count))
    networks = [NETWORKS[n % 3] for n in range(len(steps))]
    return RunDetails("", {}, {}, Learning(np.array(steps), (pair,)), (), (), tuple(zip(steps, networks, strict=True)))


def page(run, **options):
    return report(NETWORKS[-1], XS, lengths=LENGTHS, examples=(2, 1), run=run, **options)


def test_the_maps_of_checkpoints_are_traces_of_their_networks():
    tree = data_of(page(details()).html)["learning"]
    assert [kept["step"] for kept in tree["maps"]] == list(STEPS)
    for kept, params in zip(tree["maps"], NETWORKS, strict=True):
        for row, example in zip((2, 1), kept["examples"], strict=True):
            (alone,) = trace(params, XS[row, : LENGTHS[row]])
            for step, part in zip(alone, example, strict=True):
                assert set(part) == {"i", "f", "g", "o", "c", "h"}
                for name, packed in part.items():
                    values, error = unpacked(packed)
                    assert np.abs(values - np.asarray(getattr(step, name))).max() <= error + 1e-6


@pytest.mark.parametrize(
    ("numbers", "steps", "fields"),
    [
        (10_000, 12, {"i", "f", "g", "o", "c", "h"}),
        (9 * 8 * 6 * 4, 4, {"i", "f", "g", "o", "c", "h"}),  # 9 steps of two examples, 8 units
        (9 * 8 * 6 * 3, 9, {"f", "c"}),
        (9 * 8 * 2 * 2, 2, {"f", "c"}),
        (9 * 8 * 2, 0, None),
    ],
)
def test_what_has_no_room_is_left_out(monkeypatch, numbers, steps, fields):
    monkeypatch.setattr(checkpoints, "MAX_NUMBERS", numbers)
    maps = data_of(page(details(tuple(range(20)))).html)["learning"]["maps"]
    assert len(maps) == steps
    if steps:
        assert (maps[0]["step"], maps[-1]["step"]) == (0, 19)
        assert set(maps[0]["examples"][0][0]) == fields


def test_a_run_without_checkpoints_has_no_maps():
    assert data_of(page(details()._replace(checkpoints=())).html)["learning"]["maps"] == []
    assert data_of(page(details()._replace(learning=None)).html)["learning"] is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that kept checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    write_sequences(folder / "a.npz", target="word")
    (folder / "words.yaml").write_text(dump_config(config(data={"source": str(folder / "a.npz")})), encoding="utf-8")
    with jax.numpy_dtype_promotion("standard"):
        assert main(["train", str(folder / "words.yaml"), "--run-dir", str(folder / "r"), "--keep-every", "2"]) == 0
    return folder / "r"


@pytest.mark.thorough
def test_the_slider_has_the_map_at_each_checkpoint_of_a_run(run, tmp_path, monkeypatch):
    looked_at = []

    def look(path):
        looked_at.append(path)
        return load_checkpoints(path)

    monkeypatch.setattr(module, "load_checkpoints", look)
    shutil.copytree(run, tmp_path / "second")
    out = tmp_path / "page.html"
    words = ["inspect", str(run), "--compare", str(tmp_path / "second"), "--out", str(out), "--examples", "1"]
    assert main(words) == 0
    assert looked_at == [run]  # of the second one the page shows no checkpoints
    tree = data_of(out.read_text("utf-8"))
    assert [kept["step"] for kept in tree["learning"]["maps"]] == tree["learning"]["steps"] == [0, 2, 4, 6]
    last, error = unpacked(tree["learning"]["maps"][-1]["examples"][0][0]["f"])
    first, _ = unpacked(tree["learning"]["maps"][0]["examples"][0][0]["f"])
    assert np.abs(last - first).max() > 2 * error


@pytest.mark.thorough
def test_the_slider_redraws_the_map_and_the_pinned_unit(tmp_path):
    path = tmp_path / "report.html"
    page(details(), path=path)
    expected = [np.asarray(trace(params, XS[2, :5])[0].forward.f) for params in NETWORKS]
    look = (
        "return [document.querySelector('#readout b').innerText, document.querySelector('#legend').innerText, "
        "document.querySelector('#map').toDataURL(), document.querySelector('.track[data-kind=gate] .plot').innerHTML,"
        " document.querySelectorAll('output')[0].innerText]"
    )
    with chromium() as browser:
        browser.get(path.as_uri())
        sliders = [browser.find_element("id", name) for name in ("checkpoint-of-map", "checkpoint")]
        before = browser.execute_script(look)
        browser.execute_script("document.querySelector('#map').focus()")
        browser.find_element("id", "map").send_keys("\ue011")  # Home
        seen = []
        for n in range(4):
            slider = sliders[n % 2]  # either moves the other
            move = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
            browser.execute_script(move, slider, n)
            assert {s.get_attribute("value") for s in sliders} == {str(n)}
            seen.append(browser.execute_script(look))
        place = browser.execute_script("return document.querySelector('#readout .soft').innerText")
        unit = int(re.search(r"unit (\d+), .*step 0$", place)[1])
        for n, (readout, legend, *_) in enumerate(seen[:3]):
            assert float(readout.split(" = ")[1]) == pytest.approx(expected[n][0, unit], abs=0.003)
            assert legend.strip().endswith(f"after training step {STEPS[n]}")
        assert "training step" not in seen[3][1]
        assert len({entry[2] for entry in seen[:3]}) == 3  # three maps
        assert len({entry[3] for entry in seen[:3]}) == 3  # three curves
        assert seen[3][2] == before[2]
        assert [entry[4] for entry in seen] == ["0", "5", "9", "this network"]
