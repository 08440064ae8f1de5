"""The entity-aware layer: against an oracle in NumPy, a loop in PyTorch, and the vanilla LSTM that it is."""

import functools

import hydrology
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T, random_like, values_and_pull
from tolerances import assert_close

from lstmjax import (
    Bidirectional,
    EntityParams,
    RecurrentDropout,
    as_entity_aware,
    as_vanilla,
    cell_step,
    entity_aware,
    explain_backend,
    init_entity_aware,
    init_params,
    lstm,
    shapes,
    stacked,
    trace,
    with_statics,
)
from lstmjax.inside import gradient_flow

S = 7
LENGTHS = np.array([T, 2, 0])
RESETS = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1]], bool)


def drawn(seed=0, dtype=jnp.float64, **absent):
    """Random parameters, xs, statics and a state; every number is far from 0 and 1 often enough."""
    rng = np.random.default_rng(seed)
    params = random_like(rng, init_entity_aware(jax.random.key(0), I, S, H, dtype=dtype))
    params = params._replace(**absent)
    arrays = (rng.normal(size=s) for s in ((B, T, I), (B, S), (B, H), (B, H)))
    xs, statics, h, c = (jnp.asarray(a, dtype) for a in arrays)
    return params, xs, statics, (h, c)


def alone(tree, n):
    return jax.tree.map(lambda a: np.asarray(a)[n], tree)


def beside(xs, statics):
    return jnp.concatenate([xs, jnp.broadcast_to(statics[..., None, :], (*xs.shape[:-1], S))], -1)


# Against the oracle


@functools.cache  # one reference for all backends
def by_hand(biased, reset):
    """Arguments of a layer, cotangents, and the values and gradients of the oracle."""
    params, xs, statics, state = drawn(**({} if biased else {"b_s": None}))
    arguments = jax.tree.map(np.asarray, (params, xs, statics, state))
    cotangents = random_like(np.random.default_rng(1), (state, jnp.zeros((B, T, H))))
    flags = RESETS if reset else np.zeros((B, T), bool)

    def reference(params, xs, statics, state, n):
        (*_, hs), end = hydrology.entity_aware(params, xs[n], statics[n], *(s[n] for s in state), flags[n])
        return end, hs

    def loss(*arguments):
        values = [(reference(*arguments, n), alone(cotangents, n)) for n in range(B)]
        products = jax.tree.map(lambda a, d: (a * d).sum(), *zip(*values, strict=True))
        return sum(jax.tree.leaves(products))

    values = jax.tree.map(lambda *a: np.stack(a), *(reference(*arguments, n) for n in range(B)))
    return arguments, cotangents, values, hydrology.derivatives(loss, arguments)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", ["scan", "fused", "inplace"])
@pytest.mark.parametrize(("biased", "reset"), [(True, False), (False, True)])
def test_values_and_gradients_are_those_of_the_paper(backend, biased, reset):
    arguments, cotangents, expected, expected_gradients = by_hand(biased, reset)

    def f(params, xs, statics, state):
        return entity_aware(params, xs, statics, state, resets=RESETS if reset else None, backend=backend)

    actual, gradients = values_and_pull(f, jax.tree.map(jnp.asarray, arguments), cotangents)
    assert_close(actual, expected)
    assert_close(gradients, expected_gradients, gradient=True)


@pytest.mark.usefixtures("x64")
def test_a_trace_shows_all_gates_and_the_input_gate_is_one_for_all_steps():
    params, xs, statics, state = drawn(2)
    layer, options = with_statics(params, statics)
    steps = trace(layer, xs, state, lengths=LENGTHS, **options)
    for n, length in enumerate(LENGTHS):
        series, _ = (
            hydrology.entity_aware(alone(params, ...), xs[n, :length], statics[n], *alone(state, n))
            if length
            else ([], ())
        )
        for name, expected in zip("ifgoch", series, strict=False):
            assert_close(getattr(steps, name)[n, :length], expected)
    assert steps.z_i is None


