# %% [markdown]
# # The gates of a trained network
#
# **The question.** A network has learned a task. What does each unit remember, for how long, and what makes the gates
# open and close?
#
# We start with a task whose answer is known, to check that the tools find it, and continue with a text, where it is not
# known. Two networks are trained, which takes most of the time.

# %% tags=["parameters"]
ORDER_STEPS, TEXT_STEPS = None, 800  # None: as the configuration has it

# %%
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstmjax import network, plot
from lstmjax.config import load_config, parse_config
from lstmjax.data import fables
from lstmjax.data.order import CLASSES, SYMBOLS, markers, order
from lstmjax.inside import Question, ablation, gate_statistics, gradient_spans, rank_units, retained, time_scale, trace
from lstmjax.training import train

np.set_printoptions(precision=2, suppress=True, linewidth=110)
runs = tempfile.mkdtemp()

# %% [markdown]
# ## A task with a known answer: what came first?
#
# A sequence of about 100 symbols holds two markers, each of them X or Y: one between steps 10 and 20, one between 50
# and 60. The other symbols are noise. The class is the pair of markers in their order: XX, XY, YX or YY. So the network
# has to remember the first marker over 30 to 50 steps of noise. It has 8 units.

# %%
config = load_config("../configs/order.yaml")
config = config.model_copy(update={"steps": ORDER_STEPS or config.steps})
result = train(config, f"{runs}/order", quiet=True)
print(f"{result.parameters} parameters, test accuracy {result.test['accuracy']:.3f}")

# %%
test = order().test.take(slice(0, 256))
params, xs = result.trained.params, jnp.asarray(test.x)
first, second = (Question(*about) for about in markers(test))  # whether it is an X, and the steps that have to know it
lines = np.stack([first.spans[:, 0], second.spans[:, 0]], axis=1) - 1  # [256, 2], the steps of the markers
print("".join(SYMBOLS[n] for n in test.x[0].argmax(-1)[: test.lengths[0]]), test.y[0], "markers at", lines[0])

# %% [markdown]
# `trace` returns all gates at all steps. In the heat maps each row is a unit; the dashed lines mark the two markers.

# %%
(steps,) = trace(params, xs, lengths=test.lengths)
print("f", steps.f.shape, " c", steps.c.shape)
plot.gates(steps, fields=("i", "f"), span=(0, 100), example=0, marks=lines[0])

# %% [markdown]
# ### Which unit remembers the first marker?
#
# It is the unit whose c distinguishes X from Y at every step from the first marker to the second. The AUC measures how
# well: it is 1 if, at each of these steps, c separates all sequences with an X from all with a Y, and 0.5 by chance.

# %%
ranking = rank_units(steps, first)
for unit in ranking:
    print(f"unit {unit.unit}  AUC {unit.auc:.3f}")

# %% [markdown]
# The best unit in a sequence whose first marker is X, and in one with Y. At the markers its input gate opens, and c
# moves in one direction for X and in the other for Y. Between the markers its forget gate stays near 1.

# %%
best = ranking[0].unit
with_x, with_y = int(first.labels.argmax()), int(first.labels.argmin())
shown = {"fields": ("i", "f", "c"), "span": (0, 100)}
plot.unit(steps, best, **shown, example=with_x, marks=lines[with_x], title=f"unit {best}, X first")

# %%
plot.unit(steps, best, **shown, example=with_y, marks=lines[with_y], title=f"unit {best}, Y first")

# %% [markdown]
# How much of what is written at the first marker remains just before the second one? That is the product of all f
# between them.

# %%
kept = retained(steps.f, lines[:, 0], lines[:, 1] - 1)  # [256, 8]
gap = lines[:, 1] - 1 - lines[:, 0]
print(f"over {gap.mean():.0f} steps, for each unit:", np.asarray(kept.mean(0)))
print("as a mean f at each step:", np.asarray(jnp.exp(jnp.log(kept).mean(0) / gap.mean())))

# %% [markdown]
# ### Does it matter?
#
# That a unit holds the marker does not mean that the network uses it. So set the c of each unit in turn to 0 at every
# step, and measure the accuracy that remains. Chance is 0.25.

# %%
labels = jnp.array([CLASSES.index(y) for y in test.y])


def accuracy(wrappers):
    _, logits = network(params, xs, lengths=test.lengths, wrappers=wrappers)
    return (logits.argmax(-1) == labels).mean()


(out,) = ablation(accuracy, params)
print(f"all units {out.whole:.2f}, without unit {best} {out.without[best]:.2f}")
print("without each of them", np.asarray(out.without))

# %% [markdown]
# Other units whose loss costs accuracy have other tasks: the network also has to see the second marker, and to keep the
# answer to the end.
#
# ### How could it be learned?
#
# The gradient of the loss has to reach the first marker. `gradient_spans` takes dL/dc just before the second marker and
# computes how much of it reaches the first one, along the cells alone (times f) and by all paths together.


# %%
def loss(logits):
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


