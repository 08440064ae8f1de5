"""The table of dimensions says what the arrays themselves say."""

import jax
import jax.numpy as jnp
import pytest

from lstmjax import Bidirectional, init_network, init_params, init_stacked, network, shapes

KEY = jax.random.key(0)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("time", [13, 100])
def test_the_number_of_parameters_does_not_depend_on_time(time):
    assert shapes(input=5, hidden=10, time=time).parameters == 640
    assert shapes(input=5, hidden=10, time=time, bias="double").parameters == 680


def test_the_published_examples():
    assert shapes(input=64, hidden=32).parameters == 12_416
    assert shapes(input=64, hidden=32, bias="double").parameters == 12_544
    table = shapes(input=64, hidden=32, output=2, time=10)
    assert sum(row.parameters for row in table.head) == 66
    table = shapes(input=5, hidden=256, output=10, time=100, batch=32)
    assert table.parameters == 268_288 + 2_570
    text = str(table)
    for words in ("4·(I·H + H·H + H) = 268,288 parameters", "2,570 parameters", "268,288 + 2,570 = 270,858"):
        assert words in text
    for words in ("269,312 with two (PyTorch)", "256 becomes 10 there", "(32, 100, 256)", "softmax(logits)"):
        assert words in text


@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("projection", [None, 7])
@pytest.mark.parametrize("bias", [None, "single", "double"])
def test_the_plan_counts_what_init_makes(bias, projection, bidirectional, merge):
    how = {"bidirectional": bidirectional, "merge": merge, "bias": bias}
    params = init_network(KEY, 3, 6, 5, 2, projection_size=projection, **how)
    planned = shapes(input=3, hidden=6, output=5, layers=2, projection=projection, **how)
    assert planned.parameters == count(params) == shapes(params, merge=merge).parameters
    assert str(planned) == str(shapes(params, merge=merge))


def test_the_shapes_of_the_flow_are_those_of_the_arrays():
    params = init_network(KEY, 3, 6, 5, bidirectional=True)
    rows = {row.name: row.shape for row in shapes(params, time=4, batch=2).rows}
    xs = jnp.ones((2, 4, 3))
    assert network(params, xs)[1].shape == rows["logits"] == rows["p"]
    assert rows["xs"] == xs.shape
    assert rows["ys"] == (2, 4, 12)
    assert rows["h_T"] == (2, 12)


def test_parameters_of_every_kind_are_read():
    one = init_params(KEY, 3, 6)
    assert shapes(one).parameters == count(one)
    assert shapes(Bidirectional(one, one)).parameters == 2 * count(one)
    assert shapes(init_stacked(KEY, 3, 6, 3)).parameters == count(init_stacked(KEY, 3, 6, 3))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": 4}, "input is missing"),
        ({"input": 5}, "hidden is missing"),
        ({"input": 5, "hidden": 0}, "hidden is 0, expected a whole number of at least 1"),
        ({"input": 5, "hidden": 4, "time": -1}, "time is -1"),
        ({"input": 5, "hidden": 4, "bias": "both"}, "bias is 'both', expected one of None, 'single', 'double'"),
    ],
)
def test_bad_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        shapes(**sizes)


def test_parameters_of_another_kind_are_named():
    with pytest.raises(TypeError, match="layer 0 holds a str, expected LSTMParams or Bidirectional"):
        shapes(("w",))
