# %% [markdown]
# # An exact replica, from PyTorch and Keras and back
#
# **The question.** Is your LSTM here the one that you have in PyTorch or Keras, or only a similar one? We convert the
# weights, run both, compare all numbers, train both, compare again, and convert the weights back.
#
# This notebook needs `pip install '.[peers]'`.

# %% tags=["parameters"]
STEPS = 200

# %%
import os
import textwrap

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
import jax

jax.config.update("jax_enable_x64", True)  # float64 weights stay float64
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch

from lstmjax import Dense, NetworkParams, network, plot, stacked, verify
from lstmjax.convert import from_keras, from_torch, to_keras, to_torch
from lstmjax.replica import CARDS

# %% [markdown]
# ## What a PyTorch LSTM is
#
# The card says what a replica has to get right, and what is easily missed. Each of its claims is a test.

# %%
print(CARDS["torch"])

# %% [markdown]
# ## PyTorch: the same outputs
#
# Two layers, both directions, a Linear head, in float64.

# %%
torch.manual_seed(0)
model = torch.nn.ModuleDict(
    {"lstm": torch.nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True), "head": torch.nn.Linear(32, 3)}
).double()
rng = np.random.default_rng(0)
xs, targets = rng.normal(size=(STEPS, 4, 20, 8)), rng.normal(size=(STEPS, 4, 3))


def forward(xs):
    _, (h, _) = model["lstm"](torch.from_numpy(xs))
    return model["head"](torch.cat([h[-2], h[-1]], dim=-1))  # both directions of the last layer


head = Dense(jnp.asarray(model["head"].weight.detach().numpy().T), jnp.asarray(model["head"].bias.detach().numpy()))
params = NetworkParams(from_torch(model["lstm"]), head)
_, ours = network(params, xs[0])
theirs = forward(xs[0]).detach().numpy()
print(f"largest difference of {ours.size} outputs: {np.abs(ours - theirs).max():.1e}")
print(verify(model["lstm"], xs[0]))

# %% [markdown]
# ## The same step, in numbers
#
# Three of the 16 units in one step of the first layer, forward direction: the picture shows our numbers, and the
# cell of PyTorch with the same weights computes the same c and h.

# %%
layer = jax.tree.map(lambda a: a.astype(jnp.float32), params.layers[0].forward)
state = rng.normal(size=16) / 2, rng.normal(size=16)
cell = torch.nn.LSTMCell(8, 16).double()
names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
cell.load_state_dict({name: getattr(model["lstm"], f"{name}_l0") for name in names})
h, c = (torch.from_numpy(a)[None] for a in state)
h, c = cell(torch.from_numpy(xs[0, 0, 0])[None], (h, c))
print("PyTorch: c", *(f"{value:.2f}" for value in c[0, :3]), " h", *(f"{value:.2f}" for value in h[0, :3]))
plot.step_diagram(layer, state, xs[0, 0, 0])

# %% [markdown]
# ## The same start, the same training
#
# 200 steps of Adam on the same batches, by PyTorch's optimizer and by Optax. PyTorch has two biases for each gate, so
# our parameters have two.

# %%
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for x, y in zip(xs, targets):
    optimizer.zero_grad()
    torch.mean((forward(x) - torch.from_numpy(y)) ** 2).backward()
    optimizer.step()

adam = optax.adam(1e-2)


@jax.jit
def train(params):
    def step(carry, batch):
        params, memory = carry
        x, y = batch
        gradient = jax.grad(lambda params: jnp.mean((network(params, x)[1] - y) ** 2))(params)
        updates, memory = adam.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), None

    return jax.lax.scan(step, (params, adam.init(params)), (xs, targets))[0][0]


trained = train(params)
for ours, theirs in zip(jax.tree.leaves(trained.layers), jax.tree.leaves(from_torch(model["lstm"]))):
    print(f"{ours.shape!s:14} {np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}")

# %% [markdown]
# The largest relative difference of each array after training is that of rounding.
#
# ## Back to PyTorch, bit by bit

# %%
copy = torch.nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True).double()
copy.load_state_dict(to_torch(trained.layers))
again = from_torch(copy)
print(all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(trained.layers))))

# %% [markdown]
# ## Keras: LSTM(32) on (10, 64), and Dense(2)
#
# Keras stores its initial forget bias of 1 among the weights, so nothing is added by the conversion.

# %%
model = keras.Sequential([keras.Input((10, 64)), keras.layers.LSTM(32), keras.layers.Dense(2)])
print([layer.count_params() for layer in model.layers])
layers = from_keras(model.layers[0])
head = Dense(*map(jnp.asarray, model.layers[1].get_weights()))
images = rng.normal(size=(5, 10, 64)).astype(np.float32)
_, ours = network(NetworkParams(layers, head), images)
print(f"largest difference: {np.abs(ours - np.asarray(model(images))).max():.1e}")
print(layers[0].gate("f").b[:4])
model.layers[0].set_weights(to_keras(layers)[0])
print(all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(from_keras(model.layers[0])), jax.tree.leaves(layers))))

# %% [markdown]
# ## If they differ: why?
#
# Suppose that somebody converted the weights by hand and added the forget bias a second time. `verify` finds the first
# layer, step and gate that differ, and tries likely causes until one reproduces the numbers of the other side.

# %%
wrong = layers[0]._replace(b=layers[0].b.at[1].add(1.0))
_, recorded = stacked((wrong,), images)
verdict = verify(np.asarray(recorded), images, params=layers)
for line in str(verdict).splitlines():
    print(textwrap.fill(line, 100, subsequent_indent="    "))
