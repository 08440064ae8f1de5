"""The native kernel against the definition in float64: sizes, options, transforms, threads and instruction sets."""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import CHANCE, errors, layer, within_twice_the_error_of_xla
from tolerances import assert_close
from transforms import ALONE, BY_NAME, FLAGS, problem

from lstmjax import Bidirectional, Zoneout, explain_backend, init_params, lstm, stacked, trace
from lstmjax.backends import native, native_call, native_library
from lstmjax.backends.native_arrays import TICKET, Back, Call, Options, absent

LIBRARY = native_library.load()
pytestmark = pytest.mark.skipif(LIBRARY.reason is not None, reason=str(LIBRARY.reason))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.thorough), {"mask": FLAGS, "resets": ~FLAGS, "reverse": True}],
    ids=["plain", "flags"],
)
def test_every_field_of_a_step(time_major, options):
    """Pre-activations beyond +-20 too, which gates that are 0 or 1 do not tell."""
    rng = np.random.default_rng(0)
    rows, steps = FLAGS.shape
    flags = {name: a.T if time_major and name != "reverse" else a for name, a in options.items()}
    xs = jnp.asarray(rng.normal(size=(steps, rows, 5) if time_major else (rows, steps, 5)) * 9)
    state = tuple(jnp.asarray(rng.normal(size=(rows, 7))) for _ in "hc")

    def f(backend, params, xs, state):
        return lstm(params, xs, state, emit="step", time_major=time_major, backend=backend, **flags)

    arguments = layer(rng, 5, 7), xs, state
    within_twice_the_error_of_xla(f, rng, *arguments)


@pytest.mark.parametrize("fields", ["h", "c", ("f", "m"), ("z_i", "z_o"), None], ids=str)
def test_a_trace_is_of_the_pass_that_runs(fields):
    """The same bits as the outputs of the layer, and only what was asked for."""
    params, xs = init_params(jax.random.key(0), 3, 10), jax.random.normal(jax.random.key(1), (4, 11, 3))
    lengths = jnp.array([11, 0, 3, 7])
    assert calls(lambda params, xs: trace(params, xs, fields=fields, lengths=lengths), params, xs) == (1, 0)
    found = trace(params, xs, fields=fields, lengths=lengths)
    assert_close(found, trace(params, xs, fields=fields, lengths=lengths, backend="scan"))
    for name in {"h", "c"} & {*([fields] if isinstance(fields, str) else fields or found._fields)}:
        expected = lstm(params, xs, lengths=lengths, emit=name, backend="native")[1]
        np.testing.assert_array_equal(getattr(found, name), expected)


def test_networks_traced_at_once():
    keys, xs = jax.random.split(jax.random.key(0), 3), jax.random.normal(jax.random.key(1), (3, 4, 11, 2))
    networks = jax.vmap(lambda key: init_params(key, 2, 5))(keys)
    found, expected = (
        jax.vmap(partial(trace, fields=("f", "z_g"), backend=backend))(networks, xs) for backend in ("native", "scan")
    )
    assert_close(found, expected)


@pytest.mark.usefixtures("x64")
def test_a_stack_of_both_directions():
    rng = np.random.default_rng(0)
    layers = Bidirectional(layer(rng, 3, 5), layer(rng, 3, 5)), layer(rng, 10, 6)
    xs = jnp.asarray(rng.normal(size=(4, 7, 3)))

    def f(backend, layers, xs):
        return stacked(layers, xs, lengths=jnp.array([7, 0, 3, 5]), backend=backend)

    within_twice_the_error_of_xla(f, rng, layers, xs)


