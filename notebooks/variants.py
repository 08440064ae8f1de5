# %% [markdown]
# # The published cells, side by side
#
# **The question.** There is more than one LSTM: papers leave out gates, couple them, or let them read the cell state.
# `lstmjax.CELLS` has them by name. How do they differ, and does it matter to what they learn?

# %%
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lstmjax import CELLS, init_params, lstm, shapes

stored = json.loads(Path("../benchmarks/variants.json").read_text())
names = list(stored["cells"])

# %% [markdown]
# ## What differs
#
# Each cell is a row of a table, which names the gates that have weights and those that read c (peepholes). A gate
# without weights is 1, or follows from another one: in `cifg`, f = 1 − i. `niaf` and `noaf` have no tanh around g, or
# around c. [Cells](../docs/cells.md) has all of them, with their papers.

# %%
for name in names:
    cell = CELLS[name]
    count = shapes(input=6, hidden=4, cell=name).parameters
    gates, peepholes = " ".join(cell.blocks), " ".join(cell.peepholes) or "none"
    print(f"{name:15} gates {gates:8} peepholes {peepholes:6} {count:4} parameters")

# %% [markdown]
# ## A task: remember, and forget
#
# 40 symbols of noise hold several markers, X or Y. The class is the pair of the last two markers, XX, XY, YX or YY. So
# a network has to remember a marker over noise, and to forget it when two others have followed. It has 4 units.
#
# The comparison is fair in this sense: each cell is trained for 300 steps of Adam at four learning rates from five
# seeds, the same batches for all. Each cell is shown at its own best rate, chosen by its accuracy on validation
# sequences, on average over the training and the seeds; the last column is the accuracy on test sequences.
#
# These 180 runs take about a minute on two cores. They are not run here: `python benchmarks/variants.py` has stored
# their accuracies, and this notebook draws them.

# %%
print(f"{stored['task']}; JAX {stored['jax']}")
at = np.arange(1, len(stored["cells"]["vanilla"]["validation"][0][0]) + 1) * stored["every"]
curves, steps_to = {}, {}
print(f"{'':15} {'':9}   steps to 95% of validation   accuracy on test")
print(f"{'cell':15} best rate   median   all seeds            mean   all seeds")
for name in names:
    validation, test = (np.array(stored["cells"][name][part]) for part in ("validation", "test"))  # [R, N, S], [R, N]
    best = validation.mean((1, 2)).argmax()
    curves[name] = validation[best]
    reached = curves[name] >= 0.95
    steps_to[name] = np.where(reached.any(1), at[reached.argmax(1)], np.inf)
    median, least, most = (f(steps_to[name]) for f in (np.median, np.min, np.max))
    seeds = f"{least:.0f} to {most:.0f}".replace("inf", "never")
    accuracies = f"{test[best].mean():.3f}   {test[best].min():.2f} to {test[best].max():.2f}"
    print(f"{name:15} {stored['rates'][best]:9} {median:8.0f}   {seeds:17} {accuracies:>22}")

# %% [markdown]
# The same as curves: the line is the mean of the five seeds, the band reaches from the worst to the best of them. The
# grey line is the vanilla cell.

# %%
figure, panels = plt.subplots(3, 3, figsize=(9, 6.6), sharex=True, sharey=True, layout="constrained")
for axes, name in zip(panels.ravel(), names):
    axes.plot(at, curves["vanilla"].mean(0), color="0.6", linewidth=1)
    axes.fill_between(at, curves[name].min(0), curves[name].max(0), color="#0072B2", alpha=0.2, linewidth=0)
    axes.plot(at, curves[name].mean(0), color="#0072B2")
    axes.set_title(name, fontsize=10)
    axes.grid(alpha=0.25)
panels[0, 0].set_ylim(0.2, 1.02)
figure.supxlabel("training step")
figure.supylabel("validation accuracy")
plt.show()

# %% [markdown]
# ## Why: what happens to c
#
# Before training, what a step writes into c is multiplied by f at every later step. The product of f over 20 steps is
# the fraction that remains; where there is no forget gate, f is 1, everything remains, and c grows with every step.

# %%
xs = jax.nn.one_hot(jax.random.randint(jax.random.key(1), (256, 40), 0, 6), 6)
print(f"{'cell':15} fraction of c after 20 steps   mean |c| after 40 steps / after 5")
for name in names:
    params = init_params(jax.random.key(0), 6, 4, cell=name)
    steps = lstm(params, xs, cell=name, emit="step")[1]
    remains = jnp.broadcast_to(steps.f, steps.c.shape)[:, -20:].prod(1).mean()
    size = jnp.abs(steps.c).mean((0, 2))
    print(f"{name:15} {remains:27.4f} {size[-1] / size[4]:24.1f}")

# %% [markdown]
# The cells without a forget gate (`nfg`, `no_forget_gate`) keep everything: markers that no longer count, and noise.
# The cell without an input gate (`nig`) cannot keep noise from being written. These three are the ones that learn the
# task late, or not from every seed; the other six learn it equally well, among them the cell without an output gate and
# the one with coupled gates, which has three gates instead of four.
#
# This is one small task with four units, and no ranking of cells. [Greff et al.
# (2017)](https://arxiv.org/abs/1503.04069) compare most of them on three real tasks, and find that the forget gate and
# the activation of the output matter most, while coupled gates and peepholes change little.
#
# A cell of your own is a row, too: [cells and initial values](../docs/cells.md) shows one.
