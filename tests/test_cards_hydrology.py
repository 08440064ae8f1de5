"""The replica cards of hydrology: what they say is looked for in our cells, and in neuralhydrology where installed."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import B, H, I, T, all_notes, cook, note_of

from lstmjax import (
    as_vanilla,
    entity_aware,
    init_entity_aware,
    init_mass_conserving,
    lstm,
    mass_conserving,
    outflow,
    stacked,
    verify,
)
from lstmjax.convert import from_neuralhydrology, load_weights
from lstmjax.replica import CARDS
from lstmjax.replica.cards import HYDROLOGY

S = 3  # static attributes in the recipes
OF_PACKAGE = ("inputs", "forget bias", "custom", "gate order", "start", "batch", "lost mass")
NOTES = {}
note = partial(note_of, NOTES)


@cache
def theirs():
    """The modules of neuralhydrology, by name."""
    pytest.importorskip("neuralhydrology", reason="pip install neuralhydrology", exc_type=ImportError)
    from neuralhydrology.modelzoo.cudalstm import CudaLSTM
    from neuralhydrology.modelzoo.customlstm import CustomLSTM
    from neuralhydrology.modelzoo.ealstm import EALSTM
    from neuralhydrology.modelzoo.mclstm import MCLSTM

    return {module.__name__: module for module in (CudaLSTM, CustomLSTM, EALSTM, MCLSTM)}


def module(name, inputs=I, statics=S, **options):
    """One of them, with random weights; the MCLSTM has a mass beside its inputs."""
    kinds = theirs()
    import torch
    from neuralhydrology.utils.config import Config

    torch.manual_seed(0)
    config = {
        "model": name.lower(), "hidden_size": H, "dynamic_inputs": [f"x{n}" for n in range(inputs)],
        "static_attributes": [f"s{n}" for n in range(statics)], "target_variables": ["y"], "head": "regression",
        "output_activation": "linear", "output_dropout": 0.0, "initial_forget_bias": 3.0, "seq_length": T,
        "predict_last_n": 1, "use_basin_id_encoding": False, "mass_inputs": ["m"] if name == "MCLSTM" else [],
    }  # fmt: skip
    made = kinds[name](Config(config | options, dev_mode=True))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return made.eval()


def arrays(batch=B):
    """Random dynamic inputs, attributes and mass."""
    rng = np.random.default_rng(4)
    xs, statics = rng.normal(size=(batch, T, I)), rng.normal(size=(batch, S))
    return xs.astype("f"), statics.astype("f"), rng.exponential(size=(batch, T, 1)).astype("f")


def run(made, xs, statics, mass=None):
    """What a module predicts, `[B, T, 1]`."""
    import torch

    data = {"x_d": {f"x{n}": torch.tensor(np.array(xs[..., n : n + 1])) for n in range(xs.shape[-1])}}
    data["x_s"] = torch.tensor(np.array(statics))
    if mass is not None:
        data["x_d"]["m"] = torch.tensor(mass)
    with torch.no_grad():
        return made(data)["y_hat"].numpy()


def with_head(hs, head):
    return np.asarray(hs) @ np.asarray(head.w) + np.asarray(head.b)


def beside(xs, statics):
    return np.concatenate([xs, np.broadcast_to(statics[:, None], (*xs.shape[:2], S))], -1)


def test_every_note_has_a_test():
    assert NOTES.keys() == all_notes(HYDROLOGY)
    assert {name for _, name in NOTES if name not in OF_PACKAGE} == {"static gate", "as vanilla", "balance", "trash"}


@pytest.mark.parametrize("card", HYDROLOGY[1:], ids=lambda card: card.name)
def test_recipes_of_cells_run_as_they_stand(card):
    assert CARDS[card.name] is card
    names = cook(card, T=T, S=S)
    assert names["ys"].shape[:2] == (B, T)
    assert jnp.isfinite(names["ys"]).all()


@note("kratzert_2019", "static gate")
def only_the_input_gate_sees_attributes():
    xs, statics, _ = arrays()
    params = init_entity_aware(jax.random.key(0), I, S, H)
    _, step = lstm(as_vanilla(params), beside(xs, statics), emit="step")
    i = 1 / (1 + np.exp(-(statics @ np.asarray(params.w_s) + np.asarray(params.b_s))))
    np.testing.assert_allclose(step.i, np.broadcast_to(i[:, None], (B, T, H)), atol=1e-6)
    other = lstm(as_vanilla(params), beside(xs[:, :1], statics + 1.0), emit="step")[1]
    for gate in "fgo":
        np.testing.assert_allclose(getattr(step, gate)[:, 0], getattr(other, gate)[:, 0], atol=1e-6)
    assert np.abs(step.i[:, 0] - other.i[:, 0]).max() > 0.01


@note("kratzert_2019", "as vanilla")
def it_is_an_lstm_with_zeros():
    xs, statics, _ = arrays()
    params = init_entity_aware(jax.random.key(0), I, S, H)
    expected = entity_aware(params, xs, statics)[1]
    wide = as_vanilla(params)
    np.testing.assert_allclose(lstm(wide, beside(xs, statics))[1], expected, atol=1e-6)
    assert not np.any(wide.w_x[:I, 0])
    assert not np.any(wide.w_x[I:, 1:])


@note("hoedt_2021", "balance")
def nothing_is_lost():
    xs, _, rain = arrays()
    c, hs = mass_conserving(init_mass_conserving(jax.random.key(0), I, H), rain, xs)
    np.testing.assert_allclose(rain.sum((1, 2)), hs.sum((1, 2)) + c.sum(-1), rtol=1e-5)


@note("hoedt_2021", "trash")
def the_first_unit_is_left_out():
    names = cook(CARDS["hoedt_2021"], T=T, S=S)
    np.testing.assert_allclose(names["ys"], names["hs"][..., 1:].sum(-1), rtol=1e-6)


@note("neuralhydrology", "inputs")
def dynamic_inputs_come_first():
    xs, statics, _ = arrays()
    made = module("CudaLSTM")
    params = from_neuralhydrology(made)
    ys = with_head(stacked(params.params, beside(xs, statics))[1], params.head)
    np.testing.assert_allclose(ys, run(made, xs, statics), atol=1e-6)


@note("neuralhydrology", "forget bias")
def one_of_two_biases_is_set():
    made = theirs()["CudaLSTM"](module("CudaLSTM", initial_forget_bias=2.5).cfg)
    of_f = slice(H, 2 * H)
    assert (made.lstm.bias_hh_l0[of_f] == 2.5).all()
    assert (made.lstm.bias_ih_l0[of_f].abs() > 0).any()
    assert made.lstm.bias_ih_l0.abs().max() <= H**-0.5


@note("neuralhydrology", "custom")
def custom_lstm_is_cuda_lstm():
    xs, statics, _ = arrays()
    cuda, custom = module("CudaLSTM"), module("CustomLSTM")
    custom.copy_weights(cuda)
    np.testing.assert_allclose(run(custom, xs, statics), run(cuda, xs, statics), atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, from_neuralhydrology(custom), from_neuralhydrology(cuda))
    assert {f"cell.{name}" for name in ("w_ih", "w_hh", "b_ih", "b_hh")} <= custom.state_dict().keys()


@note("kratzert_2019", "gate order")
def gates_are_stored_as_f_o_g():
    xs, statics, _ = arrays()
    made = module("EALSTM")
    params = from_neuralhydrology(made)
    ys = with_head(entity_aware(params.params, xs, statics)[1], params.head)
    np.testing.assert_allclose(ys, run(made, xs, statics), atol=1e-6)
    f, o, g = made.dynamic_gates.bias.detach().numpy().reshape(3, H)
    np.testing.assert_array_equal(params.params.dynamic.b, np.stack([f, g, o]))


@note("kratzert_2019", "start")
def recurrent_weights_start_as_identities():
    made = theirs()["EALSTM"](module("EALSTM").cfg)
    np.testing.assert_array_equal(made.dynamic_gates.weight_hh.detach(), np.tile(np.eye(H), 3))
    ours = init_entity_aware(jax.random.key(0), I, S, H).dynamic.w_h
    assert np.abs(np.asarray(ours) - np.eye(H)[:, None]).max() > 0.1


@note("hoedt_2021", "batch")
def outputs_depend_on_the_batch_there():
    xs, statics, rain = arrays()
    made = module("MCLSTM")
    made.mclstm.redistribution.fc.bias.data.fill_(1.0)  # some relu is above 0 in every row
    params = from_neuralhydrology(made).params
    alone = run(made, xs[:1], statics[:1], rain[:1])[..., 0]
    assert np.abs(run(made, xs, statics, rain)[:1, :, 0] - alone).max() > 1e-5
    ours = outflow(mass_conserving(params, rain, beside(xs, statics))[1])
    np.testing.assert_allclose(ours[:1], alone, atol=1e-6)


@note("hoedt_2021", "lost mass")
def a_dead_row_loses_mass_there():
    torch = pytest.importorskip("torch")
    xs, statics, rain = arrays(1)
    made = module("MCLSTM")
    with torch.no_grad():
        made.mclstm.redistribution.fc.weight.zero_()
        made.mclstm.redistribution.fc.bias.fill_(-1.0)
        left = made({"x_d": {f"x{n}": torch.tensor(xs[..., n : n + 1]) for n in range(I)} | {"m": torch.tensor(rain)},
                     "x_s": torch.tensor(statics)})  # fmt: skip
    kept = left["m_out"].sum() + left["c"][:, -1].sum()
    assert kept < 0.99 * rain.sum()
    c, hs = mass_conserving(from_neuralhydrology(made).params, rain, beside(xs, statics))
    np.testing.assert_allclose(c.sum() + hs.sum(), rain.sum(), rtol=1e-5)


@pytest.mark.parametrize(("card", "name"), [key for key in NOTES if key[1] not in OF_PACKAGE])
def test_notes_on_our_side_are_true(card, name):
    NOTES[card, name]()


needs_package = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # those of their imports


@pytest.mark.parametrize(
    ("card", "name"), [pytest.param(*key, marks=needs_package) for key in NOTES if key[1] in OF_PACKAGE]
)
def test_notes_on_the_package_are_true(card, name):
    NOTES[card, name]()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_the_recipe_of_the_package_and_its_dropout():
    made = module("CudaLSTM", inputs=I - 1, statics=1, output_dropout=0.5)
    names = cook(CARDS["neuralhydrology"], made)
    xs = np.asarray(names["xs"])
    constant = np.concatenate([xs[..., : I - 1], np.broadcast_to(xs[:, :1, I - 1 :], (B, T, 1))], -1)
    ys = with_head(stacked(names["layers"], constant)[1], names["head"])
    assert names["ys"].shape == (B, T, 1)
    np.testing.assert_allclose(ys, run(made, constant[..., : I - 1], constant[:, 0, I - 1 :]), atol=1e-6)
    (drop,) = CARDS["neuralhydrology"].drops
    assert (drop.by, drop.mask) == ("output_dropout", "step")
    import torch

    mask = made.dropout.train()(torch.ones(B, T, H))
    assert len({of_step.numpy().tobytes() for of_step in mask.transpose(0, 1)}) == T


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["CudaLSTM", "CustomLSTM", "EALSTM"])
def test_verify_compares_a_checkpoint_with_the_module_that_wrote_it(name, tmp_path):
    torch = pytest.importorskip("torch")
    made, (xs, statics, _) = module(name), arrays()
    torch.save(made.state_dict(), tmp_path / "model_epoch001.pt")
    params = load_weights(tmp_path / "model_epoch001.pt")
    verdict = verify(lambda xs: run(made, xs[..., :I], xs[:, 0, I:]), beside(xs, statics), params=params)
    assert verdict, str(verdict)
    with torch.no_grad():
        next(made.parameters()).mul_(1.01)
    assert not verify(lambda xs: run(made, xs[..., :I], xs[:, 0, I:]), beside(xs, statics), params=params)
