"""A T-maze, an agent that solves it by construction, and what is seen inside it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import LSTMParams, network, trace
from lstmjax.agents import (
    AgentParams,
    TMaze,
    Trunk,
    act,
    by_episode,
    cue_question,
    init_agent,
    initial_state,
    inspect_agent,
    trace_agent,
    unroll,
)
from lstmjax.agents.tmaze import FORWARD, LEFT, RIGHT
from lstmjax.inside import rank_units
from lstmjax.networks import Dense

LENGTH, MAZES, STEPS, H = 7, 6, 40, 3
REMEMBERS = 1  # the unit that holds the cue


def solver():
    """An agent whose unit 1 adds the cue up and keeps it for ever; the others see noise."""
    w_x = 0.1 * jax.random.normal(jax.random.key(0), (4, 4, H))
    w_x = w_x.at[:, :, REMEMBERS].set(0).at[0, 2, REMEMBERS].set(3).at[1, 2, REMEMBERS].set(-3)  # g: +1 left, -1 right
    b = jnp.zeros((4, H)).at[0].set(-2.0).at[:2, REMEMBERS].set(10.0).at[3, REMEMBERS].set(10.0)
    layer = LSTMParams(w_x, jnp.zeros((H, 4, H)), b)
    # h of the unit is +-0.76; the junction is seen by unit 0's output gate
    layer = layer._replace(w_x=layer.w_x.at[:, :, 0].set(0).at[3, 2, 0].set(9.0).at[3, 0, 0].set(20.0),
                           b=layer.b.at[:, 0].set(jnp.array([-10.0, -10.0, 0.0, 10.0])))  # fmt: skip
    policy = jnp.zeros((H, 3)).at[0].set(jnp.array([-40.0, 0.0, 0.0])).at[REMEMBERS].set(jnp.array([0.0, 5.0, -5.0]))
    return AgentParams((Trunk((), (layer,), {"policy": (Dense(policy, jnp.array([10.0, 0.0, 0.0])),)}),))


@functools.partial(jax.jit, static_argnames=("maze", "memory"))
def play(params, maze, *, memory=True):
    """Observations, firsts, actions, rewards and whether an episode ended right, [T, B], with the likeliest actions."""
    observation, worlds = jax.vmap(maze.reset)(jax.random.split(jax.random.key(3), MAZES))
    begin = (worlds, observation, jnp.ones(MAZES, bool), initial_state(params, MAZES))

    def step(carry, key):
        worlds, observation, first, state = carry
        state, outputs = act(params, state, observation, first if memory else jnp.ones_like(first))
        action = outputs["policy"].argmax(-1)
        after, worlds, reward, terminated, truncated, info = jax.vmap(maze.step)(
            jax.random.split(key, MAZES), worlds, action
        )
        done = terminated | truncated
        row = {
            "observation": observation, "first": first, "action": action, "reward": reward, "correct": info["correct"],
            "done": done,
        }  # fmt: skip
        return (worlds, after, done, state), row

    return jax.lax.scan(step, begin, jax.random.split(jax.random.key(4), STEPS))[1]


@pytest.fixture(scope="module")
def rollout():
    return play(solver(), TMaze(LENGTH))


def test_an_agent_with_memory_is_always_right_and_one_without_half_of_the_time(rollout):
    assert rollout["done"].sum() > 2 * MAZES
    assert rollout["correct"][rollout["done"]].all()
    assert set(np.unique(rollout["action"])) == {FORWARD, LEFT, RIGHT}
    forgetful = play(solver(), TMaze(LENGTH), memory=False)
    lefts = forgetful["action"][forgetful["done"]]
    assert len(set(lefts.tolist())) == 1  # the same turn, whatever the cue


def test_mazes_reset_themselves(rollout):
    observation, first = rollout["observation"], rollout["first"]
    np.testing.assert_array_equal(first[1:], rollout["done"][:-1])
    np.testing.assert_array_equal(observation[..., :2].sum(-1) == 1, first)  # the cue is seen at the beginning only
    np.testing.assert_array_equal(np.unique(rollout["reward"]), [0, 1])
    lengths = by_episode(first, first)[1]
    assert set(lengths.tolist()) == {LENGTH + 1} | ({STEPS % (LENGTH + 1)} - {0})


def test_wasted_steps_cost_and_episodes_are_truncated():
    maze = TMaze(2)
    _, state = maze.reset(jax.random.key(0))
    rewards, ends = [], []
    for _ in range(14):
        _, state, reward, terminated, truncated, _ = maze.step(jax.random.key(1), state, LEFT)
        rewards.append(float(reward))
        ends.append((bool(terminated), bool(truncated)))
    np.testing.assert_allclose(rewards, -0.1, rtol=1e-6)
    assert ends == [(False, False)] * 13 + [(False, True)]
    state = state._replace(cue=jnp.array(True), position=jnp.int32(2))
    assert float(maze.step(jax.random.key(1), state, LEFT)[2]) == 1
    assert float(maze.step(jax.random.key(1), state, RIGHT)[2]) == -1
    assert float(maze.step(jax.random.key(1), state, FORWARD)[2]) == pytest.approx(-0.1)
    with pytest.raises(ValueError, match="length is 0"):
        TMaze(0)


def test_the_unit_that_remembers_the_cue_is_named(rollout):
    rows, lengths = by_episode({"observation": rollout["observation"]}, rollout["first"])
    whole = lengths == LENGTH + 1
    observations = rows["observation"][whole]
    cues = observations[:, 0, 0] == 1
    noise = jax.random.normal(jax.random.key(5), observations.shape)  # without it no unit forgets all
    observations = observations + noise.at[..., :2].set(0)
    ((steps,),) = trace_agent(solver(), None, observations, None, fields="c", time_major=False)
    assert 0 < cues.sum() < len(cues)
    best, second, _ = rank_units((steps,), cue_question("goal on the left", cues, 0, LENGTH))
    assert (best.unit, best.auc, best.sign) == (REMEMBERS, 1.0, 1)
    assert second.auc < 0.9


def test_a_page_shows_observations_actions_and_rewards(rollout, tmp_path):
    rows, lengths = by_episode({name: rollout[name] for name in ("observation", "action", "reward")}, rollout["first"])
    path = tmp_path / "agent.html"
    page = inspect_agent(
        solver(), rows["observation"], rows["action"], rows["reward"], lengths, path=path,
        features=("cue left", "cue right", "corridor", "junction"),
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert page.html == text
    for word in ("cue left", "junction", "action", "reward"):
        assert word in text


def test_inputs_that_the_page_adds_change_nothing():
    params = init_agent(jax.random.key(0), 4, {"policy": 3}, hidden_size=H, embedding=(5,), head=())
    observations = jax.random.normal(jax.random.key(1), (2, 6, 4))
    seen = {}

    def report(network_params, xs, **options):
        seen.update(params=network_params, xs=xs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstmjax.report.page.report", report)
        inspect_agent(params, observations, jnp.ones((2, 6, 2)), jnp.ones((2, 6)))
    assert seen["features"][5:] == [f"observation {n}" for n in range(4)] + ["action 0", "action 1", "reward"]
    _, outputs = unroll(params, None, observations, None, time_major=False)
    np.testing.assert_allclose(
        network(seen["params"], seen["xs"], return_sequences=True)[1], outputs["policy"], rtol=1e-5, atol=1e-6
    )
    ((plain,),) = trace_agent(params, None, observations, None, time_major=False, fields="c")
    np.testing.assert_allclose(trace(seen["params"], seen["xs"], fields="c")[0].c, plain.c, rtol=1e-5, atol=1e-6)


def test_rollouts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"rollout\['a'\] has shape \(3, 4\), expected \[T, B, ...\] = \(3, 2\)"):
        by_episode({"a": jnp.ones((3, 4))}, jnp.ones((3, 2), bool))
    with pytest.raises(ValueError, match="firsts is False everywhere"):
        by_episode(jnp.ones((3, 2)), jnp.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="features has 1 names, expected 4"):
        inspect_agent(solver(), jnp.ones((1, 3, 4)), jnp.ones((1, 3)), jnp.ones((1, 3)), features=("a",))
    with pytest.raises(ValueError, match=r"rewards has shape \(3,\), expected \[N, T\] = \(1, 3\)"):
        inspect_agent(solver(), jnp.ones((1, 3, 4)), jnp.ones((1, 3)), jnp.ones(3))
