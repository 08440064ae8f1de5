"""Gates over time: the arrays themselves, in the stated order, on labelled axes."""

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest
from pictures import NOTHING, B, H, I, T, gates, maps, saved, ticks, titles

from lstmjax import Bidirectional, plot


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


def test_heat_maps_show_the_gates_of_one_sequence_with_the_largest_mean_forget_gate_on_top(step):
    figure = saved(plot.gates(step, example=1))
    order = np.argsort(-step.f[1].mean(axis=0))
    assert titles(figure) == ["input gate i", "forget gate f", "output gate o", "cell state c"]
    for image, field in zip(maps(figure), ("i", "f", "o", "c"), strict=True):
        np.testing.assert_array_equal(image.get_array(), getattr(step, field)[1][:, order].T)
    rows = [axes for axes in figure.axes if axes.images]
    assert {axes.get_ylabel() for axes in rows} == {"unit, sorted by mean f"}
    assert ticks(rows[0].yaxis) == [str(n) for n in order]
    assert rows[-1].get_xlabel() == "step t"


def test_gates_are_coloured_from_0_to_1_and_what_has_a_sign_about_0(step):
    limits = {}
    fields = ("i", "g", "c", "z_f", "m")
    for image, field in zip(maps(plot.gates(step, example=0, fields=fields)), fields, strict=True):
        limits[field] = (image.get_clim(), image.get_cmap().name)
    most = {field: np.abs(getattr(step, field)[0]).max() for field in ("c", "z_f")}
    assert limits["i"] == ((0, 1), "cividis")
    assert limits["g"] == limits["m"] == ((-1, 1), "PuOr")
    for field, size in most.items():
        np.testing.assert_allclose(limits[field][0], (-size, size))


def test_a_few_large_numbers_do_not_leave_the_others_pale(step, draw):
    c = draw.uniform(-1, 1, (100, H)).astype(np.float32)
    c[3, 2] = -50
    figure = plot.gates(NOTHING._replace(c=c), fields=("c",), sort="c")
    low, high = maps(figure)[0].get_clim()
    assert 0.9 < -low == high <= 1
    assert maps(figure)[0].colorbar.extend == "both"
    assert maps(plot.gates(step, fields=("c",), example=0))[0].colorbar.extend == "neither"


def test_the_order_of_the_units_is_as_asked(step, draw):
    scores = draw.normal(size=H)
    one = jax.tree.map(lambda a: a[2], step)
    for sort, criterion, order, label in (
        ("c", "", np.argsort(-one.c.mean(axis=0)), "unit, sorted by mean c"),
        (scores, "AUC", np.argsort(-scores), "unit, sorted by AUC"),
        (None, "", np.arange(H), "unit"),
    ):
        figure = plot.gates(one, fields=("f",), sort=sort, criterion=criterion)
        np.testing.assert_array_equal(maps(figure)[0].get_array(), one.f[:, order].T)
        assert figure.axes[0].get_ylabel() == label


def test_a_span_is_sorted_by_its_own_steps_and_keeps_their_numbers(step):
    figure = plot.gates(step, example=0, fields=("f",), span=(2, 6), marks=(3,))
    part = step.f[0, 2:6]
    np.testing.assert_array_equal(maps(figure)[0].get_array(), part[:, np.argsort(-part.mean(axis=0))].T)
    assert figure.axes[0].get_xlim() == (1.5, 5.5)
    assert figure.axes[0].lines[0].get_xdata() == [3, 3]


def test_a_projected_h_keeps_its_own_numbers(step, draw):
    h = draw.normal(size=(B, T, 2)).astype(np.float32)
    figure = plot.gates(step._replace(h=h), example=0, fields=("f", "h"))
    np.testing.assert_array_equal(maps(figure)[1].get_array(), h[0].T)
    assert figure.axes[1].get_ylabel() == "number of the projected h"


def test_the_input_and_the_text_stand_along_the_steps(step, draw):
    many, few = draw.normal(size=(B, T, 9)), draw.normal(size=(B, T, I))
    figure = saved(plot.gates(step, example=2, fields=("f",), xs=many, text="ab c\nde"))
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), many[2].T)
    assert ticks(figure.axes[1].xaxis) == ["a", "b", "␣", "c", "↵", "d", "e"]
    assert figure.axes[1].get_xlabel() == "step t, by its character"
    figure = plot.unit(step, 1, example=2, xs=few, text=["the", "fox", "is", "a", "fox", "and", "so"])
    for k in range(I):
        np.testing.assert_array_equal(figure.axes[0].lines[k].get_ydata(), few[2, :, k])
    assert figure.axes[-1].get_xlabel() == "step t, by its word"


def test_half_precision_is_drawn(step):
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), step)
    np.testing.assert_allclose(
        maps(plot.gates(half, example=0, fields=("c",), sort=None))[0].get_array(), step.c[0].T, 0.01
    )