def test_two_directions_are_joined_without_transposing_a_series():
    xs = jnp.zeros((5, 11, 3))
    pairs = [Bidirectional(*(init_params(jax.random.key(0), inputs, 7) for _ in range(2))) for inputs in (3, 14)]
    run = jax.jit(lambda pairs, xs: stacked(pairs, xs, backend="native")[1])
    program = run.lower(pairs, xs).compile().as_text()
    assert "lstmjax_forward" in program
    assert not re.findall(r"\} (?:transpose|copy)\(", program)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_compute(shape):
    """Values and gradients."""
    params, xs = init_params(jax.random.key(0), 2, 4), jnp.ones((*shape, 2))

    def values_and_pull(backend):
        values, pull = jax.vjp(lambda *a: lstm(*a, backend=backend), params, xs)
        return values, pull(jax.tree.map(jnp.ones_like, values))

    assert_close(values_and_pull("native"), values_and_pull("scan"))


COMMON = {"vjp", "jvp", "vmap_over_examples", "vmap_over_parameters", "shard_map"}
FLAGGED = {"mask": FLAGS, "resets": ~FLAGS}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name}-{'flags' if options else 'plain'}", marks=marks)
        for name in BY_NAME
        for options in ({}, FLAGGED)
        if not options or name not in ALONE  # each sequence by itself has no flags of the others
        for marks in [() if name in COMMON else pytest.mark.slow]
    ],
)
def test_transforms(name, options):
    arguments = problem("plain")
    found, expected = (
        jax.jit(lambda *a, name=name, how=how: BY_NAME[name](how, *a))(
            *jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), arguments)
        )
        for how, dtype in ((options | {"backend": "native"}, "float32"), (options | {"backend": "scan"}, "float64"))
    )
    assert_close(found, expected, gradient=True, dtype="float32")


@pytest.mark.usefixtures("x64")
def test_the_product_with_xs_is_computed_before_the_call_and_mapped():
    """Of a few sequences with many features it is, which leaves arrays without inputs to the call."""
    rng = np.random.default_rng(0)
    rows, steps, inputs, hidden = 2, 5, native.WIDE + 2, 6
    params, xs, weights = (
        layer(rng, inputs, hidden),
        rng.normal(size=(3, rows, steps, inputs)),
        rng.normal(size=(rows, steps, hidden)),
    )
    networks = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, -a, 2 * a]), params)

    def loss(backend, params, xs):
        return (lstm(params, xs, backend=backend)[1] * weights.astype(xs.dtype)).sum()

    def examples_and_networks(backend, params, networks, xs):
        gradient = jax.value_and_grad(partial(loss, backend), (0, 1))
        each = jax.vmap(jax.vmap(gradient, (None, 0)), (0, None))
        return (
            jax.vmap(gradient, (None, 0))(params, xs),
            jax.vmap(gradient, (0, None))(networks, xs[0]),
            each(networks, xs),
        )

    exact, plain, kernel = (
        jax.jit(partial(examples_and_networks, backend))(
            *jax.tree.map(lambda a, dtype=dtype: jnp.asarray(a, dtype), (params, networks, xs))
        )
        for backend, dtype in (("scan", "float64"), ("scan", "float32"), ("native", "float32"))
    )
    assert (errors(kernel, exact) <= 2 * errors(plain, exact) + CHANCE).all()


def test_a_named_kernel_runs_without_jit():
    rng = np.random.default_rng(0)
    params, xs = layer(rng, 3, 4), rng.normal(size=(2, 5, 3)).astype(np.float32)
    gradient = jax.value_and_grad(lambda backend, params: (lstm(params, xs, backend=backend)[1] ** 2).sum(), 1)
    expected = gradient("scan", params)
    with jax.disable_jit():
        found = gradient("native", params)
    assert_close(found, expected, gradient=True, dtype="float32")


def calls(f, *arguments):
    text = jax.jit(f).lower(*arguments).compile().as_text()
    return text.count('custom_call_target="lstmjax_'), text.count(" while(")


