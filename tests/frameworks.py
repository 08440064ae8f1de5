"""New layers of the frameworks that the replica cards are about, and what is asked of each."""

from functools import cache, partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import H, I

from lstmjax import GATES, lstm
from lstmjax.convert import from_keras
from lstmjax.frameworks.base.layouts import Fused

B, T = 3, 5


def inputs(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def count(tree):
    return sum(np.size(leaf) for leaf in jax.tree.leaves(tree))


class Peer(NamedTuple):
    """A new layer of a framework, I wide and of H units, and what is asked of it."""

    weights: Fused  # laid out as the framework does
    size: int  # of all its parameters
    step: object  # (bias [4H], state) -> the state after one step; x and all other weights are zero
    module: object  # what the recipe converts
    makers: tuple  # whose arguments a user sees


def make_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module, blank = torch.nn.LSTM(I, H), torch.nn.LSTM(I, H)

    @torch.no_grad
    def step(bias, state):
        for p in blank.parameters():
            p.zero_()
        blank.bias_ih_l0 += torch.from_numpy(bias)
        return [s.numpy()[0] for s in blank(torch.zeros(1, I), tuple(torch.from_numpy(s[None]) for s in state))[1]]

    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
    weights = Fused(*(getattr(module, name).detach().numpy() for name in names))
    return Peer(weights, sum(p.numel() for p in module.parameters()), step, module, (torch.nn.RNNBase,))


def make_keras():
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    module, blank = keras.layers.LSTM(H), keras.layers.LSTM(H, return_state=True)
    for layer in (module, blank):
        layer.build((None, None, I))

    def step(bias, state):
        blank.set_weights([np.zeros((I, 4 * H)), np.zeros((H, 4 * H)), bias])
        return [s[0] for s in blank(np.zeros((1, 1, I)), initial_state=[s[None] for s in state])[1:]]

    return Peer(Fused(*module.get_weights()), module.count_params(), step, module, (keras.layers.LSTM,))


def make_linen(which):
    from flax import linen

    cell, x = getattr(linen, which)(H), jnp.zeros(I)
    variables = jax.jit(cell.init)(jax.random.key(0), (jnp.zeros(H), jnp.zeros(H)), x)
    tree = variables["params"]

    def step(bias, state):
        zeros = jax.tree.map(jnp.zeros_like, tree)
        zeros |= {f"h{g}": zeros[f"h{g}"] | {"bias": b} for g, b in zip("ifgo", np.split(bias, 4), strict=True)}
        return cell.apply({"params": zeros}, tuple(state), x)[0]

    w_x, w_h = (np.concatenate([tree[f"{n}{g}"]["kernel"] for g in GATES], axis=-1) for n in "ih")
    weights = Fused(w_x, w_h, np.concatenate([tree[f"h{g}"]["bias"] for g in GATES]))
    return Peer(weights, count(variables), step, variables, (linen.RNN, type(cell)))


def make_nnx(which):
    from flax import nnx

    module, blank = (getattr(nnx, which)(I, H, rngs=nnx.Rngs(0)) for _ in range(2))
    state, fused = nnx.to_pure_dict(nnx.state(module, nnx.Param)), which != "LSTMCell"
    inward = ["dense_i"] if fused else ["ii", "if_", "ig", "io"]
    back = ["dense_h"] if fused else ["hi", "hf", "hg", "ho"]

    def step(bias, carry):
        zeros = jax.tree.map(jnp.zeros_like, state)
        for name, b in zip(back, np.split(bias, len(back)), strict=True):
            zeros[name]["bias"] = jnp.asarray(b)
        nnx.update(blank, zeros)
        return blank(tuple(carry), jnp.zeros(I))[0]

    parts = ((inward, "kernel"), (back, "kernel"), (back, "bias"))
    weights = Fused(*(np.concatenate([state[n][field] for n in names], axis=-1) for names, field in parts))
    return Peer(weights, count(state), step, module, (nnx.RNN, type(module)))


def make_haiku():
    haiku = pytest.importorskip("haiku")
    net = haiku.without_apply_rng(haiku.transform(lambda x, state: haiku.LSTM(H)(x, state)[1]))
    params = net.init(jax.random.key(0), jnp.zeros(I), haiku.LSTMState(jnp.zeros(H), jnp.zeros(H)))
    (linear,) = params.values()

    def step(bias, state):
        return net.apply({"lstm/linear": {"w": 0 * linear["w"], "b": bias}}, jnp.zeros(I), haiku.LSTMState(*state))

    return Peer(Fused(linear["w"][:I], linear["w"][I:], linear["b"]), count(params), step, params, (haiku.LSTM,))


def make_equinox():
    equinox = pytest.importorskip("equinox")
    cell = equinox.nn.LSTMCell(I, H, key=jax.random.key(0))

    def step(bias, state):
        blank = jax.tree.map(jnp.zeros_like, cell)
        return equinox.tree_at(lambda c: c.bias, blank, jnp.asarray(bias))(jnp.zeros(I), tuple(state))

    return Peer(Fused(cell.weight_ih, cell.weight_hh, cell.bias), count(cell), step, cell, (equinox.nn.LSTMCell,))


def cudnn_reference(arrays, xs, state, lengths):
    """`lstm_ref` of one layer in one direction: ys, h and c after the last step."""
    from jax.experimental import rnn

    sizes = {"input_size": xs.shape[-1], "hidden_size": state[0].shape[-1], "num_layers": 1, "bidirectional": False}
    return rnn.lstm_ref(
        xs, *(s[None] for s in state), *({0: a} for a in arrays), jnp.asarray(lengths, jnp.int32), **sizes, dropout=0.0
    )


def make_cudnn():
    from jax.experimental import rnn

    flat = rnn.init_lstm_weight(jax.random.key(0), I, H, 1, False)
    weights = Fused(*(part[0] for part in rnn.unpack_lstm_weights(flat, I, H, 1, False)))

    def step(bias, state):
        arrays = [0 * weights.w_x, 0 * weights.w_h, jnp.asarray(bias), 0 * weights.b]
        _, *after = cudnn_reference(arrays, jnp.zeros((1, 1, I)), [s[None] for s in state], [1])
        return [s[0, 0] for s in after]

    return Peer(weights, flat.size, step, flat, ())


MAKE = {
    "torch": make_torch,
    "keras": make_keras,
    "linen": partial(make_linen, "LSTMCell"),
    "linen, optimized": partial(make_linen, "OptimizedLSTMCell"),
    "nnx": partial(make_nnx, "LSTMCell"),
    "nnx_optimized": partial(make_nnx, "OptimizedLSTMCell"),
    "haiku": make_haiku,
    "equinox": make_equinox,
    "cudnn": make_cudnn,
}


@cache
def peer_of(name):
    return MAKE[name]()


def masks_on(field, params, xs, ys):
    """Gives the mask of the four gates, 0 or 2 each and one for all steps, that explains each row of ys; I = H = 1."""
    masks = np.array(list(product((0.0, 2.0), repeat=4)), np.float32)

    def run(mask):
        w = getattr(params, field) * mask[:, None]  # a mask on x or h is one on its weights where that is one number
        return lstm(params._replace(**{field: w}), xs)[1]

    fits = np.abs(jax.vmap(run)(masks) - ys).max((2, 3)) < 1e-5  # [16, B]
    assert (fits.sum(0) == 1).all(), "no mask, or more than one, that is the same at all steps"
    return masks[fits.argmax(0)]


def is_own(masks):
    return bool((masks != masks[:, :1]).any())


def dropped_by_keras(drop, **others):
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    layer = keras.layers.LSTM(1, return_sequences=True, **{drop.by: 0.5}, **others)
    xs = inputs(8, 4, 1)
    layer.build(xs.shape)
    layer.set_weights([2 * inputs(1, 4), 2 * inputs(1, 4)[:, ::-1], inputs(4)])
    masks = masks_on(
        {"inputs": "w_x", "h": "w_h"}[drop.on], *from_keras(layer), xs, np.asarray(layer(xs, training=True))
    )
    assert {tuple(mask) for mask in masks} > {tuple(masks[0])}
    return "sequence", is_own(masks)
