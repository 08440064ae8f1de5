"""The flags of episodes beside environments that reset themselves, and rollouts cut into chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_agents import B, I, T, assert_near, built, trajectory
from tiers import tiered
from tolerances import assert_close

from lstmjax import truncated_gradient
from lstmjax.agents import (
    Kind,
    chunk,
    chunk_starts,
    chunk_states,
    episodes,
    init_agent,
    initial_state,
    minibatches,
    next_kind,
    of_step_types,
    unroll,
)

LENGTHS = ((3, 1, 4, 2), (2, 5, 3, 1))  # of the episodes of two environments
STEPS = 14


class Counting:
    """An environment whose observation is (episode, step): what it shows tells where it is."""

    def __init__(self, lengths, autoreset):
        self.lengths, self.autoreset, self.over = lengths, autoreset, False

    def reset(self):
        self.episode, self.time = 0, 0
        return self.episode, self.time

    def restart(self):
        self.episode, self.time = self.episode + 1, 0
        return self.episode, self.time

    def step(self):
        if self.over and self.autoreset == "next_step":
            self.over = False
            return self.restart(), False
        self.time += 1
        self.over = self.time == self.lengths[self.episode % len(self.lengths)]
        observation = self.episode, self.time
        if self.over and self.autoreset == "same_step":
            observation = self.restart()
        return observation, self.over


def play(autoreset):
    """The observation each step started from, and the done it returned: [T, 2, 2], [T, 2], and the last observation."""
    worlds = [Counting(lengths, autoreset) for lengths in LENGTHS]
    seen, observations, dones = [world.reset() for world in worlds], [], []
    for _ in range(STEPS):
        observations.append(seen)
        seen, done = zip(*(world.step() for world in worlds), strict=True)
        dones.append(done)
    return np.array(observations), np.array(dones), np.array(seen)


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_first_is_where_an_episode_begins(autoreset):
    observations, done, after = play(autoreset)
    flags = episodes(done, autoreset=autoreset)
    np.testing.assert_array_equal(flags.first, observations[..., 1] == 0)
    lengths = [[n[e % 4] for e in observations[:, b, 0]] for b, n in enumerate(LENGTHS)]
    np.testing.assert_array_equal(flags.valid, observations[..., 1] < np.transpose(lengths))  # a final one is not valid
    assert (~flags.valid).any() == (autoreset == "next_step")
    np.testing.assert_array_equal(flags.kind == Kind.FIRST, after[:, 1] == 0)
    turned = episodes(done.T, autoreset=autoreset, time_major=False)
    np.testing.assert_array_equal(turned.first.T, flags.first)


@pytest.mark.parametrize("autoreset", tiered(["same_step", "next_step"], first=["next_step"]))
def test_rollouts_continue_each_other(autoreset):
    _, done, _ = play(autoreset)
    whole = episodes(done, autoreset=autoreset)
    for cut in range(1, STEPS):
        early = episodes(done[:cut], autoreset=autoreset)
        late = episodes(done[cut:], early.kind, autoreset=autoreset)
        np.testing.assert_array_equal(jnp.concatenate([early.first, late.first]), whole.first)
        np.testing.assert_array_equal(jnp.concatenate([early.valid, late.valid]), whole.valid)
    kind = jnp.zeros(2, jnp.int8)
    for t, row in enumerate(done):
        np.testing.assert_array_equal(kind == Kind.FIRST, whole.first[t])
        kind = next_kind(kind, row, autoreset=autoreset)


def test_step_types_of_dm_env():
    observations, done, after = play("next_step")
    expected = episodes(done, autoreset="next_step")
    times = np.concatenate([observations, after[None]])
    last = np.concatenate([np.zeros((1, 2), bool), done])
    actual = of_step_types(np.where(last, 2, np.where(times[..., 1] == 0, 0, 1)))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.peers
@pytest.mark.parametrize("mode", ["SAME_STEP", "NEXT_STEP"])
def test_gymnasium_shows_first_observations_where_the_flags_say(mode):
    gymnasium = pytest.importorskip("gymnasium")
    mode = gymnasium.vector.AutoresetMode[mode]
    worlds = gymnasium.make_vec("CartPole-v1", 3, "sync", vector_kwargs={"autoreset_mode": mode})
    worlds.action_space.seed(0)
    seen, _ = worlds.reset(seed=0)
    observations, elapsed, dones = [], [], []
    for _ in range(60):
        observations.append(seen)
        elapsed.append([world.get_wrapper_attr("_elapsed_steps") for world in worlds.envs])  # 0 behind a reset
        seen, _, terminated, truncated, _ = worlds.step(worlds.action_space.sample())
        dones.append(terminated | truncated)
    flags = episodes(np.array(dones), autoreset=mode.name.lower())
    assert flags.first.sum() > 5
    np.testing.assert_array_equal(flags.first, np.array(elapsed) == 0)
    fell = np.abs(np.array(observations)[..., 2]) > 0.2095  # 12 degrees, the end of an episode
    np.testing.assert_array_equal(flags.valid, ~fell)


def test_flags_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="autoreset is 'next-step', expected one of 'same_step', 'next_step'"):
        episodes(jnp.zeros(3, bool), autoreset="next-step")
    with pytest.raises(ValueError, match=r"done is float32, expected bool: terminated \| truncated"):
        episodes(jnp.zeros(3))
    with pytest.raises(ValueError, match="done is a single flag"):
        episodes(jnp.array(True))
    with pytest.raises(ValueError, match=r"start has shape \(3,\), expected \(2,\)"):
        episodes(jnp.zeros((4, 2), bool), jnp.zeros(3, jnp.int8))
    with pytest.raises(ValueError, match=r"step_types is float32 \(4,\), expected whole numbers"):
        of_step_types(jnp.zeros(4))
    with pytest.raises(ValueError, match=r"start is bool .*expected whole numbers: a Kind"):  # True is 1, which is MID
        episodes(jnp.zeros(4, bool), start=True)
    with pytest.raises(ValueError, match=r"kind is bool .*expected whole numbers: a Kind"):
        next_kind(jnp.ones(4, bool), jnp.zeros(4, bool))
    with pytest.raises(ValueError, match=r"kind has shape \(4,\), but done has \(4, 1\)"):
        next_kind(jnp.ones(4, int), jnp.zeros((4, 1), bool))
    with pytest.raises(ValueError, match="step_types holds 0 to 256, expected a Kind: 0 first, 1 mid, 2 last"):
        of_step_types(jnp.array([0, 256, 2]))


# --- chunks -----------------------------------------------------------------------------------------


@pytest.fixture
def rollout(x64):
    params, options = built("separate", jnp.float64)
    return params, *trajectory(params, options, jnp.float64), options


def loss_of(options, **more):
    def loss(params, state, observations, firsts):
        outputs = unroll(params, state, observations, firsts, **options, **more)[1]
        return jnp.sum(jnp.sin(outputs["policy"])) + jnp.sum(jnp.cos(outputs["value"]))

    return jax.jit(jax.grad(loss))


@pytest.mark.parametrize("length", tiered([2, 3, 6], first=[3]))
def test_chunks_have_the_whole_gradient_where_episodes_begin(rollout, length):
    params, state, observations, firsts, options = rollout
    firsts = firsts.at[::length].set(True)
    gradient = loss_of(options)
    starts = chunk_states(params, state, observations, firsts, length, **options)
    chunks = chunk((observations, firsts), length)
    assert chunks[0].shape == (length, T // length * B, I)
    assert_near(gradient(params, starts, *chunks), gradient(params, state, observations, firsts))


@pytest.mark.parametrize("length", tiered([1, 2, 3], first=[2]))
def test_chunks_with_stored_states_have_the_truncated_gradient(rollout, length):
    params, state, observations, firsts, options = rollout

    def loss(params, state, inputs):
        state, outputs = unroll(params, state, *inputs, **options)
        return jnp.sum(jnp.sin(outputs["policy"])) + jnp.sum(jnp.cos(outputs["value"])), state

    data = observations, firsts
    _, expected, _ = truncated_gradient(loss, params, state, data, segment=length, axis=0)
    starts = chunk_states(params, state, *data, length, **options)
    actual = loss_of(options)(params, starts, *chunk(data, length))
    assert_close(actual, expected, gradient=True)
    _, whole, _ = truncated_gradient(loss, params, state, data, segment=length, reach=6, axis=0)
    assert_close(whole, loss_of(options)(params, state, *data), gradient=True)
    different = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, whole)
    assert max(jax.tree.leaves(different)) > 1e-3


def test_states_that_acting_stored_are_those_of_one_pass(rollout):
    params, state, observations, firsts, options = rollout
    stored = [state]
    for t in range(T):
        stored.append(unroll(params, stored[-1], observations[t : t + 1], firsts[t : t + 1], **options)[0])
    states = jax.tree.map(lambda *a: jnp.stack(a), *stored[:-1])
    for length, burn_in in ((2, 0), (3, 0), (2, 2), (1, 3)):
        again = chunk_states(params, state, observations, firsts, length, burn_in=burn_in, **options)
        assert_near(again, chunk_starts(states, length, burn_in=burn_in))


def test_burn_in_is_a_cut_after_its_steps(rollout):
    params, state, observations, firsts, options = rollout
    middle, _ = unroll(params, state, observations[:2], firsts[:2], **options)
    expected = loss_of(options)(params, middle, observations[2:], firsts[2:])
    assert_near(loss_of(options, burn_in=2)(params, state, observations, firsts), expected)
    after, outputs = unroll(params, state, observations, firsts, burn_in=2, **options)
    whole = unroll(params, state, observations, firsts, **options)
    assert_near((after, outputs), (whole[0], jax.tree.map(lambda a: a[2:], whole[1])))


def test_burn_in_chunks_overlap():
    steps = jnp.arange(T * B).reshape(T, B)
    chunks = chunk(steps, 2, burn_in=2)
    np.testing.assert_array_equal(chunks[:, :B], steps[:4])
    np.testing.assert_array_equal(chunks[:, B:], steps[2:])
    np.testing.assert_array_equal(chunks[2:, :B], chunks[:2, B:])


def test_minibatches_are_every_sequence_once_beside_its_state(rollout):
    params, state, observations, firsts, options = rollout
    data, starts = chunk((observations, firsts), 3), chunk_states(params, state, observations, firsts, 3, **options)
    parts, states = minibatches(jax.random.key(5), 2, data, starts)
    assert parts[0].shape == (2, 3, B, I)
    gradient = loss_of(options)
    sums = [gradient(params, jax.tree.map(lambda a, n=n: a[n], states), *(a[n] for a in parts)) for n in range(2)]
    expected = gradient(params, starts, *data)
    assert_close(jax.tree.map(jnp.add, *sums), expected, gradient=True)
    alone, none = minibatches(jax.random.key(5), 3, observations)
    assert none is None
    assert sorted(alone[..., 0].ravel()) == sorted(observations[..., 0].ravel())


REFUSED = {
    "length is 4, but rollout has T = 6 steps, expected a multiple": lambda: chunk(jnp.ones((6, 2)), 4),
    "length is 2, but rollout has T = 6 steps, expected a multiple of length behind a burn_in of 1": (
        lambda: chunk(jnp.ones((6, 2)), 2, burn_in=1)
    ),
    r"rollout has arrays of shapes \(6, 2\), \(6, 3\), expected the same": (
        lambda: chunk((jnp.ones((6, 2)), jnp.ones((6, 3))), 2)
    ),
    "burn_in is -2, expected 0 or more steps": lambda: chunk(jnp.ones((6, 2)), 2, burn_in=-2),
    r"observations has shape \(6, 3\), expected \[T, B, I\]": (
        lambda: chunk_states(init_agent(jax.random.key(0), 3, {"value": None}), None, jnp.ones((6, 3)), None, 2)
    ),
    r"state has arrays of shapes \[\(1, 64\), \(1, 64\)\], expected those of initial_state\(params, 2\)": (
        lambda: chunk_states(
            (params := init_agent(jax.random.key(0), 3, {"value": None})),
            initial_state(params, 1),
            jnp.ones((6, 2, 3)),
            None,
            2,
        )
    ),
    "count is 4, expected a number that divides 6": lambda: minibatches(jax.random.key(0), 4, jnp.ones((5, 6))),
    "states has 5 rows, but sequences holds 6": (
        lambda: minibatches(jax.random.key(0), 2, jnp.ones((5, 6)), jnp.ones((5, 4)))
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_rollouts_that_do_not_fit_are_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
