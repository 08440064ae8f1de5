"""What trace gives is what the forward pass computes; what is added to it moves the loss as its gradient says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T
from tiers import tiered
from tolerances import DIFFERENCE, assert_close

from lstmjax import Bidirectional, RecurrentDropout, Zoneout, init_network, init_params, lstm, stacked  # fmt: skip
from lstmjax.inside import Reduce, trace

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
LENGTHS = jnp.array([5, 2, 0])
RESETS = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 1], [0, 1, 0, 0, 0]], bool)


def drawn(steps=T):
    return jax.random.normal(jax.random.key(1), (B, steps, I), jnp.float64)


def one(cell="vanilla"):
    return init_params(KEY, I, H, cell=cell, dtype=jnp.float64)


def deep():
    return init_network(KEY, I, H, 3, layers=2, bidirectional=True, dtype=jnp.float64)


@pytest.mark.parametrize("how", [{}, {"lengths": LENGTHS, "reverse": True}, {"resets": RESETS}], ids=str)
def test_one_layer_is_the_forward_pass(how):
    params, xs = one("peephole"), drawn()
    steps = trace(params, xs, cell="peephole", **how)
    assert_close(steps, lstm(params, xs, cell="peephole", emit="step", **how)[1])
    only = trace(params, jnp.moveaxis(xs, 1, 0), cell="peephole", fields=("h", "f"), time_major=True,
                 **{k: v.T if k == "resets" else v for k, v in how.items()})  # fmt: skip
    assert [name for name, value in only._asdict().items() if value is not None] == ["f", "h"]
    assert_close(jnp.moveaxis(only.f, 0, 1), steps.f)


def test_a_network_under_dropout_is_the_one_that_network_runs():
    """The same key draws the same masks, and each layer's h enters the one above."""
    params, xs = deep(), drawn()
    how = {"dropout": 0.5, "key": jax.random.key(3), "wrappers": (Zoneout(0.2, 0.1), RecurrentDropout(0.3))}
    runs, _ = jax.random.split(how["key"])
    traced = jax.jit(partial(trace, params, lengths=LENGTHS, **how))
    below, above = traced(xs)
    _, ys = jax.jit(partial(stacked, params.layers, lengths=LENGTHS, **how | {"key": runs}))(xs)
    assert_close(_joined(above), ys)
    assert isinstance(below, Bidirectional)
    assert below.reverse.z_o.shape == (B, T, H)


def _joined(pair):
    return jnp.concatenate([pair.forward.h, pair.reverse.h], axis=-1)


def test_what_is_added_moves_the_loss_as_its_gradient_says():
    """Every value of every step at once, along a random direction."""
    params, xs = deep(), drawn()
    rng = np.random.default_rng(2)
    like = jax.tree.map(lambda a: jnp.zeros(a.shape), jax.eval_shape(partial(trace, params), xs))
    weight = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), like)

    @jax.jit
    def loss(added):
        return (_joined(trace(params, xs, fields="h", perturb=added, lengths=LENGTHS)[1]) ** 2).sum()

    gradient = jax.grad(loss)(like)
    slope = sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(weight)))
    step = 1e-5
    up, down = (loss(jax.tree.map(lambda w, s=s: s * step * w, weight)) for s in (1, -1))
    assert abs((up - down) / (2 * step) - slope) <= DIFFERENCE * abs(slope)
    for behind in jax.tree.leaves(gradient):
        assert abs(behind[1, 2:]).max() == 0.0


def f_and_c(step):
    return {"open": step.f > 0.6, "c": step.c}


@pytest.mark.parametrize(
    ("how", "reverse"), tiered([("mean", True), ("sum", False), ("max", True), ("min", False)], first=[("mean", True)])
)
def test_a_streamed_statistic_is_that_of_the_arrays(how, reverse):
    """Over several segments, the last one not full; holes, resets, and a sequence that is all holes."""
    steps = 150
    params, xs = one(), drawn(steps)
    rng = np.random.default_rng(5)
    mask, resets = rng.random((B, steps)) < 0.7, rng.random((B, steps)) < 0.05
    mask[2] = False
    found = trace(params, xs, reduce=Reduce(f_and_c, how), mask=mask, resets=resets, reverse=reverse)
    arrays = trace(params, xs, mask=mask, resets=resets, reverse=reverse)
    for name, values in (("open", arrays.f > 0.6), ("c", arrays.c)):
        for n in range(2):
            valid = np.asarray(values[n], np.float64)[mask[n]]
            np.testing.assert_allclose(found[name][n], getattr(np, how)(valid, axis=0), rtol=1e-12)
    empty = {"mean": np.nan, "sum": 0.0, "max": -np.inf, "min": np.inf}[how]
    np.testing.assert_array_equal(found["c"][2], np.full(H, empty))


