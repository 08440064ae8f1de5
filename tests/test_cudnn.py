"""cuDNN behind `lstm`: its arguments, every refusal, values and every derivative, against the plain scan.

There is no GPU here: plain JAX stands in for the two calls of cuDNN, and nothing but them (`fake_cudnn.py`).
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import fake_cudnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import LAYERS, B, H, I, T, draw_params, draw_state, random_like, values_and_pull
from jax.experimental import rnn
from jax.sharding import AbstractMesh, AxisType
from tolerances import assert_close

from lstmjax import Bidirectional, RecurrentDropout, Zoneout, backends, explain_backend, lstm, stacked
from lstmjax.backends import cudnn, cudnn_call, linear, request
from lstmjax.cell import CellStep
from lstmjax.cells import VANILLA
from lstmjax.published import find_cell

N = 6  # examples, or networks, under vmap
BIASES = [name for name in LAYERS if "projection" not in name]


@pytest.fixture
def gpu(monkeypatch):
    fake_cudnn.install(monkeypatch.setattr)
    monkeypatch.setattr(fake_cudnn, "CALLS", [])


def draw(seed=0, batch=(B,), time=-1, **options):
    """Random params, xs with time on this axis behind or before the batch, state; float32."""
    rng = np.random.default_rng(seed)
    params = draw_params(rng, dtype=jnp.float32, **options)
    shape = (*batch, T, I) if time else (T, *batch, I)
    state = jax.tree.map(lambda a: a.astype(jnp.float32), draw_state(rng, params, batch))
    return params, jnp.asarray(rng.normal(size=shape), jnp.float32), state


@pytest.mark.parametrize("name", BIASES)
def test_the_vector_is_cudnns(name):
    params, xs, (h, c) = draw(**LAYERS[name])
    lengths = jnp.asarray([2, 5, 1], jnp.int32)
    flat = jnp.concatenate(cudnn_call.pieces([params]))
    assert flat.shape == (rnn.get_num_params_in_lstm(I, H, 1, False),)
    w_x, w_h, b, b_h = (part[0] for part in rnn.unpack_lstm_weights(flat, I, H, 1, False))
    assert_close(w_x.T.reshape(I, 4, H), params.w_x)
    assert_close(w_h.T.reshape(H, 4, H), params.w_h)
    for found, known in ((b, params.b), (b_h, params.b_h)):
        assert_close(found.reshape(4, H), jnp.zeros((4, H), jnp.float32) if known is None else known)
    how = {"input_size": I, "hidden_size": H, "num_layers": 1, "bidirectional": False, "dropout": 0.0}
    y, h_end, c_end = fake_cudnn.reference(xs, h[None], c[None], flat, lengths, cudnn_allow_tf32=False, **how)
    assert_close(((h_end[0], c_end[0]), y), lstm(params, xs, (h, c), lengths=lengths, backend="scan"))


def test_directions_follow_each_other_in_the_vector():
    rng = np.random.default_rng(0)
    layers = [[draw_params(rng, size, biases=2) for _ in range(2)] for size in (I, 2 * H)]
    parts = [part for pair in layers for part in pair]
    unpacked = rnn.unpack_lstm_weights(jnp.concatenate(cudnn_call.pieces(parts)), I, H, 2, True)
    for n, part in enumerate(parts):
        w_x, w_h, b, b_h = (group[n] for group in unpacked)
        assert_close((w_x.T, w_h.T), (part.w_x.reshape(-1, 4 * H), part.w_h.reshape(-1, 4 * H)))
        assert_close((b, b_h), (part.b.ravel(), part.b_h.ravel()))


OPTIONS = {
    "plain": {},
    "no bias": {"biases": 0},
    "lengths": {"lengths": [0, 2, 5]},
    "lengths, hold": {"lengths": [3, 0, 1], "padding": "hold"},
    "lengths, the last": {"lengths": [4, 0, 1], "return_sequences": False},
    "reverse": {"reverse": True},
    "reverse, lengths, hold": {"reverse": True, "lengths": [3, 0, 1], "padding": "hold"},
    "time first": {"time_major": True, "lengths": [5, 4, 0]},
    "no batch": {"batch": (), "lengths": 3},
    "two batch axes": {"batch": (2, B), "lengths": [[0, 2, 5], [1, 1, 3]]},
}


RARE = {"no bias", "lengths", "lengths, hold", "reverse", "two batch axes"}  # the others have parts of each


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in RARE else ()) for n in OPTIONS])
def test_values_and_all_gradients(name, gpu):
    options = {**OPTIONS[name]}
    drawn = {word: options.pop(word) for word in ("batch", "biases") if word in options}
    params, xs, state = draw(time=0 if options.get("time_major") else -1, **drawn)
    if "lengths" in options:
        options["lengths"] = jnp.asarray(options["lengths"])
    found, expected = (
        values_and_pull(
            lambda *arrays, backend=backend: lstm(*arrays, **options, backend=backend),
            (params, xs, state),
            random_like(np.random.default_rng(1), jax.eval_shape(partial(lstm, **options), params, xs, state)),
        )
        for backend in ("cudnn", "scan")
    )
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1], gradient=True)
    assert {call[0] for call in fake_cudnn.CALLS} == {"forward", "backward"}


def test_what_is_called(gpu):
    params, xs, state = draw(biases=2)
    jax.jit(jax.grad(lambda params: lstm(params, xs, state, backend="cudnn")[1].sum())).lower(params)
    how = {"input_size": I, "hidden_size": H, "num_layers": 1, "bidirectional": False, "dropout": 0.0}
    told = (B, T, I), how | {"cudnn_allow_tf32": False}
    assert [("forward", *told), ("backward", *told)] == fake_cudnn.CALLS


@pytest.mark.parametrize("precision", ["default", "tensorfloat32", "highest"])
def test_full_precision_whatever_the_default_is(precision, gpu):
    params, xs, _ = draw()
    with jax.default_matmul_precision(precision):
        jax.jit(lambda xs: lstm(params, xs, backend="cudnn")).lower(xs)
    assert [call[2]["cudnn_allow_tf32"] for call in fake_cudnn.CALLS] == [False]


def test_layers_and_directions_are_a_call_each(gpu):
    rng = np.random.default_rng(0)
    layers = (
        Bidirectional(*(draw_params(rng, dtype=jnp.float32) for _ in range(2))),
        draw_params(rng, 2 * H, dtype=jnp.float32),
    )
    xs, lengths = draw()[1], jnp.asarray([0, 2, 5])
    found, expected = (jax.jit(partial(stacked, lengths=lengths, backend=b))(layers, xs) for b in ("cudnn", "scan"))
    assert_close(found, expected)
    assert {call[:2] for call in fake_cudnn.CALLS} == {("forward", (B, T, I)), ("forward", (B, T, 2 * H))}


def test_numbers_beyond_the_lengths_do_not_count(gpu):
    params, xs, _ = draw()
    lengths = jnp.asarray([0, 2, 5])
    xs = jnp.where(jnp.arange(T)[None, :, None] < lengths[:, None, None], xs, jnp.nan)
    slopes = jax.jit(jax.grad(lambda p, xs: lstm(p, xs, lengths=lengths, backend="cudnn")[1].sum(), (0, 1)))(params, xs)
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves(slopes))


def loss(f, params, xs):
    (h, c), ys = f(params, xs)
    return (jnp.sin(ys) ** 2).sum() + (h * c).sum()


def both(f):
    return jax.grad(partial(loss, f), (0, 1))


def slopes(f, params, xs):
    """A gradient, as a layer's outputs."""
    d_params, d_xs = both(f)(params, xs)
    return (d_params.b, jnp.cos(d_params.b)), d_xs


