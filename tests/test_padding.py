"""Padding changes nothing that is seen inside: its content is not read, and its steps are not counted or drawn."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import tiered
from tolerances import assert_close

from lstmjax import init_network, init_params, inside, lstm, plot, trace
from lstmjax.plot import notebook
from lstmjax.report import report

B, T, I, H = 3, 6, 2, 4
PAD = 3
RAGGED = np.array([6, 3, 5])
PARAMS = init_params(jax.random.key(0), I, H)
NET = init_network(jax.random.key(1), I, H, 3, bidirectional=True)
XS = np.random.default_rng(2).normal(size=(B, T, I)).astype(np.float32)
LABELS = np.array([True, False, True])


def steps_of(xs, lengths, fill):
    """A trace, with something else in its padding."""
    steps = trace(PARAMS, jnp.nan_to_num(xs, posinf=0, neginf=0), lengths=lengths)
    if lengths is None:
        return steps
    valid = (np.arange(xs.shape[1]) < np.asarray(lengths)[:, None])[..., None]
    return jax.tree.map(lambda a: jnp.where(valid, a, jnp.asarray(fill, a.dtype)), steps)


def last(ys):
    return jnp.square(ys).sum()


def question(lengths, steps):
    ends = np.full(B, steps) if lengths is None else np.asarray(lengths)
    return inside.Question("kind", LABELS, np.stack([np.zeros(B, int), ends], axis=1))


def intervened(wrapper, xs, lengths, key=None):
    return lstm(PARAMS, xs, lengths=lengths, wrappers=(wrapper,), key=key)[1]


def found(xs, lengths, fill):
    """Fixed points from the states of a trace; padding is no start."""
    steps = steps_of(xs, lengths, fill)
    lengths = np.full(len(xs), xs.shape[1]) if lengths is None else lengths
    return inside.fixed_points(PARAMS, jnp.zeros(I), (steps.h, steps.c), lengths=lengths, iterations=5).state


def ablated(xs, lengths):
    return inside.ablation(lambda wrappers: lstm(PARAMS, xs, lengths=lengths, wrappers=wrappers)[0][0].sum(), PARAMS)


def product(params, xs, lengths):
    loss = lambda params: lstm(params, xs, lengths=lengths)[1].sum()
    return inside.hessian_vector_product(loss, params, params)


SPANS = {"return_sequences": False}
INSIDE = {  # name: (xs, lengths, fill) -> what is seen
    "trace": lambda xs, n, fill: trace(PARAMS, xs, lengths=n),
    "Reduce": lambda xs, n, fill: trace(
        PARAMS, xs, lengths=n, reduce=inside.Reduce(lambda step: step.f, "mean"), backend="scan"
    ),
    "gate_statistics": lambda xs, n, fill: inside.gate_statistics(PARAMS, xs, lengths=n),
    "gradient_flow": lambda xs, n, fill: inside.gradient_flow(PARAMS, xs, last, lengths=n, **SPANS),
    "gradient_paths": lambda xs, n, fill: inside.gradient_paths(PARAMS, xs, last, lengths=n, **SPANS),
    "gradient_spans": lambda xs, n, fill: inside.gradient_spans(PARAMS, xs, last, lengths=n, **SPANS),
    "step_jacobians": lambda xs, n, fill: inside.step_jacobians(PARAMS, xs, lengths=n),
    "state_jacobian": lambda xs, n, fill: inside.state_jacobian(PARAMS, xs, 0, 3, lengths=n),
    "lyapunov_spectrum": lambda xs, n, fill: inside.lyapunov_spectrum(PARAMS, xs, lengths=n),
    "saturation": lambda xs, n, fill: inside.saturation(steps_of(xs, n, fill), lengths=n),
    "time_scale": lambda xs, n, fill: inside.time_scale(steps_of(xs, n, fill).f, lengths=n),
    "half_life": lambda xs, n, fill: inside.half_life(steps_of(xs, n, fill).f, lengths=n),
    "retention": lambda xs, n, fill: inside.retention(steps_of(xs, n, fill).f, (0, 1, 2), lengths=n),
    "retained": lambda xs, n, fill: inside.retained(steps_of(xs, n, fill).f, 0, xs.shape[1] - 1, lengths=n),
    "separation": lambda xs, n, fill: inside.separation(
        steps_of(xs, n, fill).c, question(n, xs.shape[1]), places=3, lengths=n
    ),
    "separation_over": lambda xs, n, fill: inside.separation_over(
        steps_of(xs, n, fill).c, question(n, xs.shape[1]), places=3, lengths=n
    ),
    "rank_units": lambda xs, n, fill: [
        unit.auc for unit in inside.rank_units(steps_of(xs, n, fill), question(n, xs.shape[1]), places=3, lengths=n)
    ],
    "fixed_points": found,
    "ablation": lambda xs, n, fill: ablated(xs, n),
    "hessian_vector_product": lambda xs, n, fill: product(PARAMS, xs, n),
    "Fix": lambda xs, n, fill: intervened(inside.Fix("f", 0.5), xs, n),
    "Scale": lambda xs, n, fill: intervened(inside.Scale("i", 0.5), xs, n),
    "Ablate": lambda xs, n, fill: intervened(inside.Ablate("c", (1,)), xs, n),
}
"""Every function and intervention that is given sequences."""

OTHERS = {
    "MAXIMA", "Ablation", "Derivatives", "FixedPoints", "GateStatistics", "Gates", "GradientPaths", "GradientSpans",
    "Intervention", "Question", "Separation", "Survival", "Unit",  # what they return or take
    "derivatives", "gradient_survival", "distinct_points",  # without sequences
    "norms", "singular_values",  # of gradients, zero at padding, and of Jacobians, the identity there
    "Sample",  # draws from the batch, step by step
}  # fmt: skip


def test_every_name_is_tested_here_or_has_no_sequences():
    assert set(inside.__all__) == set(INSIDE) | OTHERS


def padded(fill, ends):
    """Sequences with further steps behind them, and something in all padding."""
    xs = np.concatenate([XS, np.zeros((B, PAD, I), np.float32)], axis=1)
    return np.where((np.arange(T + PAD) < ends[:, None])[..., None], xs, np.float32(fill))


def cut(tree):
    """The arrays of a tree without the steps behind T."""
    return jax.tree.map(lambda a: a[:, :T] if jnp.ndim(a) > 1 and a.shape[1] == T + PAD else a, tree)


@pytest.mark.parametrize("name", INSIDE)
def test_what_is_in_padding_is_not_read(name):
    look = INSIDE[name]
    zeros, nans, huge = (look(padded(fill, RAGGED), RAGGED, fill) for fill in (0.0, np.nan, 1e30))
    for other in (nans, huge):
        jax.tree.map(partial(np.testing.assert_array_equal, strict=False), cut(zeros), cut(other))


FEW = ["trace", "gate_statistics", "gradient_flow", "saturation", "rank_units"]


@pytest.mark.parametrize("name", tiered(INSIDE, first=FEW))
def test_padding_does_not_count(name):
    look, full = INSIDE[name], np.full(B, T)
    with_padding, without = cut(look(padded(np.nan, full), full, np.nan)), cut(look(XS, None, 0.0))
    assert_close(*(jax.tree.map(lambda a: np.asarray(a, np.float32), tree) for tree in (with_padding, without)))


@pytest.mark.parametrize("name", ["separation", "separation_over", "rank_units"])
def test_a_span_that_reaches_into_padding_is_refused(name):
    values = trace(PARAMS, XS, fields="c")
    asked = question(None, T)
    with pytest.raises(ValueError, match="kind: span 1 is 0 to 6, but lengths gives sequence 1 3 valid steps"):
        getattr(inside, name)(values if name == "rank_units" else values.c, asked, lengths=RAGGED)


def drawn(figure):
    """The numbers of all lines, images and points of a figure, and its texts."""
    lines = [np.asarray(line.get_xydata(), float) for axes in figure.axes for line in axes.lines]
    images = [np.ma.getdata(image.get_array()) for axes in figure.axes for image in axes.images]
    points = [np.asarray(c.get_offsets(), float) for axes in figure.axes for c in axes.collections]
    texts = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
    return lines + images + points, texts


def points_of(xs, n, fill, **options):
    steps = steps_of(xs, n, fill)
    points = inside.fixed_points(PARAMS, jnp.zeros(I), (jnp.zeros((1, H)), jnp.zeros((1, H))), iterations=5)
    return plot.fixed_points(points, trajectories=(steps.h, steps.c), lengths=n, **options)


def spectrum_of(xs, n, fill):
    values = inside.singular_values(inside.step_jacobians(PARAMS, jnp.nan_to_num(xs))[:, :, None])[1]
    if n is not None:
        values = values.at[n[1] :].set(jnp.nan_to_num(fill))
    return plot.spectrum(values, kind="singular values", lengths=None if n is None else n[1])


PLOTS = {
    "gates": lambda xs, n, fill: plot.gates(steps_of(xs, n, fill), xs=xs, example=1, lengths=n),
    "unit": lambda xs, n, fill: plot.unit(steps_of(xs, n, fill), 2, xs=xs, example=1, lengths=n),
    "gradient_flow": lambda xs, n, fill: plot.gradient_flow(INSIDE["gradient_flow"](xs, n, fill), lengths=n),
    "gradient_paths": lambda xs, n, fill: plot.gradient_paths(INSIDE["gradient_paths"](xs, n, fill), lengths=n),
    "saturation": lambda xs, n, fill: plot.saturation(INSIDE["gate_statistics"](xs, n, fill)),
    "fixed_points": points_of,
    "spectrum": spectrum_of,
}


def test_every_picture_is_tested_here_or_has_no_sequences():
    others = {"Picture", "activations", "cell_diagram", "curves", "gradient_survival", "learning", "step_diagram"}
    others |= {"fan_charts"}  # a list of series, each as long as it is
    assert set(plot.__all__) == set(PLOTS) | others | {"summary", "show", "rich"}


@pytest.mark.parametrize("name", tiered(PLOTS, first=["gates", "saturation"]))
def test_padding_is_neither_drawn_nor_read(name):
    look = PLOTS[name]
    numbers, texts = drawn(look(padded(0.0, RAGGED), RAGGED, 0.0))
    for fill in (np.nan, 1e30):
        others, other_texts = drawn(look(padded(fill, RAGGED), RAGGED, fill))
        assert texts == other_texts
        for a, b in zip(numbers, others, strict=True):
            np.testing.assert_array_equal(a, b)
    full = np.full(B, T)
    numbers, texts = drawn(look(padded(np.nan, full), full, np.nan))
    without, texts_without = drawn(look(XS, None, 0.0))
    assert texts == texts_without
    for a, b in zip(numbers, without, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")  # of treescope
def test_padding_does_not_count_in_a_summary_and_is_not_drawn_in_a_notebook(monkeypatch):
    pictures, draw = [], notebook._picture
    monkeypatch.setattr(notebook, "_picture", lambda *inputs: pictures.append(inputs[2]) or draw(*inputs))
    steps = steps_of(padded(0.0, RAGGED), RAGGED, np.nan)
    text = plot.summary(steps, lengths=RAGGED)
    assert "not finite" not in text
    f = np.concatenate([np.asarray(steps.f)[n, :end] for n, end in enumerate(RAGGED)]).astype(np.float64)
    assert f"{f.min():.3g} to {f.max():.3g}, mean {f.mean():.3g}" in text
    assert "not finite" in plot.summary(steps)
    shown = plot.show(steps, lengths=RAGGED)
    assert repr(shown) == text
    assert "not finite" not in shown._repr_html_()
    assert {picture.shape for picture in pictures} == {(B, RAGGED[0], H)}  # of which the first sequence is drawn
    assert "not finite" not in plot.summary((steps,), lengths=RAGGED)
    with pytest.raises(ValueError, match="lengths holds 3 to 10, expected 0 to T = 9"):
        plot.summary(steps, lengths=[10, 3, 4])


@pytest.mark.parametrize("per_step", tiered([False, True], first=[True]))
def test_a_page_does_not_read_padding(per_step):
    labels = np.array([2, 0, 1])
    if per_step:
        labels = np.where(np.arange(T + PAD) < RAGGED[:, None], labels[:, None], -1)
    options = {"lengths": RAGGED, "per_step": per_step, "labels": labels}
    pages = [report(NET, padded(fill, RAGGED), **options).html for fill in (0.0, np.nan, 1e30)]
    assert pages[0] == pages[1] == pages[2]


@pytest.mark.parametrize("name", ["gradient_flow", "gradient_paths", "gradient_spans"])
def test_a_gradient_that_is_zero_everywhere_says_why(name):
    look = getattr(inside, name)
    with pytest.warns(UserWarning, match=r"the gradient is 0 at every step .*return_sequences=False takes the last"):
        look(PARAMS, XS, lambda ys: ys[:, -1].sum(), lengths=np.array([5, 3, 4]))
    with pytest.warns(UserWarning, match="does not depend on the values that were chosen.$"):
        look(PARAMS, XS, lambda ys: jnp.float32(0) * ys.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look(PARAMS, XS, last, lengths=RAGGED)
