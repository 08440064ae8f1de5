"""One step at a time: the bits of the sequence, the oracle's numbers, states, threads, refusals."""

import copy
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import random_like, take
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close

from lstmjax import (
    Bidirectional,
    RecurrentDropout,
    Zoneout,
    compile_step,
    init_network,
    init_params,
    init_stacked,
    lstm,
    network,
    oracle,
    stacked,
)
from lstmjax.backends import native_library, native_stream

MISSING = native_library.load().reason
needs_kernel = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
BACKENDS = [pytest.param("native", marks=needs_kernel), "jax"]
B, T, I, H, O = 3, 7, 5, 4, 2
RNG = np.random.default_rng(0)


def drawn(make, rng=RNG):
    return random_like(rng, jax.eval_shape(make))


LAYER = drawn(lambda: init_params(jax.random.key(0), I, H, bias="double"))
STACK = drawn(lambda: init_stacked(jax.random.key(0), I, H, 2))
NETWORK = drawn(lambda: init_network(jax.random.key(0), I, H, O, 2))
XS = RNG.normal(size=(B, T, I)).astype(np.float32)
KINDS = {"layer": (LAYER, lstm), "stack": (STACK, stacked), "network": (NETWORK, network)}


def as_sequence(params, xs, state=None, **options):
    call = next(call for kind, call in KINDS.values() if type(kind) is type(params))
    return call(params, xs, state, return_sequences=True, **options)


def numpy_of(tree):
    return jax.tree.map(np.asarray, tree)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_the_sequence(kind, batched, backend):
    params, _ = KINDS[kind]
    xs = XS if batched else XS[0]
    step = compile_step(params, batch_size=B if batched else None, backend=backend)
    assert (step.backend, step.reason is None) == (backend, backend == "native")
    state, ys = as_sequence(params, xs)
    assert_close(np.stack([step(x) for x in np.moveaxis(xs, -2, 0)], axis=-2), np.asarray(ys))
    assert_close(step.state, numpy_of(state))
    assert jax.tree.structure(step.state) == jax.tree.structure(state)
    step.reset()
    few = np.concatenate([step(xs[..., :0, :]), step(xs[..., :4, :]), step(xs[..., 4:, :])], axis=-2)
    assert_close(few, np.asarray(ys))
    assert type(few) is np.ndarray


SIZES = (
    st.integers(1, 3), st.sampled_from([None, 1, 2, 5, 8, 13]), st.integers(1, 9), st.integers(1, 40),
    st.sampled_from([1, 3, 8, 15, 16, 17, 33, 64, 65, 70]), st.sampled_from([0, 1, 10, 67]), st.booleans(),
    st.integers(0, 2**20),
)  # fmt: skip


@needs_kernel
@pytest.mark.parametrize("count", [5, pytest.param(25, marks=pytest.mark.slow)])
def test_any_size_agrees_with_the_oracle(count):
    few = settings(max_examples=count, deadline=None, derandomize=True, database=None)
    few(given(*SIZES)(agrees_with_the_oracle))()


def agrees_with_the_oracle(layers, batch, steps, inputs, hidden, outputs, residual, seed):
    rng = np.random.default_rng(seed)
    params = drawn(lambda: init_network(jax.random.key(0), inputs, hidden, outputs or 1, layers), rng)
    params = jax.tree.map(lambda a: a * 0.6 / np.float32(np.sqrt(a.shape[0] / 4 + 1)), params)
    shape = () if batch is None else (batch,)
    state = tuple((rng.normal(size=(*shape, hidden)), rng.normal(size=(*shape, hidden))) for _ in range(layers))
    state = jax.tree.map(np.float32, state)
    xs = rng.normal(size=(*shape, steps, inputs)).astype(np.float32)
    step = compile_step(
        params if outputs else params.layers, batch_size=batch, state=state, residual=residual, backend="native"
    )
    parts = sorted(rng.integers(0, steps + 1, 2))
    found = np.concatenate([step(part) for part in np.split(xs, parts, axis=-2)], axis=-2)
    step.reset()
    np.testing.assert_array_equal(np.stack([step(x) for x in np.moveaxis(xs, -2, 0)], axis=-2), found)
    ends, expected = [], []
    for n in range(batch or 1):
        below = np.float64(xs if batch is None else xs[n])
        ends.append([])
        for k, layer in enumerate(params.layers):
            begin = jax.tree.map(np.float64, state[k] if batch is None else take(state[k], n))
            (end, steps_of_layer), _ = oracle.lstm(jax.tree.map(np.float64, layer), below, begin)
            below = steps_of_layer.h + (below if residual and k else 0)
            ends[-1].append(end)
        if outputs:
            below = below @ np.float64(params.head.w) + np.float64(params.head.b)
        expected.append(below)
    ends = [jax.tree.map(lambda *a: np.stack(a), *layer) for layer in zip(*ends, strict=True)]
    ends, expected = (ends, np.stack(expected)) if batch else (jax.tree.map(lambda a: a[0], ends), expected[0])
    assert_close(found, expected, dtype="float32")
    assert_close(list(step.state), ends, dtype="float32")