@pytest.mark.thorough
def test_a_streamed_network_goes_on_from_layer_to_layer():
    params, xs = deep(), drawn(70)
    found = trace(params, xs, reduce=lambda step: step.z_g)
    arrays = trace(params, xs, fields="z_g")
    assert_close(jax.tree.leaves(found), [a.mean(axis=1) for a in jax.tree.leaves(arrays)])


def test_a_streamed_statistic_keeps_no_array_over_time():
    params = init_params(KEY, I, H)
    xs = jax.ShapeDtypeStruct((B, 4096, I), jnp.float32)

    def temporaries(**how):
        compiled = jax.jit(partial(trace, params, **how)).lower(xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one_array = B * 4096 * H * 4
    assert temporaries(reduce=lambda step: step.f) < one_array + B * 4096 * (I + 2) * 4  # the inputs, turned and cut


@pytest.mark.thorough
def test_trace_under_vmap_jit_and_higher_derivatives():
    """Written in place or stacked, the derivatives of every order are those of the definition."""
    params, xs = one(), drawn()

    def loss(xs, backend):
        steps = trace(params, xs, backend=backend)
        return (steps.c * steps.f).sum()

    run = {name: partial(loss, backend=name) for name in ("auto", "scan")}
    assert_close(*(jax.jit(jax.value_and_grad(run[name]))(xs) for name in run), gradient=True)
    assert_close(*(jax.jit(jax.hessian(run[name]))(xs[:1, :2]) for name in run), gradient=True)
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)
    assert_close(
        jax.jit(jax.vmap(jax.vmap(trace, (None, 0)), (0, None)))(many, xs).f[0], trace(params, xs, fields="f").f
    )


def plain(params, state, x):
    return state, state[0]


MESSAGES = {
    "fields": (
        lambda p, xs: trace(p, xs, fields="forget"),
        ValueError,
        "fields is 'forget', expected one of 'i', 'f', 'g', 'o', 'z_i', 'z_f', 'z_g', 'z_o', 'c', 'm', 'h'.",
    ),
    "reverse": (
        lambda p, xs: trace((p,), xs, reverse=True),
        ValueError,
        "reverse is for LSTMParams; for layers make the layer a Bidirectional pair.",
    ),
    "form": (
        lambda p, xs: trace((p,), xs, perturb=trace(p, xs)),
        TypeError,
        "perturb is a Step that is not in the form of what trace gives: a Step for LSTMParams; for layers a tuple with "
        "a Step for each, a Bidirectional of two for a pair.",
    ),
    "shape": (
        lambda p, xs: trace(p, xs, perturb=trace(p, xs[:, :2], fields="f")),
        ValueError,
        "perturb f has shape (3, 2, 4), expected (3, 5, 4), as trace gives f.",
    ),
    "both": (
        lambda p, xs: trace(p, xs, perturb=trace(p, xs), reduce=f_and_c),
        ValueError,
        "perturb is for the values of every step, and reduce does not keep them. Pass one of the two.",
    ),
    "key": (
        lambda p, xs: trace(p, xs, reduce=f_and_c, key=KEY),
        ValueError,
        "key is given, but reduce runs segments, in each of which wrappers would draw anew; leave key out.",
    ),
    "how": (
        lambda p, xs: Reduce(f_and_c, "median"),
        ValueError,
        "how is 'median', expected one of 'mean', 'sum', 'max', 'min'.",
    ),
    "step": (
        lambda p, xs: trace(p, xs, (jnp.zeros((B, H)),) * 2, step=plain),
        TypeError,
        "the step emits an array and no Step, so there is nothing to trace. Give your step the keyword emit and return "
        "emitted(emit, Step(...)).",
    ),
    "step of a statistic": (
        lambda p, xs: trace(p, xs, (jnp.zeros((B, H)),) * 2, step=plain, reduce=f_and_c),
        TypeError,
        "the step emits an array and no Step, so there is nothing to trace. Give your step the keyword emit and return "
        "emitted(emit, Step(...)).",
    ),
    "inplace": (
        lambda p, xs: lstm(p, xs, backend="inplace", checkpoint="sqrt"),
        ValueError,
        "backend='inplace' cannot run this: it keeps no segments, but checkpoint is 'sqrt'. "
        "Pass backend='scan', or checkpoint=None.",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_says(name):
    call, kind, text = MESSAGES[name]
    with pytest.raises(kind) as error:
        call(one(), drawn())
    assert str(error.value).split("\n---")[0] == text
