"""PyTorch's own LSTM, as a second independent reference: values and gradients in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, P, T
from tolerances import assert_close

from lstmjax import LSTMParams, lstm

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.peers]


def gates_on_an_axis(value):
    """`[4H, N]` or `[4H]` as `[N, 4, H]` or `[4, H]`; PyTorch has our order, i, f, g, o."""
    return jnp.asarray(value.detach().numpy()).T.reshape(*value.shape[1:], 4, H)


@pytest.mark.parametrize("width", [None, P - 3])
def test_pytorch_gives_the_same_values_and_gradients(width):
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(I, H, proj_size=width or 0, batch_first=True, dtype=torch.float64)
    xs = torch.randn(B, T, I, dtype=torch.float64, requires_grad=True)
    state = [torch.randn(1, B, n, dtype=torch.float64, requires_grad=True) for n in (width or H, H)]
    weights = torch.randn(B, T, width or H, dtype=torch.float64)
    ys, (h, c) = theirs(xs, tuple(state))
    ((ys * weights).sum() + (c**2).sum()).backward()

    def params_of(field):
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_p = None if width is None else jnp.asarray(field(theirs.weight_hr_l0).detach().numpy()).T
        return LSTMParams(*(gates_on_an_axis(field(getattr(theirs, name))) for name in names), w_p)

    def loss(params, xs, state):
        (h, c), ys = lstm(params, xs, state)
        return (ys * weights.numpy()).sum() + (c**2).sum(), ((h, c), ys)

    def arrays(tensors):
        return tuple(jnp.asarray(t.detach().numpy()[0]) for t in tensors)

    arguments = params_of(lambda p: p), jnp.asarray(xs.detach().numpy()), arrays(state)
    (_, values), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*arguments)
    assert_close(values, (arrays((h, c)), ys.detach().numpy()))
    expected = params_of(lambda p: p.grad), np.asarray(xs.grad), arrays([s.grad for s in state])
    assert_close(grads, expected, gradient=True)