@pytest.mark.usefixtures("frameworks", "x64")
def test_pytorch_gives_the_same_values_and_gradients_by_the_loop_of_neuralhydrology():
    torch = pytest.importorskip("torch")
    params, xs, statics, state = drawn(3)
    tensors = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), (params, xs, statics, state))
    theirs, their_xs, their_statics, (h, c) = tensors
    weight_ih, weight_hh, bias = (
        torch.cat([a[..., k, :] for k in (0, 2, 1)], -1)
        for a in (theirs.dynamic.w_x, theirs.dynamic.w_h, theirs.dynamic.b)
    )  # the order of neuralhydrology is f, o, g
    i, hs = torch.sigmoid(their_statics @ theirs.w_s + theirs.b_s), []
    for t in range(T):
        f, o, g = (h @ weight_hh + their_xs[:, t] @ weight_ih + bias).chunk(3, 1)
        c = torch.sigmoid(f) * c + i * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        hs.append(h)
    ys = torch.stack(hs, 1)
    weights = np.random.default_rng(4).normal(size=ys.shape)
    (ys * torch.tensor(weights)).sum().backward()

    def f(params, xs, statics, state):
        return entity_aware(params, xs, statics, state)[1]

    actual, gradients = values_and_pull(f, (params, xs, statics, state), jnp.asarray(weights))
    assert_close(actual, ys.detach().numpy())
    assert_close(gradients, jax.tree.map(lambda a: a.grad.numpy(), tensors), gradient=True)


# The vanilla LSTM that it is


@pytest.mark.usefixtures("x64")
def test_a_vanilla_lstm_with_blocks_of_zero_computes_the_same():
    params, xs, statics, state = drawn(5)
    wide = as_vanilla(params)
    assert wide.w_x.shape == (I + S, 4, H)
    options = {"lengths": LENGTHS, "padding": "hold", "resets": RESETS}
    expected = lstm(wide, beside(xs, statics), state, **options)
    assert_close(entity_aware(params, xs, statics, state, **options), expected)
    assert_close(as_entity_aware(wide, S), params)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_other_dtypes(dtype):
    params, xs, statics, _ = drawn(6)
    rounded = jax.tree.map(lambda a: a.astype(dtype).astype("float64"), (params, xs, statics))
    _, expected = entity_aware(*rounded)
    _, ys = entity_aware(*jax.tree.map(lambda a: a.astype(dtype), (params, xs, statics)))
    assert ys.dtype == dtype
    assert_close(ys, expected, dtype=dtype)
    _, cast = entity_aware(*rounded, dtype=dtype)
    assert_close(cast, expected, dtype=dtype)


@pytest.mark.usefixtures("x64")
def test_chunks_time_major_reverse_and_the_last_step_are_those_of_a_whole_pass():
    params, xs, statics, state = drawn(7)
    end, ys = entity_aware(params, xs, statics, state)
    middle, first = entity_aware(params, xs[:, :2], statics, state)
    last, second = entity_aware(params, xs[:, 2:], statics, middle)
    assert_close((last, jnp.concatenate([first, second], 1)), (end, ys))
    turned = entity_aware(params, jnp.moveaxis(xs, 1, 0), statics, state, time_major=True)[1]
    assert_close(jnp.moveaxis(turned, 0, 1), ys)
    assert_close(entity_aware(params, xs, statics, state, return_sequences=False)[1], ys[:, -1])
    back = entity_aware(params, xs[:, ::-1], statics, state, reverse=True)[1]
    assert_close(back[:, ::-1], ys)
    assert_close(entity_aware(params, xs[1], statics[1], alone(state, 1))[1], ys[1])
    mapped = jax.vmap(lambda x, s, state: entity_aware(params, x, s, state)[1])(xs, statics, state)
    assert_close(mapped, ys)


def test_wrappers_stand_around_the_step_with_its_gate_and_other_tools_take_it():
    params, xs, statics, _ = drawn(8, jnp.float32)
    key = jax.random.key(3)
    plain = entity_aware(params, xs, statics)[1]
    assert_close(entity_aware(params, xs, statics, wrappers=(RecurrentDropout(0.5),))[1], plain)
    assert (
        jnp.abs(entity_aware(params, xs, statics, wrappers=(RecurrentDropout(0.5),), key=key)[1] - plain).max() > 0.01
    )
    layer, options = with_statics(params, statics)
    assert "entity_aware" in str(explain_backend(layer, xs, **options))
    assert_close(stacked((layer,), xs, **options)[1], plain)
    flow = gradient_flow(layer, xs, lambda ys: ys[:, -1].sum(), **options)
    assert jnp.isfinite(flow.h).all()


# Initial values


