"""AUC, separation and ranks against counting all pairs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from lstmjax import Bidirectional
from lstmjax.init_stack import init_network
from lstmjax.inside import Question, rank_units, separation, separation_over, trace
from lstmjax.inside.units import auc
from lstmjax.types import Step


def by_pairs(values, labels):
    """The definition: over all pairs of one sequence of each kind; `[N]`."""
    pairs = [(a > b) + (a == b) / 2 for a in values[labels] for b in values[~labels]]
    return np.mean(pairs)


def draw(n=11, t=9, h=3, seed=0):
    """Values with ties, labels and spans; N, T and H differ."""
    random = np.random.default_rng(seed)
    values = random.integers(-4, 5, (n, t, h)).astype(np.float32)
    labels = random.permutation(np.arange(n) < n // 3)
    start = random.integers(0, t // 2, n)
    return values, Question("kind", labels, np.stack([start, random.integers(t // 2 + 1, t + 1, n)], axis=1))


def held(values, question, places):
    """Values at evenly spread steps of the spans, one by one."""
    rows = []
    for sequence, (start, stop) in zip(values, question.spans, strict=True):
        rows.append([sequence[round(start + p / (places - 1) * (stop - 1 - start))] for p in range(places)])
    return np.array(rows, np.float64)


def test_auc_counts_pairs_and_ties_half():
    values, question = draw()
    found = jax.jit(auc)(values, question.labels)
    expected = np.apply_along_axis(by_pairs, 0, values, question.labels)
    assert_close(found, expected)
    assert len(np.unique(values)) < len(values)  # there are ties
    mapped = jax.vmap(auc, in_axes=(2, None))(values, question.labels)
    np.testing.assert_array_equal(mapped.T, found)
    values[2, 1, 1] = np.nan
    broken = np.isnan(auc(values, question.labels))
    assert broken[1, 1]
    assert broken.sum() == 1


def test_many_sequences_do_not_overflow_the_number_of_pairs():
    random = np.random.default_rng(5)
    labels = np.arange(100_003) % 2 == 0
    values = random.normal(size=(100_003, 1)).astype(np.float32) + labels[:, None]
    ranks = np.argsort(np.argsort(values[:, 0])).astype(np.float64)[labels]
    exact = (ranks.sum() - len(ranks) * (len(ranks) - 1) / 2) / (len(ranks) * (len(values) - len(ranks)))
    np.testing.assert_allclose(auc(values, labels), [exact], rtol=1e-5)


@pytest.mark.thorough
def test_half_precision_is_ranked_in_float32():
    values, question = draw(n=601)  # more ranks than bfloat16 has numbers
    half = jnp.asarray(values, jnp.bfloat16)  # whole numbers: nothing is rounded here
    np.testing.assert_array_equal(separation(half, question).auc, separation(values, question).auc)
    np.testing.assert_array_equal(separation(half, question).distance, separation(values, question).distance)


def test_the_worst_place_of_the_span_counts():
    values, question = draw(h=40, seed=1)
    places = 5
    at = held(values, question, places)  # [N, places, H]
    over = np.apply_along_axis(by_pairs, 0, at, question.labels)
    assert_close(separation_over(values, question, places=places), over)
    up, down = over.min(axis=0), (1 - over).min(axis=0)
    found = separation(values, question, places=places)
    assert_close(found.auc, np.maximum(np.maximum(up, down), 0.5))
    clear = np.abs(up - down) > 1e-6  # between equals either sign is right
    np.testing.assert_array_equal(np.asarray(found.sign)[clear], np.where(up >= down, 1, -1)[clear])
    true, false = at[question.labels], at[~question.labels]
    distance = (true.mean(0) - false.mean(0)) / np.sqrt((true.var(0) + false.var(0)) / 2)
    np.testing.assert_allclose(found.distance, (distance * np.asarray(found.sign)).min(axis=0), rtol=1e-4, atol=1e-5)
    assert_close(separation(-values, question, places=places).auc, found.auc)
    assert (np.maximum(up, down) < 0.5).any()  # some keep to no side: that is no perfect inverse


def test_only_what_is_held_to_the_end_is_found():
    random = np.random.default_rng(2)
    n, t = 60, 12
    labels = random.permutation(np.arange(n) < n // 2)
    spans = np.stack([random.integers(1, 4, n), random.integers(8, t + 1, n)], axis=1)
    sign = np.where(labels, -1.0, 1.0)[:, None]
    steps = np.arange(t)
    noise = random.normal(size=(n, t, 4)) * 0.1
    inside = (steps >= spans[:, :1]) & (steps < spans[:, 1:])
    lost = inside & (steps < spans[:, 1:] - 1)
    values = noise + np.stack([sign * inside, sign * lost, 0 * sign * steps, sign * (0.5 + steps * 0)], axis=-1)
    question = Question("which", labels, spans)
    units = rank_units(trace_of(values), question)
    assert [unit.unit for unit in units][:2] == [0, 3]  # by distance, both separate
    assert units[0].auc == units[1].auc == 1.0
    assert (units[0].sign, units[0].layer, units[0].direction) == (-1, 0, "forward")
    assert units[0].distance > units[1].distance > 0
    assert all(unit.auc < 0.8 for unit in units[2:])


def trace_of(c):
    return Step(*(jnp.asarray(c, jnp.float32) if name == "c" else None for name in Step._fields))


def test_units_of_all_layers_and_directions_are_ranked():
    values, question = draw(n=20, h=2, seed=3)
    sure = np.where(question.labels, 1.0, -1.0)[:, None, None] * np.ones((1, 9, 1))
    best = np.concatenate([values[..., :1], sure], axis=-1)
    pair = Bidirectional(trace_of(values), trace_of(best))
    units = rank_units((trace_of(values), pair), question)
    assert len(units) == 6
    assert units[0][:4] == (1, "reverse", 1, 1.0)
    assert units[0].distance > 1e6  # no spread at all
    assert {unit[:3] for unit in units} == {(0, "forward", n) for n in (0, 1)} | {
        (1, direction, n) for direction in ("forward", "reverse") for n in (0, 1)
    }
    params = init_network(jax.random.key(0), 2, 3, 4, bidirectional=True)
    traces = trace(params, values, fields="c")
    assert len(rank_units(traces, question)) == 6
    with pytest.raises(ValueError, match=r"^traces have no f at layer 0; trace it with fields=\('f',\)$"):
        rank_units(traces, question, field="f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.ones(11, bool)}, "kind: all 11 labels are True; give sequences of both kinds."),
        ({"labels": np.arange(11)}, "kind: labels are int64 (11,), expected bool (11,), labels == 1, say."),
        ({"labels": np.ones(7, bool)}, "kind: labels are bool (7,), expected bool (11,), labels == 1, say."),
        ({"spans": np.ones((11, 2))}, "kind: spans are float64 (11, 2), expected whole numbers (11, 2)."),
        ({"spans": np.array([[2, 2]] * 11)}, "kind: span 0 is 2 to 2, expected 0 <= start < stop <= T = 9; the stop"),
        ({"spans": np.array([[0, 10]] * 11)}, "kind: span 0 is 0 to 10, expected 0 <= start < stop <= T = 9"),
    ],
)
def test_a_question_that_does_not_fit_is_told(change, message):
    values, question = draw()
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        separation(values, question._replace(**change))


def test_one_sequence_has_nothing_to_be_told_apart():
    values, question = draw()
    with pytest.raises(
        ValueError, match=r"values are \(9, 3\), expected \[N, T, H\]; for one sequence there is nothing"
    ):
        separation(values[0], question)


def test_no_sequences_and_no_places_are_told():
    values, question = draw()
    none = Question("kind", question.labels[:0], question.spans[:0])
    with pytest.raises(ValueError, match=r"^kind: all 0 labels are False; give sequences of both kinds"):
        separation(values[:0], none)
    with pytest.raises(ValueError, match=r"^places is 0, expected a whole number of at least 1"):
        separation(values, question, places=0)
