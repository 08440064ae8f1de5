"""Modules of PyTorch in memory: read as PyTorch computes them, run as they are, or refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T
from tolerances import assert_close

from lstmjax import stacked, verify
from lstmjax.convert import ConvertError, from_torch

torch = pytest.importorskip("torch")
XS = np.random.default_rng(0).normal(size=(B, T, I)).astype(np.float32)


class Sub(torch.nn.LSTM):
    def forward(self, xs, state=None):
        ys, state = super().forward(xs, state)
        return ys.relu(), state


class Product(torch.nn.Module):
    """A parametrisation of two arrays that is not weight_norm."""

    def forward(self, a, b):
        return a * b

    def right_inverse(self, w):
        return w.norm(dim=1, keepdim=True), 3 * w / w.norm(dim=1, keepdim=True)


class Double(torch.nn.Module):
    def forward(self, w):
        return 2 * w


class Other(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, parameter in lstm().named_parameters():
            setattr(self, name, parameter)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.norm, self.fc = lstm(), torch.nn.LayerNorm(H), torch.nn.Linear(H, 2)

    def forward(self, xs):
        return self.fc(self.norm(self.lstm(xs)[0]))


def lstm(kind=torch.nn.LSTM, **options):
    torch.manual_seed(3)
    return kind(I, H, batch_first=True, **options)


def with_hook(change):
    module = lstm()
    module.register_forward_hook(lambda _, inputs, outputs: (change(outputs[0]), outputs[1]))
    return module


def parametrised(how):
    module = lstm()
    torch.nn.utils.parametrize.register_parametrization(module, "weight_hh_l0", how)
    return module


def pruned():
    from torch.nn.utils import prune

    return prune.l1_unstructured(lstm(), "weight_hh_l0", 0.5)


WEIGHTS = {
    "two arrays": lambda: parametrised(Product()),
    "one array": lambda: parametrised(Double()),
    "orthogonal": lambda: torch.nn.utils.parametrizations.orthogonal(lstm(), "weight_hh_l0"),
    "spectral norm in training": lambda: torch.nn.utils.parametrizations.spectral_norm(lstm(), "weight_hh_l0"),
    "pruned": pruned,
    "dropout in training": lambda: lstm(num_layers=2, dropout=0.5),
    "time first": lambda: torch.nn.LSTM(I, H, 2, bidirectional=True, proj_size=2),
    "a cell": lambda: torch.nn.LSTMCell(I, H),
}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_are_those_that_the_module_computes_with(what):
    module = WEIGHTS[what]()
    verdict = verify(module, XS)
    assert verdict, str(verdict)
    assert not verdict.unchecked
    assert all(inner.training for inner in module.modules())
    xs = torch.from_numpy(XS)
    with torch.no_grad():
        if what == "a cell":
            expected = module(xs[:, 0])[0].numpy()[:, None]
        else:
            module.eval()
            expected = module(xs if module.batch_first else xs.swapaxes(0, 1))[0]
            expected = (expected if module.batch_first else expected.swapaxes(0, 1)).numpy()
    assert_close(stacked(from_torch(module), XS)[1][:, : expected.shape[1]], jnp.asarray(expected))


OTHERS = {  # words of the refusal
    "source is a LSTM with hooks, so that": lambda: with_hook(lambda ys: 2 * ys),
    "source is a Sub with a forward of its own": lambda: lstm(Sub),
    "source is a Other with the weights of an LSTM, so": Other,
}


@pytest.mark.peers
@pytest.mark.parametrize("words", OTHERS)
def test_a_module_that_computes_something_else_is_run_or_refused(words):
    module = OTHERS[words]()
    with pytest.raises(ConvertError, match=words):
        from_torch(module)
    assert from_torch(module.state_dict())[0].hidden_size == H
    if not isinstance(module, Other):
        verdict = verify(module, XS)
        assert not verdict
        assert "differ: " in str(verdict)


@pytest.mark.peers
def test_what_stands_around_an_lstm_is_said_to_be_unchecked():
    verdict = verify(Net(), XS, lengths=[T - k for k in range(B)])
    assert verdict, str(verdict)
    (words,) = verdict.unchecked
    assert words.startswith(
        "its recurrent layers alone were compared, not norm (LayerNorm), fc (Linear), the forward of"
    )
    with pytest.raises(ConvertError, match="theirs is a list, expected one module of PyTorch"):
        verify([lstm(), lstm()], XS)
