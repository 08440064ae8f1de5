"""The mass-conserving layer: against an oracle in NumPy and a loop in PyTorch, and its balance."""

import functools

import hydrology
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, T, random_like, values_and_pull
from tolerances import assert_close

from lstmjax import (
    MassForm,
    MassGate,
    MassParams,
    explain_backend,
    init_mass_conserving,
    lstm,
    mass_conserving,
    mass_conserving_step,
    outflow,
    shapes,
    trace,
)

A, M = 3, 2
LENGTHS = np.array([T, 2, 0])
RESETS = np.array([[0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]], bool)
KINDS = [("softmax", False), ("softmax", True), ("hydrology", False), ("hydrology", True)]


def drawn(seed=0, form="hydrology", constant=False, dtype=jnp.float64):
    """Random parameters, mass, aux and a storage."""
    rng = np.random.default_rng(seed)
    params = init_mass_conserving(jax.random.key(0), A, H, mass_size=M, form=form, constant=constant, dtype=dtype)
    params = random_like(rng, params)
    arrays = rng.exponential(size=(B, T, M)), rng.normal(size=(B, T, A)), rng.exponential(size=(B, H))
    return params, *(jnp.asarray(a, dtype) for a in arrays)


def alone(tree, n):
    return jax.tree.map(lambda a: np.asarray(a)[n], tree)


# Against the oracle


@functools.cache  # one reference for all backends
def by_hand(form, constant):
    """Arguments, cotangents, and the values and gradients of the oracle."""
    params, mass, aux, c = jax.tree.map(np.asarray, drawn(1, form, constant))
    arguments = params, mass[:2, :3], aux[:2, :3], c[:2]
    cotangents = random_like(np.random.default_rng(1), (jnp.zeros((2, H)), jnp.zeros((2, 3, H))))

    def reference(params, mass, aux, c, n):
        (*_, hs), end = hydrology.mass_conserving(form, params, mass[n], aux[n], c[n], RESETS[n])
        return end, hs

    def loss(*arguments):
        values = [(reference(*arguments, n), alone(cotangents, n)) for n in range(2)]
        products = jax.tree.map(lambda a, d: (a * d).sum(), *zip(*values, strict=True))
        return sum(jax.tree.leaves(products))

    values = jax.tree.map(lambda *a: np.stack(a), *(reference(*arguments, n) for n in range(2)))
    return arguments, cotangents, values, hydrology.derivatives(loss, arguments)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("backend", ["scan", "fused"])
@pytest.mark.parametrize(("form", "constant"), KINDS)
def test_values_and_gradients_are_those_of_the_paper(form, constant, backend):
    arguments, cotangents, expected, expected_gradients = by_hand(form, constant)

    def f(params, mass, aux, c):
        return mass_conserving(params, mass, aux, c, form=form, resets=RESETS[:2, :3], backend=backend)

    actual, gradients = values_and_pull(f, jax.tree.map(jnp.asarray, arguments), cotangents)
    assert_close(actual, expected)
    assert_close(gradients, expected_gradients, gradient=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("form", "constant"), KINDS)
def test_every_gate_of_every_step_is_shown(form, constant):
    params, mass, aux, c = drawn(2, form, constant)
    end, steps = mass_conserving(params, mass, aux, c, form=form, lengths=LENGTHS, emit="step")
    series, last = hydrology.mass_conserving(form, alone(params, ...), mass[1, :2], aux[1, :2], c[1])
    for value, expected in zip(steps, series, strict=True):
        assert_close(value[1, :2], expected)
    assert_close(end[1:], np.stack([last, c[2]]))  # the third has no valid step
    assert not jax.tree.reduce(lambda some, a: some | bool(a[1, 2:].any()), steps, False)


@pytest.mark.usefixtures("frameworks", "x64")
def test_pytorch_gives_the_same_values_and_gradients_by_the_loop_of_neuralhydrology():
    torch = pytest.importorskip("torch")
    params, mass, aux, c = drawn(3)
    params = params._replace(r=params.r._replace(b=params.r.b + 3.0))  # its loop loses mass where relu leaves nothing
    arguments = params, mass[:1], aux[:1], c[:1]  # its norm is that of a batch
    tensors = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), arguments)
    theirs, x_m, x_a, stored = tensors
    normalize, out = functools.partial(torch.nn.functional.normalize, p=1, dim=-1), []
    for t in range(T):
        seen = torch.cat([x_m[:, t], x_a[:, t], stored / (stored.norm(1) + 1e-5)], -1)
        i, r, o = (torch.tensordot(seen, torch.cat([g.w_m, g.w_a, g.w_c]), 1) + g.b for g in theirs)
        i, r, o = normalize(torch.sigmoid(i)), normalize(torch.relu(r)), torch.sigmoid(o)
        m = torch.matmul(x_m[:, t, None], i).squeeze(-2) + torch.matmul(stored[:, None], r).squeeze(-2)
        out.append(o * m)
        stored = (1 - o) * m
    ys = torch.stack(out, 1)
    weights = np.random.default_rng(4).normal(size=ys.shape)
    (ys * torch.tensor(weights)).sum().backward()

    def f(params, mass, aux, c):
        return mass_conserving(params, mass, aux, c)[1]

    actual, gradients = values_and_pull(f, arguments, jnp.asarray(weights))
    assert_close(actual, ys.detach().numpy())
    assert_close(gradients, jax.tree.map(lambda a: a.grad.numpy(), tensors), gradient=True)


