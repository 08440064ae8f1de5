"""What the pictures show: the arrays themselves, on labelled axes, with no global state."""

import subprocess
import sys
from collections import namedtuple

import jax
import matplotlib as mpl
import numpy as np
import pytest
from pictures import NOTHING, H, T, gates, saved, titles

from lstmjax import Bidirectional, init_params, plot, shapes

Gates = namedtuple("Gates", "i f g o")
Statistics = namedtuple("Statistics", "mean std left right")
Learnt = namedtuple("Learnt", "steps statistics")
Paths = namedtuple("Paths", "total cell recurrent output peephole")
Spans = namedtuple("Spans", "cell whole")
Points = namedtuple("Points", "h c speeds eigenvalues distinct")
Survival = namedtuple("Survival", "steps cell plain")


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.fixture
def step(draw):
    return gates(draw)


@pytest.fixture(autouse=True)
def untouched():
    """No picture changes how others are drawn."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


def statistics(draw):
    left = Gates(*(draw.uniform(0, 0.5, H) for _ in "ifgo"))
    right = Gates(*(draw.uniform(0, 0.5, H) for _ in "ifgo"))
    return Statistics(Gates(*(draw.uniform(0, 1, H) for _ in "ifgo")), None, left, right)


def test_saturation_is_a_scatter_of_the_units_left_against_right(draw):
    parts = (Bidirectional(statistics(draw), statistics(draw)), statistics(draw))
    figure = saved(plot.saturation(parts))
    assert titles(figure) == ["input gate i", "forget gate f", "output gate o"]
    for axes, gate in zip(figure.axes, "ifo", strict=True):
        for dots, part in zip(axes.collections, (*parts[0], parts[1]), strict=True):
            np.testing.assert_array_equal(dots.get_offsets()[:, 0], getattr(part.left, gate))
            np.testing.assert_array_equal(dots.get_offsets()[:, 1], getattr(part.right, gate))
        assert axes.get_xlabel() == "left-saturated\n(fraction of steps below 0.1)"
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == ["layer 1, forward", "layer 1, reverse", "layer 2"]


def test_one_layer_needs_no_legend_and_other_bounds_are_written(draw):
    figure = plot.saturation(statistics(draw), gates=("g",), low=-0.9, high=0.8)
    assert figure.axes[0].get_legend() is None
    assert figure.axes[0].get_ylabel() == "right-saturated\n(fraction of steps above 0.8)"


def learnt(draw):
    """Statistics at three checkpoints, with a leading axis."""
    whole = jax.tree.map(lambda *a: np.stack(a), *(statistics(draw)._replace(std=None) for _ in range(3)))
    return Learnt(np.array([0, 20, 40]), whole)


def test_learning_shows_the_units_over_the_checkpoints(draw):
    one, other = learnt(draw), learnt(draw)
    two = Learnt(one.steps, (other.statistics, Bidirectional(other.statistics, one.statistics)))
    figure = saved(plot.learning(two, layer=1, direction="reverse", gates=("f", "o")))
    for axes, gate in zip(figure.axes[:2], "fo", strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), one.steps)
        median = np.median(getattr(one.statistics.mean, gate), axis=1)
        np.testing.assert_allclose(axes.lines[0].get_ydata(), median)
    for axes, gate in zip(figure.axes[2:], "fo", strict=True):
        for line, side in zip(axes.lines, ("left", "right"), strict=True):
            np.testing.assert_allclose(line.get_ydata(), getattr(getattr(one.statistics, side), gate).mean(axis=1))
        assert axes.get_xlabel() == "training step"
    assert len(plot.learning(one).axes) == len(plot.learning(Learnt(one.steps, (one.statistics,))).axes) == 6


def test_statistics_that_do_not_fit_are_named(draw):
    one = statistics(draw)
    three = learnt(draw)
    deep = Learnt(three.steps, (three.statistics, Bidirectional(three.statistics, three.statistics)))
    left, right = one.left._replace(f=None), one.right._replace(i=np.ones((2, 3)))
    for call, error, text in (
        (lambda: plot.saturation(([1],)), TypeError, r"statistics holds a list, expected something with .left"),
        (lambda: plot.saturation(one, gates=("c",)), ValueError, "a gate is 'c', expected one of 'i', 'f', 'g', 'o'"),
        (lambda: plot.saturation(one._replace(left=left)), ValueError, "left.f is None: that gate"),
        (lambda: plot.saturation(one._replace(right=right)), ValueError, "right.i has"),
        (lambda: plot.learning(three, gates=("x",)), ValueError, "a gate is 'x'"),
        (lambda: plot.learning(deep), ValueError, "learnt has 2 layers, expected one to be chosen. Pass layer=0"),
        (lambda: plot.learning(deep, layer=2), ValueError, "layer is 2, but learnt has layers 0 to 1"),
        (lambda: plot.learning(deep, layer=1), ValueError, "the layer has two directions. Pass direction='forward'"),
        (lambda: plot.learning(deep, layer=0, direction="up"), ValueError, "direction is 'up'"),
        (lambda: plot.learning(Learnt([1], one)), ValueError, r"mean.i has shape \(5,\), expected \[1, H\]"),
    ):
        with pytest.raises(error, match=text):
            call()


# Gradients


def test_gradient_flow_draws_the_norms_of_each_layer_on_a_log_axis(step, draw):
    other = jax.tree.map(lambda a: 2 * a, step)
    flow = (step, Bidirectional(other, step))
    figure = saved(plot.gradient_flow(flow, example=1))
    assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 3
    names = {"h": ("h",), "c": ("c",), "z": ("z_i", "z_f", "z_g", "z_o")}
    for axes, fields in zip(figure.axes, names.values(), strict=True):
        for line, part in zip(axes.lines, (step, other, step), strict=True):
            joined = np.concatenate([getattr(part, field)[1] for field in fields], axis=-1)
            np.testing.assert_allclose(line.get_ydata(), np.linalg.norm(joined, axis=-1), rtol=1e-6)
        assert axes.get_xlabel() == "step t"
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == ["layer 1", "layer 2, forward", "layer 2, reverse"]


def test_the_flow_of_a_batch_is_its_median_and_a_band(step):
    figure = plot.gradient_flow(step, fields=("c",))
    norms = np.linalg.norm(step.c, axis=-1)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), np.median(norms, axis=0), rtol=1e-6)
    assert len(figure.axes[0].collections) == 1
    assert figure.axes[0].get_ylabel() == "norm over the units, median over the batch"


def test_a_gradient_of_zero_breaks_the_line_and_is_counted(step):
    c = step.c[0].copy()
    c[:4] = 0
    figure = saved(plot.gradient_flow(NOTHING._replace(c=c)))
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).tolist() == [True] * 4 + [False] * 3
    assert figure.axes[0].texts[0].get_text() == "0 at 4 of 7 steps"


def test_a_flow_of_nothing_but_zeros_is_drawn():
    saved(plot.gradient_flow(NOTHING._replace(c=np.zeros((T, H)))))
    figure = saved(plot.gradient_flow(NOTHING._replace(c=np.zeros((3, T, H)))))
    assert figure.axes[0].texts[0].get_text().startswith("0 at every step: no step shown affects the loss.")
    lost = np.ones((3, T, H))
    lost[1] = np.nan
    assert not saved(plot.gradient_flow(NOTHING._replace(c=lost))).axes[0].texts[0].get_text()
    zeros = Paths(*(np.zeros((T, H)),) * 4, None)
    assert "return_sequences=False" in plot.gradient_paths(zeros).axes[0].texts[0].get_text()


def test_padding_is_neither_drawn_nor_counted(step):
    lengths = np.array([5, 3, 4])
    c = np.where(np.arange(T)[:, None] < lengths[:, None, None], step.c, 0)
    norms = np.linalg.norm(c, axis=-1)
    medians = [np.median(norms[lengths > t, t]) for t in range(5)]
    flow = plot.gradient_flow(NOTHING._replace(c=c), lengths=lengths)
    paths = plot.gradient_paths(Paths(c, c, c, c, None), lengths=lengths)
    for figure in (flow, paths):
        np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), medians, rtol=1e-6)
    assert not flow.axes[0].texts[0].get_text()  # no zeros are reported
    single = plot.gradient_flow(NOTHING._replace(c=c), lengths=lengths, example=1)
    np.testing.assert_allclose(single.axes[0].lines[0].get_ydata(), norms[1, :3], rtol=1e-6)
    with pytest.raises(ValueError, match="lengths holds 3 to 9, expected 0 to T = 7"):
        plot.gradient_flow(step, lengths=[9, 3, 4])


def test_a_path_below_the_rounding_of_the_total_is_not_drawn(step):
    output = step.c * np.float32(1e-8)
    figure = plot.gradient_paths(Paths(step.c, step.c, step.c, output, None), example=0)
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert np.isnan(drawn[plot.gradients.PATHS["output"][0]]).all()
    decaying = step.c[0] * np.float32(10.0) ** -np.arange(0, 4 * T, 4)[:, None]
    figure = plot.gradient_paths(Paths(decaying, decaying, decaying, decaying, None))
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), np.linalg.norm(decaying, axis=-1), rtol=1e-5)


def test_paths_are_drawn_for_each_layer(step):
    paths = Paths(step.c, step.g, step.i, step.o, None)
    figure = saved(plot.gradient_paths((paths, Spans(step.f, step.c)), example=2))
    norms = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(norms) == [plot.gradients.PATHS[name][0] for name in ("total", "cell", "recurrent", "output")]
    for drawn, array in zip(norms.values(), paths, strict=False):
        np.testing.assert_allclose(drawn, np.linalg.norm(array[2], axis=-1), rtol=1e-6)
    assert [line.get_label() for line in figure.axes[1].lines] == ["by all paths", "along the cell, by f"]
    assert titles(figure) == ["layer 1", "layer 2"]
    assert figure.axes[0].get_yscale() == "log"
    with pytest.raises(ValueError, match=r"example=5 is not within the batch axes \(3,\) of paths.total"):
        plot.gradient_paths(paths, example=5)
    with pytest.raises(TypeError, match=r"paths holds a Step, expected something with .cell"):
        plot.gradient_paths((step,))


def test_flows_that_cannot_be_drawn_are_named(step):
    for call, error, text in (
        (lambda: plot.gradient_flow(NOTHING), ValueError, "flow has none of h, c and z"),
        (
            lambda: plot.gradient_flow(NOTHING._replace(c=step.c), fields=("z",)),
            ValueError,
            "flow has no z: it is None",
        ),
        (lambda: plot.gradient_flow(step, fields=("q",)), ValueError, "a field is 'q'"),
        (
            lambda: plot.gradient_flow(NOTHING._replace(c=step.c[:, :0])),
            ValueError,
            r"flow.c has shape \(3, 0, \d\): there is nothing in it to draw",
        ),
        (lambda: plot.gradient_flow(step, example=9), ValueError, r"example=9 is not within the batch axes \(3,\)"),
        (lambda: plot.gradient_flow((step.c,)), TypeError, "flow holds a ndarray, expected something with .z_f"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_eigenvalues_stand_in_the_plane_with_the_unit_circle(draw):
    values = np.linalg.eigvals(draw.normal(size=(4, 6, 6)))
    figure = saved(plot.spectrum(values))
    axes = figure.axes[0]
    circle = np.hypot(*axes.lines[0].get_data())
    np.testing.assert_allclose(circle, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Re λ", "Im λ")
    drawn = np.concatenate([dots.get_offsets() for dots in axes.collections])
    np.testing.assert_allclose(drawn @ [1, 1j], values.ravel())
    assert axes.get_xlim()[1] > np.abs(values).max()


def test_singular_values_by_rank_or_over_the_steps(draw):
    values = draw.uniform(0.1, 2, (4, 6))
    one = saved(plot.spectrum(values[0])).axes[0]
    np.testing.assert_array_equal(one.lines[0].get_ydata(), np.sort(values[0])[::-1])
    assert (one.get_xlabel(), one.get_ylabel(), one.get_yscale()) == ("rank", "singular value", "log")
    several = saved(plot.spectrum(values)).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in several.lines}
    np.testing.assert_array_equal(lines["largest"], values.max(axis=1))
    np.testing.assert_array_equal(lines["smallest"], values.min(axis=1))
    assert several.get_xlabel() == "step t"


def test_exponents_may_be_negative():
    axes = saved(plot.spectrum([-0.5, 0.25, -1.0], kind="exponents")).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.25, -0.5, -1.0]
    assert axes.get_ylabel() == "Lyapunov exponent (per step)"


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([[[1.0]]], None, r"\(1, 1, 1\), expected \[K\].* Of Jacobians .* pass np.linalg.eigvals"),
        ([], None, r"values has shape \(0,\)"),
        (np.eye(3), None, r"shape \(3, 3\), a square: is it a Jacobian.* pass np.linalg.eigvals"),
        ([1.0], "poles", "kind is 'poles', expected one of 'eigenvalues', 'singular values', 'exponents'"),
        ([1j], "exponents", "values are complex, but exponents are real"),
        ([0.5, -1], None, "no singular value is below 0. Pass kind='exponents'"),
    ],
)
def test_spectra_that_cannot_be_drawn_are_named(values, kind, text):
    with pytest.raises(ValueError, match=text):
        plot.spectrum(values, kind=kind)


# Fixed points


def points(draw):
    eigenvalues = np.array([[0.5, 0.1j], [1.5, 0.2], [2.0, -1.1], [0.9, 0.9]])
    speeds, distinct = np.array([0, 1e-12, 1e-3, 0]), np.array([True, True, True, False])
    return Points(draw.normal(size=(4, 2)), draw.normal(size=(4, 3)), speeds, eigenvalues, distinct)


def test_fixed_points_are_projected_on_two_principal_axes_and_told_by_stability(draw):
    given = points(draw)
    figure = saved(plot.fixed_points(given))
    axes = figure.axes[0]
    labels = [dots.get_label() for dots in axes.collections]
    expected = ["stable, fixed (1)", "saddle, fixed (1)", "unstable, slow (1)"]
    assert labels == expected
    states = np.concatenate([given.h, given.c], axis=1)[:3]
    drawn = np.concatenate([dots.get_offsets() for dots in axes.collections])
    # Three points span a plane: all their distances are kept.
    distances = lambda at: np.linalg.norm(at[:, None] - at[None], axis=-1)
    np.testing.assert_allclose(distances(drawn), distances(states), atol=1e-12)
    assert "of the variance" in axes.get_xlabel()


def test_trajectories_give_the_axes_and_are_drawn(draw):
    runs = (draw.normal(size=(6, T, 2)), draw.normal(size=(6, T, 3)))
    axes = saved(plot.fixed_points(points(draw), trajectories=runs)).axes[0]
    assert len(axes.lines) == len([text for text in axes.texts if text.arrow_patch]) == 6  # with an arrow each
    states = np.concatenate(runs, axis=-1).reshape(-1, 5)
    variance = np.linalg.eigvalsh(np.cov(states.T))[::-1]
    assert f"{variance[0] / variance.sum():.0%}" in axes.get_xlabel()
    drawn = np.concatenate([line.get_xdata() for line in axes.lines])
    np.testing.assert_allclose(drawn.var(ddof=1), variance[0])


def test_one_point_is_drawn(draw):
    saved(plot.fixed_points(Points(*(part[:1] for part in points(draw)))))


def test_points_that_cannot_be_drawn_are_named(draw):
    given = points(draw)
    runs = (np.ones((T, 2)), np.ones((T, 4)))
    with pytest.raises(TypeError, match=r"points is a tuple of 2 without .h, expected what fixed_points gives"):
        plot.fixed_points((1, 2))
    with pytest.raises(ValueError, match="points holds no finite point"):
        plot.fixed_points(given._replace(h=given.h * np.nan))
    with pytest.raises(ValueError, match=r"trajectories has shapes \(7, 2\) and \(7, 4\)"):
        plot.fixed_points(given, trajectories=runs)
    with pytest.raises(TypeError, match=r"trajectories is a Step, expected a pair \(h, c\); of a trace: \(steps.h, s"):
        plot.fixed_points(given, trajectories=NOTHING)


# Functions, curves


def test_activations_and_their_derivatives_are_right():
    left, right = saved(plot.activations(reach=4)).axes
    z = left.lines[0].get_xdata()
    curves = {line.get_label(): line.get_ydata() for line in (*left.lines, *right.lines)}
    sigma = 1 / (1 + np.exp(-np.asarray(z, np.float64)))
    np.testing.assert_allclose(curves["σ(z)"], sigma, rtol=1e-6)
    np.testing.assert_allclose(curves["tanh(z)"], np.tanh(z), rtol=1e-5)
    np.testing.assert_allclose(curves["σ′(z)"], sigma * (1 - sigma), rtol=1e-5)
    np.testing.assert_allclose(curves["tanh′(z)"], 1 - np.tanh(np.asarray(z, np.float64)) ** 2, rtol=2e-3)
    assert not outside(right)
    said = {text.get_text() for text in right.texts}
    assert said == {"at most 0.25, at z = 0", "at most 1, at z = 0"}
    with pytest.raises(ValueError, match="reach is 0, expected a number above 0"):
        plot.activations(reach=0)


def outside(axes):
    """The texts of a panel that reach over its frame."""
    axes.figure.canvas.draw()
    frame = axes.get_window_extent()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    return [text for text, box in boxes.items() if not (frame.x0 <= box.x0 and box.x1 <= frame.x1)]


def test_survival_is_drawn_with_its_forget_gates():
    steps = np.arange(5)
    given = Survival(steps, np.array([0.5, 1.0]) ** steps[:, None], np.array([0.3]) ** steps[:, None])
    axes = saved(plot.gradient_survival(given, f=(0.5, 1.0), weight=(2.0,))).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ["c of an LSTM, f = 0.5", "c of an LSTM, f = 1", "plain RNN, w = 2"]
    np.testing.assert_array_equal(lines["c of an LSTM, f = 0.5"], 0.5**steps)
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "steps back in time"
    with pytest.raises(ValueError, match=r"f has 4 values, but survival has an array of shape \(5, 2\)"):
        plot.gradient_survival(given)


RECORDS = [
    {"step": step, "train": {"loss": 2 / step, "mse": 3 / step}, "validation": {"loss": 1 / step, "mse": 4 / step}}
    for step in (5, 10, 15)
]


def test_curves_of_a_run():
    figure = saved(plot.curves(RECORDS, "mse", title="run"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "mse"]
    train, validation = figure.axes[1].lines
    np.testing.assert_array_equal(train.get_ydata(), [3 / 5, 3 / 10, 3 / 15])
    np.testing.assert_array_equal(validation.get_ydata(), [4 / 5, 4 / 10, 4 / 15])
    assert [line.get_label() for line in figure.axes[1].lines] == ["train", "validation"]
    noisy = plot.curves(RECORDS, "mse", train_only=("dropout", "shifts"))
    assert noisy.axes[0].lines[0].get_label() == "train (with dropout, shifts)"
    assert noisy.get_suptitle() == "loss and mse of a run"
    with pytest.raises(ValueError, match="records is empty"):
        plot.curves([], "mse")
    with pytest.raises(ValueError, match="metric is 'accuracy', but the records have 'loss', 'mse'"):
        plot.curves(RECORDS, "accuracy")


# The cell


def test_the_diagram_writes_the_shapes_of_the_table_and_no_others():
    figure = saved(plot.cell_diagram(input=5, hidden=256, batch=32, time=100, output=10))
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    rows = {row.name: str(row.shape) for row in shapes(input=5, hidden=256, batch=32, time=100, output=10).rows}
    drawn = {name: shape for name, shape in rows.items() if name not in ("p",)}
    assert all(shape in said for shape in drawn.values())
    assert "268,288 parameters" in said
    assert "one of 100 steps" in said
    for name in ("f", "i", "g", "o"):
        assert f"${name}$ (32, 256)" in said
        assert f"$z_{name}$ (32, 256)" in said


def test_what_is_not_given_stands_as_its_letter_and_no_head_is_drawn():
    said = " ".join(text.get_text() for text in plot.cell_diagram(input=3, hidden=7).axes[0].texts)
    assert "$x_t$ (B, 3)" in said
    assert "one of T steps of $xs$ (B, T, 3)" in said
    assert "Dense" not in said
    with pytest.raises(ValueError, match="hidden is 0"):
        plot.cell_diagram(input=3, hidden=0)


def test_no_two_texts_of_the_diagram_overlap():
    figure = plot.cell_diagram(input=1024, hidden=4096, batch=128, time=1000, output=1000)
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    whole = figure.bbox
    for n, (text, box) in enumerate(boxes):
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
        for other, second in boxes[:n]:
            assert not box.overlaps(second), (text, other)


def test_a_step_is_drawn_with_its_numbers():
    rng = np.random.default_rng(5)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), init_params(jax.random.key(0), 2, 5))
    (h, c), x = rng.normal(size=(2, 5)), rng.normal(size=2)
    figure = saved(plot.step_diagram(params, (h, c), x, units=(4, 1)))
    w, r, b = (np.asarray(a, np.float64) for a in (params.w_x, params.w_h, params.b))
    z_i, z_f, z_g, z_o = np.einsum("i,igh->gh", x, w) + np.einsum("j,jgh->gh", h, r) + b
    i, f, o = (1 / (1 + np.exp(-z)) for z in (z_i, z_f, z_o))
    new = f * c + i * np.tanh(z_g)
    texts = [text.get_text() for text in figure.axes[0].texts]
    for letter, values in {
        "$z_f$": z_f, "$z_g$": z_g, "$i$": i, "$f$": f, "$g$": np.tanh(z_g), r"$i\odot g$": i * np.tanh(z_g),
        "$c_t$": new, "$h_t$": o * np.tanh(new), "$o$": o, r"$f\odot c_{t-1}$": f * c,
    }.items():  # fmt: skip
        (text,) = [text for text in texts if text.startswith((f"{letter} ", f"{letter}\n"))]
        assert [float(word.replace("−", "-")) for word in text.removeprefix(letter).split()] == pytest.approx(
            values[[4, 1]].tolist(), abs=0.0051
        )
    assert "numbers: units 4, 1" in " ".join(texts)
    for arguments, message in (
        (((h, c[:3]), x), r"state\[1\], c, has shape \(3,\), expected \(5,\)"),
        (((h, c), x, (0, 1, 2, 3)), r"units is \[0, 1, 2, 3\], expected 1 to 3 numbers from 0 to 4"),
        (((h, c), x, (5,)), r"units is \[5\], expected"),
    ):
        with pytest.raises(ValueError, match=message):
            plot.step_diagram(params, *arguments[:2], units=arguments[2] if len(arguments) > 2 else None)
    with pytest.raises(ValueError, match="params are those of another cell"):
        plot.step_diagram(init_params(jax.random.key(0), 2, 5, cell="peephole"), (h, c), x)
    with pytest.raises(TypeError, match="params is a tuple of 1, expected LSTMParams"):
        plot.step_diagram((params,), (h, c), x)


# No state


@pytest.mark.thorough
def test_no_picture_opens_pyplot_and_the_package_is_loaded_when_named():
    script = """
import sys, lstmjax
assert "matplotlib" not in sys.modules
assert "plot" in dir(lstmjax)
figure = lstmjax.plot.cell_diagram(input=2, hidden=3)
figure.png(dpi=20)
lstmjax.plot.summary({})
print(sorted({"matplotlib.pyplot", "IPython", "treescope", "flax", "optax"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