def many(f, params, xs):
    return jax.vmap(partial(f, params))(xs)


def networks(params):
    return jax.tree.map(lambda a: jnp.stack([a, -a]), params)


def along(f, params, xs):
    return jax.jvp(f, (params, xs), (jax.tree.map(jnp.cos, params), jnp.sin(xs)))[1]


BATCHED = (N * B, T, I)
TRANSFORMS = {  # the calls that are made, by the shape of x
    "grad": (both, {("forward", (B, T, I)), ("backward", (B, T, I))}),
    "grad of xs": (lambda f: jax.grad(partial(loss, f), 1), {("forward", (B, T, I)), ("backward", (B, T, I))}),
    "grad of params": (lambda f: jax.grad(partial(loss, f)), {("forward", (B, T, I)), ("backward", (B, T, I))}),
    "jvp": (lambda f: partial(along, f), {("forward", (B, T, I))}),
    "linearize": (lambda f: lambda p, xs: jax.linearize(f, p, xs)[1](p, xs), {("forward", (B, T, I))}),
    "grad of vmap": (lambda f: both(partial(many, f)), {("forward", BATCHED), ("backward", BATCHED)}),
    "vmap of a grad of xs": (
        lambda f: partial(many, jax.grad(partial(loss, f), 1)),
        {("forward", BATCHED), ("backward", BATCHED)},
    ),
    "vmap of grad": (lambda f: partial(many, both(f)), {("forward", BATCHED)}),
    "vmap over networks": (
        lambda f: both(lambda p, xs: jax.vmap(f, (0, None))(networks(p), xs)),
        {("forward", (B, T, I))},
    ),
    "checkpoint": (lambda f: both(jax.checkpoint(f)), {("forward", (B, T, I)), ("backward", (B, T, I))}),
    "inside scan": (
        lambda f: both(lambda p, xs: jax.lax.scan(lambda h, x: (h, f(p, x)), 0, xs)[1]),
        {("forward", (B, T, I)), ("backward", (B, T, I))},
    ),
    "jacfwd": (lambda f: jax.jacfwd(partial(loss, f), 1), None),
    "jacrev": (lambda f: jax.jacrev(lambda p, xs: f(p, xs)[0]), None),
    "hessian": (lambda f: jax.hessian(partial(loss, f), 1), None),
    "grad of grad": (lambda f: both(lambda p, xs: slopes(f, p, xs)), None),
}
LATER = {"vmap of a grad of xs", "vmap of grad", "jvp", "vmap over networks"}
SLOW = {"jacfwd", "grad of grad", "grad of xs", "grad of params", "linearize", "jacrev", "hessian", "checkpoint"}
DEEP = {"grad of vmap", "vmap of a grad of xs", "vmap of grad", "inside scan"}