@pytest.mark.thorough
def test_examples_and_networks_are_one_call():
    params, xs = init_params(jax.random.key(0), 3, 8), jnp.ones((5, 4, 3))
    networks = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params)

    def loss(params, xs):
        return (lstm(params, xs, backend="native")[1] ** 2).sum()

    assert calls(jax.grad(lambda p, xs: jax.vmap(loss, (None, 0))(p, xs).sum()), params, xs) == (2, 0)
    assert calls(jax.vmap(jax.grad(loss), (0, None)), networks, xs) == (2, 0)
    assert calls(jax.grad(lambda p, xs: jax.vmap(loss, (0, None))(p, xs).sum()), networks, xs) == (2, 0)
    assert calls(loss, params, xs) == (1, 0)


@pytest.mark.parametrize("in_axes", [(0, None), ((0, None), (None, 0)), ((None, 0), (0, None))], ids=str)
def test_what_networks_share_is_not_repeated(in_axes):
    """Parameters alone are mapped; or they are in one vmap, and the inputs in the other, inside or outside of it."""
    twice = in_axes if isinstance(in_axes[0], tuple) else (in_axes,)
    params = jax.vmap(lambda key: init_params(key, 3, 20))(jax.random.split(jax.random.key(0), 7))
    xs = jax.random.normal(jax.random.key(1), (2, 11, 4, 3)[2 - len(twice) :])

    def loss(backend, params, xs):
        return (lstm(params, xs, backend=backend)[1] ** 2).sum()

    def gradients(backend):
        f = jax.value_and_grad(partial(loss, backend), argnums=(0, 1))
        for axes in twice:
            f = jax.vmap(f, axes)
        return jax.jit(f).lower(params, xs).compile()

    program = gradients("native")
    assert_close(program(params, xs), gradients("scan")(params, xs), gradient=True)
    if len(twice) == 1:
        forward = jax.jit(jax.vmap(partial(loss, "native"), (0, None))).lower(params, xs).compile().as_text()
        assert "f32[7,11,4,3]" not in forward


MANY = native_call.MANY
"""Networks of which the library keeps what they save, where `LARGE` is small enough."""


def of_networks(loss, *arguments):
    """A function that returns values and gradients of many networks, anew: what was traced before is not used."""
    return jax.jit(lambda *a: jax.vmap(jax.value_and_grad(loss, argnums=tuple(range(len(arguments)))))(*a))(*arguments)


@pytest.fixture
def networks(monkeypatch):
    """Parameters and inputs of many networks; what they save stays in the library, whatever its size."""
    monkeypatch.setattr(native_call, "LARGE", 0)
    params = jax.vmap(lambda key: init_params(key, 3, 20))(jax.random.split(jax.random.key(0), MANY))
    return params, jax.random.normal(jax.random.key(1), (MANY, 5, 4, 3))


@pytest.mark.parametrize(
    "options", [{}, {"mask": FLAGS, "resets": ~FLAGS, "reverse": True, "time_major": True}], ids=str
)
def test_what_many_networks_save_stays_in_the_library(monkeypatch, networks, options):
    params, xs = networks
    xs = jnp.moveaxis(xs, 1, 2)[:, : len(FLAGS), : FLAGS.shape[1]] if options else xs

    def loss(backend, unroll, params, xs):
        (h, c), ys = lstm(params, xs, backend=backend, unroll=unroll, **options)
        return (ys**2).sum() + (h * c).sum()

    def saves_gates(unroll):
        text = jax.jit(jax.vmap(jax.grad(partial(loss, "native", unroll)))).lower(params, xs).as_text()
        return f"tensor<{MANY}x{xs.shape[1]}x{xs.shape[2]}x4x20xf32>" in text

    assert not saves_gates(1)
    kept = of_networks(partial(loss, "native", 1), params, xs)
    assert_close(kept, of_networks(partial(loss, "scan", 1), params, xs), gradient=True)
    monkeypatch.setattr(native_call, "LARGE", 2**60)
    assert saves_gates(2)  # another option, so that it is traced anew
    results = of_networks(partial(loss, "native", 2), params, xs)
    assert_close(kept, results, gradient=True)  # not the same bits: steps of all rows are added up in another order