# Balance


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize(("form", "constant"), KINDS)
def test_what_enters_leaves_or_stays(form, constant, steady, dtype, bound):
    params = init_mass_conserving(
        jax.random.key(0), A, 32, mass_size=M, form=form, constant=constant, output_bias=-6.0, dtype=dtype
    )
    rng = np.random.default_rng(5)
    mass, aux, c = (np.asarray(rng.exponential(size=s), dtype) for s in ((2, 1000, M), (2, 1000, A), (2, 32)))
    if steady:  # rounding errs the same way at every step
        mass, aux = (np.broadcast_to(a[:, :1], a.shape) for a in (mass, aux))
    end, hs = mass_conserving(params, mass, aux, c, form=form)
    entered, before, left, after = (np.asarray(a, np.float64) for a in (mass, c, hs, end))
    assert min(np.min(a) for a in (left, after)) >= 0
    excess = left.sum((1, 2)) + after.sum(1) - entered.sum((1, 2)) - before.sum(1)
    assert (after.sum(1) > before.sum(1)).all()
    assert np.abs(excess / (entered.sum((1, 2)) + before.sum(1))).max() <= bound


def test_a_unit_keeps_its_mass_where_no_unit_is_to_get_it():
    params, mass, aux, c = drawn(6, dtype=jnp.float32)
    none = params._replace(r=MassGate(*(-jnp.abs(a) for a in params.r)))  # relu leaves nothing

    @jax.jit
    def stepped(none):
        _, step = mass_conserving_step(none, c, jnp.zeros_like(mass[:, 0]), jnp.abs(aux[:, 0]))
        return step.c.sum(), step

    gradient, step = jax.grad(stepped, has_aux=True)(none)
    np.testing.assert_array_equal(step.r, np.broadcast_to(np.eye(H), (B, H, H)))
    assert_close(step.m, c)
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves(gradient))


# Options of a layer


@pytest.mark.usefixtures("x64")
def test_chunks_time_major_reverse_and_the_last_step_are_those_of_a_whole_pass():
    params, mass, aux, c = drawn(7)
    end, hs = mass_conserving(params, mass, aux, c)
    middle, first = mass_conserving(params, mass[:, :2], aux[:, :2], c)
    last, second = mass_conserving(params, mass[:, 2:], aux[:, 2:], middle)
    assert_close((last, jnp.concatenate([first, second], 1)), (end, hs))
    turned = mass_conserving(params, *(jnp.moveaxis(a, 1, 0) for a in (mass, aux)), c, time_major=True)[1]
    assert_close(jnp.moveaxis(turned, 0, 1), hs)
    assert_close(mass_conserving(params, mass, aux, c, return_sequences=False)[1], hs[:, -1])
    back = mass_conserving(params, mass[:, ::-1], aux[:, ::-1], c, reverse=True)[1]
    assert_close(back[:, ::-1], hs)
    assert_close(mass_conserving(params, mass[1], aux[1], c[1])[1], hs[1])
    assert_close(mass_conserving(params, mass, aux, c[1])[1][1], hs[1])
    assert_close(jax.vmap(lambda m, a, c: mass_conserving(params, m, a, c)[1])(mass, aux, c), hs)
    assert_close(mass_conserving(params, mass, aux, c, checkpoint="sqrt", emit=discharge)[1], outflow(hs))


def discharge(step):
    return outflow(step.h)


def test_padding_may_hold_anything_and_has_no_part_in_the_gradient():
    params, mass, aux, c = drawn(8, dtype=jnp.float32)
    padded = mass.at[1, 2:].set(jnp.nan), aux.at[1, 2:].set(jnp.inf)
    held, expected = (mass_conserving(params, *a, c, lengths=LENGTHS) for a in (padded, (mass, aux)))
    for a, b in zip(held, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    gradient = jax.grad(lambda p: mass_conserving(p, *padded, c, lengths=LENGTHS)[1].sum())(params)
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves(gradient))


def test_initial_values_begin_with_a_closed_output_gate_and_orthogonal_weights():
    params = init_mass_conserving(jax.random.key(0), A, H, mass_size=M)
    o = params.o
    np.testing.assert_array_equal(o.b, np.full(H, -3.0))
    w = np.concatenate([o.w_m, o.w_a, o.w_c])
    np.testing.assert_allclose(w.T @ w, np.eye(H), atol=1e-6)
    plain = init_mass_conserving(jax.random.key(0), A, H, form="softmax", output_bias=2.0)
    np.testing.assert_array_equal(plain.r.b, np.eye(H))
    assert plain.o.w_m is None
    assert float(plain.o.b[0]) == 2.0
    assert init_mass_conserving(jax.random.key(0), A, H, constant=True).r.w_a is None