def stage(name):
    return pytest.mark.slow if name in SLOW else pytest.mark.thorough if name in LATER else ()


@pytest.mark.parametrize("name", [pytest.param(n, marks=stage(n)) for n in TRANSFORMS])
def test_transforms(name, gpu):
    make, calls = TRANSFORMS[name]
    params, xs, _ = draw(batch=(N, B) if name in DEEP else (B,))
    layer = partial(lstm, lengths=jnp.asarray([0, 2, 5]), reverse=True)
    found, expected = (jax.jit(make(partial(layer, backend=name)))(params, xs) for name in ("cudnn", "scan"))
    assert_close(found, expected, gradient=True)
    assert calls is None or {call[:2] for call in fake_cudnn.CALLS} == calls


def test_the_backward_pass_writes_into_a_copy():
    """The compiler may not drop the copy, whatever it does to others."""
    reserve, other = jax.ShapeDtypeStruct((7,), jnp.float32), jax.ShapeDtypeStruct((2, 3), jnp.float32)
    text = jax.jit(cudnn_call.copied).lower(reserve, other).compile().as_text()
    assert "select" in text
    values, other = draw()[1].ravel(), jnp.asarray([jnp.inf, jnp.nan, 1.0])
    for n in range(3):
        assert_close(cudnn_call.copied(values, other[n:]), values)


def ask(**changes):
    """What a layer on a GPU asks for, changed."""
    params, xs, state = draw()
    options = {
        "step": CellStep(VANILLA), "wrappers": (), "emit": "h", "return_sequences": True, "valid": None,
        "padding": "zero", "resets": False, "reverse": False, "checkpoint": None, "unroll": 1, "axis": 1,
        "params": params, "xs": jnp.moveaxis(xs, 1, 0), "state": state, "platform": "gpu",
    }  # fmt: skip
    return request.Request(**options | changes)


def second(step):
    return step


