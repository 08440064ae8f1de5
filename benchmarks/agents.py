"""How fast does a recurrent agent train, beside Flax' cell in the `nn.scan` of PureJaxRL's script?

    pip install '.[agents]'
    python benchmarks/agents.py [--json FILE]

One update of recurrent PPO, built as PureJaxRL's script is: 128 steps of each environment of CartPole-v1, generalised
advantages, 4 epochs of 4 minibatches of environments; Dense 128, LSTM 128, two heads of Dense 128. The same module
with `lstmjax.linen.ScannedRNN` in place of `nn.OptimizedLSTMCell` in a scan with `where(resets)`, from the same
variables and keys: losses are compared first. Then environment steps a second, medians, taking turns; Flax runs twice,
as a control of the noise. Then what resets cost a layer in training, and one step of `act` for one environment.

    python benchmarks/agents.py --only returns [--float64]

The training to its end with either module, on CartPole-v1 without its velocities, some seeds one after the other: are
the returns the same? In float64 the two programs stay together for longer before rounding draws another action.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.linen.initializers import constant, orthogonal

from lstmjax import compile_step, init_params, lstm
from lstmjax.agents import act, init_agent, initial_state
from lstmjax.bench import take_turns
from lstmjax.bench.machine import look
from lstmjax.linen import ScannedRNN

STEPS, HIDDEN, EPOCHS, MINIBATCHES = 128, 128, 4, 4
ENVIRONMENTS = (4, 16, 64)
NEAR, FAR = 1e-5, 2e-2  # relative differences of the first loss, and of all, after up to 15 updates of the parameters


class FlaxRNN(nn.Module):
    """Flax' LSTM with resets, as scripts for recurrent agents have it."""

    @functools.partial(nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False})
    @nn.compact
    def __call__(self, carry, x):
        inputs, resets = x
        zeros = FlaxRNN.initialize_carry(*carry[0].shape)
        carry = jax.tree.map(lambda z, a: jnp.where(resets[:, None], z, a), zeros, carry)
        return nn.OptimizedLSTMCell(carry[0].shape[-1])(carry, inputs)

    @staticmethod
    def initialize_carry(batch_size, hidden_size):
        return nn.OptimizedLSTMCell(hidden_size).initialize_carry(jax.random.key(0), (batch_size, hidden_size))


class ActorCritic(nn.Module):
    actions: int
    rnn: Any

    @nn.compact
    def __call__(self, carry, x):
        observations, resets = x
        dense = functools.partial(nn.Dense, bias_init=constant(0.0))
        embedding = nn.relu(dense(HIDDEN, kernel_init=orthogonal(np.sqrt(2)))(observations))
        carry, hidden = self.rnn(name="rnn")(carry, (embedding, resets))
        actor = nn.relu(dense(HIDDEN, kernel_init=orthogonal(2))(hidden))
        critic = nn.relu(dense(HIDDEN, kernel_init=orthogonal(2))(hidden))
        logits = dense(self.actions, kernel_init=orthogonal(0.01))(actor)
        return carry, jax.nn.log_softmax(logits), dense(1, kernel_init=orthogonal(1.0))(critic)[..., 0]


class Transition(NamedTuple):
    first: jax.Array
    action: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array
    log: jax.Array
    observation: jax.Array


def widest(tree):
    """Return arrays in JAX' default dtype: float64 if that is switched on, while initial values are float32."""
    return jax.tree.map(lambda a: a.astype(jnp.result_type(float)), tree)


