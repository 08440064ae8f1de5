"""Which published cells learn to remember the last two of many markers, each at its own best learning rate?

Each cell is trained at each of four learning rates from each of five seeds. The rate with the best accuracy on
validation, on average over the training and the seeds, is that cell's: the one at which it learns fastest. The accuracy
on test sequences is that of these five runs alone. Every run of a seed sees the same batches.
All runs of a cell are one program, by `jax.vmap`.

    python benchmarks/variants.py                      # writes benchmarks/variants.json
    python benchmarks/variants.py --names cifg nog     # these cells alone; the others in the file stay

The notebook `variants` draws the figures from that file.
"""

import argparse
import functools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lstmjax
from lstmjax import init_network, network

NAMES = ("vanilla", "peephole", "nig", "nfg", "nog", "niaf", "noaf", "cifg", "no_forget_gate")
RATES = (0.01, 0.03, 0.1, 0.3)
SEEDS = 5
LENGTH, HIDDEN, BATCH, STEPS, EVERY = 40, 4, 32, 300, 10
COUNT = 1024  # sequences of validation and of test
SYMBOLS, CLASSES = 6, 4  # four distractors, X, Y; the last two markers in their order
OFTEN = 0.12  # probability of a marker at a step
RESULT = Path(__file__).parent / "variants.json"


def draw(key, count):
    """Sequences of noise with markers X and Y in it, of which only the last two count: [N, T, 6] and classes [N].

    So a marker has to be remembered over noise, and forgotten when two others have come. After the temporal-order task
    (Hochreiter & Schmidhuber 1997, experiment 6a), in which there are two markers, and nothing is to be forgotten.
    """
    noise, place, kinds = jax.random.split(key, 3)
    symbols = jax.random.randint(noise, (count, LENGTH), 0, SYMBOLS - 2)
    is_marker = jax.random.bernoulli(place, OFTEN, (count, LENGTH)).at[:, jnp.array([2, 5])].set(True)
    is_y = jax.random.randint(kinds, (count, LENGTH), 0, 2)
    symbols = jnp.where(is_marker, SYMBOLS - 2 + is_y, symbols)
    steps = jnp.where(is_marker, jnp.arange(LENGTH), -1)
    before, last = jnp.sort(steps, axis=1)[:, -2:].T
    rows = jnp.arange(count)
    return jax.nn.one_hot(symbols, SYMBOLS), 2 * is_y[rows, before] + is_y[rows, last]


def train(cell, steps, validation, test, rate, seed):
    """Validation accuracy every 10 steps `[S]`, and the accuracy on test at the end."""
    start, data = jax.random.split(jax.random.key(seed))
    params = init_network(start, SYMBOLS, HIDDEN, CLASSES, cell=cell)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

    def loss(params, key):
        xs, labels = draw(key, BATCH)
        _, logits = network(params, xs, cell=cell)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, key):
        params, memory = carry
        updates, memory = optimizer.update(jax.grad(loss)(params, key), memory, params)
        updates = jax.tree.map(lambda a: -rate * a, updates)
        return (optax.apply_updates(params, updates), memory), None

    def accuracy(params, part):
        return (network(params, part[0], cell=cell)[1].argmax(-1) == part[1]).mean()

    def between(carry, keys):
        carry, _ = jax.lax.scan(step, carry, keys)
        return carry, accuracy(carry[0], validation)

    keys = jax.random.split(data, steps).reshape(-1, EVERY)
    (params, _), accuracies = jax.lax.scan(between, (params, optimizer.init(params)), keys)
    return accuracies, accuracy(params, test)


def compare(names, rates, seeds, steps):
    """Validation accuracies `[R, N, S]` and test accuracies `[R, N]` of each cell, for R rates and N seeds."""
    validation, test = (draw(jax.random.key(key), COUNT) for key in (10_001, 10_002))
    results = {}
    for name in names:
        begun = time.perf_counter()
        run = functools.partial(train, name, steps, validation, test)
        both = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))
        accuracies, final = jax.block_until_ready(both(jnp.array(rates), jnp.arange(seeds)))
        results[name] = {"validation": np.asarray(accuracies), "test": np.asarray(final)}
        best = int(results[name]["validation"].mean((1, 2)).argmax())
        print(
            f"{name:15} rate {rates[best]:<6} validation {results[name]['validation'][best, :, -1].mean():.3f}  test "
            f"{results[name]['test'][best].mean():.3f}  {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--names", nargs="*", default=NAMES)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    results = compare(options.names, RATES, SEEDS, options.steps)
    rounded = {
        name: {what: np.round(a.astype(float), 3).tolist() for what, a in result.items()}
        for name, result in results.items()
    }
    tree = {
        "task": f"the last two of many markers, {LENGTH} steps, {HIDDEN} units, batches of {BATCH}, {options.steps} "
        "steps of Adam",
        "rates": RATES,
        "seeds": SEEDS,
        "every": EVERY,
        "jax": jax.__version__,
        "lstmjax": lstmjax.__version__,
        "cells": rounded,
    }
    if options.out.is_file():  # cells that were computed before, with the same settings, stay
        before = json.loads(options.out.read_text())
        if all(before[key] == json.loads(json.dumps(value)) for key, value in tree.items() if key != "cells"):
            tree["cells"] = before["cells"] | rounded
    options.out.write_text(json.dumps(tree, separators=(",", ":")) + "\n")
    print(options.out)
