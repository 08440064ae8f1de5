r"""The mass-conserving LSTM: what enters is distributed, moved about and let out, and nothing is lost.

Mass inputs x (rain) are stored in the units c; auxiliary inputs a (temperature, attributes) only set the gates. With
u = [x, a, c / ‖c‖₁], of which a form may leave x out,

    i = distribute(u·W_i + b_i)     [M, H]  where each mass input goes: each row sums to 1
    R = distribute(u·W_r + b_r)     [H, H]  where the mass of each unit goes: each row sums to 1
    o = σ(u·W_o + b_o)              [H]     which share of its mass a unit lets out
    m  = c·R + x·i                  what the units hold before they let some out
    h' = o ⊙ m                      c' = m − h'

Hoedt et al. (2021, arXiv 2101.05186, section 3; R is written for column vectors there). Two forms are built, the
rows of `MASS_FORMS`:

    softmax      distribute is softmax, the gates see a and c / ‖c‖₁ (0 where all are 0), as in the paper's general
                 model and in ml-jku/mc-lstm. R may be constant, a matrix that is trained
    hydrology    the paper's experiment in hydrology, which is neuralhydrology's `MCLSTM`: i = σ(z) / Σσ(z) and
                 R = relu(z) / Σrelu(z), the gates see x, too, and c / (‖c‖₁ + 1e-5)

Two things differ from neuralhydrology 1.13 on purpose. It takes the norm over all numbers of a batch, so that what it
computes of one basin depends on the others in the batch; here each sequence has its own, which is the same for a batch
of one. And where all of relu(z) in a row of R are 0 it loses that unit's mass; here the mass stays in its unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax import checks
from lstmjax.arguments import as_arrays, kind, one_of
from lstmjax.cell import Product, product
from lstmjax.types import Array, exported


class MassGate(NamedTuple):
    """The parameters of one gate, whose shape G is `[M, H]` for i, `[H, H]` for R and `[H]` for o."""

    b: Array  # [*G]
    w_a: Array | None = None  # [A, *G]  from the auxiliary inputs; None with w_c: the gate is constant
    w_c: Array | None = None  # [H, *G]  from the share of the mass that each unit stores
    w_m: Array | None = None  # [M, *G]  from the mass inputs; None: the gates do not see them


class MassParams(NamedTuple):
    """The parameters of one mass-conserving layer: a pytree, and nothing else."""

    i: MassGate  # input gate
    r: MassGate  # redistribution, from unit to unit; may be constant
    o: MassGate  # output gate

    @property
    def mass_size(self) -> int:
        """M, the number of mass inputs."""
        return self.i.b.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H, the number of units."""
        return self.o.b.shape[-1]

    @property
    def remedy(self) -> str:
        """What messages say to whoever passes them where `LSTMParams` are expected."""
        return " A mass-conserving layer is no LSTM with other gates: it runs by mass_conserving alone."


class MassStep(NamedTuple):
    """Everything that one step of a mass-conserving layer computes."""

    i: Array  # [..., M, H]  input gate
    r: Array  # [..., H, H]  redistribution, from, to
    o: Array  # [..., H]  output gate
    m: Array  # [..., H]  mass before the outflow
    c: Array  # [..., H]  mass that stays
    h: Array  # [..., H]  mass that leaves


exported(MassGate, MassParams, MassStep)


def softmax(z: Array, otherwise: Array) -> Array:
    """Return the softmax over the last axis, which has no row without a sum."""
    return jax.nn.softmax(z, axis=-1)


def normalised_sigmoid(z: Array, otherwise: Array) -> Array:
    """Return σ(z) / Σσ(z) over the last axis."""
    return shares(jax.lax.logistic(z), otherwise)


def normalised_relu(z: Array, otherwise: Array) -> Array:
    """Return relu(z) / Σrelu(z) over the last axis; `otherwise` where all of a row are 0."""
    return shares(jax.nn.relu(z), otherwise)