def test_tracks_are_those_of_the_unit(step):
    figure = saved(plot.unit(step, 3, example=0))
    together, *others = figure.axes
    assert [line.get_label() for line in together.lines] == ["i", "f", "o"]
    for line in together.lines:
        np.testing.assert_array_equal(line.get_ydata(), getattr(step, line.get_label())[0, :, 3])
    assert [axes.get_ylabel().replace("\n", " ") for axes in others] == ["candidate g", "cell state c", "o ⊙ tanh(c)"]
    for axes, field in zip(others, ("g", "c", "m"), strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), getattr(step, field)[0, :, 3])
    assert figure.get_suptitle() == "unit 3 over the steps"


def test_a_unit_shows_what_is_there(step):
    bare = NOTHING._replace(f=step.f[0], c=step.c[0])
    figure = plot.unit(bare, 0)
    assert len(figure.axes) == 2


@pytest.mark.parametrize("lengths", [5, [6, 5, 2]])
def test_padding_is_not_drawn_and_does_not_sort(step, lengths):
    padded = step._replace(f=step.f.copy())
    padded.f[1, 5:, 3] = 100.0  # would be the top row
    figure = plot.gates(padded, example=1, fields=("f",), lengths=lengths)
    order = np.argsort(-step.f[1, :5].mean(axis=0))
    np.testing.assert_array_equal(maps(figure)[0].get_array(), step.f[1, :5][:, order].T)
    curve = plot.unit(padded, 3, example=1, fields=("f",), lengths=lengths).axes[0].lines[0]
    np.testing.assert_array_equal(curve.get_ydata(), step.f[1, :5, 3])


WRONG_STEPS = [
    (
        lambda s: plot.gates(s, example=0, lengths=[1, 2]),
        ValueError,
        r"lengths is int64 \(2,\), expected a whole number",
    ),
    (lambda s: plot.gates(s, example=0, lengths=8), ValueError, "lengths holds 8 to 8, expected 0 to T = 7"),
    (lambda s: plot.unit(s, 0, example=0, lengths=[0, 2, 3]), ValueError, "lengths is 0: there is no valid step"),
    (lambda s: plot.gates(s), ValueError, r"step.i has 1 batch axes \(3,\), and .* Pass example=0 for the first"),
    (lambda s: plot.gates(s, example=3), ValueError, r"example=3 is outside of the batch axes \(3,\) of step.i"),
    (lambda s: plot.unit(jax.tree.map(lambda a: a[0], s), 0, example=1), ValueError, "Leave example away"),
    (lambda s: plot.gates((s, s)), TypeError, r"step is a tuple of 2 layers, expected the Step of one. Pass step\[0\]"),
    (lambda s: plot.unit(Bidirectional(s, s), 0), TypeError, "Bidirectional pair.* Pass step.forward or .reverse"),
    (lambda s: plot.gates(s.f), TypeError, "expected a Step of arrays"),
    (lambda s: plot.gates(s._replace(c=None), example=0), ValueError, "step.c is None: it was not asked for"),
    (lambda s: plot.gates(s, fields=("k",), example=0), ValueError, "a field is 'k', expected one of 'i', 'f'"),
    (lambda s: plot.gates(s, fields=(), example=0), ValueError, "fields is empty"),
    (lambda s: plot.gates(s, sort=np.ones(4), example=0), ValueError, r"sort has shape \(4,\), expected \(5,\)"),
    (lambda s: plot.gates(s, span=(3, 9), example=0), ValueError, r"span=\(3, 9\) is not within the 7 steps"),
    (lambda s: plot.gates(s, marks=(7,), example=0), ValueError, "marks has step 7, but steps 0 to 6 are shown"),
    (lambda s: plot.gates(s, text="abc", example=0), ValueError, "text has 3 characters or words, but step has 7"),
    (lambda s: plot.gates(s, xs=np.ones((B, 6, I)), example=0), ValueError, "xs has 6 steps, but step has 7"),
    (lambda s: plot.unit(s, 5, example=0), ValueError, "unit is 5, but step.i has units 0 to 4"),
    (lambda s: plot.unit(NOTHING, 0), ValueError, "step has none of i, f, o, g, c and m"),
    (lambda s: plot.gates(jax.tree.map(lambda a: a[0, 0], s)), ValueError, r"shape \(5,\), expected \[T, H\]"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG_STEPS)
def test_what_cannot_be_drawn_is_named(step, call, error, text):
    with pytest.raises(error, match=text):
        call(step)


@pytest.mark.thorough
def test_more_text_than_can_be_read_asks_for_a_span():
    long = NOTHING._replace(f=np.ones((300, 2), np.float32))
    with pytest.raises(ValueError, match=r"300 labels along one axis, more than 240 .* span=\(0, 240\)"):
        plot.unit(long, 0, text="x" * 300)
    assert len(ticks(plot.unit(long, 0, text="x" * 300, span=(10, 60)).axes[0].xaxis)) == 50
