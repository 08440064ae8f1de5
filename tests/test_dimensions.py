"""The table of dimensions says what the arrays themselves say."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from lstmjax import CELLS, Bidirectional, init_network, init_params, init_stacked, network, shapes

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


@pytest.mark.parametrize("bias", [None, "single", "double"])
@pytest.mark.parametrize("projection", [None, 7])
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_counted(name, projection, bias):
    make = partial(init_params, input_size=3, hidden_size=6, cell=name, projection_size=projection, bias=bias)
    params = jax.eval_shape(make, KEY)
    planned = shapes(input=3, hidden=6, cell=name, projection=projection, bias=bias)
    read = shapes(params, cell=name)
    assert planned.parameters == count(params) == read.parameters == shapes(params).parameters
    assert str(planned) == str(read)
    letters = {"I": 3, "H": 6, "P": projection}
    ((_, total, rows),) = read.layers
    assert [eval(row.number.replace("·", "*"), letters) for row in rows] == [row.parameters for row in rows]
    assert eval(total.replace("·", "*"), letters) == count(params)
    leaves = jax.tree.leaves_with_path(params)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves}
    assert {row.name: row.shape for row in rows} == named


def test_a_network_of_another_cell():
    how = {"bidirectional": True, "cell": "layer_norm"}
    params = jax.eval_shape(partial(init_network, input_size=3, hidden_size=6, output_size=5, layers=2, **how), KEY)
    planned = shapes(input=3, hidden=6, output=5, layers=2, **how)
    assert planned.parameters == count(params)
    assert str(planned) == str(shapes(params, cell="layer_norm"))
    for words in ("LSTM layer 2 of 2, reverse, cell layer_norm: 12 features", "4·(I·H + H·H + H) + 18·H", "LN: mean 0"):
        assert words in str(planned)
    assert "PyTorch" not in str(planned)


def test_without_its_cell_the_gates_are_left_out():
    params = init_params(KEY, 3, 6, cell="nog", init="equinox")
    rows = {row.name: row for row in shapes(params).rows}
    assert rows["z"].shape == ("B", 3, 6)
    assert not {"i", "f", "g", "o"} & set(rows)
    assert "The parameters do not say what their 3 gate blocks compute. Pass cell= to see it." in str(shapes(params))
    rows = {row.name: row.formula for row in shapes(params, cell="nog").rows}
    assert (rows["f"], rows["o"]) == ("σ(z_f), forget gate", "1, there is no output gate")
    with pytest.raises(ValueError, match="w_x has 3 gate blocks, but the cell 'fgr' has 4: i, f, g, o"):
        shapes(params, cell="fgr")
    with pytest.raises(ValueError, match="w_c is given, but the cell 'no_forget_gate' has none"):
        shapes(params, cell="no_forget_gate")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden": 4}, "input is missing"),
        ({"input": 5}, "hidden is missing"),
        ({"input": 5, "hidden": 0}, "hidden is 0, expected a whole number of at least 1"),
        ({"input": 5, "hidden": 4, "time": -1}, "time is -1"),
        ({"input": 5, "hidden": 4, "cell": "gru"}, "cell is 'gru', expected one of 'vanilla', 'peephole'"),
        ({"input": 5, "hidden": 4, "bias": "both"}, "bias is 'both', expected one of None, 'single', 'double'"),
    ],
)
def test_bad_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        shapes(**sizes)


def test_parameters_of_another_kind_are_named():
    with pytest.raises(TypeError, match="layer 0 holds a str, expected LSTMParams or Bidirectional"):
        shapes(("w",))