def shares(a: Array, otherwise: Array) -> Array:
    """Return non-negative numbers by their sum over the last axis; `otherwise` where that is 0."""
    total = a.sum(-1, keepdims=True)
    some = total > 0
    return jnp.where(some, a / jnp.where(some, total, 1), jnp.broadcast_to(otherwise, a.shape))


@dataclass(frozen=True)
class MassForm:
    """One row of `MASS_FORMS`: how gates distribute mass, and what they see.

    `i` and `r` are functions (z `[..., N, H]`, otherwise `[N, H]`) -> shares that sum to 1 over the last axis;
    `otherwise` is what stands in for a row of z that gives no shares. `least` is added to the norm of c; 0: where c is
    0, its share is 0. `sees_mass`: whether `init_mass_conserving` makes weights from the mass inputs to the gates.
    """

    name: str
    i: Callable[[Array, Array], Array] = softmax
    r: Callable[[Array, Array], Array] = softmax
    least: float = 0.0
    sees_mass: bool = False

    def share(self, c: Array) -> Array:
        """Return c / ‖c‖₁, each sequence by itself."""
        norm = c.sum(-1, keepdims=True) + self.least
        return c / jnp.where(norm == 0, 1, norm)


MASS_FORMS = MappingProxyType(
    {
        row.name: row
        for row in (
            MassForm("softmax"),
            MassForm("hydrology", i=normalised_sigmoid, r=normalised_relu, least=1e-5, sees_mass=True),
        )
    }
)
"""The forms of the mass-conserving LSTM, by name; see the head of the module."""


def find_form(form: MassForm | str) -> MassForm:
    """Return a row of `MASS_FORMS` by its name, or a form as it is."""
    if isinstance(form, MassForm):
        return form
    one_of("form", form, tuple(MASS_FORMS))
    return MASS_FORMS[form]


class Packed(NamedTuple):
    """The gates side by side, so that a step multiplies once: K = M + H + 1 blocks, or M + 1 with a constant R."""

    w_x: Array  # [M + A, K, H]
    w_c: Array  # [H, K, H]
    b: Array  # [K, H]
    r: Array | None  # [H, H]  the constant R before it is distributed


@jax.jit
def packed(params: MassParams) -> Packed:
    """Return the gates side by side: the blocks of i, those of R unless it is constant, and that of o."""
    i, r, o = params
    constant = r.w_a is None
    o = MassGate(*(None if a is None else a[..., None, :] for a in o))  # type: ignore[arg-type]
    gates = [i, o] if constant else [i, r, o]

    def side_by_side(arrays: list[Array]) -> Array:
        return jnp.concatenate(arrays, axis=-2)

    def from_mass(gate: MassGate) -> Array:
        return jnp.zeros((params.mass_size, *gate.b.shape), gate.b.dtype) if gate.w_m is None else gate.w_m

    weights: Any = gates  # of which none is None: those of a constant R are left out
    w_x = side_by_side([jnp.concatenate([from_mass(gate), gate.w_a], axis=0) for gate in weights])
    w_c = side_by_side([gate.w_c for gate in weights])
    return Packed(w_x, w_c, side_by_side([gate.b for gate in gates]), r.b if constant else None)


@dataclass(frozen=True)
class ConservingStep:
    """A step as `lstm` scans it: (params, c, x = [mass, aux]) -> (c', `MassStep`). Hashable, for compiled code."""

    form: MassForm
    masses: int  # M

    def __call__(self, params: Packed, c: Array, x: Array, *, product: Product = product) -> tuple[Array, MassStep]:
        z = product("z", (x, params.w_x), (self.form.share(c), params.w_c), bias=(params.b,))  # [..., K, H]
        units = c.shape[-1]
        evenly, own = jnp.full((self.masses, units), 1 / units, z.dtype), jnp.eye(units, dtype=z.dtype)
        i = self.form.i(z[..., : self.masses, :], evenly)
        r = self.form.r(z[..., self.masses : -1, :] if params.r is None else params.r, own)
        o = jax.lax.logistic(z[..., -1, :])
        m = moved(c, r) + c * jnp.broadcast_to(lost_by_rounding(r), c.shape) + moved(x[..., : self.masses], i)
        h = o * m
        c = m - h  # not (1 − o)·m: what leaves and what stays add up to m
        return c, MassStep(i, jnp.broadcast_to(r, (*c.shape, units)), o, m, c, h)


