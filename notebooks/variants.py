# %% [markdown]
# # The published cells, side by side
#
# An LSTM is not one thing: papers leave gates out, couple them, or let them see the cell state. `lstmjax.CELLS` has
# them by name, each a row that says what its gates are. Here they learn the same task from the same seeds, and we look
# at why some of them find it hard.

# %% tags=["parameters"]
STEPS, SEEDS = 300, 3
NAMES = ["vanilla", "peephole", "nig", "nfg", "nog", "niaf", "noaf", "cifg", "no_forget_gate"]

# %%
import functools

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from lstmjax import CELLS, init_network, network, shapes, stacked

# %% [markdown]
# ## What differs
#
# A row names the blocks of gates that exist. A gate without a block is 1, or follows from another one (`cifg`:
# f = 1 − i).

# %%
for name in NAMES:
    cell = CELLS[name]
    count = shapes(input=4, hidden=8, cell=name).parameters
    gates, peepholes = " ".join(cell.blocks), " ".join(cell.peepholes) or "-"
    print(f"{name:15} gates {gates:8} peepholes {peepholes:6} {count:4} parameters  {cell.paper}")

# %% [markdown]
# ## One task: remember
#
# The first of 24 steps shows which of four classes it is; noise follows. The class is to be told at the end.

# %%
T, B, H, CLASSES = 24, 32, 8, 4


def draw(key):
    which, noise = jax.random.split(key)
    labels = jax.random.randint(which, (B,), 0, CLASSES)
    xs = 0.5 * jax.random.normal(noise, (B, T, CLASSES))
    return xs.at[:, 0].set(2 * jax.nn.one_hot(labels, CLASSES)), labels


def train(cell, key):
    start, data = jax.random.split(key)
    params = init_network(start, CLASSES, H, CLASSES, cell=cell)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))

    def loss(params, key):
        xs, labels = draw(key)
        _, logits = network(params, xs, cell=cell)
        value = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, (logits.argmax(-1) == labels).mean()

    def step(carry, key):
        params, memory = carry
        (_, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(params, key)
        updates, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), accuracy

    (params, _), accuracies = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(data, STEPS))
    return params, accuracies


keys = jax.random.split(jax.random.key(0), SEEDS)
results = {name: jax.jit(jax.vmap(functools.partial(train, name)))(keys) for name in NAMES}

# %%
last = max(1, STEPS // 6)
print(f"accuracy over the last {last} steps, a column a seed; chance is {1 / CLASSES}")
for name, (_, accuracies) in results.items():
    print(f"{name:15}", *(f"{a:5.2f}" for a in np.asarray(accuracies[:, -last:].mean(1))))

# %%
figure, axes = plt.subplots(figsize=(8, 3.5))
for name, (_, accuracies) in results.items():
    smooth = np.asarray(accuracies).mean(0).reshape(-1, 5).mean(1)
    axes.plot(np.arange(len(smooth)) * 5, smooth, label=name)
axes.set(xlabel="training step", ylabel="accuracy, mean of seeds", ylim=(0, 1.02))
axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
plt.show()

# %% [markdown]
# ## Why: what is left of c
#
# What the first step wrote into c is multiplied by f at every later step. So the product of all f says how much of it
# arrives, and, on the way back, how much gradient. `emit="step"` shows every gate of every step.

# %%
xs, _ = draw(jax.random.key(1))


def remains(params, cell):
    _, steps = stacked(params.layers, xs, cell=cell, emit="step")
    return steps.f[:, 1:].prod(axis=1).mean()


for name in NAMES:
    before = init_network(jax.random.key(0), CLASSES, H, CLASSES, cell=name)
    after = jax.tree.map(lambda a: a[0], results[name][0])
    print(f"{name:15} untrained {remains(before, name):.1e}   trained, first seed {remains(after, name):.1e}")

# %% [markdown]
# Three seeds of one small task are no ranking. But the table says where to look: a cell whose forget gate begins near
# one half forgets by half at every step, and must first learn not to. Cells without a forget gate have f = 1 and keep
# everything from the start, noise included. [Greff et al. (2017)](https://arxiv.org/abs/1503.04069) compare these cells
# on three real tasks.
#
# A cell of your own is a row too; [the README](../README.md#other-cells) shows one.
