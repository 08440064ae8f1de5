"""Random networks against the oracle and every framework that is installed, and the command."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from faulty import B, H, T, moved, numpy_lstm, single

import lstmjax.convert
from lstmjax.cli import HELP, main
from lstmjax.frameworks.base.running import Outcome
from lstmjax.replica import PEERS, Case, Peer, against, compare, grid, verify
from lstmjax.replica.progress import Progress


def test_compare():
    a, b = np.array([[1.0, 2.5], [-4.0, 0.0]], np.float32), np.array([[1.0, 2.0], [-4.0, 1e-3]])
    found = compare(a, b)
    assert found[:2] == (0.5, 0.125)
    assert found.where == (0, 1)
    # 2 has an ulp of 2⁻²², 0.001 one of 2⁻³³: 0.5 and 0.001 are 2²¹ and 0.001·2³³ of them.
    assert found.ulp == pytest.approx(1e-3 * 2**33)
    assert compare(a.astype(jnp.bfloat16), a).relative == 0
    assert compare(np.array([1.0 + 2**-7]).astype(jnp.bfloat16), np.ones(1)).ulp == 1
    assert compare(np.zeros(2), np.zeros(2))[:3] == (0, 0, 0)
    assert compare(np.ones(2), np.zeros(2)).relative == np.inf
    assert compare(np.ones(0), np.ones(0)).where == ()
    for one, other in ((np.nan, np.nan), (np.inf, np.inf), (1.0, np.nan)):
        assert compare(np.array([0.0, one]), np.array([0.0, other]))[::3] == (np.inf, (1,))
    assert str(compare(np.array([1.5]), np.array([2.0]))) == "5.0e-01 (relative 2.5e-01, 1.13e+15 ulp)"
    with pytest.raises(ValueError, match=r"a has shape \(2,\) and b \(3,\)"):
        compare(np.ones(2), np.ones(3))


SMALL = Case(3, 4, 5, pair=True, ragged=True, init="equinox")


def test_a_grid_against_the_oracle():
    report = grid(["oracle"], cases=[SMALL], dtypes=["float64", "float32", "bfloat16"])
    assert report.passed
    assert [row.what for row in report.rows[:4]] == [
        "outputs",
        *(f"layers[0].forward.{name}" for name in ("w_x", "w_h", "b")),
    ]
    assert len(report.rows) == 3 * 8
    assert {row.bound for row in report.rows} >= {1e-13, 1e-12, 16 * 2.0**-23, 32 * 2.0**-7}
    text = str(report)
    assert re.search(r"oracle +bfloat16 +gradients +7 .* pass", text)
    assert text.endswith("all within their bounds")


def broken(layers, xs, lengths, d_ys):
    """Right but for the gradient of one bias."""
    right = PEERS["oracle"].run(layers, xs, lengths, d_ys)
    (layer,) = right.layers
    return right._replace(layers=(layer._replace(b=layer.b * (1 + 1e-9)),))


def lacking(*arguments):
    raise ModuleNotFoundError("No module named 'below'", name="below")


def undefined(layers, xs, lengths, d_ys):
    return Outcome(PEERS["oracle"].run(layers, xs, lengths, d_ys).ys * np.nan)


def raising(*arguments):
    raise RuntimeError("no such operator\nand more")


def test_a_grid_fails_where_a_framework_differs_and_names_what_it_left_out(monkeypatch):
    rows = {
        "broken": Peer("broken", "numpy", "numpy", broken),
        "raising": Peer("raising", "numpy", "numpy", raising),
        "absent": Peer("absent", "no_such_package", "none", broken, also=("nor_this",)),
        "lacking": Peer("lacking", "numpy", "numpy", lacking),
        "narrow": Peer("narrow", "numpy", "numpy", broken, (("float64", "its numbers are short"),)),
        "forward": Peer("forward", "numpy", "numpy", broken, pairs=False),
        "values": Peer("values", "numpy", "numpy", lambda *a: Outcome(broken(*a).ys, without="it has none")),
    }
    monkeypatch.setattr(against, "PEERS", rows)
    plain = Case(3, 4, 5, init="equinox")
    report = grid(cases=[plain], dtypes=["float64"])
    assert not report.passed
    failed = {(row.peer, row.what) for row in report.rows if not row.passed}
    assert failed == {("broken", "layers[0].b"), ("forward", "layers[0].b")}
    text = str(report)
    assert re.search(r"broken +float64 +outputs +1 .* pass", text)
    assert re.search(r"broken +float64 +gradients +4 .* FAIL", text)
    assert re.search(
        r"FAIL broken float64, I=3 H=4 T=5 L=1, init equinox: gradient of layers\[0\]\.b: .* theirs 1", text
    )
    assert "not checked: raising in float64: RuntimeError: no such operator (1 run)\n" in text
    assert "ulp" not in text
    assert "not checked: absent: no_such_package and nor_this not installed" in text
    assert "not checked: lacking in float64: below not installed (1 run)" in text
    assert "not checked: narrow in float64: its numbers are short (1 run)" in text
    assert "not checked: values, gradients in float64: it has none (1 run)" in text
    assert text.endswith("FAILED")
    monkeypatch.setattr(against, "PEERS", {"undefined": Peer("undefined", "numpy", "numpy", undefined)})
    assert not grid(cases=[plain], dtypes=["float32"]).passed  # its own error is no number, and allows nothing
    monkeypatch.setattr(against, "PEERS", {name: rows[name] for name in ("absent", "forward")})
    report = grid(cases=[replace(plain, pair=True)], dtypes=["float64"])
    assert not report.passed  # nothing was compared, and that proves nothing
    assert "not checked: forward in float64: it has no layer of two directions (1 run)" in str(report)
    assert str(report).endswith("nothing was compared, which proves nothing")


def wider(layers, xs, lengths, d_ys):
    """Return outputs of another shape."""
    right = PEERS["oracle"].run(layers, xs, lengths, d_ys)
    return right._replace(ys=np.repeat(right.ys, 2, axis=-1))


def test_a_framework_that_raises_was_not_checked_and_one_whose_arrays_have_other_shapes_differs(monkeypatch):
    rows = {"oracle": PEERS["oracle"], "raising": Peer("raising", "numpy", "numpy", raising)}
    monkeypatch.setattr(against, "PEERS", rows)
    cases = [Case(3, 4, 5), Case(2, 3, 4)]
    report = grid(cases=cases, dtypes=["float64"])
    assert report.passed
    assert {row.peer for row in report.rows} == {"oracle"}
    text = str(report)
    assert "not checked: raising in float64: RuntimeError: no such operator (2 runs)" in text
    assert text.endswith("what was compared is within its bounds; 2 runs ended in an error, see above")
    alone = grid(["raising"], cases=cases, dtypes=["float64"])
    assert not alone.passed
    assert str(alone).endswith("nothing was compared, which proves nothing")
    monkeypatch.setattr(against, "PEERS", {"wider": Peer("wider", "numpy", "numpy", wider)})
    report = grid(cases=cases[:1], dtypes=["float64"])
    assert {row.what for row in report.rows if not row.passed} == {"outputs"}


def test_the_extent_of_a_grid_and_its_progress(monkeypatch, capsys):
    runs = []
    monkeypatch.setattr(against, "_compare_all", lambda peers, doing, drawn, tell: runs.extend(doing) or ())
    for options, networks, dtypes in (
        ({}, 5, ("float64", "float32")),
        ({"exhaustive": True}, 8, against.DTYPES),
        ({"exhaustive": True, "cases": 2, "dtypes": ["float32"]}, 2, ("float32",)),
    ):
        runs.clear()
        grid(["oracle"], **options)
        assert {(run.network, run.dtype) for run in runs} == {
            (n, dtype) for n in range(1, networks + 1) for dtype in dtypes
        }
        assert {run.peer for run in runs} == {"lstmjax", "oracle"}
        before = [run.done for run in runs]
        assert before == sorted(before)
        assert before[0] == 0
        assert runs[-1].of - before[-1] == runs[-1].case.scans
    with Progress() as progress:
        for run in runs:
            progress(run)
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2  # a line for each network, since this is no terminal
    assert err[0].startswith("network 1 of 2: I=3 H=1")
    assert re.search(r"network 2 of 2: .*, about \d+ s left$", err[1])


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in PEERS if name != "oracle"])
def test_a_grid_against_a_framework(name, dtype):
    peer = PEERS[name]
    if peer.missing:
        pytest.skip(peer.missing)
    if dtype in dict(peer.narrow):
        pytest.skip(dict(peer.narrow)[dtype])
    if dtype == "bfloat16" and name != "torch":
        pytest.skip("as in float32; the whole grid has it")
    one = Case(3, 4, 5, pair=peer.pairs, ragged=peer.lengths, init="equinox", layers=2 - peer.pairs)
    report = grid([name], cases=[one], dtypes=[dtype])
    assert report.passed, str(report)
    assert len(report.rows) == (1 if name == "onnxruntime" else 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"against": ["tourch"]}, "against is 'tourch', expected one of 'torch', 'keras'"),
        ({"dtypes": ["int8"]}, "dtypes is 'int8', expected one of 'float64'"),
        ({"exhaustive": "no"}, "exhaustive is 'no', expected True or False"),
        ({"cases": 0}, "cases is 0, expected a whole number of at least 1"),
    ],
)
def test_a_grid_of_nothing_known_is_refused(arguments, words):
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        grid(**arguments)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A weights file, inputs, right and wrong outputs, in the folder in which the command runs."""
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    params, xs = single(np.float64), np.random.default_rng(0).normal(size=(B, T, H))
    lstmjax.convert.to_safetensors(params, "w.safetensors")
    lstmjax.convert.to_safetensors(params._replace(w_x=params.w_x.astype(np.float32)), "mixed.safetensors")
    arrays = {"x": xs, "l": np.array([T, 2, 4]), "y": numpy_lstm(params, xs), "wrong": numpy_lstm(moved(params, 1), xs)}
    for name, a in arrays.items():
        np.save(f"{name}.npy", a)
    np.save("narrow.npy", xs[..., :3])
    np.savez("x.npz", x=xs)
    (tmp_path / "text.npy").write_text("no numbers")


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["w.safetensors", "--input", "x.npy"], 0, "agree: lstmjax and the NumPy oracle with the weights of w.safe"),
        (["w.safetensors", "--input", "x.npy", "--lengths", "l.npy"], 0, "largest difference of outputs: "),
        (["w.safetensors", "--input", "x.npy", "--outputs", "y.npy"], 0, "agree: lstmjax and the recorded outputs"),
        (["w.safetensors", "--input", "x.npy", "--outputs", "wrong.npy"], 1, "cause: forget bias added twice: theirs"),
        (["--grid", "--against", "oracle", "--cases", "1", "--dtypes", "float64"], 0, "all within their bounds"),
        ([], 2, "verify takes WEIGHTS and --input X.npy, or --grid: one of the two"),
        (["w.safetensors"], 2, "one of the two"),
        (["w.safetensors", "--input", "x.npy", "--grid"], 2, "one of the two"),
        (["w.safetensors", "--input", "none.npy"], 2, "none.npy: no such file"),
        (["none.safetensors", "--input", "x.npy"], 2, "none.safetensors: no such file"),
        (["w.safetensors", "--input", "text.npy"], 2, "text.npy: cannot be read as NPY"),
        (["w.safetensors", "--input", "x.npz"], 2, "x.npz: cannot be read as NPY"),
        (["mixed.safetensors", "--input", "x.npy"], 2, "the weights are float32, float64"),
        (
            ["w.safetensors", "--input", "x.npy", "--cell", "peephole"],
            2,
            "--cell is 'peephole', which has w_c, but layer 0 has none",
        ),
        (["w.safetensors", "--input", "x.npy", "--against", "torch"], 2, "--against is for --grid; leave it out"),
        (["--grid", "--outputs", "y.npy"], 2, "--outputs is for WEIGHTS and --input; leave it out"),
        (["w.safetensors", "--input", "narrow.npy"], 2, "xs has 3 features on its last axis, but the parameters"),
        (["--grid", "--against", "tourch"], 2, "against is 'tourch', expected one of 'torch'"),
    ],
)
def test_the_command(files, words, code, shown, capsys):
    assert main(["verify", *words]) == code
    out, err = capsys.readouterr()
    assert shown in (err if code == 2 else out)
    assert code != 2 or (err.startswith("lstmjax: ") and err.count("\n") == 1)


def test_verify_is_a_public_name_that_waits_until_it_is_asked_for():
    assert lstmjax.verify is verify
    assert "verify --grid" in HELP
