"""The same start gives the same training: 200 steps here and in a framework end in the same parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from against import B, H, I, T

from lstmjax import Dense, NetworkParams, network
from lstmjax.convert import from_keras, from_linen, from_nnx, from_torch
from lstmjax.training.optimizers import scale_by_adam_keras

pytestmark = [pytest.mark.usefixtures("x64", "promotion"), pytest.mark.peers]

STEPS, O = 200, 6
BOUND = 1e-12  # of the largest number of each array; measured: 2e-15


def numbers(outputs, y):
    return jnp.mean((outputs - y) ** 2)


def classes(outputs, y):
    return optax.losses.softmax_cross_entropy_with_integer_labels(outputs, y).mean()


def batches(loss=numbers):
    """Another batch for each step: xs `[S, B, T, I]`, targets `[S, B, O]` or labels `[S, B]`."""
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(STEPS, B, T, I))
    return xs, rng.normal(size=(STEPS, B, O)) if loss is numbers else rng.integers(0, O, (STEPS, B))


def trained(params, rule, apply, data, loss=numbers):
    """Gives the parameters after all steps, and the loss of each: one scan over the batches."""

    def step(carry, batch):
        params, state = carry
        xs, y = batch
        value, gradient = jax.value_and_grad(lambda params: loss(apply(params, xs), y))(params)
        updates, state = rule.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.jit(partial(jax.lax.scan, step))((params, rule.init(params)), data)
    return params, losses


def logits(params, xs):
    return network(params, xs)[1]


def apart(a, b):
    """Gives the largest of max|a − b| / max|b| over all arrays."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max() / np.abs(y).max()), a, b)))


def assert_same(ours, theirs, start):
    """Compares (params, losses) of both sides; the parameters must also have gone somewhere."""
    assert apart(ours[0], theirs[0]) <= BOUND
    np.testing.assert_allclose(ours[1], theirs[1], rtol=BOUND)
    assert apart(start, theirs[0]) > 0.1


# PyTorch


