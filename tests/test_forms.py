"""One layer, a pair, a tuple, a list, a network: taken by every function, or refused with the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, draw_params, draw_state, random_like
from tiers import tiered

from lstmjax import Bidirectional, LSTMParams, Step, init_network, init_stacked, lstm, shapes, stacked
from lstmjax.inside import (
    ablation,
    fixed_points,
    gate_statistics,
    gradient_flow,
    gradient_paths,
    gradient_spans,
    hessian_vector_product,
    lyapunov_spectrum,
    rank_units,
    saturation,
    state_jacobian,
    step_jacobians,
    trace,
)
from lstmjax.inside.units import Question
from lstmjax.plot import summary

RNG = np.random.default_rng(0)
ONE, PAIR = draw_params(RNG), Bidirectional(draw_params(RNG), draw_params(RNG))
XS = jnp.asarray(RNG.normal(size=(B, T, I)), jnp.float32)
LENGTHS = np.array([T, 2, 4])
STATE = jax.tree.map(lambda a: a.astype(jnp.float32), draw_state(RNG, PAIR))
HOW = {"lengths": LENGTHS}


def loss(ys):
    return jnp.square(ys[..., 0]).sum()


def measured(params):
    """What `ablation` measures: the outputs with wrappers around the steps."""

    def measure(wrappers):
        if isinstance(params, LSTMParams):
            return lstm(params, XS, wrappers=wrappers)[1].sum()
        return stacked((params,) if isinstance(params, Bidirectional) else params, XS, wrappers=wrappers)[1].sum()

    return measure


LOOKS = {  # (params, state) -> what there is of each layer and direction
    "trace": lambda params, state: trace(params, XS, state, **HOW),
    "trace with reduce": lambda params, state: trace(params, XS, state, reduce=lambda step: step.f, **HOW),
    "gate_statistics": lambda params, state: gate_statistics(params, XS, state, **HOW),
    "gradient_flow": lambda params, state: gradient_flow(params, XS, loss, state, **HOW),
    "gradient_paths": lambda params, state: gradient_paths(params, XS, loss, state, **HOW),
    "gradient_spans": lambda params, state: gradient_spans(params, XS, loss, state, **HOW),
    "ablation": lambda params, state: ablation(measured(params), params, value=0.5),
}


@pytest.mark.parametrize("name", tiered(LOOKS, first=["trace", "gradient_paths"]))
def test_a_pair_alone_is_a_layer_and_keeps_its_form(name):
    """What comes back has the form of what went in; the numbers are those of a tuple of one."""
    look = LOOKS[name]
    (expected,) = look((PAIR,), (STATE,))
    for state in (STATE, (STATE,)):  # as the pair has it, and as `stacked` gives it
        found = look(PAIR, state)
        assert isinstance(found, Bidirectional)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_list_is_as_a_tuple():
    jax.tree.map(np.testing.assert_array_equal, trace([PAIR], XS), trace((PAIR,), XS))


@pytest.mark.parametrize("name", LOOKS)
def test_one_layer_is_as_a_tuple_of_one(name):
    alone, (layer,) = LOOKS[name](ONE, STATE[0]), LOOKS[name]((ONE,), (STATE[0],))
    assert not isinstance(alone, Bidirectional)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(layer), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_what_belongs_to_a_pair_is_a_pair():
    """A perturbation, the state of resets, and what replaces each unit."""
    steps = trace(PAIR, XS)
    added = random_like(RNG, steps)
    resets = np.arange(T) == np.array([[2], [3], [1]])
    moved, expected = (
        trace(params, XS, perturb=perturb, resets=resets, reset_state=state)
        for params, perturb, state in ((PAIR, added, STATE), ((PAIR,), (added,), (STATE,)))
    )
    jax.tree.map(np.testing.assert_array_equal, moved, expected[0])
    values = Bidirectional(*(jnp.asarray(RNG.normal(size=H), jnp.float32) for _ in range(2)))
    found, (same,) = (ablation(measured(PAIR), p, value=v) for p, v in ((PAIR, values), ((PAIR,), (values,))))
    jax.tree.map(np.testing.assert_array_equal, found, same)
    assert (np.asarray(found.forward.cost) != np.asarray(found.reverse.cost)).any()


@pytest.mark.thorough
def test_what_takes_traces_takes_those_of_a_pair():
    steps = trace(PAIR, XS, **HOW)
    assert isinstance(steps.forward, Step)
    found, expected = saturation(steps, **HOW), gate_statistics(PAIR, XS, **HOW)
    assert isinstance(found, Bidirectional)
    np.testing.assert_allclose(found.reverse.mean.f, expected.reverse.mean.f, rtol=1e-4)
    question = Question("sign", np.array([True, False, True]), np.array([[0, T]] * B))
    assert {unit.direction for unit in rank_units(steps, question)} == {"forward", "reverse"}
    assert rank_units(steps, question) == rank_units((steps,), question)
    assert shapes(PAIR).parameters == shapes((PAIR,)).parameters
    assert "Bidirectional" in summary(PAIR)
    assert jax.tree.structure(hessian_vector_product(lambda p: loss(p.forward.w_x), PAIR, PAIR)) == jax.tree.structure(
        PAIR
    )


def test_a_node_of_an_onnx_file_in_two_directions():
    pytest.importorskip("onnx")
    from lstmjax.convert import read_onnx, to_onnx

    layers = init_stacked(jax.random.key(0), I, H, bidirectional=True, cell="peephole")
    (node,) = read_onnx(to_onnx(layers, cell="peephole"))
    assert isinstance(node.params, Bidirectional)
    ys, _, _ = node(jnp.moveaxis(XS, 0, 1))  # [T, D, B, H]
    steps = trace(node.params, XS, cell=node.cells[0])
    for k, step in enumerate(steps):
        np.testing.assert_allclose(jnp.moveaxis(step.h, 0, 1), ys[:, k], rtol=1e-5, atol=1e-6)
    statistics = gate_statistics(node.params, XS, cell=node.cells[0])
    assert statistics.reverse.mean.f.shape == (H,)


ALONE = {
    "step_jacobians": lambda params: step_jacobians(params, XS),
    "state_jacobian": lambda params: state_jacobian(params, XS, 0, 2),
    "lyapunov_spectrum": lambda params: lyapunov_spectrum(params, XS),
    "fixed_points": lambda params: fixed_points(params, jnp.zeros(I), (jnp.zeros((2, H)), jnp.zeros((2, H)))),
}
REMEDIES = {
    r"Bidirectional, expected LSTMParams.* Pass params\.forward; or params\.reverse": PAIR,
    r"tuple of 1, expected LSTMParams.* For layer n of a stack pass layers\[n\]": (PAIR,),
    r"list, expected LSTMParams.* For layer n of a stack pass layers\[n\]": [ONE],
    r"NetworkParams, expected LSTMParams.* For layer n pass params\.layers\[n\]": init_network(
        jax.random.key(0), I, H, 3
    ),
}


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("words", REMEDIES)
def test_what_is_of_one_direction_says_which_to_pass(name, words):
    with pytest.raises(TypeError, match=words):
        ALONE[name](REMEDIES[words])


NOTHING = {"None": None, "a dict": {"w_x": XS}, "an array": XS, "empty": ()}


@pytest.mark.parametrize("what", NOTHING)
@pytest.mark.parametrize("name", LOOKS)
def test_what_are_no_parameters_is_refused(name, what):
    with pytest.raises(TypeError, match=r"params is .*, expected LSTMParams, a Bidirectional pair, a tuple"):
        LOOKS[name](NOTHING[what], None)


def test_a_pair_has_no_reverse_of_its_own():
    with pytest.raises(ValueError, match="reverse is for LSTMParams; for layers make the layer a Bidirectional pair"):
        trace(PAIR, XS, reverse=True)
