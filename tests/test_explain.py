"""`explain_backend` tells what a call runs: the same requests, for every form of parameters and every option."""

import dataclasses
import inspect
import re
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax import Zoneout, backends, explain_backend, init_network, init_params, lstm, network, stacked
from lstmjax.backends import native_library, table

T, B, I, H, O = 5, 3, 2, 4, 7
KEY = jax.random.key(0)
PARAMS = init_params(KEY, I, H)
NETWORK = init_network(KEY, I, H, O, layers=2, bidirectional=True)
XS = jnp.linspace(-1.0, 1.0, B * T * I).reshape(B, T, I)
MASK = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)


def own_step(params, state, x):
    return (state[0] + x @ params, state[1]), x


CALLS = {
    "plain": (lstm, PARAMS, {}),
    "lists": (lstm, PARAMS, {"lengths": [5, 3, 0], "mask": MASK.tolist()}),
    "everything": (
        lstm,
        PARAMS,
        {"mask": MASK, "resets": MASK, "reverse": True, "emit": "step", "padding": "hold", "wrappers": (Zoneout(0.1),),
         "key": KEY, "checkpoint": "sqrt", "unroll": 2, "dtype": "bfloat16", "return_sequences": False},
    ),
    "cell": (lstm, init_params(KEY, I, H, cell="fgr"), {"cell": "fgr"}),
    "own step": (lstm, jnp.ones((I, H)), {"step": own_step, "state": (jnp.zeros((B, H)), jnp.zeros((B, H)))}),
    "own step, a tuple": (lstm, (), {"step": lambda p, s, x: (s, x), "state": (jnp.zeros((B, H)),)}),
    "layers": (stacked, NETWORK.layers, {"lengths": np.array([5, 3, 0]), "residual": True, "dropout": 0.5, "key": KEY}),
    "network": (network, NETWORK, {"return_sequences": True, "resets": MASK, "merge": "concat"}),
    "no batch": (lstm, PARAMS, {"xs": XS[0]}),
}  # fmt: skip


@pytest.fixture
def third(monkeypatch):
    """A table of three rows, whose third takes sequences of more than 4 steps, and is not for those without a batch."""
    asked = []

    def refuses(request):
        asked.append(request)
        return None if request.xs.shape[0] > 4 else f"it needs 5 steps, but T is {request.xs.shape[0]}. Pass longer xs."

    row = backends.Backend(
        "third", backends.BACKENDS["scan"].run, refuses, "the third",
        forms=lambda request: f"in form {request.mode}",
        declines=lambda request: "scan is quicker without a batch" if len(request.xs.shape) < 3 else None,
    )  # fmt: skip
    rows = MappingProxyType({name: backends.BACKENDS[name] for name in ("scan", "inplace")} | {"third": row})
    monkeypatch.setattr(table, "BACKENDS", rows)
    monkeypatch.setattr(backends, "BACKENDS", rows)
    monkeypatch.setattr(table, "AUTO", ("third", "scan"))
    return asked


def leaves(choices):
    return jax.tree.leaves(getattr(choices, "layers", choices))


@pytest.mark.parametrize("call", CALLS)
def test_it_asks_what_the_call_asks_and_tells_what_the_call_runs(call):
    """Of shapes alone; every direction of every layer, in the order in which they are run."""
    run, params, options = CALLS[call]
    options = {"xs": XS, "state": None} | options
    xs, state = options.pop("xs"), options.pop("state")
    asked, explained = [], []

    def note(requests):
        def choose(request):
            requests.append(request)
            return "scan"

        return choose

    jax.eval_shape(lambda: run(params, xs, state, backend=note(asked), **options))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, xs, state))
    choices = explain_backend(*shapes, backend=note(explained), mode="training", **options)
    assert [dataclasses.replace(request, mode="training") for request in asked] == explained
    for one, other in zip(asked, explained, strict=True):
        assert (one.params, one.xs, one.state) == (other.params, other.xs, other.state)
    assert [choice.name for choice in leaves(choices)] == ["scan"] * len(asked)


@pytest.mark.parametrize("call", [lstm, stacked, network])
def test_every_option_of_the_calls_is_one_of_its_own_with_the_same_default(call):
    own = inspect.signature(explain_backend).parameters
    for name, parameter in inspect.signature(call).parameters.items():
        if name not in ("run", "layers", "return_sequences"):
            assert own[name].default == parameter.default, name


