# %% [markdown]
# # The gates of a trained network
#
# **The question.** A network has learned something. Which unit remembers what, for how long, and what makes the gates
# open and close?
#
# First a task whose answer is known, to see that the tools find it; then a text, where nobody knows it beforehand. Two
# networks are trained on the way, which takes most of the time.

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
# A sequence of about 100 symbols holds two markers, X or Y each: one between steps 10 and 20, one between 50 and 60.
# All else is noise. The class is which markers came, in which order: XX, XY, YX or YY. So the network has to carry the
# first marker over 30 to 50 steps of noise. It has 8 units.

# %%
config = load_config("../configs/order.yaml")
config = config.model_copy(update={"steps": ORDER_STEPS or config.steps})
result = train(config, f"{runs}/order", quiet=True)
print(f"{result.parameters} parameters, test accuracy {result.test['accuracy']:.3f}")

# %%
test = order().test.take(slice(0, 256))
params, xs = result.trained.params, jnp.asarray(test.x)
first, second = (Question(*about) for about in markers(test))  # whether it is an X, and where that is to be known
lines = np.stack([first.spans[:, 0], second.spans[:, 0]], axis=1) - 1  # [256, 2], the steps of the markers
print("".join(SYMBOLS[n] for n in test.x[0].argmax(-1)[: test.lengths[0]]), test.y[0], "markers at", lines[0])

# %% [markdown]
# All gates at all steps, in one call. Each heat map has a row for each unit; the dashed lines are the two markers.

# %%
(steps,) = trace(params, xs, lengths=test.lengths)
print("f", steps.f.shape, " c", steps.c.shape)
plot.gates(steps, fields=("i", "f"), span=(0, 100), example=0, marks=lines[0])

# %% [markdown]
# ### Which unit remembers the first marker?
#
# The one whose c tells X from Y all the way from the first marker to the second. How well it does so is an AUC: 1 if
# every sequence with an X has a larger c than every one with a Y, at each of these steps; 0.5 is chance.

# %%
ranking = rank_units(steps, first)
for unit in ranking:
    print(f"unit {unit.unit}  AUC {unit.auc:.3f}")

# %% [markdown]
# The first of them at work, in a sequence that begins with X and in one that begins with Y. At the markers its input
# gate opens, and c goes one way for X and the other for Y. Between the markers its forget gate stays near 1.

# %%
best = ranking[0].unit
with_x, with_y = int(first.labels.argmax()), int(first.labels.argmin())
shown = {"fields": ("i", "f", "c"), "span": (0, 100)}
plot.unit(steps, best, **shown, example=with_x, marks=lines[with_x], title=f"unit {best}, X first")

# %%
plot.unit(steps, best, **shown, example=with_y, marks=lines[with_y], title=f"unit {best}, Y first")

# %% [markdown]
# How much of what is written at the first marker is there just before the second? The product of all f between.

# %%
kept = retained(steps.f, lines[:, 0], lines[:, 1] - 1)  # [256, 8]
gap = lines[:, 1] - 1 - lines[:, 0]
print(f"over {gap.mean():.0f} steps, for each unit:", np.asarray(kept.mean(0)))
print("which is f at each step of", np.asarray(jnp.exp(jnp.log(kept).mean(0) / gap.mean())))

# %% [markdown]
# ### Does it matter?
#
# That a unit holds it does not say that the network uses it. So take each unit's memory out, c = 0 at every step, and
# see what accuracy is left. Chance is a quarter.

# %%
labels = jnp.array([CLASSES.index(y) for y in test.y])


def accuracy(wrappers):
    _, logits = network(params, xs, lengths=test.lengths, wrappers=wrappers)
    return (logits.argmax(-1) == labels).mean()


(out,) = ablation(accuracy, params)
print(f"all units {out.whole:.2f}, without unit {best} {out.without[best]:.2f}")
print("without each of them", np.asarray(out.without))

# %% [markdown]
# The other units that are dear do something else: the second marker has to be seen too, and the answer kept to the end.
#
# ### How could it be learned?
#
# The gradient of the loss had to come back to the first marker. `gradient_spans` starts just before the second marker
# and says what of dL/dc reaches the first one, along the cells alone (times f) and by all ways together.


