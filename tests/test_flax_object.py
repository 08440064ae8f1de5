"""What objects of Flax say of how their layers are run: honoured or refused by name, and verified as they say it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from modules import B, H, I, T
from tolerances import assert_close

import lstmjax
import lstmjax.nnx
from lstmjax import stacked, verify, with_activations
from lstmjax.convert import ConvertError, from_linen, from_nnx, model_from_linen, model_from_nnx

pytestmark = pytest.mark.usefixtures("frameworks")

XS = np.random.default_rng(0).normal(size=(B, T, I)).astype(np.float32)
LENGTHS = np.array([5, 1, 3])
VALID = np.arange(T) < LENGTHS[:, None]


def softclip(z):
    return jnp.clip(z + 0.3, 0, 1)


def added(a, b):
    return a + b


def multiplied(a, b):
    return a * b


# What is said: of both cells, of each RNN, and of the Bidirectional, if there is one; and the option of `stacked`
# that says the same, or the words of the refusal.
RELU = with_activations("vanilla", activation_fn=jax.nn.relu)
SAID = {
    "nothing": ({}, {}, None, {}),
    "a pair": ({}, {}, {}, {}),
    "optimized": ({"optimized": True}, {}, {}, {}),
    "activation_fn": ({"activation_fn": jax.nn.relu}, {}, None, {"cell": RELU}),
    "activation_fn of a pair": ({"activation_fn": jax.nn.relu}, {}, {}, {"cell": RELU}),
    "gate_fn": ({"gate_fn": jax.nn.hard_sigmoid}, {}, None, {"cell": "hard_sigmoid_sixth"}),
    "gate_fn of one's own": (
        {"gate_fn": softclip, "optimized": True}, {}, None, {"cell": with_activations("vanilla", softclip)},
    ),
    "their own names": ({"gate_fn": jax.nn.sigmoid, "activation_fn": jnp.tanh}, {}, None, {}),
    "merge_fn": ({}, {}, {"merge_fn": added}, {"merge": "sum"}),
    "merge_fn of jax": ({}, {}, {"merge_fn": jnp.add}, {"merge": "sum"}),
    "merge_fn that concatenates": ({}, {}, {"merge_fn": lambda a, b: jnp.concatenate([a, b], axis=2)}, {}),
    "time_major": ({}, {"time_major": True}, None, {"time_major": True}),
    "time_major of a pair": ({}, {}, {"time_major": True}, {"time_major": True}),
    "what a pair overrides": ({}, {"reverse": True, "keep_order": True, "time_major": True}, {}, {}),
    "return_carry, unroll": ({}, {"return_carry": True, "unroll": 2}, None, {}),
    "keep_order alone": ({}, {"keep_order": True}, None, {}),
    "reverse": ({}, {"reverse": True}, None, "it runs with reverse=True and keep_order=False"),
    "reverse in order": ({}, {"reverse": True, "keep_order": True}, None, "reverse=True and keep_order=True"),
}  # fmt: skip


def nnx_module(cell, rnn, pair, features=I):
    cell = {"bias_init": nnx.initializers.normal(0.5)} | cell
    kind = nnx.OptimizedLSTMCell if cell.pop("optimized", False) else nnx.LSTMCell
    rnns = [nnx.RNN(kind(features, H, rngs=nnx.Rngs(n), **cell), **rnn) for n in range(2)]
    return rnns[0] if pair is None else nnx.Bidirectional(*rnns, **pair)


def linen_module(cell, rnn, pair):
    cell = {"bias_init": linen.initializers.normal(0.5)} | cell
    kind = linen.OptimizedLSTMCell if cell.pop("optimized", False) else linen.LSTMCell
    rnns = [linen.RNN(kind(H, **cell), **rnn) for _ in range(2)]
    return rnns[0] if pair is None else linen.Bidirectional(*rnns, **pair)


def swapped(a, module):
    return np.swapaxes(a, 0, 1) if module.time_major else a


def drawn(framework, *what):
    """A module, its two functions of ours, and what it computes itself, time after the batch."""
    if framework == "nnx":
        module = nnx_module(*what)
        layers, model = (lambda **options: from_nnx(module, **options)), lambda: model_from_nnx(module)
        call = module
    else:
        module = linen_module(*what)
        variables = module.init(jax.random.key(3), swapped(XS, module))
        layers, model = (
            (lambda **options: from_linen(variables, module, **options)),
            lambda: model_from_linen(variables, module),
        )
        call = lambda xs, **how: module.apply(variables, xs, **how)

    def theirs(lengths=None):
        return swapped(np.asarray(call(swapped(XS, module), seq_lengths=lengths, return_carry=False)), module)

    return module, layers, model, theirs


@pytest.mark.parametrize(
    ("framework", "row"),
    [
        (framework, row)
        for n, row in enumerate(SAID)
        for framework in ("nnx", "linen")
        if n % 2 == (framework == "nnx") or "one's own" in row or "merge_fn" in row or "reverse" in row
    ],
)
def test_a_model_runs_as_its_object_says(framework, row):
    cell, rnn, pair, _ = SAID[row]
    _, _, model, theirs = drawn(framework, cell, rnn, pair)
    ours = model()
    assert ours.architecture.stated
    assert not ours.architecture.assumed
    assert_close(ours(XS), theirs())
    actual, expected = ours(XS, lengths=LENGTHS), theirs(LENGTHS)
    assert_close(actual, np.where(VALID[..., None], expected, 0))  # Flax leaves what is behind the end as it comes


@pytest.mark.parametrize(("framework", "row"), list(zip(itertools.cycle(["nnx", "linen"]), SAID, strict=False)))
def test_layers_are_given_for_the_options_that_run_them(framework, row):
    cell, rnn, pair, options = SAID[row]
    module, layers, _, theirs = drawn(framework, cell, rnn, pair)
    if isinstance(options, str):
        with pytest.raises(ConvertError, match=options):
            layers()
        return
    found = layers(**options)
    _, ys = stacked(found, swapped(XS, module), **options)
    assert_close(swapped(np.asarray(ys), module), theirs())
    named = {"cell": "gate_fn and activation_fn make it the cell", "merge": "merge_fn joins the directions by 'sum'"}
    for name in options:
        words = named.get(name, "time_major is True, but time_major is False here")
        with pytest.raises(ConvertError, match=words):
            layers(**{other: value for other, value in options.items() if other != name})


@pytest.mark.parametrize("row", ["gate_fn of one's own", "merge_fn", "time_major of a pair", "reverse in order"])
def test_verify_runs_the_object_as_it_says(row):
    cell, rnn, pair, options = SAID[row]
    module = nnx_module(cell, rnn, pair)
    verdict = verify(module, XS)
    assert verdict, verdict
    assert not verdict.unchecked
    assert isinstance(options, str) or verify(module, XS, lengths=LENGTHS)


@pytest.mark.parametrize("row", ["activation_fn", "activation_fn of a pair", "gate_fn", "reverse", "reverse in order"])
def test_verify_sees_what_the_weights_alone_do_not_say(row):
    cell, rnn, pair, options = SAID[row]
    module = nnx_module(cell, rnn, pair)
    weights = model_from_nnx(module).params
    assert not verify(lambda xs: np.asarray(module(xs)), XS, params=weights)
    if "cell" in options:
        assert not verify(module, XS, cell="vanilla")


def test_a_state_is_weights_alone():
    module = nnx_module({"activation_fn": jax.nn.relu}, {"reverse": True}, None)
    layers = from_nnx(nnx.state(module, nnx.Param))
    np.testing.assert_array_equal(layers[0].w_x, from_nnx(module.cell, cell=RELU)[0].w_x)
    ys = lstmjax.lstm(layers[0], XS, cell=RELU, reverse=True)[1]
    assert_close(np.flip(np.asarray(ys), 1), np.asarray(module(XS)))


def test_one_rnn_in_both_directions_is_two():
    rnn = nnx.RNN(nnx.LSTMCell(I, H, rngs=nnx.Rngs(0)))
    both = nnx.Bidirectional(rnn, rnn)
    assert_close(stacked(from_nnx(both), XS)[1], both(XS))
    assert verify(both, XS)


def test_a_bound_module_has_both():
    module = linen_module({"activation_fn": jax.nn.relu}, {}, None)
    variables = module.init(jax.random.key(3), XS)
    bound = module.bind(variables)
    assert_close(model_from_linen(bound)(XS), module.apply(variables, XS))
    with pytest.raises(ConvertError, match="make it the cell 'vanilla, tanh by relu'"):
        from_linen(bound)
    assert len(from_linen(variables)) == 1  # weights alone do not say
    with pytest.raises(ConvertError, match="theirs is a bound RNN of linen; pass the function"):
        verify(bound, XS)
    assert verify(lambda xs: np.asarray(bound(xs)), XS, params=model_from_linen(bound))
    said = verify(variables, XS)
    assert "weights alone. Assumed on both sides: tanh and sigmoid, every layer forward" in said.unchecked[0]


def test_a_sequence_says_what_stands_between():
    def layers(*between):
        first, second = nnx_module({}, {}, {}), nnx_module({}, {}, None, features=2 * H)
        return nnx.Sequential(first, *between, second, nnx.Linear(H, 3, rngs=nnx.Rngs(0)))

    plain = layers(nnx.Dropout(0.5, deterministic=True))
    found = from_nnx(plain)
    assert_close(plain.layers[-1](stacked(found, XS)[1]), plain(XS))
    verdict = verify(plain, XS)
    assert verdict, verdict
    assert (verdict.unchecked, [one.name for one in verdict.compared]) == ((), ["h", "h", "y"])
    with pytest.raises(ConvertError, match=r"layers\[1\]: relu stands before an LSTM layer"):
        from_nnx(layers(jax.nn.relu))
    with pytest.raises(ConvertError, match=r"layers\[1\]: relu stands before an LSTM layer"):
        verify(layers(jax.nn.relu), XS)

    class Net(nnx.Module):
        def __init__(self):
            self.stack = layers(jax.nn.relu)

    with pytest.raises(ConvertError, match=r"module is a Net, expected a cell, .*module\.stack\.layers\.0, "):
        from_nnx(Net())
    deep = linen.Sequential([linen.RNN(linen.LSTMCell(H)), linen.tanh, linen.RNN(linen.LSTMCell(H))])
    with pytest.raises(ConvertError, match=r"layers\[1\]: tanh stands before an LSTM layer"):
        from_linen(deep.init(jax.random.key(0), XS), deep)


class Mine(nnx.LSTMCell):
    def __call__(self, carry, inputs):
        return super().__call__(carry, 2 * inputs)


class Net(linen.Module):
    @linen.compact
    def __call__(self, xs):
        return linen.RNN(linen.LSTMCell(H))(xs)


class Ones(nnx.LSTMCell):
    def initialize_carry(self, *args, **options):
        return jax.tree.map(jnp.ones_like, super().initialize_carry(*args, **options))


def promote_to_float32(arrays, *, dtype=None):
    return tuple(None if a is None else jnp.asarray(a, jnp.float32) for a in arrays)


def with_lora():
    cell = nnx_cell()
    cell.hi = nnx.LoRALinear(H, H, lora_rank=2, rngs=nnx.Rngs(0))
    return nnx.RNN(cell)


class Stack(nnx.Module):
    """Layers in another order than their names, with relu between and a Linear before them."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(I, 6, rngs=rngs)
        self.b = nnx.RNN(nnx.LSTMCell(6, H, rngs=rngs))
        self.a = nnx.RNN(nnx.LSTMCell(H, H, rngs=rngs))

    def __call__(self, xs):
        return self.a(nnx.relu(self.b(self.first(xs))))


