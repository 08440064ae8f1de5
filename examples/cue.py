"""Which unit of a trained agent remembers the cue of a T-maze? Train one, rank its units, and swap the best of them.

    python examples/cue.py --length 50 --page tmaze.html --out cue.json

The agent of `recurrent_ppo.py` walks through a hundred mazes by its best actions. Its cells are traced along these
walks with noise on what it sees: without noise all walks with the same cue would be the same, and every unit would
tell them apart. A unit's AUC says that the cue can be read from it, not that the agent does: so before the junction the
state of each unit is exchanged with that of a walk with the other cue, and that of the best two, three, and so on.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from recurrent_ppo import TASKS, Moments, Settings, Task, begin, make_train, play, scaled
from tasks import output_file

from lstmjax.agents import act, cue_question, inspect_agent, trace_agent, unroll
from lstmjax.inside import rank_units

MAZES = 100
NOISE = 0.3  # in standard deviations of each number that the agent sees
FEATURES = ("cue left", "cue right", "corridor", "junction")


def walks(task: Task, s: Settings, length: int, params: dict, moments: Moments, key: jax.Array) -> Any:
    """Return one walk through each maze by the best actions, a `Step` of arrays `[length + 1, MAZES, ...]`."""
    keys = jax.random.split(key)
    world = begin(task, params["agent"], jax.random.split(keys[0], MAZES))
    step = lambda world, key: play(task, s, params, moments, world, (None, key), best=True)
    return jax.lax.scan(step, world, jax.random.split(keys[1], length + 1))[1]


def turns(agent: Any, state: tuple, seen: jax.Array) -> np.ndarray:
    """Return the best actions for observations `[B, I]` in the middle of an episode."""
    return np.asarray(act(agent, state, seen, jnp.zeros(len(seen), bool))[1]["policy"].argmax(-1))


def swapped(state: tuple, units: list[int], other: np.ndarray) -> tuple:
    """Return the state with h and c of some units taken from other walks."""
    return jax.tree.map(lambda a: a.at[:, jnp.array(units)].set(a[other][:, jnp.array(units)]), state)


def which_units(length: int, seed: int, page: Path | None) -> dict:
    """Train an agent, and return which units hold the cue and what happens when they are swapped."""
    make, s, _ = TASKS[f"TMaze-{length}"]
    task, keys = make(), jax.random.split(jax.random.key(seed), 3)
    params, moments, _ = jax.jit(make_train(task, s))(keys[0])
    steps = jax.jit(partial(walks, task, s, length))(params, moments, keys[1])
    agent, cues = params["agent"], np.asarray(steps.observation[0, :, 0] == 1)
    seen = scaled(moments, steps.observation, s.normalize)
    seen = seen + NOISE * jax.random.normal(keys[2], seen.shape)
    ((traced,),) = trace_agent(agent, None, seen, steps.first, fields="c")
    rows = jax.tree.map(lambda a: a.swapaxes(0, 1), traced)
    best = rank_units((rows,), cue_question("goal on the left", cues, 0, length))
    before, _ = unroll(agent, None, seen[:-1], steps.first[:-1])
    usual = turns(agent, before, seen[-1])
    other = np.zeros(MAZES, int)  # each walk's partner with the other cue
    other[cues] = np.resize(np.flatnonzero(~cues), cues.sum())
    other[~cues] = np.resize(np.flatnonzero(cues), (~cues).sum())
    turn = lambda units: float((turns(agent, swapped(before, units, other), seen[-1]) != usual).mean())
    order = [unit.unit for unit in best]
    together = [turn(order[: n + 1]) for n in range(len(order))]
    alone = [turn([n]) for n in order]
    if page:
        few = [jnp.asarray(a).swapaxes(0, 1)[:6] for a in (seen, steps.action, steps.reward)]
        inspect_agent(
            agent, *few, features=FEATURES, remembers=[("goal on the left", best[:5])], path=page,
            names=[f"goal on the {'left' if cue else 'right'}" for cue in cues[:6]],
        )  # fmt: skip
    return {
        "task": f"TMaze-{length}", "seed": seed, "noise": NOISE, "correct": float(steps.correct[-1].mean()),
        "correct with noise": float((usual == np.where(cues, 1, 2)).mean()),
        "units": [unit._asdict() for unit in best], "turns changed by the n best": together, "by each alone": alone,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=output_file)
    parser.add_argument("--out", type=output_file)
    options = parser.parse_args()
    result = which_units(options.length, options.seed, options.page)
    columns = (result[name][:6] for name in ("units", "by each alone", "turns changed by the n best"))
    for unit, alone, together in zip(*columns, strict=True):
        name = f"layer {unit['layer']} unit {unit['unit']}"
        print(f"{name}: AUC {unit['auc']:.3f}; turns changed: alone {alone:.0%}, with those above it {together:.0%}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