# %%
def loss(logits):
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


back = jax.jit(lambda params: gradient_spans(params, xs, loss, lengths=test.lengths, at=lines[:, 1] - 1))
(spans,) = back(params)
sequences = np.arange(len(xs))
for name, t in {"just before the second marker": lines[:, 1] - 1, "at the first marker": lines[:, 0]}.items():
    cell, whole = (np.abs(part[sequences, t, best]).mean() for part in spans)
    print(f"unit {best}, |dL/dc| {name}: {cell:.1e} along the cell alone, {whole:.1e} by all ways")

# %% [markdown]
# Along the cell alone comes what there was, times the product of f from above. The ways through h may add to it or take
# from it; they pass the weights and all gates.
#
# ## A text: fables of Aesop
#
# Now the next character of a text is to be told from those before it. The text is four short fables, and small enough
# to be learned by heart, which is what we let the network do: 64 units, windows of 64 characters.

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
print(f"{len(text)} characters of {len(alphabet)} kinds; {right:.0%} of the next ones are told right")
print("".join(alphabet[n] for n in logits[:80].argmax(-1)))

# %% [markdown]
# Above, what the network expects next at each of the first 80 steps. It has to begin somewhere; then it knows the way.
#
# ### How long do units remember?
#
# Each unit's time scale: after so many steps, on average, what it held is down to about a third (1/e).

# %%
(steps,) = trace(params, xs)
tau = np.sort(np.asarray(time_scale(steps.f)))
print("steps, from the shortest to the longest:", tau[:: len(tau) // 8], tau[-1])

# %% [markdown]
# Many units forget within a word, few hold something for tens of characters. Nobody told them to share out the work.
#
# ### What opens and shuts
#
# A gate is called right-saturated when it is above 0.9 (open) and left-saturated when it is below 0.1 (shut). On the
# line between the corners are units that are always one or the other, like switches.

# %%
plot.saturation(gate_statistics(params, xs), gates=("f", "o"))

# %% [markdown]
# When? The fraction of forget gates that are wide open at the step that reads ...

# %%
kinds = {
    "a small letter": str.islower,
    "a capital": str.isupper,
    "a space": " ".__eq__,
    "a full stop": ".".__eq__,
    "a line's end": "\n".__eq__,
    'a mark "': '"'.__eq__,
}
reads = {name: np.array([is_one(character) for character in text]) for name, is_one in kinds.items()}
for name, there in reads.items():
    wide, shut = (float(part[there].mean()) for part in (steps.f > 0.9, steps.f < 0.1))
    print(f"{name:15} {there.sum():5} times   f above 0.9: {wide:.0%}   below 0.1: {shut:.0%}")

# %% [markdown]
# Where something new begins, at a capital and at the end of a line, fewer gates stay open: the network lets go of what
# it held. Within a word they stay.
#
# ### A unit that starts anew with each word
#
# Which forget gate is more shut at spaces than elsewhere? Its c, below the text, starts anew with the words.

# %%
space = reads["a space"]
difference = steps.f[space].mean(0) - steps.f[~space].mean(0)
most = int(difference.argmin())
print(f"unit {most}: f is {steps.f[space, most].mean():.2f} at spaces, {steps.f[~space, most].mean():.2f} elsewhere")
plot.unit(steps, most, fields=("f", "c"), text=text, span=(27, 92))

# %% [markdown]
# ## What we learnt
#
# - `trace` gives every gate at every step. `rank_units` finds the unit that knows an answer, `retained` says how much
#   of it is kept, `ablation` whether the network needs it.
# - In the order task one unit holds the first marker over the gap, with its forget gate near 1 all the way.
# - In the text, forget gates close where something new begins, and units share out short and long memories.
#
# For a network of your own, `trace(params, xs)` takes any parameters: those of a run,
# `lstmjax.training.load_run("runs/one").params`, or what `lstmjax.convert.load_weights("model.pt")` reads. As a page to
# click through: `lstmjax inspect runs/one`. Why the gradient survives on its way back, and where it does not, is in
# [gradients](gradients.ipynb).