class Doubled(nnx.Sequential):
    def __call__(self, xs):
        return 2 * super().__call__(xs)


def nnx_cell(**options):
    return nnx.LSTMCell(I, H, rngs=nnx.Rngs(0), **options)


def pair_of(one, other):
    return nnx.Bidirectional(nnx.RNN(one), nnx.RNN(other))


def softmax_last(logits):
    return jax.nn.softmax(logits, axis=-1)


def last_step(ys):
    return ys[:, -1]


def halves(z):
    return 0.5 * z


class Offset(nnx.Linear):
    def __call__(self, xs):
        return super().__call__(xs) + 1


# What stands behind the layers, for NNX and linen: a head of these options, functions before and after it.
BEHIND = {
    "a head": ({}, (), ()),
    "a head without a bias": ({"use_bias": False}, (), ()),
    "a head in float32": ({"dtype": jnp.float32}, (), ()),
    "relu of a head": ({}, (), (jax.nn.relu,)),
    "softmax of a head": ({}, (), (softmax_last,)),
    "relu alone": (None, (jax.nn.relu,), ()),
    "relu before the head": ({}, (jax.nn.relu,), ()),
    "the last step": ({}, (last_step,), ()),
    "the last step of the head's": ({}, (), (last_step,)),
    "two functions": ({}, (), (jax.nn.relu, halves)),
    "a function over time": ({}, (), (lambda y: y - y.mean(1, keepdims=True),)),
    "a head in bfloat16": ({"dtype": jnp.bfloat16}, (), ()),
}
RUN = ("a head", "a head without a bias", "a head in float32", "relu of a head", "softmax of a head")


