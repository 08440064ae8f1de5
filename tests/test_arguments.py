"""What is no array, no flag and no function is refused by the name of the argument, in every public function."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import (
    cell_step,
    compile_step,
    explain_backend,
    from_concatenated,
    init_network,
    init_params,
    init_stacked,
    inside,
    lstm,
    network,
    stacked,
    to_concatenated,
    truncated_gradient,
)
from lstmjax.arguments import as_array, as_arrays, check_number

T, B, I, H, O = 5, 3, 2, 4, 6
KEY = jax.random.key(0)
PARAMS, NETWORK = init_params(KEY, I, H), init_network(KEY, I, H, O)
XS = jax.random.normal(KEY, (B, T, I))
STATE = jnp.zeros((B, H)), jnp.zeros((B, H))
GATE = jax.nn.sigmoid(jax.random.normal(KEY, (B, T, H)))
QUESTION = inside.Question("which", np.array([True, False, True]), np.array([[0, 2]] * B))


def total(ys):
    return ys.sum()


CALLS = {
    cell_step: {"params": PARAMS, "state": STATE, "x": XS[:, 0]},
    lstm: {"params": PARAMS, "xs": XS},
    stacked: {"layers": (PARAMS,), "xs": XS},
    network: {"params": NETWORK, "xs": XS},
    explain_backend: {"params": PARAMS, "xs": XS},
    compile_step: {"params": (PARAMS,)},
    init_params: {"key": KEY, "input_size": I, "hidden_size": H},
    init_stacked: {"key": KEY, "input_size": I, "hidden_size": H},
    init_network: {"key": KEY, "input_size": I, "hidden_size": H, "output_size": O},
    to_concatenated: {"params": PARAMS},
    from_concatenated: {"w": np.ones((4 * H, I + H), np.float32)},
    truncated_gradient: {"loss": total, "params": NETWORK, "state": None, "inputs": XS},
    inside.trace: {"params": PARAMS, "xs": XS},
    inside.gate_statistics: {"params": PARAMS, "xs": XS},
    inside.gradient_flow: {"params": PARAMS, "xs": XS, "loss": total},
    inside.gradient_paths: {"params": PARAMS, "xs": XS, "loss": total},
    inside.gradient_spans: {"params": PARAMS, "xs": XS, "loss": total},
    inside.retained: {"f": GATE, "start": 0, "stop": 2},
    inside.time_scale: {"f": GATE},
    inside.separation: {"values": GATE, "question": QUESTION},
    inside.step_jacobians: {"params": PARAMS, "xs": XS},
    inside.state_jacobian: {"params": PARAMS, "xs": XS, "start": 0, "stop": 2},
    inside.singular_values: {"jacobians": jnp.ones((2, H, H))},
    inside.fixed_points: {"params": PARAMS, "x": XS[0, 0], "starts": STATE},
    inside.distinct_points: {"state": STATE, "speeds": jnp.ones(B)},
    inside.hessian_vector_product: {"loss": total, "params": XS, "direction": XS},
    inside.ablation: {"measure": total, "params": PARAMS},
}
ARRAYS = (
    "x", "xs", "lengths", "mask", "resets", "w", "b", "w_p", "f", "start", "stop", "values", "jacobians", "speeds",
    "at",
)  # fmt: skip
FLAGS = ("reverse", "time_major", "residual", "bidirectional", "sum_biases")
FUNCTIONS = ("loss", "measure", "step", "product", "tap", "run")
OTHERS = ("params", "layers", "key", "cell", "dtype", "question", "padding", "init", "hidden_size")
ANY_TREE = {(truncated_gradient, "params"), (inside.hessian_vector_product, "params")}
BAD = {
    ARRAYS: ("abc", [1, None, 3], [[1.0], [1.0, 2.0]], {}, np.array([1, None], object), np.array(["a", "b"])),
    FLAGS: ("no", 0.5, [True, False], np.ones(3, bool), {}),
    FUNCTIONS: (None, "abc", 3, [], np.ones(2)),
    OTHERS: ("abc", 1.5, object(), np.arange(6), {"a": 1}),
}
EVERY = [
    (call, name, bad)
    for call in CALLS
    for names, values in BAD.items()
    for name in names
    if name in inspect.signature(call).parameters
    for bad in values
    if (call, name) not in ANY_TREE
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_what_is_no_argument_is_refused_by_its_name(call):
    tried = [(name, bad) for of, name, bad in EVERY if of is call]
    assert tried
    for name, bad in tried:
        with pytest.raises((TypeError, ValueError)) as error:
            print(name, bad, call(**CALLS[call] | {name: bad}))
        assert re.match(rf"{name}\b", str(error.value)), (name, bad, str(error.value))


def test_none_is_refused_where_an_array_must_be():
    for call in (lstm, stacked, network, cell_step, inside.trace, inside.gate_statistics, inside.gradient_flow):
        name = "x" if call is cell_step else "xs"
        with pytest.raises(TypeError, match=rf"^{name} is None, expected an array of numbers\.$"):
            call(**CALLS[call] | {name: None})


@pytest.mark.parametrize(
    ("value", "shape"),
    [([1.0, 2.0], (2,)), (np.ones((2, 3), bool), (2, 3)), (3, ()), ([np.ones(2), np.ones(2)], (2, 2)), ([], (0,))],
)
def test_what_is_an_array_is_taken(value, shape):
    assert as_array("xs", value).shape == shape


def test_an_array_of_jax_stays_the_same_one():
    assert as_array("xs", XS) is XS
    assert as_arrays("params", PARAMS).w_x is PARAMS.w_x


def test_finite_numbers_of_every_kind_are_taken():
    for number in (1, -0.5, np.float32(2), np.int64(3), jnp.float32(1), jnp.bfloat16(1)):
        check_number("forget_bias", number)
    jax.jit(lambda bias: init_params(KEY, I, H, forget_bias=bias).b)(0.5)
    for number in (np.nan, np.inf, "1", 1j, None, True, np.ones(2)):
        with pytest.raises(ValueError, match=r"^forget_bias is .*, expected a finite number"):
            check_number("forget_bias", number)


def test_flags_may_be_arrays_of_one_truth_value():
    for true in (jnp.array(True), np.bool_(True), 1):
        np.testing.assert_array_equal(lstm(PARAMS, XS, reverse=true)[1], lstm(PARAMS, XS, reverse=True)[1])
    assert stacked((PARAMS,), XS, return_sequences=jnp.array(False))[1].shape == (B, H)


def test_an_empty_batch_has_an_empty_list_of_lengths():
    for empty in ([], (), np.zeros(0, int)):
        assert lstm(PARAMS, jnp.zeros((0, T, I)), lengths=empty)[1].shape == (0, T, H)
    assert lstm(PARAMS, jnp.zeros((2, 0, T, I)), lengths=[[], []])[1].shape == (2, 0, T, H)
