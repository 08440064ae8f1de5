"""`fit` with models and losses of any kind, against the same training written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lstmjax import init_network, network
from lstmjax.training import Diverged, Hooks, Shuffled, fit, gradient_statistics, make_train_step, start_state
from lstmjax.training.models import objective_of, parted

pytestmark = pytest.mark.usefixtures("promotion")

N, T, I, H, O = 40, 5, 3, 4, 2


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, T, I)).astype(np.float32)
    return Shuffled({"x": x, "y": (x[:, :, 0].sum(axis=1) > 0).astype(np.int32)}, 8, seed=3)


@pytest.fixture(scope="module")
def params():
    return init_network(jax.random.key(0), I, H, O, init="equinox")


def loss(params, batch, key):
    _, logits = network(params, batch["x"], key=key, dropout=0.2)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return losses.mean(), {"accuracy": (logits.argmax(-1) == batch["y"]).mean()}


def by_hand(params, data, rule, steps, seed=0):
    """The same training without this library: a Python loop over optax."""
    moments, key, losses = rule.init(params), jax.random.key(seed), []
    value_of = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for step in range(steps):
        (value, _), gradient = value_of(params, data(step), jax.random.fold_in(key, step))
        updates, moments = rule.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return params, losses


def close(a, b, **bounds):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    bounds = {"rtol": 2e-5, "atol": 1e-6} | bounds
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **bounds)


def same(a, b):
    close(a, b, rtol=0, atol=0)


def full(data):
    """The loss without dropout over all sequences, as an evaluation."""

    def evaluate(params):
        _, logits = network(params, data.arrays["x"])
        labels = data.arrays["y"]
        return {"loss": float(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean())}

    return evaluate


RULES = {
    "adam": lambda: optax.adam(0.01),
    "accumulated": lambda: optax.MultiSteps(optax.sgd(0.1), 3),
    "plateau in the chain": lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(0.5, 2, atol=0.5)),
}


@pytest.mark.parametrize("name", ["adam", "accumulated"])
def test_it_is_the_loop_that_one_writes_by_hand(params, data, name):
    fitted = fit(params, data, loss, RULES[name](), steps=7, seed=5)
    expected, losses = by_hand(params, data, RULES[name](), 7, seed=5)
    close(fitted.model, expected)
    assert (fitted.step, fitted.reason) == (7, None)
    assert fitted.record["train"]["loss"] == pytest.approx(losses[-1], rel=1e-5)  # ten evaluations of seven steps
    assert 0 <= fitted.record["train"]["accuracy"] <= 1


def test_rules_that_ask_for_the_loss_get_it(params, data):
    fitted = fit(params, data, loss, RULES["plateau in the chain"](), steps=7)
    assert float(fitted.state.moments[1].scale) < 1


def test_it_goes_on_from_a_state_bit_by_bit(params, data):
    options = {"average": 0.9, "gradients": True, "evaluate": full(data), "evaluate_every": 2, "patience": 9}
    rule = optax.adam(0.01)
    whole = fit(params, data, loss, rule, steps=8, **options)
    first = fit(params, data, loss, rule, steps=8, hooks=[stop_after(4)], **options)
    assert (first.reason, int(first.state.step)) == ("enough", 4)
    rest = fit(params, data, loss, rule, steps=8, state=first.state, **options)
    same(rest.state, whole.state)


def stop_after(step):
    return Hooks(on_step=lambda training: training.stop("enough") if training.step == step else None)


def test_hooks_see_what_happens_in_order(params, data):
    seen = []
    hook = Hooks(
        on_evaluate=lambda t: seen.append(("evaluate", t.step, sorted(t.record))),
        on_step=lambda t: seen.append(("step", t.step, sorted(t.batch))),
        on_end=lambda t: seen.append(("end", t.step, jax.tree.structure(t.model) == jax.tree.structure(params))),
    )
    fit(params, data, loss, optax.sgd(0.1), steps=3, evaluate=full(data), evaluate_every=2, hooks=[hook])
    evaluated = ["steps_per_second", "step", "train", "validation"]
    step = ["accuracy", "loss"]
    assert seen == [
        ("step", 1, step), ("evaluate", 2, sorted(evaluated)), ("step", 2, step), ("evaluate", 3, sorted(evaluated)),
        ("step", 3, step), ("end", 3, True),
    ]  # fmt: skip


def test_the_best_parameters_come_back_and_training_stops_early(params, data):
    """Steps that grow until they do harm: the score rises, then falls."""
    scores = []

    def evaluate(params):
        values = full(data)(params)
        scores.append((values["loss"], jax.tree.map(np.array, params)))
        return values

    rule = optax.sgd(lambda step: 0.5 * 1.35**step)
    fitted = fit(params, data, loss, rule, steps=60, evaluate=evaluate, evaluate_every=1, patience=3, min_delta=1e-4)
    losses = [value for value, _ in scores]
    best = int(np.argmin(losses))
    assert fitted.step == best + 1
    close(fitted.model, scores[best][1], rtol=0, atol=0)
    assert fitted.record["validation"]["loss"] == losses[best]
    waited, lowest = 0, np.inf
    for value in losses[:-1]:  # patience by its definition
        waited, lowest = (0, value) if value < lowest - 1e-4 else (waited + 1, lowest)
        assert waited < 3
    assert waited == 2
    assert losses[-1] >= lowest - 1e-4
    assert len(losses) < 60
    assert fitted.reason == "no improvement in 3 evaluations"


@pytest.mark.thorough
def test_the_step_size_is_reduced_on_a_plateau(params, data):
    scales = []
    hook = Hooks(on_evaluate=lambda t: scales.append(t.record["learning_rate_scale"]))
    rule = optax.contrib.reduce_on_plateau(0.5, patience=2, rtol=0.0, atol=1.0)
    same_loss = {"evaluate": lambda params: {"loss": 1.0}, "evaluate_every": 1, "plateau": rule}
    fitted = fit(params, data, loss, optax.sgd(0.1), steps=5, hooks=[hook], **same_loss)
    # The first one is better than nothing; the second and third are not, which is two.
    assert scales == [1.0, 1.0, 0.5, 0.5, 0.25]
    expected = optax.sgd(lambda step: 0.1 * jnp.array([1, 1, 1, 0.5, 0.5])[step])
    close(fitted.state.params, by_hand(params, data, expected, 5)[0])


def test_the_average_is_the_weighted_mean_of_the_parameters(params, data):
    seen = []
    hook = Hooks(on_step=lambda t: seen.append(jax.tree.map(np.array, t.state.params)))
    records = []
    note = Hooks(on_evaluate=lambda t: records.append(t.record))
    options = {"average": 0.8, "evaluate": full(data), "evaluate_every": 6, "hooks": [hook, note]}
    fitted = fit(params, data, loss, optax.sgd(0.3), steps=6, **options)
    weights = 0.8 ** np.arange(5, -1, -1)
    expected = jax.tree.map(lambda *leaves: np.tensordot(weights / weights.sum(), np.stack(leaves), 1), *seen)
    close(fitted.model, expected)
    assert records[0]["validation"]["loss"] == pytest.approx(full(data)(expected)["loss"], rel=1e-5)
    assert records[0]["raw"]["loss"] == pytest.approx(full(data)(seen[-1])["loss"], rel=1e-5)


def test_norm_and_noise_of_gradients_are_those_of_their_formulas(data, params):
    def still(params, batch, key):
        return loss(params, batch | {"y": 0 * batch["y"]}, None)[0]  # labels alike, so that there is signal

    records = []
    hook = Hooks(on_evaluate=lambda t: records.append(t.record["gradient"]))
    fit(params, data, still, optax.sgd(0.0), steps=5, gradients=True, evaluate_every=5, hooks=[hook])
    gradient_of = jax.jit(jax.grad(still))
    trees = [gradient_of(params, data(step), None) for step in range(5)]
    g = np.stack([np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in trees]).astype(float)
    covariance = g.var(axis=0, ddof=1).sum()
    signal = (g.mean(axis=0) ** 2).sum() - covariance / 5
    assert records[0]["norm"] == pytest.approx(np.linalg.norm(g, axis=1).mean(), rel=1e-5)
    assert signal > 0
    assert records[0]["noise"] == pytest.approx(covariance / signal, rel=1e-3)


def test_batches_that_are_not_finite_are_left_out_or_stop(params, data):
    def broken(step):
        batch = data(step)
        return batch | {"x": np.where(step == 2, np.nan, batch["x"]).astype(np.float32)}

    fitted = fit(params, broken, loss, optax.adam(0.01), steps=5, on_nan="skip")
    assert fitted.record["skipped"] == 1
    without = [data(0), data(1), data(3), data(4)]
    key = jax.random.key(0)
    expected, moments = params, optax.adam(0.01).init(params)
    for step, batch in zip((0, 1, 3, 4), without, strict=True):
        gradient = jax.grad(lambda p, b=batch, s=step: loss(p, b, jax.random.fold_in(key, s))[0])(expected)
        updates, moments = optax.adam(0.01).update(gradient, moments)
        expected = optax.apply_updates(expected, updates)
    close(fitted.model, expected)
    with pytest.raises(Diverged, match="the training loss is nan at step 3; lower the learning rate or clip") as error:
        fit(params, broken, loss, optax.adam(0.01), steps=5)
    assert error.value.step == 3


@pytest.mark.thorough
def test_a_training_step_is_mapped_over_seeds(data):
    """The state is one pytree: four trainings as one program."""
    rule = optax.adam(0.01)
    objective = objective_of(loss, parted(init_network(jax.random.key(0), I, H, O, init="equinox")))
    step = make_train_step(objective, rule, donate=False)
    zero = {"loss": jnp.zeros(()), "accuracy": jnp.zeros(()), "batches": jnp.zeros(())}

    def start(key):
        return start_state(init_network(key, I, H, O, init="equinox"), rule, zero, gradients=True)

    keys = jax.random.split(jax.random.key(1), 4)
    states, info = jax.vmap(step, in_axes=(0, None, 0))(jax.vmap(start)(keys), data(0), keys)
    alone, other = step(start(keys[2]), data(0), keys[2])
    close(jax.tree.map(lambda a: a[2], states), alone, rtol=1e-4)
    np.testing.assert_allclose(info.loss[2], other.loss, rtol=1e-5)
    assert gradient_statistics(alone.gradients)["noise"] is None  # of a single batch nothing is known


# Modules


@pytest.mark.thorough
def test_an_nnx_module_is_trained_with_its_running_means(data):
    from flax import nnx

    from lstmjax.nnx import LSTM

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.lstm, self.norm = LSTM(I, H, rngs=rngs), nnx.BatchNorm(H, rngs=rngs, momentum=0.5)
            self.head = nnx.Linear(H, O, rngs=rngs)

        def __call__(self, xs):
            return self.head(self.norm(self.lstm(xs)[1][:, -1]))

    def loss(net, batch, key):
        return optax.softmax_cross_entropy_with_integer_labels(net(batch["x"]), batch["y"]).mean()

    net = Net(nnx.Rngs(0))
    before = nnx.state(net)
    fitted = fit(net, data, loss, optax.sgd(0.1), steps=4)
    same(nnx.state(net), before)  # it is not changed
    other = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(other, optax.sgd(0.1), wrt=nnx.Param)
    for step in range(4):
        optimizer.update(other, nnx.grad(loss)(other, data(step), None))
    close(nnx.state(fitted.model), nnx.state(other))
    assert np.abs(fitted.model.norm.mean[...]).max() > 0


@pytest.mark.thorough
def test_a_linen_module_is_trained_with_its_running_means(data):
    from flax import linen

    from lstmjax.linen import LSTM

    class Net(linen.Module):
        @linen.compact
        def __call__(self, xs, train=False):
            h = LSTM(H)(xs)[1][:, -1]
            h = linen.BatchNorm(use_running_average=not train, momentum=0.5)(h)
            return linen.Dense(O)(linen.Dropout(0.3, deterministic=not train)(h))

    net = Net()
    variables = net.init(jax.random.key(0), data(0)["x"])

    def loss(net, batch, key):
        logits = net(batch["x"], train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    fitted = fit((net, variables), data, loss, optax.sgd(0.1), steps=3)
    expected = variables
    for step in range(3):
        key = jax.random.fold_in(jax.random.key(0), step)

        batch = data(step)

        def value(weights, others=expected, batch=batch, key=key):
            tree = {"params": weights, "batch_stats": others["batch_stats"]}
            rngs = {"dropout": key, "params": key}
            logits, new = net.apply(tree, batch["x"], train=True, rngs=rngs, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean(), new

        gradient, new = jax.grad(value, has_aux=True)(expected["params"])
        moved = jax.tree.map(lambda p, g: p - 0.1 * g, expected["params"], gradient)
        expected = {"params": moved, "batch_stats": new["batch_stats"]}
    close(fitted.model["params"], expected["params"])
    close(fitted.model["batch_stats"], expected["batch_stats"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"w": np.arange(3)}}, "model is a dict, expected a pytree of real parameters, an nnx.Module, or"),
        ({"data": []}, "data is a list, expected a function of the step, such as Shuffled"),
        ({"steps": 0}, "steps is 0, expected 1 or more"),
        ({"on_nan": "ignore"}, "on_nan is 'ignore', expected 'stop' or 'skip'"),
        ({"patience": 2}, "patience and plateau act on the score of an evaluation; pass evaluate="),
        ({"loss": lambda p, b, k: jnp.zeros(3)}, r"loss returns loss of shape \(3,\), expected a scalar"),
        ({"loss": lambda p, b, k: (jnp.zeros(()), 2)}, "loss returns a int beside its scalar, expected a dict"),
    ],
)
def test_what_does_not_fit_is_told(params, data, change, message):
    arguments = {"model": params, "data": data, "loss": loss, "optimizer": optax.sgd(0.1), "steps": 2} | change
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**arguments)


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"arrays have \[3, 4\] rows, expected one number"):
        Shuffled({"x": np.zeros(3), "y": np.zeros(4)}, 2)