def test_a_ticket_is_used_twice(networks):
    """The second time, what was saved is computed again."""
    ys, pull = jax.vjp(jax.vmap(lambda params, xs: lstm(params, xs, backend="native")[1]), *networks)
    heavy = jax.random.normal(jax.random.key(2), ys.shape)
    once = pull(heavy)
    jax.tree.map(np.testing.assert_array_equal, once, pull(heavy))
    several = jax.vmap(pull)(jnp.stack([heavy, 2 * heavy, -heavy]))
    assert_close(jax.tree.map(lambda a: a[2], several), jax.tree.map(jnp.negative, once), gradient=True)


def test_networks_in_a_branch_that_not_all_take(networks):
    """What stands for the gates is then an array like any other, and says so by its numbers."""
    flags = jnp.arange(MANY) % 3 == 0

    def loss(backend, params, xs, flag):
        last = jax.lax.cond(
            flag > 0, lambda: lstm(params, xs, backend=backend)[1], lambda: xs[..., :1] * params.b[3][None, None]
        )
        return (last**2).sum()

    arguments = (*networks, flags.astype(jnp.float32))
    found, expected = (of_networks(partial(loss, backend), *arguments) for backend in ("native", "scan"))
    assert_close(found, expected, gradient=True)


def test_what_is_read_or_split_is_not_kept(networks):
    call = jax.eval_shape(lambda: Call(*(jnp.zeros((1, 4, 5, 4, 8)),) * len(Call._fields)))
    call = call._replace(z=jax.eval_shape(absent))
    assert native_call.keeps(Options(saves=True, for_backward=True), MANY, call)
    assert not native_call.keeps(Options(saves=True), MANY, call)  # c is returned to the caller
    assert not native_call.keeps(Options(saves=True, for_backward=True), MANY - 1, call)
    assert not native_call.keeps(Options(saves=True, for_backward=True), 10**9, call)


def test_donated_arrays():
    params, xs = init_params(jax.random.key(0), 3, 8), jnp.ones((5, 4, 3))
    step = jax.jit(lambda state, xs: lstm(params, xs, state, backend="native"), donate_argnums=0)
    state = jnp.ones((5, 8)), jnp.ones((5, 8))
    expected = lstm(params, xs, state, backend="scan")
    assert_close(step(jax.tree.map(jnp.copy, state), xs), expected)


def test_exported_it_is_plain_jax_on_every_platform():
    rng = np.random.default_rng(0)
    params, xs = init_params(jax.random.key(0), 3, 8), jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32)
    again = jnp.ones((2, 8)), jnp.ones((2, 8))

    def loss(params, xs, again, how):
        return sum((a**2).sum() for a in jax.tree.leaves(lstm(params, xs, reset_state=again, backend="native", **how)))

    for how in ({}, {"mask": rng.random((2, 5)) < 0.6, "resets": rng.random((2, 5)) < 0.5, "reverse": True}):
        f = jax.jit(jax.value_and_grad(partial(loss, how=how), (0, 1, 2)))
        exported = jax.export.export(f, platforms=["cpu", "cuda", "tpu"])(params, xs, again)
        assert "@lstmjax_" not in exported.mlir_module()
        assert_close(exported.call(params, xs, again), f(params, xs, again), gradient=True)


def activate(is_tanh, x):
    library = ctypes.CDLL(str(LIBRARY.path))
    x, y = np.ascontiguousarray(x, np.float32), np.empty(len(x), np.float32)
    pointers = (a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for a in (x, y))
    library.lstmjax_activate(ctypes.c_int(is_tanh), *pointers, ctypes.c_int64(len(x)))
    return y


@pytest.mark.parametrize("is_tanh", [False, True], ids=["sigmoid", "tanh"])
def test_activations_are_within_3_ulp_and_special_numbers_are_those_of_xla(is_tanh):
    bits = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    x = x[np.isfinite(x)]
    exact = np.tanh(x.astype(np.float64)) if is_tanh else 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, None)))
    found, tiny = activate(is_tanh, x), np.finfo(np.float32).tiny
    normal = np.abs(exact) >= tiny
    assert (np.abs(found - exact)[normal] <= 3 * np.spacing(np.abs(exact[normal]).astype(np.float32))).all()
    assert (np.abs(found - exact)[~normal] <= tiny).all()
    special = np.array([np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 3e38, -3e38], np.float32)
    expected = np.asarray(jax.jit(jnp.tanh if is_tanh else jax.nn.sigmoid)(special))
    np.testing.assert_array_equal(activate(is_tanh, special), expected)