@needs_kernel
@pytest.mark.parametrize("batch", [1, 6, 9])
@pytest.mark.parametrize("hidden", [3, 40, 130])
def test_a_step_has_the_bits_of_the_sequence_kernel(batch, hidden):
    params = drawn(lambda: init_stacked(jax.random.key(0), 11, hidden, 2))
    xs = RNG.normal(size=(batch, T, 11)).astype(np.float32)
    with jax.disable_jit(False):
        state, ys = stacked(params[:1], xs, backend="native")
    step = compile_step(params[:1], batch_size=batch, backend="native")
    np.testing.assert_array_equal(np.stack([step(x) for x in xs.swapaxes(0, 1)], axis=1), ys)
    jax.tree.map(np.testing.assert_array_equal, step.state, state)


@needs_kernel
def test_subnormal_numbers_are_those_of_the_sequence():
    """A state that decays ends in them; the kernel takes them for zero, in a step as in a sequence."""
    begin = (np.full((1, H), 3e-39, np.float32), np.full((1, H), -2e-39, np.float32))
    weak = LAYER._replace(b=LAYER.b - 20, w_x=LAYER.w_x * 1e-19)
    xs = np.full((1, T, I), 1e-20, np.float32)
    state, ys = lstm(weak, xs, begin, backend="native")
    step = compile_step(weak, batch_size=1, state=begin, backend="native")
    np.testing.assert_array_equal(step(xs), ys)
    jax.tree.map(np.testing.assert_array_equal, step.state, state)


@pytest.mark.parametrize("backend", BACKENDS)
def test_objects_taken_in_turns_keep_their_states(backend):
    first, second = (compile_step(params, backend=backend) for params in (LAYER, STACK))
    third = first.copy()
    found = {step: [] for step in (first, second, third)}
    for t in range(T):
        found[first].append(first(XS[0, t]))
        found[second].append(second(XS[1, t]))
        if t == 2:
            third.state = first.state
            fourth = copy.copy(first)
        if t > 2:
            found[third].append(third(XS[2, t]))
    assert_close(np.stack(found[first]), np.asarray(lstm(LAYER, XS[0])[1]))
    assert_close(np.stack(found[second]), np.asarray(stacked(STACK, XS[1])[1]))
    middle, _ = lstm(LAYER, XS[0, :3])
    assert_close(np.stack(found[third]), np.asarray(lstm(LAYER, XS[2, 3:], middle)[1]))
    assert_close(fourth.state, numpy_of(middle))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shared", [False, True])
