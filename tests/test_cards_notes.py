"""What the replica cards of frameworks say is easily missed, seen in the framework."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import UNIFORM, H, I, P, check_uniform
from frameworks import B, T, count, cudnn_reference, dropped_by_keras, inputs, peer_of
from recipes import all_notes, note_of
from tolerances import assert_close

from lstmjax import CELLS, init_params, lstm, stacked
from lstmjax.convert import from_haiku, from_keras, from_linen, from_nnx, from_torch, to_cudnn
from lstmjax.replica import CARDS
from lstmjax.replica.cards import OF_FRAMEWORKS

pytestmark = [
    pytest.mark.peers,
    pytest.mark.usefixtures("frameworks"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

NOTES = {}
note = partial(note_of, NOTES)


def test_every_note_has_a_test():
    assert NOTES.keys() == all_notes(OF_FRAMEWORKS)


@pytest.mark.thorough
@pytest.mark.parametrize(("card", "name"), NOTES)
def test_notes_are_true(card, name):
    NOTES[card, name]()


@note("torch", "two biases")
def both_get_the_gradient():
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(2, 3)
    module(torch.from_numpy(inputs(T, 2)))[0].sum().backward()
    assert torch.equal(module.bias_ih_l0.grad, module.bias_hh_l0.grad)
    assert module.bias_ih_l0.grad.abs().min() > 0


@note("torch", "forget bias")
def two_forget_biases_add_up():
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(2, 1)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0])) if "bias" in name else p.zero_()
        _, (_, c) = module(torch.zeros(1, 2), (torch.zeros(1, 1), torch.ones(1, 1)))
    assert float(c) == pytest.approx(1 / (1 + np.exp(-2)))
    ours = init_params(jax.random.key(0), 2, 1, init="torch", forget_bias=1.0)
    assert (ours.gate("f").b + ours.gate("f").b_h).item() == 1


@note("torch", "time first")
def xs_is_time_first():
    torch = pytest.importorskip("torch")
    module, xs = torch.nn.LSTM(2, 3), inputs(T, B, 2)
    _, ys = lstm(from_torch(module)[0], xs, time_major=True)
    assert_close(ys, jnp.asarray(module(torch.from_numpy(xs))[0].detach().numpy()))


@note("torch", "h_n")
def h_n_is_the_last_step_of_each_direction():
    torch = pytest.importorskip("torch")
    module, xs = torch.nn.LSTM(2, 3, batch_first=True, bidirectional=True), inputs(B, T, 2)
    ys, (h, _) = (np.asarray(a) for a in jax.tree.map(lambda a: a.detach().numpy(), module(torch.from_numpy(xs))))
    _, last = stacked(from_torch(module), xs, return_sequences=False)
    assert_close(last, jnp.concatenate(h, axis=-1))
    np.testing.assert_array_equal(h[1], ys[:, 0, 3:])
    assert np.abs(h[1] - ys[:, -1, 3:]).max() > 0.01


@note("torch", "projection")
def a_projection_brings_no_peepholes():
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(I, H, proj_size=P)
    (params,) = from_torch(module)
    assert sum(p.numel() for p in module.parameters()) == count(params)
    assert params.w_c is None
    assert params.w_p.shape == (H, P)
    check_uniform(params.w_p, UNIFORM)
    assert CELLS["projection"].has == ("w_c",)


@note("keras", "four masks")
def recurrent_dropout_parts_the_masks_of_the_inputs():
    (drop,) = (drop for drop in CARDS["keras"].drops if drop.by == "dropout")
    assert not drop.per_gate
    assert dropped_by_keras(drop, recurrent_dropout=1e-7) == ("sequence", True)


@note("keras", "go_backwards")
def outputs_come_in_the_order_of_processing():
    keras = pytest.importorskip("keras")
    layer, xs = keras.layers.LSTM(3, return_sequences=True, go_backwards=True), inputs(B, T, 2)
    ys = np.asarray(layer(xs))
    assert_close(lstm(from_keras(layer, extra="drop")[0], xs, reverse=True)[1], jnp.asarray(ys[:, ::-1]))


@note("keras", "hard_sigmoid")
def it_is_the_sixth():
    keras = pytest.importorskip("keras")
    z = jnp.linspace(-5, 5, 41)
    assert_close(CELLS["hard_sigmoid_sixth"].f(z), jnp.asarray(keras.activations.hard_sigmoid(z)))


@note("keras", "momentum")
def the_velocity_holds_the_learning_rate():
    keras, torch = pytest.importorskip("keras"), pytest.importorskip("torch")
    there, also = keras.Variable(np.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    one, other = keras.optimizers.SGD(0.1, momentum=0.5), torch.optim.SGD([also], 0.1, momentum=0.5)
    one.build([there])
    for rate in (0.1, 0.3):
        one.learning_rate = other.param_groups[0]["lr"] = rate
        one.apply_gradients([(jnp.ones(1), there)])
        also.grad = torch.ones(1)
        other.step()
    assert float(there.value[0]) == pytest.approx(-0.1 - (0.3 + 0.5 * 0.1))
    assert also.item() == pytest.approx(-0.1 - 0.3 * (1 + 0.5))


@note("keras", "float64")
def tanh_is_rounded():
    keras = pytest.importorskip("keras")
    with jax.enable_x64(True):
        z = jnp.linspace(0.1, 2.0, 20)
        assert np.abs(keras.activations.tanh(z) - np.tanh(z)).max() > 1e-9
        layer = keras.layers.LSTM(3, activation=jnp.tanh, dtype="float64")
        xs = np.random.default_rng(0).normal(size=(B, T, 2))
        h = jnp.asarray(layer(xs))
        assert_close(lstm(from_keras(layer)[0], xs)[0][0], h)


def at_length_0(run, params):
    """A framework's state at length 0 is that after all steps; ours is where it began."""
    xs, state = jnp.asarray(inputs(B, T, 2)), tuple(jnp.asarray(a) for a in inputs(2, B, 3))
    at_0, at_end = (run(xs, state, jnp.full(B, n)) for n in (0, T))
    assert_close(at_0, at_end)
    ours, _ = lstm(params, xs, state, lengths=jnp.zeros(B, int))
    np.testing.assert_array_equal(ours, state)
    assert np.abs(at_0[0] - state[0]).max() > 0.01