class Torch:
    """A torch.nn.LSTM and a Linear in float64."""

    def __init__(self, **options):
        self.torch = torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(I, H, batch_first=True, dtype=torch.float64, **options)
        self.head = torch.nn.Linear(H * (1 + self.lstm.bidirectional), O, dtype=torch.float64)

    def parameters(self):
        return [*self.lstm.parameters(), *self.head.parameters()]

    def params(self):
        w, b = (jnp.asarray(p.detach().numpy().copy()) for p in (self.head.weight, self.head.bias))
        return NetworkParams(from_torch(self.lstm), Dense(w.T, b))

    def train(self, optimizer, data, loss=numbers):
        F = self.torch.nn.functional
        value_of = F.mse_loss if loss is numbers else F.cross_entropy
        losses = []
        for xs, y in zip(*map(self.torch.from_numpy, data), strict=True):
            _, (h, _) = self.lstm(xs)
            h = self.torch.cat(list(h[-1 - self.lstm.bidirectional :]), dim=-1)
            value = value_of(self.head(h), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        return self.params(), np.array(losses)


TORCH = {  # the optimizer there, here
    "sgd": (lambda t, p: t.optim.SGD(p, 0.1), optax.sgd(0.1)),
    "momentum": (lambda t, p: t.optim.SGD(p, 0.05, momentum=0.9), optax.sgd(0.05, momentum=0.9)),
    "nesterov": (
        lambda t, p: t.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
        optax.sgd(0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (lambda t, p: t.optim.Adam(p, 0.01), optax.adam(0.01)),
    "adamw": (lambda t, p: t.optim.AdamW(p, 0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
}
DEEP = {"num_layers": 2, "bidirectional": True}
slow = partial(pytest.param, marks=pytest.mark.slow)
RUNS = [
    ("sgd", {}, numbers),
    ("adam", {}, classes),
    slow("sgd", DEEP, classes),
    slow("adam", DEEP, numbers),
    slow("momentum", {}, numbers),
    slow("nesterov", {}, classes),
    slow("adamw", {}, numbers),
]


@pytest.mark.parametrize(("name", "options", "loss"), RUNS)
def test_training_is_pytorchs(name, options, loss):
    theirs, data = Torch(**options), batches(loss)
    make, rule = TORCH[name]
    start = theirs.params()
    ours = trained(start, rule, logits, data, loss)
    assert_same(ours, theirs.train(make(theirs.torch, theirs.parameters()), data, loss), start)


def test_two_biases_learn_twice_as_fast_as_one():
    """PyTorch's b_ih and b_hh both get the gradient of their sum."""
    theirs, data = Torch(), batches()
    start = theirs.params()

    def summed(params):
        (layer,) = params.layers
        return params._replace(layers=(layer._replace(b=layer.b + layer.b_h, b_h=None),))

    end, _ = theirs.train(theirs.torch.optim.SGD(theirs.parameters(), 0.1), data)
    two, _ = trained(start, optax.sgd(0.1), logits, data)
    one, _ = trained(summed(start), optax.sgd(0.1), logits, data)
    twice = optax.chain(
        optax.stateless(lambda g, _: g._replace(layers=(g.layers[0]._replace(b=2 * g.layers[0].b),))), optax.sgd(0.1)
    )
    fast, _ = trained(summed(start), twice, logits, data)
    assert apart(two, end) <= BOUND
    assert apart(fast, summed(end)) <= BOUND
    assert apart(one, summed(end)) > 0.01


# Keras


@pytest.fixture
def keras64(keras):
    """Keras in float64, its learning rates included."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield keras
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


KERAS = {  # the optimizer there, here
    "sgd": (lambda k: k.optimizers.SGD(0.1), optax.sgd(0.1)),
    "momentum": (lambda k: k.optimizers.SGD(0.05, momentum=0.9), optax.sgd(0.05, momentum=0.9)),
    "adam": (lambda k: k.optimizers.Adam(0.01), optax.chain(scale_by_adam_keras(), optax.scale_by_learning_rate(0.01))),
}


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("name", ["adam", slow("sgd"), slow("momentum")])
def test_training_is_keras(name, keras64):
    keras, data = keras64, batches()
    keras.utils.set_random_seed(0)
    # Keras' own tanh rounds to float32 on JAX, where Keras knows no 64-bit results.
    lstm = keras.layers.LSTM(H, activation=jnp.tanh)
    model = keras.Sequential([keras.Input((T, I)), lstm, keras.layers.Dense(O)])
    make, rule = KERAS[name]
    optimizer = make(keras)
    optimizer.build(model.trainable_variables)

    def params():
        w, b = (jnp.asarray(v.value) for v in model.layers[1].weights)
        return NetworkParams(from_keras(model.layers[0]), Dense(w, b))

    fixed = [v.value for v in model.non_trainable_variables]

    def step(carry, batch):
        weights, state = carry
        xs, y = batch

        def loss(weights):
            outputs, _ = model.stateless_call(weights, fixed, xs, training=True)
            return numbers(outputs, y)

        value, gradient = jax.value_and_grad(loss)(weights)
        return optimizer.stateless_apply(state, gradient, weights), value

    start = params()
    carry = [v.value for v in model.trainable_variables], [v.value for v in optimizer.variables]
    (weights, _), losses = jax.jit(partial(jax.lax.scan, step))(carry, data)
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    assert_same(trained(start, rule, logits, data), (params(), losses), start)


# Gradients so small that it shows where ε stands
SMALL = np.random.default_rng(0).normal(size=(STEPS, 3, 5)) * 10.0 ** np.linspace(-9, -5, 5)


def test_adams_epsilon_stands_where_keras_has_it(keras64):
    variable = keras64.Variable(np.random.default_rng(1).normal(size=(3, 5)))
    start = jnp.asarray(variable.value)
    optimizer = keras64.optimizers.Adam(0.01)
    optimizer.build([variable])
    for gradient in SMALL:
        optimizer.apply_gradients([(jnp.asarray(gradient), variable)])

    def moved(direction):
        rule = optax.chain(direction, optax.scale_by_learning_rate(0.01))
        state = rule.init(start), start

        def step(carry, gradient):
            state, x = carry
            updates, state = rule.update(gradient, state)
            return (state, x + updates), None

        return jax.lax.scan(step, state, SMALL)[0][1]

    assert apart(moved(scale_by_adam_keras()), variable.value) < 1e-14
    assert apart(moved(optax.scale_by_adam(eps=1e-7)), variable.value) > 1e-3


# Flax: one Optax rule drives both


def test_training_is_linens():
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, xs):
            hs = linen.RNN(linen.LSTMCell(H, param_dtype=jnp.float64))(xs)
            return linen.Dense(O, param_dtype=jnp.float64)(hs[:, -1])

    data, net = batches(), Net()
    variables = jax.jit(net.init)(jax.random.key(0), data[0][0])

    def params(variables):
        head = variables["params"]["Dense_0"]
        return NetworkParams(from_linen(variables), Dense(head["kernel"], head["bias"]))

    end, losses = trained(variables, optax.sgd(0.1), net.apply, data)
    start = params(variables)
    assert_same(trained(start, optax.sgd(0.1), logits, data), (params(end), losses), start)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["LSTMCell", "OptimizedLSTMCell"])
def test_training_is_nnxs(which):
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            wide = {"param_dtype": jnp.float64, "rngs": rngs}
            self.rnn, self.head = nnx.RNN(getattr(nnx, which)(I, H, **wide)), nnx.Linear(H, O, **wide)

    data = batches()
    graph, start, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def apply(state, xs):
        net, zeros = nnx.merge(graph, state, rest), jnp.zeros((B, H))
        return net.head(net.rnn(xs, initial_carry=(zeros, zeros))[:, -1])

    def params(state):
        head = nnx.merge(graph, state, rest).head
        return NetworkParams(from_nnx(state), Dense(head.kernel[...], head.bias[...]))

    end, losses = trained(start, optax.sgd(0.1), apply, data)
    assert_same(trained(params(start), optax.sgd(0.1), logits, data), (params(end), losses), params(start))