SCRIPT = """
import os, zlib
if "ONE" in os.environ:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, numpy as np
from lstmjax import init_params, lstm
from lstmjax.backends import native_library
for rows, steps, inputs, hidden in ((1, 40, 3, 130), (13, 20, 5, 100), (40, 30, 20, 64)):
    params = init_params(jax.random.key(0), inputs, hidden)
    xs = jax.random.normal(jax.random.key(1), (rows, steps, inputs))
    f = jax.jit(lambda *a: jax.vjp(lambda p, xs: lstm(p, xs, backend="native")[1], *a))
    for _ in range(3):
        ys, pull = f(params, xs)
        leaves = [ys, *jax.tree.leaves(pull(ys)[0])]  # the gradient of xs is a product of XLA
        print(zlib.crc32(b"".join(np.asarray(a).tobytes() for a in leaves)))
print(native_library.load().instruction_set)
"""


def outputs_of_a_process(**environment):
    command = [sys.executable, "-c", SCRIPT]
    # Not in the checkout, whose package may be another one than the installed one, without the kernel.
    folder = Path(__file__).parent
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, cwd=folder)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.thorough  # two processes
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the number of processors cannot be limited here")
def test_the_same_bits_for_any_number_of_threads_and_from_run_to_run():
    several, one = outputs_of_a_process(), outputs_of_a_process(ONE="1")
    assert several == one
    assert len(set(several[:-1])) == 3


def affinities():
    """The processors that each thread of this process may run on."""
    found = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            found[thread] = os.sched_getaffinity(thread)
    return found


def restrict_all(processors):
    for thread in affinities():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, processors)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads have no processors of their own here")
def test_the_processors_of_threads_are_left_alone():
    """As `taskset -ap` sets them, while calls run."""
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        pytest.skip("there is one processor")
    rng = np.random.default_rng(7)
    params = jax.tree.map(jnp.float32, layer(rng, 30, 64))
    xs = jnp.float32(rng.normal(size=(32, 40, 30)))
    call = jax.jit(lambda params, xs: lstm(params, xs, backend="native")[1].sum()).lower(params, xs).compile()
    ended, kept = threading.Event(), []

    def calls():
        while not ended.is_set():
            call(params, xs).block_until_ready()

    calling = threading.Thread(target=calls)
    calling.start()
    try:
        for _ in range(20):
            restrict_all({min(every)})
            time.sleep(0.005)
            kept.append(set(map(frozenset, affinities().values())))
            restrict_all(every)
            time.sleep(0.005)
    finally:
        ended.set()
        calling.join()
        restrict_all(every)
    assert kept == 20 * [{frozenset({min(every)})}]
    assert set(map(frozenset, affinities().values())) == {frozenset(every)}