def linen_layer():
    from flax import linen

    module = linen.RNN(linen.LSTMCell(3))
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((B, T, 2)))


@note("linen", "length 0")
def linen_runs_at_length_0():
    module, variables = linen_layer()

    def run(xs, state, lengths):
        (c, h), _ = module.apply(variables, xs, initial_carry=state[::-1], seq_lengths=lengths, return_carry=True)
        return h, c

    at_length_0(run, *from_linen(variables))


@note("linen", "padding")
def linen_runs_through_padding():
    module, variables = linen_layer()
    xs, (params,) = inputs(B, T, 2), from_linen(variables)
    short, whole = (module.apply(variables, xs, seq_lengths=jnp.full(B, n)) for n in (2, T))
    assert_close(short, whole)
    _, ours = lstm(params, xs, lengths=jnp.full(B, 2))
    assert_close(ours[:, :2], whole[:, :2])
    assert not ours[:, 2:].any()


@note("nnx", "length 0")
def nnx_runs_at_length_0():
    from flax import nnx

    module = nnx.RNN(nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0)))

    def run(xs, state, lengths):
        (c, h), _ = module(xs, initial_carry=state[::-1], seq_lengths=lengths, return_carry=True)
        return h, c

    at_length_0(run, *from_nnx(module))


@note("cudnn", "length 0")
def cudnn_runs_at_length_0():
    params = init_params(jax.random.key(0), 2, 3, init="torch")
    from jax.experimental import rnn

    arrays = [part[0] for part in rnn.unpack_lstm_weights(to_cudnn(params), 2, 3, 1, False)]

    def run(xs, state, lengths):
        _, h, c = cudnn_reference(arrays, xs, state, lengths)
        return h[0], c[0]

    at_length_0(run, params)


@note("nnx_optimized", "names")
def the_names_differ():
    from flax import nnx

    one, other = (nnx.to_pure_dict(nnx.state(peer_of(n).module, nnx.Param)) for n in ("nnx_optimized", "nnx"))
    assert one.keys() == {"dense_i", "dense_h"}
    assert one.keys().isdisjoint(other)


@note("haiku", "weight decay")
def the_1_is_no_parameter():
    peer = peer_of("haiku")
    assert not peer.weights.b.any()
    assert (from_haiku(peer.module)[0].gate("f").b == 1).all()


@note("haiku", "one matrix")
def x_and_h_share_a_matrix():
    assert peer_of("haiku").module["lstm/linear"]["w"].shape == (I + H, 4 * H)  # whose rows test_convert tells apart


@note("haiku", "time first")
def dynamic_unroll_is_time_first():
    haiku = pytest.importorskip("haiku")
    assert inspect.signature(haiku.dynamic_unroll).parameters["time_major"].default is True


@note("equinox", "one step")
def it_takes_no_batch():
    cell, state = peer_of("equinox").module, (jnp.zeros(H), jnp.zeros(H))
    assert cell(jnp.zeros(I), state)[0].shape == (H,)
    with pytest.raises(TypeError):
        cell(jnp.zeros((B, I)), state)


@note("cudnn", "float32")
def weights_are_float32():
    from jax.experimental import rnn

    with jax.enable_x64(True):
        assert rnn.init_lstm_weight(jax.random.key(0), 2, 3, 1, False).dtype == jnp.float32


@note("cudnn", "dropout")
def the_reference_refuses_dropout():
    from jax.experimental import rnn

    blank = [{0: jnp.zeros(0)}] * 4
    with pytest.raises(NotImplementedError, match="Dropout not supported in LSTM reference"):
        rnn.lstm_ref(*[jnp.zeros((1, 1, 1))] * 3, *blank, jnp.ones(1, jnp.int32), 1, 1, 1, 0.5, False)