def with_behind(framework, row, rnn=()):
    """A Sequential of two layers, and what it computes."""
    head, before, after = BEHIND[row]
    rnn = dict(rnn)
    if framework == "nnx":
        layers = [nnx_module({}, rnn, None), nnx_module({}, rnn, None, features=H)]
        bias = {"bias_init": nnx.initializers.normal(0.5), "rngs": nnx.Rngs(4)}
        dense = [] if head is None else [nnx.Linear(H, 2, **bias, **head)]
        module = nnx.Sequential(*layers, *before, nnx.Dropout(0.5, rngs=nnx.Rngs(0)), *dense, *after)
        evaluated = nnx.Sequential(*layers, *before, *dense, *after)
        return module, evaluated
    dense = [] if head is None else [linen.Dense(2, bias_init=linen.initializers.normal(0.5), **head)]
    layers = [linen_module({}, rnn, None) for _ in range(2)]
    module = linen.Sequential([*layers, *before, linen.Dropout(0.5, deterministic=True), *dense, *after])
    variables = module.init(jax.random.key(3), XS)
    return module.bind(variables), lambda xs: module.apply(variables, xs)


@pytest.mark.parametrize(("framework", "row"), list(zip(itertools.cycle(["nnx", "linen"]), BEHIND, strict=False)))
def test_a_model_runs_what_stands_behind_or_refuses_it(framework, row):
    module, theirs = with_behind(framework, row)
    read = model_from_nnx if framework == "nnx" else model_from_linen
    if row not in RUN:
        with pytest.raises(ConvertError, match=r"layers\[\d\]: .*: a Model runs a Dense head"):
            read(module)
        return
    model = read(module)
    assert_close(model(XS), theirs(XS))
    assert_close(model(XS, lengths=LENGTHS, return_sequences=False), theirs(XS)[np.arange(B), LENGTHS - 1])


