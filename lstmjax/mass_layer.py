"""The mass-conserving layer over time; what it computes stands in `mass.py`."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import jax
import jax.numpy as jnp

from lstmjax.arguments import as_array, as_flags, checked_steps, one_of
from lstmjax.arrays import within
from lstmjax.backends import Chooser
from lstmjax.keywords import takes
from lstmjax.layer import lstm
from lstmjax.mass import ConservingStep, MassForm, MassParams, MassStep, check_mass_params, find_form, packed
from lstmjax.types import Array, PyTree

if TYPE_CHECKING:
    from jax.typing import ArrayLike


def mass_conserving_step(
    params: MassParams, c: Array, mass: ArrayLike, aux: ArrayLike, *, form: MassForm | str = "hydrology"
) -> tuple[Array, MassStep]:
    """Run one mass-conserving step; return the mass that stays, and everything that the step computes.

    Args:
        params: `MassParams`.
        c: stored mass `[..., H]`, not negative.
        mass: mass inputs of this step `[..., M]`, not negative and not normalised.
        aux: auxiliary inputs of this step `[..., A]`.
        form: a row of `MASS_FORMS`, its name, or a `MassForm`.

    Returns:
        (c', `MassStep`): mass in + Σc = Σh' + Σc'.

    Raises:
        ValueError, TypeError: arguments do not fit each other.

    >>> from lstmjax import init_mass_conserving
    >>> params = init_mass_conserving(jax.random.key(0), 3, 8)
    >>> c, step = mass_conserving_step(params, jnp.ones(8), jnp.array([2.0]), jnp.ones(3))
    >>> c.shape, step.r.shape, f"{float(c.sum() + step.h.sum()):.4f}"
    ((8,), (8, 8), '10.0000')
    """
    form = find_form(form)
    check_mass_params(params)
    mass, aux, c = as_array("mass", mass), as_array("aux", aux), as_array("c", c)
    check_inputs(params, mass, aux, time=False)
    check_stored("c", c, (*mass.shape[:-1], params.hidden_size), params.o.b.dtype)
    return ConservingStep(form, params.mass_size)(packed(params), c, jnp.concatenate([mass, aux], -1))


class MassOptions(TypedDict, total=False):
    """The keywords of `lstm` that `mass_conserving` takes."""

    lengths: ArrayLike | None
    """Valid steps of each sequence, whole numbers `[...]`; None: all T."""
    mask: ArrayLike | None
    """Valid steps, bool `[..., T]`. With lengths: both."""
    resets: ArrayLike | None
    """Steps before which the storage returns to `reset_state`, bool `[..., T]`."""
    reverse: bool
    """Run from the last valid step to the first."""
    time_major: bool
    """Whether time is the first axis of mass, aux, mask, resets and what is returned."""
    return_sequences: bool
    """Whether all steps are returned, or the last valid one."""
    checkpoint: int | str | None
    """None, "sqrt" or a segment length: compute segments again in the backward pass."""
    unroll: int
    """Steps per iteration of the compiled loop."""
    backend: Chooser
    """How the scan is run: "auto", a name in `backends.BACKENDS`, or a function of the `Request`."""


def outgoing(step: MassStep) -> Array:
    """Return h of a step."""
    return step.h


def everything(step: MassStep) -> MassStep:
    """Return a step."""
    return step


EMITTED: MappingProxyType[str, Callable[[MassStep], PyTree]] = MappingProxyType({"h": outgoing, "step": everything})
"""What the words of `emit` select from a `MassStep`."""


@takes(MassOptions, lstm)
def mass_conserving(
    params: MassParams,
    mass: ArrayLike,
    aux: ArrayLike,
    state: ArrayLike | None = None,
    *,
    form: MassForm | str = "hydrology",
    reset_state: ArrayLike | None = None,
    emit: str | Callable[[MassStep], PyTree] = "h",
    **options: Unpack[MassOptions],
) -> tuple[Array, PyTree]:
    """Run one mass-conserving layer over a sequence; return the mass that it stores, and what left at each step.

    Over all valid steps, mass in + stored before = mass out + stored after, up to rounding. Computes in the dtype of
    the parameters, float32 or float64; half precision would lose mass.

    Args:
        params: `MassParams`, as `init_mass_conserving` makes them.
        mass: mass inputs `[..., T, M]`, or `[T, ..., M]` with `time_major`: not negative, in their own unit (mm a day)
            and not standardised.
        aux: auxiliary inputs `[..., T, A]`, scaled as for any network.
        state: stored mass `[..., H]`, or `[H]` for all sequences alike; None: nothing. What was returned continues a
            sequence (hot start).
        form: a row of `MASS_FORMS`, its name, or a `MassForm`; the one that the parameters were made for.
        reset_state: stored mass that a reset returns to, as `state`; None: nothing. The mass that was stored is
            dropped.
        emit: what is returned of each step: "h", "step" (a `MassStep`: all gates, too) or a function of the
            `MassStep`, which is to be the same from call to call.
        lengths, mask, resets, reverse, time_major, return_sequences, checkpoint, unroll, backend: as for `lstm`; at
            steps that are not valid the storage is held, and nothing leaves.

    Returns:
        (c, hs): stored mass `[..., H]` after the last step; outgoing mass `[..., T, H]` of each unit, or `[..., H]`
        of the last step without `return_sequences`. `outflow(hs)` is the discharge.

    Raises:
        ValueError, TypeError: an argument does not fit the others; mass is negative or not finite, aux is not finite
            (where values are known: not under jit, grad or vmap).

    Example:
        >>> from lstmjax import init_mass_conserving
        >>> params = init_mass_conserving(jax.random.key(0), 3, 8)
        >>> rain = jax.random.exponential(jax.random.key(1), (10, 365, 1))
        >>> c, hs = mass_conserving(params, rain, jnp.ones((10, 365, 3)))
        >>> c.shape, hs.shape
        ((10, 8), (10, 365, 8))
        >>> bool(jnp.allclose(rain.sum((1, 2)), hs.sum((1, 2)) + c.sum(-1), rtol=1e-5))
        True
    """
    form = find_form(form)
    check_mass_params(params)
    mass, aux = as_array("mass", mass), as_array("aux", aux)
    (time_major,) = as_flags(time_major=options["time_major"])
    check_inputs(params, mass, aux, time=True)
    axis = 0 if time_major else mass.ndim - 2
    steps = checked_steps(mass, options["lengths"], options["mask"], options["resets"], bool(time_major))
    check_values(mass, aux, within(mass.shape[:-1], axis, *steps[:2]))
    shape = (*mass.shape[:axis], *mass.shape[axis + 1 : -1], params.hidden_size)
    stored = [as_stored(name, c, shape, mass.dtype) for name, c in (("state", state), ("reset_state", reset_state))]
    if not callable(emit):
        one_of("emit", emit, tuple(EMITTED))
        emit = EMITTED[emit]
    xs = jnp.concatenate([mass, aux], axis=-1)
    call: Any = {**options, "step": ConservingStep(form, params.mass_size), "emit": emit}
    return lstm(packed(params), xs, stored[0], reset_state=stored[1], **call)


def outflow(hs: ArrayLike, *, trash: int = 1) -> Array:
    """Return the mass that leaves all units together but the first, which are a sink (evaporation, losses).

    Args:
        hs: outgoing mass `[..., H]`, as `mass_conserving` returns it.
        trash: how many of the first units are a sink: 1 in the paper's experiment in hydrology (appendix B.4).

    Returns:
        `[...]`: the discharge.

    Raises:
        ValueError: trash is no whole number from 0 to H − 1.

    >>> outflow(jnp.array([[0.5, 1.0, 2.0]])).tolist()
    [3.0]
    """
    hs = as_array("hs", hs)
    units = hs.shape[-1] if hs.ndim else 0
    if isinstance(trash, bool) or not isinstance(trash, int) or not 0 <= trash < units:
        raise ValueError(f"trash is {trash!r}, expected a whole number from 0 to {units - 1}: hs has {units} units.")
    return hs[..., trash:].sum(-1)


def check_inputs(params: MassParams, mass: Array, aux: Array, *, time: bool) -> None:
    """Refuse inputs whose axes or dtypes are not those of the parameters."""
    dtype, axes = params.o.b.dtype, "[..., T, " if time else "[..., "
    assert params.i.w_a is not None
    for name, array, letter, size in (("mass", mass, "M", params.mass_size), ("aux", aux, "A", params.i.w_a.shape[0])):
        if array.ndim < 1 + time or array.shape[-1] != size or array.dtype != dtype:
            hint = " A single series needs an axis of its own: mass[..., None]." if name == "mass" and size == 1 else ""
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}, expected {axes}{letter}] with {letter} = "
                f"{size} and {dtype}, as params have.{hint}"
            )
    if mass.shape[:-1] != aux.shape[:-1]:
        raise ValueError(f"mass has shape {mass.shape} and aux {aux.shape}; all axes but the last are to be the same.")


def check_values(mass: Array, aux: Array, valid: Array | None) -> None:
    """Refuse mass that is negative or not finite, and aux that is not finite, at valid steps, where they are known."""
    _refuse("mass", mass, "not finite", valid, jnp.isfinite)
    _refuse("aux", aux, "not finite", valid, jnp.isfinite)
    _refuse("mass", mass, "negative", valid, lambda a: a >= 0)


def _refuse(name: str, a: Array, fault: str, valid: Array | None, good: Callable[[Array], Array]) -> None:
    """Refuse an array with numbers that are not good at valid steps."""
    if not is_known(a) or not (valid is None or is_known(valid)):
        return
    with jax.ensure_compile_time_eval():  # even while a function that closes over them is traced
        places = ~good(a)
        places = places if valid is None else places & valid[..., None]
        if not places.any():
            return
        at = tuple(int(n) for n in jnp.argwhere(places, size=1)[0])
        raise ValueError(
            f"{name} is {fault} at {at}: {float(a[at])}. Mass is an amount that enters, not standardised; fill gaps, "
            "or mark the steps as not valid by mask=."
        )


def is_known(a: Array) -> bool:
    """Return whether the numbers of an array can be looked at."""
    return not isinstance(a, jax.core.Tracer) and a.is_fully_addressable


def as_stored(name: str, c: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return stored mass in its full shape; None is none."""
    if c is None:
        return jnp.zeros(shape, dtype)
    c = as_array(name, c)
    if c.shape == shape[-1:]:
        c = jnp.broadcast_to(c, shape)
    check_stored(name, c, shape, dtype)
    return c


def check_stored(name: str, c: Array, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse stored mass of another shape or dtype, or that is negative or not finite where it is known."""
    if c.shape != shape or c.dtype != dtype:
        raise ValueError(
            f"{name} has shape {c.shape} and dtype {c.dtype}, expected {shape} and {dtype}: the stored mass of each "
            "unit, as mass_conserving returns it."
        )
    if not is_known(c):
        return
    with jax.ensure_compile_time_eval():
        if not ((c >= 0) & jnp.isfinite(c)).all():
            raise ValueError(f"{name} holds mass that is negative or not finite; expected what a run returned.")