def test_what_it_says_of_each_backend(third):
    assert str(explain_backend(PARAMS, XS, mode="training")) == (
        "third runs: the third; in form training\n"
        "  scan could run: the definition: jax.lax.scan of the step\n"
        "  inplace could run: outputs written where they belong; for emitting many values of a step"
    )
    assert str(explain_backend(PARAMS, XS[:, :3], checkpoint=2)) == (
        "scan runs: the definition: jax.lax.scan of the step\n"
        "  inplace refuses: it keeps no segments, but checkpoint is 2. Pass backend='scan', or checkpoint=None.\n"
        "  third refuses: it needs 5 steps, but T is 3. Pass longer xs."
    )
    passed = explain_backend(PARAMS, XS[0])
    assert passed.name == "scan"
    assert str(passed.verdicts[-1]) == "third passed over: scan is quicker without a batch"
    assert explain_backend(PARAMS, XS[0], backend="third").name == "third"  # what is named is not passed over
    assert {request.mode for request in third} == {"training", "inference"}


@pytest.mark.usefixtures("third")
def test_what_it_chooses_is_what_runs():
    assert explain_backend(PARAMS, XS).name == "third"
    for xs, name in ((XS, "third"), (XS[0], "scan"), (XS[:, :3], "scan")):
        found = []

        def note(request, found=found):
            found.append(table.choose("auto", request))
            return "auto"

        lstm(PARAMS, xs, backend=note)
        assert found == [name]


def test_a_backend_that_is_named_and_refuses_is_told_and_not_raised():
    choice = explain_backend(PARAMS, XS, backend="inplace", checkpoint="sqrt")
    assert choice.name is None
    assert str(choice).startswith("inplace refuses: it keeps no segments, but checkpoint is 'sqrt'.")
    assert choice.verdicts[1][:2] == ("scan", "could run")
    with pytest.raises(ValueError, match="it keeps no segments"):
        lstm(PARAMS, XS, backend="inplace", checkpoint="sqrt")


@pytest.mark.usefixtures("third")
def test_layers_print_each_choice_once():
    choices = explain_backend(NETWORK, XS)
    assert str(choices).splitlines()[:2] == [
        "layer 0 forward, layer 0 reverse, layer 1 forward, layer 1 reverse:",
        "  third runs: the third; in form inference",
    ]
    alone = tuple(layer.forward for layer in init_network(KEY, I, H, O, bidirectional=True).layers)
    assert str(explain_backend(alone, XS)).startswith("layer 0:\n  third runs")


def test_the_page_shows_what_it_prints(backend_option, monkeypatch):
    """On a CPU with AVX-512 and the native kernel, with the table's own order."""
    monkeypatch.setattr(native_library, "load", lambda: native_library.Library(instruction_set="avx512"))
    shown = (Path(__file__).parent.parent / "docs" / "backends.md").read_text()
    found = explain_backend(init_params(KEY, 5, 256), jnp.ones((32, 100, 5)), mode="training", checkpoint="sqrt")
    assert f"\n```\n{found}\n```\n" in shown or backend_option != "auto"


REFUSED = {
    "mode is 'train', expected one of 'inference', 'training'.": lambda: explain_backend(PARAMS, XS, mode="train"),
    "backend is 'gpu', expected one of 'auto', 'scan'": lambda: explain_backend(PARAMS, XS, backend="gpu"),
    "reverse is True, but network, which these params are for, has no reverse. Leave it out.": lambda: explain_backend(
        NETWORK, XS, reverse=True
    ),
    "dropout is 0.5, but lstm, which these params are for, has no dropout. Leave it out.": lambda: explain_backend(
        PARAMS, XS, dropout=0.5
    ),
    "xs has 3 features": lambda: explain_backend(PARAMS, jnp.ones((B, T, 3))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_it_refuses(message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        REFUSED[message]()


def test_a_choice_of_ones_own_may_only_name_what_there_is():
    with pytest.raises(ValueError, match=r"^backend is 'gpu', expected one of 'auto', 'scan'"):
        lstm(PARAMS, XS, backend=lambda request: "gpu")