@pytest.mark.thorough  # two processes each; .ci/sanitize compares all instruction sets, too
@pytest.mark.parametrize("name", [pytest.param("avx2", marks=pytest.mark.slow), "baseline"])
def test_a_named_instruction_set_is_right(name):
    """The tests of values, in a process of its own."""
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "stack or nothing or activations"]
    environment = os.environ | {"LSTMJAX_INSTRUCTION_SET": name}
    assert outputs_of_a_process(LSTMJAX_INSTRUCTION_SET=name)[-1] in (name, "baseline", "neon")
    run = subprocess.run(
        [*command, str(folder / "test_native.py")], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert run.returncode == 0, run.stdout


def arrays(rows=3, steps=4, inputs=2, hidden=5):
    state = jnp.zeros((1, rows, hidden))
    weights = jnp.zeros((1, inputs, 4, hidden)), jnp.zeros((1, hidden, 4, hidden)), jnp.zeros((1, 4, hidden))
    flags = absent(bool), absent(bool), absent(), absent()
    return Call(jnp.zeros((1, steps, rows, inputs)), absent(), *weights, state, state, *flags)


WRONG = {
    "w_h has shape (1, 6, 4, 6, ), expected": {"w_x": jnp.zeros((1, 2, 4, 5)), "w_h": jnp.zeros((1, 6, 4, 6))},
    "w_x has shape": {"w_x": jnp.zeros((1, 3, 4, 5))},
    "b has shape": {"b": jnp.zeros((1, 4, 6))},
    "h0 has shape": {"h0": jnp.zeros((1, 4, 5))},
    "valid has shape": {"valid": jnp.zeros((1, 4, 4), bool)},
    "h_reset has shape": {"resets": jnp.zeros((1, 4, 3), bool)},
    "b is not float32": {"b": jnp.zeros((1, 4, 5), jnp.int32)},
    "valid is not bool": {"valid": jnp.zeros((1, 4, 3))},
    "an array is empty": {"x": jnp.zeros((1, 0, 3, 2))},
}


@pytest.mark.parametrize("message", WRONG)
def test_the_kernel_refuses_shapes_that_do_not_fit(message):
    """Its border to XLA, behind all checks of the library."""
    with pytest.raises(Exception, match="lstmjax: ") as error:
        native_call.run_compiled(Options(), "forward", *arrays()._replace(**WRONG[message]))
    assert message in str(error.value) or message.startswith("w_h")


def test_the_kernel_refuses_slopes_that_do_not_fit():
    call, series = arrays(), jnp.zeros((1, 4, 3, 5))
    good = Back(
        call.x, call.w_x, call.w_h, call.b, call.h0, call.c0, *call[7:], series, series, jnp.zeros((1, 4, 3, 4, 5)),
        jnp.zeros((1, TICKET)), series, absent(), call.h0, call.c0,
    )  # fmt: skip
    native_call.run_compiled(Options(), "backward", *good)
    for name, message in (("dh", "dh has shape"), ("gates", "gates has shape"), ("c", "c has shape")):
        with pytest.raises(Exception, match=message):
            native_call.run_compiled(Options(), "backward", *good._replace(**{name: jnp.zeros((1, 4, 3, 6))}))
    with pytest.raises(Exception, match="h is a ring, but the gradient reads h of all steps"):
        native_call.run_compiled(Options(ring=True), "backward", *good)


def opened(step):
    return step.f.mean(-1)


def test_what_is_refused_and_what_auto_runs_then():
    params, xs = init_params(jax.random.key(0), 2, 4), jnp.ones((5, 3, 2))
    assert explain_backend(params, xs).name == "native"
    reasons = {
        "it computes in float32, but there is bfloat16. Pass dtype=jnp.float32, or backend='fused'.": {
            "dtype": jnp.bfloat16
        },
        "nothing can stand around its steps, but wrappers has Zoneout. Pass backend='fused'.": {
            "wrappers": (Zoneout(0.1),)
        },
        "it returns h, c or a Step, but emit is 'opened'. Pass emit='h', 'c' or 'step', or backend='fused'.": {
            "emit": opened
        },
        "a Step is returned at all steps, but return_sequences is False. Pass return_sequences=True, or "
        "backend='fused'.": {"emit": "step", "return_sequences": False},
        "a Step is zero at steps that are not valid, but padding is 'hold'. Pass padding='zero', or backend='fused'.": {
            "emit": "step",
            "padding": "hold",
            "lengths": jnp.array([1, 2, 3, 0, 2]),
        },
        "a Step is not cut into segments, but checkpoint is 2. Pass backend='fused'.": {
            "emit": "step",
            "checkpoint": 2,
        },
    }
    for reason, options in reasons.items():
        assert explain_backend(params, xs, backend="native", **options).verdicts[0].reason == reason
        assert explain_backend(params, xs, **options).name == "fused"
    wide = jax.eval_shape(lambda: init_params(jax.random.key(0), 2, 512))
    large = explain_backend(wide, jnp.ones((64, 128, 2)), emit="step")
    assert large.name == "fused"
    assert "a Step of 46,137,344 numbers with its pre-activations is copied" in str(large)
    peephole = init_params(jax.random.key(0), 2, 4, cell="peephole")
    assert (
        "but the cell is 'peephole'"
        in explain_backend(peephole, xs, cell="peephole", backend="native").verdicts[0].reason
    )
    projected = init_params(jax.random.key(0), 2, 4, projection_size=3)
    assert "the parameters have w_p" in explain_backend(projected, xs, backend="native").verdicts[0].reason
    with jax.debug_nans(True):
        assert explain_backend(params, xs).name == "fused"


def test_without_a_library_auto_goes_on(monkeypatch):
    monkeypatch.setattr(native_library, "load", lambda: native_library.Library(reason="there is none."))
    params, xs = init_params(jax.random.key(0), 2, 4), jnp.ones((3, 5, 2))
    choice = explain_backend(params, xs)
    assert choice.name == "fused"
    with pytest.raises(ValueError, match=r"backend='native' cannot run this: there is none. Or pass backend='fused'."):
        lstm(params, xs, backend="native")


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from functools import partial
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tolerances import assert_close
from lstmjax import init_params, lstm

mesh = jax.make_mesh((2, 2), ("batch", "more"), axis_types=(AxisType.Auto,) * 2)
params, xs = init_params(jax.random.key(0), 3, 8), jax.random.normal(jax.random.key(1), (8, 5, 3))
mask = jax.random.bernoulli(jax.random.key(2), 0.7, (8, 5))

def loss(backend, params, xs, mask):
    return (lstm(params, xs, mask=mask, resets=~mask, backend=backend)[1] ** 2).sum()

def slopes(backend):
    return jax.jit(jax.value_and_grad(partial(loss, backend), (0, 1)))

def check(found, expected, text, reduced):
    assert_close(found, expected, gradient=True)
    assert "all-gather" not in text and ("all-reduce" in text) == reduced and text.count('target="lstmjax_') == 2

split = jax.device_put((xs, mask), NamedSharding(mesh, PartitionSpec(("batch", "more"))))
text = slopes("native").lower(params, *split).compile().as_text()
found = slopes("native")(params, *split)
assert found[1][1].sharding.spec == PartitionSpec(("batch", "more"))
check(found, slopes("scan")(params, xs, mask), text, True)
outside = jax.value_and_grad(partial(loss, "native"), (0, 1))  # of jax.jit: the backward call is a program alone
for arrays in ((xs, mask), split, jax.device_put((xs, mask), jax.devices()[3])):
    assert_close(outside(params, *arrays), found, gradient=True)

networks = jax.vmap(lambda key: init_params(key, 3, 8))(jax.random.split(jax.random.key(0), 4))
each = lambda backend: jax.jit(jax.vmap(lambda p: jax.grad(partial(loss, backend))(p, xs, mask)))
spread = jax.device_put(networks, NamedSharding(mesh, PartitionSpec("batch")))
check(each("native")(spread), each("scan")(networks), each("native").lower(spread).compile().as_text(), False)
print("equal")
"""


@pytest.mark.thorough  # a process of four devices
def test_what_is_sharded_stays_so():
    run = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert run.stdout == "equal\n", run.stderr


@pytest.mark.parametrize(("batch", "steps", "name"), [(4, 7, "fused"), (5, 7, "native"), (4, 8, "native")])
def test_a_few_short_sequences_are_left_to_fused(batch, steps, name):
    choice = explain_backend(init_params(jax.random.key(0), 3, 7), jax.ShapeDtypeStruct((batch, steps, 3), "float32"))
    assert choice.name == name
    if name == "fused":
        assert "native passed over: 4 x 7 steps do not pay for packing the weights" in str(choice)
