"""The native kernel's calls in plain JAX: they compute what the kernel does, and are what `jax.export` takes."""

import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from lstmjax import init_params, lstm
from lstmjax.backends import native_call, native_library, native_plain
from lstmjax.backends.native_arrays import NOT_SAVED, Back, Call, Options, absent

N, T, B, I, H = 2, 5, 3, 6, 4


@pytest.fixture
def kernel():
    """Skips where the kernel is not built; in CI it must be."""
    reason = native_library.load().reason
    if reason is not None:
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)


def draw(options, flagged):
    """Arguments of a forward call, and a function of its results that returns those of a backward call."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape) * 0.5, jnp.float32)

    series = (N, B, T) if options.batch_major else (N, T, B)
    flags = [jnp.asarray(rng.random((N, T, B)) < p) if flagged else absent(bool) for p in (0.7, 0.3)]
    again = [normal(N, B, H) if flagged else absent() for _ in "hc"]
    weights = normal(N, I, 4, H), normal(N, H, 4, H)
    state = normal(N, B, H), normal(N, B, H)
    call = Call(normal(*series, I), normal(*series, 4, H), *weights, normal(N, 4, H), *state, *flags, *again)
    slopes = normal(*series, H), normal(*series, H), normal(N, B, H), normal(N, B, H)

    def back(h, c, gates, sums, h_end, c_end, ticket):
        return Back(call.x, *weights, call.b, *state, *flags, *again, h, c, gates, ticket, *slopes)

    return call, back


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("batch_major", "reverse", "flagged"), [*itertools.product([False, True], repeat=3)])
def test_both_calls_compute_what_the_kernel_computes(batch_major, reverse, flagged):
    options = Options(batch_major, reverse, saves=True, sums=flagged, slopes_of_x=not reverse, slopes_of_reset=flagged)
    call, back = draw(options, flagged)
    results = native_call.forward(options, call)
    assert_close(native_plain.forward(options, call)[:-1], tuple(results)[:-1])  # of the call alone there is no ticket
    arguments = back(*results)
    assert_close(
        native_plain.backward(options, arguments), tuple(native_call.backward(options, arguments)), gradient=True
    )


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("flagged", [False, True])
def test_what_was_not_saved_is_computed_again(flagged):
    options = Options(batch_major=flagged, saves=True, slopes_of_x=True, slopes_of_reset=flagged)
    call, back = draw(options, flagged)
    call = call._replace(z=absent())
    results = native_call.forward(options, call)
    expected = native_plain.backward(options, back(*results))
    not_saved = results._replace(gates=results.gates.at[0].set(NOT_SAVED), c=results.c.at[0].set(jnp.nan))
    keeping = options._replace(keeps=True)
    kept = native_call.forward(keeping, call)
    assert not native_plain.exists(kept.gates)
    assert (kept.ticket[:, 0] > 0).all()
    plain = native_call.Results(*native_plain.forward(keeping, call))
    for run in (native_plain.backward, native_call.backward):
        # dz is written where the gates were; of a network without gates it is not wanted.
        assert_close(tuple(run(options, back(*not_saved)))[1:], expected[1:], gradient=True)
        for ticket in (kept.ticket, kept.ticket, plain.ticket, jnp.full((N, 3), jnp.nan)):
            found = tuple(run(keeping, back(*kept._replace(ticket=ticket))))
            assert_close(found[1:], expected[1:], gradient=True)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("return_sequences", [True, False])
def test_an_exported_layer_runs_where_the_kernel_may_not_be(return_sequences):
    params = init_params(jax.random.key(0), I, H)
    xs = jax.random.normal(jax.random.key(1), (B, T, I))

    def run(params, xs):
        return lstm(params, xs, return_sequences=return_sequences, backend="native")

    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda"))(params, xs)
    assert "lstmjax" not in "".join(line for line in exported.mlir_module().splitlines() if "custom_call" in line)
    assert_close(exported.call(params, xs), run(params, xs))
