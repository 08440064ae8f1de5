"""Agents: acting step by step is unrolling the trajectory, and both are what NumPy computes episode by episode."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import tiered

from lstmjax import oracle
from lstmjax.agents import AgentParams, act, init_agent, initial_state, trace_agent, unroll

T, B, I, H, A = 6, 3, 2, 4, 5
BOUND = {"float32": 1e-6, "float64": 1e-13}  # relative to the largest number
HEADS = {"policy": A, "value": None}
AGENTS = {
    "shared": {},
    "separate": {"shared": False},
    "deep": {"layers": 2, "embedding": (), "head": ()},
    "projected": {"projection_size": 3, "embedding": (7, 5), "head": (6,)},
    "coupled": {"cell": "cifg"},
    "fed back": {"cell": "fgr", "embedding": ()},
}
agents = pytest.mark.parametrize("kind", tiered(AGENTS, first=["projected", "fed back"]))


def assert_near(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape
        a, e, bound = np.asarray(a), np.asarray(e), BOUND[str(a.dtype)]
        assert np.abs(a - e).max(initial=0) <= bound * max(np.abs(e).max(initial=0), 1e-30)


def built(kind, dtype=jnp.float32):
    options = {"hidden_size": H, "embedding": (7,), "head": (6,), "init": "equinox"} | AGENTS[kind]
    params = init_agent(jax.random.key(0), I, HEADS, dtype=dtype, **options)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [a + 0.3 * jax.random.normal(key, a.shape, dtype) for key, a in zip(keys, leaves, strict=True)]
    return tree.unflatten(noisy), {"cell": AGENTS[kind].get("cell"), "activation": jnp.tanh}


def trajectory(params, options, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(2), 3)
    observations = jax.random.normal(keys[0], (T, B, I), dtype)
    firsts = jax.random.bernoulli(keys[1], 0.3, (T, B))
    state = initial_state(params, B, cell=options["cell"])
    leaves, tree = jax.tree.flatten(state)
    drawn = [
        jax.random.normal(k, a.shape, a.dtype) for k, a in zip(jax.random.split(keys[2], 99), leaves, strict=False)
    ]
    return tree.unflatten(drawn), observations, firsts


def by_steps(params, state, observations, firsts, **options):
    outputs = []
    for observation, first in zip(observations, firsts, strict=True):
        state, output = act(params, state, observation, first, **options)
        outputs.append(output)
    return state, jax.tree.map(lambda *ys: jnp.stack(ys), *outputs)


def value_and_gradient(run, params, state, observations, firsts):
    def loss(params, state, observations):
        after, outputs = run(params, state, observations, firsts)
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves((after, outputs))), (after, outputs)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(params, state, observations)


@agents
def test_acting_is_unrolling_in_value_and_gradient(kind, x64):
    params, options = built(kind, jnp.float64)
    data = trajectory(params, options, jnp.float64)
    runs = (functools.partial(run, **options) for run in (by_steps, unroll))
    assert_near(*(value_and_gradient(run, params, *data) for run in runs))


def test_acting_is_unrolling_in_value_and_gradient_in_single_precision():
    params, options = built("shared")
    data = trajectory(params, options)
    runs = (functools.partial(run, **options) for run in (by_steps, unroll))
    assert_near(*(value_and_gradient(run, params, *data) for run in runs))


def dense(layers, ys, last):
    for n, layer in enumerate(layers):
        ys = ys @ np.asarray(layer.w) + np.asarray(layer.b)
        ys = ys if last and n == len(layers) - 1 else np.tanh(ys)
    return ys


def test_unroll_is_numpy_episode_by_episode(x64):
    """An episode that begins in the trajectory starts from zeros, the first one from the state that was passed."""
    params, options = built("separate", jnp.float64)
    state, observations, firsts = trajectory(params, options, jnp.float64)
    _, outputs = unroll(params, state, observations, firsts, **options)
    for trunk, ((h, c),) in zip(params.trunks, state, strict=True):
        ((name, head),) = trunk.heads.items()
        for b in range(B):
            begins = [0, *(t for t in range(T) if firsts[t, b] and t), T]
            for begin, end in itertools.pairwise(begins):
                xs = dense(trunk.embedding, np.asarray(observations[begin:end, b]), last=False)
                start = (np.asarray(h[b]), np.asarray(c[b])) if not firsts[begin, b] else None
                hs = oracle.lstm(jax.tree.map(np.asarray, trunk.layers[0]), xs, start)[0][1].h
                expected = dense(head, hs, last=True)
                assert_near(outputs[name][begin:end, b], expected)


def test_a_first_observation_forgets_the_state_and_cuts_the_gradient():
    params, options = built("deep")
    state, observations, _ = trajectory(params, options)
    firsts = jnp.zeros((T, B), bool).at[3, 1].set(True)

    def late(state, observations):
        return unroll(params, state, observations, firsts, **options)[1]["value"][-1].sum()

    of_state, of_observations = jax.grad(late, (0, 1))(state, observations)
    assert all(not np.any(a[1]) and np.any(a[0]) for a in jax.tree.leaves(of_state))
    assert np.any(of_observations[:, 0], axis=-1).all()
    np.testing.assert_array_equal(np.any(of_observations[:, 1], axis=-1), np.arange(T) >= 3)


def test_vmap_over_environments_is_the_batch():
    params, options = built("separate")
    state, observations, firsts = trajectory(params, options)
    one = functools.partial(unroll, **options)
    after, outputs = jax.vmap(one, (None, 0, 1, 1), (0, 1))(params, state, observations, firsts)
    assert_near((after, outputs), unroll(params, state, observations, firsts, **options))
    single = functools.partial(act, **options)
    vmapped = jax.vmap(single, (None, 0, 0, 0))(params, state, observations[0], firsts[0])
    assert_near(vmapped, single(params, state, observations[0], firsts[0]))


def test_batch_first_and_the_state_that_episodes_begin_with():
    params, options = built("projected")
    state, observations, firsts = trajectory(params, options)
    learned = jax.tree.map(lambda a: 0.1 + a[0], state)  # without batch axes
    after, outputs = unroll(params, state, observations, firsts, reset_state=learned, **options)
    turned = unroll(
        params, state, observations.swapaxes(0, 1), firsts.T, time_major=False, reset_state=learned, **options
    )
    assert_near((turned[0], jax.tree.map(lambda a: a.swapaxes(0, 1), turned[1])), (after, outputs))
    replaced = jax.tree.map(lambda a, b: jnp.where(firsts[0][:, None], a[None], b), learned, state)
    none = act(params, replaced, observations[0], None, **options)
    assert_near(act(params, state, observations[0], firsts[0], reset_state=learned, **options), none)


def test_whole_numbers_and_half_precision():
    params, options = built("shared")
    state, observations, firsts = trajectory(params, options)
    whole = jnp.round(3 * observations)
    expected = unroll(params, state, whole, firsts, **options)
    assert_near(unroll(params, state, whole.astype(jnp.int32), firsts, **options), expected)
    half = unroll(params, None, observations, firsts, dtype=jnp.bfloat16, **options)
    full = unroll(params, None, observations, firsts, **options)
    assert half[0][0][0][0].dtype == jnp.bfloat16
    assert np.abs(half[1]["policy"].astype(jnp.float32) - full[1]["policy"]).max() < 0.1


def test_a_trace_is_what_unroll_computes():
    params, options = built("separate")
    data = trajectory(params, options)
    after, _ = unroll(params, *data, **options)
    traces = trace_agent(params, *data, fields=("h", "c"), **options)
    for (step,), ((h, c),) in zip(traces, after, strict=True):
        assert step.c.shape == (T, B, H)
        assert_near((step.h[-1], step.c[-1]), (h, c))


def test_a_policy_scaled_down_is_nearly_uniform():
    params = init_agent(jax.random.key(0), I, HEADS, hidden_size=H, scales={"policy": 0.01})
    assert isinstance(params, AgentParams)
    w = params.trunks[0].heads["policy"][-1].w
    np.testing.assert_allclose(w.T @ w, 1e-4 * np.eye(A), atol=1e-9)


def test_one_program_serves_every_step():
    params, options = built("shared")
    state, observations, firsts = trajectory(params, options)
    traced = []

    def activation(x):
        traced.append(x.shape)
        return jnp.tanh(x)

    for observation, first in zip(observations, firsts, strict=True):
        state, _ = act(params, state, observation, first, activation=activation)
    assert len(traced) == 3  # one behind the embedding, one in each head


REFUSED = {
    "params is a tuple of 2, expected AgentParams": lambda p, s, o, f: act((1, 2), s, o[0], f[0]),
    "observation has 3 features on its last axis, shape .3, 3., but the parameters expect I = 2": (
        lambda p, s, o, f: act(p, s, jnp.ones((B, 3)), f[0])
    ),
    r"first is int32, expected bool. Did you mean first > 0\?": lambda p, s, o, f: act(p, s, o[0], f[0].astype(int)),
    r"first has shape \(\), expected \[\.\.\.\] = \(3,\): one boolean a step, on the axes of observation": (
        lambda p, s, o, f: act(p, s, o[0], True)
    ),
    r"firsts has shape \(3, 6\), expected \[T, \.\.\.\] = \(6, 3\)": lambda p, s, o, f: unroll(p, s, o, f.T),
    r"observations has shape \(2,\), expected \[T, \.\.\., I\]": lambda p, s, o, f: unroll(p, s, o[0, 0], None),
    "burn_in is 7, expected 0 to T = 6": lambda p, s, o, f: unroll(p, s, o, f, burn_in=7),
    "state has 2 entries, expected a tuple with an entry for each of 1 trunk": (
        lambda p, s, o, f: act(p, s[0][0], o[0], f[0])
    ),
    "state h has shape": lambda p, s, o, f: act(p, jax.tree.map(lambda a: a[:2], s), o[0], f[0]),
    "activation is 'tanh', expected a function": lambda p, s, o, f: act(p, s, o[0], f[0], activation="tanh"),
    "act has no argument 'actvation'. Did you mean 'activation'": (
        lambda p, s, o, f: act(p, s, o[0], f[0], actvation=jnp.tanh)
    ),
    "scales names 'polcy', expected names of heads: policy, value": (
        lambda p, s, o, f: init_agent(jax.random.key(0), I, HEADS, scales={"polcy": 0.1})
    ),
    "observation is complex64, expected real numbers": lambda p, s, o, f: act(p, s, o[0].astype("complex64"), f[0]),
    "embedding is 64, expected a tuple of widths": (
        lambda p, s, o, f: init_agent(jax.random.key(0), I, HEADS, embedding=64)
    ),
    "head is None, expected a tuple of widths": (lambda p, s, o, f: init_agent(jax.random.key(0), I, HEADS, head=None)),
    "scales is a list": lambda p, s, o, f: init_agent(jax.random.key(0), I, HEADS, scales=[1]),
    r"scales\['policy'\] is nan, expected a finite number": (
        lambda p, s, o, f: init_agent(jax.random.key(0), I, HEADS, scales={"policy": float("nan")})
    ),
    r"heads has the names \['policy', 1\], expected strings": (
        lambda p, s, o, f: init_agent(jax.random.key(0), I, {"policy": 3, 1: None})
    ),
    "batch is -1, expected the number of environments": lambda p, s, o, f: initial_state(p, -1),
    "heads is empty, expected names and sizes": lambda p, s, o, f: init_agent(jax.random.key(0), I, {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused(message):
    params, options = built("shared")
    with pytest.raises((ValueError, TypeError), match=message):
        REFUSED[message](params, *trajectory(params, options))


def test_seeds_by_vmap_are_drawn_as_one_by_one():
    """A QR decomposition of a batch, two of them at a time, waits for ever on two cores."""
    keys = jax.random.split(jax.random.key(0), 3)
    draw = functools.partial(init_agent, observation_size=I, heads=HEADS, hidden_size=H, embedding=(7,), head=())
    program = jax.jit(jax.vmap(draw)).lower(keys)
    assert "qr" in program.as_text().lower()
    for line in program.as_text().splitlines():
        if "lapack_sgeqrf" in line or "lapack_sorgqr" in line:
            assert "tensor<3x" not in line
    several = program.compile()(keys)
    for n, key in enumerate(keys):
        alone = draw(key)
        jax.tree.map(lambda a, b, n=n: np.testing.assert_array_equal(a[n], b), several, alone)
