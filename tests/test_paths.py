"""The paths of the gradient: parts that make the whole in every cell, each against its formula in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params
from test_cells import drawn
from test_flow import MASK, drawn_stack, weighted
from tolerances import assert_close

from lstmjax import Bidirectional, clip_cell, init_params, lstm
from lstmjax.inside import gradient_flow, gradient_paths, gradient_spans, norms, state_jacobian, trace

LENGTHS = np.array([5, 3, 1])
SIMILAR = ["vanilla", "peephole", "nig", "nfg", "noaf", "cifg_mirror", "layer_norm", "clipped"]


def check_whole(paths, valid):
    """The parts are the sum, there is something in each, and nothing where there is no step."""
    parts = [part for part in paths[1:] if part is not None]
    assert_close(sum(parts), paths.total, gradient=True)
    for part in parts:
        assert np.asarray(part).any()
        assert not np.asarray(part)[~valid].any()


def after(a):
    """What stands at the next step, 0 behind the last."""
    return np.concatenate([np.asarray(a)[:, 1:], np.zeros_like(a)[:, :1]], axis=1)


# The others are of the form of these.
CELLS = [
    "cifg",
    "fgr",
    "layer_norm_carried",
    "layer_norm_per_gate",
    *(pytest.param(name, marks=pytest.mark.slow) for name in SIMILAR),
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.usefixtures("x64")
def test_the_parts_make_the_whole_in_every_cell(cell):
    """Over holes in the sequence."""
    row = clip_cell("vanilla", 0.3) if cell == "clipped" else cell
    params, xs, state = drawn("vanilla" if cell == "clipped" else cell)
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, params.output_size)))
    paths = jax.jit(partial(gradient_paths, loss=loss, mask=MASK, cell=row))(params, xs, state=state)
    assert (paths.peephole is None) == (params.w_c is None)
    check_whole(paths, MASK)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_the_whole_is_the_gradient_and_nothing_comes_from_behind_the_last_step(reverse):
    params, xs, state = drawn("projection")
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, params.output_size)))
    how = {"mask": MASK, "reverse": reverse, "cell": "projection"}
    paths = gradient_paths(params, xs.at[0, 0].set(jnp.nan), loss, state, **how)  # NaN where it is masked
    check_whole(paths, MASK)
    assert_close(paths.total, gradient_flow(params, xs, loss, state, fields="c", **how).c, gradient=True)
    for last in paths.cell[0, 1 if reverse else 4], paths.recurrent[1, 0 if reverse else 3]:
        assert not np.asarray(last).any()


@pytest.mark.usefixtures("x64")
def test_each_part_is_what_the_formula_says():
    params, xs, state = drawn("peephole")
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, H)))
    paths = gradient_paths(params, xs, loss, state, cell="peephole")
    flow = gradient_flow(params, xs, loss, state, cell="peephole")
    steps = trace(params, xs, state, cell="peephole")
    into_c = steps.o * (1 - np.tanh(steps.c) ** 2)
    assert_close(paths.cell, after(steps.f) * after(flow.c), gradient=True)
    z = np.stack([flow.z_i, flow.z_f, flow.z_g, flow.z_o], axis=-2)
    assert_close(paths.recurrent, into_c * np.einsum("btgh,pgh->btp", after(z), params.w_h), gradient=True)
    ys = lstm(params, xs, state, cell="peephole")[1]
    assert_close(paths.output, into_c * jax.grad(loss)(ys), gradient=True)
    flow, (w_i, w_f, w_o) = jax.tree.map(np.asarray, flow), np.asarray(params.w_c)
    assert_close(paths.peephole, w_i * after(flow.z_i) + w_f * after(flow.z_f) + w_o * flow.z_o, gradient=True)


@pytest.mark.usefixtures("x64")
def test_the_parts_make_the_whole_in_every_layer_and_direction():
    params, xs = drawn_stack()
    loss = weighted(np.random.default_rng(1).normal(size=(B, 3)))
    pair, top = gradient_paths(params, xs, loss, lengths=LENGTHS)
    flow = gradient_flow(params, xs, loss, lengths=LENGTHS, fields="c")
    assert isinstance(pair, Bidirectional)
    for paths, expected in ((pair.forward, flow[0].forward), (pair.reverse, flow[0].reverse), (top, flow[1])):
        check_whole(paths, np.arange(T) < LENGTHS[:, None])
        assert_close(paths.total, expected.c, gradient=True)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_output_that_the_loss_does_not_read_has_a_gradient_of_exactly_zero(reverse):
    """In float32, where a difference of two gradients would leave 1e-8."""
    params = jax.tree.map(lambda a: a.astype(jnp.float32), drawn("projection")[0])
    xs = np.random.default_rng(2).normal(size=(B, T, params.input_size)).astype(np.float32)
    options = {"lengths": LENGTHS, "reverse": reverse, "cell": "projection"}
    last = 0 * LENGTHS if reverse else LENGTHS - 1
    read = np.arange(T) == last[:, None]
    whole = gradient_paths(params, xs, lambda h: (h**2).sum(), return_sequences=False, **options)
    picked = gradient_paths(params, xs, lambda ys: (ys[np.arange(B), last] ** 2).sum(), **options)
    for paths in (whole, picked):
        np.testing.assert_array_equal(np.abs(paths.output).max(axis=-1) > 0, read)
    assert_close(whole.output, picked.output, gradient=True)
    padding = gradient_paths(params, xs, lambda ys: ys[:, -1].sum(), **options)  # only the longest ends there
    np.testing.assert_array_equal(np.abs(padding.total).max(axis=(1, 2)) > 0, LENGTHS == T)


# Spans


@pytest.mark.usefixtures("x64")
def test_the_cell_alone_multiplies_by_the_product_of_f():
    params, xs, state = drawn("vanilla")
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, H)))
    s = np.array([4, 2, 0])
    spans = gradient_spans(params, xs, loss, state, at=s)
    flow, f = gradient_flow(params, xs, loss, state, fields="c").c, np.asarray(trace(params, xs, state, fields="f").f)
    for n in range(B):
        expected = np.zeros((T, H))
        for t in range(s[n] + 1):
            expected[t] = f[n, t + 1 : s[n] + 1].prod(0) * np.asarray(flow)[n, s[n]]
        assert_close(spans.cell[n], expected, gradient=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_all_paths_are_those_of_the_jacobian_of_the_span(reverse):
    params, xs, state = drawn("vanilla")
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, H)))
    s, how = 3, {"reverse": reverse}
    spans = gradient_spans(params, xs, loss, state, at=T - 1 - s if reverse else s, **how)
    source, found = gradient_flow(params, xs, loss, state, fields="c", **how).c, spans.whole
    steps = trace(params, xs, state, fields=("o", "c"), **how)
    if reverse:
        source, found, steps = jax.tree.map(lambda a: a[:, ::-1], (source, found, steps))
    into_h = steps.o * (1 - jnp.tanh(steps.c) ** 2)
    for t in range(s + 1):
        jacobian = np.asarray(state_jacobian(params, xs, t + 1, s + 1, state, **how))
        by_h, by_c = jacobian[:, H:, :H] * np.asarray(into_h)[:, t, None], jacobian[:, H:, H:]
        assert_close(found[:, t], np.einsum("bs,bst->bt", source[:, s], by_h + by_c), gradient=True)
    assert not np.asarray(found)[:, s + 1 :].any()


@pytest.mark.usefixtures("x64")
def test_without_recurrent_weights_the_cell_is_all_there_is():
    """In both directions of a pair, from the last step that each processed."""
    rng = np.random.default_rng(2)
    pair = Bidirectional(*(draw_params(rng, I, H)._replace(w_h=jnp.zeros((H, 4, H))) for _ in range(2)))
    xs = jnp.asarray(rng.normal(size=(B, T, I)))
    loss = weighted(rng.normal(size=(B, T, 2 * H)))
    (spans,) = gradient_spans((pair,), xs, loss, lengths=LENGTHS)
    (flow,) = gradient_flow((pair,), xs, loss, lengths=LENGTHS, fields="c")
    for one in spans:
        assert_close(one.cell, one.whole, gradient=True)
    at = np.arange(B), LENGTHS - 1
    assert_close(spans.forward.cell[at], flow.forward.c[at], gradient=True)
    assert_close(spans.reverse.cell[:, 0], flow.reverse.c[:, 0], gradient=True)


@pytest.mark.parametrize("cell", ["layer_norm_carried", "fgr"])
@pytest.mark.usefixtures("x64")
def test_spans_of_one_step_are_the_cells_part_of_the_split(cell):
    """Where c is normalised as it is carried, the derivative of that is in."""
    params, xs, state = drawn(cell)
    loss = weighted(np.random.default_rng(1).normal(size=(B, T, H)))
    paths = gradient_paths(params, xs, loss, state, cell=cell)
    spans = gradient_spans(params, xs, loss, state, at=3, cell=cell)
    assert_close(spans.cell[:, 2], paths.cell[:, 2], gradient=True)
    assert_close(spans.whole[:, 3], paths.total[:, 3], gradient=True)


@pytest.mark.thorough
def test_paths_and_spans_under_jit_and_vmap_in_float32():
    params, xs = drawn_stack(dtype=jnp.float32)

    def both(xs):
        how = {"loss": lambda ys: jnp.sin(ys).sum(), "lengths": jnp.full(xs.shape[:-2], 4)}
        return gradient_paths(params.layers[0].forward, xs, **how), gradient_spans(params.layers[0].reverse, xs, **how)

    many = jax.jit(jax.vmap(both))(xs)
    assert_close(many, jax.jit(both)(xs), dtype="float32", gradient=True)
    assert norms(many)[1].cell.shape == (B, T)


PARAMS = init_params(jax.random.key(0), I, H)
XS = jnp.zeros((B, T, I))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gradient_spans(PARAMS, XS, jnp.sum, at=5), "at holds 5 to 5, expected 0 to T - 1 = 4"),
        (lambda: gradient_spans(PARAMS, XS, jnp.sum, at=0.5), r"at is float32 \(\), expected a whole number, or one"),
        (lambda: gradient_spans(PARAMS, XS, jnp.sum, at=np.zeros(2, int)), r"at is int32 \(2,\), expected .*\(3,\)"),
        (lambda: gradient_paths(PARAMS, XS, lambda ys: ys), r"loss gives float32 \(3, 5, 4\), expected one"),
        (lambda: gradient_paths(PARAMS, XS, jnp.sum, cell="lstm"), "cell is 'lstm', expected one of 'vanilla'"),
    ],
)
def test_messages(call, words):
    with pytest.raises(ValueError, match=words):
        call()