def make(rnn, environments, total_updates=100, seen=(0, 1, 2, 3), rate=2.5e-4):
    """Return begin(key) and update(training), pure functions; `seen`: which numbers of an observation."""
    world, how = gymnax.make("CartPole-v1")
    network = ActorCritic(world.num_actions, rnn)
    schedule = optax.linear_schedule(rate, 0.0, total_updates * EPOCHS * MINIBATCHES)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(schedule, eps=1e-5))

    def begin(key):
        keys = jax.random.split(key, 3)
        observation, state = jax.vmap(world.reset, (0, None))(jax.random.split(keys[0], environments), how)
        observation = see(observation)
        carry, first = widest(rnn.initialize_carry(environments, HIDDEN)), jnp.ones(environments, bool)
        variables = widest(network.init(keys[1], carry, (observation[None], first[None])))
        return variables, optimizer.init(variables), state, observation, first, carry, keys[2]

    def see(observation):
        return widest(observation[..., jnp.array(seen)])

    def step(carry, key, variables):
        state, observation, first, hidden = carry
        keys = jax.random.split(key)
        hidden, logs, value = network.apply(variables, hidden, (observation[None], first[None]))
        action = jax.random.categorical(keys[0], logs[0])
        log = jnp.take_along_axis(logs[0], action[:, None], axis=-1)[:, 0]
        after, state, reward, terminated, truncated, _ = jax.vmap(world.step, (0, 0, 0, None))(
            jax.random.split(keys[1], environments), state, action, how
        )
        done = terminated | truncated
        return (state, see(after), done, hidden), Transition(first, action, value[0], reward, done, log, observation)

    def loss(variables, part):
        hidden, steps, advantage, target = part
        _, logs, value = network.apply(variables, hidden, (steps.observation, steps.first))
        log = jnp.take_along_axis(logs, steps.action[..., None], axis=-1)[..., 0]
        clipped = steps.value + (value - steps.value).clip(-0.2, 0.2)
        error = 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(clipped - target)).mean()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = jnp.exp(log - steps.log)
        gain = jnp.minimum(ratio * advantage, ratio.clip(0.8, 1.2) * advantage).mean()
        return 0.5 * error - gain + 0.01 * (jnp.exp(logs) * logs).sum(-1).mean()

    def learn(carry, part):
        variables, slopes = carry
        value, gradient = jax.value_and_grad(loss)(variables, part)
        change, slopes = optimizer.update(gradient, slopes, variables)
        return (optax.apply_updates(variables, change), slopes), value

    def update(training):
        variables, slopes, state, observation, first, hidden, key = training
        keys = jax.random.split(key, 3)
        world_carry = (state, observation, first, hidden)
        (state, observation, first, after), steps = jax.lax.scan(
            lambda carry, key: step(carry, key, variables), world_carry, jax.random.split(keys[0], STEPS)
        )
        last = network.apply(variables, after, (observation[None], first[None]))[2][0]

        def back(carry, now):
            advantage, following = carry
            delta = now.reward + 0.99 * following * ~now.done - now.value
            advantage = delta + 0.99 * 0.95 * ~now.done * advantage
            return (advantage, now.value), advantage

        advantage = jax.lax.scan(back, (jnp.zeros_like(last), last), steps, reverse=True)[1]

        def epoch(carry, key):
            order = jax.random.permutation(key, environments)
            data = (jax.tree.map(lambda a: a[None], hidden), steps, advantage, advantage + steps.value)
            deal = lambda a: jnp.moveaxis(a[:, order].reshape(len(a), MINIBATCHES, -1, *a.shape[2:]), 1, 0)
            first_part, *others = jax.tree.map(deal, data)
            parts = (jax.tree.map(lambda a: a[:, 0], first_part), *others)
            return jax.lax.scan(learn, carry, parts)

        (variables, slopes), losses = jax.lax.scan(epoch, (variables, slopes), jax.random.split(keys[1], EPOCHS))
        counts = jnp.stack([steps.reward.sum(), steps.done.sum()])
        return (variables, slopes, state, observation, first, after, keys[2]), (losses, counts)

    return begin, update


def training(seconds, sizes):
    """Return rows: environments, thousand environment steps a second with Flax and with ours, ratios."""
    rows = []
    for environments in sizes:
        calls, losses = {}, {}
        for name, rnn in (("flax", FlaxRNN), ("ours", ScannedRNN)):
            begin, update = make(rnn, environments)
            start = jax.jit(begin)(jax.random.key(0))
            program = jax.jit(update).lower(start).compile()
            losses[name] = np.asarray(program(start)[1][0])
            calls[name] = lambda program=program, start=start: jax.block_until_ready(program(start))
        differences = np.abs(losses["ours"] - losses["flax"]) / np.abs(losses["flax"]).max()
        assert differences[0, 0] < NEAR, f"first losses differ by {differences[0, 0]}"
        assert differences.max() < FAR, f"losses differ by {differences.max()}"
        calls["flax again"] = calls["flax"]
        times = take_turns(calls, seconds=seconds)
        count = STEPS * environments / 1e3
        ratio, noise = (float(np.median(times["flax"] / times[name])) for name in ("ours", "flax again"))
        row = [environments, *(count / float(np.median(times[n])) for n in ("flax", "ours")), ratio, noise]
        print("environments {} flax {:.1f} ours {:.1f} thousand steps/s, ratio {:.2f} (noise {:.2f})".format(*row))
        rows.append(row)
    return rows


