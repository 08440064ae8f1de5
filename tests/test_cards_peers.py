"""The replica cards of frameworks against the frameworks: what a card says is looked for in the real layer."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from distributions import INPUT, H, I, check_biases, check_recurrent
from frameworks import MAKE, B, T, dropped_by_keras, inputs, peer_of
from recipes import cook
from tolerances import assert_close

from lstmjax import CELLS, init_params, lstm
from lstmjax.config import Optimizer
from lstmjax.convert import from_torch
from lstmjax.frameworks.base.card import ADAM
from lstmjax.frameworks.base.layouts import read
from lstmjax.replica import CARDS
from lstmjax.replica.cards import OF_FRAMEWORKS
from lstmjax.training.optimizers import RULES

pytestmark = [
    pytest.mark.peers,
    pytest.mark.usefixtures("frameworks"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]
every = pytest.mark.parametrize("name", MAKE)


def card_of(name):
    return CARDS[name.split(",")[0]]


def test_every_framework_is_looked_at():
    assert {card_of(name).name for name in MAKE} == {card.name for card in OF_FRAMEWORKS}


@every
def test_sizes_and_orientation_are_the_real_ones(name):
    card, peer = card_of(name), peer_of(name)
    layout = card.layout
    assert peer.size == 4 * (I * H + H * H + layout.biases * H)
    assert sum(b is not None for b in (peer.weights.b, peer.weights.b_h)) == layout.biases
    assert peer.weights.w_x.shape == ((4 * H, I) if layout.rows else (I, 4 * H))


@every
def test_gate_order_forget_bias_at_run_time_and_order_of_the_state(name):
    """One step of the real layer with a random bias and a random state, against the formula."""
    card, peer = card_of(name), peer_of(name)
    layout = card.layout
    random = np.random.default_rng(1)
    bias, c = random.normal(size=4 * H).astype(np.float32), random.normal(size=H).astype(np.float32)
    state = {"h": np.zeros(H, np.float32), "c": c}
    after = dict(zip(layout.state, peer.step(bias, [state[s] for s in layout.state]), strict=True))
    z = dict(zip(layout.order, np.split(bias, 4), strict=True))
    i, f, o = (1 / (1 + np.exp(-z[g] - (layout.added if g == "f" else 0))) for g in "ifo")
    c = f * c + i * np.tanh(z["g"])
    assert_close(np.asarray(after["c"]), c)
    assert_close(np.asarray(after["h"]), o * np.tanh(c))


@every
def test_a_new_layer_has_the_presets_distribution(name):
    card, peer = card_of(name), peer_of(name)
    params = read(card.layout, jax.tree.map(np.asarray, peer.weights))
    INPUT[card.preset.name](params.w_x)
    check_recurrent(card.preset.name, params.w_h)
    check_biases(card.preset.name, params)
    total = params.gate("f").b + (0 if params.b_h is None else params.gate("f").b_h)
    assert np.ptp(total) > 0.1 if card.forget_bias is None else (total == card.forget_bias).all()


@every
def test_recipes_give_what_exists_in_the_framework(name):
    card, peer = card_of(name), peer_of(name)
    names = cook(card, peer.module, I=I, H=H)
    converted = names["layers"][0]
    drawn = init_params(jax.random.key(0), I, H, init=card.preset.name)
    assert jax.tree.map(jnp.shape, converted) == jax.tree.map(jnp.shape, drawn)
    assert jax.tree.map(jnp.shape, names.get("params", drawn)) == jax.tree.map(jnp.shape, drawn)
    assert f'init="{card.preset.name}"' in card.recipe[0]
    assert card.cell == "vanilla"  # test_convert compares its outputs with those of all frameworks
    assert CELLS[card.cell].has == ()


@every
def test_there_is_no_dropout_but_that_of_the_card(name):
    card, peer = card_of(name), peer_of(name)
    arguments = {argument for maker in peer.makers for argument in inspect.signature(maker).parameters}
    assert {argument for argument in arguments if "drop" in argument} == {drop.by for drop in card.drops or ()}


# Dropout: which mask, on what


def dropped_by_torch(drop):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    xs = torch.from_numpy(inputs(B, 1, I)).expand(B, T, I)  # the same at all steps
    module = torch.nn.LSTM(I, 1, 2, batch_first=True, dropout=0.5)
    with torch.no_grad():
        for n in range(2):  # f is 0 and nothing recurs, so that a step remembers nothing
            getattr(module, f"weight_hh_l{n}").zero_()
            getattr(module, f"bias_ih_l{n}")[1] = -60.0
        ys = module(xs)[0].numpy()[..., 0]
        assert len({round(float(y), 5) for y in ys[0]}) == 2  # two masks, so one for all gates, and not of all steps
        module.dropout = 1.0
        (_, last), ys = from_torch(module), module(xs)[0]
        assert ys.abs().min() > 0  # the last layer's outputs are not dropped
        assert_close(lstm(last, jnp.zeros((B, T, 1)))[1], jnp.asarray(ys.numpy()))
    return "step", False


DROPS = {
    ("torch", "dropout"): dropped_by_torch,
    ("keras", "dropout"): dropped_by_keras,
    ("keras", "recurrent_dropout"): dropped_by_keras,
}


def test_every_dropout_is_looked_at():
    assert {(card.name, drop.by) for card in OF_FRAMEWORKS for drop in card.drops or ()} == DROPS.keys()


@pytest.mark.parametrize(("card", "by"), DROPS)
def test_dropout_stands_where_the_card_says(card, by):
    (drop,) = (drop for drop in CARDS[card].drops if drop.by == by)
    assert DROPS[card, by](drop) == (drop.mask, drop.per_gate)


# Adam


def adam_of_torch(gradients, x):
    torch = pytest.importorskip("torch")
    x = torch.nn.Parameter(torch.from_numpy(x.copy()))
    optimizer = torch.optim.Adam([x], 2.0**-7)
    for gradient in gradients:
        x.grad = torch.from_numpy(gradient)
        optimizer.step()
    return x.detach().numpy(), optimizer.defaults["eps"]


def adam_of_keras(gradients, x):
    keras = pytest.importorskip("keras")
    variable, optimizer = keras.Variable(x, dtype="float64"), keras.optimizers.Adam(2.0**-7)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(jnp.asarray(gradient), variable)])
    return np.asarray(variable.value), optimizer.epsilon


def adam_by(rule, gradients, x):
    x, state = jnp.asarray(x), rule.init(jnp.asarray(x))
    for gradient in gradients:
        updates, state = rule.update(jnp.asarray(gradient), state)
        x = x - 2.0**-7 * updates
    return np.asarray(x)


def adam_of_optax(gradients, x):
    rule = optax.adam(-1.0)  # down is up, so that updates are to be taken off
    return adam_by(rule, gradients, x), inspect.signature(optax.adam).parameters["eps"].default


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("card", [card for card in OF_FRAMEWORKS if card.adam], ids=lambda card: card.name)
def test_adam_is_the_rule_of_the_card(card):
    """By gradients of the size of ε, where it shows."""
    gradients = np.random.default_rng(0).normal(size=(4, 5)) * 10.0 ** np.arange(-9, -4)
    x = np.zeros(5)
    there, epsilon = {"torch": adam_of_torch, "keras": adam_of_keras}.get(card.name, adam_of_optax)(gradients, x)
    by = {name: adam_by(RULES[name](Optimizer()), gradients, x) for name in ADAM}
    np.testing.assert_allclose(by.pop(card.adam), there, rtol=1e-9)
    for other in by.values():
        assert np.abs(other / there - 1).max() > 0.01
    assert ADAM[card.adam].endswith(f"ε = {epsilon:.0e}".replace("e-0", "e-"))
