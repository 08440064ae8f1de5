"""cuDNN's two calls in plain JAX: the primitives of `jax.experimental.rnn`, lowered for the CPU.

Everything but the custom calls themselves is JAX's own: their checks, shapes and missing rules. What cuDNN leaves
undefined is NaN here, and so is everything where it is called as it must not be.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
from jax.experimental import rnn
from jax.interpreters import mlir

CALLS = []
"""Of each call that was lowered: "forward" or "backward", the shape of x, and what it was told beside arrays."""


def sizes(inputs, hidden, layers, batch, steps, dropout, bidirectional, tf32):
    """Bytes of the workspace, and of the reserve, which holds the outputs here."""
    return 1, batch * steps * hidden


def reference(x, h, c, weights, lengths, cudnn_allow_tf32, **how):
    size = {name: how[name] for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}
    parts = rnn.unpack_lstm_weights(weights, **size)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return rnn.lstm_ref(x, h, c, *parts, lengths, **how)


def fits(x, lengths):
    return (lengths >= 1).all() & (lengths <= x.shape[1]).all()


def or_nan(good, arrays):
    return [jnp.where(good, a, jnp.nan) for a in arrays]


def forward(x, h, c, weights, lengths, **how):
    CALLS.append(("forward", x.shape, how))
    y, *end = reference(x, h, c, weights, lengths, **how)
    return or_nan(fits(x, lengths), [y, *end, y.ravel()])


def backward(dy, dh, dc, x, h, c, weights, y, reserve, lengths, **how):
    CALLS.append(("backward", x.shape, how))
    made, pull = jax.vjp(lambda *arrays: reference(*arrays, lengths, **how), x, h, c, weights)
    dx, *rest = pull((dy, dh, dc))
    inside = jnp.arange(x.shape[1])[None] < lengths[:, None]
    good = fits(x, lengths) & jnp.allclose(made[0], y, atol=1e-5) & (y.ravel() == reserve).all()
    return or_nan(good, [jnp.where(inside[..., None], dx, jnp.nan), *rest])


def install(patch):
    """Puts them in their place, with a CPU that says it is a GPU; `patch` is `setattr` or pytest's."""
    patch(jax, "default_backend", lambda: "gpu")
    patch(rnn, "gpu_rnn", SimpleNamespace(_cuda_rnn=True, compute_rnn_workspace_reserve_space_sizes=sizes))
    for primitive, lowered in ((rnn.rnn_fwd_p, forward), (rnn.rnn_bwd_p, backward)):
        mlir.register_lowering(primitive, mlir.lower_fun(lowered, multiple_results=True), platform="cpu")