@pytest.mark.parametrize("row", BEHIND)
def test_verify_compares_the_head_or_says_that_it_did_not(row):
    module, theirs = with_behind("nnx", row)
    verdict = verify(module, XS)
    assert verdict, verdict
    if row in RUN:
        assert verdict.compared[-1].name == "y"
        assert not verdict.unchecked
        assert verify(module, XS, lengths=LENGTHS)
        return
    assert {one.name for one in verdict.compared} == {"h"}
    (words,) = verdict.unchecked
    assert words.startswith("its recurrent layers alone were compared, not layers[")
    assert words.count("layers[") == len(theirs.layers) - 2


def test_a_head_of_layers_that_run_backwards_with_time_first():
    module, theirs = with_behind("nnx", "relu of a head", {"reverse": True, "time_major": True})
    expected = np.swapaxes(theirs(np.swapaxes(XS, 0, 1)), 0, 1)
    assert_close(model_from_nnx(module)(XS), expected)
    assert verify(module, XS)


def test_another_head_is_no_head():
    rnn = nnx_module({}, {}, None)
    module = nnx.Sequential(rnn, Offset(H, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(ConvertError, match=r"layers\[1\]: Offset: a Model runs a Dense head"):
        model_from_nnx(module)
    assert verify(module, XS).unchecked == ("its recurrent layers alone were compared, not layers[1]: Offset",)
    mixed = nnx.Sequential(nnx_module({}, {"time_major": True}, None), nnx_module({}, {}, None, features=H))
    with pytest.raises(ConvertError, match="time_major is True in one layer and False in another"):
        model_from_nnx(mixed)
    with pytest.raises(ConvertError, match="time_major is True in one layer and False in another"):
        verify(mixed, XS)


UNREAD = {
    "a class of the caller's": (Stack, r"module is a Stack, .*its layers \(module\.a, module\.b\)"),
    "behind an RNN": (
        lambda: nnx.Sequential(nnx_module({}, {}, None), nnx.Linear(H, I, rngs=nnx.Rngs(0)), Stack()),
        r"module is a Sequential, .*\(module\.layers\.2\.a, module\.layers\.2\.b\)",
    ),
    "before an RNN": (
        lambda: nnx.Sequential(Stack(), nnx_module({}, {}, None, features=H)),
        r"layers\[0\]: Stack stands before an LSTM layer",
    ),
    "a list": (lambda: nnx.List([nnx_module({}, {}, None)]), "module is a List, expected a cell"),
    "a derived Sequential": (
        lambda: nnx.Sequential(Doubled(nnx_module({}, {}, None))),
        r"layers\[0\]: Doubled has a __call__ of its own",
    ),
}


@pytest.mark.parametrize("row", UNREAD)
def test_a_call_that_cannot_be_read_is_refused(row):
    build, words = UNREAD[row]
    module = build()
    for read in (from_nnx, model_from_nnx, lambda module: verify(module, XS)):
        with pytest.raises(ConvertError, match=words):
            read(module)


def test_a_module_that_is_not_read_is_verified_as_a_function():
    module = Stack()
    weights = from_nnx(nnx.state(module, nnx.Param))  # a before b, in the order of names
    np.testing.assert_array_equal(weights[1].w_x, from_nnx(module.b)[0].w_x)
    between = module.first(XS)
    assert verify(lambda xs: np.asarray(module.b(xs)), between, params=weights[1:])
    assert not verify(lambda xs: np.asarray(module.a(nnx.relu(module.b(xs)))), between, params=weights[::-1])


def narrowed(module):
    """The module with its weights cast after it was made."""
    state = nnx.state(module, nnx.Param)
    nnx.update(module, jax.tree.map(lambda a: a.astype(jnp.bfloat16), state))
    return module


REFUSED = {
    "Ones has an initialize_carry of its own": lambda: from_nnx(nnx.RNN(Ones(I, H, rngs=nnx.Rngs(0)))),
    "cell: promote_dtype is promote_to_float32": lambda: model_from_nnx(
        nnx.RNN(nnx_cell(promote_dtype=promote_to_float32))
    ),
    "^dtype is float32, but the weights are bfloat16": lambda: from_nnx(
        nnx.RNN(nnx_cell(dtype=jnp.float32, param_dtype=jnp.bfloat16, recurrent_kernel_init=nnx.initializers.zeros))
    ),
    "^the weights are bfloat16, but param_dtype is float32, in which Flax makes the carry": lambda: model_from_nnx(
        narrowed(nnx.RNN(nnx_cell()))
    ),
    "cell: hi is a LoRALinear, expected Flax's Linear": lambda: from_nnx(with_lora()),
    "merge_fn is multiplied, which neither": lambda: from_nnx(nnx_module({}, {}, {"merge_fn": multiplied})),
    "the cells of the two directions have other functions: 'vanilla' and 'vanilla, tanh by relu'": lambda: from_nnx(
        pair_of(nnx_cell(), nnx_cell(activation_fn=jax.nn.relu))
    ),
    "Mine has a __call__ of its own": lambda: from_nnx(nnx.RNN(Mine(I, H, rngs=nnx.Rngs(0)))),
    "it is a GRUCell of flax.nnx": lambda: from_nnx(nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))),
    r"it is a LSTMCell of lstmjax.nnx.cell, .*ours gives its weights itself, cell.to_params\(\)": lambda: from_nnx(
        nnx.RNN(lstmjax.nnx.LSTMCell(I, H, rngs=nnx.Rngs(0)))
    ),
    "there is no LSTM cell in it, a Linear; it holds bias, kernel": lambda: from_nnx(
        nnx.Linear(I, H, rngs=nnx.Rngs(0))
    ),
    "a stack has one cell for all": lambda: from_nnx(
        nnx.Sequential(nnx_module({}, {}, None), nnx_module({"gate_fn": softclip}, {}, None, features=H))
    ),
    "a stack has one for all": lambda: model_from_nnx(
        nnx.Sequential(nnx_module({}, {}, {}), nnx_module({}, {}, {"merge_fn": added}, features=2 * H))
    ),
    "module is a Net, expected a cell, an RNN": lambda: from_linen(Net().init(jax.random.key(0), XS), Net()),
    "variables is a RNN that is not bound": lambda: from_linen(linen_module({}, {}, None)),
    "variables is a list, expected a mapping": lambda: from_linen([1]),
    "module is None, but variables do not say": lambda: model_from_linen(Net().init(jax.random.key(0), XS)),
    "module is a dict, which does not say": lambda: model_from_nnx({}),
    "module has 1 recurrent layers of 2 directions, but the variables 1 of 1": lambda: from_linen(
        Net().init(jax.random.key(0), XS), linen_module({}, {}, {})
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_no_model_says_is_refused_by_name(words):
    with pytest.raises(ConvertError, match=words):
        REFUSED[words]()


CELL_ONLY = {
    "carry_init is ones, which does not begin with zeros": {"carry_init": nnx.initializers.ones},
    "carry_init is .*, which does not begin with zeros": {"carry_init": nnx.initializers.normal(1.0)},
    "dtype is bfloat16, but the weights are float32": {"dtype": jnp.bfloat16},
}


@pytest.mark.filterwarnings("ignore:carry_init is provided")
@pytest.mark.parametrize("framework", ["nnx", "linen"])
@pytest.mark.parametrize("pair", [None, {}], ids=["one", "a pair"])
@pytest.mark.parametrize("words", CELL_ONLY)
def test_what_a_cell_says_and_no_layer_stores_is_refused(framework, words, pair):
    module, layers, model, _ = drawn(framework, CELL_ONLY[words], {}, pair)
    for read in (layers, model, *([lambda: verify(module, XS)] if framework == "nnx" else [])):
        with pytest.raises(ConvertError, match=words):
            read()


@pytest.mark.filterwarnings("ignore:carry_init is provided")
@pytest.mark.parametrize("framework", ["nnx", "linen"])
@pytest.mark.parametrize(
    "cell",
    [{"carry_init": nnx.initializers.zeros}, {"dtype": jnp.float32}, {"dtype": "float32"}],
    ids=["zeros", "dtype", "word"],
)
def test_what_changes_nothing_is_taken(framework, cell):
    _, layers, model, theirs = drawn(framework, cell, {}, None)
    assert_close(stacked(layers(), XS)[1], theirs())
    assert_close(model()(XS), theirs())