def test_threads_step_at_once(shared, backend):
    xs = RNG.normal(size=(2, 300, I)).astype(np.float32)
    steps = [compile_step(STACK, backend=backend)]
    steps.append(steps[0].copy() if shared else compile_step(STACK, backend=backend))
    found = [[], []]
    start = threading.Barrier(2)

    def run(n):
        start.wait()
        found[n] = [steps[n](x) for x in xs[n]]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(2):
        again = compile_step(STACK, backend=backend)
        np.testing.assert_array_equal(np.stack(found[n]), np.stack([again(x) for x in xs[n]]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_on_the_same_object_take_turns(backend):
    """Each step is a whole one: what an input that is the same everywhere gives does not depend on the order."""
    step = compile_step(LAYER, backend=backend)
    found = []

    def run():
        for _ in range(200):
            found.append(step(XS[0, 0]))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = compile_step(LAYER, backend=backend)
    expected = {again(XS[0, 0]).tobytes() for _ in range(400)}
    assert {y.tobytes() for y in found} == expected
    assert_close(step.state, again.state)


@needs_kernel
def test_a_long_call_lets_other_threads_run():
    step = compile_step(drawn(lambda: init_params(jax.random.key(0), 8, 256)), backend="native")
    assert step._steps._function(1) is step._steps.library.run
    assert step._steps._function(1000) is step._steps.library.run_without_lock


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_later_changes_of_arrays_do_not_reach_it(kind, backend):
    params = jax.tree.map(np.array, KINDS[kind][0])
    begin = jax.tree.map(np.array, compile_step(params, batch_size=B).state)
    step = compile_step(params, batch_size=B, state=begin, backend=backend)
    expected = step(XS)
    for a in jax.tree.leaves((params, begin, step.state)):
        a[...] = 7.0
    assert_close(step.state, numpy_of(as_sequence(KINDS[kind][0], XS)[0]))
    step.reset()
    x = XS.copy()
    first = step(x[:, 0])
    kept = first.copy()
    x[...] = 5.0
    step(x[:, 1])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first, expected[:, 0], rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_state_is_set_and_reset(backend):
    begin = (jnp.full(H, 0.25), jnp.linspace(-1, 1, H))  # for all sequences alike
    step = compile_step(LAYER, batch_size=B, state=begin, backend=backend)
    assert_close(step(XS), np.asarray(lstm(LAYER, XS, begin)[1]))
    middle = step.state
    step.reset(where=np.array([True, False, True]))
    again = step(XS[:, 0])
    wide = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, H)), begin)
    mixed = jax.tree.map(lambda new, old: np.where([[True], [False], [True]], new, old), wide, middle)
    assert_close(again, np.asarray(lstm(LAYER, XS[:, :1], mixed)[1])[:, 0])
    step.state = begin
    assert_close(step.state, numpy_of(wide))
    step.state = middle
    assert_close(step.state, middle)
    step.reset()
    assert_close(step.state, numpy_of(wide))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_layer_of_a_stack_takes_its_state_without_the_tuple(backend):
    begin = (np.full(H, 0.5, "f"), np.full(H, -0.5, "f"))
    step = compile_step(STACK[:1], state=begin, backend=backend)
    assert_close(step.state, (begin,))
    step = compile_step(STACK, state=(None, begin), backend=backend)
    assert_close(step.state, ((0 * begin[0], 0 * begin[1]), begin))


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_of_every_kind(backend):
    step, expected = compile_step(LAYER, backend=backend), np.asarray(lstm(LAYER, XS[0, :1])[1])[0]
    every = [jnp.asarray(XS[0, 0]), XS[0, 0].tolist(), XS[0, 0].astype(np.float64), XS[0].T[:, 0]]
    for x in every:
        step.reset()
        assert_close(step(x), expected)
    step.reset()
    assert_close(step(np.asfortranarray(XS[0])), np.asarray(lstm(LAYER, XS[0])[1]))
    cast = compile_step(LAYER, dtype=jnp.float32, backend=backend)
    assert_close(cast(np.arange(I)), np.asarray(lstm(LAYER, np.arange(I)[None], dtype=jnp.float32)[1])[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_are_not_finite_go_through(backend):
    step = compile_step(LAYER, backend=backend)
    step(np.full(I, np.inf, np.float32))
    assert np.isnan(step(np.full(I, np.nan, np.float32))).all()
    step.reset()
    assert_close(step(XS[0]), np.asarray(lstm(LAYER, XS[0])[1]))


SHAPES = {
    "x has 4 features on its last axis, but the parameters expect I = 5": np.ones(4, "f"),
    "x has shape () and dtype float32, expected [I] of floating-point numbers": np.float32(1),
    "x has shape (5,) and dtype int32, expected [I] of floating-point numbers. Symbols": np.ones(5, np.int32),
    "x has shape (2, 3, 5), expected [I] = (5,), or [n, I] for n steps. The step was compiled with batch_size=None": (
        np.ones((2, 3, 5), "f")
    ),
    "x is float16, but the parameters are float32": np.ones(5, np.float16),
    "x is None, expected an array of numbers": None,
    "x is 'abc', expected an array of numbers": "abc",
    "x is a masked array of NumPy": np.ma.array(np.ones(5, "f"), mask=[True, False, False, False, False]),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_do_not_fit_are_refused_and_lose_nothing(backend):
    step = compile_step(LAYER, backend=backend)
    step(XS[0])
    state = step.state
    for words, x in SHAPES.items():
        with pytest.raises((ValueError, TypeError)) as error:
            step(x)
        assert str(error.value).startswith(words), str(error.value)
    with pytest.raises(TypeError, match=r"^x is traced, but a compiled step runs outside of JAX's transformations"):
        jax.jit(step)(XS[0, 0])
    batched = compile_step(LAYER, batch_size=B, backend=backend)
    for x in (XS[0, 0], XS[:2, 0], XS[0], XS[:, None]):
        with pytest.raises(
            ValueError, match=r"^x has shape .*, expected \[B, I\] = \(3, 5\), or \[B, n, I\] for n steps"
        ):
            batched(x)
    with pytest.raises(ValueError, match=r"^where has shape \(2,\) and dtype bool, expected bool \[B\] = \(3,\)"):
        batched.reset(where=np.ones(2, bool))
    with pytest.raises(ValueError, match=r"^where has shape \(3,\) and dtype float32, expected bool \[B\] = \(3,\)"):
        batched.reset(where=np.ones(3, "f"))
    with pytest.raises(ValueError, match=r"^where .* expected None, since there is no batch"):
        step.reset(where=True)
    for bad in ((XS[0, 0], XS[0, 0]), state[0], None, (state[0], state[1].astype(int)), (state,)):
        with pytest.raises((ValueError, TypeError), match=r"^state "):
            step.state = bad
    assert_close(step.state, state)


def test_what_cannot_be_stepped_is_refused():
    pair = Bidirectional(LAYER, LAYER)
    for params in (pair, (pair,), (LAYER, pair), NETWORK._replace(layers=(pair,))):
        with pytest.raises(ValueError, match=r"^layer [01] is a Bidirectional pair, whose reverse direction begins"):
            compile_step(params)
    with pytest.raises(TypeError, match=r"^params is a dict, expected LSTMParams"):
        compile_step({})
    with pytest.raises(ValueError, match=r"^the parameters are an ensemble of 2 networks"):
        compile_step(jax.tree.map(lambda a: jnp.stack([a, a]), LAYER))
    with pytest.raises(ValueError, match=r"^w_h has shape"):
        compile_step(LAYER._replace(w_h=LAYER.w_h[:3]))
    with pytest.raises(ValueError, match=r"^layer 1 expects I = 5 features, but layer 0 gives 4"):
        compile_step((LAYER, LAYER))
    with pytest.raises(ValueError, match=r"^batch_size is 0, expected a whole number of at least 1"):
        compile_step(LAYER, batch_size=0)
    with pytest.raises(ValueError, match=r"^backend is 'fused', expected one of 'auto', 'native', 'jax'"):
        compile_step(LAYER, backend="fused")
    with pytest.raises(ValueError, match=r"^residual=True is for several layers"):
        compile_step(LAYER, residual=True)
    with pytest.raises(ValueError, match=r"^state h has shape \(3,\), expected \(4,\)"):
        compile_step(LAYER, state=(jnp.ones(3), jnp.ones(4)))
    with pytest.raises(ValueError, match=r"^wrappers holds a tuple of 2, expected wrappers alone"):
        compile_step(LAYER, wrappers=((Zoneout(0.1, 0.1), ()),))
    with pytest.raises(TypeError, match=r"^params is traced, but a step is compiled outside"):
        jax.jit(compile_step)(LAYER)
    with pytest.raises(ValueError, match=r"^there is no cell 'gru'|^cell is 'gru'"):
        compile_step(LAYER, cell="gru")


FALLBACKS = {
    "it knows the vanilla cell only, but the cell is 'peephole'. Pass backend='jax'.": (
        drawn(lambda: init_params(jax.random.key(0), I, H, cell="peephole")),
        {"cell": "peephole"},
    ),
    "it runs without a projection, but the parameters have w_p. Pass backend='jax'.": (
        drawn(lambda: init_stacked(jax.random.key(0), I, H, 2, projection_size=3)),
        {},
    ),
    "nothing can stand around its steps, but wrappers has Zoneout. Pass backend='jax'.": (
        NETWORK,
        {"wrappers": (Zoneout(0.1, 0.2),)},
    ),
    "it computes in float32, but there is bfloat16. Pass dtype=jnp.float32, or backend='jax'.": (
        STACK,
        {"dtype": jnp.bfloat16},
    ),
}


@pytest.mark.parametrize("reason", FALLBACKS)
def test_what_the_kernel_does_not_serve_runs_on_jax(reason):
    params, options = FALLBACKS[reason]
    step = compile_step(params, batch_size=B, **options)
    assert (step.backend, step.reason) == ("jax", reason)
    assert reason in repr(step)
    state, ys = as_sequence(params, XS, **options)
    found = np.stack([step(x) for x in XS.swapaxes(0, 1)], axis=1)
    assert_close(found.astype(np.float32), np.asarray(ys).astype(np.float32), dtype=ys.dtype)
    assert jax.tree.map(jnp.result_type, step.state) == jax.tree.map(jnp.result_type, state)
    step.state = step.state
    with pytest.raises(ValueError, match=r"^backend='native' cannot run this: "):
        compile_step(params, backend="native", **options)


def test_dropout_between_steps_is_for_training_and_has_no_effect():
    step = compile_step(LAYER, wrappers=(RecurrentDropout(0.5),))
    assert_close(step(XS[0]), np.asarray(lstm(LAYER, XS[0])[1]))


def test_without_the_library_it_runs_on_jax_and_says_why(monkeypatch):
    missing = native_library.Library(reason="the native kernel was not built: there is no library.")
    monkeypatch.setattr(native_library, "load", lambda: missing)
    step = compile_step(NETWORK)
    assert step.backend == "jax"
    assert step.reason == "the native kernel was not built: there is no library. Or pass backend='jax'."
    assert_close(step(XS[0]), np.asarray(network(NETWORK, XS[0], return_sequences=True, backend="scan")[1]))


@needs_kernel
def test_a_library_without_these_functions_is_a_reason(monkeypatch):
    class Old:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(native_stream.ctypes, "PyDLL", lambda path: Old())
    reason = native_stream.functions.__wrapped__()
    assert "the native kernel is older than this lstmjax" in reason
    assert "lstmjax_network_new" in reason


@pytest.mark.usefixtures("x64")
def test_float64_runs_on_jax():
    params = drawn(lambda: init_params(jax.random.key(0), I, H, dtype=jnp.float64))
    step, xs = compile_step(params), XS[0].astype(np.float64)
    assert step.backend == "jax"
    (end, steps), _ = oracle.lstm(numpy_of(params), xs)
    assert_close(step(xs), steps.h)
    assert_close(step.state, end)
    with pytest.raises(ValueError, match=r"^x is float32, but the parameters are float64"):
        step(XS[0, 0])


def test_a_step_is_copied_but_not_pickled():
    step = compile_step(LAYER)
    step(XS[0])
    deep = copy.deepcopy(step)
    step.reset()
    assert_close(deep.state, numpy_of(lstm(LAYER, XS[0])[0]))
    with pytest.raises(TypeError, match=r"^a compiled step cannot be pickled\. Pickle its params and its state"):
        pickle.dumps(step)


@needs_kernel
def test_looking_at_numbers_is_for_jax():
    with jax.debug_nans(True):
        step = compile_step(LAYER)
        assert step.backend == "jax"
        assert "numbers inside its calls cannot be looked at" in step.reason


WRONG = {
    "the size of a w_x does not fit": (5, (4,), 0, 0, (79, 64, 16)),
    "the size of a w_h does not fit": (5, (4,), 0, 0, (80, 63, 16)),
    "the size of a b does not fit": (5, (4,), 0, 0, (80, 64, 15)),
    "there are no layers, or too many": (5, (), 0, 0, ()),
    "inputs or outputs are out of range": (0, (4,), 0, 0, (0, 64, 16)),
    "the units of a layer are out of range": (5, (-4,), 0, 0, (80, 64, 16)),
    "a layer with a residual connection is not as wide as the one below": (5, (4, 3), 0, 1, (80, 64, 16, 48, 36, 12)),
    "the size of w of the head does not fit": (5, (4,), 2, 0, (80, 64, 16, 7, 2)),
    "the size of b of the head does not fit": (5, (4,), 2, 0, (80, 64, 16, 8, 1)),
}


@needs_kernel
@pytest.mark.parametrize("words", WRONG)
def test_the_library_checks_sizes_itself(words):
    import ctypes

    inputs, hidden, outputs, residual, floats = WRONG[words]
    arrays = [np.zeros(max(n, 1), np.float32) for n in floats]
    pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    made = ctypes.c_void_p()
    hidden, sizes = (ctypes.c_int64 * len(hidden))(*hidden), (ctypes.c_int64 * len(floats))(*floats)
    library = native_stream.functions()
    error = library.network_new(inputs, len(hidden), hidden, outputs, residual, pointers, sizes, ctypes.byref(made))
    assert error.decode() == words


@needs_kernel
def test_the_library_checks_the_sizes_of_a_run():
    step = compile_step(LAYER, backend="native")
    steps, x = step._steps, np.zeros(64, np.float32)
    for sizes, words in (((4, 4), "xs"), ((5, 5), "ys")):
        error = steps.library.run(steps.stream.pointer, 1, x.ctypes.data, sizes[0], x.ctypes.data, sizes[1])
        assert error.decode() == f"the size of {words} does not fit"
    assert (
        steps.library.run(steps.stream.pointer, -1, None, 0, None, 0).decode() == "the number of steps is out of range"
    )
    assert (
        steps.library.state(steps.stream.pointer, 1, x.ctypes.data, 7).decode() == "the size of the state does not fit"
    )
    with pytest.raises(RuntimeError, match=r"the native kernel refuses a call of lstmjax: .* please report it"):
        native_stream._checked(b"the size of xs does not fit")
