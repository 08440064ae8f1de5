"""The native kernel's numbers bit by bit: activations of each instruction set, parts of a batch, threads, devices."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import layer

from lstmjax import lstm
from lstmjax.backends import native, native_library

LIBRARY = native_library.load()
pytestmark = pytest.mark.skipif(LIBRARY.reason is not None, reason=str(LIBRARY.reason))

ACTIVATE = """
import ctypes, sys
import numpy as np
library = ctypes.CDLL(sys.argv[1])
library.lstmjax_instruction_set.restype = ctypes.c_char_p
x = np.fromfile(sys.argv[2], np.float32)
for is_tanh, path in enumerate(sys.argv[3:]):
    y = np.empty_like(x)
    pointers = (a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for a in (x, y))
    library.lstmjax_activate(ctypes.c_int(is_tanh), *pointers, ctypes.c_int64(len(x)))
    y.tofile(path)
print(library.lstmjax_instruction_set().decode())
"""
SPECIAL = np.array([np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 3e38, -3e38, 1e-45, -1e-45, 1e-39], np.float32)


@pytest.mark.parametrize("name", ["avx512", "avx2", "neon", "baseline"])
def test_activations_of_each_instruction_set(name, tmp_path):
    """Of numbers all over float32, subnormal ones too: within 3 ulp; where they are special, those of XLA."""
    every = np.arange(0, 2**32, 99991, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = every[np.isfinite(every)]
    np.concatenate([x, SPECIAL]).tofile(tmp_path / "x")
    paths = [tmp_path / "sigmoid", tmp_path / "tanh"]
    command = [sys.executable, "-c", ACTIVATE, str(LIBRARY.path), str(tmp_path / "x"), *map(str, paths)]
    environment = os.environ | {"LSTMJAX_INSTRUCTION_SET": name}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    if run.stdout.strip() != name:
        pytest.skip(f"this processor has no {name}, or the library was built for another one")
    wide, tiny = x.astype(np.float64), np.finfo(np.float32).tiny
    exact = 1 / (1 + np.exp(-np.clip(wide, -700, None))), np.tanh(wide)
    for path, expected, of_xla in zip(paths, exact, (jax.nn.sigmoid, jnp.tanh), strict=True):
        found = np.fromfile(path, np.float32)
        ulp = np.spacing(np.maximum(np.abs(expected), tiny).astype(np.float32))
        bound = np.where(np.abs(expected) >= tiny, 3 * ulp, tiny)
        assert (np.abs(found[: len(x)] - expected) <= bound).all()
        np.testing.assert_array_equal(found[len(x) :][:8], np.asarray(jax.jit(of_xla)(SPECIAL))[:8])


def arrays(rows, steps, inputs, hidden):
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.normal(size=(rows, steps, inputs)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(rows, steps, hidden)), jnp.float32)
    return jax.tree.map(lambda a: a.astype(jnp.float32), layer(rng, inputs, hidden)), xs, weights


def of_rows(params, xs, weights):
    """Outputs, final state and gradients of xs: what each sequence has by itself."""
    (state, ys), pull = jax.vjp(lambda xs: lstm(params, xs, backend="native"), xs)
    (d_xs,) = pull((jax.tree.map(jnp.zeros_like, state), weights))
    return state, ys, d_xs


@pytest.mark.parametrize("cuts", [(6,), (1, 2, 20), (5, 12, 18, 19)], ids=str)
def test_a_sequence_has_the_same_bits_in_any_part_of_a_batch(cuts):
    params, xs, weights = arrays(23, 9, native.WIDE - 3, 70)
    run = jax.jit(partial(of_rows, params))
    whole = run(xs, weights)
    parts = [run(*pair) for pair in zip(np.split(xs, cuts), np.split(weights, cuts), strict=True)]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda *a: np.concatenate(a), *parts), whole)


def test_two_calls_at_once_have_the_same_bits():
    """In one program, and in several threads, with more of them than processors."""
    params, xs, weights = arrays(9, 30, 5, 40)

    def slopes(xs):
        return jax.vjp(lambda p: lstm(p, xs, backend="native")[1], params)[1](weights)[0]

    one = jax.jit(slopes)
    first, second = one(xs), one(2 * xs)
    both = jax.jit(lambda a, b: (slopes(a), slopes(b)))(xs, 2 * xs)
    jax.tree.map(np.testing.assert_array_equal, both, (first, second))
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: jax.block_until_ready(one(xs)), range(24)):
            jax.tree.map(np.testing.assert_array_equal, found, first)


DEVICES = """
import sys, zlib
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from test_native_bits import arrays, of_rows
params, *data = arrays(12, 9, 5, 30)
if len(sys.argv) > 2:
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    data = jax.device_put(data, NamedSharding(mesh, PartitionSpec("batch")))
found = jax.jit(of_rows)(params, *data)
print(zlib.crc32(b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(found))))
"""


@pytest.mark.thorough  # three processes
def test_several_devices_have_the_same_bits():
    """Virtual ones, and a batch that is sharded over them."""
    folder = Path(__file__).parent
    outputs = [
        subprocess.run([sys.executable, "-c", DEVICES, *words], capture_output=True, text=True, check=True, cwd=folder)
        for words in (["1"], ["4"], ["4", "sharded"])
    ]
    assert len({run.stdout for run in outputs}) == 1
