"""One step: the equation, what it emits, the forms of its parameters, and what it asserts of a cell."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import LAYERS, B, H, I, P, T, draw_params, draw_state, run, take
from tolerances import assert_close

from lstmjax import (
    GATES,
    Cell,
    LSTMParams,
    Step,
    Zoneout,
    cell_step,
    emitted,
    from_concatenated,
    lstm,
    oracle,
    to_concatenated,
)

pytestmark = pytest.mark.usefixtures("x64")


def drawn(seed=0, layer="single", batch=(B,)):
    rng = np.random.default_rng(seed)
    params = draw_params(rng, **LAYERS[layer])
    return params, draw_state(rng, params, batch), jnp.asarray(rng.normal(size=(*batch, I)))


# The equation


@pytest.mark.parametrize("layer", LAYERS)
def test_a_step_is_the_oracles(layer):
    params, (h, c), x = drawn(1, layer)
    (new_h, new_c), step = jax.jit(partial(cell_step, emit="step"))(params, (h, c), x)
    for n in range(B):
        expected = oracle.step(jax.tree.map(np.asarray, params), *(np.asarray(a[n]) for a in (x, h, c)))
        assert_close(take(step, n), Step(*expected))
    np.testing.assert_array_equal(new_h, step.h)
    np.testing.assert_array_equal(new_c, step.c)


def test_a_step_scans_as_it_stands():
    params, state, _ = drawn(2, "projection", ())
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, I)))
    end, ys = jax.lax.scan(partial(cell_step, params), state, xs)
    assert_close((end, ys), run(params, xs, state))


def test_emit_is_h_c_everything_or_a_function_of_it():
    params, state, x = drawn(3)
    (h, c), step = cell_step(params, state, x, emit="step")
    assert isinstance(step, Step)
    for emit, expected in (("h", h), ("c", c), (lambda s: (s.o, s.z_f), (step.o, step.z_f))):
        end, y = cell_step(params, state, x, emit=emit)
        assert_close((end, y), ((h, c), expected))
    _, y = cell_step(params, state, x)
    np.testing.assert_array_equal(y, h)


def test_every_product_goes_through_the_injected_one():
    """Two sites, "z" and "p", and no other arithmetic with the weights: a product of zeros gives zeros."""
    params, state, x = drawn(4, "double-projection")
    seen = {}

    def watch(site, *terms, bias=()):
        seen[site] = ([(a.shape, w.shape) for a, w in terms], len([b for b in bias if b is not None]))
        (operand, weight), *_ = terms
        return jnp.zeros((*operand.shape[:-1], *weight.shape[1:]), operand.dtype)

    (h, c), step = cell_step(params, state, x, product=watch, emit="step")
    assert seen == {"z": ([((B, I), (I, 4, H)), ((B, P), (P, 4, H))], 2), "p": ([((B, H), (H, P))], 0)}
    np.testing.assert_array_equal(step.i, np.full((B, H), 0.5))
    np.testing.assert_array_equal(c, 0.5 * state[1])
    np.testing.assert_array_equal(h, np.zeros((B, P)))


# The forms of the parameters


def test_gates_are_named_along_an_axis_of_their_own():
    params, *_ = drawn(5, "double")
    assert GATES == ("i", "f", "g", "o")
    for k, name in enumerate(GATES):
        part = params.gate(name)
        assert part.w_c is None
        for field in ("w_x", "w_h", "b", "b_h"):
            np.testing.assert_array_equal(getattr(part, field), getattr(params, field)[..., k, :])


def test_what_is_none_vanishes_from_the_tree():
    params, *_ = drawn(6, "none")
    assert len(jax.tree.leaves(params)) == 2
    assert params.gate("o").b is None
    assert (params.input_size, params.hidden_size, params.output_size) == (I, H, H)
    assert drawn(6, "projection")[0].output_size == P


@pytest.mark.parametrize("layer", ["single", "none", "projection"])
def test_the_concatenated_form_is_a_view_of_the_same_parameters(layer):
    params, (h, _), x = drawn(7, layer)
    form = to_concatenated(params)
    width = params.output_size
    assert form.w.shape == (4 * H, I + width)
    z = jnp.concatenate([x, h], -1) @ form.w.T + (0 if form.b is None else form.b[None])
    _, step = cell_step(params, drawn(7, layer)[1], x, emit="step")
    assert_close(tuple(jnp.split(z, 4, -1)), (step.z_i, step.z_f, step.z_g, step.z_o))
    assert_close(from_concatenated(*form, w_p=params.w_p), params)


def test_two_biases_are_summed_only_when_asked():
    params, state, x = drawn(8, "double")
    summed = from_concatenated(*to_concatenated(params, sum_biases=True))
    assert summed.b_h is None
    assert_close(cell_step(summed, state, x), cell_step(params, state, x))


def test_the_numbers_that_people_check_by_hand():
    """W·[x, h] with rows 1 to 6, 5 to 10 and 3 to 8; the gates are σ of at least 92, that is 1."""
    rows = np.array([[1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 10], [3, 4, 5, 6, 7, 8]], float)
    np.testing.assert_array_equal(rows @ np.arange(1.0, 7.0), [91, 175, 133])
    params = from_concatenated(np.tile(rows, (4, 1)), np.tile([1.0, 2.0, 3.0], 4))
    x, h, c = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 5.0, 6.0]), jnp.array([0.5, -0.25, 2.0])
    (h, c_new), step = cell_step(params, (h, c), x, emit="step")
    for z, gate in zip((step.z_i, step.z_f, step.z_g, step.z_o), (step.i, step.f, step.g, step.o), strict=True):
        np.testing.assert_array_equal(z, [92, 177, 136])
        np.testing.assert_array_equal(gate, [1, 1, 1])
    np.testing.assert_array_equal(c_new, c + 1)
    np.testing.assert_array_equal(h, jnp.tanh(c + 1))


def test_the_numbers_that_are_often_printed_wrong():
    """Rows of ones, twos and threes, b = 1: [22, 43, 64]. A widely read answer prints [22, 42, 62]: it
    doubles and triples the 1 less than once, a slip; twice 21 plus 1 is 43, three times 21 plus 1 is 64."""
    rows = np.outer([1.0, 2.0, 3.0], np.ones(6))
    params = from_concatenated(np.tile(rows, (4, 1)), np.ones(12))
    state = jnp.array([4.0, 5.0, 6.0]), jnp.zeros(3)
    _, step = cell_step(params, state, jnp.array([1.0, 2.0, 3.0]), emit="step")
    for z in (step.z_i, step.z_f, step.z_g, step.z_o):
        np.testing.assert_array_equal(z, [22, 43, 64])


# What is asserted of a cell


def flat(z):
    """An activation that loses the units."""
    return z[..., 0]


def halved(z):
    """An activation that loses precision."""
    return jax.nn.sigmoid(z).astype(jnp.float16).astype(jnp.float32)


@pytest.mark.parametrize(
    ("gate", "words"), [("i", "input gate i"), ("f", "forget gate f"), ("g", "candidate g"), ("o", "output gate o")]
)
def test_a_wrong_gate_is_named_with_its_shape_and_what_was_expected(gate, words):
    with pytest.raises(AssertionError) as error:
        cell_step(*drawn(9), cell=Cell(**{gate: flat}))
    assert f"{words} has shape ({B},) and dtype float64, expected [..., H] = ({B}, {H}) and float64." in str(
        error.value
    )


def test_a_gate_of_a_wrong_dtype_is_named():
    with pytest.raises(AssertionError, match=r"output gate o has shape \(3, 4\) and dtype float32, expected .*float64"):
        cell_step(*drawn(10), cell=Cell(o=halved), emit="step")


def test_a_wrong_cell_state_is_named():
    """Nothing before c saw the error: the squashed c is right alone, and wrong beside its batch."""
    with pytest.raises(AssertionError, match=r"m = o ⊙ tanh\(c\) has shape \(4, 4\) .*expected \[..., H\] = \(1, 4\)"):
        cell_step(*drawn(11, batch=(1,)), cell=Cell(squash=lambda c: jnp.tile(c, (4, 1))))


def test_assertions_cost_nothing_at_run_time(monkeypatch):
    """The compiled program is the same, letter by letter, with and without them."""
    from lstmjax import checks

    params, state, x = drawn(12)

    def program():
        return jax.jit(lambda *a: cell_step(*a)).lower(params, state, x).as_text()

    with_checks = program()
    calls = []
    monkeypatch.setattr(checks.chex, "assert_shape", lambda *a, **k: calls.append(1))
    monkeypatch.setattr(checks.chex, "assert_type", lambda *a, **k: calls.append(1))
    assert program() == with_checks
    assert len(calls) == 2 * len(Step._fields)


# A step of one's own


def leaky(params, state, x):
    """s' = s/2 + x·w; emits s' and its square."""
    s = 0.5 * state["s"] + x @ params["w"]
    return {"s": s}, {"s": s, "square": s**2}


def test_a_plain_step_of_ones_own_runs_through_the_layer():
    rng = np.random.default_rng(13)
    params, start = {"w": jnp.asarray(rng.normal(size=(I, H)))}, {"s": jnp.asarray(rng.normal(size=(B, H)))}
    xs = rng.normal(size=(B, T, I))
    mask = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    resets = np.array([[0, 0, 1, 1, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    poisoned = jnp.asarray(np.where(mask[..., None], xs, np.nan))
    for reverse in (False, True):
        options = {"mask": mask, "resets": resets, "reset_state": start, "step": leaky, "reverse": reverse}
        end, ys = run(params, poisoned, start, **options)
        _, held = run(params, poisoned, start, padding="hold", **options)
        _, last = run(params, poisoned, start, return_sequences=False, **options)
        for n in range(B):
            s, shown = np.asarray(start["s"][n]), np.zeros(H)
            for t in range(T)[:: -1 if reverse else 1]:
                if mask[n, t]:
                    s = np.asarray(start["s"][n]) if resets[n, t] else s
                    s = 0.5 * s + xs[n, t] @ np.asarray(params["w"])
                    shown = s
                np.testing.assert_allclose(ys["s"][n, t], s * mask[n, t], rtol=1e-13)
                np.testing.assert_allclose(ys["square"][n, t], s**2 * mask[n, t], rtol=1e-13)
                np.testing.assert_allclose(held["s"][n, t], shown, rtol=1e-13)
            np.testing.assert_allclose(end["s"][n], s, rtol=1e-13)
            np.testing.assert_allclose(last["s"][n], shown, rtol=1e-13)


@dataclass(frozen=True)
class Clipped:
    """Our step with |c| held below a bound; it names all the keywords and so is handed them."""

    bound: float

    def __call__(self, params, state, x, aux=(), *, product, emit):
        assert emit == "step"
        (h, c), step = cell_step(params, state, x, aux, product=product, emit="step")
        c = jnp.clip(c, -self.bound, self.bound)
        return (h, c), emitted(emit, step._replace(c=c))


def test_a_step_with_our_keywords_takes_emit_wrappers_and_padding():
    params, state, _ = drawn(14)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, I)))
    for options in ({"lengths": np.array([5, 2, 0]), "padding": "hold"}, {"wrappers": (Zoneout(0.3, 0.2),)}):
        _, loose = run(params, xs, state, step=Clipped(1e6), emit="step", **options)
        _, ours = run(params, xs, state, emit="step", **options)
        assert_close(loose, ours)
    _, cs = run(params, xs, state, step=Clipped(0.1), emit="c")
    assert np.abs(cs).max() == 0.1


def test_a_step_is_kept_by_its_hash():
    """Equal steps share one compiled program: nothing is traced again."""
    params, state, _ = drawn(15)
    xs, traces = jnp.ones((B, T, I)), []

    def watched(params, state, x):
        traces.append(1)
        return cell_step(params, state, x)

    lstm(params, xs, state, step=watched)
    before = len(traces)
    lstm(params, xs, state, step=watched)
    assert before > 0
    assert len(traces) == before


def test_parameters_of_jax_and_of_numpy_are_one_thing():
    params, state, x = drawn(16)
    plain = LSTMParams(*(None if a is None else np.asarray(a) for a in params))
    assert_close(cell_step(plain, state, np.asarray(x)), cell_step(params, state, x))
