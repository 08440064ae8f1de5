"""Every path in plain JAX is lowered for GPUs and TPUs, so that nothing slips in that only CPUs can run.

`jax.export` lowers on the CPU for other platforms, with their own rules; nothing is compiled or run.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from tiers import tiered

from lstmjax import (
    Zoneout,
    entity_aware,
    init_entity_aware,
    init_mass_conserving,
    init_network,
    init_params,
    lstm,
    mass_conserving,
    network,
    trace,
)
from lstmjax.backends import BACKENDS

PLATFORMS = ("cuda", "rocm", "tpu")
T, B, I, H = 5, 3, 2, 4
CALLS_A_LIBRARY = {"cudnn", "native"}
PURE = ["auto", *(name for name in BACKENDS if name not in CALLS_A_LIBRARY)]
PARAMS = init_params(jax.random.key(0), I, H)
XS = jax.random.normal(jax.random.key(1), (B, T, I))
LENGTHS = jnp.array([5, 0, 3])
FLAGS = jnp.array([[0, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
ROWS = {
    "plain": {},
    "lengths and resets": {"lengths": LENGTHS, "resets": FLAGS, "padding": "hold"},
    "mask, every value of a step": {"mask": FLAGS, "emit": "step"},
    "reverse, time first, bfloat16": {"reverse": True, "time_major": True, "dtype": jnp.bfloat16},
    "zoneout, last output": {"wrappers": (Zoneout(0.1, 0.2),), "return_sequences": False},
    "checkpoint": {"checkpoint": 2, "unroll": 2},
}


def lowered(function, *arguments):
    """The text of values and gradients of a function, lowered for all platforms at once."""

    def loss(*arguments):
        return sum(jnp.sum(jnp.asarray(leaf, jnp.float32)) for leaf in jax.tree.leaves(function(*arguments)))

    exported = jax.export.export(jax.jit(jax.value_and_grad(loss, argnums=(0, 1))), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


def calls(text):
    return set(re.findall(r"custom_call\s*@([\w.]+)", text))


@pytest.fixture(params=[pytest.param("on a CPU", marks=pytest.mark.slow), "on a GPU"])
def host(request, monkeypatch):
    """Where it is traced: on a CPU for another platform, or on a machine that has one."""
    if request.param == "on a GPU":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("backend", tiered(PURE, first=["auto"]))
def test_a_layer_is_lowered_for_gpus_and_tpus(backend):
    for row, options in ROWS.items():
        if backend == "inplace" and "checkpoint" in options:
            continue  # it refuses
        xs = XS.swapaxes(0, 1) if options.get("time_major") else XS
        text = lowered(lambda params, xs, options=options: lstm(params, xs, backend=backend, **options)[1], PARAMS, xs)
        assert calls(text) == set(), row


@pytest.mark.usefixtures("host")
def test_a_network_is_lowered_for_gpus_and_tpus():
    deep = init_network(jax.random.key(2), I, H, 3, layers=2, bidirectional=True, cell="layer_norm")
    text = lowered(lambda params, xs: network(params, xs, cell="layer_norm", lengths=LENGTHS)[1], deep, XS)
    assert calls(text) == set()


@pytest.mark.usefixtures("host")
def test_a_trace_is_lowered_for_gpus_and_tpus():
    assert calls(lowered(trace, PARAMS, XS)) == set()


@pytest.mark.usefixtures("host")
def test_the_cells_of_hydrology_are_lowered_for_gpus_and_tpus():
    statics = jax.random.normal(jax.random.key(3), (B, 6))
    of_entities = init_entity_aware(jax.random.key(4), I, 6, H)
    assert calls(lowered(lambda params, xs: entity_aware(params, xs, statics)[1], of_entities, XS)) == set()
    of_mass = init_mass_conserving(jax.random.key(5), I, H)
    mass = jnp.abs(XS[..., :1])
    assert calls(lowered(lambda params, aux: mass_conserving(params, mass, aux)[1], of_mass, XS)) == set()


def test_a_call_of_a_library_is_found():
    call = jax.ffi.ffi_call("lstmjax_of_a_cpu", jax.ShapeDtypeStruct(XS.shape, XS.dtype))
    with pytest.raises(ValueError, match="lstmjax_of_a_cpu"):
        jax.export.export(jax.jit(call), platforms=PLATFORMS)(XS)
    disabled = [jax.export.DisabledSafetyCheck.custom_call("lstmjax_of_a_cpu")]
    text = jax.export.export(jax.jit(call), platforms=PLATFORMS, disabled_checks=disabled)(XS).mlir_module()
    assert calls(text) == {"lstmjax_of_a_cpu"}