back = jax.jit(lambda params: gradient_spans(params, xs, loss, lengths=test.lengths, at=lines[:, 1] - 1))
(spans,) = back(params)
sequences = np.arange(len(xs))
for name, t in {"just before the second marker": lines[:, 1] - 1, "at the first marker": lines[:, 0]}.items():
    cell, whole = (np.abs(part[sequences, t, best]).mean() for part in spans)
    print(f"unit {best}, |dL/dc| {name}: {cell:.1e} along the cell alone, {whole:.1e} by all paths")

# %% [markdown]
# Along the cell alone, the gradient is multiplied by the product of f that we computed above. The paths through h,
# which lead through the weights and all gates, can add to it or cancel a part of it.
#
# ## A text: fables of Aesop
#
# Now the network predicts the next character of a text. The text, four short fables, is small enough to be learned by
# heart, which is what we let the network do: 64 units, windows of 64 characters.

# %%
text = fables()
alphabet = sorted(set(text))
codes = np.array([alphabet.index(character) for character in text])
windows = np.lib.stride_tricks.sliding_window_view(codes, 65)[::4]
np.savez(f"{runs}/fables.npz", x=np.eye(len(alphabet), dtype=np.float32)[windows[:, :-1]], y=windows[:, 1:])
tree = {
    "model": {"hidden_size": 64},
    "data": {"source": f"{runs}/fables.npz"},
    "optimizer": {"learning_rate": 1e-2, "schedule": "cosine", "clip_norm": 1.0},
    "batch_size": 32,
    "steps": TEXT_STEPS,
    "evaluate_every": max(1, TEXT_STEPS // 2),
}
result = train(parse_config(tree), f"{runs}/fables", quiet=True)
params, xs = result.trained.params, jnp.eye(len(alphabet))[codes]
_, logits = network(params, xs, return_sequences=True)
right = (logits[:-1].argmax(-1) == codes[1:]).mean()
print(f"{len(text)} characters of {len(alphabet)} kinds; {right:.0%} of the next characters are predicted correctly")
print("".join(alphabet[n] for n in logits[:80].argmax(-1)))

# %% [markdown]
# The line above is the most likely next character at each of the first 80 steps. It cannot know how the text begins;
# after a few characters it follows the fable.
#
# ### How long do units remember?
#
# The time scale of a unit is the number of steps after which 1/e, about a third, of its memory remains, on average.

# %%
(steps,) = trace(params, xs)
tau = np.sort(np.asarray(time_scale(steps.f)))
print("steps, from the shortest to the longest:", tau[:: len(tau) // 8], tau[-1])

# %% [markdown]
# Many units forget within a word; a few remember for tens of characters. This division of labour was not prescribed.
#
# ### When gates open and close
#
# A gate is right-saturated when it is above 0.9 (open) and left-saturated when it is below 0.1 (closed). Units on the
# diagonal are always one or the other, like switches.

# %%
plot.saturation(gate_statistics(params, xs), gates=("f", "o"))

# %% [markdown]
# When does that happen? The fraction of forget gates that are open or closed, by the character that is read:

# %%
kinds = {
    "a small letter": str.islower,
    "a capital": str.isupper,
    "a space": " ".__eq__,
    "a full stop": ".".__eq__,
    "a line's end": "\n".__eq__,
    'a mark "': '"'.__eq__,
}
reads = {name: np.array([matches(character) for character in text]) for name, matches in kinds.items()}
for name, at in reads.items():
    opened, closed = (float(part[at].mean()) for part in (steps.f > 0.9, steps.f < 0.1))
    print(f"{name:15} {at.sum():5} times   f above 0.9: {opened:.0%}   below 0.1: {closed:.0%}")

# %% [markdown]
# At capitals and at the end of a line, where something new begins, fewer gates stay open: the network discards what it
# held. Within a word they stay open.
#
# ### A unit that is reset at each word
#
# Which forget gate is closed at spaces more than elsewhere? The c of that unit, drawn below, is reset at each word.

# %%
space = reads["a space"]
difference = steps.f[space].mean(0) - steps.f[~space].mean(0)
most = int(difference.argmin())
print(f"unit {most}: f is {steps.f[space, most].mean():.2f} at spaces, {steps.f[~space, most].mean():.2f} elsewhere")
plot.unit(steps, most, fields=("f", "c"), text=text, span=(27, 92))

# %% [markdown]
# ## Summary
#
# - `trace` returns every gate at every step. `rank_units` finds the unit that knows an answer, `retained` how much of
#   it remains, `ablation` whether the network needs it.
# - In the order task one unit holds the first marker over the gap, with its forget gate near 1.
# - In the text, forget gates close where something new begins, and units have short or long memories.
#
# For your own network, `trace(params, xs)` takes any parameters: those of a run,
# `lstmjax.training.load_run("runs/one").params`, or those that `lstmjax.convert.load_weights("model.pt")` reads.
# `lstmjax inspect runs/one` shows a run on an interactive page. [Gradients](gradients.ipynb) explains how far the
# gradient reaches.
