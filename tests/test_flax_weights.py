"""Weights of Flax alone, as variables, states and files have them: what stands beside the cells is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, serialization
from flax.training.train_state import TrainState
from modules import B, H, I, T
from tolerances import assert_close

from lstmjax import verify
from lstmjax.convert import ConvertError, from_linen, from_nnx, load_model

pytestmark = pytest.mark.usefixtures("frameworks")

XS = np.random.default_rng(0).normal(size=(B, T, I)).astype(np.float32)


def beside(tree, *names):
    """Variables with an array at this place, too."""
    branch = tree = jax.tree.map(np.asarray, tree)
    for name in names[:-1]:
        branch = branch.setdefault(name, {})
    branch[names[-1]] = np.ones((H, 3), np.float32)
    return tree


@pytest.mark.parametrize(
    "place",
    [
        ("params", "cell", "ii", "bias"),
        ("params", "cell", "ln", "scale"),
        ("params", "cell", "more", "kernel"),
        ("params", "scale"),
        ("batch_stats", "mean"),
        ("params", "Dense_0", "kernel"),
    ],
)
def test_what_stands_inside_and_beside_a_cell_is_refused_by_name(place):
    """A single Dense layer is the head, which is left out."""
    variables = linen.RNN(linen.LSTMCell(H)).init(jax.random.key(0), XS)
    more = beside(variables, *place)
    if place[1] == "Dense_0":
        np.testing.assert_array_equal(from_linen(more)[0].w_x, from_linen(variables)[0].w_x)
        with pytest.raises(ConvertError, match=r"Dense_0/kernel, params/Dense_1/kernel\. Pass extra='drop' to leave"):
            from_linen(beside(more, "params", "Dense_1", "kernel"))
    else:
        for read in (from_linen, from_nnx):
            with pytest.raises(ConvertError, match=f"holds more than LSTM cells and a head: {'/'.join(place)}. Pass"):
                read(more)
    assert len(from_linen(more, extra="drop")) == len(from_nnx(more, extra="drop")) == 1
    assert f"left out on both sides: {'/'.join(place)}" in verify(more, XS).unchecked


@pytest.mark.parametrize("form", ["TrainState", "nnx"])
def test_the_state_of_an_optimizer_is_passed_over(form, tmp_path):
    import optax

    if form == "nnx":
        module = nnx.Sequential(nnx.RNN(nnx.LSTMCell(I, H, rngs=nnx.Rngs(0))), nnx.Linear(H, 3, rngs=nnx.Rngs(1)))
        weights = nnx.to_pure_dict(nnx.state(module, nnx.Param))
        tree = {"model": weights, "optimizer": {"opt_state": optax.adam(1e-3).init(weights)}}
        expected = module(XS)
    else:
        module = linen.Sequential([linen.RNN(linen.LSTMCell(H)), linen.Dense(3)])
        variables = module.init(jax.random.key(0), XS)
        options = {"apply_fn": module.apply, "params": variables["params"], "tx": optax.adam(1e-3)}
        tree = TrainState.create(**options)
        expected = module.apply(variables, XS)
    tree = serialization.to_state_dict(tree)
    (tmp_path / "state.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    for options in ({}, {"extra": "drop"}):
        model = load_model(tmp_path / "state.msgpack", **options)
        assert_close(model(XS, return_sequences=True), jnp.asarray(expected))
