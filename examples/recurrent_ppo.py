"""Recurrent PPO in one file: the whole training is one jitted program, and seeds are a `vmap`.

    pip install '.[agents]'
    python examples/recurrent_ppo.py CartPole-v1 --seeds 10 --out returns.json

In the spirit of PureJaxRL (Lu et al. 2022): PPO (Schulman et al. 2017) with generalised advantages, normalised
observations and rewards; the return of a truncated episode goes on with the value of its final observation. The agent
is `lstmjax.agents`: `act` while it plays, `unroll` while it learns, from the states that it stored when it acted. It
sees no velocities; see `tasks.py` for the environments.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from tasks import Task, count, gymnax_task, output_file, see, tmaze_task

from lstmjax import PRESETS
from lstmjax.agents import act, chunk, chunk_starts, init_agent, initial_state, minibatches, unroll


@dataclass(frozen=True)
class Settings:
    """What PPO is run with; the numbers of each task stand in `TASKS`."""

    steps: int = 100_000  # of all environments together
    environments: int = 8
    rollout: int = 128  # steps of each environment between updates
    chunk: int = 16  # steps through which gradients go back
    minibatches: int = 4
    epochs: int = 10
    rate: float = 1e-3
    anneal: bool = True  # the rate falls to 0
    discount: float = 0.98
    trace: float = 0.9  # lambda of the advantages
    clip: float = 0.2
    entropy: float = 0.0
    value_weight: float = 0.5
    largest: float = 0.5  # norm of the gradient
    hidden: int = 64
    shared: bool = True
    embedding: tuple[int, ...] = (64,)
    biases: tuple[float, float] = (0.0, 1.0)  # of the input gate and the forget gate, at the beginning
    log_std: float = 0.0  # of real actions, at the beginning
    hold: float = 0.0  # correlation of the noise of one step with that of the next
    normalize: bool = True
    memory: bool = True  # False: every observation counts as a first one


class Moments(NamedTuple):
    """Mean and variance of everything seen so far."""

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def with_batch(moments: Moments, values: jax.Array) -> Moments:
    """Return the moments with a batch `[N, ...]` added (Chan et al. 1979)."""
    count, total = values.shape[0], moments.count + values.shape[0]
    delta = values.mean(0) - moments.mean
    squares = moments.variance * moments.count + values.var(0) * count + delta**2 * moments.count * count / total
    return Moments(moments.mean + delta * count / total, squares / total, total)


def scaled(moments: Moments, values: jax.Array, on: bool) -> jax.Array:
    """Return values of mean 0 and variance 1, or the values themselves."""
    return jnp.clip((values - moments.mean) / jnp.sqrt(moments.variance + 1e-8), -10, 10) if on else values


def log_prob(params: dict, policy: jax.Array, action: jax.Array) -> jax.Array:
    """Return the log probability of an action: a category, or a real number from a normal distribution."""
    if "log_std" not in params:
        return jnp.take_along_axis(jax.nn.log_softmax(policy), action[..., None], axis=-1)[..., 0]
    return jax.scipy.stats.norm.logpdf(action, policy, jnp.exp(params["log_std"]))


def entropy(params: dict, policy: jax.Array) -> jax.Array:
    """Return the entropy of the distribution of actions."""
    if "log_std" not in params:
        return -(jax.nn.softmax(policy) * jax.nn.log_softmax(policy)).sum(-1)
    return params["log_std"] + 0.5 * jnp.log(2 * jnp.pi * jnp.e) + 0 * policy


def choose(params: dict, policy: jax.Array, noise: jax.Array, key: jax.Array, hold: float) -> tuple:
    """Return an action and its noise, which has a memory where `hold` is above 0 (Hollenstein et al. 2024)."""
    if "log_std" not in params:
        return jax.random.categorical(key, policy), noise
    noise = hold * noise + jnp.sqrt(1 - hold**2) * jax.random.normal(key, noise.shape)
    return policy + jnp.exp(params["log_std"]) * noise, noise


class Step(NamedTuple):
    """A step of all environments, `[T, B, ...]` when a rollout is over."""

    observation: jax.Array
    first: jax.Array
    state: Any  # the agent's, before it saw the observation
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array
    beyond: jax.Array  # the value of the final observation of a truncated episode
    score: jax.Array  # the return of an episode that ended here
    correct: jax.Array  # it ended as it should


def play(
    task: Task, s: Settings, params: dict, moments: Moments, world: tuple, keys: Any, *, best: bool = False
) -> tuple:
    """Step all environments once, by a drawn action or by the best one; return their world and the `Step`."""
    environment, observation, first, state, noise, score = world
    first = first if s.memory else jnp.ones_like(first)
    after, outputs = act(params["agent"], state, scaled(moments, observation, s.normalize), first)
    if best:
        action = outputs["policy"].argmax(-1) if task.actions else outputs["policy"]
    else:
        action, noise = choose(params, outputs["policy"], noise, keys[0], s.hold)
    played = action if task.actions else jnp.clip(action, -task.limit, task.limit)
    following, environment, reward, terminated, truncated, info = jax.vmap(task.step)(
        jax.random.split(keys[1], len(first)), environment, played
    )
    final = scaled(moments, see(task, info["final_observation"]), s.normalize)
    beyond = act(params["agent"], after, final, jnp.full_like(first, not s.memory))[1]["value"] * truncated
    done, score = terminated | truncated, score + reward
    log = log_prob(params, outputs["policy"], action)
    correct = done & info.get("correct", done)
    step = Step(observation, first, state, action, log, outputs["value"], reward, done, beyond, score, correct)
    return (environment, see(task, following), done, after, noise, jnp.where(done, 0.0, score)), step


def begin(task: Task, agent: Any, keys: jax.Array) -> tuple:
    """Return the world of as many environments as there are keys, before the first step."""
    observation, environment = jax.vmap(task.reset)(keys)
    zero = jnp.zeros(len(keys))
    return environment, see(task, observation), zero == 0, initial_state(agent, len(keys)), zero, zero


def make_train(task: Task, s: Settings) -> Callable:
    """Return `train(key) -> (params, moments, curve)`, a pure function."""
    updates = s.steps // (s.rollout * s.environments)
    schedule = optax.linear_schedule(s.rate, 0.0 if s.anneal else s.rate, updates * s.epochs * s.minibatches)
    optimizer = optax.chain(optax.clip_by_global_norm(s.largest), optax.adam(schedule, eps=1e-5))

    def advantages(steps: Step, last_value: jax.Array, rewards: jax.Array) -> jax.Array:
        def back(carry: tuple, inputs: tuple) -> tuple:
            advantage, following = carry
            value, reward, done, beyond = inputs
            delta = reward + s.discount * jnp.where(done, beyond, following) - value
            advantage = delta + s.discount * s.trace * jnp.where(done, 0.0, advantage)
            return (advantage, value), advantage

        begin = (jnp.zeros_like(last_value), last_value)
        return jax.lax.scan(back, begin, (steps.value, rewards, steps.done, steps.beyond), reverse=True)[1]

    def loss(params: dict, part: tuple, state: Any) -> jax.Array:
        steps, advantage, target = part
        _, outputs = unroll(params["agent"], state, steps.observation, steps.first)
        ratio = jnp.exp(log_prob(params, outputs["policy"], steps.action) - steps.log_prob)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - s.clip, 1 + s.clip) * advantage)
        error = jnp.square(outputs["value"] - target)
        return -gain.mean() + s.value_weight * error.mean() - s.entropy * entropy(params, outputs["policy"]).mean()

    def learn(carry: tuple, part: tuple) -> tuple:
        params, slopes = carry
        change, slopes = optimizer.update(jax.grad(loss)(params, *part), slopes, params)
        return (optax.apply_updates(params, change), slopes), None

    def update(carry: tuple, key: jax.Array) -> tuple:
        params, slopes, moments, returns, discounted, world = carry
        keys = jax.random.split(key, 2)
        step = lambda world, key: play(task, s, params, moments, world, jax.random.split(key))
        world, steps = jax.lax.scan(step, world, jax.random.split(keys[0], s.rollout))
        _, observation, first, state, *_ = world
        resets = first if s.memory else jnp.ones_like(first)
        last = act(params["agent"], state, scaled(moments, observation, s.normalize), resets)[1]["value"]

        def discount(total: jax.Array, inputs: tuple) -> tuple:
            reward, done = inputs
            total = s.discount * total + reward
            return jnp.where(done, 0.0, total), total

        discounted, totals = jax.lax.scan(discount, discounted, (steps.reward, steps.done))
        returns = with_batch(returns, totals.reshape(-1))
        rewards = steps.reward / jnp.sqrt(returns.variance + 1e-8) if s.normalize else steps.reward
        advantage = advantages(steps, last, rewards)
        seen = scaled(moments, steps.observation, s.normalize)
        data = chunk((steps._replace(state=(), observation=seen), advantage, advantage + steps.value), s.chunk)
        states = chunk_starts(steps.state, s.chunk)
        epoch = lambda carry, key: jax.lax.scan(learn, carry, minibatches(key, s.minibatches, data, states))
        (params, slopes), _ = jax.lax.scan(epoch, (params, slopes), jax.random.split(keys[1], s.epochs))
        moments = with_batch(moments, steps.observation.reshape(-1, len(task.seen)))
        curve = {"return": jnp.where(steps.done, steps.score, 0.0).sum() / steps.done.sum()}
        return (params, slopes, moments, returns, discounted, world), curve

    def train(key: jax.Array) -> tuple[dict, Moments, dict]:
        keys = jax.random.split(key, 3)
        heads: dict[str, int | None] = {"policy": task.actions, "value": None}
        gates = lambda key, shape, *_: jnp.zeros(shape).at[:2].add(jnp.array(s.biases)[:, None])  # i, f, g, o
        init = replace(PRESETS["default"], b=gates, forget_bias=None)
        options = {"hidden_size": s.hidden, "shared": s.shared, "embedding": s.embedding, "init": init}
        agent = init_agent(keys[0], len(task.seen), heads, scales={"policy": 0.01}, **options)
        params = {"agent": agent} | ({} if task.actions else {"log_std": jnp.float32(s.log_std)})
        world = begin(task, agent, jax.random.split(keys[1], s.environments))
        many = jnp.zeros(len(task.seen))
        moments, returns = (Moments(m, jnp.ones_like(m), jnp.float32(1e-4)) for m in (many, jnp.float32(0)))
        carry = (params, optimizer.init(params), moments, returns, jnp.zeros(s.environments), world)
        carry, curve = jax.lax.scan(update, carry, jax.random.split(keys[2], updates))
        return carry[0], carry[2], curve

    return train


def evaluate(
    task: Task, s: Settings, params: dict, moments: Moments, key: jax.Array, *, episodes: int, longest: int
) -> tuple[jax.Array, jax.Array]:
    """Return the return of the first episode in each of some environments, by the best actions, and `correct`."""
    keys = jax.random.split(key)
    world = begin(task, params["agent"], jax.random.split(keys[0], episodes))
    step = lambda world, key: play(task, s, params, moments, world, (None, key), best=True)
    _, steps = jax.lax.scan(step, world, jax.random.split(keys[1], longest))
    later = jnp.cumsum(steps.done, axis=0) > steps.done  # an episode has ended before
    return jnp.where(later, 0.0, steps.reward).sum(0), (steps.correct & ~later).any(0)


TASKS: dict[str, tuple[Callable[[], Task], Settings, int]] = {  # with the longest episode
    "CartPole-v1": (partial(gymnax_task, "CartPole-v1", (0, 2), 2),
        Settings(trace=0.8, rollout=64, minibatches=2, shared=False), 500,
    ),
    "Pendulum-v1": (
        partial(gymnax_task, "Pendulum-v1", (0, 1), None, 2.0),
        Settings(discount=0.9, trace=0.95, rollout=256, minibatches=8, hold=0.6), 200,
    ),
    "MountainCarContinuous-v0": (
        partial(gymnax_task, "MountainCarContinuous-v0", (0,), None),
        Settings(rollout=512, discount=0.9999, hold=0.9, rate=3e-4), 999,
    ),
} | {
    f"TMaze-{length}": (
        partial(tmaze_task, length),
        Settings(  # whole episodes; gates let in what stands out only, else the corridor drowns the cue in c
            steps=64 * 2 * (length + 1) * 150, environments=64, rollout=2 * (length + 1), chunk=2 * (length + 1),
            minibatches=1, epochs=4, rate=3e-3, discount=1.0, trace=0.95, entropy=0.01, hidden=16, embedding=(),
            biases=(-math.log(length), math.log(length)),  # chrono, Tallec & Ollivier 2018
        ),
        2 * length + 10,
    )
    for length in (10, 50, 100, 250, 500)
}  # fmt: skip


def run(name: str, seeds: int, seed: int = 0, settings: Settings | None = None, episodes: int = 100) -> dict:
    """Train with many seeds in one program and evaluate each; return what a curve and a table are drawn from."""
    make, usual, longest = TASKS[name]
    task, settings = make(), settings or usual
    keys = jax.random.split(jax.random.key(seed), (2, seeds))
    train = jax.jit(jax.vmap(make_train(task, settings))).lower(keys[0]).compile()
    begin = time.perf_counter()
    params, moments, curve = jax.block_until_ready(train(keys[0]))
    seconds = time.perf_counter() - begin
    score = jax.jit(jax.vmap(partial(evaluate, task, settings, episodes=episodes, longest=longest)))
    returns, correct = score(params, moments, keys[1])
    each = settings.rollout * settings.environments
    return {
        "task": name, "settings": settings.__dict__, "seeds": seeds, "seconds": seconds,
        "steps": [each * (n + 1) for n in range(curve["return"].shape[1])],
        "return": [[None if math.isnan(r) else round(float(r), 3) for r in row] for row in curve["return"]],
        "final": [round(float(r), 3) for r in returns.mean(1)], "spread": [round(float(r), 3) for r in returns.std(1)],
        "correct": [round(float(r), 4) for r in correct.mean(1)],
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=count, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-memory", action="store_true", help="every observation counts as a first one")
    parser.add_argument("--out", type=output_file)
    options = parser.parse_args()
    without = {"memory": False, "biases": Settings.biases} if options.no_memory else {}
    chosen = replace(TASKS[options.task][1], **without)
    result = run(options.task, options.seeds, options.seed, chosen)
    median = sorted(result["final"])[(options.seeds - 1) // 2]
    print(f"{options.task}: median return {median}, of {result['final']}, correct {result['correct']}, "
          f"{options.seeds * chosen.steps / result['seconds']:.0f} steps a second")  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(result))
