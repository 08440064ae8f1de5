"""The benchmark: who may be timed, how ratios are judged and told, and that files keep everything. No speed in here."""

import itertools
import json
import math
import mmap
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from lstmjax import bench, lstm
from lstmjax.backends.native_library import Library
from lstmjax.bench import builders, clock, ensembles, growth, machine, run, show, steps
from lstmjax.bench.competitors import ALL, AUTO, CONTROLS, OURS, REFERENCE, Competitor
from lstmjax.bench.machine import Machine
from lstmjax.bench.picture import picture
from lstmjax.bench.points import GRID, make_job
from lstmjax.bench.program import on_jax
from lstmjax.bench.results import Comparison, Results, Row
from lstmjax.cli import main
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.base.timing import JAX_PEER

TINY = bench.Point("tiny", 3, 5, 2, 4)
MACHINE = Machine("2000-01-01", "cpu", "cpu", "a CPU", 2, "3.11", {"jax": "0.10"}, {}, 0.5, 100.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Probes the machine with small products, keeps what JAX has compiled, and settles briefly."""
    monkeypatch.setattr(machine, "PROBED", {"cpu": 32})
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    monkeypatch.setattr(clock, "SETTLE", 1e-2)


def rows_of(*competitors, modes=("forward", "training")):
    found = bench.measure([TINY], [ALL[REFERENCE], *competitors], modes=modes, rounds=2)
    return {one.mode: {row.name: row for row in one.rows} for one in found.comparisons}


def made(times, mode="training", point=GRID["A"]):
    """A comparison of made-up times, by name."""
    return Comparison(point, mode, "float32", tuple(Row(name, kind_of(name), tuple(t)) for name, t in times.items()))


def kind_of(name):
    return ALL[name].kind if name in ALL else JAX_PEER


def test_one_wrong_weight_is_found_and_not_timed():
    def build(job):
        (p,) = job.layers
        return builders.plain(job._replace(layers=(p._replace(w_h=p.w_h.at[1, 2, 3].add(0.01)),)))

    found = rows_of(Competitor("wrong", JAX_PEER, build), ALL["lax.scan"])
    assert len(found["forward"]["lax.scan"].seconds) == 2
    for rows in found.values():  # in training, too, without a second look
        assert rows["wrong"].wrong
        assert not rows["wrong"].seconds
        assert rows["wrong"].why.startswith("computes something else: outputs ")
        assert rows["wrong"].why.endswith(" eps away, bound 64")


def test_a_wrong_gradient_behind_right_outputs_is_found():
    def build(job):
        (p,) = job.layers
        forward = lambda p, xs: lstm(p._replace(b=jax.lax.stop_gradient(p.b)), xs)[1]
        return on_jax(OnJax(forward, p, lambda found: (found,)), job)

    (training,) = rows_of(Competitor("wrong", JAX_PEER, build), modes=("training",)).values()
    assert training["wrong"].wrong
    assert "computes something else: gradient of [0].b " in training["wrong"].why


def test_an_error_in_one_leaves_the_others():
    def build(job):
        raise RuntimeError("no such device\nand a page of noise")

    (forward,) = rows_of(Competitor("broken", JAX_PEER, build), modes=("forward",)).values()
    assert forward["broken"].why == "RuntimeError: no such device"
    assert not forward["broken"].wrong
    assert len(forward[REFERENCE].seconds) == 2
    assert set(forward[REFERENCE].stages) == {"trace", "lower", "compile", "first"}
    assert forward[REFERENCE].temporaries >= 0


def test_what_differs_is_infinite_where_it_is_missing_or_no_number():
    a = np.array([1.0, 2.0], np.float32)
    away = run.differ({"ys": a, "xs": a * np.nan}, {"ys": a, "xs": a, "w": a}, "float32")
    assert away == {"ys": 0.0, "xs": np.inf, "w": np.inf}
    assert run.differ({"ys": a + np.float32([0, 2**-20])}, {"ys": a}, "float32") == {"ys": 4.0}


def test_networks_are_the_same_for_ours_and_the_plain_scan():
    small = replace(TINY, layers=2, directions=2)
    found = bench.measure([small], [ALL[REFERENCE], ALL["lax.scan"]], modes=("training",), rounds=1)
    (rows,) = (one.rows for one in found.comparisons)
    assert all(row.seconds and not row.wrong for row in rows)
    assert len(rows[1].differences) == 2 * 2 * 3 + 1


@pytest.mark.peers
@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize(
    "point",
    [
        TINY,
        *(
            pytest.param(replace(TINY, name=more, **{more: 2}), marks=pytest.mark.slow)
            for more in ("layers", "directions")
        ),
    ],
)
def test_all_competitors_compute_the_same(point):
    found = bench.measure([point], bench.find_competitors(None), rounds=1)
    allowed = ("not installed", "runs on gpu only", "trains none", "no layer of two directions", "cannot run this")
    for one in found.comparisons:
        for row in one.rows:
            assert row.seconds or any(words in row.why for words in allowed), (one.mode, row.name, row.why)
            assert not row.wrong


@pytest.mark.usefixtures("frameworks")
def test_cudnn_is_handed_its_own_layout(monkeypatch):
    """Against the plain reference in `jax.experimental.rnn`, since there is no cuDNN on a CPU."""
    from jax.experimental import rnn

    handed = {}

    def lstm(x, h_0, c_0, weights, seq_lengths, **how):
        handed.update(how)
        sizes = {name: how[name] for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}
        arrays = rnn.unpack_lstm_weights(weights, **sizes)
        return rnn.lstm_ref(x, h_0, c_0, *arrays, seq_lengths, **sizes, dropout=0.0)

    monkeypatch.setattr(rnn, "lstm", lstm)
    for mode in ("forward", "training"):
        job = make_job(TINY, mode, "float32")
        programs = [build(job) for build in (ALL["cuDNN by JAX"].build, builders.plain)]
        theirs, ours = (program.arrays(program.call()) for program in programs)
        assert max(run.differ(theirs, ours, "float32").values()) < 16
    assert handed["precision"] == jax.lax.Precision.HIGHEST


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("name", ["Flax LSTMCell", "nnx OptimizedLSTMCell", "Equinox"])
def test_peers_on_jax_take_part_in_bfloat16(name):
    found = bench.measure([TINY], [ALL[REFERENCE], ALL[name]], modes=("forward",), dtype="bfloat16", rounds=1)
    (rows,) = (one.rows for one in found.comparisons)
    assert all(row.seconds for row in rows), [row.why for row in rows]


def test_several_programs_are_compiled_at_once_and_each_start_is_told():
    started = []
    chosen = [ALL[REFERENCE], ALL["lax.scan"], ALL["lax.scan again"]]
    found = bench.measure([TINY], chosen, modes=("training",), rounds=1, workers=3, starts=started.append)
    assert started == [*(row.name for row in chosen), *(row.name for row in chosen), ""]
    (rows,) = (one.rows for one in found.comparisons)
    assert all(row.seconds for row in rows), [row.why for row in rows]


def test_products_in_tf32_are_held_to_their_rounding():
    def build(job):
        (p,) = job.layers
        return builders.plain(job._replace(layers=(p._replace(w_h=p.w_h * (1 + 2.0**-13)),)))

    coarse = Competitor("coarse", JAX_PEER, build, rounding=2.0**13)
    found = rows_of(Competitor("exact", JAX_PEER, build), coarse, modes=("forward",))["forward"]
    assert found["exact"].wrong
    assert found["coarse"].seconds


def test_the_machine_says_which_native_kernel_it_has_or_how_to_get_one(monkeypatch):
    with_kernel, without = Library(Path("x"), "avx2"), Library(reason="it was not built; pip install . builds it")
    monkeypatch.setattr(machine.native_library, "load", lambda: with_kernel)
    assert str(machine.look("float32")).endswith("\nnative kernel for avx2")
    monkeypatch.setattr(machine.native_library, "load", lambda: without)
    assert str(machine.look("float32")).endswith("\nit was not built; pip install . builds it")
    assert "native kernel" not in str(MACHINE)


def test_calls_take_turns_in_every_round():
    calls = []
    found = bench.take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=7)
    assert {name: times.shape for name, times in found.items()} == {"a": (7,), "b": (7,)}
    assert {"a", "b"} == set(calls)
    assert bench.take_turns({}) == {}


def test_nobody_is_timed_beside_threads_that_spin(monkeypatch):
    """After a call of one network its threads compute for 40 ms."""
    now, end = 0.0, 0.0
    beside = []

    def spins():
        nonlocal now, end
        now += 0.05
        end = now + 0.04

    def waits():
        nonlocal now
        beside.append(now < end)
        now += 0.05

    monkeypatch.setattr(clock, "SETTLE", 0.06)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now))
    times = bench.take_turns({"spins": spins, "waits": waits}, rounds=7)
    assert any(beside)
    turns = np.reshape(beside[2:], (7, 3))  # two calls to warm up; in each turn two that are not timed and one that is
    assert not turns[:, 2].any()
    np.testing.assert_allclose(times["waits"], 0.05)


def test_a_call_that_compiles_at_first_is_not_taken_for_a_long_one():
    count = itertools.count()
    bench.take_turns({"jitted": lambda: time.sleep(0.25 if next(count) == 0 else 0)}, rounds=5)
    assert next(count) > 50  # repeated and settled, not one call a round


def test_slower_than_the_best_peer_is_a_loss_and_printed_as_one():
    times = {AUTO: [1.2] * 5, "Haiku": [1.0] * 5, "Keras on JAX": [1.1] * 5, CONTROLS[0]: [1.3] * 5}
    times |= {CONTROLS[1]: [1.3] * 5, "PyTorch": [0.5] * 5}  # no peer on JAX
    verdict = bench.judge(made(times), AUTO)
    assert (verdict.best.name, verdict.loss) == ("Haiku", True)
    text = "\n".join(show.lines(Results(MACHINE, (made(times),))))
    assert "LOSS  lstmjax auto takes 1.20 times as long as the best peer on JAX, Haiku" in text
    assert "losses of lstmjax auto: 1 of 1" in text
    assert "0.83!    0.42" in text  # that of Haiku, and PyTorch's


@pytest.mark.parametrize(("ours", "words"), [(1.04, "even  "), (0.96, "even  "), (0.5, "ahead ")])
def test_within_the_tolerance_or_ahead_is_no_loss(ours, words):
    verdict = bench.judge(made({AUTO: [ours] * 3, "Haiku": [1.0] * 3}), AUTO)
    assert not verdict.loss
    assert show.in_words(verdict).startswith(words)
    assert show.in_words(verdict._replace(best=None)) == "lstmjax auto: no peer on JAX took part"


def test_the_noise_is_that_of_the_same_program_twice():
    quiet = {CONTROLS[0]: [1.0] * 9, CONTROLS[1]: [1.1] * 9, AUTO: [1.08] * 9}
    assert bench.noise(made(quiet)) == pytest.approx(0.1)
    assert not bench.judge(made(quiet), AUTO).loss  # 8% is less than what one program differs from itself
    by_luck = {CONTROLS[0]: [1.0] * 5, CONTROLS[1]: [0.5, 0.9, 1.0, 1.1, 2.0]}
    assert bench.noise(made(by_luck)) == pytest.approx(2 * 1.25 * 0.2 / 1.35 / 5**0.5)
    assert math.isnan(bench.noise(made({AUTO: [1.0]})))


def test_noise_allows_no_verdict():
    loud = {CONTROLS[0]: [1.0] * 5, CONTROLS[1]: [1.3] * 5, AUTO: [4.0] * 5, "Haiku": [1.0] * 5}
    verdict = bench.judge(made(loud), AUTO)
    assert verdict.noisy
    assert not verdict.loss
    text = "\n".join(show.lines(Results(MACHINE, (made(loud),))))
    assert "?     lstmjax auto takes 4.00 times as long as lax.scan, but one program differs from itself by 30%" in text
    assert "LOSS" not in text
    assert "0.25?" in text
    assert "too noisy to tell (above 10%: no verdict" in text


def test_tables_fit_into_a_hundred_columns():
    times = {row.name: [1.2345] * 3 for row in ALL.values()}
    stages = dict.fromkeys(("trace", "lower", "compile", "first"), 12.345)
    comparison = made(times, "forward", bench.POINTS["L3"])
    rows = tuple(replace(row, stages=stages, temporaries=123456789012, resident=10**9) for row in comparison.rows)
    tables = [*show.table(replace(comparison, rows=rows), 100.0), *show.summary([comparison])]
    assert max(len(line) for line in tables if not line.startswith(("ahead", "even", "LOSS", "time of"))) <= 100


def test_ratios_are_taken_within_rounds():
    """A machine that is twice as slow in half of the rounds changes no ratio."""
    slow = np.array([1, 2, 1, 2, 2])
    found = bench.ratio(Row("a", JAX_PEER, tuple(1.2 * slow)), Row("b", OURS, tuple(1.0 * slow)))
    assert found.median == found.low == found.high == pytest.approx(1.2)


def test_the_summary_has_the_geometric_mean_of_the_grid_alone():
    assert bench.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert np.isnan(bench.geometric_mean([]))
    twice, even = {AUTO: [1.0] * 3, "Haiku": [2.0] * 3}, {AUTO: [1.0] * 3, "Haiku": [0.5] * 3}
    comparisons = [made(twice, point=GRID["A"]), made(twice, point=GRID["B"]), made(even, point=bench.POINTS["L3"])]
    (mean,) = (line for line in show.summary(comparisons) if line.startswith("mean"))
    assert mean.split() == ["mean", "training", "A,", "B", "2.00", "-"]


def test_operations_are_those_of_the_products():
    assert bench.POINTS["A"].operations("forward") == 2 * 32 * 100 * (5 + 256) * 4 * 256
    assert bench.POINTS["A"].operations("training") == 3 * bench.POINTS["A"].operations("forward")
    assert replace(TINY, layers=2).operations("forward") == 2 * 15 * ((2 + 4) + (4 + 4)) * 16
    assert replace(TINY, layers=2, directions=2).operations("forward") == 2 * 2 * 15 * ((2 + 4) + (8 + 4)) * 16


def test_growth_says_slopes_and_where_it_bends():
    sizes, seconds = [10, 100, 1000, 10_000], [1.0, 1.1, 11.0, 110.0]
    np.testing.assert_allclose(growth.slopes(sizes, seconds), [np.log10(1.1), 1, 1])
    assert growth.bend(sizes, seconds) == 100
    assert growth.bend(sizes, [1.0, 10.0, 100.0, 100.0]) is None
    assert growth.bend(sizes, sizes) == 10
    points = [growth.Point(f"T{n}", 1, n, 8, 64) for n in sizes]
    times = [{AUTO: [s] * 3, "Haiku": [2 * s] * 3, "lax.scan": [3 * s] * 3, "PyTorch": [s] * 3} for s in seconds]
    results = Results(MACHINE, tuple(made(t, point=p) for t, p in zip(times, points, strict=True)), "T")
    text = "\n".join(growth.lines(results))
    assert "best peer on JAX: T10 Haiku, T100 Haiku" in text
    assert "lstmjax auto: in proportion from T = 100" in text
    assert growth.curve(results, "training")[growth.BEST][1].tolist() == pytest.approx([2 * s for s in seconds])
    assert "1100.000 (11000.00)  ^0.04" in text
    assert picture(results).png()[:4] == b"\x89PNG"
    for letter, row in growth.LETTERS.items():
        assert [getattr(p, row.field) for p in growth.points(letter)] == list(row.sizes)
        assert len(growth.points(letter, quick=True)) == len(row.quick)


def test_the_command_measures_writes_and_reads(tmp_path, capsys):
    file, drawn = tmp_path / "a.json", tmp_path / "a.png"
    words = ["--sizes", "3,5,2,4", "--competitors", "lstmjax auto,lax.scan,lax.scan again", "--rounds", "2"]
    assert main(["bench", *words, "--json", str(file), "--plot", str(drawn)]) == 0
    out, progress = capsys.readouterr()
    assert progress.splitlines() == ["3,5,2,4 (B3 T5 I2 H4), forward", "3,5,2,4 (B3 T5 I2 H4), training"]
    assert "3,5,2,4 (B3 T5 I2 H4), training, float32, 2 rounds, noise " in out
    assert f"everything written to {file}" in out
    assert drawn.read_bytes()[:4] == b"\x89PNG"

    results = bench.read_json(file)
    assert [row.name for row in results.comparisons[0].rows] == [AUTO, REFERENCE, *CONTROLS]
    again = tmp_path / "b.json"
    bench.write_json(results, again)
    assert again.read_bytes() == file.read_bytes()
    assert results.machine.versions["jax"] == jax.__version__

    assert main(["bench", "--read", str(file), str(again)]) == 0
    shown = capsys.readouterr().out
    assert out.split("everything written")[0] in shown
    assert "a.json" in shown.splitlines()[-3]


def test_a_backend_of_ours_that_differs_fails(tmp_path, capsys):
    file, wrong = tmp_path / "a.json", tmp_path / "b.json"
    words = ["--sizes", "1,2,1,2", "--competitors", "lstmjax fused", "--modes", "forward", "--rounds", "1"]
    assert main(["bench", *words, "--json", str(file)]) == 0
    tree = json.loads(file.read_text())
    row = next(row for row in tree["comparisons"][0]["rows"] if row["name"] == "lstmjax fused")
    row |= {"wrong": True, "seconds": [], "why": "ys by 1e9 eps"}
    wrong.write_text(json.dumps(tree))
    assert main(["bench", "--read", str(wrong)]) == 1
    out, error = capsys.readouterr()
    assert "DIFFERS: ys by 1e9 eps" in out
    assert error.splitlines()[-1] == (
        "lstmjax: lstmjax fused computes something else than lax.scan, see DIFFERS above; please report it"
    )


def test_a_curve_is_measured_and_read(tmp_path, monkeypatch, capsys):
    row = growth.LETTERS["T"]._replace(quick=(2, 4), base=replace(TINY, name="T"))
    monkeypatch.setattr(growth, "LETTERS", {"T": row})
    words = ["--competitors", "lstmjax auto,lax.scan", "--modes", "forward", "--rounds", "2"]
    assert main(["bench", "--growth", "T", "--quick", *words, "--json", str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "forward over T, time steps" in out
    results = bench.read_json(tmp_path / "a.json")
    assert results.growth == "T"
    assert results.command.startswith("lstmjax bench --")
    assert results.command.endswith("--growth T --quick")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--points", "A,H"],
            "there is no point 'H'; expected some of A, B, C, D, E, F, G, L3, Bi, or --sizes B,T,I,H",
        ),
        (["--points", ""], "no point is named; give --points A,C or --sizes 32,100,5,256"),
        (["--sizes", "1,2,3"], "--sizes is '1,2,3'; expected B,T,I,H: four whole numbers from 1, such as 32,100,5,256"),
        (["--sizes", "1,0,3,4"], "--sizes is '1,0,3,4'; expected B,T,I,H"),
        (["--competitors", "Torch"], "there is no competitor 'Torch'; expected some of lstmjax auto, lstmjax scan"),
        (["--modes", "backward"], "there is no mode 'backward'; expected forward, training or both"),
        (["--sizes"], "no point is named; give --points A,C or --sizes 32,100,5,256"),
        (["--quick"], "--quick is for a curve; give --growth T with it"),
        (["--growth", "T", "--points", "A"], "--growth T has sizes of its own; give it without --points and --sizes"),
        (["--growth", "T", "--competitors", "lax.scan"], "--growth T is the curve of lstmjax auto; name it among"),
        (["--competitors", ""], "no competitor is named; expected some of lstmjax auto"),
        (["--seconds", "nan"], "--rounds is None and --seconds nan; expected 1 or more, and 0 or more"),
        (["--seconds", "inf"], "--rounds is None and --seconds inf; expected"),
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999; expected a whole number from 0 to"),
        (["--rounds", "0"], "--rounds is 0 and --seconds 5.0; expected 1 or more, and 0 or more"),
        (["--json", "a.txt"], "--json is a.txt; expected a name that ends in .json"),
        (["--plot", "a.gif"], "--plot is a.gif; expected a name that ends in .png or .svg or .pdf"),
        (["--json", "nowhere/a.json"], "nowhere/a.json: there is no folder nowhere"),
        (["--json", "folder.json"], "--json is folder.json: is a directory; name a file that can be written"),
        (["--plot", "folder.png"], "--plot is folder.png: is a directory; name a file that can be written"),
        (
            ["--read", "one.json", "two.json", "--json", "new.json"],
            "--json and --plot take one run, but --read names 2 files; name one of them",
        ),
        (["--read", "empty.json"], "empty.json: holds no results of lstmjax bench"),
        (["--read", "nowhere.json"], "nowhere.json: no such file"),
        (["--read", "."], ".: is a directory"),
        (["--read", "other.json"], "other.json: holds no results of lstmjax bench; write them by lstmjax bench --json"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text(json.dumps({"format": "other"}))
    bench.write_json(Results(MACHINE, ()), Path("empty.json"))
    for name in ("folder.json", "folder.png"):
        Path(name).mkdir()
    assert main(["bench", *words]) == 2
    assert f"lstmjax: {message}" in capsys.readouterr().err
    assert not Path("new.json").exists()


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("PyTorch", (TINY, "forward", "float32", "tpu"), "runs on cpu and gpu only"),
        ("ONNX Runtime", (TINY, "training", "float32", "cpu"), "runs networks, and trains none"),
        ("ONNX Runtime", (TINY, "forward", "bfloat16", "cpu"), "computes in float32 only"),
        ("Haiku", (bench.POINTS["Bi"], "forward", "float32", "cpu"), "has no layer of two directions"),
        ("lax.scan", (TINY, "training", "bfloat16", "gpu"), None),
    ],
)
def test_who_cannot_take_part_says_why(name, asked, reason, monkeypatch):
    monkeypatch.setattr("lstmjax.bench.competitors.find_spec", lambda name: True)
    assert ALL[name].refuses(*asked) == reason
    monkeypatch.setattr("lstmjax.bench.competitors.find_spec", lambda name: None)
    missing = " and ".join(ALL[name].packages)
    assert ALL[name].refuses(*asked) == (f"{missing} not installed" if missing else None)


@pytest.mark.skipif(sys.platform != "linux", reason="the account of a process is Linux'")
def test_resident_memory_is_that_of_the_call():
    def call():
        area = np.frombuffer(mmap.mmap(-1, 2**25), np.uint8)  # pages of its own, not those that an allocator has kept
        area[:] = 1
        return area[-1]

    result, grown = machine.resident(call)
    assert result == 1
    assert grown is None or grown >= 2**24  # not everywhere may a process reset its account


def test_single_steps_are_compared_and_timed(tmp_path, capsys):
    out, names = tmp_path / "steps.json", "lstmjax auto,lstmjax on JAX,JAX by hand,JAX by hand again,ONNX Runtime"
    if steps.native_is_there():
        names += f",{steps.KERNEL}"
    chosen = ["--streaming", "--sizes", "2,6,3,5", "--competitors", names, "--rounds", "2", "--json", str(out)]
    assert main(["bench", *chosen]) == 0
    printed = capsys.readouterr().out
    assert "2,6,3,5 (B2 T6 I3 H5), one step at a time, 2 rounds, noise" in printed
    results = bench.read_json(out)
    assert results.command.startswith("lstmjax bench --sizes 2,6,3,5 --competitors")
    (comparison,) = results.comparisons
    assert comparison.mode == "streaming"
    timed = comparison.timed()
    assert {"lstmjax auto", "lstmjax on JAX", "JAX by hand", "lstmjax scan"} <= set(timed)
    assert all(row.differences.keys() == {"ys"} for row in timed.values())
    times = steps.microseconds(comparison)["lstmjax auto"]
    np.testing.assert_allclose(times, 1e6 * np.array(timed["lstmjax auto"].seconds) / 6)
    assert main(["bench", "--read", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-20:] == printed.splitlines()[:-1][-20:]


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("name", steps.ROWS)
def test_everybody_steps_to_the_same_outputs(name):
    point, row = bench.Point("tiny", 1, 5, 3, 4), steps.ROWS[name]
    if row.refuses(point, "streaming", "float32", "cpu") or (name == steps.KERNEL and not steps.native_is_there()):
        pytest.skip("it is not installed")
    job = make_job(point, "streaming", "float32", 1)
    program = row.build(job)
    expected = np.asarray(lstm(job.layers[0], job.xs, backend="scan")[1])
    for _ in range(2):  # each call begins anew
        np.testing.assert_allclose(program.arrays(program.call())["ys"], expected, atol=2e-6)


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("name", ensembles.ROWS)
def test_several_networks_compute_what_each_does(name):
    point, row = bench.Point("tiny", 2, 4, 3, 5, networks=3), ensembles.ROWS[name]
    if row.refuses(point, "training", "float32", "cpu"):
        pytest.skip("it is not installed")
    job = make_job(point, "training", "float32", 1)
    program = row.build(job)
    found = program.arrays(program.call())

    def loss(layers, xs, weights):
        return (lstm(layers[0], xs, backend="scan")[1] * weights).sum()

    for n in range(3):
        layers, xs, weights = jax.tree.map(lambda a, n=n: a[n], (job.layers, job.xs, job.weights))
        d_layers, d_xs = jax.grad(loss, (0, 1))(layers, xs, weights)
        np.testing.assert_allclose(found["xs"][n], d_xs, atol=1e-5)
        np.testing.assert_allclose(found["[0].w_h"][n], d_layers[0].w_h, atol=1e-5)
    assert point.operations("forward") == 3 * replace(point, networks=1).operations("forward")


def test_several_networks_are_measured_and_named(tmp_path, capsys):
    out = tmp_path / "networks.json"
    names = "lstmjax auto,lstmjax calls,lax.scan"
    chosen = ["--networks", "2", "--sizes", "3,5,2,4", "--competitors", names, "--rounds", "2", "--modes", "forward"]
    assert main(["bench", *chosen, "--json", str(out)]) == 0
    assert "3,5,2,4 (2 networks of B3 T5 I2 H4), forward, float32, 2 rounds" in capsys.readouterr().out
    (comparison,) = bench.read_json(out).comparisons
    assert comparison.point.networks == 2
    assert set(comparison.timed()) == {"lstmjax auto", "lstmjax scan", "lstmjax calls", "lax.scan"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--streaming", "--networks", "2"], "--streaming goes without --networks"),
        (["--streaming", "--growth", "T"], "--streaming goes without --growth"),
        (["--networks", "1"], "--networks is 1; expected 2 or more"),
        (["--networks", "4", "--points", "L3"], "--networks is for one layer in one direction"),
        (["--streaming", "--points", "Bi"], "--streaming is for one layer in one direction"),
        (["--streaming", "--competitors", "Haiku"], "there is no competitor 'Haiku'; expected some of lstmjax scan,"),
    ],
)
def test_options_of_steps_and_networks_that_do_not_fit_are_refused(words, message, capsys):
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err
