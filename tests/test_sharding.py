"""`lstm` inside `shard_map` and on sharded arrays, as it stands: values and gradients on four devices."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
from functools import partial
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from against import I, T, draw_params, draw_state, prefer, random_like
from tolerances import assert_close
from lstmjax import Bidirectional, RecurrentDropout, Zoneout, cell_step, explain_backend, lstm, stacked

prefer(sys.argv[1])
B = 8
assert len(jax.devices()) == 4
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
params = draw_params(rng, width=6)
xs = jnp.asarray(rng.normal(size=(B, T, I)))
mask, resets = (jnp.asarray(rng.random((B, T)) < 0.5) for _ in range(2))
whole, split = PartitionSpec(), PartitionSpec("batch")

def check(f, params, states, state_spec, out_spec):
    sharded = jax.shard_map(f, mesh=mesh, in_specs=(whole, split, state_spec, split, split), out_specs=out_spec)
    weights = random_like(rng, jax.eval_shape(f, params, xs, states, mask, resets))
    def loss(f, *arguments):
        values = f(*arguments, mask, resets)
        return sum(jax.tree.leaves(jax.tree.map(lambda a, w: (a * w).sum(), values, weights))), values
    both = [jax.jit(jax.value_and_grad(partial(loss, g), (0, 1, 2), has_aux=True)) for g in (f, sharded)]
    ((_, values), grads), ((_, parts), grads_of_parts) = (run(params, xs, states) for run in both)
    assert_close(parts, values)
    assert_close(grads_of_parts, grads, gradient=True)

def layer(params, xs, states, mask, resets):
    state, again = states
    return lstm(params, xs, state, mask=mask, resets=resets, reset_state=again, emit="step", padding="hold",
                wrappers=(RecurrentDropout(0.5), Zoneout(0.2, 0.1)))

check(layer, params, [draw_state(rng, params, (B,)), draw_state(rng, params, ())], [split, whole], split)

def last(params, xs, states, mask, resets):
    return lstm(params, xs, states, return_sequences=False, checkpoint="sqrt", reverse=True)

check(last, params, draw_state(rng, params, ()), whole, split)

layers = (Bidirectional(draw_params(rng), draw_params(rng)), draw_params(rng, 8))

def stack(layers, xs, states, mask, resets):
    return stacked(layers, xs, mask=mask, resets=resets)

check(stack, layers, (), whole, split)

# Only one of the arguments varies over the mesh, and the others are the same on every device.
def own(params, state, x, aux=(), *, product, emit):
    return cell_step(params, state, x, product=product, emit=emit)

several = [draw_state(rng, params, (B,)) for _ in range(2)]
one = draw_state(rng, params, ())
for name, f, varying in (
    ("resets", lambda r: lstm(params, xs[:2], resets=r, reset_state=one), resets),
    ("reset_state", lambda s: lstm(params, xs[:2], resets=resets[:2], reset_state=s), several[1]),
    ("state of an own step", lambda s: lstm(params, xs[:2], s, step=own), several[0]),
    ("xs of an own step", lambda x: lstm(params, x, one, step=own, return_sequences=False), xs),
):
    parts = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=split, out_specs=split))(varying)
    alone, shares = jax.jit(f), jax.tree.map(np.asarray, varying)
    of_each = [alone(jax.tree.map(lambda a, n=n: a[2 * n:2 * n + 2], shares)) for n in range(4)]
    assert_close(parts, jax.tree.map(lambda *a: np.concatenate(a), *of_each))

keys = jax.random.split(jax.random.key(0), 4)
def noisy(keys):
    return lstm(params, xs[:2], key=keys[0], wrappers=(Zoneout(0.2, 0.1), RecurrentDropout(0.5)))

drawn = jax.jit(jax.shard_map(noisy, mesh=mesh, in_specs=split, out_specs=split))(keys)
alone = jax.jit(noisy)
assert_close(drawn, jax.tree.map(lambda *a: np.concatenate(a), *(alone(keys[n:n + 1]) for n in range(4))))

# Arrays that carry their sharding in their type, over explicit mesh axes.
explicit = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
def options(xs, mask, resets, state):
    noisy = {"key": keys[0], "wrappers": (Zoneout(0.2, 0.1), RecurrentDropout(0.5))}
    return (
        lstm(params, xs, state, mask=mask, resets=resets, reset_state=state, emit="step", padding="hold"),
        lstm(params, xs, one, step=own, mask=mask, return_sequences=False),
        lstm(params, xs, mask=mask, return_sequences=False, checkpoint="sqrt", reverse=True, **noisy),
        stacked(layers, xs, mask=mask, resets=resets),
    )

arguments = (xs, mask, resets, several[0])

@jax.jit
@partial(jax.grad, has_aux=True)
def both(xs, *others):
    found = options(xs, *others)
    return sum(leaf.sum() for leaf in jax.tree.leaves(found)), found

with jax.set_mesh(explicit):
    placed = jax.device_put(arguments, NamedSharding(explicit, split))
    slopes, found = both(*placed)
assert all(leaf.sharding.spec[0] == "batch" for leaf in jax.tree.leaves((found, slopes)))
expected_slopes, expected = both(*arguments)
if sys.argv[1] == "auto":  # without the mesh in the context "auto" takes what JAX can differentiate there
    without_mesh = jax.jit(jax.grad(lambda params, xs: (lstm(params, xs)[1] ** 2).sum(), (0, 1)))
    plain = layers[0].forward
    replicated = jax.device_put(plain, NamedSharding(explicit, whole))
    assert explain_backend(replicated, placed[0]).name == "scan"
    assert_close(jax.device_get(without_mesh(replicated, placed[0])), without_mesh(plain, xs), gradient=True)
assert_close(jax.device_get(found), expected)
assert_close(jax.device_get(slopes), expected_slopes, gradient=True)
print("equal on", len(jax.devices()), "devices")
"""


def test_shard_map_over_the_batch_as_it_stands(backend_option):
    """A process of its own, since the number of devices is fixed once JAX has started."""
    folder = Path(__file__).parent
    command = [sys.executable, "-W", "error", "-c", SCRIPT, backend_option]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "equal on 4 devices\n"