def moved(mass: Array, to: Array) -> Array:
    """Return mass `[..., N]` in the units to which `to`, `[..., N, H]` or `[N, H]`, distributes it.

    In full precision: the product of some accelerators has a mantissa of ten bits, which would lose mass.
    """
    if to.ndim == 2:
        return jnp.dot(mass, to, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("...n,...nh->...h", mass, to, precision=jax.lax.Precision.HIGHEST)


def lost_by_rounding(shares: Array) -> Array:
    """Return 1 − the sum of shares `[..., H]` over the last axis, with the rounding errors of the sum, `[...]`.

    Rows sum to 1 up to the last bit. But a constant R, or one that hardly changes, errs the same way at every step,
    which in 1,000 steps was 8e-5 of the mass in float32. Sums of pairs by Knuth's two-sum, which says what each of
    them rounded away. Its derivative is 0 for shares that sum to 1.
    """
    sums, errors = shares, jnp.zeros_like(shares)
    while sums.shape[-1] > 1:
        half = (sums.shape[-1] + 1) // 2
        a, b = sums[..., :half], sums[..., half:]
        more = [(0, 0)] * (b.ndim - 1) + [(0, half - b.shape[-1])]
        b, of_b = jnp.pad(b, more), jnp.pad(errors[..., half:], more)
        sums = a + b
        from_b = sums - a
        errors = errors[..., :half] + of_b + ((a - (sums - from_b)) + (b - from_b))
    return jax.lax.stop_gradient((1 - sums[..., 0]) - errors[..., 0])


def check_mass_params(params: Any) -> None:
    """Refuse what is no `MassParams`, or whose arrays do not fit each other."""
    if not isinstance(params, MassParams):
        raise TypeError(f"params is {kind(params)}, expected MassParams, as init_mass_conserving makes them.")
    for name, gate in params._asdict().items():
        if not isinstance(gate, MassGate):
            raise TypeError(f"params.{name} is {kind(gate)}, expected a MassGate.")
    i, r, o = as_arrays("params", params)
    dtype, dims = o.b.dtype, (i.b.ndim, r.b.ndim, o.b.ndim)
    if dims != (2, 2, 1) or i.w_a is None:
        raise ValueError(
            f"the biases of i, r and o have {dims} axes, expected [M, H], [H, H] and [H], and i and o have weights. An "
            "ensemble is run by jax.vmap over params."
        )
    check_exact(dtype)
    masses, units, auxiliary = i.b.shape[0], o.b.shape[0], i.w_a.shape[0]
    shapes = {"i": (masses, units), "r": (units, units), "o": (units,)}
    for name, gate in (("i", i), ("r", r), ("o", o)):
        shape = shapes[name]
        rows = {"b": (), "w_a": (auxiliary,), "w_c": (units,), "w_m": (masses,)}
        constant = name == "r" and gate.w_a is gate.w_c is gate.w_m is None
        for field, first in rows.items():
            value, optional = getattr(gate, field), field == "w_m" or (constant and field != "b")
            if value is None and not optional:
                raise ValueError(f"{name}.{field} is None, but only r may be without w_a and w_c, without both.")
            if value is not None and (value.shape != (*first, *shape) or value.dtype != dtype):
                raise ValueError(
                    f"{name}.{field} has shape {value.shape} and dtype {value.dtype}, expected {(*first, *shape)} and "
                    f"{dtype}, since i.b is [M, H] = {i.b.shape} and i.w_a has A = {auxiliary}."
                )


def check_exact(dtype: Any) -> None:
    """Refuse half precision."""
    if checks.cell_dtype(dtype) != dtype:
        raise ValueError(
            f"the parameters' dtype is {jnp.dtype(dtype)}, expected float32 or float64: half precision rounds mass "
            "away at every step. Cast them: jax.tree.map(lambda a: a.astype(jnp.float32), params)."
        )
