"""Weights that PyTorch keeps as something else: folded as PyTorch computes them, or refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T
from exchange import inputs
from tolerances import assert_close

from lstmjax import network, stacked
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_torch, load_model, load_weights


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain(**more):
    return {
        "lstm.weight_ih_l0": numbers(4 * H, I, seed=1),
        "lstm.weight_hh_l0": numbers(4 * H, H, seed=2),
        "lstm.bias_ih_l0": numbers(4 * H, seed=3),
        "lstm.bias_hh_l0": numbers(4 * H, seed=4),
    } | more


def without(arrays, name, **more):
    return {n: a for n, a in arrays.items() if n != name} | more


def w_h(a):
    """As `LSTMParams` has it, by hand."""
    return a.reshape(4, H, -1).transpose(2, 0, 1)


HH = "lstm.weight_hh_l0"
G, U, V = numbers(4 * H, 1, seed=5), numbers(4 * H, seed=6), numbers(H, seed=7)
W = plain()[HH]
BY_ROW = G * W / np.linalg.norm(W, axis=1, keepdims=True)
BY_SIGMA = W / (U @ (W @ V))
OTHER = numbers(4 * H, H, seed=8)
FOLDED = {
    "weight_norm": ({f"{HH}_g": G, f"{HH}_v": W}, BY_ROW),
    "weight_norm over columns": ({f"{HH}_g": V[None], f"{HH}_v": W}, V * W / np.linalg.norm(W, axis=0)),
    "weight_norm of all": ({f"{HH}_g": G[0, 0], f"{HH}_v": W}, G[0, 0] * W / np.linalg.norm(W)),
    "parametrised weight_norm": (
        {"lstm.parametrizations.weight_hh_l0.original0": G, "lstm.parametrizations.weight_hh_l0.original1": W},
        BY_ROW,
    ),
    "spectral_norm": ({f"{HH}_orig": W, f"{HH}_u": U, f"{HH}_v": V}, BY_SIGMA),
    "spectral_norm over columns": ({f"{HH}_orig": W, f"{HH}_u": V, f"{HH}_v": U}, BY_SIGMA),
    "parametrised spectral_norm": (
        {
            "lstm.parametrizations.weight_hh_l0.original": W,
            "lstm.parametrizations.weight_hh_l0.0._u": U,
            "lstm.parametrizations.weight_hh_l0.0._v": V,
        },
        BY_SIGMA,
    ),
    "pruned": ({f"{HH}_orig": W, f"{HH}_mask": (OTHER > 0).astype("f")}, W * (OTHER > 0)),
    "AWD-LSTM": ({f"{HH}_raw": W}, W),
    "a stale copy": ({f"{HH}_raw": W, HH: OTHER}, W),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folds_are_computed_by_hand_and_said(name, tmp_path, capsys):
    kept, expected = FOLDED[name]
    np.savez(tmp_path / "model.npz", **without(plain(), HH, **kept))
    (layer,) = load_weights(tmp_path / "model.npz")
    assert_close(layer.w_h, jnp.asarray(w_h(expected)))
    np.testing.assert_array_equal(from_torch(without(plain(), HH, **kept))[0].w_h, layer.w_h)
    assert main(["convert", str(tmp_path / "model.npz"), str(tmp_path / "out.npz")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("computed: ")]
    assert line.startswith(f"computed: {HH} is ")
    for source in kept:
        assert source in line


def test_fastai_keeps_the_raw_weight_in_the_wrapper_of_the_layer(tmp_path):
    """And a copy in the layer itself, which dropout has been at: the raw one is what runs."""
    arrays = {name.replace("lstm.", "rnns.0.module."): a for name, a in plain(**{HH: OTHER}).items()}
    upper = {name.replace("lstm.", "rnns.1.module."): numbers(*a.shape, seed=9) for name, a in plain().items()}
    upper["rnns.1.module.weight_ih_l0"] = numbers(4 * H, H, seed=10)
    path = tmp_path / "awd.npz"
    np.savez(path, **arrays, **upper, **{"rnns.0.weight_hh_l0_raw": W})
    layers = load_weights(path, names=["rnns.0.module", "rnns.1.module"])
    np.testing.assert_array_equal(layers[0].w_h, w_h(W))
    assert load_weights(path, prefix="rnns.0.module.", extra="drop")[0].w_h[0, 0, 0] == w_h(W)[0, 0, 0]


def test_a_head_is_folded_too(tmp_path):
    head = {"fc.weight_g": numbers(5, 1), "fc.weight_v": numbers(5, H, seed=1), "fc.bias": numbers(5)}
    np.savez(tmp_path / "model.npz", **plain(), **head)
    expected = head["fc.weight_g"] * head["fc.weight_v"] / np.linalg.norm(head["fc.weight_v"], axis=1, keepdims=True)
    assert_close(load_weights(tmp_path / "model.npz").head.w, jnp.asarray(expected.T))


PARAMETRISED = "lstm.parametrizations.weight_hh_l0."


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (
            {f"{PARAMETRISED}original": W},
            r"'lstm\.weight_hh_l0' is parametrised: the file has lstm\.param.*original in",
        ),
        (
            {f"{PARAMETRISED}original": W, f"{PARAMETRISED}0.base": W},
            r"0\.base in its place, .*remove_parametrizations\(module, 'weight_hh_l0'\)",
        ),
        (
            {f"{PARAMETRISED}original0": G, f"{PARAMETRISED}original1": W, f"{PARAMETRISED}1._u": U},
            "is parametrised: the file has .*original0, .*original1, .*_u in its place",
        ),
        (
            {f"{HH}_g": G[:3], f"{HH}_v": W},
            r"weight_hh_l0 is kept as arrays of shape \(3, 1\) and \(16, 4\); weight_no",
        ),
        (
            {f"{HH}_g": G, f"{HH}_v": W * (np.arange(16) != 3)[:, None]},
            "weight_norm divides by the length of a row of z",
        ),
        (
            {f"{HH}_orig": W, f"{HH}_u": U[:2], f"{HH}_v": V},
            "do not say along which axis spectral_norm took its vectors",
        ),
        ({f"{HH}_g": G}, r"'lstm\.weight_hh_l0' is missing; there are .*'lstm\.weight_hh_l0_g'"),
        ({HH: W, f"{HH}_g": G, f"{HH}_v": W}, r"'lstm\.weight_hh_l0_g', 'lstm\.weight_hh_l0_v' belong to no layer"),
    ],
)
def test_what_the_file_does_not_determine_is_refused_by_name(kept, words, tmp_path):
    np.savez(tmp_path / "model.npz", **without(plain(), HH, **kept))
    with pytest.raises(ConvertError, match=words):
        load_weights(tmp_path / "model.npz")
    with pytest.raises(ConvertError, match=words):
        from_torch(without(plain(), HH, **kept))


def test_what_is_parametrised_elsewhere_is_left_under_the_names_of_the_file(tmp_path):
    np.savez(tmp_path / "model.npz", **plain(), **{"conv.parametrizations.weight.original": numbers(2, 3, 4)})
    with pytest.raises(ConvertError, match=r"and a head: conv\.parametrizations\.weight\.original\. Pass extra="):
        load_weights(tmp_path / "model.npz")


def old_weight_norm(torch, module, name):
    return torch.nn.utils.weight_norm(module, name)


def new_weight_norm(torch, module, name):
    return torch.nn.utils.parametrizations.weight_norm(module, name)


def old_spectral_norm(torch, module, name):
    return torch.nn.utils.spectral_norm(module, name)


def new_spectral_norm(torch, module, name):
    return torch.nn.utils.parametrizations.spectral_norm(module, name)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:`?torch.nn.utils.weight_norm")
@pytest.mark.parametrize("norm", [old_weight_norm, new_weight_norm, old_spectral_norm, new_spectral_norm])
def test_outputs_are_those_of_pytorch(norm, torch, tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True)
            self.fc = norm(torch, torch.nn.Linear(2 * H, 5), "weight")
            for name in ("weight_hh_l0", "weight_ih_l1_reverse"):
                norm(torch, self.lstm, name)

        def forward(self, xs):
            return self.fc(self.lstm(xs)[0])

    torch.manual_seed(1)
    net = Net()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("_g", "original0")):  # far from the lengths that they begin with
                parameter.mul_(torch.linspace(0.5, 2, parameter.numel()).reshape(parameter.shape))
    net.eval()
    xs = inputs()
    expected = net(torch.from_numpy(np.asarray(xs).copy())).detach().numpy()
    torch.save({"model_state_dict": net.state_dict(), "epoch": 3}, tmp_path / "net.pth")
    params = load_weights(tmp_path / "net.pth")
    assert_close(network(params, xs, return_sequences=True)[1], jnp.asarray(expected))
    assert expected.shape == (B, T, 5)
    assert_close(stacked(from_torch(net), xs)[1], jnp.asarray(net.lstm(torch.tensor(xs))[0].detach().numpy()))


@pytest.mark.peers
def test_an_orthogonal_weight_is_refused_until_pytorch_has_computed_it(torch):
    lstm = torch.nn.LSTM(I, H)
    torch.nn.utils.parametrizations.orthogonal(lstm, "weight_hh_l0")
    with pytest.raises(
        ConvertError, match=r"'weight_hh_l0' is parametrised: the file has parametrizations\.weight_hh_l0"
    ):
        from_torch(lstm.state_dict())
    np.testing.assert_array_equal(from_torch(lstm)[0].w_h, w_h(lstm.weight_hh_l0.detach().numpy()))
    torch.nn.utils.parametrize.remove_parametrizations(lstm, "weight_hh_l0")
    np.testing.assert_array_equal(from_torch(lstm)[0].w_h, w_h(lstm.weight_hh_l0.detach().numpy()))


@pytest.mark.parametrize("what", FOLDED)
def test_what_a_parametrisation_computes_is_said_to_be_assumed(what, tmp_path):
    """One of the user's own has the same names as weight_norm."""
    np.savez(tmp_path / "model.npz", **without(plain(), HH, **FOLDED[what][0]))
    words = "the parametrisation of lstm.weight_hh_l0 as "
    assumed = [line for line in load_model(tmp_path / "model.npz").architecture.assumed if line.startswith(words)]
    assert len(assumed) == what.startswith("parametrised")