def shaped(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


PARAMS = draw()[0]
REFUSED = {
    "cpu": ({"platform": "cpu"}, "it runs on NVIDIA GPUs, but the platform is cpu. Pass backend='scan'."),
    "tpu": ({"platform": "tpu"}, "but the platform is tpu."),
    "own step": ({"step": second}, "it computes its own LSTM, but step is a step of yours. Pass backend='scan'."),
    "cell": ({"step": CellStep(find_cell("peephole"))}, "it knows the vanilla cell only, but the cell is 'peephole'."),
    "projection": (
        {"params": PARAMS._replace(w_p=shaped(H, H))},
        "it runs without a projection here, but the parameters have w_p. Pass backend='scan'.",
    ),
    "wrappers": (
        {"wrappers": (Zoneout(0.1), RecurrentDropout(0.5))},
        "nothing can stand around its steps, but wrappers has Zoneout, RecurrentDropout. Pass backend='scan'.",
    ),
    "emit": ({"emit": "c"}, "it gives h only, but emit is 'c'. Pass emit='h', or backend='scan'."),
    "emit a function": ({"emit": second}, "it gives h only, but emit is 'second'."),
    "mask": ({"valid": "mask"}, "a mask may have holes, and it takes lengths only. Pass lengths without a mask, or"),
    "resets": ({"resets": True}, "it knows no resets. Pass backend='scan', or each episode as a sequence of its own."),
    "checkpoint": (
        {"checkpoint": "sqrt"},
        "it saves all that its backward pass needs, but checkpoint is 'sqrt'. Pass checkpoint=None, or",
    ),
    "dtype": (
        {"xs": shaped(T, B, I, dtype=jnp.bfloat16), "state": (shaped(B, H, dtype=jnp.float16), shaped(B, H))},
        "JAX calls it in float32 only, but there is bfloat16, float16. Pass dtype=jnp.float32, or backend='scan'.",
    ),
    "no steps": ({"xs": shaped(0, B, I)}, "it takes nothing empty, but xs has shape (0, 3, 2), time first."),
    "no sequences": ({"xs": shaped(T, 0, I)}, "it takes nothing empty, but xs has shape (5, 0, 2), time first."),
    "too large": (
        {"xs": shaped(2**20, 17, I)},
        "T·B·H is 71303168, beyond 67108864, where what it saves outgrows the numbers that JAX counts it in. Pass "
        "chunks of time or of the batch, each with the state of the one before, or backend='scan'.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, gpu):
    changes, reason = REFUSED[name]
    wanted = ask(**changes)
    assert reason in cudnn.refuses(wanted)
    assert backends.choose("auto", wanted) != "cudnn"
    with pytest.raises(ValueError, match=r"backend='cudnn' cannot run this: "):
        backends.choose("cudnn", wanted)


def test_what_is_served(gpu):
    assert cudnn.refuses(ask()) is None
    assert (
        cudnn.refuses(
            ask(valid="lengths", padding="hold", reverse=True, return_sequences=False, unroll=4, mode="training")
        )
        is None
    )
    assert backends.choose("cudnn", ask()) == "cudnn"


def test_auto_leaves_it_alone_until_it_has_run_on_a_gpu(gpu):
    assert backends.choose("auto", ask()) == "fused"
    params, xs, _ = draw()
    said = {verdict.backend: verdict for verdict in explain_backend(params, xs).verdicts}
    assert said["cudnn"].word == "passed over"
    assert said["cudnn"].reason.startswith("it has been tested without a GPU only")


def test_a_jax_without_cudnn():
    assert cudnn.refuses(ask()) == (
        "JAX has no cuDNN here: its CUDA plugin is not installed (AMD GPUs have none). Install jax[cuda12] or "
        "jax[cuda13], or pass backend='scan'."
    )
    with pytest.raises(ValueError, match="it runs on NVIDIA GPUs, but the platform is cpu"):
        lstm(*draw()[:2], backend="cudnn")


def test_an_unknown_jax(gpu, monkeypatch):
    monkeypatch.delattr(rnn, "lstm_bwd")
    assert f"jax.experimental.rnn of JAX {jax.__version__} has no lstm_bwd." in cudnn.refuses(ask())


def test_an_unknown_jax_that_takes_no_primitive(gpu, monkeypatch):
    monkeypatch.setattr(linear, "available", lambda: "JAX 9 does not take our primitive.")
    assert cudnn.refuses(ask()) == "JAX 9 does not take our primitive. Pass backend='scan', and tell us."


def test_a_mesh_that_the_compiler_splits_over(gpu):
    mesh = AbstractMesh((4, 1), ("batch", "one"), axis_types=(AxisType.Auto,) * 2)
    with jax.sharding.use_abstract_mesh(mesh):
        reason = cudnn.refuses(ask())
    assert reason == (
        "a call of cuDNN cannot be split over the mesh axes batch. Run it inside jax.shard_map, or pass backend='scan'."
    )


SCRIPT = """
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 4)
import fake_cudnn
from functools import partial
from jax.sharding import AxisType, PartitionSpec
from test_cudnn import I, T, both, draw
from tolerances import assert_close
from lstmjax import lstm

fake_cudnn.install(setattr)
params, xs, state = draw(batch=(8,))
lengths = jnp.arange(8) % (T + 1)
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
whole, split = PartitionSpec(), PartitionSpec("batch")

def layer(lengths, params, xs, backend="cudnn"):
    return lstm(params, xs, lengths=lengths, backend=backend)

def outside(params, xs):
    return jax.shard_map(layer, mesh=mesh, in_specs=(split, whole, split), out_specs=split)(lengths, params, xs)

def inside(params, xs):
    run = lambda lengths, params, xs: both(partial(layer, lengths))(params, xs)
    return jax.shard_map(run, mesh=mesh, in_specs=(split, whole, split), out_specs=(whole, split))(lengths, params, xs)

expected = jax.jit(both(partial(layer, lengths, backend="scan")))(params, xs)
assert_close(jax.jit(both(outside))(params, xs), expected, gradient=True)
assert_close(jax.jit(inside)(params, xs), expected, gradient=True)
assert {call[:2] for call in fake_cudnn.CALLS} == {("forward", (2, T, I)), ("backward", (2, T, I))}
print("equal on", len(jax.devices()), "devices")
"""


@pytest.mark.thorough
def test_shard_map():
    """A process of its own, since the number of devices is fixed once JAX has started."""
    folder = Path(__file__).parent
    run = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "equal on 4 devices\n"