# Refusals


def test_mass_that_is_negative_or_missing_is_refused_in_words():
    params, mass, aux, c = drawn(9, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"mass is negative at \(1, 3, 0\): -0.5.*not standardised"):
        mass_conserving(params, mass.at[1, 3, 0].set(-0.5), aux, c)
    with pytest.raises(ValueError, match=r"mass is not finite at \(2, 0, 1\): nan.*mask="):
        mass_conserving(params, mass.at[2, 0, 1].set(jnp.nan), aux, c)
    with pytest.raises(ValueError, match=r"aux is not finite at \(0, 4, 2\): inf"):
        mass_conserving(params, mass, aux.at[0, 4, 2].set(jnp.inf), c)
    with pytest.raises(ValueError, match="state holds mass that is negative"):
        mass_conserving(params, mass, aux, -c)
    negative = -mass
    with pytest.raises(ValueError, match="mass is negative"):  # known although the call is traced
        jax.eval_shape(lambda aux: mass_conserving(params, negative, aux, c), aux)
    with pytest.raises(ValueError, match="reset_state holds mass that is negative"):
        mass_conserving(params, mass, aux, c, resets=RESETS, reset_state=-c)


def test_arguments_that_do_not_fit_are_refused_in_words():
    params, mass, aux, c = drawn(10, dtype=jnp.float32)
    with pytest.raises(ValueError, match=r"mass has shape \(3, 5\).*expected \[\.\.\., T, M\] with M = 2"):
        mass_conserving(params, mass[..., 0], aux, c)
    with pytest.raises(ValueError, match=r"aux has shape \(3, 5, 2\).*expected \[\.\.\., T, A\] with A = 3"):
        mass_conserving(params, mass, aux[..., 1:], c)
    with pytest.raises(ValueError, match="all axes but the last are to be the same"):
        mass_conserving(params, mass, aux[:2], c)
    with pytest.raises(ValueError, match=r"state has shape \(3, 3\).*expected \(3, 4\)"):
        mass_conserving(params, mass, aux, c[:, 1:])
    with pytest.raises(ValueError, match="form is 'relu', expected one of 'softmax', 'hydrology'"):
        mass_conserving(params, mass, aux, c, form="relu")
    with pytest.raises(ValueError, match="emit is 'c', expected one of 'h', 'step'"):
        mass_conserving(params, mass, aux, c, emit="c")
    with pytest.raises(TypeError, match="no argument 'dtype'"):
        mass_conserving(params, mass, aux, c, dtype="bfloat16")
    with pytest.raises(ValueError, match="float16, expected float32 or float64: half precision rounds mass"):
        init_mass_conserving(jax.random.key(0), A, H, dtype="float16")
    with pytest.raises(ValueError, match="trash is 4, expected a whole number from 0 to 3"):
        outflow(c, trash=H)
    half = params._replace(r=params.r._replace(w_c=None))
    with pytest.raises(ValueError, match=r"r\.w_c is None, but only r may be without"):
        mass_conserving(half, mass, aux, c)
    with pytest.raises(ValueError, match=r"o\.w_a has shape \(2, 4\).*expected \(3, 4\)"):
        mass_conserving(params._replace(o=params.o._replace(w_a=params.o.w_a[1:])), mass, aux, c)
    with pytest.raises(TypeError, match=r"params\.r is a tuple of 2, expected a MassGate"):
        mass_conserving(MassParams(params.i, (1, 2), params.o), mass, aux, c)


def test_what_is_made_for_lstms_says_that_it_does_not_take_it():
    params, mass, _, _ = drawn(11, dtype=jnp.float32)
    tools = (shapes, lambda p: trace(p, mass), lambda p: lstm(p, mass), lambda p: explain_backend(p, mass))
    for tool in tools:
        with pytest.raises(TypeError, match=r"MassParams, expected LSTMParams.*it runs by mass_conserving alone"):
            tool(params)


def test_a_form_of_ones_own_distributes_as_it_says():
    params, mass, aux, c = drawn(12, "softmax", dtype=jnp.float32)
    form = MassForm("halves", i=evenly, r=evenly)
    end, hs = mass_conserving(params, mass, aux, c, form=form)
    assert_close(end.sum(-1) + hs.sum((1, 2)), mass.sum((1, 2)) + c.sum(-1))
    _, step = mass_conserving_step(params, c, mass[:, 0], aux[:, 0], form=form)
    assert_close(step.m[:, 1:], step.m[:, :-1])


def evenly(z, otherwise):
    return jnp.full(z.shape, 1 / z.shape[-1], z.dtype)
