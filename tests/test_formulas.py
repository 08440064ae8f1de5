"""The formulas in the table of dimensions, computed as they stand, give what a step gives."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, random_like
from tolerances import assert_close

from lstmjax import CELLS, cell_step, clip_cell, clip_inputs, clip_projection, init_params
from lstmjax.formulas import formulas

ROWS = CELLS | {
    "limited": clip_cell(clip_inputs("peephole", 0.3), 0.2),
    "limited twice": clip_cell(clip_inputs(clip_cell(clip_inputs("layer_norm_carried", 0.2), 0.7), 0.3), 0.9),
    "all limits": clip_projection(clip_cell(clip_inputs("layer_norm_per_gate", 0.3), 0.2), 0.1),
}
EPSILON = {"layer_norm": 1e-5, "layer_norm_carried": 1e-3, "limited twice": 1e-3}


def computed(formula, names):
    """What a formula gives; the LN of x · w_x is called LN_x, by the first letter of what it is given."""
    formula = re.sub(r"(\w+|\[.*?\]) · (\w+)", r"dot(\1, \2)", formula.replace("⊙", "*").replace("−", "-"))
    return eval(re.sub(r"LN\((dot\()?(\w)", r"LN_\2(\1\2", formula), names)


def dot(a, w):
    return np.tensordot(np.concatenate(a, axis=-1) if isinstance(a, list) else a, w, 1)


def normalise(norm, name, epsilon):
    def of(z):
        over = tuple(range(1, z.ndim))
        z = (z - z.mean(over, keepdims=True)) / np.sqrt(z.var(over, keepdims=True) + epsilon)
        return z * getattr(norm, name) + getattr(norm, f"{name}_shift")

    return of


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.usefixtures("x64")
def test_a_step_computes_what_is_written(name):
    row, rng = ROWS[name], np.random.default_rng(0)
    width = P if row.needs_projection else H
    projection = {"projection_size": P, "projection_bias": True} if row.needs_projection else {}
    make = partial(init_params, input_size=I, hidden_size=H, cell=row, bias="double", dtype=jnp.float64, **projection)
    params = random_like(rng, jax.eval_shape(make, jax.random.key(0)))
    x, *state = (jnp.asarray(rng.normal(size=(B, n))) for n in (I, width, *[H] * (1 + len(row.feeds))))
    _, step = cell_step(params, tuple(state), x, cell=row, emit="step")
    params, x, (h, c, *fed), step = jax.tree.map(np.asarray, (params, x, tuple(state), step))
    names = {"σ": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "max": np.maximum, "min": np.minimum, "dot": dot}
    names |= params._asdict() | {"x": x, "h": h, "c": c}
    if params.norm is not None:
        names |= {f"LN_{z}": normalise(params.norm, z, EPSILON[name]) for z in "xhc"}
        names["LN_f"] = names["LN_c"]  # of f ⊙ c + i ⊙ g
    said = formulas(row, " + b + b_h", " + b_p")

    before, _, after = said["z"].partition("; then each gate ")
    products, _, beside = before.partition("; in ")
    z = dict(zip(row.blocks, np.moveaxis(computed(products, names), 1, 0), strict=True))
    if beside:
        gates, _, more = beside.partition(" + ")
        more, new, _ = more.partition(" (in o the new c)")
        for gate in gates.split(", "):
            own = dict(zip(row.feeds, fed, strict=True)) | {"w_c": params.w_c[row.peepholes.index(gate)]}
            own |= {"w_r": params.w_r[:, "ifo".index(gate)]} if row.feeds else {}
            own |= {"c": step.c} if new and gate == "o" else {}
            z[gate] = z[gate] + computed(more, names | own)
    if after:
        names |= {"LN_z": lambda z: (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-8)}
        for block, gate in enumerate(row.blocks):
            gains = {field: getattr(params, field)[block] for field in ("gain", "b", "b_h")}
            z[gate] = computed(after, names | gains | {"z": z[gate]})
    for gate in "ifgo":
        assert (gate in z) == (getattr(step, f"z_{gate}") is not None)
    assert_close(z, {gate: getattr(step, f"z_{gate}") for gate in z})

    names |= step._asdict() | {"c": c}
    for word in ("i", "f", "g", "o", "c"):
        value = computed(said[word].rpartition(", ")[0], names)
        assert_close(np.broadcast_to(value, (B, H)), getattr(step, word), dtype=jnp.float64)
    assert_close(computed(said["m"], names | {"c": step.c}), step.m)
    if row.needs_projection:
        assert_close(computed(said["projected"], names), step.h)


def leaky(i, f):
    return i, 0.9 * f


def test_functions_of_ones_own_are_named():
    own = dataclasses.replace(CELLS["nig"], g=jax.nn.softplus, couple=leaky, join=lambda params, x, h, product: x)
    said = formulas(own, " + b")
    assert said["i"] == "leaky(1, σ(z_f))[0], input gate"
    assert said["f"] == "leaky(1, σ(z_f))[1], forget gate"
    assert said["g"] == "softplus(z_g), candidate"
    assert said["z"] == "<lambda>(x, h); in f, o + w_c ⊙ c (in o the new c)"