def test_initial_values_begin_with_a_forget_bias_and_a_static_gate_of_unit_variance():
    params = init_entity_aware(jax.random.key(0), 5, 200, 40, forget_bias=3.0)
    assert (params.input_size, params.static_size, params.hidden_size) == (5, 200, 40)
    np.testing.assert_array_equal(params.dynamic.b, np.repeat([[3.0], [0.0], [0.0]], 40, 1))
    assert 0.95 < np.std(params.w_s) * 200**0.5 < 1.05
    np.testing.assert_array_equal(params.b_s, 0.0)
    other = init_entity_aware(jax.random.key(1), 5, 200, 40, forget_bias=3.0)
    assert not (other.w_s == params.w_s).any()


# Refusals


def test_statics_that_do_not_fit_are_refused_in_words():
    params, xs, statics, _ = drawn(9, jnp.float32)
    with pytest.raises(ValueError, match=r"statics has shape \(3, 6\).*expected \[..., S\] with S = 7"):
        entity_aware(params, xs, statics[:, 1:])
    with pytest.raises(ValueError, match=r"expected \(3, 7\): the batch axes of xs.*They stand beside xs once"):
        entity_aware(params, xs, beside(xs, statics)[..., I:])
    with pytest.raises(ValueError, match=r"statics has shape \(2, 7\), expected \(3, 7\)"):
        entity_aware(params, xs, statics[:2])
    layer, options = with_statics(params, statics[:2])
    with pytest.raises(ValueError, match=r"input gate has shape \(2, 4\), expected \(3, 4\)"):
        lstm(layer, xs, **options)
    with pytest.raises(TypeError, match="params is a LSTMParams, expected EntityParams"):
        entity_aware(params.dynamic, xs, statics)
    with pytest.raises(TypeError, match="no argument 'cell'"):
        entity_aware(params, xs, statics, cell="peephole")


def test_parameters_that_do_not_fit_are_refused_in_words():
    params, xs, statics, _ = drawn(10, jnp.float32)
    with pytest.raises(ValueError, match=r"w_s has shape \(7, 3\).*expected \[S, H\] with H = 4"):
        entity_aware(params._replace(w_s=params.w_s[:, 1:]), xs, statics)
    with pytest.raises(ValueError, match=r"b_s has shape \(3,\).*expected \[H\] = \(4,\)"):
        entity_aware(params._replace(b_s=params.b_s[1:]), xs, statics)
    with pytest.raises(TypeError, match=r"params\.dynamic is a tuple of 2, expected LSTMParams"):
        entity_aware(EntityParams((1, 2), params.w_s), xs, statics)
    with pytest.raises(ValueError, match="the parameters are an ensemble of 2 networks"):
        entity_aware(jax.tree.map(lambda a: jnp.stack([a, a]), params), xs, statics)
    vanilla = init_params(jax.random.key(0), I, H)
    with pytest.raises(ValueError, match="4 gate blocks, but the cell 'entity_aware' has 3"):
        entity_aware(params._replace(dynamic=vanilla), xs, statics)


def test_a_vanilla_lstm_that_is_no_entity_aware_layer_is_refused_in_words():
    params = as_vanilla(drawn(11, jnp.float32)[0])
    with pytest.raises(ValueError, match="w_h in i is not 0, but an entity-aware layer has no such weights"):
        as_entity_aware(params._replace(w_h=params.w_h.at[1, 0, 2].set(0.5)), S)
    with pytest.raises(ValueError, match="w_x of the static attributes in f, g and o is not 0"):
        as_entity_aware(params, S + 1)
    with pytest.raises(ValueError, match=r"expected .* with S = 9 static attributes behind at least one"):
        as_entity_aware(params, I + S)


def test_the_gate_of_one_layer_is_not_used_for_others_and_the_rest_refuses_in_words():
    params, xs, statics, _ = drawn(12, jnp.float32)
    layer, options = with_statics(params, statics)
    with pytest.raises(ValueError, match="StaticGate is for one layer in one direction"):
        stacked((Bidirectional(layer, layer),), xs, **options)
    with pytest.raises(ValueError, match="StaticGate draws nothing"):
        lstm(layer, xs, cell=options["cell"], wrappers=(options["wrappers"][0][0],))
    with pytest.raises(ValueError, match="3 gate blocks, but the cell 'vanilla' has 4"):
        cell_step(layer, (statics[:, :H], statics[:, :H]), xs[:, 0])
    for tool in (shapes, lambda params: trace(params, xs), lambda params: lstm(params, xs)):
        with pytest.raises(TypeError, match=r"EntityParams, expected LSTMParams.* as_vanilla\(params\)"):
            tool(params)