def returns(seeds, steps, rate, environments=4):
    """Return a row for each seed: the return at the end with Flax and with ours, and for how long curves are equal.

    The return is that of all episodes in the last tenth of the updates; of an update, that of those that ended in it.
    """
    updates = steps // (STEPS * environments)
    programs, rows = {}, []
    for name, rnn in (("flax", FlaxRNN), ("ours", ScannedRNN)):
        begin, update = make(rnn, environments, updates, (0, 2), rate)
        train = jax.jit(lambda key, b=begin, u=update: jax.lax.scan(lambda c, _: u(c), b(key), None, updates)[1][1])
        programs[name] = train.lower(jax.random.key(0)).compile()
    for seed in range(seeds):
        curves, late, speed = {}, {}, {}
        for name, program in programs.items():
            start = time.perf_counter()
            rewards, ended = np.asarray(program(jax.random.key(seed)), float).T
            speed[name] = STEPS * environments * updates / 1e3 / (time.perf_counter() - start)
            curves[name] = rewards / np.maximum(ended, 1)
            late[name] = rewards[-(updates // 10) :].sum() / ended[-(updates // 10) :].sum()
        differ = np.flatnonzero(curves["flax"] != curves["ours"])
        same = int(differ[0]) if len(differ) else updates
        row = [seed, late["flax"], late["ours"], same, updates, *speed.values(), speed["ours"] / speed["flax"]]
        print("seed {} return flax {:.1f} ours {:.1f}, equal for {} of {} updates, {:.1f} and {:.1f} thousand steps/s, "
              "ratio {:.2f}".format(*row), flush=True)  # fmt: skip
        rows.append(row)
    return rows


def resets(seconds):
    """Return rows: batch, ms of a layer's training without and with resets, ratio."""
    rows = []
    for batch in (16, 64):
        params = init_params(jax.random.key(0), HIDDEN, HIDDEN)
        xs = jax.random.normal(jax.random.key(1), (STEPS, batch, HIDDEN))
        flags = jax.random.bernoulli(jax.random.key(2), 0.02, (STEPS, batch))
        gradient = jax.jit(
            jax.grad(lambda p, xs, flags: jnp.sum(jnp.square(lstm(p, xs, resets=flags, time_major=True)[1])), (0, 1))
        )
        calls = {
            name: lambda f=f, p=params, xs=xs, gradient=gradient: jax.block_until_ready(gradient(p, xs, f))
            for name, f in (("none", None), ("resets", flags), ("none again", None))
        }
        times = take_turns(calls, seconds=seconds)
        ratio, noise = (float(np.median(times[name] / times["none"])) for name in ("resets", "none again"))
        row = [batch, *(1e3 * float(np.median(times[n])) for n in ("none", "resets")), ratio, noise]
        print("resets: batch {} without {:.2f} with {:.2f} ms, ratio {:.2f} (noise {:.2f})".format(*row))
        rows.append(row)
    return rows


def deployed(params):
    """Return step(observation): an agent of one trunk outside of JAX, its LSTM by `compile_step`, Dense by NumPy."""
    (trunk,) = jax.tree.map(np.asarray, params.trunks)
    memory = compile_step(trunk.layers)

    def dense(layers, x, last):
        for n, (w, b) in enumerate(layers):
            x = x @ w + b
            x = x if last and n == len(layers) - 1 else np.maximum(x, 0)
        return x

    def step(observation):
        hidden = memory(dense(trunk.embedding, observation, False))
        return {name: dense(head, hidden, True) for name, head in trunk.heads.items()}

    return step


def acting(seconds):
    """Return µs of one step for one environment: a jitted call of Flax' module, of ours, `act`, and without JAX."""
    observation, first = jnp.ones((1, 4)), jnp.zeros(1, bool)
    calls = {}
    for name, rnn in (("flax", FlaxRNN), ("ours", ScannedRNN)):
        network = ActorCritic(2, rnn)
        carry = rnn.initialize_carry(1, HIDDEN)
        variables = network.init(jax.random.key(0), carry, (observation[None], first[None]))
        program = jax.jit(lambda v, c, o, f, network=network: network.apply(v, c, (o[None], f[None])))
        calls[name] = lambda p=program, v=variables, c=carry: jax.block_until_ready(p(v, c, observation, first))
    params = init_agent(
        jax.random.key(0), 4, {"policy": 2, "value": None}, hidden_size=128, embedding=(128,), head=(128,)
    )
    state = initial_state(params, 1)
    calls["act"] = lambda: jax.block_until_ready(act(params, state, observation, first))
    program = jax.jit(act)
    calls["act, jitted"] = lambda: jax.block_until_ready(program(params, state, observation, first))
    step, seen = deployed(params), np.asarray(observation[0])
    expected = act(params, state, observation, first)[1]["policy"][0]
    np.testing.assert_allclose(step(seen)["policy"], expected, atol=1e-6)
    calls["compile_step"] = lambda: step(seen)
    calls["flax again"] = calls["flax"]
    times = take_turns(calls, seconds=seconds)
    row = {name: 1e6 * float(np.median(value)) for name, value in times.items()}
    print("one step, one environment, µs: " + ", ".join(f"{name} {value:.0f}" for name, value in row.items()))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=["training", "resets", "acting", "returns"])
    parser.add_argument("--environments", type=int, nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--seeds", type=int, default=3, help="of returns")
    parser.add_argument("--steps", type=int, default=100_000, help="of returns")
    parser.add_argument("--rate", type=float, default=1e-3, help="of returns; the script has 2.5e-4 and 500,000 steps")
    parser.add_argument("--float64", action="store_true", help="for returns")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", options.float64)
    parts = {
        "training": lambda: training(options.seconds, options.environments),
        "resets": lambda: resets(options.seconds),
        "acting": lambda: acting(options.seconds),
        "returns": lambda: returns(options.seeds, options.steps, options.rate),
    }
    chosen = [name for name in parts if options.only == name or (options.only is None and name != "returns")]
    result = {name: parts[name]() for name in chosen}
    if options.json:
        options.json.write_text(json.dumps(result | {"machine": str(look("float32"))}))


if __name__ == "__main__":
    main()
